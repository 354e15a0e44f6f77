//! Moving a stream into another segment, between two units, to withdraw access: a mapping cannot be taken back.
//!
//! ```text
//! prepared ──settled, no unit is open──▶ the publisher's producer; the one before: retiring ──drained, late, or the next comes──▶ released
//! ```
//! Readers follow by attaching again, and find in the segment that is written now what came since. So that is not left before
//! they had [`SETTLE`] to come: a successor that is prepared earlier waits. It does for all who want one until then.
//!
//! Who is behind is fed from the segment that was left for about as long as units are retained in one: a move costs nobody more than
//! its lag would have cost it anyway. It holds the next move up by nothing: then its time is over.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use ring_abi::producer::{Producer, ReaderRing, RingId, TrackSpec};

use super::{Bells, VIDEO};
use crate::ids::StreamUid;
use crate::limits::LINGER_MIN;
use crate::time::Mono;

/// How long a segment is written at least before it is left.
const SETTLE: Duration = Duration::from_secs(1);
const _: () = assert!(
    LINGER_MIN.as_nanos() <= SETTLE.as_nanos(),
    "who is behind has so long also when the next segment is left at once"
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

    /// Its readers; none unless it was left.
    pub(super) fn readers(&self) -> &[ReaderRing] {
        self.0.readers()
    }
}

/// What is under way; at most one of each.
#[derive(Debug, Default)]
pub(super) struct Rotation {
    prepared: Option<Prepared>,
    retiring: Option<Retiring>,
    /// Emptied once a turn. A segment whose time is over while it is full goes on retiring until the next.
    released: Option<Successor>,
    /// Not before this is the next segment gone to; `None` when that has passed.
    settled_at: Option<Mono>,
    /// A segment was gone to, and nobody was told so yet.
    has_moved: bool,
}

#[derive(Debug)]
struct Prepared {
    successor: Successor,
    /// How long readers of the segment before may be fed.
    linger_max: Duration,
}

#[derive(Debug)]
struct Retiring {
    producer: Box<Producer>,
    until: Mono,
}

impl Rotation {
    /// The segment to go on in at the next chance. Who is behind in the one that is left then is fed for `linger_max` at most.
    ///
    /// # Errors
    /// `successor` comes back when one is prepared already, which does as well: it is empty, and nobody has it.
    pub(super) fn prepare(&mut self, successor: Successor, linger_max: Duration) -> Result<(), Successor> {
        if self.prepared.is_some() {
            return Err(successor);
        }
        self.prepared = Some(Prepared { successor, linger_max });
        Ok(())
    }

    /// Goes on in the prepared segment, if there is one, no unit is open, and the readers had their time to come to this one.
    pub(super) fn switch(&mut self, producer: &mut Producer, now: Mono) {
        self.settled_at = self.settled_at.filter(|at| now < *at);
        let is_full = self.retiring.is_some() && self.released.is_some();
        if self.settled_at.is_some() || is_full {
            return;
        }
        let Some(Prepared { successor: Successor(fresh), linger_max }) = self.prepared.take() else { return };
        match producer.rotate(*fresh, now.as_nanos()) {
            Ok(old) => {
                self.release();
                let linger = Duration::from_nanos(old.retained_ns(VIDEO)).max(LINGER_MIN).min(linger_max);
                self.retiring = Some(Retiring { producer: Box::new(old), until: now + linger });
                self.settled_at = Some(now + SETTLE);
                self.has_moved = true;
            }
            Err(fresh) => self.prepared = Some(Prepared { successor: Successor(fresh), linger_max }),
        }
    }

    /// Feeds who is behind in the segment that was left, until all have drained it or their time is over.
    pub(super) fn feed(&mut self, now: Mono) {
        let Some(retiring) = &mut self.retiring else { return };
        retiring.producer.feed(now.as_nanos());
        if retiring.producer.is_drained() {
            // Nobody's time any more; and should the slot be full, then this is due as soon as it is not.
            retiring.until = retiring.until.min(now);
        }
        if retiring.until <= now && self.released.is_none() {
            self.release();
        }
    }

    /// Ends the readers of the segment that was left, if there is one. There must be room for it then.
    fn release(&mut self) {
        if let Some(Retiring { mut producer, .. }) = self.retiring.take() {
            debug_assert!(self.released.is_none(), "memory would be freed within a turn, and nobody told");
            producer.finish();
            self.released = Some(Successor(producer));
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

    pub(super) fn take_touched(&mut self, bells: &mut Bells) {
        let left = self.retiring.as_mut().map(|retiring| &mut retiring.producer);
        for producer in left.into_iter().chain(self.released.as_mut().map(|Successor(producer)| producer)) {
            producer.take_touched(|session| bells.touch(session));
        }
    }

    pub(super) fn detach(&mut self, id: RingId) -> Option<ReaderRing> {
        self.retiring.as_mut()?.producer.detach(id)
    }

    /// Readers of segments that were left.
    pub(super) fn readers(&self) -> impl Iterator<Item = &ReaderRing> {
        let retiring = self.retiring.iter().map(|retiring| &retiring.producer);
        let released = self.released.iter().map(|Successor(producer)| producer);
        retiring.chain(released).flat_map(|producer| producer.readers())
    }

    /// Whether a segment was gone to since the last call.
    pub(super) const fn take_moved(&mut self) -> bool {
        std::mem::replace(&mut self.has_moved, false)
    }

    pub(super) fn take_released(&mut self) -> Option<Successor> {
        self.released.take()
    }
}

#[cfg(test)]
mod tests;
