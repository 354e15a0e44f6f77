//! Connecting to a producer: the socket and the requests that wait for an answer.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::handshake::{DecodeError, MESSAGE_LEN_MAX, Message, RefusalCode};
use crate::socket::{receive, send};

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
    /// Connects to the socket at `path`. Each request waits at most `timeout`.
    pub(crate) fn connect(path: &Path, timeout: Duration) -> io::Result<Self> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self { socket, last_request: 0, timeout })
    }

    /// Sends a request and waits for its answer. What comes unasked meanwhile is dropped: rings say the same.
    pub(crate) fn request(&mut self, message: &Message) -> Result<(Message, Vec<OwnedFd>), RequestError> {
        self.last_request = self.last_request.wrapping_add(1).max(1);
        let request = self.last_request;
        send(&self.socket, message.encode(request).as_bytes(), &[], true).map_err(gone)?;
        // Each answer is at most one packet; a producer that sends others without end is cut off by the count.
        for _ in 0..1024 {
            self.wait_readable()?;
            let Some((answer, _, fds)) = self.receive(true)?.filter(|(_, id, _)| *id == request) else {
                continue;
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
    pub(crate) fn is_alive(&self) -> bool {
        loop {
            match self.receive(false) {
                Ok(Some((Message::Bye { .. }, ..))) | Err(RequestError::Gone) => return false,
                Ok(_) | Err(RequestError::Protocol) => {}
                Err(RequestError::Io(error)) => return error.kind() == io::ErrorKind::WouldBlock,
                Err(RequestError::Refused { .. } | RequestError::Timeout) => return true,
            }
        }
    }

    fn wait_readable(&self) -> Result<(), RequestError> {
        let timeout = rustix::event::Timespec {
            tv_sec: i64::try_from(self.timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: self.timeout.subsec_nanos().into(),
        };
        let mut fds = [PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => Err(RequestError::Timeout),
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(RequestError::Io(error.into())),
        }
    }

    /// The next message; `None` for one of a type that a later version may have added.
    fn receive(&self, wait: bool) -> Result<Option<(Message, u32, Vec<OwnedFd>)>, RequestError> {
        let mut buffer = [0u8; MESSAGE_LEN_MAX];
        let packet = receive(&self.socket, &mut buffer, wait).map_err(gone)?;
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

impl AsFd for Client {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn gone(error: io::Error) -> RequestError {
    let ended = matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset);
    if ended { RequestError::Gone } else { RequestError::Io(error) }
}
