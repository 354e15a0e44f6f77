//! What readers of other users than the daemon's may take: connections, sessions, and memory for their rings.
//!
//! A ring is memory as long as its reader maps it, and a reader may map it after it has detached. So a guest's rings count until the
//! process that asked for them has ended (its pidfd tells), whatever it says.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::allowance::Allowance;
use crate::limits::{GUEST_CONNECT_RATE, GUEST_RING_BYTES_MAX};
use crate::publish::Join;
use crate::time::Mono;

/// The processes of guests that were given rings.
#[derive(Debug, Default)]
pub(super) struct Guests {
    processes: HashMap<u64, Process>,
    connects: HashMap<u32, Allowance>,
    next: u64,
}

#[derive(Debug)]
struct Process {
    pid: Pid,
    uid: u32,
    pidfd: OwnedFd,
    bytes: u64,
}

/// What became of a charge.
#[derive(Debug)]
pub(super) enum Charged<'a> {
    /// To a process that is watched already.
    Known,
    /// To one whose end is to be watched: its number, and what to watch.
    New(u64, BorrowedFd<'a>),
    /// To nobody: the user holds too much, or the process has gone.
    Refused,
}

impl Guests {
    /// Whether the user `uid` may connect once more now.
    pub(super) fn may_connect(&mut self, uid: u32, now: Mono) -> bool {
        // Bounded by the users that access lists name.
        self.connects.entry(uid).or_insert_with(|| Allowance::new(GUEST_CONNECT_RATE)).take(now).is_ok()
    }

    /// Charges a ring for `join` to the process `pid` of the user `uid`.
    pub(super) fn charge(&mut self, pid: Pid, uid: u32, join: &Join) -> Charged<'_> {
        let bytes = ring_abi::producer::ReaderRing::segment_len(join);
        let held: u64 =
            self.processes.values().filter(|process| process.uid == uid).map(|process| process.bytes).sum();
        if held.saturating_add(bytes) > GUEST_RING_BYTES_MAX {
            return Charged::Refused;
        }
        if let Some(process) =
            self.processes.values_mut().find(|process| process.pid == pid && process.uid == uid)
        {
            process.bytes += bytes;
            return Charged::Known;
        }
        let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return Charged::Refused };
        self.next += 1;
        let process = self.processes.entry(self.next).insert_entry(Process { pid, uid, pidfd, bytes });
        Charged::New(self.next, process.into_mut().pidfd.as_fd())
    }

    /// The process `number` has ended: what it held is free.
    pub(super) fn ended(&mut self, number: u64) {
        self.processes.remove(&number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::getpid;

    #[test]
    fn what_a_process_was_given_counts_until_it_ends() {
        let mut guests = Guests::default();
        let join = Join { ring_slots: 1024, ..Join::default() };
        let Charged::New(number, _) = guests.charge(getpid(), 7, &join) else {
            panic!("the first ring is refused")
        };
        let mut rings = 1;
        while let Charged::Known = guests.charge(getpid(), 7, &join) {
            rings += 1;
        }
        assert_eq!(rings, GUEST_RING_BYTES_MAX / ring_abi::producer::ReaderRing::segment_len(&join));
        assert!(matches!(guests.charge(getpid(), 8, &join), Charged::New(..)), "another user has its own");
        guests.ended(number);
        assert!(matches!(guests.charge(getpid(), 7, &join), Charged::New(..)));
    }
}
