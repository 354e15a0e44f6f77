//! Where the daemon listens: unix sockets that outlive a crash of their owner, and loopback TCP.
//!
//! ```text
//! control.sock.lock    flock'ed while its daemon lives; the kernel lets go when the process dies; never removed
//! control.sock         whoever holds the lock may remove it and bind anew
//! ```
//! So a dead daemon's socket is taken over and a live one's never, without a race between two that start at once.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// The owner and its group may connect.
const SOCKET_MODE: u32 = 0o660;

/// Why an address cannot be listened at.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process lives there.
    #[error("{} belongs to another running process: stop it, or choose another path", path.display())]
    Taken {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is no socket stands there.
    #[error("{} exists and is not a socket: it is left alone; choose another path", path.display())]
    NotASocket {
        /// What was found.
        path: PathBuf,
    },
    /// The kernel said no.
    #[error("cannot listen at {at}: {source}")]
    Io {
        /// The address.
        at: String,
        /// Its answer.
        source: io::Error,
    },
}

/// The right to a socket path. Gone, socket and all, when this is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    path: PathBuf,
    _lock: File,
}

impl Claim {
    /// Takes `path`, removing the socket that a dead process left there. A missing directory is made, for the
    /// owner and its group.
    ///
    /// # Errors
    /// [`ListenError`] when somebody else has it or the file system says no.
    pub(crate) fn take(path: &Path) -> Result<Self, ListenError> {
        let failed = |source| ListenError::Io { at: path.display().to_string(), source };
        make_directory(path).map_err(failed)?;
        let mut lock_path = path.as_os_str().to_owned();
        lock_path.push(".lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(lock_path);
        let lock = lock.map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(ListenError::Taken { path: path.to_owned() }),
            Err(errno) => return Err(failed(errno.into())),
        }
        remove_dead_socket(path)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Opens the socket, that it claimed, to owner and group. The kernel asks for write permission to connect, and
    /// before this call nobody but the owner has it, whatever a usual umask is.
    ///
    /// # Errors
    /// [`ListenError::Io`].
    pub(crate) fn open_to_group(&self) -> Result<(), ListenError> {
        let at = || self.path.display().to_string();
        std::fs::set_permissions(&self.path, Permissions::from_mode(SOCKET_MODE))
            .map_err(|source| ListenError::Io { at: at(), source })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Nobody is left to tell; a socket that stays behind is taken over by the next daemon.
        drop(std::fs::remove_file(&self.path));
    }
}

/// Binds a stream socket at `path`, mode 0660.
///
/// # Errors
/// [`ListenError`].
pub(crate) fn bind_unix(path: &Path) -> Result<(UnixListener, Claim), ListenError> {
    let failed = |source| ListenError::Io { at: path.display().to_string(), source };
    let claim = Claim::take(path)?;
    let listener = UnixListener::bind(path).map_err(failed)?;
    claim.open_to_group()?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok((listener, claim))
}

/// Binds a TCP socket.
///
/// # Errors
/// [`ListenError::Io`].
pub(crate) fn bind_tcp(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let failed = |source| ListenError::Io { at: format!("tcp:{address}"), source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// Makes the directory that a socket at `path` stands in, for the owner and its group.
///
/// # Errors
/// The file system's.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() && !parent.exists() => {
            DirBuilder::new().recursive(true).mode(0o750).create(parent)
        }
        _ => Ok(()),
    }
}

/// Called with the lock held. The lock alone would do among our own; connecting also spares a foreign program.
fn remove_dead_socket(path: &Path) -> Result<(), ListenError> {
    let failed = |source| ListenError::Io { at: path.display().to_string(), source };
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(ListenError::NotASocket { path: path.to_owned() });
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(failed)
        }
        Ok(_) | Err(_) => Err(ListenError::Taken { path: path.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket_path(test: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("vms-listen-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        directory.join("control.sock")
    }

    #[test]
    fn a_live_socket_is_never_taken_and_a_dead_one_is() {
        let path = socket_path("takeover");
        let (listener, claim) = bind_unix(&path).unwrap();
        assert!(matches!(bind_unix(&path), Err(ListenError::Taken { .. })));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, SOCKET_MODE);
        drop(listener);
        drop(claim);
        assert!(!path.exists());

        // A crash leaves the file and frees the lock.
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        bind_unix(&path).unwrap();
    }

    #[test]
    fn a_foreign_program_and_a_plain_file_are_left_alone() {
        let path = socket_path("foreign");
        let foreign = UnixListener::bind(&path).unwrap();
        assert!(matches!(bind_unix(&path), Err(ListenError::Taken { .. })));
        drop(foreign);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "notes").unwrap();
        assert!(matches!(bind_unix(&path), Err(ListenError::NotASocket { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "notes");
    }
}
