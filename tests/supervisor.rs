//! Promise: reader programs that the configuration names run as long as the daemon does: one that ends is started again, what it
//! says stands in the log, and none outlives the daemon, however that ends.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::Value;
use support::{Lab, Process, SOON, program};

/// A daemon that looks after the programs in `readers`.
fn daemon(lab: &Lab, readers: &str) -> Process {
    let file = lab.path("vms-media.toml");
    fs::write(&file, readers).unwrap();
    lab.daemon(&["--config", &file])
}

fn reader(lab: &Lab, name: &str) -> Value {
    let info = lab.ctl_json(&["info"]);
    let programs = info["reader_programs"].as_array().unwrap();
    programs.iter().find(|program| program["name"] == name).unwrap().clone()
}

fn pid(reader: &Value) -> Pid {
    Pid::from_raw(i32::try_from(reader["pid"].as_u64().unwrap()).unwrap()).unwrap()
}

#[test]
fn a_reader_that_ends_is_started_again() {
    let lab = Lab::new("supervisor");
    let tap = program("vms-tap");
    let script =
        format!("echo I am $NAME; exec {} --ring-socket $VMS_RING_SOCKET --json cam", tap.to_str().unwrap());
    let daemon_of =
        |script: &str| daemon(&lab, &format!("{}\nenv = {{ NAME = \"a reader\" }}\n", shell("tap", script)));
    let cameras = lab.cameras(&[]);
    let mut daemon = daemon_of(&script);
    // There is no such stream yet, so it ends, and comes again.
    daemon.wait_for_log("I am a reader");
    daemon.wait_for_log("it is started again");
    lab.setup("cam", &cameras.url("h264"));
    daemon.wait_for_log("seq");

    let first = reader(&lab, "tap");
    assert!(first["last_end"].as_str().unwrap().contains("exit status: 1"), "{first}");
    kill_process(pid(&first), Signal::KILL).unwrap();
    daemon.wait_for_log("signal: 9");
    daemon.wait_for_log("seq");
    let second = reader(&lab, "tap");
    assert!(
        second["starts"].as_u64() > first["starts"].as_u64() && second["pid"] != first["pid"],
        "{second}"
    );

    // Told to stop, the daemon takes it along.
    let process = watched(&second);
    assert!(daemon.terminate().success());
    assert!(has_ended(&process, Duration::ZERO));
}

#[test]
fn no_reader_outlives_a_killed_daemon() {
    let lab = Lab::new("orphan");
    let mut daemon = daemon(&lab, &shell("sleeper", "echo here; exec sleep 1000"));
    daemon.wait_for_log("here");
    let process = watched(&reader(&lab, "sleeper"));
    daemon.signal(Signal::KILL);
    daemon.wait_for_end(SOON);
    assert!(has_ended(&process, SOON), "it waits for a daemon that is dead");
}

#[test]
fn a_reader_that_will_not_end_is_ended_with_what_it_has_started() {
    let lab = Lab::new("stubborn");
    let script = "sleep 1000 & echo child $!.; trap '' TERM; echo deaf; while :; do wait; done";
    let mut daemon = daemon(&lab, &shell("deaf", script));
    let line = daemon.wait_for_log("child");
    let child = line.rsplit_once("child ").unwrap().1.split('.').next().unwrap();
    let child = pidfd_open(Pid::from_raw(child.parse().unwrap()).unwrap(), PidfdFlags::empty()).unwrap();
    daemon.wait_for_log("deaf");
    let process = watched(&reader(&lab, "deaf"));
    assert!(daemon.terminate().success());
    assert!(has_ended(&process, Duration::ZERO) && has_ended(&child, SOON));
    assert!(daemon.rest_of_log().iter().any(|line| line.contains("did not end in time")));
}

#[test]
fn what_cannot_be_started_is_told_and_nothing_else_suffers() {
    let lab = Lab::new("not-found");
    let cameras = lab.cameras(&[]);
    let mut daemon =
        daemon(&lab, "[reader.missing]\ncommand = \"no-such-program\"\n[reader.dir]\ncommand = \"/\"\n");
    daemon.wait_for_log("exit status: 127, it was not found: check `command`");
    lab.setup("cam", &cameras.url("h264"));
    lab.watch().wait_for_state("cam", "streaming");
    assert_eq!(reader(&lab, "missing")["pid"], 0);
    assert!(reader(&lab, "dir")["last_end"].as_str().unwrap().contains("cannot be run"));
    assert!(daemon.terminate().success());
}

#[test]
fn a_reader_that_talks_and_ends_for_ever_is_heard_within_its_limit() {
    let lab = Lab::new("chatterbox");
    // Six hundred lines, by both outputs; the third time it ends the daemon, whose log is complete then.
    let script = "seq -f 'line %.0f' 1 300; seq -f 'line %.0f' 301 600 >&2; \
                  echo >> $RUNS; [ $(wc -l < $RUNS) -lt 3 ] || kill $PPID; exit 3";
    let runs = format!("env = {{ RUNS = \"{}\" }}\n", lab.path("runs"));
    let mut daemon = daemon(&lab, &format!("{}\n{runs}", shell("loud", script)));
    assert!(daemon.wait_for_end(SOON).success());
    let log = daemon.rest_of_log();
    let count = |text: &str| log.iter().filter(|line| line.contains(text)).count();
    assert_eq!((count("again_in_s=1"), count("again_in_s=2"), count("reader program started")), (1, 1, 3));
    // A hundred at once and ten a second, of two waits of 1 and 2 s; a slow machine takes longer.
    assert!((100..300).contains(&count(": line ")), "{} lines", count(": line "));
    assert!(count("lines of a reader program were left out") > 0);
}

/// A reader that is a line of shell.
fn shell(name: &str, script: &str) -> String {
    format!("[reader.{name}]\ncommand = \"sh\"\nargs = [\"-c\", \"\"\"{script}\"\"\"]")
}

fn watched(reader: &Value) -> OwnedFd {
    pidfd_open(pid(reader), PidfdFlags::empty()).unwrap()
}

/// Whether the process ends within `bound`.
fn has_ended(process: &OwnedFd, bound: Duration) -> bool {
    poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&bound.try_into().unwrap())).unwrap() == 1
}
