//! The farm's only thread: one epoll, one heap of due times.
//!
//! A turn waits until a socket is ready or the next unit is due, serves the sockets, then sends all units that are due.
//! The schedule has no grid: each play session has its own random phase, so cameras do not wake their clients together.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{Timespec, epoll};
use rustix::net::SocketFlags;

use crate::clock::{self, NS_PER_SECOND};
use crate::config::Config;
use crate::connection::{Connection, Due};
use crate::farm::{CameraStats, Farm, Stats};
use crate::link::{Gone, Link};
use crate::media::MediaError;
use crate::packets::Scratch;
use crate::rng::Rng;

/// A camera farm that listens; [`run`](Self::run) serves it.
#[derive(Debug)]
pub struct Server {
    farm: Farm,
    listener: TcpListener,
    epoll: OwnedFd,
    connections: Vec<Option<Connection>>,
    schedule: BinaryHeap<Reverse<(Due, usize)>>,
    scratch: Scratch,
    buffer: Vec<u8>,
    rng: Rng,
    connects: u64,
    refused: u64,
    cameras: Vec<CameraStats>,
}

/// Why a farm cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A clip cannot be shown.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// The address cannot be listened on, or the system gave no epoll.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

impl Server {
    /// Loads the clips and listens; clients can connect from here on and are served once [`run`](Self::run) is called.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn bind(config: Config) -> Result<Self, StartError> {
        let address = config.listen;
        let farm = Farm::new(config)?;
        let (listener, epoll) = listen(address).map_err(|source| StartError::Listen { address, source })?;
        let cameras = vec![CameraStats::default(); farm.cameras.len()];
        let rng = Rng::new(farm.config.seed);
        Ok(Self {
            farm,
            listener,
            epoll,
            connections: Vec::new(),
            schedule: BinaryHeap::new(),
            scratch: Scratch::default(),
            buffer: vec![0; READ_LEN],
            rng,
            connects: 0,
            refused: 0,
            cameras,
        })
    }

    /// Where clients connect, with the port that the system chose.
    ///
    /// # Errors
    /// What the system says when it does not know.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Names of the cameras, in the order of [`Config::media`] and then by number.
    pub fn camera_names(&self) -> impl Iterator<Item = &str> {
        self.farm.cameras.iter().map(|camera| camera.name.as_str())
    }

    /// Serves until `stop` becomes readable (or its other end closes).
    ///
    /// # Errors
    /// When epoll fails, which is a mistake of ours.
    pub fn run(&mut self, stop: BorrowedFd<'_>) -> io::Result<()> {
        epoll::add(&self.epoll, stop, epoll::EventData::new_u64(STOP), epoll::EventFlags::IN)?;
        let outcome = self.turns();
        epoll::delete(&self.epoll, stop)?;
        outcome
    }

    /// What was counted so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let used = self.farm.cameras.iter().zip(&self.cameras);
        let used = used.filter(|(_, stats)| **stats != CameraStats::default());
        let cameras: BTreeMap<_, _> = used.map(|(camera, stats)| (camera.name.clone(), *stats)).collect();
        Stats { connects: self.connects, refused: self.refused, cameras }
    }

    fn turns(&mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            events.clear();
            let timeout = self.timeout();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                match event.data.u64() {
                    STOP => return Ok(()),
                    LISTENER => self.accept(),
                    token => self.serve(usize::try_from(token).unwrap_or(usize::MAX), event.flags),
                }
            }
            self.send_due();
        }
    }

    fn timeout(&self) -> Option<Timespec> {
        let Reverse((due, _)) = self.schedule.peek()?;
        let wait_ns = due.at_ns.saturating_sub(clock::mono_ns());
        let part = |ns: u64| i64::try_from(ns).unwrap_or(i64::MAX);
        Some(Timespec { tv_sec: part(wait_ns / NS_PER_SECOND), tv_nsec: part(wait_ns % NS_PER_SECOND) })
    }

    fn accept(&mut self) {
        // Bounded: the next turn goes on where this one stops.
        for _ in 0..ACCEPTS_PER_TURN {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let Ok(socket) = rustix::net::accept_with(&self.listener, flags) else { return };
            self.connects += 1;
            let open = self.connections.iter().flatten().count();
            if open >= CONNECTIONS_MAX || self.register(socket).is_err() {
                self.refused += 1;
            }
        }
    }

    fn register(&mut self, socket: OwnedFd) -> rustix::io::Result<()> {
        rustix::net::sockopt::set_tcp_nodelay(&socket, true)?;
        let slot = self.connections.iter().position(Option::is_none).unwrap_or(self.connections.len());
        epoll::add(&self.epoll, &socket, token(slot), epoll::EventFlags::IN)?;
        let connection = Some(Connection::new(Link::new(socket), &mut self.rng));
        match self.connections.get_mut(slot) {
            Some(free) => *free = connection,
            None => self.connections.push(connection),
        }
        Ok(())
    }

    /// A slot that was closed and given away within one turn sees an event of its predecessor; its socket then says
    /// "try again", and nothing happens.
    fn serve(&mut self, slot: usize, flags: epoll::EventFlags) {
        let Some(connection) = self.connections.get_mut(slot).and_then(Option::as_mut) else { return };
        let mut outcome = Ok(None);
        if flags.contains(epoll::EventFlags::OUT) {
            outcome = connection.on_room().map(|()| None);
        }
        if outcome.is_ok() && flags.intersects(READABLE) {
            let (farm, stats) = (&self.farm, &mut self.cameras);
            outcome = connection.on_readable(farm, stats, &mut self.buffer, &mut self.rng);
        }
        self.settle(slot, outcome);
    }

    fn send_due(&mut self) {
        let now_ns = clock::mono_ns();
        while let Some(&Reverse((due, slot))) = self.schedule.peek().filter(|next| next.0.0.at_ns <= now_ns) {
            self.schedule.pop();
            let Some(connection) = self.connections.get_mut(slot).and_then(Option::as_mut) else { continue };
            let (farm, stats) = (&self.farm, &mut self.cameras);
            let outcome = connection.on_due(due.player, farm, stats, &mut self.scratch, &mut self.rng);
            self.settle(slot, outcome);
        }
    }

    /// After anything was done with a connection: schedule it, watch its socket, or let it go.
    fn settle(&mut self, slot: usize, outcome: Result<Option<Due>, Gone>) {
        let Some(connection) = self.connections.get_mut(slot).and_then(Option::as_mut) else { return };
        let watched = outcome.and_then(|due| {
            self.schedule.extend(due.map(|due| Reverse((due, slot))));
            let wants_room = connection.wants_room();
            if wants_room != connection.watches_room {
                let room = if wants_room { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
                let flags = epoll::EventFlags::IN | room;
                epoll::modify(&self.epoll, connection.link.fd(), token(slot), flags).map_err(|_| Gone)?;
                connection.watches_room = wants_room;
            }
            Ok(())
        });
        if watched == Err(Gone) {
            // Closing the descriptor takes it out of the epoll; what the schedule holds of it finds nobody.
            self.connections[slot] = None;
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<(TcpListener, OwnedFd)> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    rustix::net::listen(&listener, LISTEN_BACKLOG)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, listener.as_fd(), epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
    Ok((listener, epoll))
}

const fn token(slot: usize) -> epoll::EventData {
    epoll::EventData::new_u64(slot as u64)
}

const STOP: u64 = u64::MAX;
const LISTENER: u64 = u64::MAX - 1;
const READABLE: epoll::EventFlags =
    epoll::EventFlags::IN.union(epoll::EventFlags::HUP).union(epoll::EventFlags::ERR);
const CONNECTIONS_MAX: usize = 4096;
const ACCEPTS_PER_TURN: usize = 64;
const LISTEN_BACKLOG: i32 = 1024;
const EVENTS_MAX: usize = 256;
const READ_LEN: usize = 16 << 10;
