//! The step between the daemon and a reader program that it starts: `vms-media --launch PARENT -- PROGRAM [ARG]…`.
//!
//! A reader whose daemon was killed must end too: it would wait for a daemon that starts readers of its own. Linux sends a
//! child a signal when its parent dies, if the child asks for that itself; reader programs do not know that they should. So
//! the daemon starts itself, asks, and becomes the program.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// What the command line begins with.
pub const LAUNCH: &str = "--launch";
/// Exit status when the program was not found, as shells have it.
pub const NOT_FOUND: u8 = 127;
/// Exit status when the program cannot be run, as shells have it.
pub const NOT_RUN: u8 = 126;

/// Becomes the program that `arguments` (behind [`LAUNCH`]) name, if the process that they name is still our parent.
/// Returns only when that failed, after it was said on standard error.
pub fn launch(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut arguments = arguments.into_iter();
    let parent = arguments.next().and_then(|word| word.to_str()?.parse::<i32>().ok());
    let (Some(parent), Some(_), Some(program)) = (parent, arguments.next(), arguments.next()) else {
        eprintln!(
            "error: {LAUNCH} is what vms-media starts reader programs with: {LAUNCH} PARENT -- PROGRAM [ARG]..."
        );
        return ExitCode::from(2);
    };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::TERM)) {
        eprintln!("error: this program would outlive its daemon: {error}");
        return ExitCode::from(NOT_RUN);
    }
    // In this order: a parent that dies from here on is noticed.
    if getppid().is_none_or(|pid| pid.as_raw_nonzero().get() != parent) {
        return ExitCode::SUCCESS;
    }
    let error = Command::new(&program).args(arguments).exec();
    eprintln!("error: {}: {error}", program.to_string_lossy());
    ExitCode::from(if error.kind() == std::io::ErrorKind::NotFound { NOT_FOUND } else { NOT_RUN })
}
