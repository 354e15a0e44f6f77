//! Promise: where io_uring is forbidden, the daemon does not start and says what to do about it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::process::Command;

use rustix::io::Errno;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use support::{Lab, Process, SOON, program};

/// The number of `io_uring_setup` on every architecture that Rust runs Linux on.
const IO_URING_SETUP: i64 = 425;

#[test]
fn a_machine_without_io_uring_is_told_what_to_do() {
    let lab = Lab::new("io-denied");
    let mut command = Command::new(program("vms-media"));
    command.arg("--listen").arg(format!("unix:{}", lab.control_socket()));
    command.arg("--ring-socket").arg(lab.ring_socket());
    // A filter holds for the thread that sets it and for its children.
    let daemon = std::thread::spawn(move || {
        seccompiler::apply_filter(&deny_io_uring()).unwrap();
        Process::spawn("vms-media", command)
    });
    let mut daemon = daemon.join().unwrap();
    let line = daemon.wait_for_log("io_uring is forbidden");
    assert!(line.contains("kernel.io_uring_disabled") && line.contains("seccomp profile"), "{line}");
    assert_eq!(daemon.wait_for_end(SOON).code(), Some(1));
    assert!(!lab.dir.join("control.sock").exists() && !lab.dir.join("ring.sock").exists());
}

/// What the default profiles of container engines do: EPERM.
fn deny_io_uring() -> BpfProgram {
    let refuse = SeccompAction::Errno(Errno::PERM.raw_os_error().cast_unsigned());
    let rules = [(IO_URING_SETUP, vec![])].into();
    let architecture = std::env::consts::ARCH.try_into().unwrap();
    SeccompFilter::new(rules, SeccompAction::Allow, refuse, architecture).unwrap().try_into().unwrap()
}
