//! A producer that moves, at times that the test says.

use std::os::unix::fs::FileExt;

use ring_abi::join::{From, Join};
use ring_abi::layout::{Class, Flags, RingState};
use ring_abi::producer::{Joined, Session, Unit};

use super::*;
use crate::limits::LINGER_MAX;

const ARENA: usize = 64 * 1024;
const EPOCH: u64 = 9;
const START: Mono = Mono(5_000_000_000);
const SOON: Duration = Duration::from_millis(1);
/// From one unit to the next, unless a test says otherwise.
const PERIOD: Duration = Duration::from_millis(40);
const SLOTS: u32 = 8;

#[test]
fn a_segment_is_left_between_two_units_only() {
    let mut stream = Stream::new();
    let first = stream.fd();
    stream.producer.begin(0);
    stream.rotate(successor(), START).unwrap();
    assert!(stream.is_in(&first), "a unit is open");
    assert_eq!(stream.rotation.poll_timeout(), None, "nobody can say when it ends");
    stream.producer.abort(0);
    assert!(stream.turn(START).is_none() && !stream.is_in(&first));
    assert!(Arc::ptr_eq(&stream.turn(START).unwrap().fd(), &first), "nobody was behind");
    assert_eq!(stream.rotation.poll_timeout(), None);
}

#[test]
fn the_next_segment_waits_until_the_readers_had_time_to_come_and_serves_all_who_want_one() {
    let mut stream = Stream::new();
    stream.rotate(successor(), START).unwrap();
    let second = stream.fd();
    stream.turn(START).expect("nobody was behind");

    let next = successor();
    let third = next.fd();
    stream.rotate(next, START + SOON).unwrap();
    let surplus = successor();
    let surplus_fd = surplus.fd();
    let back = stream.rotate(surplus, START + SOON).unwrap_err();
    assert!(Arc::ptr_eq(&back.fd(), &surplus_fd), "one that waits is enough");
    // Units come and go meanwhile, and none of them makes it leave.
    let due = stream.rotation.poll_timeout();
    assert_eq!(due, Some(START + SETTLE));
    stream.commit(START + SETTLE / 2);
    assert!(stream.turn(Mono(due.unwrap().0 - 1)).is_none() && stream.is_in(&second));

    stream.turn(START + SETTLE);
    assert!(stream.is_in(&third));
    assert!(Arc::ptr_eq(&stream.turn(START + SETTLE).unwrap().fd(), &second));
    assert_eq!(stream.producer.last_seq(), 1, "the sequence goes on");
}

#[test]
fn a_reader_that_is_behind_is_fed_and_finds_the_rest_although_the_next_segment_waits() {
    let mut stream = Stream::new();
    let first = stream.fd();
    let behind = ReaderAt::new(&mut stream.producer, SLOTS);
    (0..12).for_each(|_| stream.commit(START));
    stream.rotate(successor(), START).unwrap();
    let second = stream.fd();
    stream.rotate(successor(), START + SOON).unwrap();
    assert!(stream.turn(START + SETTLE / 2).is_none() && stream.is_in(&second));
    assert!(stream.rotation.is_feeding());
    behind.take(8);
    let released = stream.turn(START + SETTLE / 2 + SETTLE / 4).expect("it has all");
    assert!(Arc::ptr_eq(&released.fd(), &first));
    assert_eq!(released.0.readers()[0].state(), RingState::Rotated);
    // What came meanwhile is still there for it when it comes over.
    stream.commit(START + SETTLE / 2 + SETTLE / 4);
    assert!(behind.follow(&mut stream.producer, 12, START + SETTLE).resumed);
    stream.turn(START + SETTLE);
    assert!(!stream.is_in(&second));
}

#[test]
fn a_reader_that_stops_for_nine_seconds_loses_nothing_by_a_move_meanwhile() {
    let mut stream = Stream::new();
    let stopped = ReaderAt::new(&mut stream.producer, SLOTS);
    let moved_at = stream.play(START, Duration::from_secs(6), PERIOD);
    stream.rotate(successor(), moved_at).unwrap();
    let left_seq = stream.producer.last_seq();
    let mut now = stream.play(moved_at, Duration::from_secs(3), PERIOD);
    assert_eq!(stream.retiring().readers()[0].pushed(), u64::from(SLOTS), "it took nothing");

    let released = loop {
        if let Some(retiring) = &stream.rotation.retiring {
            stopped.take(retiring.producer.readers()[0].pushed());
        }
        now = stream.rotation.poll_timeout().expect("it is fed").max(now);
        if let Some(released) = stream.turn(now) {
            break released;
        }
    };
    assert!(now < moved_at + Duration::from_secs(4), "as fast as it takes them: at {now:?}");
    let ring = &released.0.readers()[0];
    assert_eq!((ring.pushed(), ring.state()), (left_seq, RingState::Rotated), "every unit, then the end");
    assert!(stopped.follow(&mut stream.producer, left_seq, now).resumed);
    let here = stream.producer.readers()[0].pushed();
    assert_eq!(left_seq + here, stream.producer.last_seq(), "and every unit since");
    assert_eq!(stream.producer.last_seq(), 9 * 25);
}

#[test]
fn a_segment_that_was_left_is_kept_as_long_as_units_were_retained_in_it_within_bounds() {
    let seconds = Duration::from_secs;
    for (retained, linger_max, linger) in [
        (PERIOD, LINGER_MAX, LINGER_MIN),
        (seconds(6), LINGER_MAX, seconds(6)),
        (seconds(60), LINGER_MAX, LINGER_MAX),
        (seconds(6), LINGER_MIN, LINGER_MIN),
    ] {
        let mut stream = Stream::new();
        let _never_reads = ReaderAt::new(&mut stream.producer, SLOTS);
        let moved_at = stream.play(START, retained, retained / 10);
        stream.commit(moved_at);
        assert_eq!(u128::from(stream.producer.retained_ns(VIDEO)), retained.as_nanos());
        stream.rotation.prepare(successor(), linger_max).unwrap();
        stream.rotation.switch(&mut stream.producer, moved_at);
        let (mut now, mut turns) = (moved_at, 0);
        while stream.turn(now).is_none() {
            now = stream.rotation.poll_timeout().expect("there is something to do");
            turns += 1;
        }
        assert_eq!(now, moved_at + linger, "{retained:?} retained, at most {linger_max:?}");
        assert!(turns <= 5 * 20 + 10, "{turns} turns for a reader that has stopped");
        assert_eq!(stream.rotation.poll_timeout(), None);
    }
}

#[test]
fn a_reader_that_stays_behind_does_not_hold_the_next_move_up_and_is_ended_by_it() {
    let mut stream = Stream::new();
    let first = stream.fd();
    let behind = ReaderAt::new(&mut stream.producer, SLOTS);
    let moved_at = stream.play(START, Duration::from_secs(6), PERIOD);
    stream.rotate(successor(), moved_at).unwrap();
    assert!(stream.rotation.take_moved() && !stream.rotation.take_moved(), "told once");
    let second = stream.fd();
    stream.rotate(successor(), moved_at + SOON).unwrap();
    assert!(!stream.rotation.take_moved(), "it waits");
    let (mut now, mut released) = (moved_at, None);
    while stream.is_in(&second) {
        assert!(
            released.is_none() && behind.end() == RingState::Ok,
            "nobody comes yet, and it is fed until then"
        );
        now = stream.rotation.poll_timeout().expect("there is something to do").max(now + SOON);
        released = stream.turn(now);
    }
    assert_eq!(now, moved_at + SETTLE);
    assert!(stream.rotation.take_moved());
    let released = released.expect("its time is over");
    assert!(Arc::ptr_eq(&released.fd(), &first));
    assert_eq!(behind.end(), RingState::Rotated, "told within the turn, not when the memory is freed");
    assert!(Arc::ptr_eq(&stream.turn(now).expect("nobody is behind in this one").fd(), &second));
}

#[test]
fn two_segments_that_are_left_within_a_turn_are_given_back_one_after_the_other() {
    let mut stream = Stream::new();
    let first = stream.fd();
    let _behind = ReaderAt::new(&mut stream.producer, SLOTS);
    let moved_at = stream.play(START, Duration::from_secs(6), PERIOD);
    stream.rotate(successor(), moved_at).unwrap();
    let second = stream.fd();
    stream.rotate(successor(), moved_at + SOON).unwrap();
    // The unit's end makes it go on, so the first is given up before the turn's end, where the second has nobody who is behind.
    let now = moved_at + SETTLE;
    stream.commit(now);
    assert!(!stream.is_in(&second));
    assert!(Arc::ptr_eq(&stream.turn(now).expect("the first").fd(), &first));
    let due = stream.rotation.poll_timeout();
    assert!(due.is_some_and(|due| due <= now), "the second is due at once, not at {due:?}");
    assert!(Arc::ptr_eq(&stream.turn(now).expect("the second").fd(), &second));
    assert_eq!(stream.rotation.poll_timeout(), None);
}

#[test]
fn a_stream_that_ends_feeds_who_is_behind_and_takes_all_segments_along() {
    let mut stream = Stream::new();
    let behind = ReaderAt::new(&mut stream.producer, SLOTS);
    let moved_at = stream.play(START, Duration::from_secs(6), PERIOD);
    stream.rotate(successor(), moved_at).unwrap();
    let second = stream.fd();
    stream.rotate(successor(), moved_at + SOON).unwrap();
    stream.producer.close(0, moved_at.as_nanos());
    behind.take(SLOTS.into());
    assert!(stream.turn(moved_at + SETTLE).is_none() && stream.is_in(&second), "it goes nowhere any more");
    assert!(stream.rotation.is_feeding());
    assert_eq!(stream.retiring().readers()[0].pushed(), 2 * u64::from(SLOTS));
    assert_eq!(behind.end(), RingState::Ok);
    // Its time as a stream that ends is over: it is dropped, elsewhere, as it is.
    drop(stream);
    assert_eq!(behind.end(), RingState::Rotated);
}

#[test]
fn a_stream_that_ends_takes_the_segment_that_waits_along() {
    let mut stream = Stream::new();
    stream.rotate(successor(), START).unwrap();
    stream.turn(START).expect("nobody was behind");
    let second = stream.fd();
    stream.rotate(successor(), START + SOON).unwrap();
    stream.producer.close(0, START.as_nanos());
    assert!(stream.turn(START + SETTLE).is_none() && stream.is_in(&second));
    assert_eq!(stream.rotation.poll_timeout(), None, "nothing wakes the shard for it any more");
}

/// A producer and its rotation, without the rest of a publisher.
struct Stream {
    producer: Producer,
    rotation: Rotation,
}

impl Stream {
    fn new() -> Self {
        let Successor(producer) = successor();
        Self { producer: *producer, rotation: Rotation::default() }
    }

    fn rotate(&mut self, successor: Successor, now: Mono) -> Result<(), Successor> {
        self.rotation.prepare(successor, LINGER_MAX)?;
        self.rotation.switch(&mut self.producer, now);
        Ok(())
    }

    /// What a publisher does once a turn; the segment that was released.
    fn turn(&mut self, now: Mono) -> Option<Successor> {
        self.rotation.feed(now);
        self.rotation.switch(&mut self.producer, now);
        self.rotation.take_released()
    }

    fn commit(&mut self, now: Mono) {
        self.producer.begin(0);
        self.producer.append(0, b"unit").unwrap();
        let unit = Unit { flags: Flags::KEY, recv_mono_ns: now.as_nanos(), ..Unit::default() };
        self.producer.commit(0, &unit, &[4], now.as_nanos()).unwrap();
        self.rotation.switch(&mut self.producer, now);
    }

    /// A unit each `period` from `from` on, and a turn for each, in which nothing is released; when the next unit is due.
    fn play(&mut self, from: Mono, time: Duration, period: Duration) -> Mono {
        let mut now = from;
        while now < from + time {
            self.commit(now);
            assert!(self.turn(now).is_none(), "released at {now:?}");
            now = now + period;
        }
        now
    }

    fn retiring(&self) -> &Producer {
        &self.rotation.retiring.as_ref().unwrap().producer
    }

    fn fd(&self) -> Arc<OwnedFd> {
        self.producer.fd()
    }

    fn is_in(&self, segment: &Arc<OwnedFd>) -> bool {
        Arc::ptr_eq(&self.fd(), segment)
    }
}

/// A reader, seen from its cursor page.
struct ReaderAt {
    session: Arc<Session>,
    cursor: std::fs::File,
    ring: std::fs::File,
    /// Bytes of the page before the heads.
    heads_at: u64,
}

impl ReaderAt {
    /// One that was attached to `producer`, with room for `slots` records.
    fn new(producer: &mut Producer, slots: u32) -> Self {
        let session = Session::create(1, 1, 2).unwrap();
        let join = Join { ring_slots: slots, ..Join::new(Class::Archive, From::Oldest) };
        let (ring, ring_fd) = ReaderRing::create(1, EPOCH, &join, &session, 0).unwrap();
        producer.attach(ring, START.as_nanos());
        let [_, cursor] = session.fds();
        let cursor = std::fs::File::from(cursor.try_clone_to_owned().unwrap());
        Self { session, cursor, ring: ring_fd.into(), heads_at: ring_abi::layout::CURSOR_HEAD_LEN }
    }

    /// What its first ring says.
    fn end(&self) -> RingState {
        let mut word = [0; 4];
        self.ring.read_exact_at(&mut word, RSTATE_OFF).unwrap();
        RingState::from_word(u32::from_le_bytes(word))
    }

    /// Attaches again behind the unit `seq`, in another slot.
    fn follow(&self, producer: &mut Producer, seq: u64, now: Mono) -> Joined {
        let join = Join::new(Class::Archive, From::After { epoch: EPOCH, seq });
        let (ring, _) = ReaderRing::create(1, EPOCH, &join, &self.session, 1).unwrap();
        producer.attach(ring, now.as_nanos())
    }

    /// Has taken `records` in all.
    fn take(&self, records: u64) {
        self.cursor.write_all_at(&records.to_le_bytes(), self.heads_at).unwrap();
    }
}

/// Where a ring's state stands (SPEC §2.3).
const RSTATE_OFF: u64 = 192;

fn successor() -> Successor {
    Successor::create(StreamUid(1), EPOCH, ARENA).unwrap()
}
