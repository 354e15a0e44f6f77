//! Positions in an arena: 64-bit byte counts that never wrap. Pure arithmetic, shared by both sides.
//!
//! ```text
//!            reclaim_pos      write_pos
//!                 ▼               ▼
//!  ··· overwritten │ retained units │ (private: the open unit) ···      write_pos − reclaim_pos ≤ arena length
//! ```
//! A position's place in the arena is its remainder by the arena's length; its lap is the quotient. A unit lies
//! within one lap. What a writer is about to put at position `p` overwrites position `p − length`.

use crate::layout::{Descriptor, LINE, UNIT_LEN_MAX};

/// The shape of one arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arena {
    len: u64,
}

impl Arena {
    /// An arena of `len` bytes; `None` unless that is a power of two and holds at least one line.
    pub const fn new(len: u64) -> Option<Self> {
        if len.is_power_of_two() && len >= LINE && len <= 1 << 40 { Some(Self { len }) } else { None }
    }

    /// Bytes.
    pub const fn len(self) -> u64 {
        self.len
    }

    /// Always false; an arena holds at least one line.
    pub const fn is_empty(self) -> bool {
        false
    }

    /// Offset of `pos` within the arena.
    pub const fn offset(self, pos: u64) -> u64 {
        pos & (self.len - 1)
    }

    /// First position of the lap after that of `pos`.
    pub const fn next_lap(self, pos: u64) -> u64 {
        (pos | (self.len - 1)).saturating_add(1)
    }

    /// Whether `len` bytes at `pos` end within the lap of `pos`.
    pub const fn fits(self, pos: u64, len: u64) -> bool {
        len <= self.len - self.offset(pos)
    }

    /// Bytes a unit with its descriptor and NAL index may have: a quarter of the arena, at most 4 MiB.
    pub const fn unit_limit(self) -> u64 {
        let quarter = self.len / 4;
        if quarter < UNIT_LEN_MAX { quarter } else { UNIT_LEN_MAX }
    }

    /// Bytes that are reclaimed at a time while a unit grows.
    pub const fn chunk(self) -> u64 {
        let part = self.len / 16;
        if part < 64 * 1024 { part } else { 64 * 1024 }
    }

    /// What `reclaim_pos` must be at least before anything is written below `end`, in whole chunks.
    pub const fn reclaim_for(self, end: u64) -> u64 {
        round_up(end, self.chunk()).saturating_sub(self.len)
    }

    /// Where a record's payload and NAL index are, if the record can be true for this arena.
    pub fn place(self, d: &Descriptor) -> Option<Place> {
        let index_len = u64::from(d.nal_count).checked_mul(4)?;
        let payload = u64::from(d.len);
        let nal_off = u64::from(d.nal_off);
        let total = if index_len == 0 { payload } else { nal_off.checked_add(index_len)? };
        let sound = d.pos.is_multiple_of(LINE)
            && (index_len == 0 || (nal_off >= payload && nal_off.is_multiple_of(4)))
            && total <= self.unit_limit()
            && self.fits(d.pos, total);
        sound.then(|| Place { payload_off: self.offset(d.pos), index_off: self.offset(d.pos) + nal_off })
    }
}

/// Offsets within an arena that were compared with its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Offset of the payload.
    pub payload_off: u64,
    /// Offset of the NAL index.
    pub index_off: u64,
}

/// `value` rounded up to a multiple of `to`, a power of two. Saturates at the top.
pub const fn round_up(value: u64, to: u64) -> u64 {
    value.saturating_add(to - 1) & !(to - 1)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const ARENA: Arena = Arena::new(1 << 20).unwrap();

    #[test]
    fn laps_and_limits() {
        assert!(Arena::new(3 << 10).is_none());
        assert_eq!(ARENA.offset((5 << 20) + 17), 17);
        assert_eq!(ARENA.next_lap(0), 1 << 20);
        assert_eq!(ARENA.next_lap((1 << 20) - 1), 1 << 20);
        assert!(ARENA.fits((1 << 20) - 64, 64) && !ARENA.fits((1 << 20) - 64, 65));
        assert_eq!(ARENA.unit_limit(), 1 << 18);
        assert_eq!(Arena::new(1 << 30).unwrap().unit_limit(), 4 << 20);
    }

    #[test]
    fn reclaim_is_in_chunks_and_never_passes_the_writer() {
        assert_eq!(ARENA.reclaim_for(1), 0, "the first lap overwrites nothing");
        assert_eq!(ARENA.reclaim_for((1 << 20) + 1), 64 * 1024);
        for end in [1u64 << 20, (3 << 20) + 5, u64::MAX] {
            assert!(ARENA.reclaim_for(end) < end);
        }
    }

    #[test]
    fn impossible_records_have_no_place() {
        let good = Descriptor { pos: 64, len: 100, nal_count: 3, nal_off: 100, ..Descriptor::default() };
        assert_eq!(ARENA.place(&good), Some(Place { payload_off: 64, index_off: 164 }));
        for bad in [
            Descriptor { pos: 65, ..good },
            Descriptor { len: u32::MAX, ..good },
            Descriptor { nal_off: 96, ..good },
            Descriptor { nal_off: 102, ..good },
            Descriptor { nal_count: u32::MAX, ..good },
            Descriptor { pos: (1 << 20) - 64, ..good },
        ] {
            assert_eq!(ARENA.place(&bad), None, "{bad:?}");
        }
    }
}
