//! Closing what readers gave us, on a thread of its own.
//!
//! To close a descriptor may take as long as another process likes: the last who closes a TCP socket waits for its bytes to be
//! acknowledged, if `SO_LINGER` says so; a file may wait for its file system. Whoever can connect can send us such descriptors
//! (`SCM_RIGHTS`), and those that we never received are closed with our end of the connection. The attach thread must not wait
//! for that, and so closes none of them.
//!
//! ```text
//!  attach thread: shutdown ──▶ queue ──▶ vms-attach-close: receives what is unread, forbids lingering, closes
//! ```

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use ring_abi::handshake::MESSAGE_LEN_MAX;
use ring_abi::socket;
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{Shutdown, shutdown};

/// What may wait to be closed. Then the attach thread waits, too: a flood is not taken faster than it is closed.
const WAITING_MAX: usize = 256;
/// Empty packets that a connection's buffer cannot hold, unless its sender may enlarge it as it likes.
const EMPTY_MAX: u32 = 1024;

/// The thread, from outside. It ends when this is dropped and it has closed what waited, and nobody waits for that.
#[derive(Debug)]
pub(super) struct Closer {
    waiting: SyncSender<Closing>,
}

#[derive(Debug)]
enum Closing {
    /// Our end of a connection.
    Connection(OwnedFd),
    /// What came with a packet.
    Received(OwnedFd),
}

impl Closer {
    /// Starts the thread.
    ///
    /// # Errors
    /// What the system says: no thread.
    pub(super) fn start() -> io::Result<Self> {
        let (waiting, queue) = sync_channel(WAITING_MAX);
        std::thread::Builder::new().name("vms-attach-close".into()).spawn(move || close_all(&queue))?;
        Ok(Self { waiting })
    }

    /// Ends a connection: its reader sees that at once. It must not be watched any more.
    pub(super) fn connection(&self, socket: OwnedFd) {
        // The other side may have gone.
        let _ = shutdown(&socket, Shutdown::Both);
        self.close(Closing::Connection(socket));
    }

    /// Closes descriptors that nobody asked for.
    pub(super) fn received(&self, fds: Vec<OwnedFd>) {
        fds.into_iter().for_each(|fd| self.close(Closing::Received(fd)));
    }

    fn close(&self, closing: Closing) {
        // Fails only when the thread has panicked. Then what is left is to close it here.
        drop(self.waiting.send(closing));
    }
}

fn close_all(queue: &Receiver<Closing>) {
    for closing in queue {
        match closing {
            Closing::Connection(socket) => close_connection(&socket),
            Closing::Received(fd) => close_received(fd),
        }
    }
}

/// Takes what was not read; the socket itself is closed by its owner.
fn close_connection(socket: impl AsFd) {
    let mut buffer = [0u8; MESSAGE_LEN_MAX];
    let mut empty = 0;
    // It was shut down, so nothing is added, and its end looks as an empty packet does, behind which there may be more.
    while empty < EMPTY_MAX
        && let Ok(packet) = socket::receive_any(&socket, &mut buffer, false)
    {
        empty = if packet.len == 0 && packet.fds.is_empty() { empty + 1 } else { 0 };
        packet.fds.into_iter().for_each(close_received);
    }
}

/// Closes a descriptor without waiting for what a socket has not sent.
fn close_received(fd: OwnedFd) {
    // Fails for what is no socket.
    let _ = set_socket_linger(&fd, None);
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use rustix::time::{ClockId, clock_gettime};

    /// How long who closes the socket below last would wait.
    const LINGER: Duration = Duration::from_secs(30);

    #[test]
    fn a_socket_that_lingers_holds_nobody_wherever_it_stands() {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut deaf = Vec::new();
        let mut lingering = || {
            let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            deaf.push(listener.accept().unwrap());
            stream.set_nonblocking(true).unwrap();
            while stream.write(&[0; 65_536]).is_ok() {}
            set_socket_linger(&stream, Some(LINGER)).unwrap();
            OwnedFd::from(stream)
        };
        let before = clock_gettime(ClockId::Monotonic).tv_sec;
        for bytes in [&b"read"[..], b"", &[7; MESSAGE_LEN_MAX + 1]] {
            socket::send(&theirs, bytes, &[], false).unwrap();
            socket::send(&theirs, bytes, &[lingering().as_fd(), lingering().as_fd()], false).unwrap();
        }
        shutdown(&ours, Shutdown::Both).unwrap();
        close_connection(&ours);
        drop(ours);
        close_received(lingering());
        let took = clock_gettime(ClockId::Monotonic).tv_sec - before;
        assert!(took < 20, "{took} s");
    }
}
