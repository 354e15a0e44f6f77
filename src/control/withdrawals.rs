//! Which guests have the memory that a stream writes, and the streams that go on in other memory because one of them may not any more.
//!
//! ```text
//!  begin: a guest that the list does not name     room             made, and sent to the shard        moved
//!  has the newest memory ─────────────▶ Wanted ──────────▶ Making ──────────────▶ Moving ──────────▶ over, or begun again
//!                                          ◀── no memory ────┘                       the memory before: left ──▶ released
//! ```
//! At most one is under way a stream, whatever is withdrawn meanwhile. Nobody has the next memory until the shard goes there, so
//! whoever is withdrawn before that is cut off by it, too. Only who was sent that memory and is withdrawn then needs one more,
//! which is begun when this one is over.
//!
//! It is over when the shard has gone there. The memory that was left counts for longer, as readers that are behind are fed from it; but
//! the shard gives it up when it goes on from the next: a stream has one that it writes, one that it left and one on the way.
//!
//! Invariant: whom the door thread was told to send the newest memory is known here. Who has detached may have kept it, so nobody
//! is forgotten until the stream goes on in other memory.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use crate::ids::StreamUid;
use crate::publish::{Access, Peer};

/// All streams'.
#[derive(Debug, Default)]
pub(crate) struct Withdrawals {
    given: HashMap<StreamUid, Given>,
    under_way: HashMap<StreamUid, Stage>,
    /// Segments that were left, and that the shard has not released.
    left: HashMap<StreamUid, usize>,
}

/// Who was sent the newest memory of a stream.
#[derive(Debug, Default)]
struct Given {
    /// The memory; `None` as long as the stream has had only one. It is named, not held.
    newest: Option<Weak<OwnedFd>>,
    peers: HashSet<Peer>,
}

/// How far a stream is on its way to other memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Wanted,
    Making,
    Moving,
}

impl Withdrawals {
    /// `peer` is being sent `memory`, which the shard attached it to.
    pub(crate) fn give(&mut self, stream: StreamUid, peer: Peer, memory: &Arc<OwnedFd>) {
        let given = self.given.entry(stream).or_default();
        let is_newest = |newest: &Weak<OwnedFd>| newest.upgrade().is_some_and(|it| Arc::ptr_eq(&it, memory));
        // A segment that is about to be left does not count: the way out of it is begun.
        if !peer.is_owner && given.newest.as_ref().is_none_or(is_newest) {
            given.peers.insert(peer);
        }
    }

    /// Whether somebody whom `access` does not name can read `stream` for as long as it uses its newest memory.
    pub(crate) fn is_wanted(&self, stream: StreamUid, access: &Access) -> bool {
        self.given.get(&stream).is_some_and(|given| given.peers.iter().any(|peer| !access.allows(*peer)))
    }

    /// `access` is who may read `stream` now. Whether other memory is to be made for it, by the caller.
    pub(crate) fn begin(&mut self, stream: StreamUid, access: &Access) -> bool {
        let begins = self.is_wanted(stream, access) && !self.under_way.contains_key(&stream);
        if begins {
            self.under_way.insert(stream, Stage::Wanted);
        }
        begins
    }

    /// There is room for the memory: from here on it counts.
    pub(crate) fn make(&mut self, stream: StreamUid) {
        self.under_way.insert(stream, Stage::Making);
    }

    /// The memory could not be made.
    pub(crate) fn fail(&mut self, stream: StreamUid) {
        self.under_way.insert(stream, Stage::Wanted);
    }

    /// `memory` is on its way to the shard, behind all that was attached until now.
    pub(crate) fn hand_over(&mut self, stream: StreamUid, memory: &Arc<OwnedFd>) {
        self.under_way.insert(stream, Stage::Moving);
        self.given.insert(stream, Given { newest: Some(Arc::downgrade(memory)), peers: HashSet::new() });
    }

    /// The shard has gone to the memory that was handed over, and keeps the one before for a while. That is nothing to a stream that was
    /// forgotten: all it had went with it.
    pub(crate) fn moved(&mut self, stream: StreamUid) {
        if self.under_way.get(&stream) == Some(&Stage::Moving) {
            self.end(stream);
            *self.left.entry(stream).or_default() += 1;
        }
    }

    /// The shard does not keep memory that was left any more.
    pub(crate) fn released(&mut self, stream: StreamUid) {
        if let Some(left) = self.left.get_mut(&stream) {
            *left -= 1;
            if *left == 0 {
                self.left.remove(&stream);
            }
        }
    }

    /// The stream's way to other memory is over, or given up.
    pub(crate) fn end(&mut self, stream: StreamUid) {
        self.under_way.remove(&stream);
    }

    /// No shard has `stream` any more. Memory that is being made for it counts until its maker gives it up.
    pub(crate) fn forget(&mut self, stream: StreamUid) {
        self.given.remove(&stream);
        self.left.remove(&stream);
        if self.under_way.get(&stream) == Some(&Stage::Moving) {
            self.end(stream);
        }
    }

    /// Segments that there are for it, beside one a stream.
    pub(crate) fn segments(&self) -> usize {
        let on_the_way = self.under_way.values().filter(|stage| **stage != Stage::Wanted).count();
        on_the_way + self.left.values().sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const CAM: StreamUid = StreamUid(1);

    #[test]
    fn withdrawals_before_the_shard_has_moved_need_one_move_together() {
        let (mut withdrawals, [first, second, _]) = with_readers(&[7, 8, 9]);
        assert!(!withdrawals.begin(CAM, &only(&[7, 8, 9])), "nobody is cut off");
        assert!(withdrawals.begin(CAM, &only(&[8, 9])));
        assert!(!withdrawals.begin(CAM, &only(&[9])), "nothing was made yet");
        withdrawals.make(CAM);
        assert!(!withdrawals.begin(CAM, &only(&[])), "nor sent");
        withdrawals.hand_over(CAM, &second);
        // Let in again and attached before the shard went over: what it was sent is about to be left.
        withdrawals.give(CAM, peer(7), &first);
        assert!(!withdrawals.begin(CAM, &only(&[])));
        withdrawals.moved(CAM);
        assert!(!withdrawals.begin(CAM, &only(&[])), "nobody has the new memory");
    }

    #[test]
    fn who_was_sent_the_next_memory_and_is_withdrawn_needs_one_more() {
        let (mut withdrawals, [_, second, third]) = with_readers(&[7, 8]);
        assert!(withdrawals.begin(CAM, &only(&[8])));
        withdrawals.make(CAM);
        withdrawals.hand_over(CAM, &second);
        withdrawals.give(CAM, peer(8), &second);
        assert!(!withdrawals.begin(CAM, &only(&[])), "one at a time");
        assert!(withdrawals.is_wanted(CAM, &only(&[])), "and it is not forgotten");
        withdrawals.moved(CAM);
        assert!(withdrawals.begin(CAM, &only(&[])), "though the first memory was not released");
        withdrawals.make(CAM);
        withdrawals.hand_over(CAM, &third);
        withdrawals.moved(CAM);
        assert!(!withdrawals.begin(CAM, &only(&[])));
    }

    #[test]
    fn owners_are_nobodys_guests_and_who_is_let_in_again_in_time_is_not_cut_off() {
        let (mut withdrawals, [first, ..]) = with_readers(&[7]);
        withdrawals.give(CAM, Peer { is_owner: true, ..peer(0) }, &first);
        assert!(!withdrawals.is_wanted(CAM, &only(&[7])));
        assert!(withdrawals.begin(CAM, &only(&[])));
        assert!(!withdrawals.is_wanted(CAM, &only(&[7])), "before anything was made");
    }

    #[test]
    fn memory_counts_from_when_there_is_room_until_it_is_gone() {
        let (mut withdrawals, [_, second, _]) = with_readers(&[7]);
        assert!(withdrawals.begin(CAM, &only(&[])));
        assert_eq!(withdrawals.segments(), 0);
        withdrawals.make(CAM);
        assert_eq!(withdrawals.segments(), 1);
        withdrawals.fail(CAM);
        assert_eq!(withdrawals.segments(), 0);
        withdrawals.make(CAM);
        // The stream goes away: its maker is still at it.
        withdrawals.forget(CAM);
        assert_eq!(withdrawals.segments(), 1);
        withdrawals.end(CAM);
        assert_eq!(withdrawals.segments(), 0);

        withdrawals.make(CAM);
        withdrawals.hand_over(CAM, &second);
        assert_eq!(withdrawals.segments(), 1);
        withdrawals.forget(CAM);
        assert_eq!(withdrawals.segments(), 0, "it went with its stream");
        assert!(withdrawals.is_empty());
    }

    #[test]
    fn memory_that_was_left_counts_until_it_is_released_though_the_move_is_over() {
        let (mut withdrawals, [_, second, third]) = with_readers(&[7, 8]);
        withdrawals.go(&second);
        assert_eq!(withdrawals.segments(), 1, "on the way");
        withdrawals.moved(CAM);
        assert_eq!(withdrawals.segments(), 1, "left");
        withdrawals.go(&third);
        assert_eq!(withdrawals.segments(), 2, "one left, one on the way");
        // The shard tells of its move first, then that it has given up what it left before.
        withdrawals.moved(CAM);
        withdrawals.released(CAM);
        assert_eq!(withdrawals.segments(), 1);
        withdrawals.released(CAM);
        assert_eq!(withdrawals.segments(), 0);
        withdrawals.forget(CAM);
        assert!(withdrawals.is_empty());
    }

    #[test]
    fn what_is_told_late_of_a_stream_that_is_gone_counts_nothing() {
        let (mut withdrawals, [_, second, third]) = with_readers(&[7, 8]);
        withdrawals.go(&second);
        withdrawals.moved(CAM);
        withdrawals.go(&third);
        withdrawals.forget(CAM);
        assert_eq!(withdrawals.segments(), 0, "all three went with the stream");
        withdrawals.moved(CAM);
        assert!(withdrawals.segments() == 0 && withdrawals.is_empty());
        withdrawals.released(CAM);
        assert!(withdrawals.segments() == 0 && withdrawals.is_empty());
    }

    impl Withdrawals {
        /// Up to the hand-over of `memory`.
        fn go(&mut self, memory: &Arc<OwnedFd>) {
            self.under_way.insert(CAM, Stage::Wanted);
            self.make(CAM);
            self.hand_over(CAM, memory);
        }

        fn is_empty(&self) -> bool {
            self.given.is_empty() && self.under_way.is_empty() && self.left.is_empty()
        }
    }

    /// Guests with these user ids read the first of three segments.
    fn with_readers(uids: &[u32]) -> (Withdrawals, [Arc<OwnedFd>; 3]) {
        let segments = [(); 3].map(|()| Arc::new(OwnedFd::from(std::fs::File::open("/dev/null").unwrap())));
        let mut withdrawals = Withdrawals::default();
        uids.iter().for_each(|uid| withdrawals.give(CAM, peer(*uid), &segments[0]));
        (withdrawals, segments)
    }

    fn peer(uid: u32) -> Peer {
        Peer { uid, gid: 1, is_owner: false }
    }

    fn only(uids: &[u32]) -> Access {
        Access { uids: uids.iter().copied().collect(), gids: BTreeSet::new() }
    }
}
