//! A reader that writes anything into its cursor is evicted when it matters, and nobody else notices.

use proptest::prelude::*;

use super::{Rig, Taken};
use crate::cursor::{Ordering, Store};
use crate::join::{From, Join};
use crate::layout::{CURSOR_HEAD_LEN, Class, EndReason, Flags, RingState};

fn join() -> Join {
    Join { ring_slots: 8, ..Join::new(Class::Archive, From::Live) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hostile_heads_hurt_only_themselves(heads in prop::collection::vec(prop_oneof![any::<u64>(), 0u64..64], 40)) {
        let mut rig = Rig::new(1 << 20, 4096);
        let mut good = rig.attach(0, &join());
        let bad = rig.attach(1, &join());
        let word = rig.cursor.word64(CURSOR_HEAD_LEN + 8).unwrap();
        let mut seen = Vec::new();
        for (n, head) in heads.iter().enumerate() {
            word.store(*head, Ordering::Relaxed);
            rig.commit(100, if n == 0 { Flags::KEY } else { Flags(0) });
            seen.extend(good.seqs());
        }
        prop_assert_eq!(seen, (1..=40).collect::<Vec<u64>>());
        let ring = rig.producer.readers().iter().find(|r| r.id() == bad.ring).unwrap();
        prop_assert!(ring.pushed() <= 40);
    }
}

#[test]
fn a_head_that_lies_is_an_eviction() {
    for lie in [9, u64::MAX, 1 << 32] {
        let mut rig = Rig::new(1 << 20, 4096);
        let mut tap = rig.attach(0, &join());
        let word = rig.cursor.word64(CURSOR_HEAD_LEN).unwrap();
        rig.commit_keys(8);
        word.store(lie, Ordering::Relaxed);
        rig.commit(10, Flags::KEY);
        assert_eq!(rig.producer.readers()[0].state(), RingState::Evicted, "{lie}");
        assert_eq!(tap.seqs().len(), 8, "what was pushed before can be read");
        let _ = tap.take();
        assert!(rig.producer.is_drained());
    }
}

#[test]
fn a_head_that_moves_back_is_an_eviction_and_the_reader_learns_it() {
    let mut rig = Rig::new(1 << 20, 4096);
    let mut tap = rig.attach(0, &join());
    for _ in 0..3 {
        rig.commit_keys(8);
        tap.seqs();
    }
    // A punched page reads as zero.
    rig.cursor.word64(CURSOR_HEAD_LEN).unwrap().store(0, Ordering::Relaxed);
    rig.commit_keys(16);
    assert_eq!(rig.producer.readers()[0].state(), RingState::Evicted);
    let end = loop {
        match tap.take() {
            Taken::Ended { state, reason } => break (state, reason),
            Taken::Empty => panic!("the eviction was not told"),
            Taken::Unit { .. } | Taken::Dropped => {}
        }
    };
    assert_eq!(end, (RingState::Evicted, EndReason::BadCursor));
    assert!(tap.attachment.counts().balance());
}

#[test]
fn a_stopped_reader_is_looked_at_ever_less_often() {
    let mut rig = Rig::new(1 << 20, 4096);
    let mut tap = rig.attach(0, &join());
    rig.commit_keys(20);
    let mut now = rig.producer.next_feed().unwrap();
    let mut looks = 0;
    let until = now + 2_000_000_000;
    while now < until {
        now = rig.producer.feed(now).unwrap();
        looks += 1;
    }
    assert!((10..=20).contains(&looks), "{looks} looks in two seconds");
    assert_eq!(tap.seqs().len(), 8);
    rig.producer.feed(now).unwrap();
    assert_eq!(tap.seqs().len(), 8, "it goes on where it was");
}
