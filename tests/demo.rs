//! Promise: the demo shows every camera, ends with 0 only if nothing was lost, and leaves nothing behind.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Signal, kill_process_group};
use support::{Lab, Process, SOON, program};

#[test]
fn it_runs_for_the_time_given_and_says_that_nothing_was_lost() {
    let lab = Lab::new("demo");
    let mut demo = start(&lab, &["--seconds", "5"]);
    let status = demo.wait_for_end(SOON + Duration::from_secs(5));
    assert!(status.success(), "{status}");
    let output = demo.rest().join("\n");
    for camera in ["cam0", "cam1", "cam2", "cam3"] {
        let is_line = |line: &&str| line.starts_with(camera) && line.contains("streaming");
        assert!(output.lines().any(|line| is_line(&line)), "no line of {camera} in\n{output}");
    }
    assert!(output.contains("H264") && output.contains("H265"), "{output}");
    assert!(output.contains("every unit of every camera arrived once"), "{output}");
    assert!(output.contains("curl http://127.0.0.1:"), "{output}");
    assert!(output.contains("metrics: vms_media_streams{state=\"streaming\"} "), "{output}");
    assert_nothing_left(&lab, &demo);
}

#[test]
fn ctrl_c_ends_it_and_leaves_nothing() {
    let lab = Lab::new("demo-interrupted");
    let mut demo = start(&lab, &[]);
    demo.wait_for_line("a table", SOON, |line| line.starts_with("cam3"));
    // A terminal sends the signal to the whole foreground group.
    kill_process_group(demo.pid(), Signal::INT).unwrap();
    let status = demo.wait_for_end(SOON);
    assert_eq!(status.code(), Some(130));
    assert_nothing_left(&lab, &demo);
}

#[test]
fn a_wrong_argument_is_named() {
    let lab = Lab::new("demo-arguments");
    for arguments in [["--seconds", "x"], ["--seconds", "0"], ["--cameras", "-1"], ["--wrong", "1"]] {
        let mut demo = start(&lab, &arguments);
        assert_eq!(demo.wait_for_end(SOON).code(), Some(2), "{arguments:?}");
    }
}

/// Runs the demo with the programs of this build, in a process group of its own.
fn start(lab: &Lab, arguments: &[&str]) -> Process {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = program("vms-media").parent().unwrap().parent().unwrap().to_owned();
    // A shell that runs the tests in its background has them ignore SIGINT, and bash cannot trap what was ignored.
    let mut command = Command::new("env");
    command.arg("--default-signal=INT").arg(root.join("tools/demo")).arg("--dev").args(arguments);
    command.env("TMPDIR", &lab.dir).env("CARGO_TARGET_DIR", target).process_group(0);
    Process::spawn("tools/demo", command)
}

fn assert_nothing_left(lab: &Lab, demo: &Process) {
    let files: Vec<_> = fs::read_dir(&lab.dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.is_empty(), "files are left: {files:?}");
    let group = demo.pid().as_raw_nonzero().to_string();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        // pid (name) state parent group …; the name may hold blanks, but no ')'.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        assert!(fields.get(2) != Some(&group.as_str()), "a process is left: {stat}");
    }
}
