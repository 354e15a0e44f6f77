//! One storage: the files that are being written on it, and when what of them is on the disk. A pure machine: it says which operations
//! it wants and is told how they went; who carries them out is another's.
//!
//! ```text
//!           create ─▶ append ... flush, append ... flush ─▶ finish ─────────────────────────────▶ Finished
//!  disk:    Create    Write  ... Write   ...                │ sync │ header's rest │ sync │ header's first block │ sync
//!                          (a sync a second, of all files together)
//! ```
//! **What is on the disk.** Nothing that was written is rewritten but the header, and that once, behind a sync of all that it speaks of.
//! So a file is always one that [`crate::mkv::scan`] can read, up to its last checkpoint that was synced.
//!
//! **Syncs.** There is at most one at a time, of the whole storage. It covers the writes that were complete when it began. Finishing takes
//! three of them, which are those that happen anyway.
//!
//! **Errors.** A write or sync that fails ends the file, or all files: what a failed sync leaves behind nobody knows, so it is not tried
//! again. Their blocks come back, and who wrote hears of it once for each file.

mod blocks;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;

pub use blocks::{BLOCK_LEN, Block, Blocks};

use crate::mkv::{ALIGN, Sink};

/// A file that is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(u64);

/// What is to be done.
#[derive(Debug)]
pub enum Op {
    /// Make a file; there must be none of that name.
    Create {
        /// Answered by [`Volume::on_created`].
        file: FileId,
        /// Within the storage.
        path: PathBuf,
    },
    /// Write the first `len` bytes of a block, `len` and `at` multiples of [`ALIGN`].
    Write {
        /// Answered by [`Volume::on_written`].
        file: FileId,
        /// Where in the file.
        at: u64,
        /// The bytes; comes back with the answer.
        block: Block,
        /// How many of them.
        len: usize,
    },
    /// Bring all that was written to the disk, and the directories. Answered by [`Volume::on_synced`].
    Sync,
    /// Close a file; not answered.
    Close {
        /// Which.
        file: FileId,
    },
}

/// What became of a file.
#[derive(Debug)]
pub enum Event {
    /// It is on the disk, its header too. It is gone from here.
    Finished(FileId),
    /// It could not be made or written. What of it is on the disk can be read by [`crate::mkv::scan`]. It is gone from here.
    Failed {
        /// Which.
        file: FileId,
        /// Where it is.
        path: PathBuf,
        /// The first thing that went wrong.
        error: io::Error,
    },
    /// All that was flushed of the file up to this offset is on the disk.
    Durable(FileId, u64),
}

/// The files of a storage.
#[derive(Debug)]
pub struct Volume {
    blocks: Blocks,
    files: BTreeMap<FileId, File>,
    next_file: u64,
    ops: VecDeque<Op>,
    events: VecDeque<Event>,
    sync: Option<SyncUnderWay>,
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    stage: Stage,
    /// Where the block that is being filled goes.
    offset: u64,
    filling: Option<(Block, usize)>,
    /// Writes that are not answered; before the file is made, none is asked for.
    in_flight: u32,
    /// Writes that wait for the file to be made.
    waiting: Vec<(u64, Block, usize)>,
    is_created: bool,
    /// Whether something was answered since the last sync began.
    is_dirty: bool,
    /// The first error.
    error: Option<io::Error>,
}

/// How far a file is.
#[derive(Debug)]
enum Stage {
    /// Units come.
    Open,
    /// All units are given to the disk; the header's first part, and the rest behind it, are still to be written.
    Body { header: Vec<u8> },
    /// The header's rest is given to the disk, too.
    HeaderRest { first: Vec<u8> },
    /// The header's first part is, too.
    HeaderFirst,
}

#[derive(Debug)]
struct SyncUnderWay {
    /// The files that it covers whole, and how far.
    covers: Vec<(FileId, u64)>,
}

impl Volume {
    /// A storage without files, that writes from `blocks`.
    pub fn new(blocks: Blocks) -> Self {
        Self {
            blocks,
            files: BTreeMap::new(),
            next_file: 0,
            ops: VecDeque::new(),
            events: VecDeque::new(),
            sync: None,
        }
    }

    /// The memory that is written from, as much of it as is not in use.
    pub const fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// Bytes that can be appended, whatever file they are for, before something is answered.
    pub fn room(&self) -> usize {
        // A block that is begun counts for its own file only.
        self.blocks.count() * BLOCK_LEN
    }

    /// Begins a file.
    pub fn create(&mut self, path: PathBuf) -> FileId {
        let file = FileId(self.next_file);
        self.next_file += 1;
        self.ops.push_back(Op::Create { file, path: path.clone() });
        let state = File {
            path,
            stage: Stage::Open,
            offset: 0,
            filling: None,
            in_flight: 0,
            waiting: Vec::new(),
            is_created: false,
            is_dirty: false,
            error: None,
        };
        self.files.insert(file, state);
        file
    }

    /// Where a file's bytes go. What is appended to a file that has failed is dropped. There must be [`room`](Self::room).
    pub fn appender(&mut self, file: FileId) -> Appender<'_> {
        Appender { volume: self, file }
    }

    /// Gives to the disk what was appended: up to here a multiple of [`ALIGN`] bytes.
    pub fn flush(&mut self, file: FileId) {
        let Some(state) = self.files.get_mut(&file) else { return };
        if let Some((block, len)) = state.filling.take() {
            debug_assert!(len.is_multiple_of(ALIGN), "a checkpoint pads");
            let at = state.offset;
            state.offset += len as u64;
            state.write(file, at, block, len, &mut self.ops);
        }
    }

    /// All units were appended and flushed: ends the file with this header, of the length that its first one had.
    pub fn finish(&mut self, file: FileId, header: Vec<u8>) {
        if let Some(state) = self.files.get_mut(&file) {
            debug_assert!(state.filling.is_none(), "flushed");
            state.stage = Stage::Body { header };
            // Also when nothing was written since the last one.
            state.is_dirty = true;
        }
    }

    /// Asks for a sync if something was written since the last one, and none is under way.
    pub fn tick(&mut self) {
        if self.sync.is_some() {
            return;
        }
        let mut covers = Vec::new();
        let mut is_dirty = false;
        for (id, file) in &mut self.files {
            is_dirty |= std::mem::take(&mut file.is_dirty);
            if file.in_flight == 0 && file.waiting.is_empty() && file.is_created {
                covers.push((*id, file.offset));
            }
        }
        if is_dirty {
            self.sync = Some(SyncUnderWay { covers });
            self.ops.push_back(Op::Sync);
        }
    }

    /// Bytes of the files that are being written.
    pub fn open_bytes(&self) -> u64 {
        self.files.values().map(|file| file.offset).sum()
    }

    /// Whether something was given to the disk that no sync has covered.
    pub fn is_dirty(&self) -> bool {
        self.sync.is_some() || self.files.values().any(|file| file.is_dirty || file.in_flight > 0)
    }

    /// Whether the disk has been given something that it has not answered.
    pub fn is_writing(&self) -> bool {
        self.files.values().any(|file| file.in_flight > 0 || !file.is_created)
    }

    /// The next operation to be carried out, in any order with others that were asked for.
    pub fn poll_op(&mut self) -> Option<Op> {
        self.ops.pop_front()
    }

    /// What became of files.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// A file was made, or not.
    pub fn on_created(&mut self, file: FileId, result: io::Result<()>) {
        let Some(state) = self.files.get_mut(&file) else { return };
        match result {
            Ok(()) => {
                state.is_created = true;
                state.is_dirty = true;
                for (at, block, len) in std::mem::take(&mut state.waiting) {
                    state.write(file, at, block, len, &mut self.ops);
                }
            }
            Err(error) => state.fail(error),
        }
        self.settle(file);
    }

    /// A write is complete. Fewer bytes than asked for are an error: the disk is full.
    pub fn on_written(&mut self, file: FileId, block: Block, result: io::Result<()>) {
        self.blocks.give(block);
        let Some(state) = self.files.get_mut(&file) else { return };
        state.in_flight -= 1;
        state.is_dirty = true;
        if let Err(error) = result {
            state.fail(error);
        }
        self.settle(file);
    }

    /// A sync is complete.
    pub fn on_synced(&mut self, result: io::Result<()>) {
        let Some(sync) = self.sync.take() else { return };
        if let Err(error) = result {
            // Which file it was is not said.
            for file in self.files.values_mut() {
                file.fail(io::Error::new(error.kind(), error.to_string()));
            }
            let all: Vec<FileId> = self.files.keys().copied().collect();
            all.into_iter().for_each(|file| self.settle(file));
            return;
        }
        for (id, offset) in sync.covers {
            self.synced(id, offset);
        }
    }

    /// All that was given to the disk of a file up to `offset` is there.
    fn synced(&mut self, id: FileId, offset: u64) {
        let Some(file) = self.files.get_mut(&id) else { return };
        if file.error.is_some() {
            return;
        }
        match &mut file.stage {
            Stage::Open => self.events.push_back(Event::Durable(id, offset)),
            // Ended while the sync was under way: the next one.
            Stage::Body { .. } if offset != file.offset || file.in_flight > 0 => {}
            Stage::Body { header } => {
                let rest = header.split_off(ALIGN.min(header.len()));
                let first = std::mem::take(header);
                file.stage = Stage::HeaderRest { first };
                self.write_header(id, &rest, ALIGN as u64);
            }
            Stage::HeaderRest { .. } if file.in_flight > 0 => {}
            Stage::HeaderRest { first } => {
                let first = std::mem::take(first);
                file.stage = Stage::HeaderFirst;
                self.write_header(id, &first, 0);
            }
            Stage::HeaderFirst if file.in_flight > 0 => {}
            Stage::HeaderFirst => {
                self.files.remove(&id);
                self.ops.push_back(Op::Close { file: id });
                self.events.push_back(Event::Finished(id));
            }
        }
    }

    /// Writes a part of the header. If no block is free the file fails: it is whole all the same, once it is scanned.
    fn write_header(&mut self, id: FileId, bytes: &[u8], mut at: u64) {
        let Some(file) = self.files.get_mut(&id) else { return };
        file.is_dirty = true;
        for piece in bytes.chunks(BLOCK_LEN) {
            let Some(mut block) = self.blocks.take() else {
                file.fail(io::ErrorKind::OutOfMemory.into());
                break;
            };
            block.fill(0, piece);
            file.write(id, at, block, piece.len(), &mut self.ops);
            at += piece.len() as u64;
        }
        self.settle(id);
    }

    /// Lets go of a file that has failed, once the disk has given back all its blocks.
    fn settle(&mut self, id: FileId) {
        let Some(file) = self.files.get_mut(&id) else { return };
        if file.error.is_none() {
            return;
        }
        file.waiting.drain(..).for_each(|(_, block, _)| self.blocks.give(block));
        if let Some((block, _)) = file.filling.take() {
            self.blocks.give(block);
        }
        if file.in_flight > 0 {
            return;
        }
        let Some(error) = file.error.take() else { return };
        if file.is_created {
            self.ops.push_back(Op::Close { file: id });
        }
        if let Some(file) = self.files.remove(&id) {
            self.events.push_back(Event::Failed { file: id, path: file.path, error });
        }
    }
}

impl File {
    fn write(&mut self, id: FileId, at: u64, block: Block, len: usize, ops: &mut VecDeque<Op>) {
        if self.is_created {
            self.in_flight += 1;
            ops.push_back(Op::Write { file: id, at, block, len });
        } else {
            self.waiting.push((at, block, len));
        }
    }

    fn fail(&mut self, error: io::Error) {
        self.error.get_or_insert(error);
    }
}

/// Appends to a file.
#[derive(Debug)]
pub struct Appender<'a> {
    volume: &'a mut Volume,
    file: FileId,
}

impl Sink for Appender<'_> {
    fn append(&mut self, mut bytes: &[u8]) {
        let Volume { blocks, files, ops, .. } = &mut *self.volume;
        let Some(file) = files.get_mut(&self.file) else { return };
        while !bytes.is_empty() && file.error.is_none() {
            let (mut block, len) = match file.filling.take() {
                Some(filling) => filling,
                None => match blocks.take() {
                    Some(block) => (block, 0),
                    None => {
                        debug_assert!(false, "who appends has looked for room");
                        return file.fail(io::ErrorKind::OutOfMemory.into());
                    }
                },
            };
            let taken = block.fill(len, bytes);
            bytes = bytes.get(taken..).unwrap_or_default();
            let len = len + taken;
            if len < BLOCK_LEN {
                file.filling = Some((block, len));
            } else {
                let at = file.offset;
                file.offset += len as u64;
                file.write(self.file, at, block, len, ops);
            }
        }
    }
}
