//! The epoll back end: for machines and containers that forbid io_uring.
//!
//! ```text
//!  epoll_wait ──▶ events ──▶ line of readable sockets ──recv until short──▶ Received
//!                                ▲                │ a full buffer: behind the others
//!                                └────────────────┘
//! ```
//! Sockets are watched edge-triggered, once for their whole life: the kernel says when something has become possible,
//! and a slot remembers it until a receive or a send finds the contrary. So a paused connection, or an empty pool,
//! costs no system call and wakes nobody again and again.
//!
//! A receive that leaves room in its buffer has emptied the socket; what comes later is a new edge (epoll(7), Q9).
//! One that fills it is repeated, behind the other sockets that are ready: an IDR picture does not wait for the next
//! wake-up, and one camera does not hold up the rest.
//!
//! There is no minimum wait: to gather is to sleep first and look then. See [`wait`](Epoll::wait).

mod pool;
mod slot;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, sockopt};

use pool::Pool;
pub(in crate::io) use pool::RecvBuf;
use slot::{Slot, State};

use super::buffer;
use super::waker::{self, WakeSource, Waker};
use super::{COMPLETIONS_PER_TURN, socket};
use super::{
    CloseReason, Completion, Config, ConnectError, Counters, Handover, SendError, SetupError, Token,
    WaitError,
};

/// Events that one wait can bring. What is left comes with the next, which does not sleep.
const EVENTS: usize = 256;
/// What the kernel returns for the waker's eventfd: no token packs to it.
const WAKER: u64 = u64::MAX;

/// The back end. Belongs to the thread that made it.
pub(in crate::io) struct Epoll {
    epoll: OwnedFd,
    pool: Rc<Pool>,
    slots: Box<[Slot]>,
    /// Slots that can be used; the last freed is used last, which helps to tell connections apart in logs.
    free: VecDeque<u32>,
    /// What the last wait brought, from the next one on.
    events: Vec<epoll::Event>,
    next_event: usize,
    /// Slots to receive from.
    line: VecDeque<u32>,
    /// Slots with something to send that nobody has tried to send.
    unsent: Vec<u32>,
    /// What became known without the kernel's events.
    known: VecDeque<Completion>,
    /// Connections to hand out.
    leaving: VecDeque<Token>,
    wake_source: WakeSource,
    waker: Waker,
    counters: Counters,
    /// Receives since the last wait.
    this_turn: usize,
}

impl Epoll {
    /// Makes an epoll instance, buffers and a table.
    ///
    /// # Errors
    /// [`SetupError`].
    pub(super) fn new(config: Config) -> Result<Self, SetupError> {
        let Config { buffers, buffer_len, sockets_max } = config;
        let (waker, wake_source) = waker::pair().map_err(SetupError::Waker)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(SetupError::Epoll)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, wake_source.as_fd(), epoll::EventData::new_u64(WAKER), flags)
            .map_err(SetupError::Epoll)?;
        // The default slack is 50 µs, a quarter of the hold for the rest of a unit. Where it cannot be set, holds are
        // that much longer and nothing else changes.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        Ok(Self {
            epoll,
            pool: Pool::new(buffers, buffer_len),
            slots: (0..sockets_max).map(|_| Slot::new()).collect(),
            free: (0..sockets_max).collect(),
            events: Vec::with_capacity(EVENTS),
            next_event: 0,
            line: VecDeque::new(),
            unsent: Vec::new(),
            known: VecDeque::new(),
            leaving: VecDeque::new(),
            wake_source,
            waker,
            counters: Counters::default(),
            this_turn: 0,
        })
    }

    pub(super) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    pub(super) const fn counters(&self) -> Counters {
        self.counters
    }

    pub(super) fn connect(&mut self, peer: SocketAddr) -> Result<Token, ConnectError> {
        let index = self.claim_slot()?;
        let started = self.start_connect(index, peer);
        if started.is_err() {
            self.free.push_front(index);
        }
        started
    }

    fn start_connect(&mut self, index: u32, peer: SocketAddr) -> Result<Token, ConnectError> {
        let socket = socket::open_tcp(&peer).map_err(ConnectError::Socket)?;
        rustix::io::ioctl_fionbio(&socket, true).map_err(ConnectError::Socket)?;
        let token = self.watch(index, socket, State::Connecting)?;
        let Some(Slot { socket: Some(socket), .. }) = self.slots.get(index as usize) else {
            return Ok(token);
        };
        self.counters.enters += 1;
        match rustix::net::connect(socket, &peer) {
            // Also when it was quick, the event tells.
            Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => {}
            Err(errno) => {
                self.release(token);
                let error = ConnectError::from_errno(errno);
                self.known.push_back(Completion::ConnectFailed(token, error));
            }
        }
        Ok(token)
    }

    pub(super) fn adopt(&mut self, socket: OwnedFd) -> Result<Token, ConnectError> {
        let index = self.claim_slot()?;
        let adopted = self.watch(index, socket, State::Open);
        if adopted.is_err() {
            self.free.push_front(index);
        }
        adopted
    }

    /// Puts `socket` into the slot. What it can do already is told like what it can do later.
    fn watch(&mut self, index: u32, socket: OwnedFd, state: State) -> Result<Token, ConnectError> {
        use epoll::EventFlags;
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return Err(ConnectError::SocketsExhausted { sockets_max: 0 });
        };
        let token = Token { index, generation: slot.generation };
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        self.counters.enters += 1;
        epoll::add(&self.epoll, &socket, pack(token), flags).map_err(ConnectError::Socket)?;
        slot.state = state;
        slot.socket = Some(socket);
        Ok(token)
    }

    pub(super) fn send(&mut self, token: Token, bytes: &[u8]) -> Result<(), SendError> {
        let can_send = |slot: &&mut Slot| matches!(slot.state, State::Open | State::Leaving);
        let slot = self.slot_mut(token).filter(can_send).ok_or(SendError::NotOpen)?;
        let is_first = slot.outbox.len() == 0;
        slot.outbox.push(bytes)?;
        if is_first {
            self.unsent.push(token.index);
        }
        Ok(())
    }

    pub(super) fn close(&mut self, token: Token) {
        let Some(slot) = self.slot_mut(token) else {
            // Its end may be known and not told yet: nobody wants to hear of it.
            return self.known.retain(|known| !known.is_of(token));
        };
        if slot.state != State::Connecting {
            // A TEARDOWN normally gets out. That the peer no longer takes it is no news.
            let _ = self.send_outbox(token);
        }
        self.release(token);
    }

    pub(super) fn hand_out(&mut self, token: Token) -> Result<(), SendError> {
        let slot = self.slot_mut(token).filter(|slot| slot.state == State::Open).ok_or(SendError::NotOpen)?;
        slot.state = State::Leaving;
        self.leaving.push_back(token);
        Ok(())
    }

    /// Until it is told of, the connection takes what is to be sent: whoever asked for it does not know yet.
    fn next_handed_out(&mut self) -> Option<Completion> {
        while let Some(token) = self.leaving.pop_front() {
            // Or it was closed meanwhile.
            if let Some(slot) = self.slot_mut(token)
                && let Some(socket) = slot.socket.take()
            {
                let outbox = std::mem::take(&mut slot.outbox);
                self.counters.enters += 1;
                // It is watched, or was never open.
                let _ = epoll::delete(&self.epoll, &socket);
                self.release(token);
                return Some(Completion::HandedOut(token, Handover { socket, outbox }));
            }
        }
        None
    }

    pub(super) fn pause(&mut self, token: Token) {
        if let Some(slot) = self.slot_mut(token) {
            slot.paused = true;
        }
    }

    pub(super) fn resume(&mut self, token: Token) {
        if let Some(slot) = self.slot_mut(token) {
            slot.paused = false;
            self.stand_in_line(token.index);
        }
    }

    /// `hold` is slept out whatever happens meanwhile: bytes wait in the sockets' own buffers, not in the pool.
    pub(super) fn wait(&mut self, timeout: Option<Duration>, hold: Duration) -> Result<(), WaitError> {
        self.counters.turns += 1;
        self.this_turn = 0;
        self.send_unsent();
        // With no free buffer the shard has work, and says itself how long it may sleep.
        let can_receive = !self.line.is_empty() && self.pool.free() > 0;
        let is_any_untold = self.next_event < self.events.len();
        let has_work = !self.known.is_empty() || !self.leaving.is_empty() || can_receive || is_any_untold;
        let timeout = if has_work { Some(Duration::ZERO) } else { timeout };
        self.counters.sleeps += u64::from(timeout != Some(Duration::ZERO));
        let held = timeout.map_or(hold, |timeout| timeout.min(hold));
        if !held.is_zero() {
            self.counters.enters += 1;
            // Cut short by a signal: then it was shorter.
            let _ = rustix::thread::nanosleep(&timespec(held));
        }
        self.poll(timeout.map(|timeout| timeout - held))
    }

    /// Asks the kernel what has become possible, and sleeps for it at most for `timeout`.
    fn poll(&mut self, timeout: Option<Duration>) -> Result<(), WaitError> {
        self.counters.enters += 1;
        // All were looked at, or those that were not are kept in front of the new ones.
        self.events.drain(..self.next_event);
        self.next_event = 0;
        if self.events.len() == self.events.capacity() {
            return Ok(());
        }
        let timeout = timeout.map(timespec);
        let spare = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, spare, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(WaitError(io::Error::from(errno))),
        }
    }

    pub(super) fn next_completion(&mut self) -> Option<Completion> {
        if let Some(completion) = self.known.pop_front() {
            return Some(completion);
        }
        if let Some(completion) = self.next_handed_out() {
            return Some(completion);
        }
        while let Some(event) = self.events.get(self.next_event).copied() {
            self.next_event += 1;
            self.counters.completions += 1;
            if let Some(completion) = self.on_event(event.data.u64(), event.flags) {
                return Some(completion);
            }
        }
        self.next_received()
    }

    fn on_event(&mut self, data: u64, flags: epoll::EventFlags) -> Option<Completion> {
        use epoll::EventFlags;
        if data == WAKER {
            self.counters.wakeups += 1;
            self.wake_source.clear();
            return Some(Completion::Woken);
        }
        let token = unpack(data);
        // An event of a connection that was closed after the kernel had told of it.
        let slot = self.slot_mut(token)?;
        let is_over = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        slot.readable |= is_over || flags.contains(EventFlags::IN);
        slot.ended |= is_over;
        slot.blocked &= !flags.contains(EventFlags::OUT);
        if slot.state == State::Connecting {
            return flags
                .intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR)
                .then(|| self.on_connect(token))?;
        }
        let has_unsent = slot.outbox.len() > 0 && !slot.blocked;
        self.stand_in_line(token.index);
        if has_unsent && let Err(errno) = self.send_outbox(token) {
            return Some(self.on_ended(token, CloseReason::from_errno(errno)));
        }
        None
    }

    fn on_connect(&mut self, token: Token) -> Option<Completion> {
        let slot = self.slot_mut(token)?;
        let socket = slot.socket.as_ref()?;
        // The outer error cannot be: the descriptor is a socket. It would be the connection's just as well.
        match sockopt::socket_error(socket).and_then(|outcome| outcome) {
            Ok(()) => {
                slot.state = State::Open;
                self.stand_in_line(token.index);
                Some(Completion::Connected(token))
            }
            Err(errno) => {
                self.release(token);
                Some(Completion::ConnectFailed(token, ConnectError::from_errno(errno)))
            }
        }
    }

    /// Receives from the sockets in line until one brings something.
    fn next_received(&mut self) -> Option<Completion> {
        while self.this_turn < COMPLETIONS_PER_TURN
            && let Some(&index) = self.line.front()
        {
            let slot = self.slots.get_mut(index as usize).filter(|slot| slot.wants_receive());
            let Some(Slot { socket: Some(socket), .. }) = slot else {
                self.leave_line();
                continue;
            };
            let Some(mut bytes) = self.pool.take() else {
                self.counters.out_of_buffers += 1;
                return None;
            };
            self.this_turn += 1;
            self.counters.enters += 1;
            self.counters.completions += 1;
            let received = rustix::net::recv(socket, bytes.space(), RecvFlags::DONTWAIT);
            let token = self.leave_line()?;
            if let Some(completion) = self.on_receive(token, received.map(|(len, _)| len), bytes) {
                return Some(completion);
            }
        }
        None
    }

    fn on_receive(
        &mut self,
        token: Token,
        received: Result<usize, Errno>,
        mut bytes: RecvBuf,
    ) -> Option<Completion> {
        let slot = self.slot_mut(token)?;
        match received {
            Ok(len @ 1..) => {
                bytes.set_len(len);
                // After the end was announced there is no further edge: it has to be read.
                slot.readable = slot.ended || !bytes.is_short();
                self.stand_in_line(token.index);
                self.counters.received_bytes += len as u64;
                Some(Completion::Received(token, buffer::RecvBuf::from(bytes)))
            }
            Err(Errno::AGAIN) => {
                slot.readable = false;
                None
            }
            Err(Errno::INTR) => {
                self.stand_in_line(token.index);
                None
            }
            Ok(_) => Some(self.on_ended(token, CloseReason::Ended)),
            Err(errno) => Some(self.on_ended(token, CloseReason::from_errno(errno))),
        }
    }

    fn on_ended(&mut self, token: Token, reason: CloseReason) -> Completion {
        self.release(token);
        Completion::Closed(token, reason)
    }

    /// Tries to send what was handed in since the last wait.
    fn send_unsent(&mut self) {
        while let Some(index) = self.unsent.pop() {
            let Some(slot) = self.slots.get(index as usize) else { continue };
            let token = Token { index, generation: slot.generation };
            if slot.state == State::Open
                && let Err(errno) = self.send_outbox(token)
            {
                let completion = self.on_ended(token, CloseReason::from_errno(errno));
                self.known.push_back(completion);
            }
        }
    }

    /// Sends as much of the outbox as the socket takes.
    fn send_outbox(&mut self, token: Token) -> Result<(), Errno> {
        let Some(slot) = self.slots.get_mut(token.index as usize) else { return Ok(()) };
        let Some(socket) = slot.socket.as_ref() else { return Ok(()) };
        while !slot.blocked && slot.outbox.len() > 0 {
            self.counters.enters += 1;
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match rustix::net::send(socket, slot.outbox.front(), flags) {
                Ok(len) => slot.outbox.advance(len),
                Err(Errno::AGAIN) => slot.blocked = true,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Closes the socket; the slot can be used again.
    fn release(&mut self, token: Token) {
        if let Some(slot) = self.slot_mut(token) {
            slot.free();
            self.free.push_back(token.index);
        }
    }

    /// The slot of a token that is alive.
    fn slot_mut(&mut self, token: Token) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(token.index as usize)?;
        (slot.generation == token.generation && slot.state != State::Free).then_some(slot)
    }

    fn claim_slot(&mut self) -> Result<u32, ConnectError> {
        let sockets_max = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        self.free.pop_front().ok_or(ConnectError::SocketsExhausted { sockets_max })
    }

    /// Puts the slot into the line, if it has something to receive and is not there.
    fn stand_in_line(&mut self, index: u32) {
        if let Some(slot) = self.slots.get_mut(index as usize)
            && slot.wants_receive()
            && !std::mem::replace(&mut slot.in_line, true)
        {
            self.line.push_back(index);
        }
    }

    /// Takes the first slot out of the line.
    fn leave_line(&mut self) -> Option<Token> {
        let index = self.line.pop_front()?;
        let slot = self.slots.get_mut(index as usize)?;
        slot.in_line = false;
        Some(Token { index, generation: slot.generation })
    }

    /// What tests look at.
    #[cfg(test)]
    pub(super) fn inspect(&self) -> super::tests::Inside {
        super::tests::Inside {
            is_idle: self.known.is_empty()
                && self.leaving.is_empty()
                && self.next_event == self.events.len()
                && self.line.is_empty(),
            free_slots: self.free.len(),
            free_buffers: self.pool.free(),
            unsent_len: self.slots.iter().map(|slot| slot.outbox.len()).sum(),
        }
    }
}

impl fmt::Debug for Epoll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Epoll")
            .field("free_buffers", &self.pool.free())
            .field("sockets", &(self.slots.len() - self.free.len()))
            .field("line", &self.line.len())
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

fn pack(token: Token) -> epoll::EventData {
    epoll::EventData::new_u64(u64::from(token.index) << 32 | u64::from(token.generation))
}

fn unpack(data: u64) -> Token {
    let [index, generation] = [data >> 32, data & u64::from(u32::MAX)];
    Token {
        index: u32::try_from(index).unwrap_or(u32::MAX),
        generation: u32::try_from(generation).unwrap_or(0),
    }
}

fn timespec(duration: Duration) -> Timespec {
    let tv_sec = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    Timespec { tv_sec, tv_nsec: i64::from(duration.subsec_nanos()) }
}
