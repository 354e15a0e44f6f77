//! `vms-tap`: reads streams from the rings of a running vms-media and prints, writes or verifies them.
//!
//! ```text
//!  options ─▶ tap (the loop) ─▶ stream ─┬─▶ record    one JSON line a unit
//!                 │                     ├─▶ elementary  Annex B file
//!            ring_abi::Reader           └─▶ stamps ─▶ latency
//!                                             └──▶ summary
//! ```
//!
//! One session for all streams, one thread. Exit code: 0 when all went well; with `--stamp` only if moreover every
//! stream gave units in one session with its camera, none was lost, and every stamp was right; 1 otherwise; 2 for a command
//! line that means nothing.

mod elementary;
mod latency;
mod options;
mod reattach;
mod record;
mod stamps;
mod stream;
mod summary;
mod table;
mod tap;
mod unit;

use std::process::ExitCode;

use clap::Parser;

use crate::options::Options;

fn main() -> ExitCode {
    match tap::run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("vms-tap: {error:#}");
            ExitCode::FAILURE
        }
    }
}
