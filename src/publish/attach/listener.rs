//! The listening socket that readers connect to.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{SocketFlags, SocketType, accept_with};

use crate::socket_path::{Claim, ClaimError};

/// The owner alone may connect. The control socket lets its group in too; here that would promise what is not kept,
/// because the thread turns away whoever is not the daemon's user or root.
const SOCKET_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// A bound, listening attach socket. Dropping it removes the file.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    _claim: Claim,
}

impl Listener {
    /// Binds `path`, mode 0600.
    ///
    /// # Errors
    /// [`ClaimError`] as [`Claim::take`] has it.
    pub fn bind(path: impl AsRef<Path>) -> Result<Self, ClaimError> {
        let claim = Claim::take(path.as_ref())?;
        let socket = claim.listen(SocketType::SEQPACKET, SOCKET_MODE)?;
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
