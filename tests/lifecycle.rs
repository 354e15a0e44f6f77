//! Promise: the daemon ends in good order when it is told to, and what is left of one that was killed is in nobody's
//! way.

mod support;

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use support::{Lab, Process, SOON, Tap, assert_flawless, program};

#[test]
fn a_signal_says_goodbye_to_cameras_and_readers_and_leaves_no_socket() {
    for (name, signal) in [("sigterm", Signal::TERM), ("sigint", Signal::INT), ("sighup", Signal::HUP)] {
        let lab = Lab::new(name);
        let mut daemon = lab.daemon(&[]);
        let cameras = lab.cameras(&["--cameras", "4"]);
        let ids = ["cam0", "cam1", "cam2", "cam3"];
        for id in ids {
            lab.setup(id, &cameras.url(id));
        }
        let mut tap: Tap =
            lab.tap(&[&["--stamp", "--json", "--from", "oldest"], ids.as_slice()].concat()).into();
        tap.take_records(50, SOON);

        daemon.signal(signal);
        assert_eq!(daemon.wait_for_end(SOON).code(), Some(0), "{name}: {}", daemon.log());

        assert!(tap.process.wait_for_end(SOON).success(), "{name}: {}", tap.process.log());
        for (id, summary) in tap.summaries() {
            assert_flawless(&id, &summary);
        }
        let told = tap.process.rest_of_log();
        for id in ids {
            let end = format!("{id}: the ring ended");
            let line = told.iter().find(|line| line.starts_with(&end)).unwrap_or_else(|| panic!("{told:?}"));
            assert!(line.contains("StreamClosed"), "{name}: {line}");
        }
        let stats = cameras.stop();
        for id in ids {
            let camera = &stats["cameras"][id];
            assert_eq!((&camera["plays"], &camera["teardowns"]), (&1.into(), &1.into()), "{name}: {stats}");
        }
        assert!(!Path::new(&lab.control_socket()).exists() && !Path::new(&lab.ring_socket()).exists());
    }
}

#[test]
fn a_daemon_under_nohup_outlives_its_terminal() {
    let lab = Lab::new("nohup");
    let daemon = lab.daemon_command(&[]);
    let mut nohup = Command::new("nohup");
    nohup.arg(daemon.get_program()).args(daemon.get_args());
    let mut daemon = Process::spawn("vms-media", nohup);
    daemon.wait_for_log("ready");
    daemon.signal(Signal::HUP);
    assert_eq!(lab.ctl_json(&["info"])["streams"], 0, "it serves");
    assert_eq!(daemon.terminate().code(), Some(0), "that was the first signal: {}", daemon.log());
}

#[test]
fn a_filter_of_the_log_that_is_none_is_refused() {
    let lab = Lab::new("log-filter");
    let mut command = lab.daemon_command(&[]);
    command.env("VMS_LOG", "=[bad");
    let mut daemon = Process::spawn("vms-media", command);
    assert_eq!(daemon.wait_for_end(SOON).code(), Some(2));
    let told = daemon.rest_of_log().join("\n");
    assert!(told.contains("VMS_LOG==[bad") && told.contains("vms_media::control=debug"), "{told}");
}

#[test]
fn what_the_system_says_is_said_once() {
    let lab = Lab::new("once");
    let long = lab.path(&"x".repeat(300));
    let tap = |socket: &str| {
        let mut command = Command::new(program("vms-tap"));
        command.args(["--ring-socket", socket, "cam"]);
        command
    };
    for (mut command, words) in [
        (daemon_at(&long, &lab.ring_socket()), "File name too long"),
        (daemon_at(&lab.control_socket(), &long), "File name too long"),
        (tap(&long), "File name too long"),
        (tap(&lab.path("nobody")), "No such file or directory"),
    ] {
        let output = command.output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), told.matches(words).count()), (Some(1), 1), "{told}");
    }

    let _daemon = lab.daemon(&[]);
    let cameras = lab.cameras(&[]);
    lab.setup("cam", &cameras.url("h264"));
    let mut tap = tap(&lab.ring_socket());
    tap.args(["--json", "--from", "oldest"]).stdout(std::fs::File::create("/dev/full").unwrap());
    let told = String::from_utf8(tap.output().unwrap().stderr).unwrap();
    assert_eq!(told.matches("No space left on device").count(), 1, "{told}");
}

#[test]
fn a_second_signal_ends_at_once() {
    let lab = Lab::new("second-signal");
    let mut daemon = lab.daemon(&[]);
    let cameras = lab.cameras(&[]);
    lab.setup("frozen", &cameras.url("h264"));
    lab.watch().wait_for_state("frozen", "streaming");

    // A camera that does not answer TEARDOWN is waited for.
    cameras.process.signal(Signal::STOP);
    daemon.signal(Signal::TERM);
    daemon.wait_for_log("stopping");
    daemon.signal(Signal::INT);
    assert_eq!(daemon.wait_for_end(SOON).code(), Some(1));
    assert!(daemon.rest_of_log().iter().any(|line| line.contains("second signal")), "{}", daemon.log());
    cameras.process.signal(Signal::CONT);
    assert!(!Path::new(&lab.control_socket()).exists() && !Path::new(&lab.ring_socket()).exists());
}

#[test]
fn readers_notice_a_killed_daemon_and_the_next_one_takes_over() {
    let lab = Lab::new("killed");
    let mut daemon = lab.daemon(&[]);
    let cameras = lab.cameras(&[]);
    lab.setup("cam", &cameras.url("h264"));
    let mut tap: Tap = lab.tap(&["--json", "--from", "oldest", "cam"]).into();
    tap.take_records(25, SOON);

    daemon.signal(Signal::KILL);
    daemon.wait_for_end(SOON);
    assert_eq!(tap.process.wait_for_end(SOON).code(), Some(1));
    let told = tap.process.rest_of_log().join("\n");
    assert!(told.contains("the producer has gone"), "{told}");
    assert!(Path::new(&lab.control_socket()).exists() && Path::new(&lab.ring_socket()).exists());

    let mut next = lab.daemon(&[]);
    assert_eq!(lab.ctl_json(&["info"])["streams"], 0);
    lab.setup("cam", &cameras.url("h264"));
    let mut tap: Tap = lab.tap(&["--stamp", "--json", "--from", "oldest", "--count", "25", "cam"]).into();
    assert!(tap.process.wait_for_end(SOON).success(), "{}", tap.process.log());
    assert_flawless("cam", &tap.summaries()["cam"]);
    assert!(next.terminate().success());
}

#[test]
fn a_second_daemon_is_refused_and_leaves_the_first_alone() {
    let lab = Lab::new("second-daemon");
    let mut daemon = lab.daemon(&[]);
    let cameras = lab.cameras(&[]);
    lab.setup("cam", &cameras.url("h264"));
    let mut tap: Tap = lab.tap(&["--stamp", "--json", "--from", "oldest", "cam"]).into();
    tap.take_records(25, SOON);

    for (what, mut second) in [
        ("both sockets", lab.daemon_command(&[])),
        ("the ring socket", daemon_at(&lab.path("other.sock"), &lab.ring_socket())),
        ("the control socket", daemon_at(&lab.control_socket(), &lab.path("other.sock"))),
    ] {
        second.env("VMS_LOG", "info");
        let mut second = Process::spawn("second vms-media", second);
        assert_eq!(second.wait_for_end(SOON).code(), Some(1), "{what}");
        let told = second.rest_of_log().join("\n");
        assert!(
            told.contains("another") && told.contains("choose another path") && !told.contains("ready"),
            "{what}: {told}"
        );
    }

    tap.take_records(25, SOON);
    assert_eq!(lab.ctl_json(&["get", "cam"])["state"], "streaming");
    tap.process.signal(Signal::TERM);
    assert!(tap.process.wait_for_end(SOON).success());
    assert!(daemon.terminate().success());
}

fn daemon_at(control_socket: &str, ring_socket: &str) -> Command {
    let mut command = Command::new(program("vms-media"));
    command.args(["--listen", &format!("unix:{control_socket}"), "--ring-socket", ring_socket]);
    command
}
