//! Any packets of a reader and any answers of the daemon, in any order, against `server::Connection`.
#![no_main]

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use ring_abi::handshake::{Attach, Encoded, Hello, MESSAGE_LEN_MAX, Message, RefusalCode, Text};
use ring_abi::join::{From, Join};
use ring_abi::layout::Class;
use ring_abi::producer::{Joined, Session};
use ring_abi::server::{Connection, Received, Request};
use vms_fuzz::{Result, Unstructured, number};

/// A connection does not touch its session's memory, so one is enough.
static SESSION: LazyLock<Arc<Session>> = LazyLock::new(|| Session::create(1, 7, 4).unwrap());

fuzz_target!(|data: &[u8]| {
    let mut daemon = Daemon::default();
    // Ends with the input.
    let _ = daemon.run(&mut Unstructured::new(data));
    daemon.end();
});

/// What the daemon must do about a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Attach,
    Nothing,
    Detach,
}

#[derive(Default)]
struct Daemon {
    connection: Connection,
    /// The slots that are not free.
    slots: BTreeMap<u32, Due>,
}

impl Daemon {
    fn run(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        while !input.is_empty() {
            let goes_on = match input.int_in_range(0..=4)? {
                0..=2 => self.receive(&packet(input)?),
                3 => {
                    let slot = input.int_in_range(0..=5)?;
                    self.answer(slot, input.arbitrary()?);
                    true
                }
                _ => {
                    let bytes = input.bytes(input.len().min(64))?;
                    // Whatever decodes can be said again, and means the same.
                    if let Ok((message, id)) = Message::decode(bytes) {
                        assert_eq!(Message::decode(message.encode(id).as_bytes()), Ok((message, id)));
                    }
                    true
                }
            };
            if !goes_on {
                break;
            }
        }
        Ok(())
    }

    /// Whether the connection goes on.
    fn receive(&mut self, packet: &[u8]) -> bool {
        match self.connection.receive(packet) {
            Received::Request(Request::Hello(_)) => {
                let welcome = self.connection.welcome(Arc::clone(&SESSION), 7);
                assert!(matches!(decoded(&welcome), Message::Welcome(_)));
                true
            }
            Received::Request(Request::Attach { slot, .. }) => {
                assert!(slot < SESSION.slots(), "no such slot");
                assert_eq!(self.slots.insert(slot, Due::Attach), None, "a slot was given twice");
                true
            }
            Received::Request(Request::Detach { slot }) => {
                assert_eq!(self.slots.insert(slot, Due::Detach), Some(Due::Nothing));
                true
            }
            Received::Request(Request::Bye) => false,
            Received::Reply(answer) => {
                assert!(matches!(decoded(&answer), Message::Refused(_)));
                true
            }
            Received::Violation(answer) => {
                assert!(matches!(decoded(&answer), Message::Refused(_)));
                false
            }
        }
    }

    /// The daemon comes with an answer for a slot, be it due or not.
    fn answer(&mut self, slot: u32, attaches: bool) {
        let joined = Joined { resumed: false, first_seq: 1, last_seq: 0 };
        let due = self.slots.get(&slot).copied();
        if attaches {
            let answer = self.connection.attached(slot, 1, 2, joined);
            assert_eq!(answer.is_some(), due == Some(Due::Attach));
            if let Some(answer) = answer {
                assert!(matches!(decoded(&answer), Message::Attached(a) if a.slot == slot));
                self.slots.insert(slot, Due::Nothing);
            }
        } else if due == Some(Due::Detach) {
            let answer = self.connection.detached(slot).expect("somebody waits for it");
            assert!(matches!(decoded(&answer), Message::Detached { slot: s } if s == slot));
            self.slots.remove(&slot);
        } else {
            let answer = self.connection.refused(slot, RefusalCode::Unavailable, "no");
            assert_eq!(answer.is_some(), due == Some(Due::Attach));
            if answer.is_some() {
                self.slots.remove(&slot);
            }
            assert!(self.connection.detached(slot).is_none(), "nobody waits for that");
        }
    }

    /// The peer goes: all slots come back.
    fn end(mut self) {
        assert!(self.connection.occupied().eq(self.slots.keys().copied()));
        self.connection.abandon();
        for (slot, due) in self.slots {
            if due == Due::Attach {
                let joined = Joined { resumed: false, first_seq: 1, last_seq: 0 };
                assert!(self.connection.attached(slot, 1, 2, joined).is_none(), "nobody is there");
            }
            assert!(self.connection.detached(slot).is_some());
        }
        assert_eq!(self.connection.occupied().count(), 0, "a slot leaked");
    }
}

fn decoded(answer: &Encoded) -> Message {
    assert!(answer.as_bytes().len() <= MESSAGE_LEN_MAX);
    Message::decode(answer.as_bytes()).expect("we understand what we say").0
}

/// A packet: sound, sound with some bytes changed or cut, or anything.
fn packet(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let message = match input.int_in_range(0..=5)? {
        0 => Message::Hello(Hello::new("fuzz", input.arbitrary()?)),
        1 | 2 => {
            let from = From::After { epoch: input.arbitrary()?, seq: number(input, 0)? };
            Message::Attach(Attach { stream: Text::new("cam"), join: Join::new(Class::Archive, from) })
        }
        3 => Message::Detach { slot: input.int_in_range(0..=5)? },
        4 => Message::Bye { reason: 0 },
        _ => {
            let len = input.int_in_range(0..=400)?.min(input.len());
            return input.bytes(len).map(<[u8]>::to_vec);
        }
    };
    let mut packet = message.encode(input.arbitrary()?).as_bytes().to_vec();
    for _ in 0..input.int_in_range(0..=3u32)?.saturating_sub(1) {
        let at = input.choose_index(packet.len())?;
        packet[at] = input.arbitrary()?;
    }
    if input.ratio(1, 8)? {
        packet.truncate(input.choose_index(packet.len())?);
    }
    Ok(packet)
}
