//! The right to a unix socket's path, and the socket that listens there.
//!
//! ```text
//! control.sock.lock    flock'ed while its daemon lives; the kernel lets go when the process dies; never removed
//! control.sock         whoever holds the lock may remove it and bind anew
//! ```
//! A socket file survives its process, a lock does not. So a dead daemon's socket is taken over and a live one's
//! never, without a race between two that start at once. The lock file stays for ever: were it removed, two
//! processes could lock two different files of the same name.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, chmod, flock};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};

/// Connections that may wait to be accepted: a fleet of cameras may be set up at once, each by a process of its own. One
/// more is told to try again, which few callers do.
const BACKLOG: i32 = 1024;

/// Why a path cannot be listened at.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
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
    #[error("cannot listen at {}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
}

/// The right to a socket path. Gone, socket and all, when this is dropped.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    _lock: File,
}

impl Claim {
    /// Takes `path`, removing the socket that a dead process left there. A missing directory is made, for the
    /// owner and its group.
    ///
    /// # Errors
    /// [`ClaimError`] when somebody else has it or the file system says no; what stood there still does.
    pub fn take(path: &Path) -> Result<Self, ClaimError> {
        let failed = |source| ClaimError::Io { path: path.to_owned(), source };
        make_directory(path).map_err(failed)?;
        let mut lock_path = path.as_os_str().to_owned();
        lock_path.push(".lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(lock_path);
        let lock = lock.map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(ClaimError::Taken { path: path.to_owned() }),
            Err(errno) => return Err(failed(errno.into())),
        }
        remove_dead_socket(path)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Opens the socket: close-on-exec, not blocking, of `kind`, for those whom `mode` lets in.
    ///
    /// # Errors
    /// [`ClaimError::Io`].
    pub fn listen(&self, kind: SocketType, mode: Mode) -> Result<OwnedFd, ClaimError> {
        self.open(kind, mode)
            .map_err(|errno| ClaimError::Io { path: self.path.clone(), source: errno.into() })
    }

    /// The mode is set before the socket listens, so nobody gets in by what the umask left open.
    fn open(&self, kind: SocketType, mode: Mode) -> Result<OwnedFd, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, kind, flags, None)?;
        bind(&socket, &SocketAddrUnix::new(&self.path)?)?;
        chmod(&self.path, mode)?;
        listen(&socket, BACKLOG)?;
        Ok(socket)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Nobody is left to tell; a socket that stays behind is taken over by the next daemon.
        drop(std::fs::remove_file(&self.path));
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() && !parent.exists() => {
            DirBuilder::new().recursive(true).mode(0o750).create(parent)
        }
        _ => Ok(()),
    }
}

/// Called with the lock held. The lock alone would do among our own; connecting also spares a foreign program.
fn remove_dead_socket(path: &Path) -> Result<(), ClaimError> {
    let failed = |source| ClaimError::Io { path: path.to_owned(), source };
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(ClaimError::NotASocket { path: path.to_owned() });
    }
    // A dead socket refuses whatever its type was; a live one of another type answers EPROTOTYPE.
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(failed)
        }
        Ok(_) | Err(_) => Err(ClaimError::Taken { path: path.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    const KINDS: [SocketType; 2] = [SocketType::STREAM, SocketType::SEQPACKET];

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(test: &str) -> Self {
            let name = format!("vms-socket-path-{}-{test}", std::process::id());
            Self(std::env::temp_dir().join(name))
        }

        fn socket(&self) -> PathBuf {
            self.0.join("made/on/demand/control.sock")
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn a_crowd_may_wait_to_be_accepted() {
        let scratch = Scratch::new("crowd");
        let path = scratch.socket();
        let claim = Claim::take(&path).unwrap();
        let _listener = claim.listen(SocketType::STREAM, Mode::RWXU).unwrap();
        let address = SocketAddrUnix::new(&path).unwrap();
        let crowd: Result<Vec<_>, _> = (0..500)
            .map(|_| {
                let flags = SocketFlags::NONBLOCK;
                let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
                rustix::net::connect(&socket, &address).map(|()| socket)
            })
            .collect();
        assert_eq!(crowd.map(|crowd| crowd.len()), Ok(500));
    }

    #[test]
    fn a_live_socket_is_never_taken_and_a_dead_one_is() {
        let scratch = Scratch::new("takeover");
        let path = scratch.socket();
        for kind in KINDS {
            let claim = Claim::take(&path).unwrap();
            let listener = claim.listen(kind, Mode::from(0o640)).unwrap();
            assert!(matches!(Claim::take(&path), Err(ClaimError::Taken { .. })));
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
            drop(listener);
            drop(claim);
            assert!(!path.exists(), "an orderly end leaves no socket");

            // A crash leaves the file and frees the lock.
            let crashed = Claim::take(&path).unwrap();
            drop(crashed.listen(kind, Mode::from(0o600)).unwrap());
            let Claim { _lock: lock, .. } = &*std::mem::ManuallyDrop::new(crashed);
            flock(lock, FlockOperation::Unlock).unwrap();
            assert!(path.exists());
            drop(Claim::take(&path).unwrap());
        }
    }

    #[test]
    fn a_foreign_program_and_a_plain_file_are_left_alone() {
        let scratch = Scratch::new("foreign");
        let path = scratch.socket();
        drop(Claim::take(&path).unwrap());
        let foreign = UnixListener::bind(&path).unwrap();
        assert!(matches!(Claim::take(&path), Err(ClaimError::Taken { .. })));
        drop(foreign);
        std::fs::remove_file(&path).unwrap();
        let foreign = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let foreign = foreign.unwrap();
        bind(&foreign, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        listen(&foreign, 1).unwrap();
        assert!(matches!(Claim::take(&path), Err(ClaimError::Taken { .. })));
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "notes").unwrap();
        assert!(matches!(Claim::take(&path), Err(ClaimError::NotASocket { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "notes");
    }
}
