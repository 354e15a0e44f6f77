//! The thread that writes the catalogue, so that nobody waits for SQLite who has units to take.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use serde_json::{Value, json};

use crate::catalogue::Catalogue;
use crate::recording::{Gap, Segment};
use crate::recover;
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

/// The thread's other end. Dropping it waits until all is written.
#[derive(Debug)]
pub(crate) struct Bookkeeper {
    entries: Option<Sender<Entry>>,
    thread: Option<JoinHandle<()>>,
}

impl Bookkeeper {
    /// Starts the thread. If `tells`, each entry is a line of JSON on standard output, too, once it is in the catalogue.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(crate) fn start(catalogue: Catalogue, dir: &Path, tells: bool) -> io::Result<Self> {
        let dir = dir.to_owned();
        let (entries, written) = channel();
        let thread = thread::Builder::new().name("catalogue".to_owned()).spawn(move || {
            for entry in written {
                let result = match &entry {
                    Entry::Segment(segment) => catalogue.add_segment(segment).map_err(StorageError::from),
                    Entry::Gap(stream, gap) => catalogue.add_gap(stream, gap).map_err(StorageError::from),
                    Entry::Repair { path, len } => {
                        recover::recover_file(&dir, path, *len, &catalogue).map(drop)
                    }
                };
                match result {
                    // Nobody listens: that is no reason to stop.
                    Ok(()) if tells => drop(writeln!(io::stdout(), "{}", entry.to_json())),
                    Ok(()) => {}
                    // The file is there: the next start finds it without a row.
                    Err(error) => eprintln!("vms-record: not in the catalogue: {error}"),
                }
            }
        })?;
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
