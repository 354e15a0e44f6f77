//! The laboratory of the end-to-end tests: real processes in a directory of their own, each killed at the test's end.
//!
//! Nothing here sleeps. A test waits for a line that a program prints, or for its end, with a bound.
//!
//! `VMS_TEST_IO` says how daemons do input and output: `uring` and `epoll` as `--io` does, `denied`: io_uring is forbidden
//! to them, as a container's seccomp profile does it. Default: as the daemon likes.

#![expect(clippy::unwrap_used, reason = "a laboratory that cannot be set up has failed the test")]
#![allow(dead_code, reason = "each test file uses its own part of the laboratory")]

pub(crate) mod network;

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use serde_json::Value;

/// How long anything that should happen soon may take, on a loaded machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// The number of `io_uring_setup` on every architecture that Rust runs Linux on.
const IO_URING_SETUP: i64 = 425;

/// Does `act`, and all that the processes it starts do, where io_uring is forbidden as the default profiles of container
/// engines do it: EPERM.
pub(crate) fn without_io_uring<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    let refuse = SeccompAction::Errno(Errno::PERM.raw_os_error().cast_unsigned());
    let rules = [(IO_URING_SETUP, vec![])].into();
    let architecture = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, architecture).unwrap();
    let filter: BpfProgram = filter.try_into().unwrap();
    // A filter holds for the thread that sets it and for its children.
    let thread = || {
        seccompiler::apply_filter(&filter).unwrap();
        act()
    };
    std::thread::scope(|scope| scope.spawn(thread).join().unwrap())
}

/// A directory with the sockets of one daemon, removed at the end.
pub(crate) struct Lab {
    pub(crate) dir: PathBuf,
}

impl Lab {
    pub(crate) fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("vms-test-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Self { dir }
    }

    /// Starts the daemon and returns when it listens.
    pub(crate) fn daemon(&self, arguments: &[&str]) -> Process {
        let daemon = Process::spawn("vms-media", self.daemon_command(arguments));
        daemon.wait_for_log("ready");
        daemon
    }

    /// The daemon with the sockets of this laboratory.
    pub(crate) fn daemon_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("vms-media"));
        command
            .arg("--listen")
            .arg(format!("unix:{}", self.control_socket()))
            .arg("--ring-socket")
            .arg(self.ring_socket())
            .args(arguments)
            .env("VMS_LOG", "debug");
        match std::env::var("VMS_TEST_IO").as_deref() {
            Ok(kind @ ("uring" | "epoll")) if !arguments.contains(&"--io") => command.args(["--io", kind]),
            Ok("uring" | "epoll" | "denied") | Err(_) => &mut command,
            Ok(other) => panic!("VMS_TEST_IO={other}: write uring, epoll or denied"),
        };
        command
    }

    pub(crate) fn control_socket(&self) -> String {
        self.path("control.sock")
    }

    pub(crate) fn ring_socket(&self) -> String {
        self.path("ring.sock")
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().to_owned()
    }

    /// Starts simulated cameras on a free port.
    pub(crate) fn cameras(&self, arguments: &[&str]) -> Cameras {
        self.cameras_at("127.0.0.1:0", arguments)
    }

    /// Starts simulated cameras at `address`.
    pub(crate) fn cameras_at(&self, address: &str, arguments: &[&str]) -> Cameras {
        Cameras::spawn(Self::cameras_command(address, arguments))
    }

    /// The simulator.
    pub(crate) fn cameras_command(address: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("vms-camsim"));
        command.args(["--stats", "--listen", address]).args(arguments);
        command
    }

    /// Starts `vms-tap`.
    pub(crate) fn tap(&self, arguments: &[&str]) -> Process {
        let mut command = Command::new(program("vms-tap"));
        command.arg("--ring-socket").arg(self.ring_socket()).args(arguments);
        Process::spawn("vms-tap", command)
    }

    /// Runs `vms-ctl` to its end.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> Output {
        let mut command = self.ctl_command();
        command.args(arguments).stdin(Stdio::null()).output().unwrap()
    }

    /// Runs `vms-ctl … --json`, which must succeed, and parses what it prints.
    pub(crate) fn ctl_json(&self, arguments: &[&str]) -> Value {
        let output = self.ctl(&[arguments, &["--json"]].concat());
        assert!(
            output.status.success(),
            "vms-ctl {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Sets a stream up; it must be accepted.
    pub(crate) fn setup(&self, id: &str, url: &str) {
        let output = self.ctl(&["setup", id, url]);
        assert!(output.status.success(), "setup {id}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Starts `vms-ctl watch --json`.
    pub(crate) fn watch(&self) -> Watch {
        let process = self.spawn_ctl(&["watch", "--json"]);
        Watch { process, seen: Vec::new(), passed: 0 }
    }

    /// Starts `vms-ctl`.
    pub(crate) fn spawn_ctl(&self, arguments: &[&str]) -> Process {
        let mut command = self.ctl_command();
        command.args(arguments);
        Process::spawn("vms-ctl", command)
    }

    fn ctl_command(&self) -> Command {
        let mut command = Command::new(program("vms-ctl"));
        command.arg("--server").arg(format!("unix:{}", self.control_socket()));
        command
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Simulated cameras that run.
pub(crate) struct Cameras {
    pub(crate) process: Process,
    /// `HOST:PORT`
    pub(crate) address: String,
}

impl Cameras {
    /// Starts a simulator and returns when it listens.
    pub(crate) fn spawn(command: Command) -> Self {
        let process = Process::spawn("vms-camsim", command);
        let line = process.wait_for_line("its address", SOON, |line| line.contains("listening on "));
        let address = line.rsplit(' ').next().unwrap().to_owned();
        Self { process, address }
    }

    /// Gives a command to a simulator with `--control`.
    pub(crate) fn command(&mut self, line: &str) {
        writeln!(self.process.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// The next fact of a simulator with `--truth` that satisfies `wanted`; lines before it are dropped.
    pub(crate) fn wait_for_fact(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let is_it = |line: &str| serde_json::from_str(line).is_ok_and(|fact: Value| wanted(&fact));
        serde_json::from_str(&self.process.wait_for_line(what, SOON + SOON, is_it)).unwrap()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("rtsp://{}/{path}", self.address)
    }

    /// Ends the simulator and gives what it has counted.
    pub(crate) fn stop(mut self) -> Value {
        assert!(self.process.terminate().success(), "{}", self.process.log());
        serde_json::from_str(self.process.rest().last().unwrap()).unwrap()
    }
}

/// A `vms-ctl watch` and the events that it has printed.
pub(crate) struct Watch {
    process: Process,
    seen: Vec<Value>,
    /// How many of these [`Self::next_state`] has passed.
    passed: usize,
}

impl Watch {
    /// The stream as it was when it first was in `state`.
    pub(crate) fn wait_for_state(&mut self, id: &str, state: &str) -> Value {
        let index = self.wait(0, &format!("{id} in state {state}"), is_in_state(id, state));
        self.seen[index]["stream"].clone()
    }

    /// The stream as it was when it next was in `state`, after what the call before this one gave.
    pub(crate) fn next_state(&mut self, id: &str, state: &str) -> Value {
        let index = self.wait(self.passed, &format!("{id} in state {state}"), is_in_state(id, state));
        self.passed = index + 1;
        self.seen[index]["stream"].clone()
    }

    /// Waits until the stream has been removed.
    pub(crate) fn wait_for_removal(&mut self, id: &str) {
        let is_it = |event: &Value| event["stream"]["stream_id"] == id && event["type"] == "removed";
        self.wait(0, &format!("the removal of {id}"), is_it);
    }

    /// The stream as the next event about it says that `wanted` does, after what the call before this one gave.
    pub(crate) fn next_event(&mut self, id: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let is_it = |event: &Value| event["stream"]["stream_id"] == id && wanted(&event["stream"]);
        let index = self.wait(self.passed, what, is_it);
        self.passed = index + 1;
        self.seen[index]["stream"].clone()
    }

    /// The next event's stream, whichever it is; `Null` for an event that is about none.
    pub(crate) fn next_of_any(&self, bound: Duration) -> Value {
        let line = self.process.wait_for_line("an event", bound, |_| true);
        serde_json::from_str::<Value>(&line).unwrap()["stream"].take()
    }

    /// After the daemon's end: all that it printed, on either stream.
    pub(crate) fn everything(&mut self) -> String {
        self.process.wait_for_end(SOON);
        let seen = self.seen.iter().map(ToString::to_string);
        let rest = self.process.rest().into_iter().chain(self.process.rest_of_log());
        seen.chain(rest).map(|line| line + "\n").collect()
    }

    /// Index of the first event of those that were seen, or will be seen soon, that satisfies `wanted`.
    fn wait(&mut self, from: usize, what: &str, wanted: impl Fn(&Value) -> bool) -> usize {
        let mut index = from;
        // Streams that are none of the caller's business may go on telling for ever.
        let end = now() + SOON + SOON;
        loop {
            match self.seen.get(index) {
                Some(event) if wanted(event) => return index,
                Some(_) => index += 1,
                None => {
                    let left = end.saturating_duration_since(now());
                    let line = self.process.wait_for_line(what, left, |_| true);
                    self.seen.push(serde_json::from_str(&line).unwrap());
                }
            }
        }
    }
}

fn is_in_state(id: &str, state: &str) -> impl Fn(&Value) -> bool {
    move |event| event["stream"]["stream_id"] == id && event["stream"]["state"] == state
}

/// A child process whose output is collected line by line; killed when dropped.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
    log: Arc<Mutex<VecDeque<String>>>,
}

impl Process {
    pub(crate) fn spawn(name: &'static str, mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = match std::env::var("VMS_TEST_IO").as_deref() {
            Ok("denied") => without_io_uring(|| command.spawn()),
            _ => command.spawn(),
        };
        let mut child = child.unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let log = Arc::new(Mutex::new(VecDeque::new()));
        let stdout = collect(child.stdout.take().unwrap(), "out", &log);
        let stderr = collect(child.stderr.take().unwrap(), "err", &log);
        Self { name, child, stdout, stderr, log }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Writes a line to standard input.
    pub(crate) fn tell(&self, line: &str) {
        writeln!(self.child.stdin.as_ref().unwrap(), "{line}").unwrap();
    }

    /// The next line on standard output, or `None` at its end or after `bound`.
    pub(crate) fn next_line(&self, bound: Duration) -> Option<String> {
        self.stdout.recv_timeout(bound).ok()
    }

    /// The first line on standard output that satisfies `wanted`; lines before it are dropped.
    pub(crate) fn wait_for_line(&self, what: &str, bound: Duration, wanted: impl Fn(&str) -> bool) -> String {
        self.wait(&self.stdout, what, bound, wanted)
    }

    /// The first line on standard error that contains `text`.
    pub(crate) fn wait_for_log(&self, text: &str) -> String {
        self.wait(&self.stderr, text, SOON, |line| line.contains(text))
    }

    fn wait(
        &self,
        lines: &Receiver<String>,
        what: &str,
        bound: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> String {
        let end = now() + bound;
        loop {
            match lines.recv_timeout(end.saturating_duration_since(now())) {
                Ok(line) if wanted(&line) => return line,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    panic!("{} did not print {what} within {bound:?}", self.name)
                }
                Err(RecvTimeoutError::Disconnected) => panic!("{} ended before it printed {what}", self.name),
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Asks the process to end and waits for it.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_for_end(SOON)
    }

    /// Waits for the process to end by itself.
    pub(crate) fn wait_for_end(&mut self, bound: Duration) -> ExitStatus {
        if let Some(status) = self.child.try_wait().unwrap() {
            return status;
        }
        let pidfd = pidfd_open(self.pid(), PidfdFlags::empty()).unwrap();
        let timeout = bound.try_into().unwrap();
        let ready = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)).unwrap();
        assert!(ready == 1, "{} is still running after {bound:?}", self.name);
        self.child.wait().unwrap()
    }

    /// After the end: what nobody has taken of standard output.
    pub(crate) fn rest(&self) -> Vec<String> {
        self.stdout.iter().collect()
    }

    /// After the end: what nobody has taken of standard error.
    pub(crate) fn rest_of_log(&self) -> Vec<String> {
        self.stderr.iter().collect()
    }

    /// Everything that was printed lately, on either stream.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().iter().fold(String::new(), |all, line| all + line + "\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let tail = log.lines().rev().take(20).collect::<Vec<_>>();
            eprintln!("--- last lines of {}", self.name);
            tail.iter().rev().for_each(|line| eprintln!("{line:.300}"));
        }
    }
}

/// Sends a child's lines to the test, and keeps the last thousand for the report of a failure.
fn collect(
    stream: impl Read + Send + 'static,
    tag: &'static str,
    log: &Arc<Mutex<VecDeque<String>>>,
) -> Receiver<String> {
    let (sender, receiver) = channel();
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut kept = log.lock().unwrap();
            if kept.len() == 1000 {
                kept.pop_front();
            }
            kept.push_back(format!("{tag}: {line}"));
            drop(kept);
            let _ = sender.send(line);
        }
    });
    receiver
}

/// A program of the workspace, built beside the daemon.
pub(crate) fn program(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_vms-media")).with_file_name(name);
    assert!(path.exists(), "{} is not built: run `cargo build --workspace --bins` first", path.display());
    path
}

/// Runs another's program to its end, which must be a success, and gives its standard output.
pub(crate) fn run(
    name: impl AsRef<OsStr>,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Vec<u8> {
    let name = name.as_ref();
    let output = Command::new(name).args(arguments).stdin(Stdio::null()).output();
    let name = name.display();
    let output =
        output.unwrap_or_else(|error| panic!("{name} does not start ({error}): ./tools/test installs it"));
    assert!(output.status.success(), "{name} failed: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Starts a server that is not ours: it serves each file under its stem, in real time from its start. Gives its port.
pub(crate) fn gstreamer_server(files: &[PathBuf]) -> (Process, u16) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/gst_rtsp_server.py");
    let mut command = Command::new("/usr/bin/python3");
    command.arg(script);
    for file in files {
        let name = file.file_stem().unwrap().to_str().unwrap();
        command.arg(format!("{name}={}", file.to_str().unwrap()));
    }
    let server = Process::spawn("gst_rtsp_server", command);
    let line = server.wait_for_line("its port", SOON, |line| line.starts_with("port "));
    (server, line["port ".len()..].trim().parse().unwrap())
}

#[expect(clippy::disallowed_methods, reason = "the bound of a wait for a real process")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A `vms-tap --json` and what it has printed.
pub(crate) struct Tap {
    pub(crate) process: Process,
    records: Vec<Value>,
    summaries: BTreeMap<String, Value>,
}

impl From<Process> for Tap {
    fn from(process: Process) -> Self {
        Self { process, records: Vec::new(), summaries: BTreeMap::new() }
    }
}

impl Tap {
    /// Waits for `count` more records and gives them.
    pub(crate) fn take_records(&mut self, count: usize, bound: Duration) -> &[Value] {
        let from = self.records.len();
        let end = now() + bound;
        while self.records.len() < from + count {
            let left = end.saturating_duration_since(now());
            let Some(line) = self.process.next_line(left) else {
                panic!("vms-tap printed {} of {count} records within {bound:?}", self.records.len() - from)
            };
            self.take(&line);
        }
        &self.records[from..]
    }

    /// Takes what has been printed already and tells how many records it was.
    pub(crate) fn take_what_is_there(&mut self) -> usize {
        let from = self.records.len();
        while let Some(line) = self.process.next_line(Duration::ZERO) {
            self.take(&line);
        }
        self.records.len() - from
    }

    /// All records that were taken.
    pub(crate) fn history(&self) -> &[Value] {
        &self.records
    }

    /// After the end: the summary of each stream.
    pub(crate) fn summaries(&mut self) -> BTreeMap<String, Value> {
        for line in self.process.rest() {
            self.take(&line);
        }
        std::mem::take(&mut self.summaries)
    }

    fn take(&mut self, line: &str) {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        if value["type"] == "summary" {
            let streams = value["streams"].as_array().unwrap();
            self.summaries
                .extend(streams.iter().map(|one| (one["id"].as_str().unwrap().to_owned(), one.clone())));
        } else {
            self.records.push(value);
        }
    }
}

/// Asserts that a reader with `--stamp` got every unit of one session with the camera, once, in order and intact.
pub(crate) fn assert_flawless(id: &str, summary: &Value) {
    assert_intact(id, summary);
    assert_eq!(summary["stamps"]["restarts"], 0, "{id}: stamps began anew\n{summary:#}");
}

/// The same for a camera that begins new timelines: between two of them something may be missing unseen.
pub(crate) fn assert_intact(id: &str, summary: &Value) {
    for counter in ["lost", "rejected", "skipped", "damaged"] {
        assert_eq!(summary[counter], 0, "{id}: {counter}\n{summary:#}");
    }
    for error in ["missing", "corrupt", "repeated", "absent"] {
        assert_eq!(summary["stamps"][error], 0, "{id}: stamps {error}\n{summary:#}");
    }
    assert_eq!(summary["stamps"]["good"], summary["units"], "{id}\n{summary:#}");
}
