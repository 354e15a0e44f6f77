//! The producer's side of one attach socket, without the socket: packets in, requests out; answers in, packets out.
//!
//! ```text
//! slot:  Free ─ATTACH─▶ Attaching ─attached─▶ Attached ─DETACH─▶ Detaching ─detached─▶ Free
//!                           └──────refused──────────────────────────────────────────────┘
//! ```
//! Who runs it makes the session's segments and the rings, routes requests to the threads that produce, and sends what this gives
//! back. A slot is free again only after the producing thread let go of it, so no two rings ever share a slot.

use std::sync::Arc;

use crate::handshake::{
    Attach, Attached, DecodeError, Encoded, Ended, Hello, Message, RefusalCode, Refused, Text, Welcome,
    request_of,
};
use crate::layout::{ABI_MAJOR, ABI_MINOR, SESSION_SLOTS_MAX};
use crate::producer::{Joined, Session};

/// What a reader asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// A session: answer with [`Connection::welcome`] or [`Connection::refuse_session`].
    Hello(Hello),
    /// A stream, for this free slot: answer with [`Connection::attached`] or [`Connection::refused`].
    Attach {
        /// The slot that was taken for it.
        slot: u32,
        /// What it wants.
        attach: Attach,
    },
    /// A slot to be given up: answer with [`Connection::detached`].
    Detach {
        /// The slot.
        slot: u32,
    },
    /// The session is over.
    Bye,
}

/// What a packet came to.
#[derive(Clone, Copy, Debug)]
pub enum Received {
    /// A request for who runs this.
    Request(Request),
    /// Send this; nothing else is to be done.
    Reply(Encoded),
    /// The peer broke the rules: send this and close.
    Violation(Encoded),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Free,
    Attaching { request: u32 },
    Attached,
    Detaching { request: u32 },
}

/// The state of one connection.
#[derive(Debug)]
pub struct Connection {
    session: Option<Arc<Session>>,
    slots: Vec<Slot>,
    hello_request: Option<u32>,
    /// The peer has gone: what is answered now is detached at once.
    abandoned: bool,
}

impl Default for Connection {
    fn default() -> Self {
        Self::new()
    }
}

impl Connection {
    /// A connection that has not said HELLO.
    pub const fn new() -> Self {
        Self { session: None, slots: Vec::new(), hello_request: None, abandoned: false }
    }

    /// The session, once it is open.
    pub fn session(&self) -> Option<&Arc<Session>> {
        self.session.as_ref()
    }

    /// Slots that a ring may still use: to be detached when the connection ends.
    pub fn occupied(&self) -> impl Iterator<Item = u32> {
        (0u32..).zip(&self.slots).filter(|(_, slot)| **slot != Slot::Free).map(|(n, _)| n)
    }

    /// Takes one packet from the peer.
    pub fn receive(&mut self, packet: &[u8]) -> Received {
        let (message, request) = match Message::decode(packet) {
            Ok(decoded) => decoded,
            Err(DecodeError::Unknown(_)) => {
                let request = request_of(packet);
                return Received::Reply(refusal(request, RefusalCode::BadRequest, "unknown message type"));
            }
            Err(_) => return violation(request_of(packet), "the message was not understood"),
        };
        match message {
            Message::Hello(hello) => self.receive_hello(hello, request),
            Message::Attach(attach) => self.receive_attach(attach, request),
            Message::Detach { slot } => self.receive_detach(slot, request),
            Message::Bye { .. } => Received::Request(Request::Bye),
            Message::Welcome(_)
            | Message::Attached(_)
            | Message::Refused(_)
            | Message::Detached { .. }
            | Message::Evicted(_)
            | Message::Closed(_) => violation(request, "a producer's message came from a reader"),
        }
    }

    fn receive_hello(&mut self, hello: Hello, request: u32) -> Received {
        if self.session.is_some() || self.hello_request.is_some() {
            return violation(request, "HELLO came twice");
        }
        if hello.major != ABI_MAJOR || hello.minor_min > ABI_MINOR {
            return Received::Violation(refusal(
                request,
                RefusalCode::Version,
                "this producer speaks ABI 1.0",
            ));
        }
        self.hello_request = Some(request);
        Received::Request(Request::Hello(hello))
    }

    fn receive_attach(&mut self, attach: Attach, request: u32) -> Received {
        if self.session.is_none() {
            return violation(request, "ATTACH came before HELLO");
        }
        let free = (0u32..).zip(&mut self.slots).find(|(_, slot)| **slot == Slot::Free);
        let Some((slot, state)) = free else {
            return Received::Reply(refusal(
                request,
                RefusalCode::Limit,
                "all slots of the session are in use",
            ));
        };
        *state = Slot::Attaching { request };
        Received::Request(Request::Attach { slot, attach })
    }

    fn receive_detach(&mut self, slot: u32, request: u32) -> Received {
        match self.slot_mut(slot) {
            Some(state @ Slot::Attached) => {
                *state = Slot::Detaching { request };
                Received::Request(Request::Detach { slot })
            }
            _ => Received::Reply(refusal(request, RefusalCode::BadRequest, "the slot is not attached")),
        }
    }

    /// Opens the session; the packet goes out with [`Session::fds`] and [`Session::notify_fd`].
    pub fn welcome(&mut self, session: Arc<Session>, daemon_epoch: u64) -> Encoded {
        let slots = session.slots().min(SESSION_SLOTS_MAX);
        let request = self.hello_request.unwrap_or(0);
        self.slots = vec![Slot::Free; usize::try_from(slots).unwrap_or(0)];
        let features = session.features();
        let bell_interval_us = u32::try_from(session.bell_interval().as_micros()).unwrap_or(u32::MAX);
        self.session = Some(session);
        let (major, minor) = (ABI_MAJOR, ABI_MINOR);
        let welcome = Welcome { major, minor, slots, features, daemon_epoch, bell_interval_us };
        Message::Welcome(welcome).encode(request)
    }

    /// Refuses the session; the connection is to be closed after.
    pub fn refuse_session(&self, code: RefusalCode, text: &str) -> Encoded {
        refusal(self.hello_request.unwrap_or(0), code, text)
    }

    /// The peer has gone. Every slot that is occupied is to be detached: attached ones now, others when
    /// [`Connection::attached`] gives `None`.
    pub fn abandon(&mut self) {
        self.abandoned = true;
        for slot in self.slots.iter_mut().filter(|slot| **slot == Slot::Attached) {
            *slot = Slot::Detaching { request: 0 };
        }
    }

    /// A ring was made for `slot` and joined its stream. The packet goes out with the stream's and the ring's descriptor. `None`
    /// when nobody waits for it: detach it again.
    pub fn attached(&mut self, slot: u32, stream_uid: u64, epoch: u64, joined: Joined) -> Option<Encoded> {
        let abandoned = self.abandoned;
        let state = self.slot_mut(slot)?;
        let Slot::Attaching { request } = *state else { return None };
        if abandoned {
            *state = Slot::Detaching { request: 0 };
            return None;
        }
        *state = Slot::Attached;
        let Joined { resumed, first_seq, last_seq } = joined;
        let attached = Attached { slot, resumed, stream_uid, epoch, first_seq, last_seq };
        Some(Message::Attached(attached).encode(request))
    }

    /// The stream for `slot` was not attached; the slot is free again. `None` when nobody waits for it.
    pub fn refused(&mut self, slot: u32, code: RefusalCode, text: &str) -> Option<Encoded> {
        let state = self.slot_mut(slot)?;
        let Slot::Attaching { request } = *state else { return None };
        *state = Slot::Free;
        Some(refusal(request, code, text))
    }

    /// The producing thread let go of `slot`; it is free again. `None` when nobody waits for it.
    pub fn detached(&mut self, slot: u32) -> Option<Encoded> {
        let state = self.slot_mut(slot)?;
        let Slot::Detaching { request } = *state else { return None };
        *state = Slot::Free;
        Some(Message::Detached { slot }.encode(request))
    }

    /// The packet that says that the ring of `slot` was evicted.
    pub fn evicted(slot: u32, reason: u32, last_seq: u64) -> Encoded {
        Message::Evicted(Ended { slot, reason, last_seq }).encode(0)
    }

    /// The packet that says that the ring of `slot` was closed.
    pub fn closed(slot: u32, reason: u32, last_seq: u64) -> Encoded {
        Message::Closed(Ended { slot, reason, last_seq }).encode(0)
    }

    fn slot_mut(&mut self, slot: u32) -> Option<&mut Slot> {
        self.slots.get_mut(usize::try_from(slot).ok()?)
    }
}

fn violation(request: u32, text: &str) -> Received {
    Received::Violation(refusal(request, RefusalCode::BadRequest, text))
}

/// A refusal as a packet.
fn refusal(request: u32, code: RefusalCode, text: &str) -> Encoded {
    Message::Refused(Refused { code, text: Text::new(text) }).encode(request)
}
