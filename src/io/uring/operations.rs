//! The operations that are given to the kernel, each with the proof that what it points to stays.
//!
//! All rest on one line: a slot's `operations` is incremented here and decremented when the last completion was
//! popped, and [`Slot::free`](super::slot::Slot::free), which closes the socket and lets go of address and outbox,
//! is called at 0 only.

#![expect(unsafe_code, reason = "operations carry addresses that the kernel reads and writes later")]

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use io_uring::types::{CancelBuilder, Fd};
use io_uring::{cqueue, opcode};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::SendFlags;

use super::buffers::{GROUP, RecvBuf};
use super::slot::Slot;
use super::user_data::{Operation, UserData};
use super::{Token, Uring};

impl Uring {
    /// Connects the slot's socket to its peer.
    pub(super) fn start_connect(&mut self, token: Token) {
        let Some((slot, fd, data)) = prepare(&mut self.slots, token, Operation::Connect) else { return };
        let Some(peer) = slot.peer.as_deref() else { return };
        slot.operations += 1;
        let entry = opcode::Connect::new(fd, peer.as_ptr().cast(), peer.addr_len()).build().user_data(data);
        // SAFETY: `peer` is boxed and dropped by `Slot::free` only, as is the socket; see above.
        unsafe { self.ring.push(entry) };
    }

    /// Arms a multishot receive.
    pub(super) fn start_receive(&mut self, token: Token) {
        let Some((slot, fd, data)) = prepare(&mut self.slots, token, Operation::Receive) else { return };
        slot.operations += 1;
        slot.receiving = true;
        if std::mem::replace(&mut slot.armed_before, true) {
            self.counters.rearms += 1;
        }
        let entry = opcode::RecvMulti::new(fd, GROUP).build().user_data(data);
        // SAFETY: the kernel writes to buffers of the pool, which outlives the ring; the socket stays, see above.
        unsafe { self.ring.push(entry) };
    }

    /// Sends the front of the outbox, if there is one and none is in flight.
    pub(super) fn start_send(&mut self, token: Token) {
        let Some((slot, fd, data)) = prepare(&mut self.slots, token, Operation::Send) else { return };
        if slot.sending {
            return;
        }
        let front = slot.outbox.front();
        let (start, Ok(len @ 1..)) = (front.as_ptr(), u32::try_from(front.len())) else { return };
        slot.sending = true;
        slot.operations += 1;
        let flags = SendFlags::NOSIGNAL.bits().cast_signed();
        let entry = opcode::Send::new(fd, start, len).flags(flags).build().user_data(data);
        // SAFETY: the outbox keeps its front where and as it is while `sending` (its invariant), and is cleared by
        // `Slot::free` only, as the socket is closed; see above.
        unsafe { self.ring.push(entry) };
    }

    /// Cancels the slot's receive.
    pub(super) fn start_cancel_receive(&mut self, token: Token) {
        let receive = UserData { operation: Operation::Receive, token }.encode();
        self.start_cancel(token, |_| CancelBuilder::user_data(receive));
    }

    /// Cancels all that the kernel does for the slot.
    pub(super) fn start_cancel_all(&mut self, token: Token) {
        self.start_cancel(token, |fd| CancelBuilder::fd(fd).all());
    }

    fn start_cancel(&mut self, token: Token, which: impl FnOnce(Fd) -> CancelBuilder) {
        let Some((slot, fd, data)) = prepare(&mut self.slots, token, Operation::Cancel) else { return };
        slot.operations += 1;
        let entry = opcode::AsyncCancel2::new(which(fd)).build().user_data(data);
        // SAFETY: it points to nothing; the descriptor it names stays, see above.
        unsafe { self.ring.push(entry) };
    }

    /// Watches the waker's eventfd.
    pub(super) fn watch_waker(&mut self) {
        let fd = Fd(self.wake_source.as_fd().as_raw_fd());
        let token = Token { index: 0, generation: 0 };
        let data = UserData { operation: Operation::Watch, token }.encode();
        let events = u32::from(PollFlags::IN.bits());
        let entry = opcode::PollAdd::new(fd, events).multi(true).build().user_data(data);
        // SAFETY: it points to nothing; the descriptor lives as long as the back end.
        unsafe { self.ring.push(entry) };
    }

    /// The buffer that a completion brought, if it did.
    pub(super) fn take_buffer(&self, entry: &cqueue::Entry, result: Result<u32, Errno>) -> Option<RecvBuf> {
        let id = cqueue::buffer_select(entry.flags())?;
        // SAFETY: the kernel put this id and length into `entry`, which was popped just now; `dispatch` is the only
        // caller and calls once.
        Some(unsafe { self.pool.take(id, result.unwrap_or(0) as usize) })
    }
}

/// The slot of `token`, its descriptor, and the user data of an `operation` on it.
fn prepare(slots: &mut [Slot], token: Token, operation: Operation) -> Option<(&mut Slot, Fd, u64)> {
    let slot = slots.get_mut(token.index as usize)?;
    let fd = Fd(slot.socket.as_ref().map(OwnedFd::as_raw_fd)?);
    Some((slot, fd, UserData { operation, token }.encode()))
}
