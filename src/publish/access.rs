//! Who may read a stream: the daemon's own user and root always, others when the stream's access list names them.

use std::collections::BTreeSet;

/// The user behind a reader's socket, as the kernel tells it (`SO_PEERCRED`, unix(7)): that of the time of connecting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Effective user id.
    pub uid: u32,
    /// Effective (primary) group id.
    pub gid: u32,
    /// Whether it is the daemon's own user, or root.
    pub is_owner: bool,
}

/// A list of users and groups. Empty: nobody but the owners.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// User ids.
    pub uids: BTreeSet<u32>,
    /// Group ids.
    pub gids: BTreeSet<u32>,
}

impl Access {
    /// Whether `peer` may read.
    pub fn allows(&self, peer: Peer) -> bool {
        peer.is_owner || self.uids.contains(&peer.uid) || self.gids.contains(&peer.gid)
    }

    /// Adds all that `other` names.
    pub fn extend(&mut self, other: &Self) {
        self.uids.extend(&other.uids);
        self.gids.extend(&other.gids);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_and_the_named_may_read() {
        let access = Access { uids: BTreeSet::from([7]), gids: BTreeSet::from([9]) };
        let peer = |uid, gid| Peer { uid, gid, is_owner: false };
        assert!(access.allows(peer(7, 1)) && access.allows(peer(1, 9)) && !access.allows(peer(9, 7)));
        assert!(Access::default().allows(Peer { is_owner: true, ..peer(0, 0) }));
        assert!(
            !Access::default().allows(peer(0, 0)),
            "being an owner is decided by who knows the daemon's user"
        );
    }
}
