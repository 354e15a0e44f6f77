//! A pool of frames, its release rings and their readers beside a plain model; then readers that write anything.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};

use proptest::prelude::*;
use rustix::fs::{MemfdFlags, memfd_create};

use crate::layout::{HeaderError, Lease, RELEASE_HEAD_LEN, SegmentKind};
use crate::lease::{BUDGET_MAX, Holder, Pool, Releaser, Releases, SlotState, Violation};
use crate::segment::{OpenError, open_read_write};

const SLOTS: u32 = 12;
/// Slots that the producer may have at a time.
const OWN: usize = 2;

#[derive(Clone, Debug)]
enum Operation {
    Attach { budget: u32 },
    Begin,
    Publish { own: usize },
    LetGo { own: usize },
    GiveBack { reader: usize, held: usize },
    Claim { reader: usize, lease: Lease },
    Collect { reader: usize },
    Evict { reader: usize },
    Detach { reader: usize },
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let reader = 0usize..4;
    let lease = (0..SLOTS + 2, 0u32..40).prop_map(|(slot, generation)| Lease { slot, generation });
    let operation = prop_oneof![
        2 => (0u32..6).prop_map(|budget| Operation::Attach { budget }),
        8 => Just(Operation::Begin),
        8 => (0..OWN).prop_map(|own| Operation::Publish { own }),
        8 => (0..OWN).prop_map(|own| Operation::LetGo { own }),
        12 => (reader.clone(), 0usize..6).prop_map(|(reader, held)| Operation::GiveBack { reader, held }),
        1 => (reader.clone(), lease).prop_map(|(reader, lease)| Operation::Claim { reader, lease }),
        12 => reader.clone().prop_map(|reader| Operation::Collect { reader }),
        1 => reader.clone().prop_map(|reader| Operation::Evict { reader }),
        1 => reader.prop_map(|reader| Operation::Detach { reader }),
    ];
    prop::collection::vec(operation, 0..300)
}

/// The real things, and what the model knows of them.
struct World {
    pool: Pool,
    readers: Vec<Reader>,
    /// The producer's own slots, and the frame in each once it is published.
    own: Vec<(u32, Option<Lease>)>,
    newest: Lease,
    /// What each slot holds: the number of the filling. Stands for the frame's bytes.
    memory: [u64; SLOTS as usize],
    fillings: u64,
    /// Free slots; those that one operation freed together, the last ones first to be taken.
    free: Vec<Vec<u32>>,
}

struct Reader {
    holder: Holder,
    releases: Releases,
    releaser: Releaser,
    budget: usize,
    /// Lent and not taken back yet, and what was in the slot's memory then.
    held: Vec<(Lease, u64)>,
    /// Written into the ring and not taken yet.
    given: VecDeque<Lease>,
    waits: bool,
    is_evicted: bool,
}

impl World {
    fn new() -> Self {
        let pool = Pool::new(SLOTS, u32::try_from(OWN).unwrap(), 0);
        let newest = Lease { slot: 0, generation: 0 };
        let memory = [0; SLOTS as usize];
        let free = (0..SLOTS).rev().map(|slot| vec![slot]).collect();
        Self { pool, readers: Vec::new(), own: Vec::new(), newest, memory, fillings: 0, free }
    }

    fn apply(&mut self, operation: &Operation) {
        match *operation {
            Operation::Attach { budget } => self.attach(budget),
            Operation::Begin => self.begin(),
            Operation::Publish { own } => self.publish(own),
            Operation::LetGo { own } => {
                if own < self.own.len() {
                    self.pool.let_go(self.own.remove(own).0);
                }
            }
            Operation::GiveBack { reader, held } => {
                if let Some(reader) = self.readers.get_mut(reader) {
                    let here = |(lease, _): &&(Lease, u64)| !reader.given.contains(lease);
                    if let Some((lease, _)) = reader.held.iter().filter(here).nth(held).copied() {
                        reader.claim(lease);
                    }
                }
            }
            Operation::Claim { reader, lease } => {
                if let Some(reader) = self.readers.get_mut(reader) {
                    reader.claim(lease);
                }
            }
            Operation::Collect { reader } => self.collect(reader),
            Operation::Evict { reader } => {
                if let Some(reader) = self.readers.get_mut(reader) {
                    self.pool.evict(reader.holder);
                    (reader.is_evicted, reader.waits) = (true, false);
                }
            }
            Operation::Detach { reader } => {
                if reader < self.readers.len() {
                    self.pool.detach(self.readers.remove(reader).holder);
                }
            }
        }
        self.check();
    }

    fn attach(&mut self, budget: u32) {
        let budgets: usize = self.readers.iter().map(|reader| reader.budget).sum();
        let fits = budget > 0 && OWN + 1 + budgets + budget as usize <= SLOTS as usize;
        let holder = self.pool.attach(budget);
        assert_eq!(holder.is_some(), fits, "{budget} more than {budgets}");
        if let Some(holder) = holder {
            assert!(self.readers.iter().all(|reader| reader.holder != holder));
            self.readers.push(Reader::new(holder, budget));
        }
    }

    fn begin(&mut self) {
        let slot = self.pool.begin();
        assert_eq!(
            slot.is_some(),
            self.own.len() < OWN,
            "the producer has what it needs, whoever holds what"
        );
        let Some(slot) = slot else { return };
        let freed_last = self.free.last_mut().expect("a free slot");
        let at = freed_last.iter().position(|freed| *freed == slot);
        freed_last.remove(at.expect("the slot that was freed last"));
        self.own.push((slot, None));
        self.fillings += 1;
        self.memory[slot as usize] = self.fillings;
    }

    fn publish(&mut self, own: usize) {
        let Some((slot, published)) = self.own.get_mut(own) else { return };
        let mut granted = Vec::new();
        let lease = self.pool.publish(*slot, |holder, lease| granted.push((holder, lease)));
        assert_eq!(lease.is_some(), published.is_none(), "a frame is published once");
        let Some(lease) = lease else { return };
        assert_eq!(lease, Lease { slot: *slot, generation: self.newest.generation + 1 });
        (*published, self.newest) = (Some(lease), lease);
        for reader in self.readers.iter_mut().filter(|reader| !reader.is_evicted) {
            reader.waits = reader.held.len() == reader.budget;
            let at = granted.iter().position(|(holder, _)| *holder == reader.holder);
            assert_eq!(at.is_none(), reader.waits, "at its budget it waits");
            if let Some(at) = at {
                reader.held.push((granted.remove(at).1, self.memory[lease.slot as usize]));
            }
        }
        assert_eq!(granted, [], "who was evicted is lent nothing");
    }

    fn collect(&mut self, reader: usize) {
        let Some(reader) = self.readers.get_mut(reader).filter(|reader| !reader.is_evicted) else { return };
        let mut granted = Vec::new();
        let result = reader.releases.collect(&mut self.pool, |lease| granted.push(lease));
        let mut granted = granted.into_iter();
        let is_overrun = reader.given.len() > reader.budget.next_power_of_two();
        while let Some(lease) = reader.given.pop_front() {
            let at = reader.held.iter().position(|(held, _)| *held == lease).filter(|_| !is_overrun);
            let Some(at) = at else {
                assert!(result.is_err(), "{lease:?} was taken back from who does not hold it");
                (reader.is_evicted, reader.waits) = (true, false);
                return;
            };
            reader.held.remove(at);
            if std::mem::take(&mut reader.waits) {
                assert_eq!(granted.next(), Some(self.newest), "the newest was withheld, and now is lent");
                reader.held.push((self.newest, self.memory[self.newest.slot as usize]));
            }
        }
        assert_eq!((result, granted.next()), (Ok(()), None));
    }

    /// Every slot is in the state that the model gives it, and what is held is as it was when it was lent.
    fn check(&mut self) {
        let mut freed = Vec::new();
        for slot in 0..SLOTS {
            let expected = self.expected(slot);
            assert_eq!(self.pool.state(slot), Some(expected), "slot {slot}");
            if expected == SlotState::Free && !self.free.iter().flatten().any(|free| *free == slot) {
                freed.push(slot);
            }
        }
        self.free.push(freed);
        self.free.retain(|group| !group.is_empty());
        for (lease, memory) in self.readers.iter().flat_map(|reader| &reader.held) {
            assert_eq!(self.memory[lease.slot as usize], *memory, "{lease:?} was written over while held");
        }
    }

    fn expected(&self, slot: u32) -> SlotState {
        let holds = |reader: &&Reader| reader.held.iter().any(|(lease, _)| lease.slot == slot);
        let is_awaited = self.newest.slot == slot && self.readers.iter().any(|reader| reader.waits);
        match self.own.iter().find(|(own, _)| *own == slot) {
            Some((_, None)) => SlotState::Filling,
            Some((_, Some(_))) => SlotState::Published,
            None if is_awaited => SlotState::Published,
            None if self.readers.iter().filter(holds).any(|reader| !reader.is_evicted) => {
                SlotState::Published
            }
            None if self.readers.iter().any(|reader| holds(&reader)) => SlotState::Quarantined,
            None => SlotState::Free,
        }
    }
}

impl Reader {
    fn new(holder: Holder, budget: u32) -> Self {
        let releases = Releases::create(1, 2, holder, budget).unwrap();
        let releaser = Releaser::open(&owned(&releases)).unwrap();
        let (held, given, budget) = (Vec::new(), VecDeque::new(), budget as usize);
        Self { holder, releases, releaser, budget, held, given, waits: false, is_evicted: false }
    }

    fn claim(&mut self, lease: Lease) {
        self.releaser.release(lease);
        self.given.push_back(lease);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_pool_is_its_model(operations in operations()) {
        let mut world = World::new();
        for operation in &operations {
            world.apply(operation);
        }
    }

    #[test]
    fn hostile_releases_hurt_only_themselves(
        stores in prop::collection::vec((words(), prop_oneof![any::<u64>(), 0u64..40, Just(1 << 32)]), 40)
    ) {
        let mut pool = Pool::new(SLOTS, 1, 0);
        let [mut honest, mut hostile] = [3, 4].map(|budget| Reader::new(pool.attach(budget).unwrap(), budget));
        for (n, (word, value)) in (1u32..).zip(stores) {
            rustix::io::pwrite(owned(&hostile.releases), &value.to_le_bytes(), word * 8).unwrap();
            let mut lent = 0;
            if !hostile.is_evicted {
                hostile.is_evicted = hostile.releases.collect(&mut pool, |_| lent += 1).is_err();
            }
            prop_assert!(lent <= 4, "{lent} steps for a ring of 4");
            let slot = pool.begin().expect("a slot, whoever holds what");
            prop_assert!(honest.held.iter().all(|(lease, _)| lease.slot != slot));
            pool.publish(slot, |holder, lease| {
                if holder == honest.holder {
                    honest.held.push((lease, 0));
                }
            });
            pool.let_go(slot);
            prop_assert_eq!(honest.held.last().map(|(lease, _)| lease.generation), Some(n), "every frame comes");
            if honest.held.len() == 3 {
                honest.releaser.release(honest.held.remove(0).0);
            }
            prop_assert_eq!(honest.releases.collect(&mut pool, |_| {}), Ok(()));
        }
    }
}

/// The number of a word of the segment: its tail, an entry, or anything.
fn words() -> impl Strategy<Value = u64> {
    prop_oneof![Just(128 / 8), RELEASE_HEAD_LEN / 8..RELEASE_HEAD_LEN / 8 + 4, 0u64..4096 / 8]
}

#[test]
fn each_lie_has_its_name_and_evicts() {
    type Lie = fn(&mut Reader, Lease);
    type Named = fn(&Violation) -> bool;
    let lies: [(Lie, Named); 6] = [
        (|r, l| r.claim(Lease { slot: SLOTS, ..l }), |v| matches!(v, Violation::NoSuchSlot(_))),
        (|r, l| r.claim(Lease { slot: l.slot ^ 1, ..l }), |v| matches!(v, Violation::NotHeld(_))),
        (|r, l| r.claim(Lease { generation: 0, ..l }), |v| matches!(v, Violation::OtherFrame(_))),
        (|r, l| (0..2).for_each(|_| r.claim(l)), |v| matches!(v, Violation::NotHeld(_))),
        (|r, l| (0..3).for_each(|_| r.claim(l)), |v| matches!(v, Violation::Overrun { claimed: 3, .. })),
        (|r, _| put(r, 128, u64::MAX), |v| matches!(v, Violation::Overrun { claimed: u64::MAX, .. })),
    ];
    for (lie, is_named) in lies {
        let mut pool = Pool::new(5, 1, 0);
        let mut reader = Reader::new(pool.attach(2).unwrap(), 2);
        let slot = pool.begin().unwrap();
        let lease = pool.publish(slot, |_, _| {}).unwrap();
        pool.let_go(slot);
        lie(&mut reader, lease);
        let violation = reader.releases.collect(&mut pool, |_| {}).unwrap_err();
        assert!(is_named(&violation), "{violation:?}");
        let slot = pool.begin().unwrap();
        pool.publish(slot, |_, _| panic!("who was evicted is lent something")).unwrap();
    }
}

/// A page that the reader punched out of the file reads as 0.
#[test]
fn a_tail_that_moves_back_is_a_lie() {
    let mut pool = Pool::new(3, 1, 0);
    let mut reader = Reader::new(pool.attach(1).unwrap(), 1);
    let slot = pool.begin().unwrap();
    let lease = pool.publish(slot, |_, _| {}).unwrap();
    reader.claim(lease);
    assert_eq!(reader.releases.collect(&mut pool, |_| {}), Ok(()));
    put(&reader, 128, 0);
    let back = Err(Violation::Overrun { claimed: 0, taken: 1, capacity: 1 });
    assert_eq!(reader.releases.collect(&mut pool, |_| {}), back);
}

#[test]
fn generations_go_on_in_the_next_pool_and_are_never_0() {
    let mut pool = Pool::new(3, 1, u32::MAX - 1);
    for generation in [u32::MAX, 1, 2] {
        let slot = pool.begin().unwrap();
        assert_eq!(pool.publish(slot, |_, _| {}), Some(Lease { slot, generation }));
        pool.let_go(slot);
    }
    assert_eq!(Pool::new(3, 1, pool.generation()).generation(), 2);
}

#[test]
fn a_release_ring_that_is_none_is_refused() {
    for budget in [0, BUDGET_MAX + 1] {
        let holder = Pool::new(3, 1, 0).attach(1).unwrap();
        assert!(Releases::create(1, 2, holder, budget).is_err());
    }
    let reader = Reader::new(Pool::new(3, 1, 0).attach(1).unwrap(), 1);
    assert!(
        open_read_write(&owned(&reader.releases), SegmentKind::SessionCursor).is_err(),
        "of another kind"
    );
    for (offset, word) in [
        (64, 0),
        (64, 3),
        (64, 1 << 20),
        (48, 8 << 32),
        (48, 256 | 4 << 32),
        (48, 256 | 12 << 32),
        (48, 257 | 8 << 32),
    ] {
        let reader = Reader::new(Pool::new(3, 1, 0).attach(1).unwrap(), 1);
        put(&reader, offset, word);
        let is_refused = match Releaser::open(&owned(&reader.releases)) {
            Err(OpenError::Header(HeaderError::Table)) => true,
            // Entries over the header: absurd, but inside and aligned.
            Ok(_) => word == 8 << 32,
            Err(_) => false,
        };
        assert!(is_refused, "{word:#x} at {offset}");
    }
    let unsealed = memfd_create("vms-test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    rustix::fs::ftruncate(&unsealed, RELEASE_HEAD_LEN + 8).unwrap();
    assert!(matches!(Releaser::open(&unsealed), Err(OpenError::Unsealed)));
}

/// The reader stores a word.
fn put(reader: &Reader, offset: u64, value: u64) {
    assert_eq!(rustix::io::pwrite(owned(&reader.releases), &value.to_le_bytes(), offset).unwrap(), 8);
}

fn owned(releases: &Releases) -> OwnedFd {
    releases.fd().as_fd().try_clone_to_owned().unwrap()
}
