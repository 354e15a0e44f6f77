//! Promise: a reader that is killed or stopped costs itself only.

mod support;

use rustix::process::Signal;
use serde_json::Value;
use support::{Lab, SOON, Tap, assert_flawless};

/// Fast enough that the default arena (8 MiB) holds about four seconds.
const BITRATE: &str = "16M";

#[test]
fn a_killed_and_a_stopped_reader_disturb_nobody() {
    let lab = Lab::new("readers");
    let _daemon = lab.daemon(&[]);
    let cameras = lab.cameras(&["--cameras", "1", "--bitrate", BITRATE]);
    lab.setup("cam0", &cameras.url("cam0"));

    let mut steady: Tap = lab.tap(&["cam0", "--stamp", "--json", "--from", "oldest"]).into();
    let mut killed: Tap = lab.tap(&["cam0", "--json", "--from", "oldest"]).into();
    let mut stopped: Tap = lab.tap(&["cam0", "--json", "--from", "oldest"]).into();
    for tap in [&mut steady, &mut killed, &mut stopped] {
        tap.take_records(25, SOON);
    }

    killed.process.signal(Signal::KILL);
    stopped.process.signal(Signal::STOP);
    let before = stopped.take_what_is_there();
    // Ten seconds of video at four seconds of retention: what the stopped reader was at is long gone.
    steady.take_records(250, SOON);
    stopped.process.signal(Signal::CONT);
    let after = stopped.take_records(100, SOON).len();
    steady.take_records(100, SOON);
    stopped.process.signal(Signal::TERM);
    steady.process.signal(Signal::TERM);
    assert!(steady.process.wait_for_end(SOON).success(), "the steady reader lost units or saw a wrong stamp");
    assert_flawless("cam0", &steady.summaries()["cam0"]);

    let all: Vec<Value> = stopped.history().to_vec();
    let numbers: Vec<u64> = all.iter().map(|record| record["seq"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "order");
    let gaps: Vec<(usize, u64)> = (1..numbers.len())
        .map(|index| (index, numbers[index] - numbers[index - 1] - 1))
        .filter(|(_, missing)| *missing > 0)
        .collect();
    assert!(!gaps.is_empty(), "the stopped reader lost nothing: {before} records, then {after}");
    for (index, missing) in gaps {
        assert_eq!(all[index]["key"], true, "it resumes at a keyframe");
        assert_eq!(all[index]["gap"], missing, "its gap count is exact");
    }
    for pair in all.windows(2) {
        let missing = pair[1]["seq"].as_u64().unwrap() - pair[0]["seq"].as_u64().unwrap() - 1;
        assert_eq!(pair[1]["gap"], missing);
    }
    let status = lab.ctl_json(&["get", "cam0"]);
    assert_eq!(status["state"], "streaming");
}
