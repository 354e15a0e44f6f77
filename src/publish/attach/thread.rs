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
use rustix::process::{Uid, geteuid};

use super::allowance::Allowance;
use super::connection::{Connection, Fate, Surroundings};
use super::{Completion, Limits, Listener, Request};
use crate::clock;
use crate::publish::{Access, Peer};
use crate::time::Mono;

/// Epoll data of the listening socket, of the eventfd, and of the first connection.
const LISTENER: u64 = 0;
const WAKER: u64 = 1;
const FIRST_CONNECTION: u64 = 2;
/// Events taken from epoll at a time.
const EVENTS_MAX: usize = 64;
/// When a connection that could not be accepted (no descriptors, no memory) is tried again. It stays in the queue and
/// keeps the listening socket readable, so without a pause the thread would spin.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);

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
        connects: Allowance::new(limits.connects),
        accept_at: None,
        connections: BTreeMap::new(),
        next_number: FIRST_CONNECTION,
        out: Vec::new(),
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
    connects: Allowance,
    /// While nobody is let in: when somebody is again.
    accept_at: Option<Mono>,
    connections: BTreeMap<u64, Connection>,
    next_number: u64,
    /// Requests of the call in progress.
    out: Vec<Request>,
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
                    WAKER if self.commands() => return,
                    WAKER => {}
                    number => self.readable(number),
                }
            }
            self.fire_deadlines();
        }
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
        }
    }

    /// Lets nobody in until `at`.
    fn pause(&mut self, at: Mono) {
        if epoll::delete(&self.epoll, &self.listener).is_ok() {
            self.accept_at = Some(at);
        }
    }

    /// Takes one connection, if it is time for one.
    fn accept(&mut self) {
        if let Err(at) = self.connects.take(self.around.now) {
            return self.pause(at);
        }
        match self.listener.accept() {
            Ok(socket) => self.let_in(socket),
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
            Err(error) => {
                tracing::warn!(%error, "a reader could not be let in; it is tried again");
                self.pause(self.around.now + ACCEPT_RETRY);
            }
        }
    }

    /// The daemon's user, root, and guests only.
    fn let_in(&mut self, socket: OwnedFd) {
        let Some(peer) = self.known_peer(&socket) else { return };
        let limit = self.around.limits.sessions_max;
        let guests = self.connections.values().filter(|connection| !connection.peer().is_owner).count();
        if self.connections.len() >= limit || (!peer.is_owner && guests >= limit / 2) {
            tracing::warn!(limit, uid = peer.uid, "a reader was turned away: too many sessions");
            return;
        }
        let number = self.next_number;
        self.next_number += 1;
        let data = epoll::EventData::new_u64(number);
        if epoll::add(&self.epoll, &socket, data, epoll::EventFlags::IN).is_ok() {
            self.connections.insert(number, Connection::new(number, peer, socket, &self.around));
        }
    }

    /// Who connects, if that is somebody who may.
    fn known_peer(&self, socket: &OwnedFd) -> Option<Peer> {
        let credentials = socket_peercred(socket).ok()?;
        let is_owner = credentials.uid == geteuid() || credentials.uid == Uid::ROOT;
        let peer = Peer { uid: credentials.uid.as_raw(), gid: credentials.gid.as_raw(), is_owner };
        let allowed = self.guests.allows(peer);
        if !allowed {
            tracing::warn!(
                uid = peer.uid,
                gid = peer.gid,
                "a reader was turned away: no stream's access list names it"
            );
        }
        allowed.then_some(peer)
    }

    fn readable(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let fate = connection.readable(&self.around, &mut self.out);
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
            if let Some(connection) = self.connections.get_mut(&number) {
                let fate = connection.complete(completion, &mut self.out);
                self.settle(number, fate);
            }
        }
        false
    }

    /// After a call into a connection: ends it if that was due, passes its requests on, forgets it when nothing is left.
    fn settle(&mut self, number: u64, fate: Fate) {
        if let Some(connection) = self.connections.get_mut(&number) {
            if fate == Fate::Ended && connection.socket().is_some() {
                // Closing a descriptor takes it out of epoll.
                connection.end(&mut self.out);
            }
            if connection.is_over() {
                self.connections.remove(&number);
            }
        }
        self.out.drain(..).for_each(&mut self.requests);
    }
}

fn watch_listener(epoll: &OwnedFd, listener: &Listener) -> Result<(), Errno> {
    epoll::add(epoll, listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)
}
