//! Promise: cameras that were lost together and come back together are all back within seconds, however long they were
//! away, and not more of them are connected to at once than configured; an operator need not wait for any of it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::HashSet;
use std::time::Duration;

use prost_types::Timestamp;
use rustix::process::Signal;
use serde_json::Value;
use support::{Lab, SOON, Watch, now};

const CAMERAS: usize = 200;
const AT_ONCE: usize = 16;
/// From the first camera that answers again to the last that streams.
const ALL_BACK: Duration = Duration::from_secs(10);
/// By then the waits between attempts are longer than [`ALL_BACK`]: the sixth is 24 s at least.
const FAILURES: usize = 5;

#[test]
fn two_hundred_cameras_without_power_are_back_within_seconds() {
    let lab = Lab::new("power-cut");
    // One shard, because what several tell reaches us in no common order; that all together keep to it is a unit test's
    // (`shard::connects`).
    let _daemon = lab.daemon(&["--shards", "1", "--connects-at-once", &AT_ONCE.to_string()]);
    let watch = lab.watch();
    let count = CAMERAS.to_string();
    let arguments = ["--cameras", &count, "--bitrate", "100k"];
    let cameras = lab.cameras(&arguments);
    for number in 0..CAMERAS {
        lab.setup(&format!("cam-{number}"), &cameras.url(&format!("cam{number}")));
    }
    let mut states = States::default();
    states.follow(&watch, |states| states.streaming.len() == CAMERAS);

    cameras.process.signal(Signal::KILL);
    let address = cameras.address.clone();
    drop(cameras);
    let mut failures = 0;
    while failures < CAMERAS * FAILURES {
        failures += usize::from(states.next(&watch)["state"] == "backoff");
    }

    let cameras = lab.cameras_at(&address, &arguments);
    let start = now();
    states.connecting_max = 0;
    // Those whose attempt was refused just before count for the time before.
    states.follow(&watch, |states| states.streaming.len() == CAMERAS);
    let time = now() - start;
    assert!(time <= ALL_BACK, "it took {time:?}");
    assert!((1..=AT_ONCE).contains(&states.connecting_max), "{} at once", states.connecting_max);
    let stats = cameras.stop();
    assert_eq!(stats["connects"], CAMERAS, "one attempt each: {stats}");
}

#[test]
fn a_camera_that_is_back_streams_within_a_second_of_its_next_attempt() {
    let lab = Lab::new("back");
    let _daemon = lab.daemon(&[]);
    let mut watch = lab.watch();
    let cameras = lab.cameras(&[]);
    lab.setup("cam", &cameras.url("h264"));
    watch.next_state("cam", "streaming");
    let address = cameras.address.clone();
    cameras.process.signal(Signal::KILL);
    drop(cameras);
    let lost = seconds(&watch.next_state("cam", "backoff")["state_since"]);
    let mut stream = Value::Null;
    while stream.is_null() || seconds(&stream["state_since"]) < lost + 10.0 {
        stream = watch.next_state("cam", "backoff");
        assert_eq!(stream["reason"], "connect_refused");
    }
    let _cameras = lab.cameras_at(&address, &[]);
    let next_attempt = seconds(&stream["next_attempt"]);
    let streaming = seconds(&watch.next_state("cam", "streaming")["state_since"]);
    assert!(streaming >= next_attempt && streaming <= next_attempt + 1.0, "{} s", streaming - next_attempt);
}

#[test]
fn an_operator_need_not_wait_for_the_next_attempt() {
    let lab = Lab::new("restart-stream");
    let _daemon = lab.daemon(&[]);
    let mut watch = lab.watch();
    let login = ["--user", "operator", "--password"];
    let cameras = lab.cameras(&[&login[..], &["new"]].concat());
    lab.setup("cam", &format!("rtsp://operator:old@{}/h264", cameras.address));
    watch.next_state("cam", "auth_failed");
    // The password is corrected at the camera, and nothing would happen for five minutes.
    let address = cameras.address.clone();
    cameras.stop();
    let _cameras = lab.cameras_at(&address, &[&login[..], &["old"]].concat());
    assert_eq!(lab.ctl_json(&["restart", "cam"])["stream_id"], "cam");
    watch.next_state("cam", "streaming");
    // One that streams begins a new session.
    lab.ctl_json(&["restart", "cam"]);
    watch.next_state("cam", "connecting");
    watch.next_state("cam", "streaming");

    let output = lab.ctl(&["restart", "nobody"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("nobody"));
}

fn seconds(time: &Value) -> f64 {
    let time: Timestamp = time.as_str().unwrap().parse().unwrap();
    time.seconds as f64 + f64::from(time.nanos) / 1e9
}

/// Which streams are in which state, as the daemon tells it.
#[derive(Default)]
struct States {
    streaming: HashSet<String>,
    connecting: HashSet<String>,
    connecting_max: usize,
}

impl States {
    fn follow(&mut self, watch: &Watch, is_enough: impl Fn(&Self) -> bool) {
        while !is_enough(self) {
            self.next(watch);
        }
    }

    fn next(&mut self, watch: &Watch) -> Value {
        let stream = watch.next_of_any(SOON);
        let id = stream["stream_id"].as_str().unwrap_or_default().to_owned();
        self.streaming.remove(&id);
        self.connecting.remove(&id);
        match stream["state"].as_str() {
            Some("streaming") => self.streaming.insert(id),
            Some("connecting") => self.connecting.insert(id),
            _ => false,
        };
        self.connecting_max = self.connecting_max.max(self.connecting.len());
        stream
    }
}
