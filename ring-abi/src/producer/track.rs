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
    CONFIG_DATA_MAX, DESCRIPTOR_LEN, DESCRIPTOR_WORDS, Descriptor, Flags, LINE, NALS_PER_UNIT_MAX, TrackKind,
};
use crate::map::{Bytes, Mapping, ReadWrite, Word};
use crate::position::{Arena, round_up};

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
}

/// A unit's end of the story: what `Track::close` needs of it.
pub(crate) struct Closing<'a> {
    pub(crate) descriptor: Descriptor,
    pub(crate) nal_ends: &'a [u32],
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
        self.open = Some(Open { start: self.write_pos, len: DESCRIPTOR_LEN });
    }

    /// Drops the open unit. What was reclaimed for it stays reclaimed: `reclaim_pos` never decreases.
    pub(crate) fn abort(&mut self) {
        self.open = None;
    }

    /// Adds to the open unit.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), UnitError> {
        let open = self.make_room(bytes.len() as u64)?;
        let written = self.bytes.write(self.arena.offset(open.start) + open.len, bytes);
        debug_assert!(written, "make_room keeps the unit within its lap");
        self.open = Some(Open { len: open.len + bytes.len() as u64, ..open });
        Ok(())
    }

    /// Ends the open unit: writes NAL index and descriptor, and gives the descriptor as readers will see it.
    /// The unit is gone when this fails.
    pub(crate) fn close(&mut self, unit: Closing<'_>) -> Result<Descriptor, UnitError> {
        let closed = self.try_close(unit);
        self.open = None;
        closed
    }

    fn try_close(&mut self, unit: Closing<'_>) -> Result<Descriptor, UnitError> {
        let open = self.open.ok_or(UnitError::NotOpen)?;
        let mut d = unit.descriptor;
        let too_large = UnitError::TooLarge { limit: self.payload_limit() };
        d.len = u32::try_from(open.len - DESCRIPTOR_LEN).map_err(|_| too_large)?;
        (d.nal_off, d.nal_count) = self.append_nal_index(d.len, unit.nal_ends)?;
        d.flags |= if d.nal_count > 0 { Flags::HAS_NAL_INDEX.0 } else { 0 };
        // The unit may have moved to the next lap while its index was added.
        let Open { start, len } = self.open.ok_or(UnitError::NotOpen)?;
        d.pos = start + DESCRIPTOR_LEN;
        let end = round_up(start + len, LINE);
        self.make_index_room();
        if d.has(Flags::KEY) {
            self.key_seq = d.seq;
        }
        d.key_seq = self.key_seq;
        if !self.configs.note_use(d.config_id, end) {
            d.config_id = 0;
        }
        let written = self.bytes.write_words(self.arena.offset(start), &d.to_words());
        debug_assert!(written, "the descriptor's place was made by begin");
        self.index.push(Entry::new(d.seq, d.pos, d.recv_mono_ns, Flags(d.flags)));
        self.write_pos = end;
        self.write_word.store(end, Ordering::Release);
        Ok(d)
    }

    /// Puts the NAL index behind the payload; its offset from the payload and its entries.
    fn append_nal_index(&mut self, payload_len: u32, ends: &[u32]) -> Result<(u32, u32), UnitError> {
        if ends.len() > NALS_PER_UNIT_MAX {
            return Err(UnitError::TooManyNals { count: ends.len() });
        }
        let count = u32::try_from(ends.len()).map_err(|_| UnitError::TooManyNals { count: ends.len() })?;
        if count == 0 {
            // Even an empty unit's descriptor must have its room.
            self.append(&[])?;
            return Ok((0, 0));
        }
        let nal_off = payload_len.next_multiple_of(4);
        let pad = [0u8; 3];
        self.append(pad.get(..(nal_off - payload_len) as usize).unwrap_or(&[]))?;
        let mut batch = [0u8; 256];
        for ends in ends.chunks(batch.len() / 4) {
            for (word, end) in batch.chunks_exact_mut(4).zip(ends) {
                word.copy_from_slice(&end.to_le_bytes());
            }
            self.append(batch.get(..ends.len() * 4).unwrap_or(&[]))?;
        }
        Ok((nal_off, count))
    }

    /// The descriptor of a retained unit.
    pub(crate) fn descriptor(&self, entry: Entry) -> Option<Descriptor> {
        let at = self.arena.offset(entry.pos().checked_sub(DESCRIPTOR_LEN)?);
        self.bytes.read_words::<DESCRIPTOR_WORDS>(at).map(|words| Descriptor::from_words(&words))
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

    /// Begins where `before`, the same track in another segment, stands: its newest keyframe and its current configuration,
    /// under the same id.
    pub(crate) fn take_over(&mut self, before: &Self) {
        self.key_seq = before.key_seq;
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

    /// Makes the next `more` bytes of the open unit writable; the unit as it is then.
    fn make_room(&mut self, more: u64) -> Result<Open, UnitError> {
        let open = self.open.ok_or(UnitError::NotOpen)?;
        if open.len.saturating_add(more) > self.arena.unit_limit() {
            return Err(UnitError::TooLarge { limit: self.payload_limit() });
        }
        let open =
            if self.arena.fits(open.start, open.len + more) { open } else { self.move_to_next_lap(open) };
        self.reclaim_to(self.arena.reclaim_for(open.start + open.len + more));
        Ok(open)
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

    /// Takes the oldest unit from the readers when the index has no entry left.
    fn make_index_room(&mut self) {
        if self.index.is_full() {
            let pos = self.index.oldest().map_or(0, Entry::pos);
            self.reclaim_to(pos + LINE);
        }
    }
}
