//! Park and bell with two producing shards: no sleep without a wake (SPEC.md §8).

use loom::sync::Arc;
use loom::thread;

use crate::cursor::{self, AtomicU32, Ordering, fence};

/// What is done wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Broken {
    Nothing,
    NoProducerFence,
    NoReaderFence,
    BellBeforeTail,
    BellAddedRelaxed,
    BellLoadedRelaxed,
    BellNotAddedAtomically,
    ParkedAfterLook,
    BellSeenAfterScan,
}
use Broken::*;

#[derive(Default)]
struct Session {
    bell: AtomicU32,
    parked: AtomicU32,
    /// What each shard has published: 0 or 1.
    tails: [AtomicU32; 2],
    /// Not of the protocol.
    any: AtomicU32,
}

/// A shard publishes one record and rings; whether it wakes the reader.
fn publish_and_ring(session: &Session, shard: usize, broken: Broken) -> bool {
    let publish = || session.tails[shard].store(1, Ordering::Release);
    let look = || session.parked.load(Ordering::Relaxed) != 0;
    if broken == BellBeforeTail {
        let wakes = cursor::ring_bell(&session.bell, &session.parked);
        publish();
        return wakes;
    }
    publish();
    match broken {
        NoProducerFence => {
            session.bell.fetch_add(1, Ordering::Release);
            look()
        }
        BellAddedRelaxed => {
            session.bell.fetch_add(1, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            look()
        }
        BellNotAddedAtomically => {
            let bell = session.bell.load(Ordering::Relaxed);
            // Orders nothing; without it loom would not part the load from the store.
            session.any.fetch_add(1, Ordering::Relaxed);
            session.bell.store(bell + 1, Ordering::Release);
            fence(Ordering::SeqCst);
            look()
        }
        _ => cursor::ring_bell(&session.bell, &session.parked),
    }
}

/// What each shard had published when the reader looked, and whether it went to sleep then.
fn scan_and_park(session: &Session, broken: Broken) -> ([u32; 2], bool) {
    let part = || match broken {
        BellNotAddedAtomically => session.any.fetch_add(1, Ordering::Relaxed),
        _ => 0,
    };
    part();
    let scan = || session.tails.each_ref().map(|tail| tail.load(Ordering::Acquire));
    let (bell, parked) = (&session.bell, &session.parked);
    if broken == BellSeenAfterScan {
        let found = scan();
        let seen = cursor::observe_bell(bell);
        return (found, cursor::park(bell, parked, seen));
    }
    let seen = match broken {
        BellLoadedRelaxed => bell.load(Ordering::Relaxed),
        _ => cursor::observe_bell(bell),
    };
    let found = scan();
    part();
    let sleeps = match broken {
        NoReaderFence => {
            parked.store(1, Ordering::Relaxed);
            bell.load(Ordering::Relaxed) == seen
        }
        ParkedAfterLook => {
            let same = bell.load(Ordering::Relaxed) == seen;
            fence(Ordering::SeqCst);
            parked.store(1, Ordering::Relaxed);
            same
        }
        _ => cursor::park(bell, parked, seen),
    };
    (found, sleeps)
}

/// Two shards publish and ring while the reader looks once and parks. For each shard whose record it did not see, it must
/// either not sleep or be woken by that very shard. (The futex compares once more in the kernel; `sleeps` stands for a
/// sleep that began before any bell that came since.)
fn two_shards(broken: Broken) {
    let mut builder = loom::model::Builder::new();
    // Three threads: all schedules with up to three preemptions, and every value that a load may see in each.
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let session = Arc::new(Session::default());
        let shards = [0, 1].map(|shard| {
            let session = Arc::clone(&session);
            thread::spawn(move || publish_and_ring(&session, shard, broken))
        });
        let (found, sleeps) = scan_and_park(&session, broken);
        let wakes = shards.map(|shard| shard.join().unwrap());
        cursor::unpark(&session.parked);
        for (found, wakes) in found.into_iter().zip(wakes) {
            assert!(!sleeps || found == 1 || wakes, "the reader sleeps, a record waits, and nobody wakes it");
        }
    });
}

#[test]
fn no_sleep_without_a_wake() {
    two_shards(Nothing);
}

/// 1. R: bell 0; tails 0, 0; parked = 1; fence; bell 0: sleeps.
/// 2. P: tail = 1; bell = 1; its load of `parked` was made ahead of the bell: 0. No wake.
#[test]
#[should_panic(expected = "the reader sleeps")]
fn mutant_no_fence_between_bell_and_parked() {
    two_shards(NoProducerFence);
}

/// 1. R: bell 0; tails 0, 0; its look at the bell is made ahead of `parked` = 1: bell 0.
/// 2. P: tail = 1; bell = 1; fence; parked 0: no wake.
/// 3. R: parked = 1 becomes visible; it sleeps.
#[test]
#[should_panic(expected = "the reader sleeps")]
fn mutant_no_fence_between_parked_and_bell() {
    two_shards(NoReaderFence);
}

/// 1. P: bell = 1; fence; parked 0: no wake. Interrupted.
/// 2. R: bell 1; tails 0, 0; parked = 1; fence; bell 1: sleeps.
/// 3. P: tail = 1.
#[test]
#[should_panic(expected = "the reader sleeps")]
fn mutant_the_bell_is_rung_before_the_tail() {
    two_shards(BellBeforeTail);
}

/// 1. P: tail = 1; bell = 1, relaxed: the bell becomes visible first. Fence; parked 0: no wake.
/// 2. R: bell 1; tails 0, 0; parked = 1; fence; bell 1: sleeps.
#[test]
#[should_panic(expected = "the reader sleeps")]
fn mutant_the_bell_is_added_to_relaxed() {
    two_shards(BellAddedRelaxed);
}

/// 1. R: loads the tails ahead of the bell that nothing orders them behind: 0, 0.
/// 2. P: tail = 1; bell = 1; fence; parked 0: no wake.
/// 3. R: bell 1; parked = 1; fence; bell 1: sleeps.
#[test]
#[should_panic(expected = "the reader sleeps")]
fn mutant_the_bell_is_loaded_relaxed() {
    two_shards(BellLoadedRelaxed);
}

/// Needs both shards.
/// 1. P0: tail 0 = 1; loads bell 0, and is interrupted.
/// 2. P1: tail 1 = 1; loads bell 0; stores bell 1; fence; parked 0: no wake.
/// 3. R: bell 1, from P1; finds tail 1, and does not see tail 0 yet.
/// 4. P0: stores bell 1, the value that R has seen; fence; parked 0: no wake.
/// 5. R: parked = 1; fence; bell 1: sleeps.
#[test]
#[should_panic(expected = "the reader sleeps")]
fn mutant_the_bell_is_loaded_and_stored_instead_of_added_to() {
    two_shards(BellNotAddedAtomically);
}

/// 1. R: bell 0; tails 0, 0; looks at the bell: 0. Interrupted.
/// 2. P: tail = 1; bell = 1; fence; parked 0: no wake.
/// 3. R: parked = 1; sleeps.
#[test]
#[should_panic(expected = "the reader sleeps")]
fn mutant_parked_is_stored_after_the_look_at_the_bell() {
    two_shards(ParkedAfterLook);
}

/// 1. R: tails 0, 0. Interrupted.
/// 2. P: tail = 1; bell = 1; fence; parked 0: no wake.
/// 3. R: bell 1, remembered; parked = 1; fence; bell 1: sleeps.
#[test]
#[should_panic(expected = "the reader sleeps")]
fn mutant_the_bell_is_remembered_after_the_scan() {
    two_shards(BellSeenAfterScan);
}
