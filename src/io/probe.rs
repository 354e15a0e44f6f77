//! Whether this machine lets us use io_uring as we do, tried out rather than guessed from versions.

use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::uring::Uring;
use super::{Completion, Config, SetupError, WaitError};

/// How long the trial may take. A kernel that works needs microseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why the io_uring back end cannot be used here, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// `kernel.io_uring_disabled`, or a seccomp filter that answers EPERM
    #[error(
        "io_uring is forbidden here: see that `sysctl kernel.io_uring_disabled` is 0, and that the container's \
         seccomp profile allows io_uring_setup, io_uring_enter and io_uring_register (the default profiles of \
         Docker and containerd do not; add io_uring_setup, io_uring_enter and io_uring_register to \
         the profile's allowed calls)"
    )]
    Forbidden(#[source] SetupError),
    /// the kernel is older than 6.1, or was built without io_uring
    #[error("this kernel's io_uring is too old or missing: Linux 6.1 or newer is needed")]
    TooOld(#[source] SetupError),
    /// memory, descriptors, or something unforeseen
    #[error("io_uring could not be set up")]
    Setup(#[source] SetupError),
    /// no socket pair to try it with
    #[error("no socket pair to try io_uring with")]
    Socket(#[source] Errno),
    /// set up, but it cannot wait
    #[error("io_uring was set up and cannot wait")]
    Wait(#[source] WaitError),
    /// set up, but a multishot receive did not deliver
    #[error(
        "io_uring was set up, and a multishot receive on a socket pair did not deliver: Linux 6.1 or newer is needed"
    )]
    Receive,
}

/// What this kernel's io_uring has beside what the back end needs (Linux 6.1): each saves time, none is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// `IORING_SETUP_NO_SQARRAY` (6.6): one indirection less for each operation.
    pub no_sqarray: bool,
    /// `IORING_OP_FUTEX_WAKE` (6.7): readers are woken without a system call each.
    pub futex_wake: bool,
    /// `IORING_FEAT_MIN_TIMEOUT` (6.12): a shard gathers for a while with one system call instead of two.
    pub min_timeout: bool,
}

/// Sets up a small back end and receives one byte through it.
///
/// # Errors
/// [`ProbeError`]; its text says what to do.
pub fn probe() -> Result<Features, ProbeError> {
    let config = Config { buffers: 2, buffer_len: 4096, sockets_max: 1 };
    let mut uring = Uring::new(config).map_err(explain)?;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(ProbeError::Socket)?;
    uring.adopt(ours).map_err(|_| ProbeError::Receive)?;
    rustix::io::write(&theirs, b"!").map_err(ProbeError::Socket)?;
    uring.wait(Some(PATIENCE), Duration::ZERO).map_err(ProbeError::Wait)?;
    match uring.next_completion() {
        Some(Completion::Received(_, bytes)) if *bytes == *b"!" => Ok(uring.features()),
        _ => Err(ProbeError::Receive),
    }
}

fn explain(error: SetupError) -> ProbeError {
    let (SetupError::Ring(source) | SetupError::Buffers(source)) = &error else {
        return ProbeError::Setup(error);
    };
    match Errno::from_io_error(source) {
        Some(Errno::PERM | Errno::ACCESS) => ProbeError::Forbidden(error),
        Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => ProbeError::TooOld(error),
        _ => ProbeError::Setup(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;
    use std::io;

    #[test]
    fn this_machine_can() {
        let features = probe().unwrap();
        // What came later implies what came before.
        assert!(!features.min_timeout || features.futex_wake, "{features:?}");
        assert!(!features.futex_wake || features.no_sqarray, "{features:?}");
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let forbidden = explain(SetupError::Ring(io::Error::from(Errno::PERM)));
        let text = forbidden.to_string();
        assert!(text.contains("io_uring_disabled") && text.contains("seccomp"), "{text}");
        assert!(forbidden.source().is_some());
        let old = explain(SetupError::Ring(io::Error::from(Errno::INVAL))).to_string();
        assert!(old.contains("6.1"), "{old}");
        let missing = explain(SetupError::Buffers(io::Error::from(Errno::NOMEM)));
        assert!(matches!(missing, ProbeError::Setup(_)));
    }
}
