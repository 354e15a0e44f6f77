//! `doctor`: what this machine has and allows, whether a daemon runs, and what a camera says, in plain words.
//!
//! ```text
//!  machine (reads, tries) ─▶ kernel, limits ─┐
//!  daemon  (asks)                           ─┼─▶ Finding … ─▶ a line each, or JSON
//!  camera  (drives ingest::Camera)          ─┘
//! ```
//! It is the daemon's own code that tries io_uring, counts memory and speaks with the camera, so the two cannot disagree. No daemon
//! is needed, and none is disturbed.

mod adjtimex;
mod camera;
mod daemon;
mod finding;
mod kernel;
mod limits;
mod machine;

use std::io::Write;

use serde::Serialize;

use crate::args::Doctor;
use crate::client;
use crate::commands::read_password;
use crate::problem::Problem;
use finding::{Finding, Level};

/// All that was found. The names are a promise to scripts.
#[derive(Debug, Serialize)]
struct Report {
    findings: Vec<Finding>,
    warnings: usize,
    failures: usize,
    /// What was measured at the camera; absent when none was asked for.
    camera: Option<camera::Measured>,
}

/// Looks at everything and writes what was found to `to`.
///
/// # Errors
/// [`Problem::Unwell`] when something fails.
pub(crate) async fn run(
    doctor: Doctor,
    server: Option<String>,
    json: bool,
    to: &mut impl Write,
) -> Result<(), Problem> {
    // A URL that is none is told before anything is done.
    let Doctor { url, streams, seconds, user, password_file } = doctor;
    let password = password_file.as_deref().map(read_password).transpose()?;
    let target = url.map(|url| camera::Target::new(&url, user, password)).transpose()?;
    let mut report = Report { findings: Vec::new(), warnings: 0, failures: 0, camera: None };
    let mut tell = |finding: Finding, report: &mut Report| -> Result<(), Problem> {
        if !json {
            writeln!(to, "{}", finding.text())?;
            to.flush()?;
        }
        report.warnings += usize::from(finding.level == Level::Warn);
        report.failures += usize::from(finding.level == Level::Fail);
        report.findings.push(finding);
        Ok(())
    };
    for finding in machine::findings(streams.into()) {
        tell(finding, &mut report)?;
    }
    match server.map_or_else(client::default_server, Ok) {
        Ok(server) => {
            tell(daemon::found(&server, &daemon::ask(&server).await), &mut report)?;
            if let Some(path) = daemon::socket_path(&server) {
                tell(daemon::socket_directory(&path), &mut report)?;
            }
        }
        Err(problem) => tell(Finding::fail("sockets", problem.to_string()), &mut report)?,
    }
    if let Some(target) = target {
        let (findings, measured) = camera::probe(target, seconds);
        for finding in findings {
            tell(finding, &mut report)?;
        }
        report.camera = Some(measured);
    }
    if json {
        serde_json::to_writer(&mut *to, &report)?;
        writeln!(to)?;
    }
    to.flush()?;
    match report.failures {
        0 => Ok(()),
        failures => Err(Problem::Unwell { failures, checks: report.findings.len() }),
    }
}
