//! Promise: a reader that attacks costs itself only. Each attack comes from another process, which shares no code with us.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::process::Command;

use serde_json::{Value, json};
use support::{Lab, Process, SOON, Tap, assert_flawless};

const STREAMS: [&str; 3] = ["cam0", "cam1", "cam2"];

/// What the attacker reports, after a reader beside it has read on for four seconds and lost nothing.
fn attack(role: &'static str) -> Value {
    let lab = Lab::new(&format!("hostile-{role}"));
    let mut daemon = lab.daemon(&[]);
    let cameras = lab.cameras(&["--cameras", "3", "--bitrate", "4M"]);
    STREAMS.iter().for_each(|id| lab.setup(id, &cameras.url(id)));
    let mut steady: Tap =
        lab.tap(&[&STREAMS[..], &["--stamp", "--json", "--from", "oldest"]].concat()).into();
    steady.take_records(30, SOON);

    let mut command = Command::new("/usr/bin/python3");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/hostile_reader.py");
    command.arg(script).arg(role).arg(lab.ring_socket()).args(STREAMS);
    let attacker = Process::spawn("hostile_reader.py", command);
    let report = attacker.wait_for_line("its report", SOON, |line| line.starts_with('{'));

    let records = steady.take_records(300, SOON).to_vec();
    for id in STREAMS {
        let published: Vec<u64> =
            records.iter().filter(|r| r["id"] == id).map(|r| r["pub_mono_ns"].as_u64().unwrap()).collect();
        let longest = published.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(longest < 1_000_000_000, "{id}: nothing was published for {longest} ns");
    }
    steady.process.signal(rustix::process::Signal::TERM);
    assert!(steady.process.wait_for_end(SOON).success());
    let summaries = steady.summaries();
    STREAMS.iter().for_each(|id| assert_flawless(id, &summaries[*id]));
    drop(attacker);
    assert!(daemon.terminate().success());
    serde_json::from_str(&report).unwrap()
}

#[test]
fn no_way_to_write_to_what_a_reader_may_only_read() {
    let report = attack("seals");
    for segment in ["stream", "ring", "session"] {
        let attempts = report[segment].as_object().unwrap();
        assert_eq!(attempts.len(), 14);
        for (path, outcome) in attempts {
            let allowed = if path == "mprotect" || path == "remove" { "EACCES" } else { "EPERM" };
            assert_eq!(outcome, allowed, "{segment}: {path}");
        }
    }
}

#[test]
fn a_notify_descriptor_that_blocks_and_is_never_read_delays_nobody() {
    assert_eq!(attack("notify"), json!({ "descriptors": 3, "went on": true }));
}

#[test]
fn heads_that_lie_evict_their_own_ring() {
    let evicted_for_a_bad_cursor = json!([1, 3]);
    assert_eq!(attack("cursor")["ends"], json!([evicted_for_a_bad_cursor, evicted_for_a_bad_cursor]));
}

#[test]
fn the_memory_of_ended_streams_that_a_user_may_hold_is_bounded() {
    const MAX: usize = vms_media::limits::ENDED_STREAMS_HELD_MAX;
    let lab = Lab::new("hostile-hoard");
    let _daemon = lab.daemon(&[]);
    let ids: Vec<String> = (0..MAX + 3).map(|n| format!("h{n}")).collect();
    let mut command = Command::new("/usr/bin/python3");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/hostile_reader.py");
    command.arg(script).arg("hoard").arg(lab.ring_socket()).args(&ids);
    let hoarder = Process::spawn("hostile_reader.py", command);
    let mut report = None;
    for id in &ids {
        lab.setup(id, "rtsp://127.0.0.1:1/none");
        let line = hoarder.wait_for_line("its next word", SOON, |_| true);
        assert!(lab.ctl(&["teardown", id]).status.success());
        if line.starts_with('{') {
            report = Some(line);
            break;
        }
        assert_eq!(line, format!("holds {id}"));
    }
    let report: Value = serde_json::from_str(&report.expect("it was never refused")).unwrap();
    // A stream whose removal is still under way does not count yet.
    assert!(report["code"] == 3 && report["held"].as_u64().unwrap() >= MAX as u64, "{report}");
    lab.setup("last", "rtsp://127.0.0.1:1/none");
    let mut refused = lab.tap(&["last", "--duration", "1"]);
    assert!(!refused.wait_for_end(SOON).success(), "the whole user is refused, not the session");
    // With the hoarder its hold ends: others of the user are served again.
    drop(hoarder);
    let mut reader = lab.tap(&["last", "--duration", "1"]);
    assert!(reader.wait_for_end(SOON).success(), "{}", reader.log());
}

#[test]
fn packets_that_are_no_messages_are_refused() {
    let report = attack("handshake");
    let (refused, welcome) = (json!([5]), json!([2]));
    let cases = ["nothing known", "too short", "lying length", "attach first", "another major", "long name"];
    for case in cases.into_iter().chain(["no text", "a producer's"]) {
        assert_eq!(report[case], refused, "{case}");
    }
    assert_eq!(report["with descriptors"], welcome);
    assert!(["EPIPE", "ECONNRESET", "EAGAIN"].contains(&report["deaf"].as_str().unwrap()), "{report}");
}
