//! What can go wrong, in one line that says what to do.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use tonic_types::StatusExt;

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    /// The words of the command line do not fit together.
    #[error("{0}")]
    Usage(String),
    /// Nobody answers.
    #[error(
        "cannot reach the daemon at {server}: {}: is vms-media running? Try --server",
        root_cause(source)
    )]
    Unreachable {
        /// The address.
        server: String,
        /// Why.
        source: tonic::transport::Error,
    },
    /// The recorder does not answer.
    #[error(
        "cannot reach the recorder at {server}: {}: is vms-record running? Try --recorder",
        root_cause(source)
    )]
    RecorderUnreachable {
        /// The address.
        server: String,
        /// Why.
        source: tonic::transport::Error,
    },
    /// The daemon said no, or the connection broke in the middle.
    #[error("{}", refusal(.0))]
    Refused(#[from] Box<tonic::Status>),
    /// The connection ended in the middle of a watch.
    #[error(
        "the daemon has gone, or the connection to it broke: if it still runs, `vms-ctl watch --from {revision}` goes on \
         from here; once it was started anew, watch without --from"
    )]
    Gone {
        /// The last one that was seen.
        revision: u64,
    },
    /// The password file cannot be read.
    #[error("cannot read the password from {}: {source}", path.display())]
    PasswordFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The daemon's answer lacks what it must have.
    #[error("the daemon's answer has no {0}: its version may not fit this vms-ctl")]
    Incomplete(&'static str),
    /// Something that `doctor` looked at does not work.
    #[error("{failures} of {checks} checks failed: what to do stands beneath each")]
    Unwell {
        /// How many failed.
        failures: usize,
        /// Of how many.
        checks: usize,
    },
    /// The terminal or pipe does not take our output.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A value does not go into JSON.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
}

impl Problem {
    /// Why a watch ended that had seen everything up to `revision`. What the daemon says has a reason; without one it is
    /// the transport that failed, whose words are about HTTP/2.
    pub(crate) fn of_a_watch(status: tonic::Status, revision: u64) -> Self {
        match status.get_details_error_info() {
            Some(_) => status.into(),
            None => Self::Gone { revision },
        }
    }

    /// 2 for wrong usage, else 1.
    pub(crate) const fn exit_code(&self) -> u8 {
        if matches!(self, Self::Usage(_)) { 2 } else { 1 }
    }
}

impl From<tonic::Status> for Problem {
    fn from(status: tonic::Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

/// tonic says "transport error" and keeps the useful part at the end of the chain.
fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

fn refusal(status: &tonic::Status) -> String {
    let message: String = status.message().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match status.get_details_error_info() {
        Some(info) => format!("{message} ({})", info.reason),
        None => format!("{message} ({:?})", status.code()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_line() {
        let status = tonic::Status::unavailable("two\nlines");
        assert_eq!(Problem::from(status).to_string(), "two lines (Unavailable)");
    }

    #[test]
    fn a_watch_tells_a_daemon_that_refuses_from_one_that_has_gone() {
        let broken = tonic::Status::unknown("h2 protocol error: error reading a body from connection");
        let words = Problem::of_a_watch(broken, 7).to_string();
        assert!(words.contains("the daemon has gone") && words.contains("--from 7"), "{words}");
        assert!(!words.contains("h2"), "{words}");
        let details = tonic_types::ErrorDetails::with_error_info("SLOW_WATCHER", "media.vms", []);
        let cut = tonic::Status::with_error_details(tonic::Code::ResourceExhausted, "too slow", details);
        assert_eq!(Problem::of_a_watch(cut, 7).to_string(), "too slow (SLOW_WATCHER)");
    }
}
