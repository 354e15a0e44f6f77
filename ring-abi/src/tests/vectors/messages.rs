//! The messages of the attach socket, sound and not.

use super::events::Event;
use super::replay::replay;
use super::script::Script;
use super::world::Vector;
use crate::handshake::{
    Attach, Attached, Ended, Hello, MESSAGE_LEN_MAX, Message, RefusalCode, Refused, Text, Welcome,
};
use crate::join::{Damaged, Filters, From, Join};
use crate::layout::Class;

pub(super) fn all() -> Vec<Vector> {
    vec![maximal(), minimal(), texts(), appended(), joins(), short(), unknown(), field()]
}

/// A vector of packets and what each must be.
struct Packets {
    script: Script,
    expected: Vec<Event>,
}

impl Packets {
    fn new() -> Self {
        Self { script: Script::default(), expected: Vec::new() }
    }

    fn sound(&mut self, message: Message, request: u32, packet: &[u8]) {
        self.put(packet, Event::Message { message, request });
    }

    fn bad(&mut self, comment: &str, why: &'static str, packet: &[u8]) {
        self.script.comment(comment);
        self.put(packet, Event::BadMessage { why });
    }

    fn put(&mut self, packet: &[u8], event: Event) {
        assert!(packet.len() <= MESSAGE_LEN_MAX);
        let hex: String = packet.iter().map(|byte| format!("{byte:02x}")).collect();
        self.script.line(&format!("message {hex}"));
        self.expected.push(event);
    }

    fn finish(self, name: &str, about: &str) -> Vector {
        let script = self.script.text(about);
        let events: Vec<Event> = replay(&script).concat();
        assert_eq!(events, self.expected, "{name}");
        let jsonl = events.iter().map(Event::to_json).collect();
        Vector { name: name.into(), about: about.into(), script, jsonl }
    }
}

fn packet(message: &Message, request: u32) -> Vec<u8> {
    message.encode(request).as_bytes().to_vec()
}

fn all_max() -> Vec<Message> {
    let max = u64::MAX;
    let from = From::After { epoch: max, seq: max };
    let filters =
        Filters { keyframes_only: true, damaged: Damaged::SkipToKeyframe, tracks: max, everything: true };
    let join = Join { from, class: Class::Archive, filters, ring_slots: u32::MAX, lag_max_ns: max };
    let ended = Ended { slot: u32::MAX, reason: u32::MAX, last_seq: max };
    vec![
        Message::Hello(Hello {
            major: u16::MAX,
            minor_min: u16::MAX,
            minor_max: u16::MAX,
            features: max,
            slots: u32::MAX,
            bell_interval_us: u32::MAX,
            name: Text::new(&"n".repeat(32)),
            token: Text::new(&"t".repeat(256)),
        }),
        Message::Welcome(Welcome {
            major: u16::MAX,
            minor: u16::MAX,
            slots: u32::MAX,
            features: max,
            daemon_epoch: max,
            bell_interval_us: u32::MAX,
        }),
        Message::Attach(Attach { stream: Text::new(&"i".repeat(64)), join }),
        Message::Attached(Attached {
            slot: u32::MAX,
            resumed: true,
            stream_uid: max,
            epoch: max,
            first_seq: max,
            last_seq: max,
        }),
        Message::Refused(Refused { code: RefusalCode::Unavailable, text: Text::new(&"r".repeat(232)) }),
        Message::Detach { slot: u32::MAX },
        Message::Detached { slot: u32::MAX },
        Message::Evicted(ended),
        Message::Closed(ended),
        Message::Bye { reason: u32::MAX },
    ]
}

fn all_min() -> Vec<Message> {
    let filters = Filters { keyframes_only: false, damaged: Damaged::Pass, tracks: 0, everything: false };
    let join = Join { from: From::Live, class: Class::Live, filters, ring_slots: 0, lag_max_ns: 0 };
    let ended = Ended { slot: 0, reason: 0, last_seq: 0 };
    vec![
        Message::Hello(Hello {
            major: 0,
            minor_min: 0,
            minor_max: 0,
            features: 0,
            slots: 0,
            bell_interval_us: 0,
            name: Text::new(""),
            token: Text::new(""),
        }),
        Message::Welcome(Welcome {
            major: 0,
            minor: 0,
            slots: 0,
            features: 0,
            daemon_epoch: 0,
            bell_interval_us: 0,
        }),
        Message::Attach(Attach { stream: Text::new("i"), join }),
        Message::Attached(Attached {
            slot: 0,
            resumed: false,
            stream_uid: 0,
            epoch: 0,
            first_seq: 0,
            last_seq: 0,
        }),
        Message::Refused(Refused { code: RefusalCode::UnknownStream, text: Text::new("") }),
        Message::Detach { slot: 0 },
        Message::Detached { slot: 0 },
        Message::Evicted(ended),
        Message::Closed(ended),
        Message::Bye { reason: 0 },
    ]
}

fn maximal() -> Vector {
    let mut p = Packets::new();
    for message in all_max() {
        p.sound(message, u32::MAX, &packet(&message, u32::MAX));
    }
    p.finish("messages_maximal", "Each message with all numbers and texts as large as they can be.")
}

fn minimal() -> Vector {
    let mut p = Packets::new();
    for message in all_min() {
        p.sound(message, 0, &packet(&message, 0));
    }
    p.finish("messages_minimal", "Each message with numbers of 0 and the shortest texts.")
}

fn texts() -> Vector {
    let mut p = Packets::new();
    for (request, text) in (1..).zip([
        "Tür 7 – 門 🚪",
        "quote \" backslash \\ slash / tab \t newline \n return \r",
        "\0 in it, \u{1} \u{8} \u{c} \u{1f} \u{7f} \u{80}",
    ]) {
        let message = Message::Refused(Refused { code: RefusalCode::Forbidden, text: Text::new(text) });
        p.sound(message, request, &packet(&message, request));
    }
    p.script.comment("32 bytes of two-byte characters; bytes behind the text are not of it");
    let hello = Message::Hello(Hello { name: Text::new(&"é".repeat(16)), ..Hello::new("", 1) });
    let mut bytes = packet(&hello, 9);
    bytes[80..336].fill(0xff);
    p.sound(hello, 9, &bytes);
    p.finish(
        "messages_texts",
        "Texts that are not ASCII, that JSON escapes, that hold a 0; junk behind an empty text.",
    )
}

fn appended() -> Vector {
    let mut p = Packets::new();
    p.script.comment("a newer minor version appended 8 bytes, and put something into reserved places");
    for message in all_max() {
        let mut bytes = packet(&message, 5);
        bytes.extend([0xee; 8]);
        let len = u32::try_from(bytes.len()).unwrap();
        bytes[4..8].copy_from_slice(&len.to_le_bytes());
        bytes[12..16].fill(0xee);
        p.sound(message, 5, &bytes);
    }
    p.script.comment("bytes behind the message, of which its length says nothing");
    let bye = Message::Bye { reason: 0 };
    p.sound(bye, 6, &[packet(&bye, 6), vec![0xee; 5]].concat());
    p.script.comment("as many bytes as a message may have");
    let mut bytes = packet(&bye, 7);
    bytes.resize(MESSAGE_LEN_MAX, 0);
    bytes[4..8].copy_from_slice(&4096u32.to_le_bytes());
    p.sound(bye, 7, &bytes);
    p.finish("messages_appended", "Each message longer than this version knows it.")
}

fn joins() -> Vector {
    let mut p = Packets::new();
    let from = [
        From::Live,
        From::Keyframe,
        From::Oldest,
        From::Preroll { ns: 5_000_000_000 },
        From::After { epoch: 7, seq: 9 },
    ];
    for (request, from) in (1..).zip(from) {
        let mut join = Join::new(Class::Archive, from);
        join.filters.keyframes_only = request == 2;
        join.filters.everything = request == 3;
        let message = Message::Attach(Attach { stream: Text::new("door"), join });
        p.sound(message, request, &packet(&message, request));
    }
    let codes = [
        RefusalCode::UnknownStream,
        RefusalCode::Forbidden,
        RefusalCode::Limit,
        RefusalCode::Version,
        RefusalCode::BadRequest,
        RefusalCode::Unavailable,
    ];
    for (request, code) in (1..).zip(codes) {
        let message = Message::Refused(Refused { code, text: Text::new("no") });
        p.sound(message, request, &packet(&message, request));
    }
    p.finish("messages_numbers", "Each way to enter a stream and each code of a refusal.")
}

fn short() -> Vector {
    let mut p = Packets::new();
    p.bad("no byte of a head but one", "short", &[1]);
    for message in all_max() {
        let bytes = packet(&message, 1);
        let kind = message.kind();
        for cut in [4, 15, 16, 17, bytes.len() - 8, bytes.len() - 1] {
            p.bad(&format!("type {kind} cut to {cut} bytes"), "short", &bytes[..cut]);
        }
        let mut honest = bytes[..bytes.len() - 4].to_vec();
        let len = u32::try_from(honest.len()).unwrap();
        honest[4..8].copy_from_slice(&len.to_le_bytes());
        p.bad(&format!("type {kind} cut to {len} bytes, and says so"), "short", &honest);
    }
    let bye = packet(&Message::Bye { reason: 0 }, 1);
    for len in [0u32, 15, 16, 23, 25, 4096, u32::MAX] {
        let mut lying = bye.clone();
        lying[4..8].copy_from_slice(&len.to_le_bytes());
        p.bad(&format!("a BYE of 24 bytes that says {len}"), "short", &lying);
    }
    p.finish("messages_short", "Cut at each interesting length; lengths that lie.")
}

fn unknown() -> Vector {
    let mut p = Packets::new();
    for kind in [0u32, 11, 99, u32::MAX] {
        let mut bytes = packet(&Message::Bye { reason: 0 }, 1);
        bytes[..4].copy_from_slice(&kind.to_le_bytes());
        p.bad(&format!("type {kind}"), "unknown", &bytes);
        bytes.truncate(16);
        bytes[4] = 16;
        p.bad("its head alone", "unknown", &bytes);
        bytes[4] = 17;
        p.bad("cut short", "short", &bytes);
        bytes[4] = 15;
        p.bad("a length below that of a head", "short", &bytes);
    }
    p.finish("messages_unknown", "Types that this version does not know.")
}

fn field() -> Vector {
    let mut p = Packets::new();
    let hello = packet(&Message::Hello(Hello::new("x", 1)), 1);
    let join = Join::new(Class::Live, From::Live);
    let attach = packet(&Message::Attach(Attach { stream: Text::new("door"), join }), 2);
    let refused = Refused { code: RefusalCode::Limit, text: Text::new("full") };
    let refused = packet(&Message::Refused(refused), 3);
    let changed = |packet: &[u8], at: usize, bytes: &[u8]| {
        let mut packet = packet.to_vec();
        packet[at..at + bytes.len()].copy_from_slice(bytes);
        packet
    };
    p.bad("a name of 33 bytes", "field", &changed(&hello, 40, &[33]));
    p.bad("a name of 2³² − 1 bytes", "field", &changed(&hello, 40, &[0xff; 4]));
    p.bad("a token of 257 bytes", "field", &changed(&hello, 44, &[1, 1]));
    p.bad("a stream id of 65 bytes", "field", &changed(&attach, 16, &[65]));
    p.bad("a refusal's text of 233 bytes", "field", &changed(&refused, 20, &[233]));
    p.bad("a name that is not UTF-8", "field", &changed(&hello, 48, &[0xff]));
    p.bad("a token that is not UTF-8: cut within a character", "field", &{
        let packet = changed(&hello, 44, &[2]);
        changed(&packet, 80, "門".as_bytes())
    });
    p.bad("a stream id that is not UTF-8: a surrogate", "field", &changed(&attach, 72, &[0xed, 0xa0, 0x80]));
    p.bad(
        "a refusal's text that is not UTF-8: an overlong 0",
        "field",
        &changed(&refused, 24, &[0xc0, 0x80]),
    );
    p.bad(
        "a refusal's text that is not UTF-8: above U+10FFFF",
        "field",
        &changed(&refused, 24, &[0xf4, 0x90, 0x80, 0x80]),
    );
    p.bad("from_kind 0", "field", &changed(&attach, 20, &[0]));
    p.bad("from_kind 6", "field", &changed(&attach, 20, &[6]));
    p.bad("from_kind 2³² − 1", "field", &changed(&attach, 20, &[0xff; 4]));
    p.finish("messages_field", "Texts too long or not UTF-8, an unknown from_kind.")
}
