//! Streams that move from thread to thread at the end of each turn, a unit open on them, while one session's reader reads them.
//!
//! Two threads, two streams, and a queue into each thread. The reader acknowledges each unit, and the next one is committed only
//! then: so it sleeps in between, and each bell that is lost shows as a wait for the reader's time-out.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use super::payload;
use super::processes::daemon::{Listener, PATIENCE_MS, admit, ring_bells};
use crate::client::monotonic;
use crate::consumer::{Event, Options, Reader};
use crate::join::{From, Join};
use crate::layout::{Class, Flags, RingState};
use crate::producer::{Producer, TrackSpec, Unit};

const MOVES: u64 = 1000;
const LEN: usize = 3000;
const PATIENCE: Duration = Duration::from_millis(PATIENCE_MS);
/// A reader that was not woken looks again after a second.
const LATE: Duration = Duration::from_millis(900);
/// On a busy machine a reader may be late although it was woken.
const LATE_MAX: u64 = 10;

/// A stream on its way, with all that its owner needs.
struct Moving {
    producer: Producer,
    /// The sequence number of each unit that the reader took.
    taken: Receiver<u64>,
}

impl Moving {
    fn create(uid: u64) -> (Self, Sender<u64>) {
        let (sender, taken) = channel();
        let mut producer = Producer::create(uid, 0xe90c, &[TrackSpec::video(1 << 20)]).unwrap();
        producer.begin(0);
        (Self { producer, taken }, sender)
    }

    /// A turn: rings for who was left to it, commits the unit that is open since the last owner's turn, and opens the next one.
    fn turn(&mut self, late: &AtomicU64) {
        ring_bells(&mut self.producer);
        let last = self.producer.last_seq();
        let since = monotonic();
        while last > 0 && self.taken.recv_timeout(PATIENCE).expect("the reader did not take a unit") != last {
        }
        if monotonic() - since > LATE {
            late.fetch_add(1, Ordering::Relaxed);
        }
        let seq = last + 1;
        self.producer.append(0, &payload(seq, LEN)[if seq == 1 { 0 } else { LEN / 3 }..]).unwrap();
        let flags = if seq == 1 { Flags::KEY } else { Flags::default() };
        self.producer.commit(0, &Unit { flags, ..Unit::default() }, &[], seq).unwrap();
        // Every other time the bell is left to the next owner.
        if seq.is_multiple_of(2) {
            ring_bells(&mut self.producer);
        }
        self.producer.begin(0);
        self.producer.append(0, &payload(seq + 1, LEN)[..LEN / 3]).unwrap();
    }
}

#[test]
fn a_reader_notices_nothing_of_streams_that_move_between_threads() {
    let listener = Listener::new();
    let ((mut one, taken_of_one), (mut two, taken_of_two)) = (Moving::create(1), Moving::create(2));
    let path = listener.path().to_owned();
    let reader = thread::spawn(move || read_both(&path, &[taken_of_one, taken_of_two]));
    let mut guest = admit(&listener.socket, &mut one.producer, 1, 0);
    guest.attach_next(&mut two.producer, 0);

    let ((to_a, inbox_of_a), (to_b, inbox_of_b)) = (channel(), channel());
    let (home, at_home) = channel();
    let late = Arc::new(AtomicU64::new(0));
    to_a.send(Some(one)).unwrap();
    to_b.send(Some(two)).unwrap();
    let shards = [(inbox_of_a, to_b.clone()), (inbox_of_b, to_a.clone())].map(|(inbox, next)| {
        let (home, late) = (home.clone(), Arc::clone(&late));
        thread::spawn(move || shard(&inbox, &next, &home, &late))
    });
    drop(home);
    for _ in 0..2 {
        let mut moved: Moving = at_home.recv().expect("a thread has failed");
        moved.producer.close(0, 0);
        ring_bells(&mut moved.producer);
    }
    reader.join().unwrap();
    for shard in [to_a, to_b] {
        shard.send(None).unwrap();
    }
    for shard in shards {
        shard.join().unwrap();
    }
    let late = late.load(Ordering::Relaxed);
    assert!(late <= LATE_MAX, "{late} units were taken only after the reader's time-out");
}

/// Gives each stream that comes a turn and hands it on, until it is told to end. A stream that has moved often enough goes home.
fn shard(
    inbox: &Receiver<Option<Moving>>,
    next: &Sender<Option<Moving>>,
    home: &Sender<Moving>,
    late: &AtomicU64,
) {
    while let Some(mut moving) = inbox.recv_timeout(PATIENCE).expect("no stream has come") {
        moving.turn(late);
        assert!(late.load(Ordering::Relaxed) <= LATE_MAX, "bells are lost");
        if moving.producer.last_seq() > MOVES {
            home.send(moving).unwrap();
        } else {
            next.send(Some(moving)).unwrap();
        }
    }
}

/// Reads both streams to their ends in one session; says of each unit that it came.
fn read_both(path: &Path, taken: &[Sender<u64>; 2]) {
    let mut reader = Reader::connect(path, &Options::default()).unwrap();
    let join = Join::new(Class::Archive, From::Live);
    let keys = ["one", "two"].map(|id| reader.attach(id, &join).unwrap().0);
    let mut last = [0u64; 2];
    let mut ended = 0;
    while ended < 2 {
        match reader.next(Some(PATIENCE)) {
            Event::Unit(unit) => {
                let at = usize::from(unit.stream == keys[1]);
                assert_eq!((unit.descriptor.seq, unit.lost), (last[at] + 1, 0));
                assert_eq!(unit.payload, payload(unit.descriptor.seq, LEN));
                last[at] += 1;
                // Nobody listens behind the last unit.
                let _ = taken[at].send(unit.descriptor.seq);
            }
            Event::Ended(end) => {
                assert_eq!(end.state, RingState::Closed);
                let counts = end.counts;
                assert!(counts.balance() && counts.accepted == MOVES + 1, "{counts:?}");
                ended += 1;
            }
            other @ (Event::Timeout | Event::ProducerGone) => panic!("{other:?} behind {last:?}"),
        }
    }
}
