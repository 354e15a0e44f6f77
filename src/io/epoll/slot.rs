//! One use of a slot: a connection from its socket to its end.

use std::os::fd::OwnedFd;

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
    /// To be handed out.
    Leaving,
}

/// A place for a connection.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) state: State,
    /// Which use of the slot this is; changes when the slot becomes free.
    pub(super) generation: u32,
    pub(super) socket: Option<OwnedFd>,
    pub(super) outbox: Outbox,
    /// The socket may have bytes, or its end, to tell: the kernel said so, and no receive has found it empty since.
    pub(super) readable: bool,
    /// The peer has ended, or the connection broke: the kernel says it once, so bytes are received up to that end.
    pub(super) ended: bool,
    /// The socket takes no more; the kernel will say when it does.
    pub(super) blocked: bool,
    /// The shard wants no more bytes for now.
    pub(super) paused: bool,
    /// The slot is in the line of those to receive from.
    pub(super) in_line: bool,
}

impl Slot {
    /// A slot that was never used.
    pub(super) fn new() -> Self {
        Self {
            state: State::Free,
            generation: 0,
            socket: None,
            outbox: Outbox::default(),
            readable: false,
            ended: false,
            blocked: false,
            paused: false,
            in_line: false,
        }
    }

    /// Whether a receive should be tried.
    pub(super) fn wants_receive(&self) -> bool {
        self.state == State::Open && self.readable && !self.paused
    }

    /// Ends this use. Closes the socket, and with it the kernel's watch of it.
    pub(super) fn free(&mut self) {
        self.outbox.clear();
        let outbox = std::mem::take(&mut self.outbox);
        // `in_line` stays: the line still has this index, once.
        let in_line = self.in_line;
        *self = Self { generation: self.generation.wrapping_add(1), outbox, in_line, ..Self::new() };
    }
}
