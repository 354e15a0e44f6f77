//! Promise: how patient the daemon is with a camera can be said for one stream alone, by a caller and in the configuration file; it
//! holds for that stream only, and outlives the daemon.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs;

use prost_types::Timestamp;
use rustix::process::Signal;
use serde_json::{Value, json};
use support::{Lab, SOON, Tap, Watch};

/// A camera that refuses connections: nothing listens at the port of tcpmux.
const NOBODY: &str = "rtsp://127.0.0.1:1/";

#[test]
fn a_fixed_wait_of_one_stream_is_kept_also_after_a_restart_and_others_double() {
    let lab = Lab::new("patience-retry");
    let (file, state) = (lab.path("vms-media.toml"), lab.path("state"));
    let retry = "[stream.file.retry]\ninitial = \"1s\"\nmax = \"1s\"\nmultiplier = 1\njitter_percent = 0\n";
    fs::write(
        &file,
        format!("[camera.retry]\njitter_percent = 0\n[stream.file]\nurl = \"{NOBODY}\"\n{retry}"),
    )
    .unwrap();
    let arguments = ["--config", file.as_str(), "--state-dir", state.as_str()];
    let mut daemon = lab.daemon(&arguments);
    lab.setup("plain", NOBODY);
    assert!(lab.ctl(&["setup", "caller", NOBODY, "--retry-every", "1s"]).status.success());
    let own = json!({"initial_s": 1.0, "max_s": 1.0, "multiplier": 1, "jitter_percent": 0});
    for id in ["file", "caller"] {
        assert_eq!(lab.ctl_json(&["get", id])["retry"], own);
        assert_eq!(waits(lab.watch(), id), [1, 1, 1], "{id}");
    }
    lab.ctl_json(&["restart", "plain"]);
    // The first may be from before the restart.
    let plain = waits(lab.watch(), "plain");
    assert!(plain.windows(2).any(|pair| pair == [1, 2]), "{plain:?}");

    daemon.signal(Signal::KILL);
    daemon.wait_for_end(SOON);
    let mut daemon = lab.daemon(&arguments);
    for id in ["file", "caller"] {
        assert_eq!(lab.ctl_json(&["get", id])["retry"], own);
        assert_eq!(waits(lab.watch(), id), [1, 1, 1], "{id} after a restart");
    }
    assert!(daemon.terminate().success());
}

#[test]
fn an_impatient_stream_gives_its_camera_up_while_a_patient_one_waits() {
    let lab = Lab::new("patience-idle");
    let file = lab.path("vms-media.toml");
    let mut cameras = lab.cameras(&["--cameras", "3", "--control"]);
    fs::write(&file, format!("[stream.file]\nurl = \"{}\"\nidle_timeout = \"1s\"\n", cameras.url("cam2")))
        .unwrap();
    let _daemon = lab.daemon(&["--config", &file]);
    let short = ["--idle-timeout", "1s", "--first-frame-timeout", "1s", "--retry-every", "1s"];
    let set_up = |id: &str, url: &str, words: &[&str]| {
        let output = lab.ctl(&[&["setup", id, url], words].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    set_up("short", &cameras.url("cam0"), &short);
    set_up("long", &cameras.url("cam1"), &["--idle-timeout", "1h"]);
    let mut watch = lab.watch();
    for id in ["short", "long", "file"] {
        watch.wait_for_state(id, "streaming");
    }

    cameras.command("fault cam0,cam1,cam2 stall");
    let begun = cameras.wait_for_fact("its answer", |fact| fact["answer"] == "done");
    for id in ["short", "file"] {
        let stalled = watch.wait_for_state(id, "stalled");
        let silent_s = seconds(&stalled, "state_since") - begun["utc_ns"].as_f64().unwrap() / 1e9;
        // The daemon's own is 5 s.
        assert!((0.8..4.5).contains(&silent_s), "{id}: {silent_s} s");
        assert!(stalled["detail"].as_str().unwrap().contains("for 1 s"), "{stalled:#}");
    }
    let no_first_frame = |stream: &Value| stream["reason"] == "no_first_frame";
    let again = watch.next_event("short", "the end of its next attempt", no_first_frame);
    assert!(again["detail"].as_str().unwrap().contains("within 1 s"), "{again:#}");
    let long = lab.ctl_json(&["get", "long"]);
    assert_eq!((&long["state"], &long["stats"]["failures"]), (&"streaming".into(), &0.into()), "{long:#}");

    // Other patience holds from the next access unit on.
    cameras.command("clear all");
    watch.next_state("short", "streaming");
    let updated = lab.ctl_json(&["update", "long", "--idle-timeout", "1s"]);
    assert_eq!(updated["timeouts"]["idle_s"], 1.0);
    let mut tap: Tap = lab.tap(&["long", "--json", "--from", "live", "--count", "10"]).into();
    assert!(tap.process.wait_for_end(SOON).success(), "{}", tap.process.log());
    cameras.command("fault cam1 stall");
    let stalled = watch.next_state("long", "stalled");
    assert!(stalled["detail"].as_str().unwrap().contains("for 1 s"), "{stalled:#}");
}

#[test]
fn what_is_out_of_range_is_refused_with_advice_and_what_was_said_can_be_taken_back() {
    let lab = Lab::new("patience-words");
    let _daemon = lab.daemon(&[]);
    lab.setup("cam", NOBODY);
    let told = |arguments: &[&str], code: i32| {
        let output = lab.ctl(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    for (words, advice) in [
        (["--idle-timeout", "0s"], "spec.timeouts.idle: out of range: from 1 to 3600 seconds"),
        (["--connect-timeout", "3m"], "spec.timeouts.connect: out of range: from 1 to 120 seconds"),
        (["--retry-every", "2days"], "spec.retry.initial: out of range: from 1 to 86400 seconds"),
        (["--retry-jitter", "51"], "spec.retry.jitter_percent: out of range: from 0 to 50"),
    ] {
        for command in [&["setup", "new", NOBODY][..], &["update", "cam"]] {
            let text = told(&[command, &words].concat(), 1);
            assert!(text.contains(advice) && text.contains("INVALID_ARGUMENT"), "{text}");
        }
    }
    let crossed = ["update", "cam", "--retry-initial", "9s", "--retry-max", "5s"];
    assert!(told(&crossed, 1).contains("spec.retry.max: it is shorter than initial"));
    assert!(told(&["update", "cam"], 2).contains("say what to change"));
    assert!(told(&["update", "nobody", "--defaults"], 1).contains("there is no stream nobody"));

    lab.ctl_json(&["update", "cam", "--idle-timeout", "12s", "--retry-jitter", "0"]);
    let stream = lab.ctl_json(&["update", "cam", "--connect-timeout", "1500ms"]);
    assert_eq!(
        (&stream["timeouts"]["idle_s"], &stream["timeouts"]["connect_s"]),
        (&12.0.into(), &1.5.into())
    );
    assert_eq!(stream["retry"]["jitter_percent"], 0, "what is not named stays");
    let stream = lab.ctl_json(&["update", "cam", "--defaults", "--reply-timeout", "9s"]);
    let own = json!({"connect_s": null, "reply_s": 9.0, "first_frame_s": null, "idle_s": null});
    assert_eq!((&stream["timeouts"], &stream["retry"]["jitter_percent"]), (&own, &Value::Null));
    // A set-up that asks for less is another one.
    assert!(told(&["setup", "cam", NOBODY], 1).contains("another timeouts"));
}

/// The first waits between attempts, in seconds.
fn waits(mut watch: Watch, id: &str) -> [i64; 3] {
    [0; 3].map(|_| wait(&watch.next_state(id, "backoff")))
}

/// The wait of a stream that has failed, to the tenth of a second.
fn wait(stream: &Value) -> i64 {
    let wait = seconds(stream, "next_attempt") - seconds(stream, "state_since");
    let whole = wait.round();
    assert!((wait - whole).abs() < 0.1, "{wait}");
    #[expect(clippy::cast_possible_truncation, reason = "seconds")]
    let whole = whole as i64;
    whole
}

/// A time of a stream's, in seconds since 1970.
fn seconds(stream: &Value, field: &str) -> f64 {
    let time: Timestamp = stream[field].as_str().unwrap().parse().unwrap();
    #[expect(clippy::cast_precision_loss, reason = "microseconds are told apart")]
    let seconds = time.seconds as f64;
    seconds + f64::from(time.nanos) / 1e9
}
