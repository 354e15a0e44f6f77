//! The thread that writes the catalogue and deletes what is beyond the limits, so that nobody waits for that who has units to take.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::io::Errno;
use serde_json::{Value, json};

use crate::catalogue::Catalogue;
use crate::recording::{Gap, Segment};
use crate::recover;
use crate::retention::{self, Kept, Limits, Usage};
use crate::storage::StorageError;
use crate::utc;

/// What is written down.
#[derive(Debug)]
pub(crate) enum Entry {
    /// A file that is on the disk.
    Segment(Box<Segment>),
    /// A time of which there is nothing, of a stream.
    Gap(String, Gap),
    /// A file that could not be written to its end: what of it is whole.
    Repair {
        /// Which.
        path: PathBuf,
        /// So many bytes of it at most.
        len: u64,
    },
}

impl Entry {
    /// For programs: a line of JSON.
    fn to_json(&self) -> Value {
        match self {
            Self::Repair { path, .. } => json!({ "type": "repaired", "path": path }),
            Self::Segment(segment) => json!({
                "type": "segment",
                "stream": segment.stream,
                "path": segment.path,
                "why": segment.why,
                "start": utc::format(segment.start_utc_ns),
                "end": utc::format(segment.end_utc_ns),
                "first_seq": segment.first_seq,
                "last_seq": segment.last_seq,
                "units": segment.units,
                "damaged": segment.damaged,
                "bytes": segment.bytes,
            }),
            Self::Gap(stream, gap) => json!({
                "type": "gap",
                "stream": stream,
                "from": utc::format(gap.from_utc_ns),
                "to": utc::format(gap.to_utc_ns),
                "reason": gap.reason.name(),
                "lost": gap.lost,
            }),
        }
    }
}

/// What else the thread is told.
#[derive(Debug)]
pub(crate) struct Housekeeping {
    /// How much is kept.
    pub(crate) limits: Limits,
    /// Bytes of the files that are being written.
    pub(crate) open_bytes: Arc<AtomicU64>,
    /// Each entry is a line of JSON on standard output, too, once it is in the catalogue.
    pub(crate) tells: bool,
}

/// The thread's other end. Dropping it waits until all is written.
#[derive(Debug)]
pub(crate) struct Bookkeeper {
    entries: Option<Sender<Entry>>,
    thread: Option<JoinHandle<()>>,
}

impl Bookkeeper {
    /// Starts the thread, for the storage at `dir`.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(crate) fn start(catalogue: Catalogue, dir: &Path, housekeeping: Housekeeping) -> io::Result<Self> {
        let (entries, to_write) = channel();
        let mut thread = Thread { catalogue, dir: dir.to_owned(), housekeeping, is_short: false };
        let run = move || thread.run(&to_write);
        let thread = thread::Builder::new().name("catalogue".to_owned()).spawn(run)?;
        Ok(Self { entries: Some(entries), thread: Some(thread) })
    }

    pub(crate) fn enter(&self, entry: Entry) {
        if let Some(entries) = &self.entries {
            let _ = entries.send(entry);
        }
    }
}

impl Drop for Bookkeeper {
    fn drop(&mut self) {
        self.entries = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[derive(Debug)]
struct Thread {
    catalogue: Catalogue,
    dir: PathBuf,
    housekeeping: Housekeeping,
    /// Everything that may go has gone, and it was said.
    is_short: bool,
}

impl Thread {
    fn run(&mut self, entries: &Receiver<Entry>) {
        loop {
            match entries.recv_timeout(HOUSEKEEPING_INTERVAL) {
                Ok(entry) => self.write(&entry),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // What waits is written together, before the files are looked through.
            while let Ok(entry) = entries.try_recv() {
                self.write(&entry);
            }
            if let Err(error) = self.delete() {
                eprintln!("vms-record: nothing can be deleted: {error}");
            }
        }
    }

    fn write(&self, entry: &Entry) {
        let result = match entry {
            Entry::Segment(segment) => self.catalogue.add_segment(segment).map_err(StorageError::from),
            Entry::Gap(stream, gap) => self.catalogue.add_gap(stream, gap).map_err(StorageError::from),
            Entry::Repair { path, len } => {
                recover::recover_file(&self.dir, path, *len, &self.catalogue).map(drop)
            }
        };
        match result {
            Ok(()) => self.tell(&entry.to_json()),
            // The file is there: the next start finds it without a row.
            Err(error) => eprintln!("vms-record: not in the catalogue: {error}"),
        }
    }

    fn tell(&self, line: &Value) {
        if self.housekeeping.tells {
            // Nobody listens: that is no reason to stop.
            let _ = writeln!(io::stdout(), "{line}");
        }
    }

    /// Deletes what is beyond the limits: the file first, so that a row that stays is found by the next start.
    fn delete(&mut self) -> Result<(), StorageError> {
        let files = self.catalogue.kept()?;
        let of_dir = |error: Errno| StorageError::Io { path: self.dir.clone(), error: error.into() };
        let disk = rustix::fs::statvfs(&self.dir).map_err(of_dir)?;
        let usage = Usage {
            open_bytes: self.housekeeping.open_bytes.load(Ordering::Relaxed),
            free: disk.f_bavail.saturating_mul(disk.f_frsize),
        };
        let kept: Vec<Kept> = files.iter().map(|(kept, _)| *kept).collect();
        let verdict = retention::decide(&kept, usage, utc::now_ns(), self.housekeeping.limits);
        for (kept, path) in files.iter().filter(|(kept, _)| verdict.delete.contains(&kept.id)) {
            match fs::remove_file(self.dir.join(path)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StorageError::Io { path: self.dir.join(path), error });
                }
                _ => self.catalogue.remove(kept.id)?,
            }
            self.tell(&json!({ "type": "deleted", "path": path, "bytes": kept.bytes }));
        }
        if verdict.is_short && !self.is_short {
            eprintln!(
                "vms-record: {}: more is taken than --keep-bytes and --reserve allow, and nothing is left to delete: unlock files, or \
                 make room",
                self.dir.display()
            );
        }
        self.is_short = verdict.is_short;
        Ok(())
    }
}

/// How often the limits are looked at, at the latest.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(5);
