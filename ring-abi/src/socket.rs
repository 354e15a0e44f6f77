//! Messages with descriptors over a connected `SOCK_SEQPACKET` socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Descriptors that a message of ours carries at most.
pub const FDS_MAX: usize = 4;
/// Descriptors that a packet can carry at all (`SCM_MAX_FD`, unix(7)). All are taken: the kernel would close the others at
/// once, here, and to close a stranger's descriptor may take as long as the stranger likes.
const RECEIVED_FDS_MAX: usize = 253;

/// What was received.
#[derive(Debug, Default)]
pub struct Packet {
    /// Bytes of the message, at the start of the caller's buffer; 0 when the other side has gone.
    pub len: usize,
    /// Descriptors, in order.
    pub fds: Vec<OwnedFd>,
    /// The message was longer than the buffer, or there was no room for all of its descriptors.
    pub is_cut: bool,
}

/// Sends one message with descriptors.
///
/// # Errors
/// `WouldBlock` when the socket's buffer is full and `wait` is false; else what the system says. Never a signal.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>], wait: bool) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = if wait { SendFlags::NOSIGNAL } else { SendFlags::NOSIGNAL | SendFlags::DONTWAIT };
    let sent = retry(|| sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, flags))?;
    if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Receives one message into `buffer`.
///
/// # Errors
/// `WouldBlock` when there is none and `wait` is false; `InvalidData` when the message or its descriptors were cut;
/// else what the system says.
pub fn receive(socket: impl AsFd, buffer: &mut [u8], wait: bool) -> io::Result<Packet> {
    let packet = receive_any(socket, buffer, wait)?;
    if packet.is_cut { Err(io::ErrorKind::InvalidData.into()) } else { Ok(packet) }
}

/// As [`receive`], for who wants to close the descriptors also of a packet that was cut.
///
/// # Errors
/// `WouldBlock` when there is none and `wait` is false; else what the system says.
pub fn receive_any(socket: impl AsFd, buffer: &mut [u8], wait: bool) -> io::Result<Packet> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(RECEIVED_FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = if wait { RecvFlags::CMSG_CLOEXEC } else { RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT };
    let received = retry(|| recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut control, flags))?;
    let is_cut = received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
    let mut packet = Packet { len: received.bytes, fds: Vec::new(), is_cut };
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            packet.fds.extend(fds);
        }
    }
    Ok(packet)
}

fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(rustix::io::Errno::INTR) => {}
            done => return done.map_err(io::Error::from),
        }
    }
}
