//! Frames that are lent: the ring by which a reader gives them back. The frames' own segment is not of this version.

use std::mem::size_of;

use super::{SegmentHeader, high, low, pair};

/// A release ring's head; entries (a [`Lease`] each) follow. Written by the reader.
#[derive(Debug)]
#[repr(C)]
pub struct ReleaseHead {
    header: SegmentHeader,
    /// Entries, a power of two and no fewer than the reader's budget.
    pub capacity: u32,
    reserved0: [u32; 15],
    /// Entries written since the ring was made.
    pub tail: u64,
    reserved1: [u64; 15],
}

/// A frame that is lent: what its holder was given and, as an entry of the release ring, gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Lease {
    /// Slot of the pool that the frame stands in.
    pub slot: u32,
    /// Number of the frame, from 1 and across all pools of the producer; after the largest comes 1 again.
    pub generation: u32,
}

/// Bytes before a release ring's first entry.
pub const RELEASE_HEAD_LEN: u64 = size_of::<ReleaseHead>() as u64;

impl Lease {
    /// The entry as a little-endian word.
    pub const fn to_word(self) -> u64 {
        pair(self.slot, self.generation)
    }

    /// The entry in this word, unchecked.
    pub const fn from_word(word: u64) -> Self {
        Self { slot: low(word), generation: high(word) }
    }
}
