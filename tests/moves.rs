//! Promise: a stream goes from one shard to another and nobody notices: no unit is lost, the camera is not asked again.

mod support;

use serde_json::Value;
use support::{Lab, SOON, Tap, assert_flawless};

const CAMERAS: usize = 8;
const MOVES: usize = 1000;

#[test]
fn a_stream_that_moves_a_thousand_times_under_load_loses_nothing() {
    let lab = Lab::new("moves");
    let mut daemon = lab.daemon(&["--shards", "2"]);
    // In pieces, and four times what is usual: so that a unit is often incomplete when the stream goes.
    let cameras = lab.cameras(&["--cameras", &CAMERAS.to_string(), "--bitrate", "16M", "--write", "segment"]);
    let ids: Vec<String> = (0..CAMERAS).map(|index| format!("cam{index}")).collect();
    let mut watch = lab.watch();
    for id in &ids {
        lab.setup(id, &cameras.url(id));
        watch.wait_for_state(id, "streaming");
    }
    let mut arguments = vec!["--stamp", "--json", "--from", "oldest"];
    arguments.extend(ids.iter().map(String::as_str));
    let mut tap: Tap = lab.tap(&arguments).into();
    tap.take_records(CAMERAS * 10, SOON);

    let mut shard = lab.ctl_json(&["get", "cam0"])["shard"].as_u64().unwrap();
    for number in 0..MOVES {
        shard = 1 - shard;
        let moved = lab.ctl_json(&["move", "cam0", &shard.to_string()]);
        assert_eq!(
            (&moved["shard"], &moved["state"]),
            (&Value::from(shard), &Value::from("streaming")),
            "{number}"
        );
        tap.take_what_is_there();
    }

    let before = lab.ctl_json(&["get", "cam0"]);
    assert_eq!(before["reconnects"], 0);
    tap.take_records(CAMERAS * 10, SOON);
    tap.process.signal(rustix::process::Signal::INT);
    tap.process.wait_for_end(SOON);
    let summaries = tap.summaries();
    assert_eq!(summaries.len(), CAMERAS);
    for (id, summary) in &summaries {
        assert_flawless(id, summary);
    }
    let sent = cameras.stop();
    for id in &ids {
        let camera = &sent["cameras"][id];
        assert_eq!((&camera["plays"], &camera["dropped"]), (&Value::from(1), &Value::from(0)), "{sent}");
    }
    assert!(daemon.terminate().success());
}

#[test]
fn a_shard_with_much_to_do_gives_a_stream_to_one_with_nothing() {
    let lab = Lab::new("moves-balance");
    let mut daemon = lab.daemon(&["--shards", "2"]);
    let cameras = lab.cameras(&["--cameras", "6", "--bitrate", "4M"]);
    let mut watch = lab.watch();
    let mut on_shard: [Vec<String>; 2] = Default::default();
    for id in (0..6).map(|index| format!("cam{index}")) {
        lab.setup(&id, &cameras.url(&id));
        let stream = watch.wait_for_state(&id, "streaming");
        on_shard[usize::from(stream["shard"] == 1)].push(id);
    }
    let [stay, go] = on_shard;
    assert_eq!((stay.len(), go.len()), (3, 3), "new streams are spread");
    for id in &go {
        assert!(lab.ctl(&["teardown", id]).status.success());
    }
    let mut arguments = vec!["--stamp", "--json", "--from", "oldest"];
    arguments.extend(stay.iter().map(String::as_str));
    let mut tap: Tap = lab.tap(&arguments).into();
    let line = daemon.wait_for_log("goes to a shard that has less to do");
    assert!(
        stay.iter().any(|id| line.contains(&format!("stream={id}"))) && line.contains("shard=1"),
        "{line}"
    );
    tap.take_what_is_there();
    tap.take_records(stay.len() * 50, SOON);
    tap.process.signal(rustix::process::Signal::INT);
    tap.process.wait_for_end(SOON);
    let summaries = tap.summaries();
    assert_eq!(summaries.len(), stay.len());
    for (id, summary) in &summaries {
        assert_flawless(id, summary);
    }
    assert!(daemon.terminate().success());
}

#[test]
fn what_cannot_be_moved_says_why() {
    let lab = Lab::new("moves-refused");
    let mut daemon = lab.daemon(&["--shards", "2"]);
    let refused = |arguments: &[&str]| {
        let output = lab.ctl(arguments);
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(refused(&["move", "cam0", "1"]).contains("there is no stream cam0"));
    // Nobody listens there: it waits for its next attempt, and that can be anywhere.
    lab.setup("cam0", "rtsp://127.0.0.1:9/x");
    lab.watch().wait_for_state("cam0", "backoff");
    assert!(refused(&["move", "cam0", "2"]).contains("there are 2 shards"));
    for shard in ["1", "0", "0"] {
        assert_eq!(lab.ctl_json(&["move", "cam0", shard])["shard"].to_string(), shard);
    }
    assert!(lab.ctl(&["teardown", "cam0"]).status.success());
    assert!(daemon.terminate().success());
}
