//! Promise: only who may read a stream reads it; when access is withdrawn it ends for the one and for nobody else.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, Signal};
use serde_json::Value;
use support::{Cameras, Lab, Process, SOON, Tap, assert_flawless, program};

/// Users that no machine has.
const GUEST: u32 = 54_321;
const STRANGER: u32 = 54_322;
const OTHER_GUEST: u32 = 54_323;

#[test]
fn a_guest_reads_what_it_may_until_that_is_withdrawn_and_nobody_else_notices() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("only root can act as another user: not tested");
        return;
    }
    let lab = Lab::new("access");
    let daemon = lab.daemon(&["--ring-socket-mode", "0666"]);
    let cameras = lab.cameras(&["--cameras", "2"]);
    set_up(&lab, &cameras, "door", &["--uid", &GUEST.to_string()]);
    set_up(&lab, &cameras, "vault", &[]);

    let mut owner: Tap = lab.tap(&["door", "--stamp", "--json", "--from", "oldest"]).into();
    let mut guest: Tap = tap_as(&lab, GUEST, &["door", "--json"]).into();
    owner.take_records(30, SOON);
    guest.take_records(30, SOON);
    refused(tap_as(&lab, GUEST, &["vault"]), "may not read");
    refused(tap_as(&lab, GUEST, &["nothing"]), "may not read");
    refused(tap_as(&lab, STRANGER, &["door"]), "closed the connection");
    daemon.wait_for_log("turned away: no stream's access list names it");

    let segments = held_streams(daemon.pid());
    let stream = lab.ctl_json(&["access", "door"]);
    assert_eq!(stream["access"]["uids"].as_array().unwrap().len(), 0);
    guest.process.wait_for_log("the ring ended: Rotated, Revoked");
    assert!(guest.process.wait_for_end(SOON).success());
    let after = guest.history().last().unwrap()["seq"].as_u64().unwrap();
    refused(tap_as(&lab, GUEST, &["door"]), "closed the connection");

    // The owner went on behind the very unit, and the segment that was left is freed.
    let went_on = owner.take_records(100, SOON).last().unwrap()["seq"].as_u64().unwrap();
    assert!(went_on > after, "{went_on} is not behind {after}");
    owner.process.signal(Signal::TERM);
    assert!(owner.process.wait_for_end(SOON).success());
    assert_flawless("door", &owner.summaries()["door"]);
    assert_eq!(held_streams(daemon.pid()), segments, "memory of a stream that was left");

    // Let in again, the guest reads again.
    lab.ctl_json(&["access", "door", "--gid", &GUEST.to_string()]);
    let mut again: Tap = tap_as(&lab, GUEST, &["door", "--json"]).into();
    again.take_records(10, SOON);
}

#[test]
fn strangers_and_guests_that_connect_without_end_keep_no_owner_out() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("only root can act as another user: not tested");
        return;
    }
    let lab = Lab::new("access-flood");
    let _daemon = lab.daemon(&["--ring-socket-mode", "0666"]);
    let cameras = lab.cameras(&["--cameras", "1"]);
    set_up(&lab, &cameras, "door", &["--uid", &GUEST.to_string(), "--uid", &OTHER_GUEST.to_string()]);
    lab.watch().wait_for_state("door", "streaming");
    let floods = [STRANGER, GUEST].map(|user| {
        let flood = attacker_as(&lab, user, "flood");
        flood.wait_for_line("that it floods", SOON, |line| line.starts_with('{'));
        flood
    });
    for _ in 0..3 {
        let mut owner: Tap = lab.tap(&["door", "--json", "--count", "3"]).into();
        owner.take_records(3, std::time::Duration::from_secs(5));
        // And the flood of one guest is not another's.
        let mut other: Tap = tap_as(&lab, OTHER_GUEST, &["door", "--json", "--count", "3"]).into();
        other.take_records(3, std::time::Duration::from_secs(5));
    }
    drop(floods);
}

#[test]
fn a_guest_that_is_refused_without_end_may_still_attach() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("only root can act as another user: not tested");
        return;
    }
    let lab = Lab::new("access-refused");
    let _daemon = lab.daemon(&["--ring-socket-mode", "0666"]);
    let cameras = lab.cameras(&["--cameras", "1"]);
    set_up(&lab, &cameras, "door", &["--uid", &GUEST.to_string()]);
    lab.watch().wait_for_state("door", "streaming");
    // 2,500 rings of 132 KiB would be more than a guest may be given. REFUSED (FORBIDDEN) each time.
    let guest = attacker_as(&lab, GUEST, "ask");
    let line = guest.wait_for_line("that it is attached", SOON, |line| line.starts_with('{'));
    assert_eq!(line, r#"{"codes": [502]}"#);
}

#[test]
fn nobody_waits_for_descriptors_that_strangers_and_guests_give_away() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("only root can act as another user: not tested");
        return;
    }
    let lab = Lab::new("access-linger");
    let _daemon = lab.daemon(&["--ring-socket-mode", "0666"]);
    let cameras = lab.cameras(&["--cameras", "1"]);
    set_up(&lab, &cameras, "door", &["--uid", &GUEST.to_string()]);
    lab.watch().wait_for_state("door", "streaming");
    let attackers = [STRANGER, GUEST].map(|user| {
        let attacker = attacker_as(&lab, user, "linger");
        attacker.wait_for_line("what it gave", SOON, |line| line.starts_with('{'));
        attacker
    });
    for _ in 0..3 {
        let mut owner: Tap = lab.tap(&["door", "--json", "--count", "3"]).into();
        owner.take_records(3, std::time::Duration::from_secs(5));
        assert!(lab.spawn_ctl(&["get", "door"]).wait_for_end(std::time::Duration::from_secs(5)).success());
    }
    drop(attackers);
}

#[test]
fn who_kept_the_memory_and_detached_sees_no_more_either() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("only root can act as another user: not tested");
        return;
    }
    let lab = Lab::new("access-kept");
    let _daemon = lab.daemon(&["--ring-socket-mode", "0666"]);
    let cameras = lab.cameras(&["--cameras", "1"]);
    set_up(&lab, &cameras, "door", &["--uid", &GUEST.to_string()]);
    lab.watch().wait_for_state("door", "streaming");
    let guest = attacker_as(&lab, GUEST, "keep");
    let next = || guest.next_line(SOON).expect("it looks on");
    let first = next();
    guest.wait_for_line("a later unit", SOON, |line| line != first);

    lab.ctl_json(&["access", "door"]);
    let mut owner: Tap = lab.tap(&["door", "--json"]).into();
    owner.take_records(50, SOON);
    // What it said until now, then what it says: two seconds of video later it has seen the last of it.
    while guest.next_line(std::time::Duration::ZERO).is_some() {}
    let frozen = next();
    owner.take_records(25, SOON);
    assert!((0..10).all(|_| next() == frozen), "it still sees units");
}

#[test]
fn withdrawals_while_one_is_under_way_are_obeyed_together_and_nobody_else_notices() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("only root can act as another user: not tested");
        return;
    }
    let lab = Lab::new("access-queue");
    let mut daemon = lab.daemon(&["--ring-socket-mode", "0666"]);
    let cameras = lab.cameras(&["--cameras", "1"]);
    let users = [GUEST, OTHER_GUEST, STRANGER].map(|user| user.to_string());
    let [one, two, three] = users.each_ref().map(String::as_str);
    set_up(&lab, &cameras, "door", &["--uid", one, "--uid", two, "--uid", three]);
    let mut watch = lab.watch();
    // A reader that never reads: the first segment that is left is kept for it until the next is left.
    let mut idle = attacker_as(&lab, 0, "hoard");
    idle.wait_for_line("that it holds the stream", SOON, |line| line == "holds door");
    let mut owner: Tap = lab.tap(&["door", "--stamp", "--json", "--from", "oldest"]).into();
    let taps = [GUEST, OTHER_GUEST, STRANGER].map(|user| Tap::from(tap_as(&lab, user, &["door", "--json"])));
    let [mut first, mut second, mut third] = taps;
    for tap in [&mut owner, &mut first, &mut second, &mut third] {
        tap.take_records(30, SOON);
    }

    let answer = lab.ctl_json(&["access", "door", "--uid", two, "--uid", three]);
    let since = answer["withdrawal_pending_since"].clone();
    assert!(since.is_string(), "{answer}");
    assert_eq!(watch.next_event("door", "the withdrawal", is_pending)["withdrawal_pending_since"], since);
    assert!(first.process.wait_for_end(SOON).success());
    let left_at = last_seq(&first);
    while last_seq(&second) <= left_at {
        second.take_records(1, SOON);
    }
    // The second has followed to where the first may not go, and is cut off from there, though somebody is still fed from the first
    // segment.
    for (answer, refused_user) in [
        (lab.ctl_json(&["access", "door", "--uid", three]), OTHER_GUEST),
        (lab.ctl_json(&["access", "door"]), STRANGER),
    ] {
        assert!(is_pending(&answer), "{answer}");
        refused(tap_as(&lab, refused_user, &["door"]), "closed the connection");
    }
    for guest in [&mut second, &mut third] {
        assert!(guest.process.wait_for_end(SOON).success(), "who is withdrawn is cut off");
    }
    watch.next_event("door", "the end of the withdrawals", |stream| !is_pending(stream));

    owner.take_records(50, SOON);
    owner.process.signal(Signal::TERM);
    assert!(owner.process.wait_for_end(SOON).success());
    assert_flawless("door", &owner.summaries()["door"]);
    idle.signal(Signal::KILL);
    idle.wait_for_end(SOON);
    wait_for_segments(&lab, &daemon, 1);
    assert!(daemon.terminate().success());
    let moves = daemon.rest_of_log().iter().filter(|line| line.contains("goes on in other memory")).count();
    // Three when the machine is so slow that the second is over before the third is asked for.
    assert!((2..=3).contains(&moves), "{moves} moves for three withdrawals");
}

#[test]
fn a_reader_that_has_stopped_while_access_is_withdrawn_loses_nothing() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("only root can act as another user: not tested");
        return;
    }
    let lab = Lab::new("access-stopped");
    let daemon = lab.daemon(&["--ring-socket-mode", "0666"]);
    // A hundred pictures a second: a reader's ring of 128 records is full soon after it has stopped.
    let media = concat!("cam0=", env!("CARGO_MANIFEST_DIR"), "/tests/media/testsrc2.h264:100");
    let cameras = lab.cameras(&["--media", media]);
    set_up(&lab, &cameras, "door", &["--uid", &GUEST.to_string()]);
    let mut stopped: Tap = lab.tap(&["door", "--stamp", "--json", "--from", "oldest"]).into();
    let mut guest: Tap = tap_as(&lab, GUEST, &["door", "--json"]).into();
    // Its units are this test's clock.
    let mut clock: Tap = lab.tap(&["door", "--stamp", "--json", "--from", "oldest"]).into();
    clock.take_records(1, SOON);
    let mut wait = |units| {
        clock.take_what_is_there();
        let from = last_seq(&clock);
        while last_seq(&clock) < from + units {
            clock.take_records(1, SOON);
        }
        last_seq(&clock)
    };
    stopped.take_records(200, SOON);
    guest.take_records(1, SOON);
    stopped.process.signal(Signal::STOP);
    wait(300);
    lab.ctl_json(&["access", "door"]);
    assert!(guest.process.wait_for_end(SOON).success());
    // For longer than any segment that was left is kept at least.
    let newest = wait(150);
    assert_eq!(held_streams(daemon.pid()), [2; 2], "what was left is kept for who is behind");
    assert!(!is_pending(&lab.ctl_json(&["get", "door"])), "and nobody waits for that");
    stopped.process.signal(Signal::CONT);

    while last_seq(&stopped) < newest + 100 {
        stopped.take_records(1, SOON);
    }
    for mut tap in [stopped, clock] {
        tap.process.signal(Signal::TERM);
        assert!(tap.process.wait_for_end(SOON).success());
        assert_flawless("door", &tap.summaries()["door"]);
    }
    wait_for_segments(&lab, &daemon, 1);
}

#[test]
fn a_stream_that_is_torn_down_while_withdrawals_wait_leaves_nothing() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("only root can act as another user: not tested");
        return;
    }
    let lab = Lab::new("access-torn-down");
    let daemon = lab.daemon(&["--ring-socket-mode", "0666"]);
    let cameras = lab.cameras(&["--cameras", "1"]);
    let [one, two] = [GUEST, OTHER_GUEST].map(|user| user.to_string());
    set_up(&lab, &cameras, "door", &["--uid", &one, "--uid", &two]);
    let mut watch = lab.watch();
    let idle = attacker_as(&lab, 0, "hoard");
    idle.wait_for_line("that it holds the stream", SOON, |line| line == "holds door");
    let [mut first, mut second] =
        [GUEST, OTHER_GUEST].map(|user| Tap::from(tap_as(&lab, user, &["door", "--json"])));
    first.take_records(30, SOON);
    second.take_records(30, SOON);
    lab.ctl_json(&["access", "door", "--uid", &two]);
    assert!(first.process.wait_for_end(SOON).success());
    let left_at = last_seq(&first);
    while last_seq(&second) <= left_at {
        second.take_records(1, SOON);
    }
    assert!(is_pending(&lab.ctl_json(&["access", "door"])));
    lab.ctl_json(&["teardown", "door"]);
    watch.wait_for_removal("door");
    second.process.wait_for_end(SOON);
    drop(idle);
    wait_for_segments(&lab, &daemon, 0);

    set_up(&lab, &cameras, "door", &["--uid", &one]);
    Tap::from(tap_as(&lab, GUEST, &["door", "--json"])).take_records(10, SOON);
    assert!(is_pending(&lab.ctl_json(&["access", "door"])), "and nothing of it stands in the way");
    watch.next_event("door", "the end of the withdrawal", |stream| {
        !is_pending(stream) && stream["access"]["uids"].as_array().is_some_and(Vec::is_empty)
    });
    wait_for_segments(&lab, &daemon, 1);
}

#[test]
fn a_ring_socket_mode_that_is_none_is_refused() {
    let lab = Lab::new("access-mode");
    let output = lab.daemon_command(&["--ring-socket-mode", "0777"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("0600, 0660 or 0666"));
}

fn set_up(lab: &Lab, cameras: &Cameras, id: &str, access: &[&str]) {
    let url = cameras.url("cam0");
    let output = lab.ctl(&[&["setup", id, &url], access].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// `vms-tap` of another user, from a place that other users can reach.
fn tap_as(lab: &Lab, user: u32, arguments: &[&str]) -> Process {
    let copy = lab.path("vms-tap");
    if !fs::exists(&copy).unwrap() {
        // By another program: while this one writes a file, a child that another test starts has it open, too, and who may be
        // written cannot be run.
        support::run("cp", [program("vms-tap").as_os_str(), copy.as_ref()]);
    }
    let mut command = Command::new(copy);
    command.arg("--ring-socket").arg(lab.ring_socket()).args(arguments).uid(user).gid(user);
    Process::spawn("vms-tap", command)
}

/// `hostile_reader.py` of another user, from a place that other users can reach.
fn attacker_as(lab: &Lab, user: u32, role: &str) -> Process {
    let script = lab.path("hostile_reader.py");
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/hostile_reader.py"), &script).unwrap();
    let mut command = Command::new("/usr/bin/python3");
    command.arg(script).args([role, &lab.ring_socket(), "door"]).uid(user).gid(user);
    Process::spawn("hostile_reader.py", command)
}

fn refused(mut tap: Process, why: &str) {
    assert!(!tap.wait_for_end(SOON).success());
    let log = tap.rest_of_log().join("\n");
    assert!(log.contains(why), "{why:?} is not in {log}");
}

fn is_pending(stream: &Value) -> bool {
    stream["withdrawal_pending_since"].is_string()
}

fn last_seq(tap: &Tap) -> u64 {
    tap.history().last().unwrap()["seq"].as_u64().unwrap()
}

/// Memory is freed on a thread of its own, of which nobody is told: looked for once a call of the daemon.
fn wait_for_segments(lab: &Lab, daemon: &Process, count: usize) {
    let end = support::now() + SOON;
    while held_streams(daemon.pid()) != [count; 2] {
        assert!(support::now() < end, "{:?} segments, not {count}", held_streams(daemon.pid()));
        lab.ctl_json(&["info"]);
    }
}

/// Arenas that the daemon holds: as it maps them, and as it has them open.
fn held_streams(daemon: Pid) -> [usize; 2] {
    let process = format!("/proc/{}", daemon.as_raw_nonzero());
    let maps = fs::read_to_string(format!("{process}/maps")).unwrap();
    let descriptors = fs::read_dir(format!("{process}/fd")).unwrap();
    // A descriptor may be closed while it is looked at.
    let files = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let is_stream = |name: &str| name.contains("memfd:vms-stream");
    let open = files.filter(|file| is_stream(&file.to_string_lossy())).count();
    // A mapping whose pages are of two kinds is told in two lines; the first of them begins with the file.
    let begins = |line: &&str| line.split_whitespace().nth(2) == Some("00000000");
    [maps.lines().filter(|line| is_stream(line)).filter(begins).count(), open]
}
