//! Promise: with a state directory streams outlive the daemon, however it ended: what a call has answered is there after
//! `kill -9`, and streaming soon; what cannot be read costs its own stream only.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use support::{Lab, Process, SOON, now};

/// From the start of the daemon until all streams are streaming.
const BACK: Duration = Duration::from_secs(5);
const CANARY: &str = "CaNaRy90c1";

#[test]
fn fifty_streams_are_back_and_streaming_five_seconds_after_a_kill() {
    let lab = Lab::new("kill-50");
    let state = lab.path("state");
    let arguments = ["--state-dir", state.as_str()];
    let mut daemon = lab.daemon(&arguments);
    let cameras = lab.cameras(&["--cameras", "50", "--user", "operator", "--password", CANARY]);
    let mut watch = lab.watch();
    let ids: Vec<String> = (0..50).map(|number| format!("cam{number}")).collect();
    for id in &ids {
        let url = format!("rtsp://operator:{CANARY}@{}/{id}", cameras.address);
        let output = lab.ctl(&["setup", id, &url, "--label", "site=north", "--uid", "4242"]);
        assert!(output.status.success(), "{id}: {}", String::from_utf8_lossy(&output.stderr));
    }
    ids.iter().for_each(|id| drop(watch.wait_for_state(id, "streaming")));
    let words = ["--reattach", "--json"].into_iter().chain(ids.iter().map(String::as_str));
    let reader = Follower(lab.tap(&words.collect::<Vec<_>>()));
    ids.iter().for_each(|id| drop(reader.wait(id, |line| line["seq"].is_u64())));
    let before = lab.ctl_json(&["get", "cam7"]);

    daemon.signal(Signal::KILL);
    daemon.wait_for_end(SOON);
    let start = now();
    let mut daemon = lab.daemon(&arguments);
    let mut watch = lab.watch();
    ids.iter().for_each(|id| drop(watch.wait_for_state(id, "streaming")));
    let took = now() - start;
    assert!(took <= BACK, "{took:?}");
    println!("50 streams were streaming {took:?} after the start of the daemon");
    reader.attached_again(&ids);

    let after = lab.ctl_json(&["get", "cam7"]);
    for field in ["url", "labels", "access", "credentials_set", "create_time"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    assert_eq!(lab.ctl_json(&["list"])["streams"].as_array().unwrap().len(), 50);
    // A set-up of what is there already is none, also after a restart.
    let url = format!("rtsp://operator:{CANARY}@{}/cam7", cameras.address);
    let again = lab.ctl_json(&["setup", "cam7", &url, "--label", "site=north", "--uid", "4242"]);
    assert_eq!(again["created"], false);

    for (path, mode) in [
        (state.clone(), 0o700),
        (format!("{state}/streams"), 0o700),
        (format!("{state}/streams/cam7"), 0o600),
    ] {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode, "{path}");
    }
    assert!(daemon.terminate().success());
    let told = daemon.log();
    assert!(told.contains("streams are set up again") && !told.contains(CANARY), "{told}");
}

#[test]
fn readers_attach_again_by_themselves_after_a_stop_and_after_a_new_set_up() {
    let lab = Lab::new("reattach");
    let state = lab.path("state");
    let arguments = ["--state-dir", state.as_str()];
    let mut daemon = lab.daemon(&arguments);
    let cameras = lab.cameras(&["--cameras", "2"]);
    let ids = ["cam0".to_owned(), "cam1".to_owned()];
    ids.iter().for_each(|id| lab.setup(id, &cameras.url(id)));
    let reader = Follower(lab.tap(&["--reattach", "--json", "--from", "oldest", "cam0", "cam1"]));
    ids.iter().for_each(|id| drop(reader.wait(id, |line| line["seq"] == 5)));
    assert!(daemon.terminate().success());
    let _daemon = lab.daemon(&arguments);
    let first = reader.attached_again(&ids);

    // The other stream, and the daemon, are the same.
    assert!(lab.ctl(&["teardown", "cam0"]).status.success());
    lab.setup("cam0", &cameras.url("cam0"));
    let again = reader.wait("cam0", |line| line["type"] == "attached");
    assert_eq!((&again["is_new"], &again["daemon_epoch"]), (&true.into(), &first["daemon_epoch"]));
    let unit = reader.wait("cam0", |line| line["seq"].is_u64());
    assert_eq!((&unit["seq"], &unit["key"], &unit["gap"]), (&1.into(), &true.into(), &0.into()));
    let Follower(mut reader) = reader;
    assert!(reader.terminate().success(), "{}", reader.log());
}

#[test]
fn what_was_answered_is_kept_whenever_the_daemon_is_killed() {
    let lab = Lab::new("kill-midway");
    let state = lab.path("state");
    let arguments = ["--state-dir", state.as_str()];
    let mut kept: Vec<String> = Vec::new();
    for round in 0..6 {
        let mut daemon = lab.daemon(&arguments);
        let listed = ids(&lab);
        assert!(kept.iter().all(|id| listed.contains(id)), "round {round}: {kept:?} {listed:?}");
        // All at once, and the kill in the middle of them.
        let callers: Vec<(String, Process)> = (0..8)
            .map(|number| {
                let id = format!("cam{round}-{number}");
                let process = lab.spawn_ctl(&["setup", &id, &format!("rtsp://127.0.0.1:9/{id}")]);
                (id, process)
            })
            .collect();
        callers[round].1.wait_for_line("its answer", SOON, |line| line.contains("set up"));
        daemon.signal(Signal::KILL);
        daemon.wait_for_end(SOON);
        for (index, (id, mut caller)) in callers.into_iter().enumerate() {
            if caller.wait_for_end(SOON).success() || index == round {
                kept.push(id);
            }
        }
    }
    let mut daemon = lab.daemon(&arguments);
    let listed = ids(&lab);
    assert!(kept.len() >= 6 && kept.iter().all(|id| listed.contains(id)), "{kept:?} {listed:?}");
    assert!(!daemon.log().contains("set aside"), "{}", daemon.log());
    assert!(daemon.terminate().success());
}

#[test]
fn changes_and_removals_outlive_a_kill_and_a_stop() {
    let lab = Lab::new("kept-changes");
    let state = lab.path("state");
    let arguments = ["--state-dir", state.as_str()];
    let mut daemon = lab.daemon(&arguments);
    for id in ["a", "b", "c"] {
        lab.setup(id, "rtsp://127.0.0.1:9/");
    }
    assert!(lab.ctl(&["access", "a", "--uid", "77"]).status.success());
    assert_eq!(lab.ctl_json(&["teardown", "b"])["existed"], true);
    daemon.signal(Signal::KILL);
    daemon.wait_for_end(SOON);

    let mut daemon = lab.daemon(&arguments);
    assert_eq!(ids(&lab), ["a", "c"]);
    assert_eq!(lab.ctl_json(&["get", "a"])["access"]["uids"][0], 77);
    lab.setup("b", "rtsp://127.0.0.1:9/other");
    assert!(daemon.terminate().success(), "{}", daemon.log());

    let mut daemon = lab.daemon(&arguments);
    assert_eq!(ids(&lab), ["a", "b", "c"], "a stop is no removal");
    assert_eq!(lab.ctl_json(&["get", "b"])["url"], "rtsp://127.0.0.1:9/other");
    assert!(daemon.terminate().success());
}

#[test]
fn a_file_that_cannot_be_read_costs_its_own_stream_only() {
    let lab = Lab::new("kept-corrupt");
    let state = lab.path("state");
    let arguments = ["--state-dir", state.as_str()];
    let mut daemon = lab.daemon(&arguments);
    for id in ["cut", "good", "zero"] {
        lab.setup(id, &format!("rtsp://operator:{CANARY}@127.0.0.1:9/{id}"));
    }
    assert!(daemon.terminate().success());
    let file = |name: &str| format!("{state}/streams/{name}");
    let whole = fs::read(file("cut")).unwrap();
    fs::write(file("cut"), &whole[..whole.len() / 2]).unwrap();
    // What a file system without ordered writes leaves behind after a power cut.
    fs::write(file("zero"), vec![0; whole.len()]).unwrap();

    let mut daemon = lab.daemon(&arguments);
    assert_eq!(ids(&lab), ["good"]);
    let told = daemon.log();
    for id in ["cut", "zero"] {
        assert!(told.contains(&format!("stream={id}")) && told.contains(&format!(".{id}.bad")), "{told}");
        assert!(fs::exists(file(&format!(".{id}.bad"))).unwrap() && !fs::exists(file(id)).unwrap());
    }
    assert!(
        told.contains("set aside") && told.contains("set it up again") && !told.contains(CANARY),
        "{told}"
    );
    lab.setup("cut", "rtsp://127.0.0.1:9/cut");
    assert!(daemon.terminate().success());
}

#[test]
fn a_state_directory_has_one_daemon_and_is_nobody_elses_to_read() {
    let lab = Lab::new("state-dir");
    let state = lab.path("state");
    let mut first = lab.daemon(&["--state-dir", &state]);
    let other = Lab::new("state-dir-other");
    let refused = |why: &str| {
        let mut second = Process::spawn("second vms-media", other.daemon_command(&["--state-dir", &state]));
        assert_eq!(second.wait_for_end(SOON).code(), Some(1));
        let told = second.rest_of_log().join("\n");
        assert!(told.contains(why) && told.contains(&state), "{told}");
    };
    refused("belongs to another running vms-media");
    assert!(first.terminate().success());
    fs::set_permissions(&state, fs::Permissions::from_mode(0o750)).unwrap();
    refused("others may use it (its mode is 0750): chmod 700 it");
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();

    // systemd says it by the environment.
    let mut command = other.daemon_command(&[]);
    command.env("STATE_DIRECTORY", format!("{state}:/nowhere"));
    let mut daemon = Process::spawn("vms-media", command);
    daemon.wait_for_log("ready");
    other.setup("a", "rtsp://127.0.0.1:9/");
    assert!(fs::exists(format!("{state}/streams/a")).unwrap());
    assert!(daemon.terminate().success());
}

#[test]
fn what_cannot_be_saved_is_no_success() {
    let lab = Lab::new("state-full");
    let state = lab.path("state");
    let arguments = ["--state-dir", state.as_str()];
    let mut daemon = lab.daemon(&arguments);
    lab.setup("a", "rtsp://127.0.0.1:9/");
    // Not even root writes where a directory stands.
    let in_the_way = format!("{state}/streams/.b.new");
    fs::create_dir(&in_the_way).unwrap();
    let output = lab.ctl(&["setup", "b", "rtsp://127.0.0.1:9/"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && told.contains("not saved to the state directory"), "{told}");
    assert_eq!(ids(&lab), ["a"], "it is not there either");
    fs::remove_dir(&in_the_way).unwrap();
    lab.setup("b", "rtsp://127.0.0.1:9/");
    assert!(daemon.terminate().success());
}

#[test]
fn without_a_state_directory_nothing_is_kept_and_that_is_told() {
    let lab = Lab::new("stateless");
    let mut daemon = lab.daemon(&[]);
    assert!(daemon.log().contains("streams are forgotten when the daemon ends"), "{}", daemon.log());
    assert!(daemon.terminate().success());
}

fn ids(lab: &Lab) -> Vec<String> {
    let list = lab.ctl_json(&["list"]);
    let streams = list["streams"].as_array().unwrap().iter();
    streams.map(|stream| stream["stream_id"].as_str().unwrap().to_owned()).collect()
}

/// A `vms-tap --reattach --json`.
struct Follower(Process);

impl Follower {
    /// The first line about `id` from now on that is `wanted`.
    fn wait(&self, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = now() + SOON;
        loop {
            let left = end.saturating_duration_since(now());
            let line = self.0.wait_for_line(&format!("what is wanted of {id}"), left, |_| true);
            let line: Value = serde_json::from_str(&line).unwrap();
            if line["id"] == id && wanted(&line) {
                return line;
            }
        }
    }

    /// Waits until each of `ids` was attached again, as another stream than before, and gave a unit: its first. The last of the
    /// lines that told of an attachment.
    fn attached_again(&self, ids: &[String]) -> Value {
        let mut attached: BTreeMap<String, Value> = BTreeMap::new();
        let mut reading = BTreeSet::new();
        let end = now() + SOON;
        while reading.len() < ids.len() {
            let left = end.saturating_duration_since(now());
            let line = self.0.wait_for_line("a line of each stream", left, |_| true);
            let line: Value = serde_json::from_str(&line).unwrap();
            let id = line["id"].as_str().unwrap().to_owned();
            if line["type"] == "attached" {
                assert_eq!(line["is_new"], true, "{line}");
                assert!(attached.insert(id, line).is_none());
            } else if attached.contains_key(&id) && reading.insert(id) {
                assert_eq!(
                    (&line["seq"], &line["key"], &line["gap"]),
                    (&1.into(), &true.into(), &0.into()),
                    "{line}"
                );
            }
        }
        let epochs: BTreeSet<_> = attached.values().map(|line| line["epoch"].to_string()).collect();
        let daemons: BTreeSet<_> = attached.values().map(|line| line["daemon_epoch"].to_string()).collect();
        assert_eq!((epochs.len(), daemons.len()), (ids.len(), 1));
        attached.pop_last().unwrap().1
    }
}
