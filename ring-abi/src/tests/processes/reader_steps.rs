//! A reader's process is stopped behind every access that it makes to shared memory, then killed or let go on, while the
//! producer laps it.
//!
//! Only accesses are steps: nobody can tell where between two of them a process was. Its own stores are few (heads,
//! `parked`); the loads are there because the producer overwrites what a stopped reader was copying.

use std::path::Path;
use std::time::Duration;

use super::daemon::{Listener, PATIENCE_MS, admit, ring_bells};
use super::{Peer, said_last};
use crate::consumer::{Event, Options, Reader};
use crate::join::{Filters, From, Join};
use crate::layout::{Class, Codec, Flags, RingState};
use crate::producer::Configuration;
use crate::tests::{Rig, Tap, payload, steps};

/// Units that the reader finds when it comes.
const UNITS_BEFORE: u64 = 4;
/// Units that come while it stands: more than twice what the arena holds.
const UNITS: u64 = 40;
const LEN: usize = 4000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Killed,
    Continued,
}

#[test]
fn a_reader_may_die_behind_any_step() {
    let rejected = through_all_steps(Fate::Killed);
    assert_eq!(rejected, 0, "who is dead does not count");
}

#[test]
fn a_reader_may_be_stopped_behind_any_step() {
    let rejected = through_all_steps(Fate::Continued);
    assert!(rejected > 10, "no copy was overwritten under way, so nothing was proved: {rejected}");
}

/// Runs the script once for each step; how many units the reader rejected in all.
fn through_all_steps(fate: Fate) -> u64 {
    let alone = Steps::of_a_producer_whose_readers_keep_up();
    let (mut step, mut rejected) = (1, 0);
    loop {
        let run = run(step, fate, alone);
        rejected += run.rejected;
        if run.was_last {
            break;
        }
        step += 1;
    }
    assert!(step > 60, "{step}");
    rejected
}

struct Run {
    was_last: bool,
    rejected: u64,
}

fn run(step: u64, fate: Fate, alone: Steps) -> Run {
    let listener = Listener::new();
    let (mut rig, mut good) = rig_and_good_reader();
    let mut peer = Peer::start("stepped reader", step, listener.path(), None);
    let now = rig.now();
    let guest = admit(&listener.socket, &mut rig.producer, 2, now);
    assert!(peer.wait_stopped(), "it stops at the end of its script, if not before");
    let with_a_stopped_one = Steps::of(&mut rig, &mut good, UNITS);
    // One look at the stopped reader's head, and, in the worst case, as many records for it as it has room for, and its bell.
    assert!(with_a_stopped_one.most <= alone.most + 1 + 8 * (16 + 2) + 2, "{with_a_stopped_one:?} {alone:?}");
    assert!(with_a_stopped_one.later <= alone.later + 1, "{with_a_stopped_one:?} {alone:?}");
    if fate == Fate::Killed {
        peer.kill();
        let (_, said) = peer.end();
        assert!(guest.has_gone(PATIENCE_MS), "no hang-up");
        guest.bury(&mut rig.producer);
        let after = Steps::of(&mut rig, &mut good, UNITS);
        assert!(after.most <= alone.most, "{after:?} {alone:?}");
        return Run { was_last: said.contains("script is over"), rejected: 0 };
    }
    peer.go_on();
    rig.producer.close(1, u64::MAX);
    let mut turns = 0;
    while !guest.has_gone(1) {
        turns += 1;
        assert!(turns < PATIENCE_MS, "step {step}: the reader does not come to its end");
        rig.producer.feed(u64::MAX);
        ring_bells(&mut rig.producer);
    }
    let (status, said) = peer.end();
    assert!(status.success(), "step {step}: {said}");
    assert_eq!(rig.producer.readers().iter().filter(|r| r.state() == RingState::Closed).count(), 2);
    Run { was_last: said.contains("script is over"), rejected: said_last(&said, "rejected ").unwrap() }
}

/// The producer's accesses for a unit.
#[derive(Clone, Copy, Debug)]
struct Steps {
    /// For the unit that took most.
    most: u64,
    /// For the unit that took most of those behind the first sixteen: rings of readers that stand are full then.
    later: u64,
}

impl Steps {
    /// Commits units; the good reader must get each at once.
    fn of(rig: &mut Rig, good: &mut Tap, units: u64) -> Self {
        let mut all = Vec::new();
        for n in 0..units {
            if n % 4 == 0 {
                configure(rig);
            }
            let mut seq = 0;
            all.push(steps::of(|| {
                seq = rig.commit(LEN, Flags::KEY);
                ring_bells(&mut rig.producer);
            }));
            assert_eq!(good.seqs(), [seq]);
            assert_eq!(good.buffer.payload(), payload(seq, LEN));
        }
        let most = |steps: &[u64]| steps.iter().copied().max().unwrap();
        Self { most: most(&all), later: most(&all[16..]) }
    }

    fn of_a_producer_whose_readers_keep_up() -> Self {
        let (mut rig, mut good) = rig_and_good_reader();
        Self::of(&mut rig, &mut good, 3 * UNITS)
    }
}

/// A stream with some units, and a reader in this process that has read them.
fn rig_and_good_reader() -> (Rig, Tap) {
    let mut rig = Rig::new(64 * 1024, 4096);
    let mut good = rig.attach(0, &join());
    configure(&mut rig);
    for _ in 0..UNITS_BEFORE {
        rig.commit(LEN, Flags::KEY);
    }
    assert_eq!(good.seqs().len(), 4);
    (rig, good)
}

/// The next configuration: more than the table holds come while a reader stands.
fn configure(rig: &mut Rig) {
    let configuration = Configuration {
        codec: Codec::H264,
        data: &parameter_sets(rig.config_id + 1),
        profile: 0,
        level: 0,
        width: 0,
        height: 0,
        frame_rate: (0, 0),
    };
    rig.config_id = rig.producer.configure(0, &configuration).unwrap();
}

fn parameter_sets(config_id: u32) -> Vec<u8> {
    payload(config_id.into(), 2000)
}

fn join() -> Join {
    let filters = Filters { everything: true, ..Filters::of_class(Class::Archive) };
    Join { filters, ring_slots: 8, ..Join::new(Class::Archive, From::Oldest) }
}

/// The other process: takes what is there, waits on the bell once, and, when it was let go on, takes the rest.
pub(super) fn stepped_reader(socket: &Path, step: u64) {
    let mut reader = Reader::connect(socket, &Options::default()).unwrap();
    let (stream, _) = reader.attach("steps", &join()).unwrap();
    steps::stop_behind(step);
    let mut last_seq = 0;
    let mut found = Found::Unit;
    while found == Found::Unit {
        found = take(&mut reader, &mut last_seq, Duration::from_millis(1));
    }
    if steps::count() < step {
        eprintln!("script is over");
        steps::stop_behind(u64::MAX);
        steps::stop();
    }
    while found != Found::End {
        found = take(&mut reader, &mut last_seq, Duration::from_secs(10));
        assert_ne!(found, Found::Nothing, "neither a unit nor the end came");
    }
    let counts = reader.counts(stream).unwrap();
    assert!(counts.balance(), "{counts:?}");
    assert_eq!(counts.last_seq, UNITS_BEFORE + UNITS);
    eprintln!("rejected {}", counts.rejected);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Unit,
    Nothing,
    End,
}

fn take(reader: &mut Reader, last_seq: &mut u64, timeout: Duration) -> Found {
    let (stream, config_id) = match reader.next(Some(timeout)) {
        Event::Unit(unit) => {
            let seq = unit.descriptor.seq;
            assert!(seq > *last_seq, "{seq} behind {last_seq}");
            assert_eq!(unit.payload, payload(seq, LEN), "unit {seq} is not what was published");
            *last_seq = seq;
            (unit.stream, unit.descriptor.config_id)
        }
        Event::Ended(_) => return Found::End,
        Event::Timeout => return Found::Nothing,
        Event::ProducerGone => panic!("the producer is there"),
    };
    let configuration = reader.configuration(stream, 0).unwrap();
    assert_eq!((configuration.id, &configuration.data), (config_id, &parameter_sets(config_id)));
    Found::Unit
}
