//! Carries out what a [`Volume`](crate::volume::Volume) asks for: through io_uring and past the page cache where that can be had.

mod helper;
mod uring;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

use crate::volume::{Blocks, FileId, Op, Volume};
use helper::{Answer, Helper, Task};
use uring::{UringWrites, Written};

/// How files are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct How {
    /// Through io_uring, if the kernel lets us.
    pub uring: bool,
    /// Past the page cache (O_DIRECT), if the file system does that.
    pub direct: bool,
}

impl How {
    /// What costs least.
    pub const BEST: Self = Self { uring: true, direct: true };
}

/// A directory that files are written to.
#[derive(Debug)]
pub struct Disk {
    /// `None`: the helper writes.
    ring: Option<UringWrites>,
    helper: Helper,
    files: BTreeMap<FileId, Arc<OwnedFd>>,
    event: Arc<OwnedFd>,
}

impl Disk {
    /// The directory at `dir`, which must be there. All of `blocks` must be here still.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(dir: &Path, how: How, blocks: &Blocks) -> io::Result<Self> {
        let event = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let helper = Helper::start(dir, how.direct, Arc::clone(&event))?;
        let ring = if how.uring { UringWrites::new(blocks, &event).ok() } else { None };
        Ok(Self { ring, helper, files: BTreeMap::new(), event })
    }

    /// Whether writes go through io_uring.
    pub const fn uses_uring(&self) -> bool {
        self.ring.is_some()
    }

    /// Readable when something may have been answered.
    pub fn event_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// Begins what the volume asks for, and tells it what is done.
    ///
    /// # Errors
    /// When the ring is broken; nothing that is under way will be answered.
    pub fn turn(&mut self, volume: &mut Volume) -> io::Result<()> {
        // Before the answers are looked at, so that one that comes now makes it readable again.
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.event, &mut count);
        while let Some(Written { file, block, result }) = self.ring.as_mut().and_then(UringWrites::completed)
        {
            volume.on_written(file, block, result);
        }
        while let Some(answer) = self.helper.answer() {
            match answer {
                Answer::Created { file, result } => {
                    let result = result.map(|fd| {
                        self.files.insert(file, Arc::new(fd));
                    });
                    volume.on_created(file, result);
                }
                Answer::Written { file, block, result } => volume.on_written(file, block, result),
                Answer::Synced(result) => volume.on_synced(result),
            }
        }
        while let Some(op) = volume.poll_op() {
            self.begin(op, volume);
        }
        self.ring.as_mut().map_or(Ok(()), UringWrites::submit)
    }

    fn begin(&mut self, op: Op, volume: &mut Volume) {
        match op {
            Op::Create { file, path } => self.helper.ask(Task::Create { file, path }),
            Op::Sync => self.helper.ask(Task::Sync),
            Op::Close { file } => {
                self.files.remove(&file);
            }
            Op::Write { file, at, block, len } => {
                let Some(fd) = self.files.get(&file) else {
                    return volume.on_written(file, block, Err(io::ErrorKind::NotFound.into()));
                };
                let Some(ring) = &mut self.ring else {
                    let fd = Arc::clone(fd);
                    return self.helper.ask(Task::Write { file, fd, at, block, len });
                };
                if let Err(Written { file, block, result }) = ring.write(file, fd, at, block, len) {
                    volume.on_written(file, block, result);
                }
            }
        }
    }
}
