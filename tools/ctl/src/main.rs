//! `vms-ctl`: the control plane on the command line.
//!
//! ```text
//! args ─▶ commands ──gRPC──▶ daemon
//!            ├─▶ view   JSON: one value, or one a line for `watch`; names are stable
//!            ├─▶ table  columns for people
//!            └─▶ doctor the machine and a camera, without a daemon
//! ```
//! Exit status: 0 done, 1 refused or unreachable (one line `error: …` on standard error), 2 wrong usage.
//!
//! A password on the command line can be seen by every user of the machine in the process list, and no program can
//! portably take it back: use `--password-file`.

mod args;
mod client;
mod commands;
mod doctor;
mod patience;
mod problem;
mod recordings;
mod table;
mod view;

use std::io;
use std::process::ExitCode;

use clap::Parser;

use args::Args;
use problem::Problem;

fn main() -> ExitCode {
    let args = Args::parse();
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => exit_code(runtime.block_on(commands::run(args, &mut io::stdout().lock()))),
        Err(error) => exit_code(Err(error.into())),
    }
}

fn exit_code(outcome: Result<(), Problem>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough, as in `vms-ctl watch | head`.
        Err(Problem::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::from(problem.exit_code())
        }
    }
}
