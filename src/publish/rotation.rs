//! Moving a stream into another segment, between two units, to withdraw access: a mapping cannot be taken back.
//!
//! ```text
//! prepared ──settled, no unit is open──▶ the publisher's producer; the one before: retiring ──drained, or late──▶ released
//! ```
//! Readers follow by attaching again, and find in the segment that is written now what came since. So that is not left before
//! they had [`SETTLE`] to come: a successor that is prepared earlier waits. It does for all who want one until then.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use ring_abi::producer::{Producer, ReaderRing, RingId, TrackSpec};

use super::TouchedSessions;
use crate::ids::StreamUid;
use crate::time::Mono;

/// How long readers that are behind are fed from the segment that was left.
const LINGER: Duration = Duration::from_secs(1);
/// How long a segment is written at least before it is left.
const SETTLE: Duration = Duration::from_secs(1);
const _: () = assert!(
    LINGER.as_nanos() <= SETTLE.as_nanos(),
    "when one segment is left, the one before it is released"
);

/// A segment for a stream to go on in, or one that it left.
#[derive(Debug)]
pub struct Successor(Box<Producer>);

impl Successor {
    /// Makes the segment and touches all of it: milliseconds, so not in a turn. `epoch` is that of the stream.
    ///
    /// # Errors
    /// As [`Publisher::create`](super::Publisher::create).
    pub fn create(uid: StreamUid, epoch: u64, arena_len: usize) -> io::Result<Self> {
        let tracks = [TrackSpec::video(arena_len as u64)];
        Producer::create(uid.0, epoch, &tracks).map(Box::new).map(Self)
    }

    /// The segment's descriptor, as [`Publisher::fd`](super::Publisher::fd) gives it once the stream is there.
    pub fn fd(&self) -> Arc<OwnedFd> {
        self.0.fd()
    }
}

/// What is under way; at most one of each.
#[derive(Debug, Default)]
pub(super) struct Rotation {
    prepared: Option<Successor>,
    retiring: Option<Retiring>,
    released: Option<Successor>,
    /// Not before this is the next segment gone to; `None` when that has passed.
    settled_at: Option<Mono>,
}

#[derive(Debug)]
struct Retiring {
    producer: Box<Producer>,
    until: Mono,
}

impl Rotation {
    /// The segment to go on in at the next chance.
    ///
    /// # Errors
    /// `successor` comes back when one is prepared already, which does as well: it is empty, and nobody has it.
    pub(super) fn prepare(&mut self, successor: Successor) -> Result<(), Successor> {
        if self.prepared.is_some() {
            return Err(successor);
        }
        self.prepared = Some(successor);
        Ok(())
    }

    /// Goes on in the prepared segment, if there is one, no unit is open, and the readers had their time to come to this one.
    pub(super) fn switch(&mut self, producer: &mut Producer, now: Mono) {
        self.settled_at = self.settled_at.filter(|at| now < *at);
        if self.settled_at.is_some() || self.retiring.is_some() {
            return;
        }
        let Some(Successor(fresh)) = self.prepared.take() else { return };
        match producer.rotate(*fresh, now.as_nanos()) {
            Ok(old) => {
                self.retiring = Some(Retiring { producer: Box::new(old), until: now + LINGER });
                self.settled_at = Some(now + SETTLE);
            }
            Err(fresh) => self.prepared = Some(Successor(fresh)),
        }
    }

    /// Feeds who is behind in the segment that was left, until all have drained it or their time is over.
    pub(super) fn feed(&mut self, now: Mono) {
        let Some(retiring) = &mut self.retiring else { return };
        retiring.producer.feed(now.as_nanos());
        if retiring.producer.is_drained() || retiring.until <= now {
            retiring.producer.finish();
            self.released = self.retiring.take().map(|retiring| Successor(retiring.producer));
        }
    }

    /// Whether readers of the segment that was left are still being fed.
    pub(super) const fn is_feeding(&self) -> bool {
        self.retiring.is_some()
    }

    /// When [`Rotation::feed`] or [`Rotation::switch`] is due. A unit that is open has no time; its end is a call of `switch`.
    pub(super) fn poll_timeout(&self) -> Option<Mono> {
        let feed = self.retiring.as_ref().map(|Retiring { producer, until }| {
            producer.next_feed().map_or(*until, |at| (*until).min(Mono(at)))
        });
        let switch = self.settled_at.filter(|_| self.prepared.is_some());
        feed.into_iter().chain(switch).min()
    }

    pub(super) fn take_touched(&mut self, touched: &mut TouchedSessions) {
        let left = self.retiring.as_mut().map(|retiring| &mut retiring.producer);
        for producer in left.into_iter().chain(self.released.as_mut().map(|Successor(producer)| producer)) {
            producer.take_touched(|session| touched.insert(session));
        }
    }

    pub(super) fn detach(&mut self, id: RingId) -> Option<ReaderRing> {
        self.retiring.as_mut()?.producer.detach(id)
    }

    pub(super) fn take_released(&mut self) -> Option<Successor> {
        self.released.take()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use ring_abi::join::{From, Join};
    use ring_abi::layout::{Class, Flags, RingState};
    use ring_abi::producer::{Session, Unit};

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
    fn a_reader_that_is_behind_is_fed_to_its_end_although_the_next_segment_waits() {
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
        assert!(stream.is_in(&second), "it has not come over yet");
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
        cursor: std::fs::File,
        /// Bytes of the page before the heads.
        heads_at: u64,
    }

    impl ReaderAt {
        /// One that was attached to `producer`, with room for `slots` records.
        fn new(producer: &mut Producer, slots: u32) -> Self {
            let session = Session::create(1, 1, 1).unwrap();
            let join = Join { ring_slots: slots, ..Join::new(Class::Archive, From::Oldest) };
            let (ring, _) = ReaderRing::create(1, EPOCH, &join, &session, 0).unwrap();
            producer.attach(ring, START.as_nanos());
            let [_, cursor] = session.fds();
            let cursor = std::fs::File::from(cursor.try_clone_to_owned().unwrap());
            Self { cursor, heads_at: ring_abi::layout::CURSOR_HEAD_LEN }
        }

        /// Has taken `records` in all.
        fn take(&self, records: u64) {
            self.cursor.write_all_at(&records.to_le_bytes(), self.heads_at).unwrap();
        }
    }

    fn successor() -> Successor {
        Successor::create(StreamUid(1), EPOCH, ARENA).unwrap()
    }
}
