//! Streams that outlive the daemon: the state directory, one file a stream.
//!
//! ```text
//! DIR/lock               flock'ed while its daemon lives
//! DIR/streams/ID         a stream, with its password: mode 0600, in directories of mode 0700
//! DIR/streams/.ID.new    is being written, and nobody was told yet: removed at the next start
//! DIR/streams/.ID.bad    could not be read: set aside, for the operator
//! ```
//! A file is written aside, fsync'ed, renamed, and its directory fsync'ed before a caller has its answer; so whatever
//! instant the power goes, a stream's file is the old one or the new one. All of that is done by a thread of its own
//! ([`Store`]), in the order in which the control thread asked for it.

mod format;
mod store;

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use rustix::process::geteuid;
use tracing::{error, info, warn};

pub(crate) use store::{Saving, Store};

use super::spec::StreamSpec;
use crate::ids::StreamId;
use crate::limits::STATE_FILE_LEN_MAX;
use crate::time::UnixNanos;

/// A stream as it is kept.
#[derive(Clone)]
pub(crate) struct SavedStream {
    pub(crate) id: StreamId,
    pub(crate) spec: StreamSpec,
    /// When it was set up for the first time.
    pub(crate) created: UnixNanos,
}

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another daemon uses it.
    #[error("the state directory {} belongs to another running vms-media: stop it, or choose another directory", path.display())]
    Taken {
        /// The directory.
        path: PathBuf,
    },
    /// Passwords are kept there, and others can get at them.
    #[error(
        "the state directory {} holds passwords, and others may use it (its mode is {mode:04o}): chmod 700 it, or with systemd \
         set StateDirectoryMode=0700",
        path.display()
    )]
    NotPrivate {
        /// The directory.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is somebody else's.
    #[error("the state directory {} belongs to the user {owner}: chown it, or choose another", path.display())]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// The file system said no.
    #[error("cannot use the state directory: {}", path.display())]
    Io {
        /// The directory, or what is in it.
        path: PathBuf,
        /// The answer.
        source: io::Error,
    },
}

/// The streams that are kept at `path`, and where changes go from now on. Nothing is kept when there is no path.
///
/// # Errors
/// [`StateError`].
pub(crate) fn open(path: Option<&Path>) -> Result<(Vec<SavedStream>, Option<Store>), StateError> {
    let Some(path) = path else {
        info!("no --state-dir: streams are forgotten when the daemon ends");
        return Ok((Vec::new(), None));
    };
    let directory = StateDir::open(path)?;
    let streams = directory.load()?;
    info!(directory = %path.display(), streams = streams.len(), "streams outlive the daemon");
    let store = Store::spawn(directory).map_err(|source| StateError::Io { path: path.to_owned(), source })?;
    Ok((streams, Some(store)))
}

/// The directory, while it is ours.
#[derive(Debug)]
pub(crate) struct StateDir {
    streams: PathBuf,
    /// Of `streams`.
    directory: File,
    _lock: File,
}

impl StateDir {
    /// Takes the directory at `path`, and makes it when it is missing.
    ///
    /// # Errors
    /// [`StateError`].
    pub(crate) fn open(path: &Path) -> Result<Self, StateError> {
        make_private(path)?;
        let lock = lock(path)?;
        let streams = path.join("streams");
        make_private(&streams)?;
        let directory =
            File::open(&streams).map_err(|source| StateError::Io { path: streams.clone(), source })?;
        Ok(Self { streams, directory, _lock: lock })
    }

    /// All streams that are kept, by their ids. What is no stream's file is set aside, and what was not written to its end is
    /// removed.
    ///
    /// # Errors
    /// [`StateError::Io`] when the directory cannot be listed.
    pub(crate) fn load(&self) -> Result<Vec<SavedStream>, StateError> {
        let failed = |source| StateError::Io { path: self.streams.clone(), source };
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.streams).map_err(failed)? {
            names.push(entry.map_err(failed)?.file_name());
        }
        names.sort_unstable();
        let names = names.iter().map(|name| name.to_string_lossy());
        Ok(names.filter_map(|name| self.load_one(&name)).collect())
    }

    fn load_one(&self, name: &str) -> Option<SavedStream> {
        let path = self.streams.join(name);
        if name.starts_with('.') {
            if name.ends_with(NEW)
                && let Err(error) = fs::remove_file(&path)
            {
                warn!(file = %path.display(), %error, "left behind by a daemon that was stopped while it wrote; cannot be removed");
            }
            return None;
        }
        let Ok(id) = StreamId::new(name) else {
            warn!(file = %path.display(), "is no stream's file and is left alone");
            return None;
        };
        let why = match read(&path) {
            Ok(bytes) => match format::decode(&id, &bytes) {
                Ok(stream) => return Some(stream),
                Err(error) => error.to_string(),
            },
            Err(error) => error.to_string(),
        };
        let aside = self.aside(&id, BAD);
        let advice = "it is not carried: set it up again";
        match fs::rename(&path, &aside) {
            Ok(()) => {
                error!(stream = %id, file = %aside.display(), "the stream's file was set aside, {why}; {advice}")
            }
            Err(error) => error!(stream = %id, file = %path.display(), %error, "{why}; {advice}"),
        }
        None
    }

    /// Writes a stream's file; durable after [`sync`](Self::sync).
    fn write(&self, id: &StreamId, bytes: &[u8]) -> io::Result<()> {
        let new = self.aside(id, NEW);
        let write = || {
            let mut file = OpenOptions::new();
            let no_link = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0);
            file.create(true).truncate(true).write(true).mode(FILE_MODE).custom_flags(no_link);
            let mut file = file.open(&new)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&new, self.streams.join(id.as_str()))
        };
        write().inspect_err(|_| drop(fs::remove_file(&new)))
    }

    /// Removes a stream's file, and tells whether there was one; durable after [`sync`](Self::sync).
    fn remove(&self, id: &StreamId) -> io::Result<bool> {
        match fs::remove_file(self.streams.join(id.as_str())) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns when what was written and removed before outlives a power cut.
    fn sync(&self) -> io::Result<()> {
        self.directory.sync_all()
    }

    /// No id begins with a dot.
    fn aside(&self, id: &StreamId, suffix: &str) -> PathBuf {
        self.streams.join(format!(".{id}{suffix}"))
    }
}

fn make_private(path: &Path) -> Result<(), StateError> {
    let failed = |source| StateError::Io { path: path.to_owned(), source };
    match DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path) {
        Ok(()) => {}
        Err(error) => return Err(failed(error)),
    }
    let metadata = fs::metadata(path).map_err(failed)?;
    let mode = metadata.permissions().mode() & 0o7777;
    match () {
        () if metadata.uid() != geteuid().as_raw() => {
            Err(StateError::NotOurs { path: path.to_owned(), owner: metadata.uid() })
        }
        () if mode & OTHERS != 0 => Err(StateError::NotPrivate { path: path.to_owned(), mode }),
        () => Ok(()),
    }
}

/// The lock file stays for ever: were it removed, two daemons could lock two different files of the same name.
fn lock(path: &Path) -> Result<File, StateError> {
    let file = path.join("lock");
    let failed = |source| StateError::Io { path: file.clone(), source };
    let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(FILE_MODE).open(&file);
    let lock = lock.map_err(failed)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(Errno::WOULDBLOCK) => Err(StateError::Taken { path: path.to_owned() }),
        Err(errno) => Err(failed(errno.into())),
    }
}

/// A file's bytes. Too long a one gives more than any stream's has, which is found out.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let no_link = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).custom_flags(no_link).open(path)?;
    if file.metadata()?.permissions().mode() & OTHERS != 0 {
        warn!(file = %path.display(), "others could read this file, which may hold a password; they cannot any more");
        file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    }
    let mut bytes = Vec::new();
    file.take(STATE_FILE_LEN_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// What the group and others might be let do.
const OTHERS: u32 = 0o077;
const NEW: &str = ".new";
const BAD: &str = ".bad";

#[cfg(test)]
mod tests;
