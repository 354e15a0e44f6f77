//! Connecting to a producer: the socket and the requests that wait for an answer.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt::Timeout,
    sockopt::set_socket_timeout,
};
use rustix::time::{ClockId, clock_gettime};

use crate::handshake::{Attached, DecodeError, MESSAGE_LEN_MAX, Message, RefusalCode};
use crate::socket::{receive, send};

/// What a system call's time-out may be: none is 0, which means for ever, and none is more than the kernel counts.
const TIMEOUT_RANGE: (Duration, Duration) = (Duration::from_micros(1), Duration::from_secs(u32::MAX as u64));

/// Packets that are received in one go: a producer that sends without end does not hold the caller.
const PACKETS_MAX: u32 = 1024;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The socket failed.
    #[error("the ring socket failed: {0}")]
    Io(io::Error),
    /// The producer said no.
    #[error("refused ({code:?}): {text}")]
    Refused {
        /// For programs.
        code: RefusalCode,
        /// For people.
        text: String,
    },
    /// The producer has gone.
    #[error("the producer closed the connection")]
    Gone,
    /// No answer came in time.
    #[error("the producer did not answer in time")]
    Timeout,
    /// What came is no answer.
    #[error("the producer's answer was not understood")]
    Protocol,
}

/// By hand and not by `#[from]`: the error's words are in ours, and who prints the chain would read them twice.
impl From<io::Error> for RequestError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<DecodeError> for RequestError {
    fn from(_: DecodeError) -> Self {
        Self::Protocol
    }
}

/// A connected attach socket.
#[derive(Debug)]
pub(crate) struct Client {
    socket: OwnedFd,
    last_request: u32,
    timeout: Duration,
}

impl Client {
    /// Connects to the socket at `path`, for which a producer that accepts nobody is given `timeout`. Each request waits at
    /// most as long.
    pub(crate) fn connect(path: &Path, timeout: Duration) -> Result<Self, RequestError> {
        let address = SocketAddrUnix::new(path).map_err(io::Error::from)?;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(io::Error::from)?;
        // Bounds connect and send; answers are waited for by poll.
        let bound = timeout.clamp(TIMEOUT_RANGE.0, TIMEOUT_RANGE.1);
        set_socket_timeout(&socket, Timeout::Send, Some(bound)).map_err(io::Error::from)?;
        let deadline = monotonic().saturating_add(timeout);
        loop {
            match connect(&socket, &address) {
                Ok(()) => return Ok(Self { socket, last_request: 0, timeout }),
                Err(Errno::AGAIN) => return Err(RequestError::Timeout),
                Err(Errno::INTR) if monotonic() < deadline => {}
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
    }

    /// Sends a request and waits for its answer. What comes unasked meanwhile is dropped: rings say the same.
    pub(crate) fn request(&mut self, message: &Message) -> Result<(Message, Vec<OwnedFd>), RequestError> {
        let deadline = monotonic().saturating_add(self.timeout);
        let request = self.next_request();
        send(&self.socket, message.encode(request).as_bytes(), &[], true).map_err(|error| {
            // The time-out of the socket: nobody reads it.
            if error.kind() == io::ErrorKind::WouldBlock { RequestError::Timeout } else { gone(error) }
        })?;
        // Each answer is at most one packet; a producer that sends others without end is cut off by the count.
        for _ in 0..PACKETS_MAX {
            self.wait_readable(deadline)?;
            let (answer, fds) = match self.receive() {
                Ok(Some((answer, id, fds))) if id == request => (answer, fds),
                Ok(Some((other, ..))) => {
                    self.pass_over(&other);
                    continue;
                }
                Ok(None) => continue,
                Err(RequestError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            };
            if let Message::Refused(refused) = answer {
                let text = refused.text.as_str().to_owned();
                return Err(RequestError::Refused { code: refused.code, text });
            }
            return if answer.fd_count() == fds.len() {
                Ok((answer, fds))
            } else {
                Err(RequestError::Protocol)
            };
        }
        Err(RequestError::Protocol)
    }

    /// Sends a message that needs no answer.
    pub(crate) fn notify(&self, message: &Message) {
        // The socket's end says the same when the message is lost.
        let _ = send(&self.socket, message.encode(0).as_bytes(), &[], false);
    }

    /// Reads what came unasked; false when the producer has gone.
    pub(crate) fn is_alive(&mut self) -> bool {
        for _ in 0..PACKETS_MAX {
            match self.receive() {
                Ok(Some((Message::Bye { .. }, ..))) | Err(RequestError::Gone) => return false,
                Ok(Some((other, ..))) => self.pass_over(&other),
                Ok(None) | Err(RequestError::Protocol) => {}
                Err(RequestError::Io(error)) => return error.kind() == io::ErrorKind::WouldBlock,
                Err(RequestError::Refused { .. } | RequestError::Timeout) => return true,
            }
        }
        // Who talks without end is alive.
        true
    }

    fn next_request(&mut self) -> u32 {
        self.last_request = self.last_request.wrapping_add(1).max(1);
        self.last_request
    }

    /// What nobody waits for. The answer to an ATTACH that was given up is detached: the producer holds a ring that nobody
    /// reads. If the socket is full, the slot is free when the session ends.
    fn pass_over(&mut self, message: &Message) {
        if let Message::Attached(Attached { slot, .. }) = message {
            let request = self.next_request();
            let detach = Message::Detach { slot: *slot }.encode(request);
            let _ = send(&self.socket, detach.as_bytes(), &[], false);
        }
    }

    /// Waits until there is something to be received, at most until `deadline`.
    fn wait_readable(&self, deadline: Duration) -> Result<(), RequestError> {
        loop {
            let left = deadline.saturating_sub(monotonic());
            let left = rustix::event::Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            let mut fds = [PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN)];
            match poll(&mut fds, Some(&left)) {
                Ok(0) => return Err(RequestError::Timeout),
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(RequestError::Io(error.into())),
            }
        }
    }

    /// The next message, if it is there; `None` for one of a type that a later version may have added.
    fn receive(&self) -> Result<Option<(Message, u32, Vec<OwnedFd>)>, RequestError> {
        let mut buffer = [0u8; MESSAGE_LEN_MAX];
        let packet = receive(&self.socket, &mut buffer, false).map_err(gone)?;
        if packet.len == 0 {
            return Err(RequestError::Gone);
        }
        match Message::decode(buffer.get(..packet.len).unwrap_or(&[])) {
            Ok((message, id)) => Ok(Some((message, id, packet.fds))),
            Err(DecodeError::Unknown(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Time since boot.
pub(crate) fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}

impl AsFd for Client {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn gone(error: io::Error) -> RequestError {
    let ended = matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset);
    if ended { RequestError::Gone } else { RequestError::Io(error) }
}
