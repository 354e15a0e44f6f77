//! The io_uring back end: one ring, one pool of receive buffers, a fixed table of connections.
//!
//! ```text
//!  Free ──connect──▶ Connecting ──▶ Open ──close / peer──▶ Closing ──last completion──▶ Free, generation + 1
//!                         └──────────────────close──────────▲
//!                                Open ──hand_out──▶ Leaving ──told of──▶ Free, generation + 1
//! ```
//! Each connection has a multishot receive that takes buffers from the pool, and at most one send in flight. A
//! receive that finds the pool empty ends without losing a byte; its slot waits in line and is armed again once a
//! buffer was given back, because a receive armed on an empty pool ends at once.
//!
//! Sockets are plain descriptors: a multishot receive looks its file up once, so registered files would save
//! nothing. The ring's own descriptor is plain too: its look-up is not seen beside what an enter of some 20 work items does.
//!
//! Needs Linux 6.1 (DEFER_TASKRUN). Uses NO_SQARRAY (6.6) and the minimum wait (6.12) where they are.

mod buffers;
mod operations;
mod ring;
mod slot;
mod user_data;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use io_uring::cqueue;
use rustix::io::Errno;

use buffers::Pool;
pub(in crate::io) use buffers::RecvBuf;
use ring::Ring;
use slot::{Slot, State};
pub(super) use user_data::INDEX_MAX;
use user_data::{Operation, UserData};

use super::buffer;
use super::waker::{self, WakeSource, Waker};
use super::{COMPLETIONS_PER_TURN, socket};
use super::{
    CloseReason, Completion, Config, ConnectError, Counters, Features, Handover, SendError, SetupError,
    Token, WaitError,
};

/// Operations that can be queued between two submits before the overflow list is used.
const SUBMISSIONS: u32 = 512;
/// The back end. Belongs to the thread that made it.
pub(in crate::io) struct Uring {
    /// First, so that it is closed before what its operations point to is freed; see `drop`.
    ring: Ring,
    /// Outlives the ring. A [`RecvBuf`] may keep it longer.
    pool: Rc<Pool>,
    /// Never grows, so that outboxes and addresses stay where they are.
    slots: Box<[Slot]>,
    /// Slots that can be used; the last freed is used last, which helps to tell connections apart in logs.
    free: VecDeque<u32>,
    /// Slots that want a receive armed.
    line: VecDeque<u32>,
    /// Slots with something to send and no send in flight.
    unsent: Vec<u32>,
    /// Connections to hand out for which the kernel has finished.
    leaving: VecDeque<Token>,
    /// Watched by the ring.
    wake_source: WakeSource,
    waker: Waker,
    counters: Counters,
    /// Completions handed out since the last wait.
    this_turn: usize,
}

impl Uring {
    /// Makes a ring, its buffers and its table. `config` was checked.
    ///
    /// # Errors
    /// [`SetupError`].
    pub(super) fn new(config: Config) -> Result<Self, SetupError> {
        let Config { buffers, buffer_len, sockets_max } = config;
        let (waker, wake_source) = waker::pair().map_err(SetupError::Waker)?;
        let ring = Ring::new(SUBMISSIONS, sockets_max.saturating_mul(4)).map_err(SetupError::Ring)?;
        // Last of what can fail: as variables these two would be dropped in the wrong order, as fields they are not.
        let pool = Pool::register(&ring, buffers, buffer_len).map_err(SetupError::Buffers)?;
        let mut uring = Self {
            ring,
            pool,
            slots: (0..sockets_max).map(|_| Slot::new()).collect(),
            free: (0..sockets_max).collect(),
            line: VecDeque::new(),
            unsent: Vec::new(),
            leaving: VecDeque::new(),
            wake_source,
            waker,
            counters: Counters::default(),
            this_turn: 0,
        };
        uring.watch_waker();
        Ok(uring)
    }

    pub(super) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// What the kernel has beside what we need.
    pub(super) fn features(&self) -> Features {
        self.ring.features()
    }

    pub(super) fn counters(&self) -> Counters {
        Counters { enters: self.ring.enters(), ..self.counters }
    }

    pub(super) fn connect(&mut self, peer: SocketAddr) -> Result<Token, ConnectError> {
        let (index, sockets_max) = self.claim_slot()?;
        let socket = match socket::open_tcp(&peer) {
            Ok(socket) => socket,
            Err(errno) => {
                self.free.push_front(index);
                return Err(ConnectError::Socket(errno));
            }
        };
        let slot =
            self.slots.get_mut(index as usize).ok_or(ConnectError::SocketsExhausted { sockets_max })?;
        slot.state = State::Connecting;
        slot.socket = Some(socket);
        slot.peer = Some(Box::new(peer.into()));
        let token = Token { index, generation: slot.generation };
        self.start_connect(token);
        Ok(token)
    }

    pub(super) fn adopt(&mut self, socket: OwnedFd) -> Result<Token, ConnectError> {
        let (index, sockets_max) = self.claim_slot()?;
        let slot =
            self.slots.get_mut(index as usize).ok_or(ConnectError::SocketsExhausted { sockets_max })?;
        slot.state = State::Open;
        slot.socket = Some(socket);
        let token = Token { index, generation: slot.generation };
        self.stand_in_line(index);
        Ok(token)
    }

    pub(super) fn send(&mut self, token: Token, bytes: &[u8]) -> Result<(), SendError> {
        let can_send = |slot: &&mut Slot| matches!(slot.state, State::Open | State::Leaving);
        let slot = self.slot_mut(token).filter(can_send).ok_or(SendError::NotOpen)?;
        let first = slot.outbox.len() == 0;
        slot.outbox.push(bytes)?;
        if first && slot.state == State::Open {
            self.unsent.push(token.index);
        }
        Ok(())
    }

    pub(super) fn close(&mut self, token: Token) {
        let Some(slot) = self.slot_mut(token) else { return };
        if slot.state != State::Connecting {
            // Queued before the cancellation, so it is tried before: a TEARDOWN normally gets out.
            self.start_send(token);
        }
        self.begin_closing(token);
    }

    pub(super) fn hand_out(&mut self, token: Token) -> Result<(), SendError> {
        let slot = self.slot_mut(token).filter(|slot| slot.state == State::Open).ok_or(SendError::NotOpen)?;
        slot.state = State::Leaving;
        if slot.receiving || slot.sending {
            // Also a send, which may wait for a peer that does not read: it has taken nothing then.
            self.start_cancel_all(token);
        }
        self.free_if_done(token);
        Ok(())
    }

    pub(super) fn pause(&mut self, token: Token) {
        let Some(slot) = self.slot_mut(token) else { return };
        if !std::mem::replace(&mut slot.paused, true) && slot.receiving {
            self.start_cancel_receive(token);
        }
    }

    pub(super) fn resume(&mut self, token: Token) {
        let Some(slot) = self.slot_mut(token) else { return };
        slot.paused = false;
        // When the cancellation is still under way, its completion puts the slot in line.
        if slot.wants_bytes() {
            self.stand_in_line(token.index);
        }
    }

    pub(super) fn wake_waiter(&mut self, word: *const u32) -> bool {
        let is_queued = self.ring.push_wake(word);
        self.counters.wakes += u64::from(is_queued);
        is_queued
    }

    pub(super) fn wait(&mut self, timeout: Option<Duration>, hold: Duration) -> Result<(), WaitError> {
        self.counters.turns += 1;
        self.this_turn = 0;
        self.send_unsent();
        let may_sleep = self.arm_line() && self.leaving.is_empty();
        let timeout = if may_sleep { timeout } else { Some(Duration::ZERO) };
        self.counters.sleeps += u64::from(timeout != Some(Duration::ZERO));
        // More than one, or the minimum wait has no effect; fewer than the pool has, or it could not be reached.
        let batch = usize::from(self.pool.free() / 2).max(2);
        self.ring.enter(timeout, hold, batch).map_err(WaitError)
    }

    pub(super) fn next_completion(&mut self) -> Option<Completion> {
        loop {
            // Behind what its last operation brought, and in the same pass.
            if let Some(completion) = self.next_handed_out() {
                return Some(completion);
            }
            let entry = self.reap()?;
            if let Some(completion) = self.dispatch(&entry) {
                return Some(completion);
            }
        }
    }

    /// Until it is told of, the connection takes what is to be sent: whoever asked for it does not know yet.
    fn next_handed_out(&mut self) -> Option<Completion> {
        while let Some(token) = self.leaving.pop_front() {
            // Or it was closed meanwhile.
            if let Some(slot) = self.slot_mut(token)
                && let Some(socket) = slot.socket.take()
            {
                let outbox = std::mem::take(&mut slot.outbox);
                slot.free();
                self.free.push_back(token.index);
                return Some(Completion::HandedOut(token, Handover { socket, outbox }));
            }
        }
        None
    }

    /// What tests look at.
    #[cfg(test)]
    pub(super) fn inspect(&mut self) -> super::tests::Inside {
        super::tests::Inside {
            is_idle: self.ring.pending() == 0 && self.line.is_empty() && self.leaving.is_empty(),
            free_slots: self.free.len(),
            free_buffers: usize::from(self.pool.free()),
            unsent_len: self.slots.iter().map(|slot| slot.outbox.len()).sum(),
        }
    }

    fn reap(&mut self) -> Option<cqueue::Entry> {
        if self.this_turn >= COMPLETIONS_PER_TURN {
            return None;
        }
        let completion = match self.ring.pop() {
            None if self.ring.has_deferred_work() => {
                // An error here comes back from the next `wait`, which is the place to report it.
                self.ring.poll().ok()?;
                self.ring.pop()
            }
            completion => completion,
        }?;
        self.this_turn += 1;
        self.counters.completions += 1;
        Some(completion)
    }

    fn dispatch(&mut self, entry: &cqueue::Entry) -> Option<Completion> {
        let data = UserData::decode(entry.user_data())?;
        let more = cqueue::more(entry.flags());
        let result = u32::try_from(entry.result())
            .map_err(|_| Errno::from_raw_os_error(entry.result().saturating_neg()));
        // Before the token is looked at: a buffer has to be given back even if nobody wants it.
        let bytes = self.take_buffer(entry, result);
        if data.operation == Operation::Watch {
            return Some(self.on_woken(more));
        }
        let token = data.token;
        let Some(slot) =
            self.slots.get_mut(token.index as usize).filter(|s| s.generation == token.generation)
        else {
            self.counters.stale += 1;
            return None;
        };
        if !more {
            slot.operations -= 1;
        }
        let completion = match data.operation {
            Operation::Connect => self.on_connect(token, result),
            Operation::Receive => self.on_receive(token, result, bytes, more),
            Operation::Send => self.on_send(token, result),
            Operation::Cancel | Operation::Watch => None,
        };
        self.free_if_done(token);
        completion
    }

    fn on_woken(&mut self, more: bool) -> Completion {
        self.counters.wakeups += 1;
        self.wake_source.clear();
        if !more {
            self.watch_waker();
        }
        Completion::Woken
    }

    fn on_connect(&mut self, token: Token, result: Result<u32, Errno>) -> Option<Completion> {
        let slot = self.slot_mut(token)?;
        match result {
            Ok(_) => {
                slot.state = State::Open;
                self.stand_in_line(token.index);
                Some(Completion::Connected(token))
            }
            Err(errno) => {
                self.begin_closing(token);
                Some(Completion::ConnectFailed(token, ConnectError::from_errno(errno)))
            }
        }
    }

    fn on_receive(
        &mut self,
        token: Token,
        result: Result<u32, Errno>,
        bytes: Option<RecvBuf>,
        more: bool,
    ) -> Option<Completion> {
        if !more {
            // Also for a slot that is closing: it may be freed now.
            self.slots.get_mut(token.index as usize)?.receiving = false;
        }
        let slot = self.slot_mut(token)?;
        let wants_bytes = slot.wants_bytes();
        match (result, bytes) {
            (Ok(1..), Some(bytes)) => {
                if wants_bytes {
                    self.stand_in_line(token.index);
                }
                self.counters.received_bytes += bytes.len() as u64;
                Some(Completion::Received(token, buffer::RecvBuf::from(bytes)))
            }
            (Err(Errno::NOBUFS), _) => {
                self.counters.out_of_buffers += 1;
                self.stand_in_line(token.index);
                None
            }
            // Cancelled for a pause that is over already.
            (Err(Errno::CANCELED | Errno::INTR | Errno::AGAIN), _) => {
                if wants_bytes {
                    self.stand_in_line(token.index);
                }
                None
            }
            (Ok(_), _) => Some(self.on_ended(token, CloseReason::Ended)),
            (Err(errno), _) => Some(self.on_ended(token, CloseReason::from_errno(errno))),
        }
    }

    fn on_send(&mut self, token: Token, result: Result<u32, Errno>) -> Option<Completion> {
        let slot = self.slots.get_mut(token.index as usize)?;
        slot.sending = false;
        match result {
            Ok(count) => {
                slot.outbox.advance(count as usize);
                if slot.state == State::Open && slot.outbox.len() > 0 {
                    self.unsent.push(token.index);
                }
                None
            }
            Err(_) if slot.state == State::Closing => None,
            // For the way out; what it would have sent goes along.
            Err(Errno::CANCELED | Errno::INTR) if slot.state == State::Leaving => None,
            Err(errno) => Some(self.on_ended(token, CloseReason::from_errno(errno))),
        }
    }

    fn on_ended(&mut self, token: Token, reason: CloseReason) -> Completion {
        self.begin_closing(token);
        Completion::Closed(token, reason)
    }

    /// Cancels what the kernel still does for the connection. It becomes free with the last completion.
    fn begin_closing(&mut self, token: Token) {
        let Some(slot) = self.slot_mut(token) else { return };
        slot.state = State::Closing;
        if slot.operations > 0 {
            self.start_cancel_all(token);
        }
        self.free_if_done(token);
    }

    fn free_if_done(&mut self, token: Token) {
        let Some(slot) = self.slots.get_mut(token.index as usize) else { return };
        if slot.operations > 0 || slot.generation != token.generation {
            return;
        }
        if slot.state == State::Leaving {
            self.leaving.push_back(token);
        } else if slot.state == State::Closing {
            slot.free();
            self.free.push_back(token.index);
        }
    }

    /// The slot of a token that is alive.
    fn slot_mut(&mut self, token: Token) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(token.index as usize)?;
        let alive = slot.generation == token.generation
            && matches!(slot.state, State::Connecting | State::Open | State::Leaving);
        alive.then_some(slot)
    }

    fn claim_slot(&mut self) -> Result<(u32, u32), ConnectError> {
        let sockets_max = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        let index = self.free.pop_front().ok_or(ConnectError::SocketsExhausted { sockets_max })?;
        Ok((index, sockets_max))
    }

    fn stand_in_line(&mut self, index: u32) {
        if let Some(slot) = self.slots.get_mut(index as usize)
            && !std::mem::replace(&mut slot.in_line, true)
        {
            self.line.push_back(index);
        }
    }

    /// Arms a receive for as many of the line as there are free buffers.
    ///
    /// Returns whether the shard may sleep: not with a receive unarmed while a buffer is free, or bytes would wait
    /// in the socket with nothing to tell of them. With no free buffer the shard has work, and comes back.
    fn arm_line(&mut self) -> bool {
        let mut free = self.pool.free();
        while free > 0
            && let Some(index) = self.line.pop_front()
        {
            let Some(slot) = self.slots.get_mut(index as usize) else { continue };
            slot.in_line = false;
            if slot.wants_bytes() {
                let token = Token { index, generation: slot.generation };
                self.start_receive(token);
                free -= 1;
            }
        }
        self.line.is_empty() || self.pool.free() == 0
    }

    fn send_unsent(&mut self) {
        while let Some(index) = self.unsent.pop() {
            let Some(slot) = self.slots.get(index as usize) else { continue };
            if slot.state == State::Open {
                self.start_send(Token { index, generation: slot.generation });
            }
        }
    }
}

impl fmt::Debug for Uring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uring")
            .field("ring", &self.ring)
            .field("pool", &self.pool)
            .field("sockets", &(self.slots.len() - self.free.len()))
            .field("line", &self.line.len())
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        if !self.ring.quiesce() {
            // The kernel may still read an outbox or write to a buffer: better lost than reused.
            std::mem::forget(std::mem::take(&mut self.slots));
            std::mem::forget(Rc::clone(&self.pool));
        }
    }
}
