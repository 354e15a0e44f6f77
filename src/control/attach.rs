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
    /// Rings that are on their way back from the shard, because access was withdrawn while they were on their way there.
    turned_away: HashSet<RingId>,
}

/// A reader whose ring is on its way to the shard.
#[derive(Debug)]
struct Pending {
    segment: Segment,
    ring_fd: OwnedFd,
}

/// What became of a reader whose ring a shard took in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// This one is being sent the stream's memory.
    Sent(Peer),
    /// It may not read the stream any more: its ring is to be detached.
    TurnedAway,
    /// Nobody waits for the ring.
    Unknown,
}

impl Attachments {
    /// Nobody, behind `door`.
    pub(crate) fn new(door: Handle) -> Self {
        Self { door, pending: HashMap::new(), readers: HashMap::new(), turned_away: HashSet::new() }
    }

    /// Makes the ring that the shard is to take in. A reader that cannot have one has been told so.
    pub(crate) fn begin(&mut self, reader: &PendingAttach, segment: Segment) -> Option<Box<ReaderRing>> {
        match reader.make_ring(segment.uid, segment.epoch) {
            Ok((ring, ring_fd)) => {
                self.readers.insert(reader.ring, (segment.uid, reader.peer));
                self.pending.insert(reader.ring, Pending { segment, ring_fd });
                Some(Box::new(ring))
            }
            Err(error) => {
                self.refuse(reader.ring, RefusalCode::Unavailable, format!("no memory for a ring: {error}"));
                None
            }
        }
    }

    /// The shard took the ring in, for the stream's memory `stream_fd`. Who may read the stream now is `access`, or not known when
    /// it is being torn down: then a guest may have lost its access before that. A reader that may not read it is not sent the memory,
    /// and told so when the shard has let go.
    pub(crate) fn attached(
        &mut self,
        ring: RingId,
        joined: Joined,
        stream_fd: Arc<OwnedFd>,
        access: Option<&Access>,
    ) -> Taken {
        let Some(Pending { segment, ring_fd }) = self.pending.remove(&ring) else { return Taken::Unknown };
        let Some(&(_, peer)) = self.readers.get(&ring) else { return Taken::Unknown };
        if !access.map_or(peer.is_owner, |access| access.allows(peer)) {
            self.turned_away.insert(ring);
            return Taken::TurnedAway;
        }
        let Segment { uid: stream, epoch } = segment;
        self.door.complete(Completion::Attached { ring, stream, epoch, joined, stream_fd, ring_fd });
        Taken::Sent(peer)
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
        if self.turned_away.remove(&ring) {
            return self.forbid(ring);
        }
        self.door.complete(Completion::Detached { ring });
    }

    /// Whose ring it is.
    pub(crate) fn peer(&self, ring: RingId) -> Option<Peer> {
        self.readers.get(&ring).map(|(_, peer)| *peer)
    }

    /// Attachments that there are, or are about to be.
    pub(crate) fn len(&self) -> usize {
        self.readers.len()
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

    /// The reader may not read what it asks for.
    pub(crate) fn forbid(&self, ring: RingId) {
        self.refuse(ring, RefusalCode::Forbidden, "this user may not read such a stream".to_owned());
    }

    /// The reader does not get its stream.
    pub(crate) fn refuse(&self, ring: RingId, code: RefusalCode, text: String) {
        self.door.complete(Completion::Refused { ring, code, text });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use ring_abi::consumer::{Options, Reader};
    use ring_abi::join::Join;

    use super::*;
    use crate::publish::Publisher;
    use crate::publish::attach::{self, Limits, Listener, Request};

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn who_loses_access_on_the_way_to_the_shard_is_not_sent_the_memory() {
        let path = std::env::temp_dir().join(format!("vms-control-attach-{}.sock", std::process::id()));
        let (requests, asked) = channel();
        let ask = move |request| requests.send(request).unwrap();
        let door = attach::spawn(Listener::bind(&path).unwrap(), Limits::default(), 1, ask).unwrap();
        let mut attachments = Attachments::new(door);
        let mut publisher = Publisher::create(StreamUid(1), 9, 64 * 1024).unwrap();
        let reader = std::thread::spawn(move || {
            let mut reader = Reader::connect(&path, &Options { slots: 1, ..Options::default() }).unwrap();
            let mut refused = || reader.attach("cam", &Join::default()).unwrap_err().to_string();
            let refused = [refused(), refused()];
            (refused, reader.attach("cam", &Join::default()).is_ok())
        });
        let mut attached = |attachments: &mut Attachments, access: Option<&Access>| {
            let Request::Attach(mut pending) = asked.recv_timeout(SOON).unwrap() else { panic!("no attach") };
            // Everybody who can run this test is an owner here, whom no list can shut out.
            pending.peer = Peer { uid: 7, gid: 7, is_owner: false };
            let ring = attachments.begin(&pending, Segment { uid: StreamUid(1), epoch: 9 }).unwrap();
            let joined = publisher.attach(*ring);
            (pending.ring, pending.peer, attachments.attached(pending.ring, joined, publisher.fd(), access))
        };
        // Whose list does not name it any more, and one that was torn down: nobody can tell what its list said at the end.
        for access in [Some(Access::default()), None] {
            let (ring, _, taken) = attached(&mut attachments, access.as_ref());
            assert_eq!(taken, Taken::TurnedAway);
            attachments.detached(ring);
        }

        // The only slot is free again, and who may read is sent the memory.
        let access = Access { uids: BTreeSet::from([7]), ..Access::default() };
        let (_, peer, taken) = attached(&mut attachments, Some(&access));
        assert_eq!(taken, Taken::Sent(peer));
        let (refused, is_attached) = reader.join().unwrap();
        for text in refused {
            assert!(text.contains("Forbidden") && text.contains("may not read"), "{text}");
        }
        assert!(is_attached);
    }
}
