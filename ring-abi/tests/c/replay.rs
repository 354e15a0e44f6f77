//! `c/replay.c`: scripts of segments and messages, and what it says of them.

use std::fmt::Write;
use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

use ring_abi::handshake::{Attach, Attached, Hello, Message, RefusalCode, Refused, Text};
use ring_abi::join::{From, Join};
use ring_abi::layout::{Class, Codec, Flags, StreamState};
use ring_abi::producer::{Configuration, Producer, ReaderRing, Session, TrackSpec};

use crate::hostile::bytes_of;
use crate::programs::{Running, sanitized};
use crate::support::commit_as;

#[test]
fn a_dump_of_a_stream_gives_its_units_configurations_and_counts() {
    let mut producer = Producer::create(1, 7, &[TrackSpec::video(64 * 1024)]).unwrap();
    let session = Session::create(1, 7, 1).unwrap();
    let configuration = Configuration {
        codec: Codec::H264,
        data: b"123456789",
        profile: 100,
        level: 31,
        width: 640,
        height: 360,
        frame_rate: (30000, 1001),
    };
    let config_id = producer.configure(0, &configuration).unwrap();
    commit_as(&mut producer, 9, Flags::KEY, config_id);
    commit_as(&mut producer, 10, Flags(0), config_id);
    let join = Join::new(Class::Archive, From::Oldest);
    let (reader, ring) = ReaderRing::create(1, 7, &join, &session, 0).unwrap();
    producer.attach(reader, 0);
    producer.set_state(StreamState::Live, 0);
    let mut script =
        dump("stream", &bytes_of(producer.fd().as_fd())) + &dump("ring", &bytes_of(ring.as_fd()));
    script.push_str("# Twice.\ntake\ntake\n");
    producer.close(0, 0);
    script.push_str(&changes("stream", &bytes_of(producer.fd().as_fd()), 128..168));
    script.push_str(&changes("ring", &bytes_of(ring.as_fd()), 192..256));
    script.push_str("take\ntake\n");

    let lines = replay("dump", &script);
    let counts = |state| {
        format!(
            "{{\"event\":\"counts\",\"first_seq\":1,\"last_seq\":2,\"accepted\":2,\"rejected\":0,\"skipped\":0,\"lost\":0,\
             \"filtered\":0,\"state\":\"{state}\",\"timeline\":0,\"stream_last_seq\":2}}"
        )
    };
    assert_eq!(
        lines[0],
        "{\"event\":\"configuration\",\"track\":0,\"id\":1,\"codec\":1,\"profile\":100,\"level\":31,\"width\":640,\"height\":360,\
         \"fps_num\":30000,\"fps_den\":1001,\"len\":9,\"crc32\":3421780262}",
        "the check value of CRC-32 (ISO-HDLC)"
    );
    assert!(lines[1].starts_with(
        "{\"event\":\"unit\",\"seq\":1,\"pos\":128,\"len\":9,\"flags\":289,\"record_type\":1,\"track\":0,"
    ));
    assert!(
        lines[1].contains(",\"media_ticks\":-3600,\"pts_ns\":-40000000,")
            && lines[1].contains(",\"nal_ends\":[4,9],")
    );
    assert!(lines[2].starts_with("{\"event\":\"unit\",\"seq\":2,"));
    assert_eq!(lines[3..5], [counts("live"), counts("live")]);
    let ended = "{\"event\":\"ended\",\"rstate\":\"closed\",\"reason\":\"stream_closed\"}";
    assert_eq!(lines[5..], [ended.to_owned(), counts("closed"), counts("closed")]);
}

#[test]
fn what_is_refused_is_named() {
    let head = |kind: u8, size: &str| format!("at stream 0 564d5352494e470001000000{kind:02x}000000{size}\n");
    let cases = [
        (String::new(), "magic"),
        ("at stream 0 564d5352494e470002\n".to_owned(), "major"),
        (head(1, "0010") + "at stream 20 02\n", "features"),
        (head(3, "0010"), "kind"),
        (head(1, "0110"), "size"),
        (head(1, "0010") + "at stream 40 05\n", "table"),
    ];
    for (lines, why) in cases {
        let script = format!("size stream 4096\nsize ring 0\n{lines}take\ntake\n");
        let expected = format!("{{\"event\":\"refused\",\"segment\":\"stream\",\"why\":\"{why}\"}}");
        assert_eq!(replay(why, &script), [expected]);
    }
    let seals = "{\"event\":\"refused\",\"segment\":\"stream\",\"why\":\"seals\"}";
    assert_eq!(replay("seals", "unsealed stream 4096\nsize ring 0\ntake\n"), [seals]);
    // A stream without tracks is a stream.
    let script = format!("size stream 4096\nsize ring 0\n{}at stream 44 00010000\ntake\n", head(1, "0010"));
    let magic = "{\"event\":\"refused\",\"segment\":\"ring\",\"why\":\"magic\"}";
    assert_eq!(replay("ring", &script), [magic]);
}

#[test]
fn messages_are_shown_as_they_count() {
    let join = Join::new(Class::Live, From::After { epoch: u64::MAX, seq: 5 });
    let attached = Attached { slot: 1, resumed: true, stream_uid: 2, epoch: 3, first_seq: 4, last_seq: 5 };
    let text = "\"a\\b\"\n\u{1}é\u{7f}";
    let messages = [
        (
            Message::Hello(Hello::new("tap", 4)),
            "\"type\":\"hello\",\"request\":9,\"major\":1,\"minor_min\":0,\"minor_max\":0,\"features\":0,\"slots\":4,\
             \"bell_interval_us\":0,\"name\":\"tap\",\"token\":\"\"",
        ),
        (
            Message::Attach(Attach { stream: Text::new("cam"), join }),
            "\"type\":\"attach\",\"request\":9,\"from_kind\":5,\"from_epoch\":18446744073709551615,\"from_arg\":5,\
             \"reader_class\":1,\"filters\":2,\"tracks\":18446744073709551615,\"lag_max_ns\":3000000000,\"ring_slots\":128,\
             \"id\":\"cam\"",
        ),
        (
            Message::Attached(attached),
            "\"type\":\"attached\",\"request\":9,\"slot\":1,\"flags\":1,\"stream_uid\":2,\"epoch\":3,\"first_seq\":4,\
             \"last_seq\":5",
        ),
        (
            Message::Refused(Refused { code: RefusalCode::Limit, text: Text::new(text) }),
            "\"type\":\"refused\",\"request\":9,\"code\":3,\"text\":\"\\\"a\\\\b\\\"\\n\\u0001é\u{7f}\"",
        ),
        (Message::Bye { reason: 0 }, "\"type\":\"bye\",\"request\":9,\"reason\":0"),
    ];
    let mut script = String::new();
    let mut expected = Vec::new();
    for (message, says) in &messages {
        writeln!(script, "message {}", hex(message.encode(9).as_bytes())).unwrap();
        expected.push(format!("{{\"event\":\"message\",{says}}}"));
    }
    for (bytes, why) in [
        ("", "short"),
        ("630000001000000000000000 00000000", "unknown"),
        ("630000001100000000000000 00000000", "short"),
    ] {
        writeln!(script, "message {}", bytes.replace(' ', "")).unwrap();
        expected.push(format!("{{\"event\":\"bad_message\",\"why\":\"{why}\"}}"));
    }
    assert_eq!(replay("messages", &script), expected);
}

/// UTF-8 by the C header against Rust's.
#[test]
fn texts_are_utf8_or_refused() {
    let texts: [&[u8]; 22] = [
        b"\x7f",
        b"\x80",
        b"\xbf",
        b"\xc0\x80",
        b"\xc1\xbf",
        b"\xc2\x80",
        b"\xdf\xbf",
        b"\xdf",
        b"\xe0\x9f\xbf",
        b"\xe0\xa0\x80",
        b"\xed\x9f\xbf",
        b"\xed\xa0\x80",
        b"\xee\x80\x80",
        b"\xef\xbf\xbf",
        b"\xf0\x8f\xbf\xbf",
        b"\xf0\x90\x80\x80",
        b"\xf4\x8f\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
        b"\xff",
        b"a\xe2\x82",
        b"\xe2\x82\xac!",
    ];
    let mut script = String::new();
    for text in texts {
        let mut bytes = Message::Hello(Hello::new("", 1)).encode(9).as_bytes().to_vec();
        bytes[40] = u8::try_from(text.len()).unwrap();
        bytes[48..48 + text.len()].copy_from_slice(text);
        writeln!(script, "message {}", hex(&bytes)).unwrap();
    }
    let lines = replay("utf8", &script);
    assert_eq!(lines.len(), texts.len());
    for (line, text) in lines.iter().zip(texts) {
        assert_eq!(
            line.contains("\"type\":\"hello\""),
            std::str::from_utf8(text).is_ok(),
            "{text:x?}: {line}"
        );
    }
}

/// Lines of a script that make a segment of these bytes.
fn dump(segment: &str, bytes: &[u8]) -> String {
    format!("size {segment} {}\n", bytes.len()) + &changes(segment, bytes, 0..bytes.len())
}

/// Lines of a script that put these bytes there; whole pieces of 0 are left out.
fn changes(segment: &str, bytes: &[u8], range: std::ops::Range<usize>) -> String {
    let mut script = String::new();
    for at in range.clone().step_by(64) {
        let part = &bytes[at..range.end.min(at + 64)];
        if range.start > 0 || part.iter().any(|byte| *byte != 0) {
            writeln!(script, "at {segment} {at:x} {}", hex(part)).unwrap();
        }
    }
    script
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02X}"))
}

fn replay(name: &str, script: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}.txt", std::process::id()));
    fs::write(&path, script).unwrap();
    let (status, lines, said) = Running::start(Command::new(sanitized("c/replay.c")).arg(&path)).finish();
    assert!(status.success() && said.is_empty(), "{name}: {status}: {said}");
    fs::remove_file(path).unwrap();
    lines
}
