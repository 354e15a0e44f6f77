//! The listening socket that readers connect to.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{SocketFlags, SocketType, accept_with};

use crate::socket_path::{Claim, ClaimError};

/// A bound, listening attach socket. Dropping it removes the file.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    _claim: Claim,
}

impl Listener {
    /// Binds `path`, mode 0600: only the daemon's user and root can connect.
    ///
    /// # Errors
    /// [`ClaimError`] as [`Claim::take`] has it.
    pub fn bind(path: impl AsRef<Path>) -> Result<Self, ClaimError> {
        Self::bind_with_mode(path, 0o600)
    }

    /// Binds `path` with a mode that lets others connect, whom the thread then looks at.
    ///
    /// # Errors
    /// [`ClaimError`] as [`Claim::take`] has it.
    pub fn bind_with_mode(path: impl AsRef<Path>, mode: u32) -> Result<Self, ClaimError> {
        let claim = Claim::take(path.as_ref())?;
        let socket = claim.listen(SocketType::SEQPACKET, Mode::from_raw_mode(mode))?;
        Ok(Self { socket, _claim: claim })
    }

    /// A connection that waits, if there is one.
    pub(super) fn accept(&self) -> Result<OwnedFd, Errno> {
        accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
