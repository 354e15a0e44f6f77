//! One use of a slot: a connection from its socket to the last completion that concerns it.

use std::os::fd::OwnedFd;

use rustix::net::SocketAddrAny;

use crate::io::outbox::Outbox;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// No connection; the slot can be used.
    Free,
    /// The kernel is connecting.
    Connecting,
    /// Up.
    Open,
    /// To be handed out once the kernel has finished its operations.
    Leaving,
    /// Over for the shard; the kernel has operations to finish.
    Closing,
}

/// A place for a connection.
///
/// The kernel reads `peer` and the outbox, and uses the socket, while `operations` is above 0; so they stay.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) state: State,
    /// Which use of the slot this is; changes when the slot becomes free.
    pub(super) generation: u32,
    /// Operations whose last completion has not come.
    pub(super) operations: u32,
    pub(super) socket: Option<OwnedFd>,
    /// Boxed for a fixed address.
    pub(super) peer: Option<Box<SocketAddrAny>>,
    pub(super) outbox: Outbox,
    /// A send of the outbox's front is in flight.
    pub(super) sending: bool,
    /// A multishot receive is armed, or its cancellation is under way.
    pub(super) receiving: bool,
    /// The shard wants no more bytes for now.
    pub(super) paused: bool,
    /// The slot is in the line of those that want a receive armed.
    pub(super) in_line: bool,
    /// A receive ended before; the next is a re-arm.
    pub(super) armed_before: bool,
}

impl Slot {
    /// A slot that was never used.
    pub(super) fn new() -> Self {
        Self {
            state: State::Free,
            generation: 0,
            operations: 0,
            socket: None,
            peer: None,
            outbox: Outbox::default(),
            sending: false,
            receiving: false,
            paused: false,
            in_line: false,
            armed_before: false,
        }
    }

    /// Whether a receive should be armed.
    pub(super) fn wants_bytes(&self) -> bool {
        self.state == State::Open && !self.paused && !self.receiving
    }

    /// Ends this use. The kernel has no operation of it left. Closes the socket.
    pub(super) fn free(&mut self) {
        debug_assert_eq!(self.operations, 0);
        self.outbox.clear();
        let outbox = std::mem::take(&mut self.outbox);
        // `in_line` stays: the line still has this index, once.
        let in_line = self.in_line;
        *self = Self { generation: self.generation.wrapping_add(1), outbox, in_line, ..Self::new() };
    }
}
