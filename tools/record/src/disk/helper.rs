//! What may wait for the disk and has no place in a ring: making files, syncing all of them. One thread a storage; where io_uring is
//! not to be had, it writes, too.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use rustix::fs::OFlags;

use crate::volume::{Block, FileId};

/// What the thread is asked for.
#[derive(Debug)]
pub(super) enum Task {
    Create { file: FileId, path: PathBuf },
    Write { file: FileId, fd: Arc<OwnedFd>, at: u64, block: Block, len: usize },
    Sync,
}

/// What it answers.
#[derive(Debug)]
pub(super) enum Answer {
    Created { file: FileId, result: io::Result<OwnedFd> },
    Written { file: FileId, block: Block, result: io::Result<()> },
    Synced(io::Result<()>),
}

/// The thread's other end. It ends when this is dropped, once it has done what it was asked for.
#[derive(Debug)]
pub(super) struct Helper {
    tasks: Sender<Task>,
    answers: Receiver<Answer>,
}

impl Helper {
    /// Starts the thread for a directory; each answer makes `event` readable.
    ///
    /// # Errors
    /// When the directory cannot be opened, or there is no thread to be had.
    pub(super) fn start(dir: &Path, is_direct: bool, event: Arc<OwnedFd>) -> io::Result<Self> {
        let root = File::open(dir)?;
        let dir = dir.to_owned();
        let (tasks, to_do) = channel::<Task>();
        let (done, answers) = channel();
        thread::Builder::new().name("storage".to_owned()).spawn(move || {
            for task in to_do {
                let answer = match task {
                    Task::Create { file, path } => {
                        Answer::Created { file, result: create(&dir.join(path), is_direct) }
                    }
                    Task::Write { file, fd, at, block, len } => {
                        let result = write(&fd, at, block.bytes().get(..len).unwrap_or_default());
                        Answer::Written { file, block, result }
                    }
                    Task::Sync => Answer::Synced(rustix::fs::syncfs(&root).map_err(io::Error::from)),
                };
                if done.send(answer).is_err() {
                    break;
                }
                // It is never full: nobody adds 2^64.
                let _ = rustix::io::write(&event, &1_u64.to_ne_bytes());
            }
        })?;
        Ok(Self { tasks, answers })
    }

    /// Asks for something. If the thread has gone nothing will be answered; it goes only with this.
    pub(super) fn ask(&self, task: Task) {
        let _ = self.tasks.send(task);
    }

    pub(super) fn answer(&self) -> Option<Answer> {
        self.answers.try_recv().ok()
    }
}

/// Makes a file that was not there, and its directory. Written past the page cache if `is_direct` and the file system does that.
fn create(path: &Path, is_direct: bool) -> io::Result<OwnedFd> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let open = |flags: OFlags| {
        let flags = i32::try_from(flags.bits()).unwrap_or_default();
        OpenOptions::new().write(true).create_new(true).custom_flags(flags).mode(0o640).open(path)
    };
    let file = match open(if is_direct { OFlags::DIRECT } else { OFlags::empty() }) {
        // Some make the file before they refuse the flag.
        Err(error) if is_direct && error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => open(OFlags::empty())?,
            }
        }
        opened => opened?,
    };
    Ok(file.into())
}

fn write(fd: &OwnedFd, at: u64, bytes: &[u8]) -> io::Result<()> {
    let file = File::from(fd.as_fd().try_clone_to_owned()?);
    file.write_all_at(bytes, at).map_err(|error| {
        if error.kind() == io::ErrorKind::WriteZero { io::ErrorKind::StorageFull.into() } else { error }
    })
}
