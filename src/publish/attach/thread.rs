//! The `vms-attach` thread: waits for readers, passes packets and answers on.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::net::sockopt::socket_peercred;
use rustix::process::{Uid, geteuid};

use super::connection::{Connection, Fate};
use super::{Completion, Limits, Listener, Request};

/// Epoll data of the listening socket, of the eventfd, and of the first connection.
const LISTENER: u64 = 0;
const WAKER: u64 = 1;
const FIRST_CONNECTION: u64 = 2;
/// Events taken from epoll at a time.
const EVENTS_MAX: usize = 64;

#[derive(Debug)]
enum Command {
    Complete(Completion),
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
    epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
    epoll::add(&epoll, &waker, epoll::EventData::new_u64(WAKER), epoll::EventFlags::IN)?;
    let server = Server {
        epoll,
        listener,
        waker: Arc::clone(&waker),
        inbox,
        limits,
        daemon_epoch,
        requests,
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
    limits: Limits,
    daemon_epoch: u64,
    requests: F,
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
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "the attach thread cannot wait for readers and ends");
                    return;
                }
            }
            for event in events.drain(..) {
                match event.data.u64() {
                    LISTENER => self.accept(),
                    WAKER if self.commands() => return,
                    WAKER => {}
                    number => self.readable(number),
                }
            }
        }
    }

    /// Takes one connection: same user or root only.
    fn accept(&mut self) {
        let Ok(socket) = self.listener.accept() else { return };
        if !self.may_connect(&socket) {
            return;
        }
        if self.connections.len() >= self.limits.sessions_max {
            tracing::warn!(limit = self.limits.sessions_max, "a reader was turned away: too many sessions");
            return;
        }
        let number = self.next_number;
        self.next_number += 1;
        let data = epoll::EventData::new_u64(number);
        if epoll::add(&self.epoll, &socket, data, epoll::EventFlags::IN).is_ok() {
            self.connections.insert(number, Connection::new(number, socket));
        }
    }

    fn may_connect(&self, socket: &OwnedFd) -> bool {
        let peer = socket_peercred(socket).map(|credentials| credentials.uid);
        let allowed = peer.is_ok_and(|uid| uid == geteuid() || uid == Uid::ROOT);
        if !allowed {
            tracing::warn!(uid = ?peer.map(Uid::as_raw), "a reader of another user was turned away");
        }
        allowed
    }

    fn readable(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let fate = connection.readable(&self.limits, self.daemon_epoch, &mut self.out);
        self.settle(number, fate);
    }

    /// Takes all commands that wait; true to stop.
    fn commands(&mut self) -> bool {
        let mut count = [0u8; 8];
        let _ = rustix::io::read(self.waker.as_fd(), &mut count);
        while let Ok(command) = self.inbox.try_recv() {
            let Command::Complete(completion) = command else { return true };
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
