//! The release ring in shared memory: a segment that the producer makes and its one reader writes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::{Holder, Pool, Violation, give_back, take};
use crate::cursor::{AtomicU64, Ordering, Store};
use crate::layout::{HeaderError, Lease, PAGE, RELEASE_HEAD_LEN, SegmentHeader, SegmentKind};
use crate::map::{Mapping, ReadWrite, Word};
use crate::position::round_up;
use crate::segment::{OpenError, Segment, open_read_write};

/// Frames that one reader may hold.
pub const BUDGET_MAX: u32 = 256;

/// Offset of `capacity`.
const CAPACITY_OFF: u64 = 64;
/// Offset of `tail`.
const TAIL_OFF: u64 = 128;

/// Producer: what one reader gives back.
#[derive(Debug)]
pub struct Releases {
    fd: OwnedFd,
    holder: Holder,
    /// Entries taken.
    head: u64,
    tail_word: Word<AtomicU64, ReadWrite>,
    entries: Box<[Word<AtomicU64, ReadWrite>]>,
}

impl Releases {
    /// Makes the release ring of `holder`, which may hold `budget` frames (at most [`BUDGET_MAX`]).
    ///
    /// # Errors
    /// `InvalidInput` for another budget; else what the system says.
    pub fn create(stream_uid: u64, epoch: u64, holder: Holder, budget: u32) -> io::Result<Self> {
        if !(1..=BUDGET_MAX).contains(&budget) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // A reader holds or has given back at most its budget of frames that the producer has not taken back: so the ring is never full.
        let capacity = budget.next_power_of_two();
        let size = round_up(RELEASE_HEAD_LEN + u64::from(capacity) * 8, PAGE);
        let header = SegmentHeader {
            header_len: u32::try_from(RELEASE_HEAD_LEN).unwrap_or(0),
            rec_size: 8,
            ..SegmentHeader::new(SegmentKind::ReleaseRing, size, epoch, stream_uid)
        };
        let Segment { fd, map } = Segment::create_cursor("vms-releases", &header)?;
        let inside = || io::Error::from(io::ErrorKind::InvalidInput);
        map.word32(CAPACITY_OFF).ok_or_else(inside)?.store(capacity, Ordering::Relaxed);
        let entries = entries(&map, &header, capacity).ok_or_else(inside)?;
        Ok(Self { fd, holder, head: 0, tail_word: map.word64(TAIL_OFF).ok_or_else(inside)?, entries })
    }

    /// The segment's descriptor, to be sent to the reader.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Takes back what the reader has given back since the last call, and hands what was withheld from it to `grant`. At most as
    /// many steps as the ring has entries. On a violation the reader is evicted from `pool`.
    ///
    /// # Errors
    /// The [`Violation`]: the caller ends the reader's descriptor ring, and does not call again.
    pub fn collect(&mut self, pool: &mut Pool, mut grant: impl FnMut(Lease)) -> Result<(), Violation> {
        let holder = self.holder;
        let taken = take(&self.entries, &self.tail_word, &mut self.head, |lease| {
            pool.release(holder, lease).map(|withheld| withheld.into_iter().for_each(&mut grant))
        });
        if taken.is_err() {
            pool.evict(holder);
        }
        taken
    }
}

/// Reader: gives frames back.
#[derive(Debug)]
pub struct Releaser {
    tail: u64,
    tail_word: Word<AtomicU64, ReadWrite>,
    entries: Box<[Word<AtomicU64, ReadWrite>]>,
}

impl Releaser {
    /// Opens the ring that came from the producer.
    ///
    /// # Errors
    /// [`OpenError`] unless seals, size, header and entries are as they must be.
    pub fn open(fd: &OwnedFd) -> Result<Self, OpenError> {
        let (map, header) = open_read_write(fd, SegmentKind::ReleaseRing)?;
        let capacity = map.bytes(CAPACITY_OFF, 8).and_then(|bytes| bytes.read_words::<1>(0));
        let capacity = crate::layout::low(capacity.ok_or(HeaderError::Table)?[0]);
        let tail_word = map.word64(TAIL_OFF).ok_or(HeaderError::Table)?;
        Ok(Self { tail: 0, tail_word, entries: entries(&map, &header, capacity).ok_or(HeaderError::Table)? })
    }

    /// Gives a frame back. The caller has no pointer into it any more, and gives back each lease once: a producer evicts who does
    /// otherwise.
    pub fn release(&mut self, lease: Lease) {
        give_back(&self.entries, &self.tail_word, &mut self.tail, lease);
    }
}

/// The places of all entries; `None` when they are no power of two, misaligned, overlapping or not all inside.
fn entries(
    map: &Mapping<ReadWrite>,
    header: &SegmentHeader,
    capacity: u32,
) -> Option<Box<[Word<AtomicU64, ReadWrite>]>> {
    let (at, distance) = (u64::from(header.header_len), u64::from(header.rec_size));
    let end = distance.checked_mul(capacity.into())?.checked_add(at)?;
    let is_apart = distance >= 8 && distance.is_multiple_of(8);
    if !capacity.is_power_of_two() || !is_apart || end > map.len() {
        return None;
    }
    (0..u64::from(capacity)).map(|n| map.word64(at + n * distance)).collect()
}
