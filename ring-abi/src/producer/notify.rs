//! Waking a reader by a descriptor: one end of a socket pair, which its event loop waits on.
//!
//! Not an eventfd: the reader would share its file description, could clear `O_NONBLOCK` and fill the counter, and the next write
//! would block the producing thread. `MSG_DONTWAIT` holds for one send, whatever the reader does to its end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{AddressFamily, SendFlags, Shutdown, SocketFlags, SocketType, send, shutdown, socketpair};

/// A session's notify socket.
#[derive(Debug)]
pub(super) struct Notify {
    ours: OwnedFd,
    /// Kept only to be sent with WELCOME.
    readers: OwnedFd,
}

impl Notify {
    /// A connected pair.
    pub(super) fn create() -> io::Result<Self> {
        let (ours, readers) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        // The reader has nothing to say here. Descriptors that it sent would wait in our end, and closing that would close
        // them: a TCP socket may then hold the closing thread for as long as the reader asked for (SO_LINGER).
        shutdown(&ours, Shutdown::Read)?;
        // One unread byte wakes as well as many: the kernel's smallest buffer will do.
        set_socket_send_buffer_size(&ours, 1)?;
        Ok(Self { ours, readers })
    }

    /// The reader's end.
    pub(super) fn readers_end(&self) -> BorrowedFd<'_> {
        self.readers.as_fd()
    }

    /// Sends one byte if there is room. Full: the reader has not read what was sent before, and will wake by that. Broken: it
    /// has gone, and the attach socket says so.
    pub(super) fn wake(&self) {
        let _ = send(&self.ours, &[1], SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use rustix::io::Errno;
    use rustix::net::{RecvFlags, recv};

    #[test]
    fn a_reader_is_woken_and_can_send_nothing() {
        let notify = Notify::create().unwrap();
        let readers = notify.readers_end();
        assert_eq!(send(readers, &[1], SendFlags::DONTWAIT | SendFlags::NOSIGNAL), Err(Errno::PIPE));
        notify.wake();
        let mut byte = [0u8; 1];
        assert_eq!(recv(readers, &mut byte, RecvFlags::DONTWAIT).unwrap().0, 1);
        assert_eq!(
            recv(readers, &mut byte, RecvFlags::DONTWAIT).unwrap_err(),
            Errno::AGAIN,
            "it is not the end"
        );
    }
}
