//! Promise: what the API says of a stream is so: each state it goes through is an event, failures are counted by their reasons,
//! resynchronisations and what each reader missed are told.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::path::Path;

use ring_abi::consumer::{Event, Options, Reader};
use ring_abi::join::{From, Join};
use ring_abi::layout::Class;
use serde_json::Value;
use support::{Lab, SOON, Tap, now};

#[test]
fn a_state_that_did_not_last_is_an_event_and_failures_are_counted_by_their_reasons() {
    let lab = Lab::new("truth-states");
    let _daemon = lab.daemon(&[]);
    let mut watch = lab.watch();
    // One picture, and the connection is closed: the stream is in state STREAMING for no time at all.
    let cameras = lab.cameras(&["--fault", "close-after=1"]);
    lab.setup("brief", &cameras.url("h264"));
    let mut before = Value::from("pending");
    for state in ["connecting", "streaming", "backoff", "connecting", "streaming", "backoff"] {
        // Another event of the same state tells what else has changed, such as the format of the video.
        let told = watch.next_event("brief", state, |stream| stream["state"] != before);
        assert_eq!(told["state"], state, "{told:#}");
        before = told["state"].clone();
    }
    let stream = until(&lab, "brief", "two failures", |stream| stream["stats"]["failures"] == 2);
    assert_eq!(
        stream["stats"]["failures_by_reason"],
        serde_json::json!({"connection_closed": 2}),
        "{stream:#}"
    );
    assert_eq!((&stream["reconnects"], &stream["stats"]["units"]), (&1.into(), &2.into()));

    let nobody = "rtsp://127.0.0.1:1/x";
    lab.setup("nobody", nobody);
    let stream = until(&lab, "nobody", "a failure", |stream| stream["stats"]["failures"].as_u64() >= Some(1));
    let failures = &stream["stats"]["failures"];
    assert_eq!(&stream["stats"]["failures_by_reason"]["connect_refused"], failures, "{stream:#}");

    let all = lab.ctl_json(&["stats"]);
    let names: Vec<_> =
        all["streams"].as_array().unwrap().iter().map(|stream| &stream["stream_id"]).collect();
    assert_eq!(names, ["brief", "nobody"]);
    let text = String::from_utf8(lab.ctl(&["stats", "brief"]).stdout).unwrap();
    assert!(text.contains("connection_closed ") && text.contains("Last frame:"), "{text}");
}

#[test]
fn garbage_between_packets_is_counted_and_the_session_kept() {
    let lab = Lab::new("truth-garbage");
    let _daemon = lab.daemon(&[]);
    let cameras = lab.cameras(&["--fault", "garbage"]);
    lab.setup("garbage", &cameras.url("h264"));
    let stream = until(&lab, "garbage", "resyncs", |stream| stream["stats"]["resyncs"].as_u64() >= Some(4));
    let stats = &stream["stats"];
    assert!(stats["skipped_bytes"].as_u64() >= stats["resyncs"].as_u64(), "{stream:#}");
    assert_eq!((&stream["reconnects"], &stats["failures"]), (&0.into(), &0.into()), "{stream:#}");
    let camera = cameras.stop();
    assert_eq!(camera["connects"], 1, "{camera}");
}

#[test]
fn what_a_slow_reader_missed_is_told_and_a_quick_one_missed_nothing() {
    let lab = Lab::new("truth-readers");
    let _daemon = lab.daemon(&[]);
    let cameras = lab.cameras(&["--bitrate", "32M"]);
    lab.setup("cam", &cameras.url("h264"));
    let join = Join { ring_slots: 8, ..Join::new(Class::Archive, From::Live) };
    let mut slow = Reader::connect(Path::new(&lab.ring_socket()), &Options::default()).unwrap();
    slow.attach("cam", &join).unwrap();
    // Where a reader begins is no gap.
    assert!(matches!(slow.next(Some(SOON)), Event::Unit(_)));
    let mut quick: Tap = lab.tap(&["--json", "--from", "live", "cam"]).into();
    quick.take_records(20, SOON);
    let behind = until(&lab, "cam", "a reader that is behind", |stream| {
        readers(stream).any(|one| one["behind"] == true)
    });
    let slow_one = readers(&behind).find(|one| one["behind"] == true).unwrap();
    assert!((7..=8).contains(&slow_one["unread_units"].as_u64().unwrap()), "its ring is full: {behind:#}");
    assert_eq!(readers(&behind).count(), 2, "{behind:#}");

    // 8 MiB hold two seconds of it: who stands still for longer has lost something.
    quick.take_records(130, SOON);
    let mut first_lost = 0;
    for _ in 0..200 {
        let Event::Unit(unit) = slow.next(Some(SOON)) else { panic!("no unit within {SOON:?}") };
        first_lost = unit.lost;
        if first_lost > 0 {
            break;
        }
    }
    assert!(first_lost > 0, "the reader itself saw a gap");
    let stream =
        until(&lab, "cam", "a gap", |stream| readers(stream).any(|one| one["gaps"].as_u64() >= Some(1)));
    let (lost, fine): (Vec<_>, Vec<_>) =
        readers(&stream).partition(|one| one["lost_units"].as_u64() >= Some(1));
    assert_eq!((lost.len(), fine.len()), (1, 1), "{stream:#}");
    assert_eq!((&fine[0]["gaps"], &fine[0]["evicted"]), (&0.into(), &false.into()), "{stream:#}");
    assert!(fine[0]["units"].as_u64() >= Some(150), "{stream:#}");
    assert_eq!(stream["stats"]["reader_lost_units"], lost[0]["lost_units"], "{stream:#}");
    assert!(lost[0]["lost_units"].as_u64() >= Some(first_lost), "the reader counts {first_lost}: {stream:#}");
    let text = String::from_utf8(lab.ctl(&["stats", "cam"]).stdout).unwrap();
    assert!(text.contains("missed in 1 gaps") && text.contains("missed in 0 gaps"), "{text}");
}

fn readers(stream: &Value) -> impl Iterator<Item = &Value> {
    stream["readers"].as_array().unwrap().iter()
}

/// Asks again until it is so. Each question is a process, so this does not spin.
fn until(lab: &Lab, id: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let end = now() + SOON;
    loop {
        let stream = lab.ctl_json(&["get", id]);
        if is_so(&stream) {
            return stream;
        }
        assert!(now() < end, "no {what} within {SOON:?}: {stream:#}");
    }
}
