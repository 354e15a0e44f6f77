//! Moving a stream into another segment, between two units, to withdraw access: a mapping cannot be taken back.
//!
//! ```text
//! prepared ──no unit is open──▶ the publisher's producer; the one before: retiring ──drained, or late──▶ released
//! ```

use std::io;
use std::time::Duration;

use ring_abi::producer::{Producer, ReaderRing, RingId, TrackSpec};

use super::TouchedSessions;
use crate::ids::StreamUid;
use crate::time::Mono;

/// How long readers that are behind are fed from the segment that was left.
const LINGER: Duration = Duration::from_secs(1);

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
}

/// What is under way; at most one of each.
#[derive(Debug, Default)]
pub(super) struct Rotation {
    prepared: Option<Successor>,
    retiring: Option<Retiring>,
    released: Option<Successor>,
}

#[derive(Debug)]
struct Retiring {
    producer: Box<Producer>,
    until: Mono,
}

impl Rotation {
    /// The segment to go on in at the next chance.
    pub(super) fn prepare(&mut self, successor: Successor) {
        self.prepared = Some(successor);
    }

    /// Goes on in the prepared segment, if there is one and no unit is open.
    pub(super) fn switch(&mut self, producer: &mut Producer, now: Mono) {
        let Some(Successor(fresh)) = self.prepared.take() else { return };
        match producer.rotate(*fresh, now.as_nanos()) {
            Ok(old) => self.retiring = Some(Retiring { producer: Box::new(old), until: now + LINGER }),
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

    /// When [`Rotation::feed`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Mono> {
        let retiring = self.retiring.as_ref()?;
        Some(retiring.producer.next_feed().map_or(retiring.until, |at| retiring.until.min(Mono(at))))
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
    use std::sync::Arc;

    use super::*;

    const ARENA: usize = 64 * 1024;

    #[test]
    fn a_segment_is_left_between_two_units_only() {
        let successor = || Successor::create(StreamUid(1), 9, ARENA).unwrap();
        let Successor(mut producer) = successor();
        let first = producer.fd();
        let mut rotation = Rotation::default();
        producer.begin(0);
        rotation.prepare(successor());
        rotation.switch(&mut producer, Mono(0));
        assert!(Arc::ptr_eq(&producer.fd(), &first), "a unit is open");
        producer.abort(0);
        rotation.switch(&mut producer, Mono(0));
        assert!(!Arc::ptr_eq(&producer.fd(), &first));
        rotation.feed(Mono(0));
        assert_eq!(rotation.poll_timeout(), None, "nobody was behind");
        assert!(Arc::ptr_eq(&rotation.take_released().unwrap().0.fd(), &first));
    }
}
