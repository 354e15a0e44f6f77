//! Where callers knock: a unix socket, or loopback TCP; and where metrics are told.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::Mode;
use rustix::net::SocketType;

use crate::socket_path::{Claim, ClaimError};

/// The owner and its group may connect: who is in the group may set streams up and tear them down.
const SOCKET_MODE: Mode = Mode::RUSR.union(Mode::WUSR).union(Mode::RGRP).union(Mode::WGRP);

/// Why an address cannot be listened at.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// A unix socket.
    #[error(transparent)]
    Unix(#[from] ClaimError),
    /// A TCP address.
    #[error("cannot listen at tcp:{address}")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The address of `--http`.
    #[error("cannot tell metrics at http://{address}")]
    Http {
        /// The address.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Binds a stream socket at `path`, mode 0660. The claim is to be kept as long as the listener.
///
/// # Errors
/// [`ClaimError`].
pub(crate) fn bind_unix(path: &Path) -> Result<(UnixListener, Claim), ClaimError> {
    let claim = Claim::take(path)?;
    let socket = claim.listen(SocketType::STREAM, SOCKET_MODE)?;
    Ok((socket.into(), claim))
}

/// Binds a TCP socket for callers.
///
/// # Errors
/// [`ListenError::Tcp`].
pub(crate) fn bind_tcp(address: SocketAddr) -> Result<TcpListener, ListenError> {
    bind(address).map_err(|source| ListenError::Tcp { address, source })
}

/// Binds a TCP socket for those who want metrics.
///
/// # Errors
/// [`ListenError::Http`].
pub(crate) fn bind_http(address: SocketAddr) -> Result<TcpListener, ListenError> {
    bind(address).map_err(|source| ListenError::Http { address, source })
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
