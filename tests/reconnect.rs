//! Promise: a stream whose camera fails comes back by itself, and readers see one gapless stream across it; a camera
//! that only misbehaves is not dropped for it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::net::TcpListener;
use std::time::Duration;

use ring_abi::layout::Flags;
use serde_json::Value;
use support::{Cameras, Lab, SOON, Tap, assert_flawless, assert_intact};

/// Units of the simulator's clips in a second.
const FPS: usize = 25;
/// RTP clock ticks of a unit.
const UNIT_TICKS: i64 = 90_000 / 25;

#[test]
fn a_camera_that_hangs_up_is_one_gapless_stream_to_its_reader() {
    let lab = Lab::new("close-after");
    let _daemon = lab.daemon(&[]);
    let mut watch = lab.watch();
    let cameras = lab.cameras(&["--fault", "close-after=40"]);
    lab.setup("cam", &cameras.url("h264"));
    watch.next_state("cam", "streaming");
    let mut tap: Tap = lab.tap(&["cam", "--json", "--from", "oldest"]).into();

    for _ in 0..2 {
        let stream = watch.next_state("cam", "backoff");
        assert_eq!(stream["reason"], "connection_closed", "{stream:#}");
        assert!(stream["next_attempt"].is_string());
        watch.next_state("cam", "streaming");
    }

    let records = tap.take_records(2 * 40 + 10, SOON).to_vec();
    assert_gapless(&records);
    for (index, record) in records.iter().enumerate() {
        let is_first = index % 40 == 0;
        assert_eq!(record["timeline"], first(&records, "timeline") + (index / 40) as i64, "unit {index}");
        assert!(!is_first || record["key"] == true, "unit {index} begins a session");
    }
    assert_media_time_grows(&records);
    let stats = cameras.stop();
    assert_eq!((&stats["connects"], &stats["cameras"]["h264"]["plays"]), (&3.into(), &3.into()), "{stats}");
}

#[test]
fn a_camera_that_falls_silent_is_stalled_then_replaced() {
    let lab = Lab::new("stall-after");
    let _daemon = lab.daemon(&[]);
    let mut watch = lab.watch();
    let cameras = lab.cameras(&["--fault", "stall-after=40"]);
    lab.setup("cam", &cameras.url("h264"));
    let mut tap: Tap = lab.tap(&["cam", "--json", "--from", "oldest"]).into();

    for (state, reason) in
        [("streaming", Value::Null), ("stalled", "no_video_data".into()), ("backoff", "no_video_data".into())]
    {
        assert_eq!(watch.next_state("cam", state)["reason"], reason);
    }
    watch.next_state("cam", "streaming");

    let records = tap.take_records(2 * 40, SOON).to_vec();
    assert_gapless(&records);
    assert_media_time_grows(&records);
    // A camera with few sessions would refuse the next one if it still held the last.
    assert_eq!(cameras.stop()["cameras"]["h264"]["teardowns"], 1);
}

/// A camera that has one session to give, and holds one that nobody has torn down for a minute.
#[test]
fn a_camera_with_one_session_lets_us_in_again() {
    let lab = Lab::new("one-session");
    let _daemon = lab.daemon(&[]);
    let mut watch = lab.watch();
    let one_session = ["--fault", "session-limit"];
    // Somebody asks for it; no video comes; the connection is gone, and with it the chance to say goodbye on it.
    for (id, ending, reason) in [
        ("restarted", None, None),
        ("stalled", Some("stall-after=30"), Some("no_video_data")),
        ("reset", Some("reset-after=30"), Some("connection_lost")),
    ] {
        let ending = ending.map_or(vec![], |ending| vec!["--fault", ending]);
        let cameras = lab.cameras(&[&one_session[..], &ending].concat());
        lab.setup(id, &cameras.url("h264"));
        watch.next_state(id, "streaming");
        match reason {
            None => drop(lab.ctl_json(&["restart", id])),
            Some(reason) => assert_eq!(watch.next_state(id, "backoff")["reason"], reason),
        }
        watch.next_state(id, "connecting");
        let stream = watch.next_state(id, "streaming");
        assert_eq!(stream["stats"]["failures"], u64::from(reason.is_some()), "{stream:#}");
        lab.ctl_json(&["teardown", id]);
    }
}

#[test]
fn a_camera_that_starts_late_is_found() {
    let lab = Lab::new("late");
    let _daemon = lab.daemon(&[]);
    let mut watch = lab.watch();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    lab.setup("cam", &format!("rtsp://{address}/h264"));
    assert_eq!(watch.next_state("cam", "backoff")["reason"], "connect_refused");

    let _cameras = lab.cameras_at(&address, &[]);
    assert_eq!(watch.next_state("cam", "streaming")["reason"], Value::Null);
    let mut tap: Tap = lab.tap(&["cam", "--json", "--stamp", "--from", "oldest", "--count", "25"]).into();
    assert!(tap.process.wait_for_end(SOON).success(), "{}", tap.process.log());
}

/// What a stream of a misbehaving camera must look like to a reader, after `UNITS` units.
struct Case {
    clip: &'static str,
    fault: &'static str,
    bitrate: &'static str,
    /// Checks the records, the reader's summary and the stream as `vms-ctl get` shows it.
    check: fn(&[Value], &Value, &Value),
}

const CASES: &[Case] = &[
    // A unit has seven packets or more, so every seventh unit lacks one, and at times the one behind it is flagged, too.
    case("h264", "lose=50", "2M", lost_packets_are_flagged_and_counted),
    // A unit has three or four packets, and what is lost is often a head, or a tail and with it the marker.
    case("h264", "lose=10", "100k", lost_packets_are_flagged_and_counted),
    // Its units have two packets: often the one with the picture is lost, and the unit with it.
    case("h265", "lose=10", "100k", lost_packets_are_flagged_and_counted),
    case("h264", "no-marker", "2M", nothing_is_missing),
    case("h264", "server-request", "2M", nothing_is_missing),
    case("h264", "ssrc-change=30", "2M", each_source_is_a_timeline),
    case("h264", "garbage", "2M", most_comes_whole),
];
const UNITS: usize = 5 * FPS;

const fn case(
    clip: &'static str,
    fault: &'static str,
    bitrate: &'static str,
    check: fn(&[Value], &Value, &Value),
) -> Case {
    Case { clip, fault, bitrate, check }
}

impl Case {
    fn id(&self) -> String {
        format!("{}-{}", self.clip, self.fault.replace('=', "-"))
    }
}

#[test]
fn a_camera_that_misbehaves_keeps_streaming() {
    let lab = Lab::new("misbehave");
    let _daemon = lab.daemon(&[]);
    let farms: Vec<(&Case, Cameras, Tap)> = CASES
        .iter()
        .map(|case| {
            let id = case.id();
            let farm = lab.cameras(&["--fault", case.fault, "--bitrate", case.bitrate]);
            lab.setup(&id, &farm.url(case.clip));
            let count = UNITS.to_string();
            let tap = lab.tap(&[&id, "--stamp", "--json", "--from", "oldest", "--count", &count]);
            (case, farm, tap.into())
        })
        .collect();

    for (case, farm, mut tap) in farms {
        let id = case.id();
        tap.process.wait_for_end(SOON + Duration::from_secs(10));
        let summary = tap.summaries().remove(&id).unwrap();
        let stream = lab.ctl_json(&["get", &id]);
        assert_eq!((&stream["state"], &stream["reconnects"]), (&"streaming".into(), &0.into()), "{stream:#}");
        assert_eq!(tap.history().len(), UNITS, "{id}");
        assert_gapless(tap.history());
        (case.check)(tap.history(), &summary, &stream);
        assert_eq!(farm.stop()["connects"], 1, "{id}");
    }
}

fn nothing_is_missing(_: &[Value], summary: &Value, stream: &Value) {
    assert_flawless(stream["stream_id"].as_str().unwrap(), summary);
    assert_eq!((&stream["stats"]["lost_packets"], &stream["stats"]["damaged_units"]), (&0.into(), &0.into()));
}

fn lost_packets_are_flagged_and_counted(records: &[Value], summary: &Value, stream: &Value) {
    let damaged = records.iter().filter(|record| has(record, Flags::DAMAGED)).count();
    assert!((UNITS / 10..UNITS / 2).contains(&damaged), "{damaged} damaged");
    assert_eq!(summary["damaged"], damaged, "{summary:#}");
    // A unit that says that it is whole is whole, and so is what it refers to.
    assert_eq!(summary["stamps"]["unflagged"], 0, "{summary:#}");
    // A lost packet may be of two units: the end of one, and before the next.
    let lost = stream["stats"]["lost_packets"].as_u64().unwrap();
    assert!(2 * lost >= damaged as u64 - 1, "{lost} lost, {damaged} damaged");
}

fn each_source_is_a_timeline(records: &[Value], summary: &Value, stream: &Value) {
    assert_intact(stream["stream_id"].as_str().unwrap(), summary);
    assert_eq!(summary["stamps"]["restarts"], (UNITS - 1) / 30, "{summary:#}");
    assert_eq!(stream["stats"]["lost_packets"], 0);
    for (index, record) in records.iter().enumerate() {
        assert_eq!(record["timeline"], first(records, "timeline") + (index / 30) as i64, "unit {index}");
    }
    assert_media_time_grows(records);
}

/// Every eighth unit is preceded by up to 64 random bytes, which may look like the head of a frame.
fn most_comes_whole(records: &[Value], summary: &Value, _: &Value) {
    let whole = records.iter().filter(|record| !has(record, Flags::DAMAGED)).count();
    assert!(whole * 4 >= UNITS * 3, "{whole} of {UNITS} are whole: {summary:#}");
    assert_eq!(summary["stamps"]["good"], whole, "{summary:#}");
}

/// No number is left out, and nothing was lost between the daemon and its reader.
fn assert_gapless(records: &[Value]) {
    for (expected, record) in (first(records, "seq")..).zip(records) {
        assert_eq!((&record["seq"], &record["gap"]), (&expected.into(), &0.into()), "{record}");
    }
}

/// Across sessions too: never back, and by about the time that passed.
fn assert_media_time_grows(records: &[Value]) {
    for pair in records.windows(2) {
        let ticks = |record: &Value| record["media_ticks"].as_i64().unwrap();
        let step = ticks(&pair[1]) - ticks(&pair[0]);
        let passed_ns = pair[1]["recv_mono_ns"].as_u64().unwrap() - pair[0]["recv_mono_ns"].as_u64().unwrap();
        let passed = i64::try_from(passed_ns * 9 / 100_000).unwrap();
        assert!(step > 0 && step <= passed + 20 * UNIT_TICKS, "a step of {step} in {passed}: {pair:?}");
    }
}

fn first(records: &[Value], field: &str) -> i64 {
    records[0][field].as_i64().unwrap()
}

fn has(record: &Value, flag: Flags) -> bool {
    record["flags"].as_u64().unwrap() & u64::from(flag.0) != 0
}
