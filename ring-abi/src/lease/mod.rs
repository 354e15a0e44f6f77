//! Frames that are lent and not copied: who holds which slot of a pool, and how holders give them back (SPEC.md §15).
//!
//! ```text
//!              begin             publish                          all have given back
//!       FREE ─────────▶ FILLING ─────────▶ PUBLISHED(holders, generation) ─────────▶ FREE
//!        ▲                 │ let_go             │ only evicted holders are left
//!        └─────────────────┘                    ▼
//!        └───── they have gone ─────────── QUARANTINED
//!
//!  producer: Pool ◀── checks each claim ── Releases ◀── release ring (a claim) ── Releaser :reader
//! ```
//! A frame of megabytes is not worth a copy, so its readers hold it, and it stays as it is for as long: a slot is never written while
//! anybody holds it, alive or stuck. What a reader can do is keep its budget of slots, which the pool has on top of what the producer
//! needs: it starves nobody but itself.
//!
//! Deliberately absent: the frames' memory and descriptors, and time. Who has held a frame for too long is for the producer's
//! owner to know, who then calls [`Pool::evict`].

mod pool;
#[cfg(not(loom))]
mod ring;

pub use pool::{HOLDERS_MAX, Holder, Pool, SlotState};
#[cfg(not(loom))]
pub use ring::{BUDGET_MAX, Releaser, Releases};

use crate::cursor::{self, Load, Store};
use crate::layout::Lease;
#[cfg(not(loom))]
pub use crate::segment::OpenError;

/// What a reader wrote into its release ring and cannot be. It is evicted for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// More entries than the ring has, or fewer than before.
    #[error("{claimed} releases are claimed, {taken} were taken, and the ring has {capacity} entries")]
    Overrun {
        /// Entries written, as the reader says.
        claimed: u64,
        /// Entries that the producer has taken.
        taken: u64,
        /// Entries of the ring.
        capacity: u64,
    },
    /// The pool has no such slot.
    #[error("slot {} is none of the pool", .0.slot)]
    NoSuchSlot(Lease),
    /// The reader does not hold the slot.
    #[error("slot {} is given back by who does not hold it", .0.slot)]
    NotHeld(Lease),
    /// The reader holds another frame in this slot.
    #[error("frame {} is given back instead of the one held in slot {}", .0.generation, .0.slot)]
    OtherFrame(Lease),
}

/// Reader: gives `lease` back as entry number `tail`.
pub(crate) fn give_back(
    entries: &[impl Store<u64>],
    tail_word: &impl Store<u64>,
    tail: &mut u64,
    lease: Lease,
) {
    if let Some(entry) = at(entries, *tail) {
        *tail = tail.wrapping_add(1);
        cursor::publish_release(entry, tail_word, lease.to_word(), *tail);
    }
}

/// Producer: hands each entry that was not taken yet to `check`, at most as many as the ring has. Ends at the first violation.
pub(crate) fn take(
    entries: &[impl Load<u64>],
    tail_word: &impl Load<u64>,
    head: &mut u64,
    mut check: impl FnMut(Lease) -> Result<(), Violation>,
) -> Result<(), Violation> {
    let (claimed, taken, capacity) = (cursor::observe_releases(tail_word), *head, entries.len() as u64);
    // A tail that moved back is far ahead, too.
    if claimed.wrapping_sub(taken) > capacity {
        return Err(Violation::Overrun { claimed, taken, capacity });
    }
    while *head != claimed {
        let Some(entry) = at(entries, *head) else { break };
        *head = head.wrapping_add(1);
        check(Lease::from_word(cursor::observe_release(entry)))?;
    }
    Ok(())
}

/// The place of entry `number`; there are a power of two of them.
fn at<T>(entries: &[T], number: u64) -> Option<&T> {
    let mask = (entries.len() as u64).wrapping_sub(1);
    entries.get(usize::try_from(number & mask).ok()?)
}
