//! One track: the writer of its arena, the index of what it retains, its configurations.
//!
//! ```text
//!  write_pos                                          a unit begins at a multiple of 64
//!     ▼
//!     │ descriptor 128 │ payload … │ pad │ NAL index │
//!                      ▲ pos                         ▲ the next unit begins at the next multiple of 64
//! ```
//! The 128 bytes before a payload are the producer's: it keeps the descriptor there for readers that attach later. No
//! reader may look at them.

use super::configs::{ConfigTable, Configuration};
use super::index::{Entry, UnitIndex};
use crate::cursor::{self, AtomicU32, AtomicU64, Ordering, Store};
use crate::layout::{
    CONFIG_DATA_MAX, DESCRIPTOR_LEN, Flags, LINE, NALS_PER_UNIT_MAX, Record, TrackKind, low,
};
use crate::map::{Bytes, Mapping, ReadWrite, Word};
use crate::position::{Arena, round_up};

/// What stands between a payload and its NAL index, if it is not a multiple of an entry.
const PAD: &[u8] = &[0; 3];

/// Bytes of an entry of the NAL index.
const NAL_END_LEN: u64 = size_of::<u32>() as u64;

/// Bytes of an open unit that are moved at a time when it meets the arena's end.
const MOVE_LEN: u64 = 64 * 1024;

/// Why bytes or a unit were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// The unit with its NAL index is larger than a unit may be in this arena.
    #[error("the unit is larger than the limit of {limit} bytes")]
    TooLarge {
        /// Bytes of payload and NAL index that a unit may have.
        limit: u64,
    },
    /// More NAL units than a unit may have.
    #[error("the unit has {count} NAL units; at most {NALS_PER_UNIT_MAX} are carried")]
    TooManyNals {
        /// How many it has.
        count: usize,
    },
    /// No unit is open, or no such track exists.
    #[error("no unit is open")]
    NotOpen,
}

/// Why a configuration was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigureError {
    /// The parameter sets do not fit an entry.
    #[error("the parameter sets have {len} bytes; at most {CONFIG_DATA_MAX} can be published")]
    TooLarge {
        /// Their size.
        len: usize,
    },
    /// No such track exists.
    #[error("no such track")]
    NoTrack,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    /// Where the descriptor will stand.
    start: u64,
    /// Bytes from `start`, the descriptor's included.
    len: u64,
    /// How many bytes from `start` can be written as things are: see [`Track::room_from`].
    room: u64,
}

/// A unit that ended, with its NAL index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closed {
    start: u64,
    /// Bytes from `start`.
    len: u64,
    pub(crate) payload_len: u32,
    pub(crate) nal_off: u32,
    pub(crate) nal_count: u32,
}

impl Closed {
    /// Position of its payload.
    pub(crate) const fn pos(&self) -> u64 {
        self.start + DESCRIPTOR_LEN
    }
}

#[derive(Debug)]
pub(crate) struct Track {
    pub(crate) kind: TrackKind,
    pub(crate) timescale: u32,
    pub(crate) index: UnitIndex,
    arena: Arena,
    bytes: Bytes<ReadWrite>,
    reclaim_word: Word<AtomicU64, ReadWrite>,
    write_word: Word<AtomicU64, ReadWrite>,
    config_word: Word<AtomicU32, ReadWrite>,
    codec_word: Word<AtomicU32, ReadWrite>,
    configs: ConfigTable,
    /// Private copy of `reclaim_pos`.
    reclaimed: u64,
    /// End of the newest committed unit, a multiple of 64.
    write_pos: u64,
    open: Option<Open>,
    /// Sequence number of the newest keyframe; 0 before the first.
    key_seq: u64,
    /// Bytes that were copied a second time, at the arena's end.
    moved_bytes: u64,
}

/// Where a track's parts are in its segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TrackPlan {
    pub(crate) kind: TrackKind,
    pub(crate) timescale: u32,
    pub(crate) arena: Arena,
    pub(crate) index_max: usize,
    pub(crate) entry_off: u64,
    pub(crate) configs_off: u64,
    pub(crate) arena_off: u64,
}

impl Track {
    /// The track by `plan`; `None` when the plan does not fit the mapping.
    pub(crate) fn new(map: &Mapping<ReadWrite>, plan: &TrackPlan) -> Option<Self> {
        Some(Self {
            kind: plan.kind,
            timescale: plan.timescale,
            index: UnitIndex::new(plan.index_max),
            arena: plan.arena,
            bytes: map.bytes(plan.arena_off, plan.arena.len())?,
            reclaim_word: map.word64(plan.entry_off + 64)?,
            write_word: map.word64(plan.entry_off + 128)?,
            config_word: map.word32(plan.entry_off + 136)?,
            codec_word: map.word32(plan.entry_off + 140)?,
            configs: ConfigTable::new(map, plan.configs_off)?,
            reclaimed: 0,
            write_pos: 0,
            open: None,
            key_seq: 0,
            moved_bytes: 0,
        })
    }

    /// Bytes of payload and NAL index that a unit may have.
    pub(crate) fn payload_limit(&self) -> u64 {
        self.arena.unit_limit() - DESCRIPTOR_LEN
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Opens a unit; one that is still open is dropped.
    pub(crate) fn begin(&mut self) {
        let start = self.write_pos;
        self.open = Some(Open { start, len: DESCRIPTOR_LEN, room: self.room_from(start) });
    }

    /// Drops the open unit. What was reclaimed for it stays reclaimed: `reclaim_pos` never decreases.
    pub(crate) fn abort(&mut self) {
        self.open = None;
    }

    /// Adds to the open unit.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), UnitError> {
        let at = self.extend(bytes.len() as u64)?;
        let written = self.bytes.write(at, bytes);
        debug_assert!(written, "extend keeps the unit within its lap");
        Ok(())
    }

    /// Ends the open unit: writes its NAL index. It is to be retained then ([`Self::retain`]); it is gone when this fails.
    pub(crate) fn close(&mut self, nal_ends: &[u32]) -> Result<Closed, UnitError> {
        let closed = self.append_nal_index(nal_ends);
        self.open = None;
        if let Ok(closed) = &closed {
            self.write_pos = round_up(closed.start + closed.len, LINE);
        }
        closed
    }

    /// Notes that the unit that was just closed refers to this configuration; 0 when it is not in the table any more.
    pub(crate) fn note_config(&mut self, id: u32) -> u32 {
        if self.configs.note_use(id, self.write_pos) { id } else { 0 }
    }

    /// The keyframe that the unit `seq` depends on; itself, if it is one.
    pub(crate) fn note_key(&mut self, seq: u64, flags: Flags) -> u64 {
        if flags.contains(Flags::KEY) {
            self.key_seq = seq;
        }
        self.key_seq
    }

    /// Keeps the unit that was just closed, under its `record`, for readers that come later.
    pub(crate) fn retain(&mut self, entry: Entry, record: &Record) {
        self.make_index_room();
        let written = self.bytes.write_words(self.arena.offset(entry.pos() - DESCRIPTOR_LEN), record.words());
        debug_assert!(written, "the record's place was made by begin");
        self.index.push(entry);
        self.write_word.store(self.write_pos, Ordering::Release);
    }

    /// Puts the NAL index behind the payload of the open unit, whose end this is.
    fn append_nal_index(&mut self, ends: &[u32]) -> Result<Closed, UnitError> {
        if ends.len() > NALS_PER_UNIT_MAX {
            return Err(UnitError::TooManyNals { count: ends.len() });
        }
        let payload_len = self.open.ok_or(UnitError::NotOpen)?.len - DESCRIPTOR_LEN;
        let nal_off = if ends.is_empty() { payload_len } else { round_up(payload_len, NAL_END_LEN) };
        let pad_len = nal_off - payload_len;
        // Even an empty unit's descriptor must have its room. The unit may move to the next lap here.
        let at = self.extend(pad_len + ends.len() as u64 * NAL_END_LEN)?;
        if !ends.is_empty() {
            let pad = PAD.get(..low(pad_len) as usize).unwrap_or_default();
            let padded = pad.is_empty() || self.bytes.write(at, pad);
            let written = padded && self.bytes.write_u32s(at + pad_len, ends);
            debug_assert!(written, "extend keeps the unit within its lap");
        }
        let Open { start, len, .. } = self.open.ok_or(UnitError::NotOpen)?;
        // A unit has at most `UNIT_LEN_MAX` bytes, so the low half is all of each number.
        let nal_off = if ends.is_empty() { 0 } else { low(nal_off) };
        Ok(Closed { start, len, payload_len: low(payload_len), nal_off, nal_count: low(ends.len() as u64) })
    }

    /// The record of a retained unit.
    pub(crate) fn record(&self, entry: Entry) -> Option<Record> {
        let at = self.arena.offset(entry.pos().checked_sub(DESCRIPTOR_LEN)?);
        self.bytes.read_words(at).map(Record::of_words)
    }

    /// First payload position that is at least a quarter of the arena away from being overwritten.
    pub(crate) fn safe_pos(&self) -> u64 {
        self.reclaimed.saturating_add(self.arena.len() / 4)
    }

    /// Time between the oldest and newest retained unit, ns.
    pub(crate) fn retained_ns(&self) -> u64 {
        let newest = self.index.newest().map_or(0, |e| e.recv_ns);
        newest.saturating_sub(self.index.oldest().map_or(newest, |e| e.recv_ns))
    }

    /// Sequence number of the newest keyframe; 0 before the first.
    pub(crate) fn key_seq(&self) -> u64 {
        self.key_seq
    }

    /// Bytes that were copied a second time.
    pub(crate) fn moved_bytes(&self) -> u64 {
        self.moved_bytes
    }

    /// Begins where `before`, the same track in another segment, stands: its newest keyframe and its current configuration,
    /// under the same id.
    pub(crate) fn take_over(&mut self, before: &Self) {
        self.key_seq = before.key_seq;
        self.moved_bytes = before.moved_bytes;
        let mut data = [0; CONFIG_DATA_MAX];
        if let Some((id, configuration)) = before.configs.current(&mut data) {
            self.write_config(id, &configuration);
        }
    }

    /// Makes `configuration` current under the id it had, if it is still in the table.
    pub(crate) fn reuse_config(&mut self, configuration: &Configuration<'_>) -> Option<u32> {
        let id = self.configs.reuse(configuration)?;
        self.announce_config(id, configuration);
        Some(id)
    }

    /// Writes `configuration` as `id` into the entry whose users are oldest, after taking those from the readers.
    pub(crate) fn write_config(&mut self, id: u32, configuration: &Configuration<'_>) {
        let Some((at, last_use)) = self.configs.victim() else { return };
        self.reclaim_to(last_use);
        self.configs.write(at, id, configuration);
        self.announce_config(id, configuration);
    }

    fn announce_config(&self, id: u32, configuration: &Configuration<'_>) {
        self.codec_word.store(configuration.codec as u32, Ordering::Relaxed);
        self.config_word.store(id, Ordering::Release);
    }

    /// Makes the open unit `more` bytes longer; where in the arena these are to be written.
    fn extend(&mut self, more: u64) -> Result<u64, UnitError> {
        let open = self.open.as_ref().ok_or(UnitError::NotOpen)?;
        if open.len.saturating_add(more) > open.room {
            self.make_room(more)?;
        }
        let open = self.open.as_mut().ok_or(UnitError::NotOpen)?;
        let at = self.arena.offset(open.start) + open.len;
        open.len += more;
        Ok(at)
    }

    /// Once in many units: reclaims a chunk, or moves the open unit to the next lap.
    #[cold]
    fn make_room(&mut self, more: u64) -> Result<(), UnitError> {
        let open = self.open.ok_or(UnitError::NotOpen)?;
        if open.len.saturating_add(more) > self.arena.unit_limit() {
            return Err(self.too_large());
        }
        let Open { start, len, .. } =
            if self.arena.fits(open.start, open.len + more) { open } else { self.move_to_next_lap(open) };
        self.reclaim_to(self.arena.reclaim_for(start + len + more));
        self.open = Some(Open { start, len, room: self.room_from(start) });
        Ok(())
    }

    /// How many bytes a unit may have from `start` without anything being reclaimed or moved: to the limit of a unit, the
    /// end of the lap, and the oldest byte that is not taken from the readers.
    fn room_from(&self, start: u64) -> u64 {
        let lap = self.arena.len() - self.arena.offset(start);
        let free = (self.reclaimed + self.arena.len()).saturating_sub(start);
        self.arena.unit_limit().min(lap).min(free)
    }

    fn too_large(&self) -> UnitError {
        UnitError::TooLarge { limit: self.payload_limit() }
    }

    /// Moves the open unit's payload to the arena's start. A unit has at most a quarter of the arena and ran into its end, so
    /// it begins in the last quarter, and its old and new places do not overlap. The descriptor's room is not moved: it is
    /// not written yet and may even lie across the end.
    fn move_to_next_lap(&mut self, open: Open) -> Open {
        let start = self.arena.next_lap(open.start);
        let mut done = DESCRIPTOR_LEN;
        while done < open.len {
            let part = MOVE_LEN.min(open.len - done);
            self.reclaim_to(self.arena.reclaim_for(start + done + part));
            let from = self.arena.offset(open.start) + done;
            let moved = usize::try_from(part).is_ok_and(|n| self.bytes.copy_within(from, done, n));
            debug_assert!(moved, "both places are inside of the arena");
            done += part;
            self.moved_bytes += part;
        }
        let open = Open { start, ..open };
        self.open = Some(open);
        open
    }

    /// Takes all below `pos` from the readers.
    fn reclaim_to(&mut self, pos: u64) {
        if cursor::reclaim(&self.reclaim_word, &mut self.reclaimed, pos) {
            self.index.reclaim_below(self.reclaimed);
        }
    }

    /// Takes the oldest units from the readers when the index has no entry left: a sixteenth of all, because each store of
    /// `reclaim_pos` costs every reader a cache miss at its next unit.
    fn make_index_room(&mut self) {
        if self.index.is_full() {
            let last = self.index.first() + self.index.len() / 16;
            let pos = self.index.entry(last).map_or(0, Entry::pos);
            self.reclaim_to(pos + LINE);
        }
    }
}
