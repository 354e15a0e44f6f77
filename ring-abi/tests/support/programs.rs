//! C and C++ programs of this crate: compiled once a run, started, and read line by line.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;

use crate::support::BOUND;

/// What every program of ours is compiled with.
pub(crate) const STRICT: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];
/// What a program that tests run is compiled with besides.
const SANITIZED: [&str; 4] = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"];

pub(crate) fn crate_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Compiles `source` (a path within the crate) with the sanitizers, once a run; the program.
pub(crate) fn sanitized(source: &'static str) -> PathBuf {
    static PROGRAMS: Mutex<BTreeMap<&str, PathBuf>> = Mutex::new(BTreeMap::new());
    // A test that failed here has said so; the others fail for the same reason.
    let mut programs = PROGRAMS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    programs.entry(source).or_insert_with(|| compile_sanitized(source)).clone()
}

fn compile_sanitized(source: &str) -> PathBuf {
    let (compiler, standard) =
        if source.ends_with(".c") { ("gcc", "-std=c11") } else { ("g++", "-std=c++17") };
    let name = Path::new(source).file_stem().and_then(OsStr::to_str).unwrap();
    // Runs side by side compile the same, and each moves its own into place.
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let own = program.with_extension(std::process::id().to_string());
    let mut command = Command::new(compiler);
    command.arg(standard).args(STRICT).args(SANITIZED).arg("-I").arg(crate_dir().join("include"));
    compile(command.arg("-o").arg(&own).arg(crate_dir().join(source)));
    fs::rename(&own, &program).unwrap();
    program
}

/// Runs a compiler that must say nothing.
pub(crate) fn compile(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{command:?}\n{said}");
}

/// A running program, killed when it is dropped.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    errors: Option<JoinHandle<String>>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        // A sanitizer's report ends the program with a status that none of ours uses.
        command.env("ASAN_OPTIONS", "exitcode=99").env("LSAN_OPTIONS", "exitcode=99");
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (to, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            let lines = output.split(b'\n').map_while(Result::ok);
            lines.map(|line| String::from_utf8_lossy(&line).into_owned()).try_for_each(|line| to.send(line))
        });
        let mut errors = child.stderr.take().unwrap();
        let errors = std::thread::spawn(move || {
            let mut said = String::new();
            // What is not UTF-8 ends the text.
            let _ = errors.read_to_string(&mut said);
            said
        });
        Self { child, lines, errors: Some(errors) }
    }

    pub(crate) fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// The next line of its output; `None` at its end.
    pub(crate) fn line(&self) -> Option<String> {
        match self.lines.recv_timeout(BOUND) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no line within {BOUND:?}"),
        }
    }

    /// All lines until its end.
    pub(crate) fn rest(&self) -> Vec<String> {
        std::iter::from_fn(|| self.line()).collect()
    }

    /// Waits for its end: its status, the rest of its output, and what it said on standard error.
    pub(crate) fn finish(mut self) -> (ExitStatus, Vec<String>, String) {
        let lines = self.rest();
        let said = self.errors.take().unwrap().join().unwrap();
        (self.child.wait().unwrap(), lines, said)
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The number that stands behind `name` in a line of JSON.
pub(crate) fn number(line: &str, name: &str) -> u64 {
    let name = format!("\"{name}\":");
    let (_, rest) = line.split_once(&name).unwrap_or_else(|| panic!("no {name} in {line}"));
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().unwrap()
}
