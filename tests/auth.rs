//! Promise: a password in the URL opens a camera whatever way it asks; a wrong one is told, and not tried until the
//! camera locks us out.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use prost_types::Timestamp;
use serde_json::Value;
use support::{Lab, SOON, Tap, assert_flawless};

/// A real password: everything that means something in a URL, and a letter of two bytes.
const PASSWORD: &str = "p@ss:w/rd?#%é";
const PASSWORD_IN_URL: &str = "p%40ss%3Aw%2Frd%3F%23%25%C3%A9";

/// Ways in which a camera asks, each as arguments of the simulator.
const SCHEMES: &[(&str, &[&str])] = &[
    ("basic", &["--auth", "basic"]),
    ("digest", &["--auth", "digest"]),
    ("digest-sha256", &["--auth", "digest-sha256"]),
    // A keepalive each second, and each finds its nonce too old.
    ("stale-nonce", &["--auth", "digest", "--nonce-lifetime", "1", "--session-timeout", "2"]),
];
const SECONDS: usize = 5;
const FPS: usize = 25;

#[test]
fn every_way_to_ask_for_the_password_is_answered() {
    let lab = Lab::new("auth");
    let _daemon = lab.daemon(&[]);
    let mut farms = Vec::new();
    for (name, arguments) in SCHEMES {
        let farm = lab.cameras(&[&["--user", "operator", "--password", PASSWORD], *arguments].concat());
        lab.setup(name, &format!("rtsp://operator:{PASSWORD_IN_URL}@{}/h264", farm.address));
        farms.push((*name, farm));
    }

    let count = (SECONDS * FPS * SCHEMES.len()).to_string();
    let mut arguments = vec!["--stamp", "--json", "--from", "oldest", "--count", &count];
    arguments.extend(SCHEMES.iter().map(|(name, _)| name));
    let mut tap: Tap = lab.tap(&arguments).into();
    let status = tap.process.wait_for_end(SOON);
    let summaries = tap.summaries();
    assert!(status.success(), "vms-tap: {status}\n{summaries:#?}");
    for (name, _) in SCHEMES {
        assert_flawless(name, &summaries[*name]);
        assert_eq!(lab.ctl_json(&["get", name])["credentials_set"], true);
    }

    for (name, farm) in farms {
        let stats = farm.stop();
        let camera = &stats["cameras"]["h264"];
        assert_eq!((&stats["connects"], &camera["plays"]), (&1.into(), &1.into()), "{name}: {stats}");
        assert_eq!(camera["logins_refused"], 0, "{name}: {stats}");
        let stale = camera["nonces_refused"].as_u64().unwrap();
        assert_eq!(stale >= 2, name == "stale-nonce", "{name}: {stats}");
    }
}

#[test]
fn a_wrong_password_is_tried_twice_at_most_and_then_not_for_minutes() {
    let lab = Lab::new("wrong-password");
    let _daemon = lab.daemon(&[]);
    let mut watch = lab.watch();
    for (name, arguments) in SCHEMES {
        let farm = lab.cameras(&[&["--user", "operator", "--password", PASSWORD], *arguments].concat());
        lab.setup(name, &format!("rtsp://operator:guess@{}/h264", farm.address));

        let stream = watch.wait_for_state(name, "auth_failed");
        assert_eq!(stream["reason"], "auth_refused");
        let detail = stream["detail"].as_str().unwrap();
        assert!(detail.contains("user name or password") && detail.contains("correct"), "{name}: {detail}");
        let pause_s = seconds(&stream["next_attempt"]) - seconds(&stream["state_since"]);
        assert!((299..=361).contains(&pause_s), "{name}: next attempt after {pause_s} s");

        let stats = farm.stop();
        let refused = stats["cameras"]["h264"]["logins_refused"].as_u64().unwrap();
        assert!((1..=2).contains(&refused), "{name}: {stats}");
        assert_eq!(stats["connects"], 1, "{name}: {stats}");
    }
}

fn seconds(time: &Value) -> i64 {
    time.as_str().unwrap().parse::<Timestamp>().unwrap().seconds
}
