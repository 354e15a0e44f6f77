//! Operations on the real ring and on a plain model side by side.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::{Rig, Taken, Tap, payload};
use crate::join::{Damaged, Filters, From, Join};
use crate::layout::{Class, Flags};

const ARENA_LEN: u64 = 64 * 1024;

#[derive(Clone, Debug)]
enum Operation {
    Commit { len: usize, key: bool, damaged: bool },
    Abort { len: usize },
    Attach { join: Join },
    Read { reader: usize, count: usize },
    Feed,
}

fn joins() -> impl Strategy<Value = Join> {
    let from = prop_oneof![
        Just(From::Live),
        Just(From::Keyframe),
        Just(From::Oldest),
        (0u64..4_000_000_000).prop_map(|ns| From::Preroll { ns }),
        (0xe90cu64..0xe90e, 0u64..300).prop_map(|(epoch, seq)| From::After { epoch, seq }),
    ];
    (from, any::<(bool, bool, bool, bool)>(), 1u32..64, 0u64..4_000_000_000).prop_map(
        |(from, (live, keyframes_only, skip, everything), ring_slots, lag_max_ns)| {
            let damaged = if skip { Damaged::SkipToKeyframe } else { Damaged::Pass };
            let filters = Filters { keyframes_only, damaged, tracks: u64::MAX, everything };
            let class = if live { Class::Live } else { Class::Archive };
            Join { from, class, filters, ring_slots, lag_max_ns }
        },
    )
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let len = prop_oneof![8 => 0usize..2000, 2 => 0usize..16_000];
    let operation = prop_oneof![
        10 => (len.clone(), prop::bool::weighted(0.2), prop::bool::weighted(0.05))
            .prop_map(|(len, key, damaged)| Operation::Commit { len, key, damaged }),
        1 => len.prop_map(|len| Operation::Abort { len }),
        1 => joins().prop_map(|join| Operation::Attach { join }),
        6 => (0usize..8, 0usize..40).prop_map(|(reader, count)| Operation::Read { reader, count }),
        2 => Just(Operation::Feed),
    ];
    prop::collection::vec(operation, 0..400)
}

/// What the model knows of a committed unit.
#[derive(Clone, Copy, Debug)]
struct Unit {
    seq: u64,
    len: usize,
    key: bool,
    damaged: bool,
}

struct Reader {
    tap: Tap,
    join: Join,
    last_seq: u64,
    /// Committed units it has not been seen to deal with.
    unread: VecDeque<Unit>,
    /// Whether it stayed within what the ring promises to keep: fewer than its least slots, and a quarter of the arena.
    kept_up: bool,
}

struct World {
    rig: Rig,
    units: Vec<Unit>,
    readers: Vec<Reader>,
}

impl World {
    fn apply(&mut self, operation: &Operation) {
        match *operation {
            Operation::Commit { len, key, damaged } => self.commit(len, key, damaged),
            Operation::Abort { len } => {
                self.rig.producer.begin(0);
                self.rig.producer.append(0, &vec![0xff; len]).unwrap();
                self.rig.producer.abort(0);
            }
            Operation::Attach { join } => self.attach(join),
            Operation::Read { reader, count } => {
                if let Some(reader) = self.readers.get_mut(reader) {
                    for _ in 0..count {
                        reader.read(&self.units);
                    }
                }
            }
            Operation::Feed => {
                self.rig.producer.feed(u64::MAX);
            }
        }
    }

    fn commit(&mut self, len: usize, key: bool, damaged: bool) {
        let flags = Flags(if key { Flags::KEY.0 } else { 0 } | if damaged { Flags::DAMAGED.0 } else { 0 });
        let seq = self.rig.commit(len, flags);
        let unit = Unit { seq, len, key, damaged };
        self.units.push(unit);
        for reader in &mut self.readers {
            reader.unread.push_back(unit);
            let bytes: usize = reader.unread.iter().map(|u| u.len + 256).sum();
            reader.kept_up &= bytes < 16 * 1024 && reader.unread.len() < 8;
        }
    }

    fn attach(&mut self, join: Join) {
        let Ok(slot) = u32::try_from(self.readers.len()) else { return };
        if slot < 8 {
            let tap = self.rig.attach(slot, &join);
            let kept_up = join.from == From::Live && join.class == Class::Archive;
            self.readers.push(Reader { tap, join, last_seq: 0, unread: VecDeque::new(), kept_up });
        }
    }

    /// The stream ends; every reader drains.
    fn finish(&mut self) {
        self.rig.producer.close(0, 0);
        let last_seq = self.rig.producer.last_seq();
        for reader in &mut self.readers {
            let mut ended = false;
            for _ in 0..10_000 {
                self.rig.producer.feed(u64::MAX);
                ended |= reader.read(&self.units);
                if ended {
                    break;
                }
            }
            assert!(ended, "a closed stream ends every ring");
            let counts = reader.tap.attachment.counts();
            assert!(counts.balance(), "{counts:?}");
            assert!(counts.first_seq == 0 || counts.last_seq == last_seq, "{counts:?} of {last_seq}");
            if reader.kept_up {
                assert_eq!((counts.lost, counts.rejected, counts.skipped), (0, 0, 0), "{counts:?}");
            }
        }
    }
}

impl Reader {
    /// Takes one record and compares; true at the end.
    fn read(&mut self, units: &[Unit]) -> bool {
        match self.tap.take() {
            Taken::Unit { lost, .. } => self.check(lost, units),
            Taken::Dropped | Taken::Empty => {}
            Taken::Ended { .. } => return true,
        }
        false
    }

    fn check(&mut self, lost: u64, units: &[Unit]) {
        let d = self.tap.buffer.descriptor;
        let unit = units[usize::try_from(d.seq - 1).unwrap()];
        assert_eq!(
            self.tap.buffer.payload(),
            payload(unit.seq, unit.len),
            "accepted bytes are published bytes"
        );
        assert_eq!((d.has(Flags::KEY), d.has(Flags::DAMAGED)), (unit.key, unit.damaged));
        assert_eq!(self.tap.buffer.nal_ends(), [u32::try_from(unit.len).unwrap()]);
        assert!(d.seq > self.last_seq, "sequence numbers grow");
        let filters = self.join.filters;
        let first = self.last_seq == 0 && !self.tap.joined.resumed;
        assert!(!filters.keyframes_only || unit.key, "keyframes only");
        assert!(
            !((first || lost > 0) && !filters.everything) || unit.key,
            "a keyframe at the start and after a gap"
        );
        let key_seq = units[..usize::try_from(d.seq).unwrap()].iter().rfind(|u| u.key).map_or(0, |u| u.seq);
        assert_eq!(d.key_seq, key_seq);
        self.last_seq = d.seq;
        while self.unread.front().is_some_and(|u| u.seq <= d.seq) {
            self.unread.pop_front();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_ring_is_its_model(operations in operations(), units_max in prop_oneof![Just(4096usize), 8usize..64]) {
        let mut world = World { rig: Rig::new(ARENA_LEN, units_max), units: Vec::new(), readers: Vec::new() };
        for operation in &operations {
            world.apply(operation);
        }
        world.finish();
    }
}
