//! The `vms-attach` thread: waits for readers, passes packets and answers on.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::process::{Pid, Uid, geteuid};

use super::allowance::Allowance;
use super::closing::Closer;
use super::connection::{Connection, Fate, Surroundings, TOO_MUCH_MEMORY};
use super::guests::{Charged, Guests};
use ring_abi::handshake::RefusalCode;
use ring_abi::producer::{ReaderRing, RingId};

use super::{Completion, Limits, Listener, Request};
use crate::clock;
use crate::limits::{GUEST_SESSIONS_MAX, Rate};
use crate::publish::{Access, Peer};
use crate::time::Mono;

/// Epoll data of the listening socket, of the eventfd, and of the first connection.
const LISTENER: u64 = 0;
const WAKER: u64 = 1;
const FIRST_CONNECTION: u64 = 2;
/// Set in the epoll data of a guest's process.
const PROCESS: u64 = 1 << 63;
/// Events taken from epoll at a time.
const EVENTS_MAX: usize = 64;
/// When a connection that could not be accepted (no descriptors, no memory) is tried again. It stays in the queue and
/// keeps the listening socket readable, so without a pause the thread would spin.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);
/// How often it is said that somebody was turned away: whoever can reach the socket can make us say it.
const COMPLAINT_RATE: Rate = Rate::per_second(10, 1);

#[derive(Debug)]
enum Command {
    Complete(Completion),
    Guests(Access),
    Stop,
}

/// The thread, from outside. Dropping it closes all connections and ends the thread.
#[derive(Debug)]
pub struct Handle {
    commands: Sender<Command>,
    waker: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    /// Gives the thread the answer to a request.
    pub fn complete(&self, completion: Completion) {
        self.command(Command::Complete(completion));
    }

    /// Lets the users that `guests` names connect, beside the daemon's own and root. Who is connected stays.
    pub fn set_guests(&self, guests: Access) {
        self.command(Command::Guests(guests));
    }

    fn command(&self, command: Command) {
        // Both fail only when the thread has ended, and then nobody waits for an answer.
        let _ = self.commands.send(command);
        let _ = rustix::io::write(&self.waker, &1u64.to_ne_bytes());
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.command(Command::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic in the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// Starts the thread. `requests` is called on it and must not block; at most one request a slot is unanswered at a time.
///
/// # Errors
/// What the system says: no thread, no descriptors.
pub fn spawn(
    listener: Listener,
    limits: Limits,
    daemon_epoch: u64,
    requests: impl FnMut(Request) + Send + 'static,
) -> io::Result<Handle> {
    let (commands, inbox) = channel();
    let waker = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    watch_listener(&epoll, &listener)?;
    epoll::add(&epoll, &waker, epoll::EventData::new_u64(WAKER), epoll::EventFlags::IN)?;
    let server = Server {
        epoll,
        listener,
        waker: Arc::clone(&waker),
        inbox,
        around: Surroundings { limits, daemon_epoch, now: clock::now().mono },
        requests,
        guests: Access::default(),
        held: Guests::default(),
        waiting: None,
        complaints: Allowance::new(COMPLAINT_RATE),
        connects: Allowance::new(limits.connects),
        accept_at: None,
        connections: BTreeMap::new(),
        next_number: FIRST_CONNECTION,
        out: Vec::new(),
        closer: Closer::start()?,
    };
    let thread = std::thread::Builder::new().name("vms-attach".into()).spawn(move || server.run())?;
    Ok(Handle { commands, waker, thread: Some(thread) })
}

struct Server<F> {
    epoll: OwnedFd,
    listener: Listener,
    waker: Arc<OwnedFd>,
    inbox: Receiver<Command>,
    around: Surroundings,
    requests: F,
    /// Who may connect beside the owners.
    guests: Access,
    held: Guests,
    /// An owner that was accepted and has to wait.
    waiting: Option<(OwnedFd, (Peer, Pid))>,
    /// How often it is said that somebody was turned away.
    complaints: Allowance,
    connects: Allowance,
    /// While nobody is let in: when somebody is again.
    accept_at: Option<Mono>,
    connections: BTreeMap<u64, Connection>,
    next_number: u64,
    /// Requests of the call in progress.
    out: Vec<Request>,
    /// Every descriptor of a reader's is closed by it.
    closer: Closer,
}

impl<F: FnMut(Request)> Server<F> {
    fn run(mut self) {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            events.clear();
            let timeout = self.timeout();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "the attach thread cannot wait for readers and ends");
                    return;
                }
            }
            self.around.now = clock::now().mono;
            for event in events.drain(..) {
                match event.data.u64() {
                    LISTENER => self.accept(),
                    WAKER if self.commands() => return self.leave(),
                    WAKER => {}
                    process if process & PROCESS != 0 => self.held.ended(process & !PROCESS),
                    number => self.readable(number),
                }
            }
            self.fire_deadlines();
        }
    }

    /// Hangs up on everybody. Nobody is told any more what they had: the daemon stops.
    fn leave(mut self) {
        for number in self.connections.keys().copied().collect::<Vec<_>>() {
            self.end(number);
        }
        self.waiting.into_iter().for_each(|(socket, _)| self.closer.connection(socket));
    }

    /// How long nothing is due.
    fn timeout(&self) -> Option<Timespec> {
        let silent = self.connections.values().filter_map(Connection::deadline);
        let next = silent.chain(self.accept_at).min()?;
        // A round second when it does not fit, which it does.
        Some(next.since(clock::now().mono).try_into().unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 }))
    }

    /// Ends the readers that were silent for too long, and lets new ones in again.
    fn fire_deadlines(&mut self) {
        let now = self.around.now;
        let is_due = |at: Option<Mono>| at.is_some_and(|at| at <= now);
        let late = self.connections.iter().filter(|(_, connection)| is_due(connection.deadline()));
        for number in late.map(|(number, _)| *number).collect::<Vec<_>>() {
            tracing::info!("a reader was turned away: it connected and said nothing");
            self.settle(number, Fate::Ended);
        }
        if is_due(self.accept_at) {
            let is_watched = watch_listener(&self.epoll, &self.listener).is_ok();
            self.accept_at = (!is_watched).then_some(now + ACCEPT_RETRY);
            if let Some((socket, who)) = self.waiting.take() {
                self.let_owner_in(socket, who);
            }
        }
    }

    /// Lets nobody in until `at`.
    fn pause(&mut self, at: Mono) {
        if epoll::delete(&self.epoll, &self.listener).is_ok() {
            self.accept_at = Some(at);
        }
    }

    /// Takes one connection. Who it is is looked at first: whoever may not connect, or has no more turns, costs nobody else one.
    fn accept(&mut self) {
        match self.listener.accept() {
            Ok(socket) => match self.known_peer(&socket) {
                Some(who) if who.0.is_owner => self.let_owner_in(socket, who),
                Some(who) => self.let_guest_in(socket, who),
                None => self.closer.connection(socket),
            },
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
            Err(error) => {
                tracing::warn!(%error, "a reader could not be let in; it is tried again");
                self.pause(self.around.now + ACCEPT_RETRY);
            }
        }
    }

    /// The daemon's user and root wait for their turn.
    fn let_owner_in(&mut self, socket: OwnedFd, who: (Peer, Pid)) {
        if let Err(at) = self.connects.take(self.around.now) {
            self.waiting = Some((socket, who));
            return self.pause(at);
        }
        if self.connections.len() >= self.around.limits.sessions_max {
            self.turn_away(who.0, "too many sessions");
            return self.closer.connection(socket);
        }
        self.let_in(socket, who);
    }

    /// A guest has a number of turns and of sessions of its own, and all guests together leave half of the sessions to the owners.
    fn let_guest_in(&mut self, socket: OwnedFd, who: (Peer, Pid)) {
        let (peer, limit) = (who.0, self.around.limits.sessions_max);
        let guests = || self.connections.values().map(Connection::peer).filter(|peer| !peer.is_owner);
        let own = guests().filter(|guest| guest.uid == peer.uid).count();
        if guests().count() >= limit / 2 || self.connections.len() >= limit || own >= GUEST_SESSIONS_MAX {
            self.turn_away(peer, "too many sessions");
            return self.closer.connection(socket);
        }
        if !self.held.may_connect(peer.uid, self.around.now) {
            self.turn_away(peer, "too many connections in a short time");
            return self.closer.connection(socket);
        }
        self.let_in(socket, who);
    }

    fn let_in(&mut self, socket: OwnedFd, who: (Peer, Pid)) {
        let number = self.next_number;
        self.next_number += 1;
        let data = epoll::EventData::new_u64(number);
        if epoll::add(&self.epoll, &socket, data, epoll::EventFlags::IN).is_ok() {
            self.connections.insert(number, Connection::new(number, who, socket, &self.around));
        } else {
            self.closer.connection(socket);
        }
    }

    fn turn_away(&mut self, peer: Peer, why: &str) {
        if self.complaints.take(self.around.now).is_ok() {
            tracing::warn!(uid = peer.uid, gid = peer.gid, "a reader was turned away: {why}");
        }
    }

    /// Who connects, if that is somebody who may.
    fn known_peer(&mut self, socket: &OwnedFd) -> Option<(Peer, Pid)> {
        let Ok(credentials) = socket_peercred(socket) else {
            if self.complaints.take(self.around.now).is_ok() {
                tracing::warn!(
                    "a reader was turned away: its process is in a PID namespace that is not seen from here"
                );
            }
            return None;
        };
        let is_owner = credentials.uid == geteuid() || credentials.uid == Uid::ROOT;
        let peer = Peer { uid: credentials.uid.as_raw(), gid: credentials.gid.as_raw(), is_owner };
        if !self.guests.allows(peer) {
            self.turn_away(peer, "no stream's access list names it");
            return None;
        }
        Some((peer, credentials.pid))
    }

    /// Whether a guest's process may be given one more ring.
    fn may_have_ring(&mut self, request: &Request) -> bool {
        let Request::Attach(pending) = request else { return true };
        let Some(connection) = self.connections.get(&pending.ring.session) else { return true };
        if pending.peer.is_owner {
            return true;
        }
        let bytes = ReaderRing::segment_len(&pending.join);
        let process = charge(&mut self.held, &self.epoll, (pending.peer, connection.pid()), bytes);
        process.map(|process| self.held.ask(pending.ring, process, bytes)).is_some()
    }

    fn readable(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let mut given = Vec::new();
        let (held, epoll, who) = (&mut self.held, &self.epoll, (connection.peer(), connection.pid()));
        let may_take = |bytes| who.0.is_owner || charge(held, epoll, who, bytes).is_some();
        let fate = connection.readable(&self.around, may_take, &mut self.out, &mut given);
        self.closer.received(given);
        self.settle(number, fate);
    }

    /// Takes all commands that wait; true to stop.
    fn commands(&mut self) -> bool {
        let mut count = [0u8; 8];
        let _ = rustix::io::read(self.waker.as_fd(), &mut count);
        while let Ok(command) = self.inbox.try_recv() {
            let completion = match command {
                Command::Complete(completion) => completion,
                Command::Guests(guests) => {
                    self.guests = guests;
                    continue;
                }
                Command::Stop => return true,
            };
            let number = completion.ring().session;
            match &completion {
                Completion::Attached { ring, .. } => self.held.settle(*ring, true),
                Completion::Refused { ring, .. } => self.held.settle(*ring, false),
                Completion::Detached { .. } => {}
            }
            if let Some(connection) = self.connections.get_mut(&number) {
                let fate = connection.complete(completion, &mut self.out);
                self.settle(number, fate);
            }
        }
        false
    }

    /// After a call into a connection: ends it if that was due, passes its requests on, forgets it when nothing is left.
    fn settle(&mut self, number: u64, fate: Fate) {
        if fate == Fate::Ended {
            self.end(number);
        }
        if self.connections.get(&number).is_some_and(Connection::is_over) {
            self.connections.remove(&number);
        }
        for request in std::mem::take(&mut self.out) {
            if self.may_have_ring(&request) {
                (self.requests)(request);
            } else if let Request::Attach(pending) = request {
                self.refuse(pending.ring, TOO_MUCH_MEMORY.to_owned());
            }
        }
        // A reader that did not take its refusal has ended, and gives up what it had.
        self.out.drain(..).for_each(&mut self.requests);
    }

    fn refuse(&mut self, ring: RingId, text: String) {
        let Some(connection) = self.connections.get_mut(&ring.session) else { return };
        let refused = Completion::Refused { ring, code: RefusalCode::Limit, text };
        if connection.complete(refused, &mut self.out) == Fate::Ended {
            self.end(ring.session);
        }
    }

    /// The reader `number` has gone, or has to.
    fn end(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        if let Some(socket) = connection.end(&mut self.out) {
            // It is closed later, and would be readable until then.
            let _ = epoll::delete(&self.epoll, &socket);
            self.closer.connection(socket);
        }
    }
}

fn watch_listener(epoll: &OwnedFd, listener: &Listener) -> Result<(), Errno> {
    epoll::add(epoll, listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)
}

/// Charges `bytes` to a guest's process, whose end is then watched for; its number, or `None` when it may not have them.
fn charge(held: &mut Guests, epoll: &OwnedFd, (peer, pid): (Peer, Pid), bytes: u64) -> Option<u64> {
    let number = match held.charge(pid, peer.uid, bytes) {
        Charged::Known(number) => return Some(number),
        Charged::Refused => return None,
        Charged::New(number, pidfd) => {
            let data = epoll::EventData::new_u64(PROCESS | number);
            match epoll::add(epoll, pidfd, data, epoll::EventFlags::IN) {
                Ok(()) => return Some(number),
                Err(_) => number,
            }
        }
    };
    // Nobody would hear of its end.
    held.ended(number);
    None
}
