//! A non-blocking socket and the bytes that it did not take yet.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, sockopt};
use serde::Serialize;

use crate::backlog::Backlog;
use crate::config::WriteMode;
use crate::media::UNIT_LEN_MAX;

/// One end of a TCP connection. Everything leaves in the order in which it was handed over.
#[derive(Debug)]
pub(crate) struct Link {
    socket: OwnedFd,
    backlog: Backlog,
    /// Memory in which a unit is put together for [`WriteMode::Segment`].
    gathered: Vec<u8>,
}

/// The connection is over; nothing is left to be said on it. By whom, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Gone {
    /// The client closed it.
    Client,
    /// The client reset it, or the kernel gave the client up.
    ClientReset,
    /// The client asked for it.
    TornDown,
    /// The camera closes it.
    Camera,
    /// The camera resets it.
    CameraReset,
}

/// What became of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It is in the socket or in the backlog.
    Taken,
    /// The backlog is full: nothing of it was sent.
    Dropped,
}

impl Link {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket, backlog: Backlog::default(), gathered: Vec::new() }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The connection will end with RST instead of FIN, and what was not sent is lost. Should that fail, it is FIN.
    pub(crate) fn reset_on_close(&self) {
        let _ = sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO));
    }

    /// Everything was taken by the socket.
    pub(crate) fn is_drained(&self) -> bool {
        self.backlog.is_empty()
    }

    /// Appends to `input` what has arrived, at most the length of `buffer`.
    pub(crate) fn receive(&self, input: &mut Vec<u8>, buffer: &mut [u8]) -> Result<(), Gone> {
        match rustix::net::recv(&self.socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => Err(Gone::Client),
            Ok((_, count)) => {
                input.extend_from_slice(&buffer[..count]);
                Ok(())
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(_) => Err(Gone::ClientReset),
        }
    }

    /// Sends `bytes` behind the backlog: for replies and reports, which are few. A client that asks and asks and never
    /// reads is let go.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        if self.backlog.len() > REPLIES_LEN_MAX {
            return Err(Gone::Camera);
        }
        self.backlog.back().extend_from_slice(bytes);
        self.flush()
    }

    /// Sends one access unit, `len` bytes at most, unless the backlog is full.
    pub(crate) fn send_unit<'a>(
        &mut self,
        len: usize,
        slices: impl Iterator<Item = &'a [u8]> + Clone,
        mode: WriteMode,
    ) -> Result<Sent, Gone> {
        if !self.backlog.is_empty() {
            if self.backlog.len() + len > BACKLOG_LEN_MAX {
                return Ok(Sent::Dropped);
            }
            slices.for_each(|slice| self.backlog.back().extend_from_slice(slice));
            return self.flush().map(|()| Sent::Taken);
        }
        let sent = match mode {
            WriteMode::Unit => self.write_unit(slices.clone())?,
            WriteMode::Segment => self.write_segments(slices.clone())?,
        };
        self.keep_rest(slices, sent);
        Ok(Sent::Taken)
    }

    /// Sends from the backlog what the socket takes.
    pub(crate) fn flush(&mut self) -> Result<(), Gone> {
        while !self.backlog.is_empty() {
            let count = self.write(&[IoSlice::new(self.backlog.front())])?;
            if count == 0 {
                break;
            }
            self.backlog.consume(count);
        }
        Ok(())
    }

    /// Fills an empty backlog with whatever `fill` appends and sends it, as long as the socket takes it, but at most
    /// `rounds` times, so that one client does not hold up the others.
    pub(crate) fn pump(&mut self, rounds: usize, mut fill: impl FnMut(&mut Vec<u8>)) -> Result<(), Gone> {
        for _ in 0..rounds {
            self.flush()?;
            if !self.backlog.is_empty() {
                break;
            }
            fill(self.backlog.back());
        }
        Ok(())
    }

    fn write_unit<'a>(&self, slices: impl Iterator<Item = &'a [u8]>) -> Result<usize, Gone> {
        let slices: Vec<IoSlice<'_>> = slices.map(IoSlice::new).collect();
        let mut sent = 0;
        for slices in slices.chunks(IOV_MAX) {
            let len: usize = slices.iter().map(|slice| slice.len()).sum();
            let count = self.write(slices)?;
            sent += count;
            if count < len {
                break;
            }
        }
        Ok(sent)
    }

    fn write_segments<'a>(&mut self, slices: impl Iterator<Item = &'a [u8]>) -> Result<usize, Gone> {
        self.gathered.clear();
        slices.for_each(|slice| self.gathered.extend_from_slice(slice));
        let mut sent = 0;
        for segment in self.gathered.chunks(SEGMENT_LEN) {
            let count = self.write(&[IoSlice::new(segment)])?;
            sent += count;
            if count < segment.len() {
                break;
            }
        }
        Ok(sent)
    }

    /// Puts all but the first `sent` bytes into the backlog.
    fn keep_rest<'a>(&mut self, slices: impl Iterator<Item = &'a [u8]>, sent: usize) {
        let mut skip = sent;
        for slice in slices {
            let rest = slice.get(skip..).unwrap_or_default();
            skip = skip.saturating_sub(slice.len());
            self.backlog.back().extend_from_slice(rest);
        }
    }

    /// One system call; 0 when the socket is full.
    fn write(&self, slices: &[IoSlice<'_>]) -> Result<usize, Gone> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match rustix::net::sendmsg(&self.socket, slices, &mut SendAncillaryBuffer::default(), flags) {
            Ok(count) => Ok(count),
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(_) => Err(Gone::ClientReset),
        }
    }
}

/// A client that reads this much too slowly loses units: two seconds at 4 Mbit/s.
const BACKLOG_LEN_MAX: usize = 1 << 20;
/// Replies may stand behind the largest unit, and need far less room than it.
const REPLIES_LEN_MAX: usize = 2 * UNIT_LEN_MAX;
/// UIO_MAXIOV of Linux.
const IOV_MAX: usize = 1024;
/// Payload of a full TCP segment on Ethernet with time stamps.
const SEGMENT_LEN: usize = 1448;
