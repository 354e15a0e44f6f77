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
mod tests;
