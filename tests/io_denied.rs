//! Promise: io_uring is used where it can be had; where it is forbidden, streams flow through epoll and the operator is told; who insists on io_uring is
//! told what to do about it.

mod support;

use support::{Lab, Process, SOON, Tap, assert_flawless, without_io_uring};

#[test]
fn a_machine_without_io_uring_is_served_by_epoll() {
    let lab = Lab::new("io-denied-auto");
    let mut daemon = without_io_uring(|| lab.daemon(&["--io", "auto"]));
    let warning = daemon.log();
    assert!(warning.contains("io=epoll") && warning.contains("io_uring is forbidden here"), "{warning}");
    let info = lab.ctl_json(&["info"]);
    assert_eq!(info["io_backend"], "epoll");
    assert!(info["io_backend_reason"].as_str().unwrap().contains("kernel.io_uring_disabled"), "{info}");

    let cameras = lab.cameras(&["--cameras", "4", "--bitrate", "2M"]);
    let ids = ["cam0", "cam1", "cam2", "cam3"];
    for id in ids {
        lab.setup(id, &cameras.url(id));
    }
    let mut tap: Tap =
        lab.tap(&[&["--stamp", "--json", "--from", "oldest", "--count", "400"], &ids[..]].concat()).into();
    assert!(tap.process.wait_for_end(SOON).success());
    let summaries = tap.summaries();
    assert_eq!(summaries.len(), ids.len());
    for (id, summary) in &summaries {
        assert_flawless(id, summary);
    }
    assert!(daemon.terminate().success());
}

#[test]
fn io_uring_is_what_is_used_where_it_can_be_had() {
    let lab = Lab::new("io-auto");
    let mut daemon = lab.daemon(&["--io", "auto"]);
    let info = lab.ctl_json(&["info"]);
    assert!(info["io_backend"] == "uring" && info["io_backend_reason"] == "", "{info}");
    assert!(daemon.terminate().success());
}

#[test]
fn epoll_can_be_asked_for() {
    let lab = Lab::new("io-epoll");
    let mut daemon = lab.daemon(&["--io", "epoll"]);
    let info = lab.ctl_json(&["info"]);
    assert!(info["io_backend"] == "epoll" && info["io_backend_reason"] == "", "{info}");
    assert!(daemon.terminate().success());
}

#[test]
fn who_insists_on_io_uring_is_told_what_to_do() {
    let lab = Lab::new("io-denied");
    let command = lab.daemon_command(&["--io", "uring"]);
    let mut daemon = without_io_uring(|| Process::spawn("vms-media", command));
    let line = daemon.wait_for_log("io_uring is forbidden");
    assert!(line.contains("kernel.io_uring_disabled") && line.contains("seccomp profile"), "{line}");
    assert_eq!(daemon.wait_for_end(SOON).code(), Some(1));
    assert!(!lab.dir.join("control.sock").exists() && !lab.dir.join("ring.sock").exists());
}
