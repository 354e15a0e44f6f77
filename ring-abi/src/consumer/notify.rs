//! The reader's end of a notify socket: a descriptor that becomes readable when there may be something new.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

/// More than fit into the socket: a producer that sends without end does not hold the caller. What is left keeps it readable.
const WAKES_MAX: u32 = 4096;

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// There may be something new.
    Bell,
    /// The producer has gone.
    Gone,
    /// Nothing came.
    Not,
}

#[derive(Debug)]
pub(super) struct NotifyEnd {
    socket: OwnedFd,
}

impl NotifyEnd {
    pub(super) const fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Waits at most `nap`, then empties the socket. A signal ends the wait as a time-out does: the caller looks again.
    pub(super) fn wait(&self, nap: Duration) -> Woken {
        let nap = Timespec::try_from(nap).ok();
        let mut fds = [PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN)];
        match poll(&mut fds, nap.as_ref()) {
            Ok(1..) => self.drain(),
            Ok(0) | Err(_) => Woken::Not,
        }
    }

    /// Empties the socket.
    pub(super) fn drain(&self) -> Woken {
        let mut woken = Woken::Not;
        let mut bytes = [0u8; 8];
        for _ in 0..WAKES_MAX {
            match recv(&self.socket, &mut bytes, RecvFlags::DONTWAIT) {
                Ok((1.., _)) => woken = Woken::Bell,
                Err(Errno::AGAIN | Errno::INTR) => return woken,
                // Also what is no socket: it would be readable for ever, and never empty.
                Ok((0, _)) | Err(_) => return Woken::Gone,
            }
        }
        woken
    }
}

impl AsFd for NotifyEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, memfd_create};
    use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};

    #[test]
    fn what_is_no_notify_socket_ends_the_wait_for_good() {
        let file = NotifyEnd::new(memfd_create("file", MemfdFlags::CLOEXEC).unwrap());
        assert_eq!(file.wait(Duration::from_secs(10)), Woken::Gone);
        let (theirs, ours) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let ours = NotifyEnd::new(ours);
        assert_eq!(ours.drain(), Woken::Not);
        send(&theirs, &[1], SendFlags::NOSIGNAL).unwrap();
        assert_eq!((ours.drain(), ours.drain()), (Woken::Bell, Woken::Not));
        drop(theirs);
        assert_eq!(ours.drain(), Woken::Gone);
    }
}
