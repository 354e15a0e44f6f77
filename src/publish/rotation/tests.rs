//! A producer that moves, at times that the test says.

use std::os::unix::fs::FileExt;

use ring_abi::join::{From, Join};
use ring_abi::layout::{Class, Flags, RingState};
use ring_abi::producer::{Joined, Session, Unit};

use super::*;

const ARENA: usize = 64 * 1024;
const EPOCH: u64 = 9;
const START: Mono = Mono(5_000_000_000);
const SOON: Duration = Duration::from_millis(1);

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
    let behind = ReaderAt::new(&mut stream.producer, 8);
    (0..12).for_each(|_| stream.commit(START));
    stream.rotate(successor(), START).unwrap();
    let second = stream.fd();
    stream.rotate(successor(), START + SOON).unwrap();
    assert!(stream.turn(START + LINGER / 2).is_none() && stream.is_in(&second));
    assert!(stream.rotation.is_feeding());
    behind.take(8);
    let released = stream.turn(START + LINGER / 2 + LINGER / 4).expect("it has all");
    assert!(Arc::ptr_eq(&released.fd(), &first));
    assert_eq!(released.0.readers()[0].state(), RingState::Rotated);
    // What came meanwhile is still there for it when it comes over.
    stream.commit(START + LINGER / 2 + LINGER / 4);
    assert!(behind.follow(&mut stream.producer, 12, START + SETTLE).resumed);
    stream.turn(START + SETTLE);
    assert!(!stream.is_in(&second));
}

#[test]
fn a_reader_that_stays_behind_holds_the_next_segment_up_no_longer_than_that() {
    let mut stream = Stream::new();
    let behind = ReaderAt::new(&mut stream.producer, 8);
    (0..12).for_each(|_| stream.commit(START));
    stream.rotate(successor(), START).unwrap();
    let second = stream.fd();
    stream.rotate(successor(), START + SOON).unwrap();
    let mut now = START;
    while stream.is_in(&second) {
        now = stream.rotation.poll_timeout().expect("there is something to do").max(now + SOON);
        assert!(now <= START + SETTLE, "later than the bound");
        stream.turn(now);
    }
    assert_eq!(now, START + SETTLE);
    drop(behind);
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
        self.rotation.prepare(successor)?;
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
        let unit = Unit { flags: Flags::KEY, ..Unit::default() };
        self.producer.commit(0, &unit, &[4], now.as_nanos()).unwrap();
        self.rotation.switch(&mut self.producer, now);
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
    /// Bytes of the page before the heads.
    heads_at: u64,
}

impl ReaderAt {
    /// One that was attached to `producer`, with room for `slots` records.
    fn new(producer: &mut Producer, slots: u32) -> Self {
        let session = Session::create(1, 1, 2).unwrap();
        let join = Join { ring_slots: slots, ..Join::new(Class::Archive, From::Oldest) };
        let (ring, _) = ReaderRing::create(1, EPOCH, &join, &session, 0).unwrap();
        producer.attach(ring, START.as_nanos());
        let [_, cursor] = session.fds();
        let cursor = std::fs::File::from(cursor.try_clone_to_owned().unwrap());
        Self { session, cursor, heads_at: ring_abi::layout::CURSOR_HEAD_LEN }
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

fn successor() -> Successor {
    Successor::create(StreamUid(1), EPOCH, ARENA).unwrap()
}
