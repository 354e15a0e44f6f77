//! A session: what one reader connection shares with all threads that produce for it.
//!
//! The bell is the only word that several producing threads write; each adds to it once a turn in which it touched the session.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use super::notify::Notify;
use crate::cursor::{self, AtomicU32, AtomicU64, Ordering, Store};
use crate::layout::{
    CURSOR_HEAD_LEN, FEATURE_NOTIFY_FD, PAGE, SESSION_HEAD_LEN, SESSION_SLOTS_MAX, SegmentHeader, SegmentKind,
};
use crate::map::{ReadWrite, Word};
use crate::position::round_up;
use crate::segment::Segment;

/// The longest interval that a session is granted, in microseconds.
const BELL_INTERVAL_MAX_US: u32 = 100_000;

/// Bytes of `tails[slot]`.
const TAIL_LEN: u32 = 4;
/// Bytes of `heads[slot]`.
const HEAD_LEN: u32 = 8;

/// A session's shared segments, seen from the producer.
#[derive(Debug)]
pub struct Session {
    number: u64,
    slots: u32,
    segment: Segment,
    cursor: Segment,
    bell: Word<AtomicU32, ReadWrite>,
    state_gen: Word<AtomicU32, ReadWrite>,
    parked: Word<AtomicU32, ReadWrite>,
    /// For a reader that waits on a descriptor instead of the bell.
    notify: Option<Notify>,
    /// How long its reader can do without wakes.
    bell_interval: Duration,
}

impl Session {
    /// Makes a session with room for `slots` attached streams (at least 1, at most [`SESSION_SLOTS_MAX`]).
    ///
    /// `number` is the caller's name of the session: two sessions that live at once have different ones. Its reader waits on
    /// the bell.
    ///
    /// # Errors
    /// What the system says: no memory, no descriptors.
    pub fn create(number: u64, epoch: u64, slots: u32) -> io::Result<Arc<Self>> {
        Self::with_features(number, epoch, slots, 0, Duration::ZERO)
    }

    /// As [`Session::create`], with those of `features` (of HELLO) that are known: [`FEATURE_NOTIFY_FD`]. Its reader can do
    /// without wakes for `bell_interval`, at most 100 ms.
    ///
    /// # Errors
    /// What the system says: no memory, no descriptors.
    pub fn with_features(
        number: u64,
        epoch: u64,
        slots: u32,
        features: u64,
        bell_interval: Duration,
    ) -> io::Result<Arc<Self>> {
        let slots = slots.clamp(1, SESSION_SLOTS_MAX);
        let header = |kind, head_len: u64, word: u32| {
            let size = table_len(head_len, slots, word);
            let header_len = u32::try_from(head_len).unwrap_or(0);
            SegmentHeader { header_len, rec_size: word, ..SegmentHeader::new(kind, size, epoch, 0) }
        };
        let segment =
            Segment::create("vms-session", &header(SegmentKind::Session, SESSION_HEAD_LEN, TAIL_LEN))?;
        let cursor = Segment::create_cursor(
            "vms-cursor",
            &header(SegmentKind::SessionCursor, CURSOR_HEAD_LEN, HEAD_LEN),
        )?;
        let word = |offset| segment.map.word32(offset).ok_or(io::ErrorKind::InvalidData);
        word(64)?.store(slots, Ordering::Relaxed);
        let (bell, state_gen) = (word(128)?, word(132)?);
        let parked = cursor.map.word32(128).ok_or(io::ErrorKind::InvalidData)?;
        let notify = (features & FEATURE_NOTIFY_FD != 0).then(Notify::create).transpose()?;
        let bell_interval = bell_interval.min(Duration::from_micros(BELL_INTERVAL_MAX_US.into()));
        Ok(Arc::new(Self { number, slots, segment, cursor, bell, state_gen, parked, notify, bell_interval }))
    }

    /// Bytes of the two segments that [`Self::create`] makes.
    pub fn segments_len(slots: u32) -> u64 {
        let slots = slots.clamp(1, SESSION_SLOTS_MAX);
        table_len(SESSION_HEAD_LEN, slots, TAIL_LEN) + table_len(CURSOR_HEAD_LEN, slots, HEAD_LEN)
    }

    /// The caller's name of the session.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Streams that can be attached at once.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// The features that WELCOME grants.
    pub fn features(&self) -> u64 {
        if self.notify.is_some() { FEATURE_NOTIFY_FD } else { 0 }
    }

    /// How long the reader can do without wakes, as WELCOME grants it.
    pub fn bell_interval(&self) -> Duration {
        self.bell_interval
    }

    /// The third descriptor that WELCOME carries, if [`FEATURE_NOTIFY_FD`] is granted.
    pub fn notify_fd(&self) -> Option<BorrowedFd<'_>> {
        self.notify.as_ref().map(Notify::readers_end)
    }

    /// The first descriptors that WELCOME carries: session, session cursor.
    pub fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.segment.fd(), self.cursor.fd()]
    }

    /// Rings the bell; true when [`Session::wake`] is due: the reader sleeps, or waits on a descriptor.
    #[must_use]
    pub fn ring_bell(&self) -> bool {
        cursor::ring_bell(&self.bell, &self.parked) || self.notify.is_some()
    }

    /// Wakes the reader by a system call (5–6 µs when it sleeps). Never waits for it.
    pub fn wake(&self) {
        match &self.notify {
            Some(notify) => notify.wake(),
            None => self.bell.futex_wake(),
        }
    }

    /// The bell's address, for `FUTEX_WAKE` by io_uring: `FUTEX2_SIZE_U32`, mask `u32::MAX`, one waiter, not private.
    /// Valid as long as the session. `None` when its reader waits on a descriptor instead.
    pub fn bell_address(&self) -> Option<*const u32> {
        self.notify.is_none().then(|| self.bell.address())
    }

    /// Announces that a state, configuration or timeline changed. The bell is rung after.
    pub(crate) fn note_change(&self) {
        cursor::publish_change(&self.state_gen);
    }

    /// The reader's `heads[slot]`: a claim.
    pub(crate) fn head(&self, slot: u32) -> Option<Word<AtomicU64, ReadWrite>> {
        self.within(slot)?;
        self.cursor.map.word64(CURSOR_HEAD_LEN + u64::from(slot) * 8)
    }

    /// `tails[slot]`.
    pub(crate) fn tail(&self, slot: u32) -> Option<Word<AtomicU32, ReadWrite>> {
        self.within(slot)?;
        self.segment.map.word32(SESSION_HEAD_LEN + u64::from(slot) * 4)
    }

    fn within(&self, slot: u32) -> Option<()> {
        (slot < self.slots).then_some(())
    }
}

/// Bytes of a segment with a word of `word` bytes for each slot.
fn table_len(head_len: u64, slots: u32, word: u32) -> u64 {
    round_up(head_len + u64::from(slots) * u64::from(word), PAGE)
}
