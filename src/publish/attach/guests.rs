//! What readers of other users than the daemon's may take: connections, sessions, and memory for sessions and rings.
//!
//! Such a segment is memory as long as its reader maps it, and a reader may map it after it has detached or hung up. So what a guest
//! was given counts until the process that connected has ended (its pidfd tells), whatever it says. What it was refused does not.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ring_abi::producer::RingId;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::allowance::Allowance;
use crate::limits::{GUEST_BYTES_MAX, GUEST_CONNECT_RATE};
use crate::time::Mono;

/// The processes of guests that were given memory.
#[derive(Debug, Default)]
pub(super) struct Guests {
    processes: HashMap<u64, Process>,
    connects: HashMap<u32, Allowance>,
    /// Charges for rings that are not made yet: to which process, how much.
    open: HashMap<RingId, (u64, u64)>,
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
    /// To a process that is watched already: its number.
    Known(u64),
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

    /// Charges `bytes` to the process `pid` of the user `uid`.
    pub(super) fn charge(&mut self, pid: Pid, uid: u32, bytes: u64) -> Charged<'_> {
        let held: u64 =
            self.processes.values().filter(|process| process.uid == uid).map(|process| process.bytes).sum();
        if held.saturating_add(bytes) > GUEST_BYTES_MAX {
            return Charged::Refused;
        }
        let known = self.processes.iter_mut().find(|(_, process)| process.pid == pid && process.uid == uid);
        if let Some((&number, process)) = known {
            process.bytes += bytes;
            return Charged::Known(number);
        }
        let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return Charged::Refused };
        self.next += 1;
        let process = self.processes.entry(self.next).insert_entry(Process { pid, uid, pidfd, bytes });
        Charged::New(self.next, process.into_mut().pidfd.as_fd())
    }

    /// `bytes` were charged to the process `number` for a ring that may yet be refused.
    pub(super) fn ask(&mut self, ring: RingId, number: u64, bytes: u64) {
        self.open.insert(ring, (number, bytes));
    }

    /// What was asked for is settled: the ring was made, or its charge is taken back.
    pub(super) fn settle(&mut self, ring: RingId, is_made: bool) {
        let Some((number, bytes)) = self.open.remove(&ring) else { return };
        if let Some(process) = self.processes.get_mut(&number).filter(|_| !is_made) {
            process.bytes = process.bytes.saturating_sub(bytes);
        }
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

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn what_a_process_was_given_counts_until_it_ends() {
        let mut guests = Guests::default();
        let Charged::New(number, _) = guests.charge(getpid(), 7, MIB) else {
            panic!("the first ring is refused")
        };
        let mut charges = 1;
        while let Charged::Known(known) = guests.charge(getpid(), 7, MIB) {
            assert_eq!(known, number);
            charges += 1;
        }
        assert_eq!(charges, GUEST_BYTES_MAX / MIB);
        assert!(matches!(guests.charge(getpid(), 8, MIB), Charged::New(..)), "another user has its own");
        guests.ended(number);
        assert!(matches!(guests.charge(getpid(), 7, MIB), Charged::New(..)));
    }

    #[test]
    fn what_was_refused_costs_nothing() {
        let mut guests = Guests::default();
        let Charged::New(number, _) = guests.charge(getpid(), 7, MIB) else { panic!("refused") };
        for slot in 0..2 * u32::try_from(GUEST_BYTES_MAX / MIB).unwrap() {
            let ring = RingId { session: 1, slot };
            assert!(matches!(guests.charge(getpid(), 7, MIB), Charged::Known(_)));
            guests.ask(ring, number, MIB);
            guests.settle(ring, false);
            guests.settle(ring, false);
        }
        assert!(matches!(guests.charge(getpid(), 7, GUEST_BYTES_MAX - MIB), Charged::Known(_)));
        guests.ask(RingId { session: 1, slot: 0 }, number, GUEST_BYTES_MAX - MIB);
        guests.settle(RingId { session: 1, slot: 0 }, true);
        assert!(matches!(guests.charge(getpid(), 7, 1), Charged::Refused), "what was given is not free");
    }
}
