//! The places of a session's slots: the tail that the producer shows, and the head that this reader writes.

use crate::cursor::{AtomicU32, AtomicU64};
use crate::layout::{CURSOR_HEAD_LEN, HeaderError, SESSION_HEAD_LEN, SegmentHeader, low};
use crate::map::{Mapping, ReadOnly, ReadWrite, Word};

/// Offset of `slots` in a session.
const SLOTS_OFF: u64 = 64;

/// Both tables of a session's slots, compared with their segments' sizes.
#[derive(Debug)]
pub(super) struct Slots {
    count: u32,
    session: Mapping<ReadOnly>,
    tails: SegmentHeader,
    cursor: Mapping<ReadWrite>,
    heads: SegmentHeader,
}

impl Slots {
    /// The tables of a session and its cursor.
    ///
    /// # Errors
    /// [`HeaderError::Table`] when words would overlap, be misaligned, or stand outside.
    pub(super) fn new(
        (session, tails): (Mapping<ReadOnly>, SegmentHeader),
        (cursor, heads): (Mapping<ReadWrite>, SegmentHeader),
    ) -> Result<Self, HeaderError> {
        let head = session.bytes(SLOTS_OFF, 8).and_then(|bytes| bytes.read_words::<1>(0));
        let [line] = head.ok_or(HeaderError::Table)?;
        let count = low(line);
        if session.bytes(0, SESSION_HEAD_LEN).is_none() || cursor.bytes(0, CURSOR_HEAD_LEN).is_none() {
            return Err(HeaderError::Table);
        }
        if !holds(&tails, count, 4) || !holds(&heads, count, 8) {
            return Err(HeaderError::Table);
        }
        Ok(Self { count, session, tails, cursor, heads })
    }

    /// Tail and head of a slot; `None` when there is no such slot.
    pub(super) fn words(&self, slot: u32) -> Option<(Word<AtomicU32, ReadOnly>, Word<AtomicU64, ReadWrite>)> {
        if slot >= self.count {
            return None;
        }
        let tail = self.session.word32(record(&self.tails, slot))?;
        Some((tail, self.cursor.word64(record(&self.heads, slot))?))
    }
}

/// Whether a segment has a whole, aligned word of `len` bytes for each of `count` slots.
fn holds(header: &SegmentHeader, count: u32, len: u32) -> bool {
    let (at, distance) = (header.header_len, header.rec_size);
    let end = u64::from(count).checked_mul(distance.into()).and_then(|all| all.checked_add(at.into()));
    distance >= len
        && distance.is_multiple_of(len)
        && at.is_multiple_of(len)
        && end.is_some_and(|end| end <= header.size)
}

/// Offset of a slot's word.
fn record(header: &SegmentHeader, slot: u32) -> u64 {
    u64::from(header.header_len) + u64::from(slot) * u64::from(header.rec_size)
}
