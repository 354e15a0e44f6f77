//! Promise: one file configures the daemon, all of it is documented by the program itself, and what is wrong in it is told
//! with its place and with what to write.

mod support;

use std::fs;
use std::process::Command;

use support::{Lab, Process, SOON, program};

#[test]
fn what_print_config_prints_is_a_configuration() {
    let lab = Lab::new("print-config");
    let printed = Command::new(program("vms-media")).arg("--print-config").env_clear().output().unwrap();
    assert!(printed.status.success());
    let (file, daemon) = (lab.path("vms-media.toml"), Command::new(program("vms-media")));
    let sockets =
        format!("listen = [\"unix:{}\"]\nring_socket = \"{}\"\n", lab.control_socket(), lab.ring_socket());
    fs::write(&file, [sockets.as_bytes(), &printed.stdout].concat()).unwrap();
    let mut command = daemon;
    command.args(["--config", &file]);
    let mut daemon = Process::spawn("vms-media", command);
    daemon.wait_for_log("ready");
    assert_eq!(lab.ctl_json(&["info"])["streams"], 0, "it listens where the file says");
    assert!(daemon.terminate().success());
}

#[test]
fn the_command_line_comes_before_the_file() {
    let lab = Lab::new("config-order");
    let file = lab.path("vms-media.toml");
    fs::write(&file, "shards = 2\nring_socket = \"/nowhere/that/exists\"\n").unwrap();
    let _daemon = lab.daemon(&["--config", &file]);
    let info = lab.ctl_json(&["info"]);
    assert_eq!((&info["shards"], &info["ring_socket"]), (&2.into(), &lab.ring_socket().into()));
}

#[test]
fn a_mistake_is_told_with_its_place_and_the_daemon_does_not_start() {
    let lab = Lab::new("config-wrong");
    let file = lab.path("vms-media.toml");
    for (text, words) in [
        ("shards = 1\nlatency = 3\n", ":2:1: unknown key `latency`: did you mean `latency_us`?"),
        (
            "[camera]\nidle_timeout = \"0s\"\n",
            ":2:16: camera.idle_timeout: out of range: expected a time span from 1s to 1h",
        ),
        (
            "[camera.retry]\nmax = \"1s\"\ninitial = \"5s\"\n",
            ":2:7: camera.retry.max: the first wait, initial = \"5s\", is longer",
        ),
        ("http = \"0.0.0.0:9464\"\n", ":1:8: http: only loopback addresses"),
        ("shards = \n", ":1:"),
    ] {
        fs::write(&file, text).unwrap();
        let mut daemon = Process::spawn("vms-media", lab.daemon_command(&["--config", &file]));
        assert_eq!(daemon.wait_for_end(SOON).code(), Some(2), "{text}");
        let told = daemon.rest_of_log().join("\n");
        assert!(told.starts_with(&format!("error: {file}{words}")), "{text}: {told}");
    }
    let missing = lab.path("missing.toml");
    let mut daemon = Process::spawn("vms-media", lab.daemon_command(&["--config", &missing]));
    assert_eq!(daemon.wait_for_end(SOON).code(), Some(2));
    let told = daemon.rest_of_log().join("\n");
    assert_eq!(told, format!("error: {missing}: No such file or directory (os error 2)"));
}

#[test]
fn a_fixed_wait_between_attempts_can_be_configured() {
    let lab = Lab::new("config-retry");
    let file = lab.path("vms-media.toml");
    let fixed = "[camera.retry]\ninitial = \"1s\"\nmax = \"1s\"\nmultiplier = 1\njitter_percent = 0\n";
    fs::write(&file, fixed).unwrap();
    let _daemon = lab.daemon(&["--config", &file]);
    // Nobody listens at a port that was just given back.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut watch = lab.watch();
    lab.setup("cam", &format!("rtsp://127.0.0.1:{port}/"));
    for attempt in 0..4 {
        let stream = watch.next_state("cam", "backoff");
        let time = |field: &str| {
            let text = stream[field].as_str().unwrap();
            // Of `…T14:18:13.123Z` the seconds of the minute.
            let second = text.rsplit(':').next().unwrap().trim_end_matches('Z');
            second.parse::<f64>().unwrap()
        };
        let wait = (time("next_attempt") - time("state_since")).rem_euclid(60.0);
        assert!((0.99..=1.01).contains(&wait), "attempt {attempt}: {wait} s; {stream:#}");
    }
}
