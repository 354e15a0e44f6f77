//! Promise: `vms-ctl doctor` tells what is wrong with a machine or a camera and what to do, in the daemon's words, within a bound, and
//! never tries a password twice.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::{Lab, now, program, without_io_uring};

const CANARY: &str = "canary-7431";

/// What `vms-ctl doctor --json` found, and its exit status.
struct Diagnosis {
    code: Option<i32>,
    report: Value,
    /// Both streams.
    text: String,
}

impl Diagnosis {
    fn of(output: &Output) -> Self {
        let text =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {text}"));
        Self { code: output.status.code(), report, text }
    }

    /// The finding of one check.
    fn finding(&self, check: &str) -> &Value {
        let findings = self.report["findings"].as_array().unwrap();
        let found = findings.iter().find(|finding| finding["check"] == check);
        found.unwrap_or_else(|| panic!("no {check} in {:#}", self.report))
    }

    fn level(&self, check: &str) -> &str {
        self.finding(check)["level"].as_str().unwrap()
    }

    fn found(&self, check: &str) -> &str {
        self.finding(check)["found"].as_str().unwrap()
    }
}

/// Looks at the machine, for one stream, and at what `arguments` say.
fn doctor(lab: &Lab, arguments: &[&str]) -> Diagnosis {
    Diagnosis::of(&lab.ctl(&[&["doctor", "--json", "--streams", "1"], arguments].concat()))
}

/// Looks at a camera for whom the password comes by standard input.
fn doctor_with_password(lab: &Lab, url: &str, password: &str) -> Diagnosis {
    let mut child = Command::new(program("vms-ctl"))
        .args(["--server", &format!("unix:{}", lab.control_socket()), "doctor", "--json", "--streams", "1"])
        .args([url, "--seconds", "2", "--user", "operator", "--password-file", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{password}").unwrap();
    Diagnosis::of(&child.wait_with_output().unwrap())
}

#[test]
fn a_machine_is_well_with_and_without_a_daemon() {
    let lab = Lab::new("doctor-machine");
    let alone = doctor(&lab, &[]);
    assert_eq!((alone.code, &alone.report["failures"]), (Some(0), &0.into()), "{}", alone.text);
    assert!(alone.found("daemon").contains("none runs"), "{}", alone.text);
    for check in ["kernel", "epoll", "shared memory", "memory", "cores", "open files", "sockets"] {
        assert_ne!(alone.level(check), "fail", "{}", alone.text);
    }
    assert!(alone.report["camera"].is_null());

    let _daemon = lab.daemon(&[]);
    let beside = doctor(&lab, &[]);
    assert_eq!(beside.code, Some(0), "{}", beside.text);
    assert!(
        beside.found("daemon").contains("runs at") && beside.found("daemon").contains("shards"),
        "{}",
        beside.text
    );
    let text = lab.ctl(&["doctor", "--streams", "1"]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.lines().any(|line| line.starts_with("ok    epoll")), "{text}");
}

#[test]
fn more_streams_than_there_are_descriptors_for_are_a_failure_with_advice() {
    let lab = Lab::new("doctor-files");
    let few = Command::new("sh")
        .args(["-c", "ulimit -n 300 && exec \"$0\" \"$@\""])
        .arg(program("vms-ctl"))
        .args(["doctor", "--json", "--streams", "100", "--server", &format!("unix:{}", lab.control_socket())])
        .output()
        .unwrap();
    let few = Diagnosis::of(&few);
    assert_eq!(few.code, Some(1), "{}", few.text);
    assert_eq!(few.level("open files"), "fail");
    assert!(few.finding("open files")["fix"].as_str().unwrap().contains("LimitNOFILE=812"), "{}", few.text);
    assert!(few.text.contains("error: 1 of") || few.text.contains("error: 2 of"), "{}", few.text);
}

#[test]
fn io_uring_that_a_container_forbids_is_told_with_what_to_do() {
    let lab = Lab::new("doctor-denied");
    let denied = without_io_uring(|| {
        let _daemon = lab.daemon(&["--io", "auto"]);
        doctor(&lab, &[])
    });
    assert_eq!(denied.code, Some(0), "it works by epoll\n{}", denied.text);
    assert_eq!((denied.level("io_uring"), denied.level("epoll")), ("warn", "ok"), "{}", denied.text);
    assert!(denied.found("io_uring").contains("io_uring is forbidden here"), "{}", denied.text);
    assert!(denied.finding("io_uring")["fix"].as_str().unwrap().contains("seccomp"), "{}", denied.text);
    assert_eq!(denied.level("daemon"), "warn", "it fell back: {}", denied.text);
}

#[test]
fn a_good_camera_is_measured_and_left_politely() {
    let lab = Lab::new("doctor-good");
    let arguments =
        ["--user", "operator", "--password", CANARY, "--auth", "digest-sha256", "--bitrate", "2M"];
    let cameras = lab.cameras(&arguments);
    let seen = doctor_with_password(&lab, &cameras.url("h265"), CANARY);
    let camera = &seen.report["camera"];
    assert_eq!(seen.code, Some(0), "{}", seen.text);
    assert_eq!((&camera["state"], &camera["codec"]), (&"streaming".into(), &"h265".into()), "{}", seen.text);
    assert_eq!((&camera["width"], &camera["height"]), (&640.into(), &360.into()));
    assert_eq!(camera["auth_schemes"], serde_json::json!(["Digest (SHA-256)"]));
    let fps = camera["fps"].as_f64().unwrap();
    assert!((20.0..30.0).contains(&fps), "{fps}");
    let bitrate = camera["bitrate_bps"].as_u64().unwrap();
    assert!((1_000_000..4_000_000).contains(&bitrate), "{bitrate}");
    assert!(
        camera["gop_units"].as_u64().unwrap() > 0 && camera["key_units"].as_u64().unwrap() >= 2,
        "{}",
        seen.text
    );
    assert!(camera["largest_packet_bytes"].as_u64() >= camera["mean_packet_bytes"].as_u64());
    assert_eq!(camera["lost_packets"], 0);
    assert!(
        seen.found("login").contains("accepted") && seen.found("RTSP").contains("PLAY 200"),
        "{}",
        seen.text
    );
    assert_eq!(seen.level("timestamps"), "ok", "{}", seen.text);
    assert!(!seen.text.contains(CANARY), "{}", seen.text);

    let stats = cameras.stop();
    let counted = &stats["cameras"]["h265"];
    assert_eq!(
        (&stats["connects"], &counted["plays"], &counted["teardowns"]),
        (&1.into(), &1.into(), &1.into()),
        "{stats}"
    );
    assert_eq!(counted["logins_refused"], 0, "{stats}");
}

#[test]
fn a_wrong_password_is_tried_exactly_once() {
    let lab = Lab::new("doctor-password");
    for scheme in ["basic", "digest", "digest-sha256"] {
        let cameras = lab.cameras(&["--user", "operator", "--password", "right", "--auth", scheme]);
        let seen = doctor_with_password(&lab, &cameras.url("h264"), CANARY);
        assert_eq!(seen.code, Some(1), "{scheme}: {}", seen.text);
        assert_eq!(
            (seen.level("login"), &seen.report["camera"]["reason"]),
            ("fail", &"auth_refused".into()),
            "{scheme}"
        );
        assert!(
            seen.finding("camera")["fix"].as_str().unwrap().contains("user name or password"),
            "{}",
            seen.text
        );
        assert!(!seen.text.contains(CANARY), "{}", seen.text);
        let stats = cameras.stop();
        assert_eq!(stats["cameras"]["h264"]["logins_refused"], 1, "{scheme}: {stats}");
        assert_eq!(stats["connects"], 1, "{scheme}: {stats}");
    }
}

#[test]
fn what_is_wrong_is_told_in_the_words_of_the_daemon() {
    let lab = Lab::new("doctor-wrong");
    let _daemon = lab.daemon(&[]);
    let mut watch = lab.watch();
    let cases: [(&str, &[&str], &str, &str, &str); 5] = [
        ("404", &[], "nowhere", "backoff", "not_found"),
        ("no-video", &["--fault", "no-video"], "h264", "unsupported", "no_video"),
        ("codec", &["--fault", "codec=VP8"], "h264", "unsupported", "unsupported_codec"),
        ("busy", &["--fault", "status=453"], "h264", "backoff", "session_limit"),
        ("login", &["--user", "u", "--password", "p"], "h264", "auth_failed", "auth_refused"),
    ];
    for (name, faults, path, state, reason) in cases {
        let cameras = lab.cameras(faults);
        let seen = doctor(&lab, &[&cameras.url(path)]);
        let camera = &seen.report["camera"];
        assert_eq!(
            (seen.code, &camera["state"], &camera["reason"]),
            (Some(1), &state.into(), &reason.into()),
            "{}",
            seen.text
        );
        assert_eq!(seen.level("camera"), "fail");

        lab.setup(name, &cameras.url(path));
        let told = watch.wait_for_state(name, state);
        assert_eq!((&told["reason"], &told["detail"]), (&camera["reason"], &camera["detail"]), "{name}");
    }
    let nobody = doctor(&lab, &["rtsp://127.0.0.1:1/x"]);
    assert_eq!(
        (nobody.level("connection"), &nobody.report["camera"]["reason"]),
        ("fail", &"connect_refused".into())
    );
    let no_name = doctor(&lab, &["rtsp://no-such-host.invalid/x"]);
    assert_eq!(no_name.report["camera"]["reason"], "resolve_failed", "{}", no_name.text);
}

#[test]
fn a_host_that_accepts_and_says_nothing_is_given_up_within_a_bound() {
    let lab = Lab::new("doctor-silent");
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    let begin = now();
    let seen = doctor(&lab, &[&format!("rtsp://{}/x", host.local_addr().unwrap())]);
    let took = now().duration_since(begin);
    assert_eq!(
        (seen.code, &seen.report["camera"]["reason"]),
        (Some(1), &"reply_timeout".into()),
        "{}",
        seen.text
    );
    // OPTIONS and DESCRIBE have 5 s each.
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[test]
fn a_url_that_is_none_is_wrong_usage_and_not_repeated() {
    let lab = Lab::new("doctor-usage");
    for wrong in [format!("http://u:{CANARY}@h/"), "rtsp://".to_owned(), format!("rtsps://u:{CANARY}@h/")] {
        let output = lab.ctl(&["doctor", &wrong]);
        assert_eq!(output.status.code(), Some(2), "{wrong}");
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(text.contains("error:") && !text.contains(CANARY), "{text}");
    }
}
