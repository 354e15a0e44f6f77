//! The listening socket: takes a dead daemon's path over, never a live one's.
//!
//! A socket file survives its process. Who holds the lock on `PATH.lock` owns the path: the lock goes with the process, so a file
//! without a lock holder is left over and may be removed. The lock file itself is never removed; that would let two
//! processes lock two different files of the same name.

use std::fs::{File, OpenOptions, remove_file};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, chmod, flock};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with,
};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 64;

/// Why the socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another daemon lives on this path.
    #[error("another daemon is listening on {}", path.display())]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// There is something at the path that is no socket.
    #[error("{} exists and is not a socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("cannot listen on {}: {error}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// A bound, listening attach socket. Dropping it removes the file.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    path: PathBuf,
    /// Dropped last: while it is locked the path is ours.
    _lock: File,
}

impl Listener {
    /// Binds `path`, mode 0600. A file left over by a dead daemon is replaced.
    ///
    /// # Errors
    /// [`ListenError`]; nothing at the path was touched.
    pub fn bind(path: impl Into<PathBuf>) -> Result<Self, ListenError> {
        let path = path.into();
        let lock = lock(&path)?;
        remove_left_over(&path)?;
        match open(&path) {
            Ok(socket) => Ok(Self { socket, path, _lock: lock }),
            Err(error) => Err(ListenError::Io { path, error }),
        }
    }

    /// The path it listens on.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A connection that waits, if there is one.
    pub(super) fn accept(&self) -> io::Result<OwnedFd> {
        Ok(accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // A file that is already gone is what we want.
        let _ = remove_file(&self.path);
    }
}

fn lock(path: &Path) -> Result<File, ListenError> {
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let io = |error| ListenError::Io { path: PathBuf::from(&lock_path), error };
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(false).write(true).mode(0o600).open(&lock_path).map_err(io)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(ListenError::InUse { path: path.to_owned() }),
        Err(error) => Err(io(error.into())),
    }
}

/// Removes a socket file that nobody owns: the caller holds the lock.
fn remove_left_over(path: &Path) -> Result<(), ListenError> {
    use std::os::unix::fs::FileTypeExt;
    match path.symlink_metadata() {
        Ok(meta) if !meta.file_type().is_socket() => Err(ListenError::NotASocket { path: path.to_owned() }),
        Ok(_) => remove_file(path).map_err(|error| ListenError::Io { path: path.to_owned(), error }),
        Err(_) => Ok(()),
    }
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    chmod(path, Mode::RUSR | Mode::WUSR)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("vms-listener-{}-{name}", std::process::id()))
    }

    #[test]
    fn a_live_daemon_is_never_displaced_and_a_dead_one_is() {
        let path = scratch("owner");
        let first = Listener::bind(&path).unwrap();
        assert!(matches!(Listener::bind(&path), Err(ListenError::InUse { .. })));
        assert!(path.exists(), "the attempt left the socket alone");
        drop(first);
        assert!(!path.exists(), "an orderly end leaves no socket");
        // What a killed process leaves: the file without a lock.
        let left_over = open(&path).unwrap();
        drop(left_over);
        assert!(path.exists());
        let second = Listener::bind(&path).unwrap();
        assert_eq!(second.path(), path);
        drop(second);
        let _ = remove_file(path.with_extension("lock"));
    }

    #[test]
    fn other_files_are_not_removed() {
        let path = scratch("file");
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(Listener::bind(&path), Err(ListenError::NotASocket { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        remove_file(&path).unwrap();
    }
}
