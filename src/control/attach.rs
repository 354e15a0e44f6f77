//! Readers brought to their streams: requests of the attach thread become shard commands, and what the shards say
//! becomes the answers.
//!
//! Invariant: each request gets exactly one answer. One that went to a shard is in `pending` until then.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::ids::StreamUid;
use crate::publish::attach::{Completion, Handle, PendingAttach};
use crate::publish::{Access, Joined, Peer, ReaderRing, RefusalCode, RingId};

/// What a reader needs to know of the stream that it attaches to.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    /// The incarnation.
    pub(crate) uid: StreamUid,
    /// The incarnation's random number.
    pub(crate) epoch: u64,
}

/// Readers on their way in and out.
#[derive(Debug)]
pub(crate) struct Attachments {
    door: Handle,
    pending: HashMap<RingId, Pending>,
    /// Rings that a shard feeds, or is about to, with their readers.
    readers: HashMap<RingId, (StreamUid, Peer)>,
    /// Guests that were sent the memory that a stream uses now. Who has detached may have kept it, so nobody is forgotten until
    /// the stream goes on in other memory.
    given: HashMap<StreamUid, HashSet<Peer>>,
}

/// A reader whose ring is on its way to the shard.
#[derive(Debug)]
struct Pending {
    segment: Segment,
    ring_fd: OwnedFd,
}

impl Attachments {
    /// Nobody, behind `door`.
    pub(crate) fn new(door: Handle) -> Self {
        Self { door, pending: HashMap::new(), readers: HashMap::new(), given: HashMap::new() }
    }

    /// Makes the ring that the shard is to take in. A reader that cannot have one has been told so.
    pub(crate) fn begin(&mut self, reader: &PendingAttach, segment: Segment) -> Option<Box<ReaderRing>> {
        match reader.make_ring(segment.uid, segment.epoch) {
            Ok((ring, ring_fd)) => {
                self.readers.insert(reader.ring, (segment.uid, reader.peer));
                if !reader.peer.is_owner {
                    self.given.entry(segment.uid).or_default().insert(reader.peer);
                }
                self.pending.insert(reader.ring, Pending { segment, ring_fd });
                Some(Box::new(ring))
            }
            Err(error) => {
                self.refuse(reader.ring, RefusalCode::Unavailable, format!("no memory for a ring: {error}"));
                None
            }
        }
    }

    /// The shard took the ring in, for the stream's memory `stream_fd`.
    pub(crate) fn attached(&mut self, ring: RingId, joined: Joined, stream_fd: Arc<OwnedFd>) {
        let Some(Pending { segment, ring_fd }) = self.pending.remove(&ring) else { return };
        let Segment { uid: stream, epoch } = segment;
        self.door.complete(Completion::Attached { ring, stream, epoch, joined, stream_fd, ring_fd });
    }

    /// The stream went, or failed, while the ring was on its way.
    pub(crate) fn not_attached(&mut self, ring: RingId) {
        self.readers.remove(&ring);
        if self.pending.remove(&ring).is_some() {
            self.refuse(ring, RefusalCode::Unavailable, "the stream ended, or failed: try again".to_owned());
        }
    }

    /// No shard touches the ring any more.
    pub(crate) fn detached(&mut self, ring: RingId) {
        self.readers.remove(&ring);
        self.door.complete(Completion::Detached { ring });
    }

    /// Whether somebody whom `access` does not name was sent the memory that `stream` uses, and so can read it as long as it does,
    /// attached or not.
    pub(crate) fn has_reader_outside(&self, stream: StreamUid, access: &Access) -> bool {
        self.given.get(&stream).is_some_and(|peers| peers.iter().any(|peer| !access.allows(*peer)))
    }

    /// `stream` goes on in other memory, which only those whom `access` names will be sent.
    pub(crate) fn moved(&mut self, stream: StreamUid, access: &Access) {
        if let Some(peers) = self.given.get_mut(&stream) {
            peers.retain(|peer| access.allows(*peer));
        }
    }

    /// `stream` is no more.
    pub(crate) fn forget(&mut self, stream: StreamUid) {
        self.given.remove(&stream);
    }

    /// Streams that are not `live` any more, but whose memory readers hold: those of the user `uid`, or of all.
    pub(crate) fn held_by(&self, uid: Option<u32>, live: impl Fn(StreamUid) -> bool) -> usize {
        let ended = self
            .readers
            .values()
            .filter(|(stream, peer)| uid.is_none_or(|uid| peer.uid == uid) && !live(*stream));
        ended.map(|(stream, _)| stream).collect::<HashSet<_>>().len()
    }

    /// Lets the users that `guests` names connect.
    pub(crate) fn set_guests(&self, guests: Access) {
        self.door.set_guests(guests);
    }

    /// The reader does not get its stream.
    pub(crate) fn refuse(&self, ring: RingId, code: RefusalCode, text: String) {
        self.door.complete(Completion::Refused { ring, code, text });
    }
}
