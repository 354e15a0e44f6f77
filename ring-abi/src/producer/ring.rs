//! One reader of one stream, seen from the producer: its descriptor ring and how far it got.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::session::Session;
use crate::cursor::{self, AtomicU32, AtomicU64, Ordering, Store};
use crate::join::Join;
use crate::layout::{
    DESCRIPTOR_LEN, EndReason, PAGE, RING_HEAD_LEN, RING_SLOTS_RANGE, Record, RingState, SegmentHeader,
    SegmentKind, TRACKS_MAX, low, pair,
};
use crate::map::{Bytes, ReadWrite, Word};
use crate::position::round_up;
use crate::segment::Segment;

/// Names a ring: its session's number and the slot within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RingId {
    /// [`Session::number`].
    pub session: u64,
    /// Slot within the session.
    pub slot: u32,
}

/// What holds video back from a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// Nothing.
    Open,
    /// It waits for a keyframe to enter, at the start or after units that were overwritten. What passes is a loss.
    Entry,
    /// It waits for an undamaged keyframe as its filter says. What passes is filtered.
    Damage,
}

/// A reader's descriptor ring. Made by the thread that speaks with the reader, then owned by the stream's producer.
#[derive(Debug)]
pub struct ReaderRing {
    pub(crate) session: Arc<Session>,
    pub(crate) join: Join,
    /// Number of the next entry of each track's index.
    pub(crate) next: [u64; TRACKS_MAX],
    pub(crate) gate: Gate,
    /// Units up to this one were committed before the reader attached.
    pub(crate) backfill_until: u64,
    pub(crate) filtered: u64,
    pub(crate) pace: Pace,
    /// Something the reader should see was written since its session's bell was last rung.
    pub(crate) touched: bool,
    slot: u32,
    slots: u64,
    tail: u64,
    /// The newest head that was checked.
    head: u64,
    losses: Losses,
    end: RingState,
    head_word: Word<AtomicU64, ReadWrite>,
    tail_word: Word<AtomicU64, ReadWrite>,
    session_tail: Word<AtomicU32, ReadWrite>,
    end_word: Word<AtomicU32, ReadWrite>,
    end_line: Bytes<ReadWrite>,
    records: Bytes<ReadWrite>,
}

/// Units that a reader did not get and that its filter did not withhold, counted as the reader counts them: from one record to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Losses {
    /// Of the record that would follow the last one; 0 before the first.
    next_seq: u64,
    /// What was withheld until the last gap.
    filtered: u64,
    units: u64,
    gaps: u64,
}

impl Losses {
    /// The unit `seq` is given, after `filtered` were withheld in all.
    fn note(&mut self, seq: u64, filtered: u64) {
        // What was withheld has a number too: without a gap there is nothing to count.
        if seq != self.next_seq {
            self.note_gap(seq, filtered);
        }
        self.next_seq = seq.saturating_add(1);
    }

    #[cold]
    fn note_gap(&mut self, seq: u64, filtered: u64) {
        if self.next_seq > 0 {
            let gap = seq.saturating_sub(self.next_seq);
            let lost = gap.saturating_sub(filtered.saturating_sub(self.filtered));
            self.units = self.units.saturating_add(lost);
            self.gaps = self.gaps.saturating_add(u64::from(lost > 0));
        }
        self.filtered = filtered;
    }
}

/// When a reader that has a backlog is looked at again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Deadline on the caller's clock, ns; `None` without a backlog.
    pub(crate) due_ns: Option<u64>,
    interval_ns: u64,
}

impl Pace {
    /// Interval while the reader's head moves.
    const SHORTEST_NS: u64 = 5_000_000;
    /// Interval for a reader that has stopped.
    const LONGEST_NS: u64 = 200_000_000;

    /// The reader has all there is.
    pub(crate) fn caught_up(&mut self) {
        *self = Self::default();
    }

    /// Records wait, and there is room for them.
    pub(crate) fn again_at_once(&mut self, now_ns: u64) {
        self.due_ns = Some(now_ns);
    }

    /// Records wait for the reader to make room.
    pub(crate) fn blocked(&mut self, now_ns: u64, moved: bool) {
        if !moved && self.due_ns.is_some_and(|due| due > now_ns) {
            return;
        }
        let interval = if moved { 0 } else { self.interval_ns.saturating_mul(2) };
        self.interval_ns = interval.clamp(Self::SHORTEST_NS, Self::LONGEST_NS);
        self.due_ns = Some(now_ns.saturating_add(self.interval_ns));
    }
}

impl ReaderRing {
    /// Makes a ring for slot `slot` of `session`, and the descriptor that the reader is to be sent. The ring keeps only
    /// its mapping: once the descriptor was sent it can be closed, so that readers cost the producer no descriptors.
    ///
    /// # Errors
    /// `InvalidInput` when the session has no such slot; else what the system says.
    pub fn create(
        stream_uid: u64,
        epoch: u64,
        join: &Join,
        session: &Arc<Session>,
        slot: u32,
    ) -> io::Result<(Self, OwnedFd)> {
        let slots = slots_for(join);
        let size = Self::segment_len(join);
        let header = SegmentHeader {
            header_len: u32::try_from(RING_HEAD_LEN).unwrap_or(0),
            rec_size: u32::try_from(DESCRIPTOR_LEN).unwrap_or(0),
            ..SegmentHeader::new(SegmentKind::DescriptorRing, size, epoch, stream_uid)
        };
        let Segment { fd, map } = Segment::create("vms-ring", &header)?;
        let inside = || io::Error::from(io::ErrorKind::InvalidInput);
        let shape = map.bytes(64, 8).ok_or_else(inside)?;
        if !shape.write_words(0, &[pair(slots, join.class as u32)]) {
            return Err(inside());
        }
        let session_tail = session.tail(slot).ok_or_else(inside)?;
        session_tail.store(0, Ordering::Relaxed);
        let ring = Self {
            session: Arc::clone(session),
            join: *join,
            next: [0; TRACKS_MAX],
            gate: Gate::Entry,
            backfill_until: 0,
            filtered: 0,
            pace: Pace::default(),
            touched: false,
            slot,
            slots: u64::from(slots),
            tail: 0,
            head: 0,
            losses: Losses::default(),
            end: RingState::Ok,
            head_word: session.head(slot).ok_or_else(inside)?,
            tail_word: map.word64(128).ok_or_else(inside)?,
            session_tail,
            end_word: map.word32(192).ok_or_else(inside)?,
            end_line: map.bytes(192, 64).ok_or_else(inside)?,
            records: map.bytes(RING_HEAD_LEN, u64::from(slots) * DESCRIPTOR_LEN).ok_or_else(inside)?,
        };
        Ok((ring, fd))
    }

    /// Bytes of the segment that [`Self::create`] makes.
    pub fn segment_len(join: &Join) -> u64 {
        round_up(RING_HEAD_LEN + u64::from(slots_for(join)) * DESCRIPTOR_LEN, PAGE)
    }

    /// The ring's name.
    pub fn id(&self) -> RingId {
        RingId { session: self.session.number(), slot: self.slot }
    }

    /// The session it belongs to.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// What the reader asked for.
    pub fn join(&self) -> &Join {
        &self.join
    }

    /// How the ring ended; [`RingState::Ok`] while it has not.
    pub fn state(&self) -> RingState {
        self.end
    }

    /// Records pushed so far.
    pub fn pushed(&self) -> u64 {
        self.tail
    }

    /// Records withheld by the reader's filter so far.
    pub fn filtered(&self) -> u64 {
        self.filtered
    }

    /// Units that the reader was not given between two records, beside those that its filter withheld: they had been overwritten before
    /// there was room in the ring, or a LIVE reader was too late for them.
    ///
    /// What it was given and found overwritten only it knows.
    pub fn lost_units(&self) -> u64 {
        self.losses.units
    }

    /// How often units were missing between two records.
    pub fn gaps(&self) -> u64 {
        self.losses.gaps
    }

    /// Records that the reader has not said to have read. A claim that cannot be counts as none.
    pub fn unread(&self) -> u64 {
        let head = cursor::observe_head(&self.head_word);
        if (self.head..=self.tail).contains(&head) { self.tail - head } else { 0 }
    }

    /// Whether units wait for room in the ring.
    pub fn is_behind(&self) -> bool {
        self.pace.due_ns.is_some()
    }

    /// Whether there is room for a record. Looks at the reader's head only when its checked copy says "full". A head
    /// that lies is an eviction: [`RoomError::BadCursor`].
    pub(crate) fn room(&mut self) -> Result<(), RoomError> {
        if self.tail - self.head < self.slots {
            return Ok(());
        }
        let claim = cursor::observe_head(&self.head_word);
        if claim < self.head || claim > self.tail {
            return Err(RoomError::BadCursor);
        }
        let moved = claim > self.head;
        self.head = claim;
        if moved { Ok(()) } else { Err(RoomError::Full) }
    }

    /// The newest head that was checked.
    pub(crate) fn checked_head(&self) -> u64 {
        self.head
    }

    /// Puts a record into the ring. The caller has checked [`ReaderRing::room`].
    // Once a unit and reader: as a call it takes 20 instructions more, of some 100.
    #[inline(always)]
    pub(crate) fn push(&mut self, record: &Record) {
        let at = (self.tail & (self.slots - 1)) * DESCRIPTOR_LEN;
        let written = self.records.write_words(at, &record.for_reader(self.filtered, self.backfill_until));
        debug_assert!(written, "the remainder by the slots is inside of the records");
        self.tail += 1;
        self.losses.note(record.seq(), self.filtered);
        cursor::publish_tail(&self.tail_word, self.tail);
        cursor::publish_session_tail(&self.session_tail, low(self.tail));
        self.touched = true;
    }

    /// Ends the ring: final counts first, then the state, so that who sees the state sees the counts.
    pub(crate) fn finish(&mut self, state: RingState, reason: EndReason, last_seq: u64) {
        if self.end != RingState::Ok {
            return;
        }
        self.end = state;
        let line = [pair(RingState::Ok as u32, reason as u32), last_seq, self.filtered];
        let written = self.end_line.write_words(0, &line);
        debug_assert!(written, "the line has 64 bytes");
        cursor::publish_end(&self.end_word, state as u32);
        self.pace.caught_up();
        self.session.note_change();
        self.touched = true;
    }
}

fn slots_for(join: &Join) -> u32 {
    join.ring_slots.clamp(*RING_SLOTS_RANGE.start(), *RING_SLOTS_RANGE.end()).next_power_of_two()
}

/// Why there is no room in a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RoomError {
    /// The reader has not read what it has.
    Full,
    /// The reader's head is not between its last checked value and the tail.
    BadCursor,
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::Losses;

    #[test]
    fn what_is_missing_between_two_records_is_lost_unless_it_was_withheld() {
        let mut losses = Losses::default();
        for (seq, filtered, lost, gaps) in [
            // Where a reader enters is no loss.
            (500, 0, 0, 0),
            (501, 0, 0, 0),
            (504, 2, 0, 0),
            (508, 3, 2, 1),
            (509, 3, 2, 1),
            (520, 3, 12, 2),
        ] {
            losses.note(seq, filtered);
            assert_eq!((losses.units, losses.gaps), (lost, gaps), "at {seq}");
        }
    }
}
