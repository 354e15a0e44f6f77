//! The steps of the protocol on shared words: what is stored and loaded, in which order, with which fence.
//!
//! Each function is one step of `SPEC.md` §2.4, §4, §6 to §8 and §15. The words are reached through [`Load`], [`Store`] and [`Add`], so
//! that the model checker runs these very functions on its own atomics (`loom_tests`).

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// A shared word that can be read.
pub(crate) trait Load<T> {
    /// Atomic load.
    fn load(&self, order: Ordering) -> T;
}

/// A shared word that this side may write.
pub(crate) trait Store<T>: Load<T> {
    /// Atomic store.
    fn store(&self, value: T, order: Ordering);
}

/// A shared word that several threads of this side add to.
pub(crate) trait Add<T> {
    /// Atomic addition, wrapping; gives the value before.
    fn fetch_add(&self, value: T, order: Ordering) -> T;
}

/// Producer, before any byte below `reclaim_pos + arena length` is written: takes `[.., to)` from the readers.
///
/// A smaller value than the one stored is never stored again; the caller keeps the private copy `current`.
/// The fence orders the store before all following writes of payload.
pub(crate) fn reclaim(word: &impl Store<u64>, current: &mut u64, to: u64) -> bool {
    if to <= *current {
        return false;
    }
    *current = to;
    word.store(to, Ordering::Relaxed);
    fence(Ordering::Release);
    true
}

/// Reader, after its copy of the payload: whether not a byte at `pos` or above was overwritten before the copy ended.
///
/// The fence orders the copy's loads before the load of `reclaim_pos`: had the copy seen a byte that was written after a
/// [`reclaim`], this load sees that reclaim.
pub(crate) fn still_valid(reclaim_pos: &impl Load<u64>, pos: u64) -> bool {
    fence(Ordering::Acquire);
    reclaim_pos.load(Ordering::Relaxed) <= pos
}

/// Producer: makes all records below `tail`, and the payload they name, visible to the reader.
pub(crate) fn publish_tail(word: &impl Store<u64>, tail: u64) {
    word.store(tail, Ordering::Release);
}

/// Reader: how many records it may read.
pub(crate) fn observe_tail(word: &impl Load<u64>) -> u64 {
    word.load(Ordering::Acquire)
}

/// Producer, after [`publish_tail`]: makes the slot's ring ready for a reader that scans the session.
pub(crate) fn publish_session_tail(word: &impl Store<u32>, tail: u32) {
    word.store(tail, Ordering::Release);
}

/// Reader: the slot's ring is ready when this is not the low half of its own head; then [`observe_tail`] sees the record.
pub(crate) fn observe_session_tail(word: &impl Load<u32>) -> u32 {
    word.load(Ordering::Acquire)
}

/// Producer, after the last record and the final counts: ends the ring.
pub(crate) fn publish_end(word: &impl Store<u32>, state: u32) {
    word.store(state, Ordering::Release);
}

/// Reader, before [`observe_tail`]: how the ring ended. What precedes an end that was seen is then seen, too.
pub(crate) fn observe_end(word: &impl Load<u32>) -> u32 {
    word.load(Ordering::Acquire)
}

/// Producer, after [`publish_end`] or what else has changed: says that something did. The bell is rung after.
pub(crate) fn publish_change(changes: &impl Add<u32>) {
    changes.fetch_add(1, Ordering::Release);
}

/// Reader: how many changes there were. What is looked at then is as new as the newest of them.
pub(crate) fn observe_changes(changes: &impl Load<u32>) -> u32 {
    changes.load(Ordering::Acquire)
}

/// Reader: gives the records below `head` back; its loads of them are over.
pub(crate) fn publish_head(word: &impl Store<u64>, head: u64) {
    word.store(head, Ordering::Release);
}

/// Producer: what the reader says it has read. A claim, to be checked by the caller.
pub(crate) fn observe_head(word: &impl Load<u64>) -> u64 {
    word.load(Ordering::Acquire)
}

/// Reader: gives a frame back by entry number `tail - 1` of its release ring; its loads of the frame are over.
pub(crate) fn publish_release(entry: &impl Store<u64>, tail_word: &impl Store<u64>, release: u64, tail: u64) {
    entry.store(release, Ordering::Relaxed);
    tail_word.store(tail, Ordering::Release);
}

/// Producer: how many frames the reader says it has given back. A claim, to be checked by the caller; the frames' next bytes are
/// written behind it.
pub(crate) fn observe_releases(tail_word: &impl Load<u64>) -> u64 {
    tail_word.load(Ordering::Acquire)
}

/// Producer, below what [`observe_releases`] gave: which frame. A claim as well.
pub(crate) fn observe_release(entry: &impl Load<u64>) -> u64 {
    entry.load(Ordering::Relaxed)
}

/// Producer, at the end of a turn that touched the session: rings, and says whether the reader must be woken.
///
/// The fence stands between the two sides' store and load (Dekker): either this side sees `parked`, or the reader sees
/// the new bell before it sleeps.
pub(crate) fn ring_bell(bell: &impl Add<u32>, parked: &impl Load<u32>) -> bool {
    bell.fetch_add(1, Ordering::Release);
    fence(Ordering::SeqCst);
    parked.load(Ordering::Relaxed) != 0
}

/// Reader: the bell before it looks for work.
pub(crate) fn observe_bell(bell: &impl Load<u32>) -> u32 {
    bell.load(Ordering::Acquire)
}

/// Reader, having found no work since it saw the bell at `seen`: whether it may sleep on that value.
pub(crate) fn park(bell: &impl Load<u32>, parked: &impl Store<u32>, seen: u32) -> bool {
    parked.store(1, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    bell.load(Ordering::Relaxed) == seen
}

/// Reader: it is awake again.
pub(crate) fn unpark(parked: &impl Store<u32>) {
    parked.store(0, Ordering::Relaxed);
}

/// Producer: begins to write over a configuration entry of generation `before`, which is even.
/// The fence orders the odd generation before the content.
pub(crate) fn begin_entry(generation: &impl Store<u32>, before: u32) {
    generation.store(before.wrapping_add(1), Ordering::Relaxed);
    fence(Ordering::Release);
}

/// Producer: the entry that was of generation `before` is whole again.
pub(crate) fn end_entry(generation: &impl Store<u32>, before: u32) {
    generation.store(before.wrapping_add(2), Ordering::Release);
}

/// Reader, before it copies a configuration entry: its generation; `None` while it is written.
pub(crate) fn observe_entry(generation: &impl Load<u32>) -> Option<u32> {
    Some(generation.load(Ordering::Acquire)).filter(|generation| generation % 2 == 0)
}

/// Reader, after its copy: whether the entry is still that of generation `before`.
pub(crate) fn entry_unchanged(generation: &impl Load<u32>, before: u32) -> bool {
    fence(Ordering::Acquire);
    generation.load(Ordering::Relaxed) == before
}

macro_rules! words_of {
    ($atomic:ty, $int:ty) => {
        impl Load<$int> for $atomic {
            fn load(&self, order: Ordering) -> $int {
                <$atomic>::load(self, order)
            }
        }

        impl Store<$int> for $atomic {
            fn store(&self, value: $int, order: Ordering) {
                <$atomic>::store(self, value, order);
            }
        }

        impl Add<$int> for $atomic {
            fn fetch_add(&self, value: $int, order: Ordering) -> $int {
                <$atomic>::fetch_add(self, value, order)
            }
        }
    };
}

words_of!(AtomicU32, u32);
words_of!(AtomicU64, u64);
