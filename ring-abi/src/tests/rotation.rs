//! A stream that goes on in another segment.

use super::{Rig, Tap};
use crate::consumer::rig::Taken;
use crate::join::{From, Join};
use crate::layout::{Class, Codec, EndReason, Flags, RingState, StreamState};
use crate::producer::{Configuration, Producer, TrackSpec};

const ARENA: u64 = 1 << 20;

fn fresh(epoch: u64) -> Producer {
    Producer::create(1, epoch, &[TrackSpec::video(ARENA)]).unwrap()
}

fn end_of(tap: &mut Tap) -> (RingState, EndReason) {
    let taken = tap.take();
    let Taken::Ended { state, reason } = taken else { panic!("{taken:?} instead of the end") };
    (state, reason)
}

#[test]
fn a_reader_goes_on_in_the_new_segment_without_a_loss() {
    let mut rig = Rig::new(ARENA, 64);
    let configuration = Configuration {
        codec: Codec::H264,
        data: b"sps pps",
        profile: 100,
        level: 31,
        width: 640,
        height: 360,
        frame_rate: (25, 1),
    };
    let id = rig.producer.configure(0, &configuration).unwrap();
    let join = Join::new(Class::Archive, From::Oldest);
    let mut tap = rig.attach(0, &join);
    rig.commit(100, Flags::KEY);
    rig.commit(100, Flags::default());
    let now = rig.now();
    let old = rig.producer.rotate(fresh(0xe90c), now).unwrap();
    assert!(old.is_drained(), "the reader had room for all");
    assert_eq!(rig.commit(100, Flags::default()), 3, "seq goes on");

    assert_eq!(tap.seqs(), [1, 2], "the frozen segment is read to its end");
    assert_eq!(tap.attachment.final_seq(), 2);
    assert_eq!(tap.attachment.status().state, StreamState::Closed);

    let after = Join { from: From::After { epoch: 0xe90c, seq: 2 }, ..join };
    let mut next = rig.attach(1, &after);
    assert!(next.joined.resumed);
    next.attachment.follow(&tap.attachment);
    assert_eq!(next.seqs(), [3], "not a keyframe, and yet the next unit");
    assert_eq!(rig.producer.configure(0, &configuration), Ok(id), "the same parameter sets keep their id");
    drop(old);
    rig.producer.close(0, 0);
    assert_eq!(end_of(&mut next), (RingState::Closed, EndReason::StreamClosed));
    let counts = next.attachment.counts();
    assert!(
        counts.balance() && (counts.accepted, counts.first_seq, counts.last_seq) == (3, 1, 3),
        "{counts:?}"
    );
}

#[test]
fn a_reader_that_is_behind_is_fed_from_the_old_segment_to_its_end() {
    let mut rig = Rig::new(ARENA, 64);
    let join = Join { ring_slots: 8, ..Join::new(Class::Archive, From::Oldest) };
    let mut tap = rig.attach(0, &join);
    rig.commit_keys(20);
    let now = rig.now();
    let mut old = rig.producer.rotate(fresh(0xe90c), now).unwrap();
    assert!(!old.is_drained());
    rig.commit_keys(1);
    let mut seqs = tap.seqs();
    for step in 1..=5 {
        old.feed(now + step * 1_000_000_000);
        seqs.extend(tap.seqs());
    }
    assert_eq!(seqs, (1..=20).collect::<Vec<_>>());
    assert!(old.is_drained());
    let late = rig.attach(1, &Join { from: From::After { epoch: 0xe90c, seq: 20 }, ..join });
    assert!(late.joined.resumed);
}

#[test]
fn what_was_withheld_counts_across_the_rings() {
    let mut rig = Rig::new(ARENA, 64);
    let mut join = Join::new(Class::Archive, From::Oldest);
    join.filters.keyframes_only = true;
    let mut tap = rig.attach(0, &join);
    rig.commit(10, Flags::KEY);
    rig.commit(10, Flags::default());
    rig.commit(10, Flags::default());
    let now = rig.now();
    let old = rig.producer.rotate(fresh(0xe90c), now).unwrap();
    assert_eq!(tap.seqs(), [1]);
    let mut next = rig.attach(1, &Join { from: From::After { epoch: 0xe90c, seq: 3 }, ..join });
    next.attachment.follow(&tap.attachment);
    drop(old);
    rig.commit(10, Flags::default());
    rig.commit(10, Flags::KEY);
    let Taken::Unit { lost, .. } = next.take() else { panic!("the keyframe did not come") };
    let descriptor = next.buffer.descriptor;
    assert_eq!((descriptor.seq, descriptor.filtered, lost), (5, 3, 0));
    let counts = next.attachment.counts();
    assert!(counts.balance() && (counts.filtered, counts.lost) == (3, 0), "{counts:?}");
}

#[test]
fn another_epoch_and_an_open_unit_are_refused() {
    let mut rig = Rig::new(ARENA, 64);
    let other = rig.producer.rotate(fresh(1), 0).unwrap_err();
    assert_eq!(other.epoch(), 1, "it is given back");
    rig.producer.begin(0);
    assert!(rig.producer.rotate(fresh(0xe90c), 0).is_err());
    rig.producer.abort(0);
    assert!(rig.producer.rotate(fresh(0xe90c), 0).is_ok());
}
