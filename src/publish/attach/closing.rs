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
//! A unix socket that we are given may hold others' descriptors, and so on: what is unread there is received first, too. What no
//! system call can hasten remains, a file of a file system that does not answer.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use ring_abi::handshake::MESSAGE_LEN_MAX;
use ring_abi::socket;
use rustix::net::sockopt::{set_socket_linger, socket_domain};
use rustix::net::{AddressFamily, Shutdown, accept, shutdown};

/// What may wait to be closed. Then the attach thread waits, too: a flood is not taken faster than it is closed.
const WAITING_MAX: usize = 256;
/// Empty packets that a connection's buffer cannot hold, unless its sender may enlarge it as it likes.
const EMPTY_MAX: u32 = 1024;
/// Sockets within each other that are emptied, from the inside. Each has up to a packet's descriptors open here meanwhile.
const DEPTH_MAX: u32 = 16;

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
            Closing::Connection(socket) => empty(&socket, 0),
            Closing::Received(fd) => close_received(fd, 0),
        }
    }
}

/// Takes what was not read from a socket that was shut down, within `depth` others; the socket itself is closed by its owner.
fn empty(socket: impl AsFd, depth: u32) {
    let mut buffer = [0u8; MESSAGE_LEN_MAX];
    let mut empty = 0;
    // It was shut down, so nothing is added, and its end looks as an empty packet does, behind which there may be more.
    while empty < EMPTY_MAX
        && let Ok(packet) = socket::receive_any(&socket, &mut buffer, false)
    {
        empty = if packet.len == 0 && packet.fds.is_empty() { empty + 1 } else { 0 };
        packet.fds.into_iter().for_each(|fd| close_received(fd, depth));
    }
}

/// Closes a descriptor, which came with `depth` others around it, without waiting for what a socket has not sent.
fn close_received(fd: OwnedFd, depth: u32) {
    // Fails for what is no socket.
    let _ = set_socket_linger(&fd, None);
    let is_unix = socket_domain(&fd).is_ok_and(|domain| domain == AddressFamily::UNIX);
    if is_unix && depth < DEPTH_MAX {
        // It was connected to nobody, perhaps.
        let _ = shutdown(&fd, Shutdown::Both);
        empty(&fd, depth + 1);
        // One that listens has connections which nobody accepted. As it was shut down this waits for none.
        while let Ok(connection) = accept(&fd) {
            close_received(connection, depth + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;
    use rustix::net::{
        SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with, socketpair,
    };
    use rustix::time::{ClockId, clock_gettime};

    /// How long who closes the socket below last would wait.
    const LINGER: Duration = Duration::from_secs(30);

    #[test]
    fn a_socket_that_lingers_holds_nobody_wherever_it_stands() {
        let (ours, theirs) = pair(SocketType::SEQPACKET);
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
        for kind in [SocketType::SEQPACKET, SocketType::STREAM, SocketType::DGRAM] {
            let within = (1..DEPTH_MAX).fold(lingering(), |fd, _| holding(fd, kind));
            socket::send(&theirs, b"nested", &[within.as_fd()], false).unwrap();
        }
        socket::send(&theirs, b"listening", &[listening_to(lingering()).as_fd()], false).unwrap();
        shutdown(&ours, Shutdown::Both).unwrap();
        empty(&ours, 0);
        drop(ours);
        close_received(lingering(), 0);
        let took = clock_gettime(ClockId::Monotonic).tv_sec - before;
        assert!(took < 20, "{took} s");
    }
    /// A socket with a message that nobody has read, and that brings `fd`.
    fn holding(fd: OwnedFd, kind: SocketType) -> OwnedFd {
        let (holder, sender) = pair(kind);
        socket::send(&sender, b"unread", &[fd.as_fd()], false).unwrap();
        holder
    }

    /// A socket with a connection that nobody has accepted, and that brings `fd`.
    fn listening_to(fd: OwnedFd) -> OwnedFd {
        let new = || socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let (listener, caller) = (new().unwrap(), new().unwrap());
        let name = format!("vms-closing-{}", std::process::id());
        let address = SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap();
        bind(&listener, &address).unwrap();
        listen(&listener, 1).unwrap();
        connect(&caller, &address).unwrap();
        socket::send(&caller, b"unread", &[fd.as_fd()], false).unwrap();
        listener
    }

    fn pair(kind: SocketType) -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap()
    }
}
