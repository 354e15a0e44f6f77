//! A directory that recordings go to: its volume, the disk behind it, and the catalogue.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::bookkeeper::{Bookkeeper, Entry, Housekeeping};
use crate::catalogue::{Catalogue, CatalogueError};
use crate::disk::{Disk, How};
use crate::recording::{Note, Recording, RingUnit, Segment, Stopped};
use crate::recover::{self, Report};
use crate::retention::Limits;
use crate::volume::{BLOCK_LEN, Blocks, Event, FileId, Volume};

/// Where recordings go.
#[derive(Debug)]
pub struct Storage {
    volume: Volume,
    disk: Disk,
    bookkeeper: Bookkeeper,
    /// Files that have ended and are not on the disk yet.
    ending: BTreeMap<FileId, Box<Segment>>,
    /// Where earlier runs have stopped, by stream.
    last: BTreeMap<String, Stopped>,
    notes: Vec<Note>,
    /// Something was flushed since the last sync was asked for.
    wants_sync: bool,
    dir: PathBuf,
    /// Of the files that are being written; the bookkeeper's to read.
    open_bytes: Arc<AtomicU64>,
    /// What the disk said last, as long as nothing was written since.
    trouble: Option<String>,
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// So much of it is on the disk.
    Durable(FileId, u64),
    /// It could not be written. What of it is whole wants to be [saved](Storage::save).
    Failed(FileId, PathBuf),
}

/// Why a storage cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The directory, or a file in it.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The catalogue.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
}

impl Storage {
    /// Opens the storage at `dir`, which is made if it is not there, and puts right what a crash has left. `memory` bytes at most wait for
    /// the disk. `limits` say what is deleted. If `tells`, what goes into the catalogue is
    /// a line of JSON on standard output, too.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn open(
        dir: &Path,
        how: How,
        memory: usize,
        limits: Limits,
        tells: bool,
    ) -> Result<(Self, Report), StorageError> {
        let of_dir = |error| StorageError::Io { path: dir.to_owned(), error };
        fs::create_dir_all(dir).map_err(of_dir)?;
        let catalogue = Catalogue::open(dir)?;
        let report = recover::recover(dir, &catalogue)?;
        let last = catalogue.last_units()?;
        let count = u16::try_from(memory / BLOCK_LEN).unwrap_or(u16::MAX).max(BLOCKS_MIN);
        let blocks = Blocks::new(count).map_err(of_dir)?;
        let disk = Disk::open(dir, how, &blocks).map_err(of_dir)?;
        let open_bytes = Arc::<AtomicU64>::default();
        let housekeeping = Housekeeping { limits, open_bytes: Arc::clone(&open_bytes), tells };
        let bookkeeper = Bookkeeper::start(catalogue, dir, housekeeping).map_err(of_dir)?;
        let volume = Volume::new(blocks);
        let storage = Self {
            volume,
            disk,
            bookkeeper,
            ending: BTreeMap::new(),
            last,
            notes: Vec::new(),
            wants_sync: false,
            dir: dir.to_owned(),
            open_bytes,
            trouble: None,
        };
        Ok((storage, report))
    }

    /// Whether writes go through io_uring.
    pub const fn uses_uring(&self) -> bool {
        self.disk.uses_uring()
    }

    /// The last unit of a stream that an earlier run has recorded.
    pub fn last_unit(&self, stream: &str) -> Option<Stopped> {
        self.last.get(stream).copied()
    }

    /// Whether a unit of any size can be taken, and a file be begun and another ended for it.
    pub fn has_room(&self) -> bool {
        self.volume.room() >= ROOM_MIN
    }

    /// Records a unit.
    pub fn record(&mut self, recording: &mut Recording, unit: &RingUnit<'_>) {
        recording.unit(unit, &mut self.volume, &mut self.notes);
        if !self.notes.is_empty() {
            self.take_notes(recording.stream());
        }
    }

    /// Gives to the disk what was recorded since the last time, and has it synced.
    pub fn flush<'a>(&mut self, recordings: impl Iterator<Item = &'a mut Recording>) {
        if self.wants_sync {
            // A disk that is never idle: what is written is synced all the same.
            self.volume.tick();
        }
        self.wants_sync = true;
        for recording in recordings {
            if self.has_room() {
                recording.flush(&mut self.volume);
            }
        }
    }

    /// Ends the file that is open.
    pub fn end(&mut self, recording: &mut Recording) {
        recording.end_file(&mut self.volume, &mut self.notes);
        self.take_notes(recording.stream());
        self.wants_sync = true;
    }

    fn take_notes(&mut self, stream: &str) {
        for note in self.notes.drain(..) {
            match note {
                Note::Segment(file, segment) => {
                    self.ending.insert(file, segment);
                }
                Note::Gap(gap) => self.bookkeeper.enter(Entry::Gap(stream.to_owned(), gap)),
            }
        }
    }

    /// Readable when the disk has answered.
    pub fn event_fd(&self) -> BorrowedFd<'_> {
        self.disk.event_fd()
    }

    /// Whether something is on its way to the disk.
    pub fn is_busy(&self) -> bool {
        !self.ending.is_empty() || self.volume.is_dirty()
    }

    /// Lets the disk work on; what became of files.
    ///
    /// # Errors
    /// When its ring is broken.
    pub fn turn(&mut self) -> io::Result<Vec<Outcome>> {
        self.disk.turn(&mut self.volume)?;
        self.open_bytes.store(self.volume.open_bytes(), Ordering::Relaxed);
        // Everything that was flushed is written: it goes to the disk together. Who ends a file waits for some syncs more.
        if (self.wants_sync || !self.ending.is_empty()) && !self.volume.is_writing() {
            self.wants_sync = false;
            self.volume.tick();
            self.disk.turn(&mut self.volume)?;
        }
        let mut outcomes = Vec::new();
        while let Some(event) = self.volume.poll_event() {
            match event {
                Event::Finished(file) => {
                    if let Some(segment) = self.ending.remove(&file) {
                        self.bookkeeper.enter(Entry::Segment(segment));
                    }
                }
                Event::Failed { file, path, error } => {
                    self.ending.remove(&file);
                    self.fails(&path, &error);
                    outcomes.push(Outcome::Failed(file, path));
                }
                Event::Durable(file, offset) => {
                    self.works();
                    outcomes.push(Outcome::Durable(file, offset));
                }
            }
        }
        Ok(outcomes)
    }

    /// Gives an end and a row to what of a file that has failed is whole within its first `len` bytes.
    pub fn save(&self, path: PathBuf, len: u64) {
        self.bookkeeper.enter(Entry::Repair { path, len });
    }

    /// Tells it once, however many files it strikes.
    fn fails(&mut self, path: &Path, error: &io::Error) {
        let told = error.to_string();
        if self.trouble.as_ref() != Some(&told) {
            eprintln!("vms-record: {}: {told}; trying again", self.dir.join(path).display());
            self.trouble = Some(told);
        }
    }

    fn works(&mut self) {
        if self.trouble.take().is_some() {
            eprintln!("vms-record: {}: can be written again", self.dir.display());
        }
    }
}

/// Room that must be there before a unit is taken: the largest one that the ring carries, with what a file's end and begin take.
const ROOM_MIN: usize = 4 * 1024 * 1024 + 4 * BLOCK_LEN;
/// Twice that.
const BLOCKS_MIN: u16 = 40;
