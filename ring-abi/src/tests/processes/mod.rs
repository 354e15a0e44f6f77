//! Producer and reader as two processes: this test program starts itself again, for one side.
//!
//! The child's role stands in its environment. It finds the attach socket by path, or, as the producer, as its standard
//! input; what it has to say are lines on its standard error; its standard output is a socket by which it is let go on
//! after a stop.

pub(super) mod daemon;
mod lapping;
mod producer_steps;
mod reader_steps;

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

const ROLE: &str = "VMS_TEST_ROLE";
const NUMBER: &str = "VMS_TEST_NUMBER";
const SOCKET: &str = "VMS_TEST_SOCKET";

/// The other process's code. Started by hand it has no role and does nothing.
#[test]
fn other_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let number = std::env::var(NUMBER).unwrap().parse().unwrap();
    let socket = std::env::var(SOCKET).unwrap_or_default();
    let socket = Path::new(&socket);
    match role.as_str() {
        "lapped reader" => lapping::lapped_reader(socket, number),
        "stepped producer" => producer_steps::stepped_producer(number),
        "stepped reader" => reader_steps::stepped_reader(socket, number),
        _ => panic!("no such role: {role}"),
    }
}

/// A child process. It does not outlive this.
struct Peer {
    child: Child,
    control: UnixStream,
}

impl Peer {
    fn start(role: &str, number: u64, socket: &Path, stdin: Option<OwnedFd>) -> Self {
        let (control, theirs) = UnixStream::pair().unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "tests::processes::other_process", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(NUMBER, number.to_string())
            .env(SOCKET, socket)
            .stdin(stdin.map_or_else(Stdio::null, Stdio::from))
            .stdout(OwnedFd::from(theirs))
            .stderr(Stdio::piped());
        Self { child: command.spawn().unwrap(), control }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits until it has stopped itself; false when it has ended instead.
    fn wait_stopped(&self) -> bool {
        let states = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::Pid(self.pid()), states).unwrap();
        status.is_some_and(|status| status.stopped())
    }

    fn go_on(&mut self) {
        self.control.write_all(b"g").unwrap();
        kill_process(self.pid(), Signal::CONT).unwrap();
    }

    fn kill(&self) {
        kill_process(self.pid(), Signal::KILL).unwrap();
    }

    /// Waits for its end; what it said.
    fn end(mut self) -> (ExitStatus, String) {
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap(), said)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Both fail when it has ended, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The newest number that was said behind `word`.
fn said_last(said: &str, word: &str) -> Option<u64> {
    let rest = |line: &str| line.strip_prefix(word).and_then(|rest| rest.trim().parse().ok());
    said.lines().rev().find_map(rest)
}
