//! The farm's only thread: one epoll, one heap of due times.
//!
//! A turn waits until a socket is ready, the next unit is due or a fault begins or ends, serves the sockets, then sends all
//! units that are due. The schedule has no grid: each play session has its own random phase, so cameras do not wake their
//! clients together.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::event::{Timespec, epoll};
use rustix::net::SocketFlags;

use crate::clock::{self, NS_PER_SECOND};
use crate::config::Config;
use crate::connection::{Connection, Due};
use crate::control::{Command, Commands, Reply};
use crate::doors::{self, Door};
use crate::farm::{CameraStats, Farm, Stats};
use crate::faults;
use crate::faults::kind::Life;
use crate::faults::plan::{Change, Plan};
use crate::faults::spec::Fault;
use crate::link::{Gone, Link};
use crate::media::MediaError;
use crate::packets::Scratch;
use crate::rng::Rng;
use crate::sessions::Sessions;
use crate::truth::{Fact, Truth};

/// A camera farm that listens; [`run`](Self::run) serves it.
#[derive(Debug)]
pub struct Server {
    world: World,
    doors: Vec<Door>,
    epoll: OwnedFd,
    connections: Vec<Option<Connection>>,
    schedule: BinaryHeap<Reverse<(Due, usize)>>,
    commands: Option<Commands>,
    /// What has begun or ended, until consequences are drawn.
    changes: Vec<Change>,
    buffer: Vec<u8>,
    connects: u64,
    refused: u64,
}

/// What connections share.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) farm: Farm,
    pub(crate) plan: Plan,
    /// By camera.
    pub(crate) stats: Vec<CameraStats>,
    pub(crate) sessions: Sessions,
    pub(crate) truth: Truth,
    pub(crate) rng: Rng,
    pub(crate) scratch: Scratch,
}

/// Who watches the farm and tells it what to do.
pub struct Operator {
    /// Where commands come from, one a line (`README.md` has them); at its end the farm goes on.
    pub commands: Option<OwnedFd>,
    /// Where answers go, and facts, each a line of JSON.
    pub lines: Box<dyn Write + Send>,
    /// Whether facts are wanted.
    pub wants_truth: bool,
}

impl fmt::Debug for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operator").field("wants_truth", &self.wants_truth).finish_non_exhaustive()
    }
}

/// Why a farm cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A clip cannot be shown.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// A fault is for a camera that there is not.
    #[error("{fault}: no camera is called {camera:?}")]
    NoSuchCamera {
        /// The fault.
        fault: String,
        /// The name.
        camera: String,
    },
    /// A fault is about logins, and nobody has to log in.
    #[error("{fault}: nobody has to log in; give --user and --password")]
    NoLogin {
        /// The fault.
        fault: String,
    },
    /// The address cannot be listened on, or the system gave no epoll.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Commands cannot be read from there.
    #[error("commands cannot be read from a file: give a pipe, a socket or a terminal ({source})")]
    Commands {
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
        let (mut doors, epoll) = open(&farm).map_err(|source| StartError::Listen { address, source })?;
        let count = farm.cameras.len();
        let mut world = World {
            plan: Plan::new(count),
            stats: vec![CameraStats::default(); count],
            sessions: Sessions::default(),
            truth: Truth::untold(),
            rng: Rng::new(farm.config.seed),
            scratch: Scratch::default(),
            farm,
        };
        for fault in world.farm.config.faults.clone() {
            world.add_fault(fault)?;
        }
        // Who connects before the first turn is already treated as the faults want it.
        let changes = world.plan.advance(clock::mono_ns());
        for (door, token) in doors.iter_mut().zip(DOORS..) {
            let minded = door.mind(&world.plan, &epoll, token);
            minded.map_err(|source| StartError::Listen { address: door.address, source })?;
        }
        Ok(Self {
            world,
            doors,
            epoll,
            connections: Vec::new(),
            schedule: BinaryHeap::new(),
            commands: None,
            changes,
            buffer: vec![0; READ_LEN],
            connects: 0,
            refused: 0,
        })
    }

    /// Tells `operator` from here on what happens, and obeys.
    ///
    /// # Errors
    /// When commands would come from a file.
    pub fn attend(&mut self, operator: Operator) -> Result<(), StartError> {
        self.world.truth = Truth::told_to(operator.lines, operator.wants_truth);
        if let Some(source) = operator.commands {
            let token = epoll::EventData::new_u64(COMMANDS);
            epoll::add(&self.epoll, &source, token, epoll::EventFlags::IN)
                .map_err(|error| StartError::Commands { source: error.into() })?;
            self.commands = Some(Commands::new(source));
        }
        for door in &self.doors {
            tell_door(&mut self.world, door, door.listener.is_some());
        }
        Ok(())
    }

    /// Where clients connect, with the port that the system chose.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.doors.first().map_or(self.world.farm.config.listen, |door| door.address)
    }

    /// The cameras that have a port of their own, and where.
    pub fn own_ports(&self) -> impl Iterator<Item = (&str, SocketAddr)> {
        let named = |door: &Door| Some((self.world.farm.name(door.camera?), door.address));
        self.doors.iter().filter_map(named)
    }

    /// Names of the cameras, in the order of [`Config::media`] and then by number.
    pub fn camera_names(&self) -> impl Iterator<Item = &str> {
        self.world.farm.cameras.iter().map(|camera| camera.name.as_str())
    }

    /// Serves until `stop` becomes readable (or its other end closes).
    ///
    /// # Errors
    /// When epoll fails, which is a mistake of ours, and when an address that was given up cannot be had again.
    pub fn run(&mut self, stop: BorrowedFd<'_>) -> io::Result<()> {
        epoll::add(&self.epoll, stop, epoll::EventData::new_u64(STOP), epoll::EventFlags::IN)?;
        let outcome = self.turns();
        epoll::delete(&self.epoll, stop)?;
        outcome
    }

    /// What was counted so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let used = self.world.farm.cameras.iter().zip(&self.world.stats);
        let used = used.filter(|(_, stats)| **stats != CameraStats::default());
        let cameras: BTreeMap<_, _> = used.map(|(camera, stats)| (camera.name.clone(), *stats)).collect();
        Stats { connects: self.connects, refused: self.refused, cameras }
    }

    fn turns(&mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            self.change_faults()?;
            self.send_due();
            events.clear();
            let timeout = self.timeout();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                match event.data.u64() {
                    STOP => return Ok(()),
                    COMMANDS => self.obey()?,
                    token @ DOORS.. => self.accept(usize::try_from(token - DOORS).unwrap_or(usize::MAX)),
                    token => self.serve(usize::try_from(token).unwrap_or(usize::MAX), event.flags),
                }
            }
        }
    }

    fn timeout(&self) -> Option<Timespec> {
        let due_ns = self.schedule.peek().map(|Reverse((due, _))| due.at_ns);
        let next_ns = due_ns.into_iter().chain(self.world.plan.next_ns()).min()?;
        let wait_ns = next_ns.saturating_sub(clock::mono_ns());
        let part = |ns: u64| i64::try_from(ns).unwrap_or(i64::MAX);
        Some(Timespec { tv_sec: part(wait_ns / NS_PER_SECOND), tv_nsec: part(wait_ns % NS_PER_SECOND) })
    }

    fn accept(&mut self, door: usize) {
        // Bounded: the next turn goes on where this one stops.
        for _ in 0..ACCEPTS_PER_TURN {
            let Some((listener, camera)) =
                self.doors.get(door).and_then(|door| Some((door.listener.as_ref()?, door.camera)))
            else {
                return;
            };
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let Ok(socket) = rustix::net::accept_with(listener, flags) else { return };
            self.connects += 1;
            let open = self.connections.iter().flatten().count();
            if open >= CONNECTIONS_MAX || self.register(socket, camera).is_err() {
                self.refused += 1;
            }
        }
    }

    fn register(&mut self, socket: OwnedFd, camera: Option<usize>) -> rustix::io::Result<()> {
        rustix::net::sockopt::set_tcp_nodelay(&socket, true)?;
        let peer = rustix::net::getpeername(&socket).ok().flatten().and_then(|peer| peer.try_into().ok());
        let slot = self.connections.iter().position(Option::is_none).unwrap_or(self.connections.len());
        epoll::add(&self.epoll, &socket, token(slot), epoll::EventFlags::IN)?;
        let connection = Connection::new(self.connects, camera, Link::new(socket), &mut self.world);
        self.world.truth.tell(Fact::Connected { connection: connection.id, peer });
        match self.connections.get_mut(slot) {
            Some(free) => *free = Some(connection),
            None => self.connections.push(Some(connection)),
        }
        Ok(())
    }

    /// A slot that was closed and given away within one turn sees an event of its predecessor; its socket then says
    /// "try again", and nothing happens.
    fn serve(&mut self, slot: usize, flags: epoll::EventFlags) {
        let Some(connection) = self.connections.get_mut(slot).and_then(Option::as_mut) else { return };
        let mut outcome = Ok(());
        if flags.contains(epoll::EventFlags::OUT) {
            outcome = connection.on_room();
        }
        if outcome.is_ok() && flags.intersects(READABLE) {
            outcome = connection.on_readable(&mut self.world, &mut self.buffer);
        }
        self.settle(slot, outcome);
    }

    fn send_due(&mut self) {
        let now_ns = clock::mono_ns();
        while let Some(&Reverse((due, slot))) = self.schedule.peek().filter(|next| next.0.0.at_ns <= now_ns) {
            self.schedule.pop();
            let Some(connection) = self.connections.get_mut(slot).and_then(Option::as_mut) else { continue };
            let outcome = connection.on_due(due, &mut self.world);
            self.settle(slot, outcome);
        }
    }

    /// After anything was done with a connection: schedule it, watch its socket, or let it go.
    fn settle(&mut self, slot: usize, outcome: Result<(), Gone>) {
        let Some(connection) = self.connections.get_mut(slot).and_then(Option::as_mut) else { return };
        self.schedule.extend(connection.dues.drain(..).map(|due| Reverse((due, slot))));
        let watched = outcome.and_then(|()| {
            let wants_room = connection.wants_room();
            if wants_room != connection.watches_room {
                let room = if wants_room { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
                let flags = epoll::EventFlags::IN | room;
                epoll::modify(&self.epoll, connection.link.fd(), token(slot), flags)
                    .map_err(|_| Gone::Camera)?;
                connection.watches_room = wants_room;
            }
            Ok(())
        });
        if let Err(gone) = watched {
            self.close(slot, gone);
        }
    }

    /// Closing the descriptor takes it out of the epoll; what the schedule holds of it finds nobody.
    fn close(&mut self, slot: usize, by: Gone) {
        let Some(connection) = self.connections.get_mut(slot).and_then(Option::take) else { return };
        if by == Gone::CameraReset {
            connection.link.reset_on_close();
        }
        let World { farm, sessions, truth, .. } = &mut self.world;
        let timeout_ns = farm.config.session_timeout_s.saturating_mul(NS_PER_SECOND);
        sessions.orphan(connection.id, clock::mono_ns().saturating_add(timeout_ns));
        let camera = connection.camera().map(|camera| farm.name(camera));
        truth.tell(Fact::Closed { connection: connection.id, camera, by, units: connection.units });
    }

    fn change_faults(&mut self) -> io::Result<()> {
        let mut changes = std::mem::take(&mut self.changes);
        changes.extend(self.world.plan.advance(clock::mono_ns()));
        self.draw_consequences(&changes)
    }

    fn draw_consequences(&mut self, changes: &[Change]) -> io::Result<()> {
        for change in changes {
            let camera = self.world.farm.name(change.camera);
            self.world.truth.tell(Fact::Fault { camera, fault: &change.fault, begins: change.begins });
            match (change.life, change.begins) {
                (Some(Life::Close), true) => self.close_all(change.camera, Gone::Camera),
                (Some(Life::Reset), true) => self.close_all(change.camera, Gone::CameraReset),
                (Some(Life::PowerCut), true) => {
                    self.close_all(change.camera, Gone::CameraReset);
                    self.world.sessions.forget(change.camera);
                }
                (Some(Life::Mute), false) => self.go_on(change.camera),
                _ => {}
            }
        }
        if !changes.is_empty() {
            for (door, token) in self.doors.iter_mut().zip(DOORS..) {
                if let Some(on) = door.mind(&self.world.plan, &self.epoll, token)? {
                    tell_door(&mut self.world, door, on);
                }
            }
        }
        Ok(())
    }

    fn slots_of(&self, camera: usize) -> Vec<usize> {
        let slots = self.connections.iter().enumerate();
        let is_its = |connection: &Connection| connection.camera() == Some(camera);
        slots.filter(|(_, slot)| slot.as_ref().is_some_and(is_its)).map(|(slot, _)| slot).collect()
    }

    fn close_all(&mut self, camera: usize, by: Gone) {
        for slot in self.slots_of(camera) {
            self.close(slot, by);
        }
    }

    /// The camera was mute and answers now what it was asked.
    fn go_on(&mut self, camera: usize) {
        for slot in self.slots_of(camera) {
            if let Some(connection) = self.connections[slot].as_mut() {
                let outcome = connection.work(&mut self.world);
                self.settle(slot, outcome);
            }
        }
    }

    fn obey(&mut self) -> io::Result<()> {
        let Some(lines) = self.commands.as_mut().and_then(|commands| commands.read(&mut self.buffer)) else {
            // Closing the descriptor takes it out of the epoll, unless another process holds it too.
            if let Some(commands) = self.commands.take() {
                let _ = epoll::delete(&self.epoll, &commands.source);
            }
            return Ok(());
        };
        for line in lines {
            let outcome = Command::parse(&line).and_then(|command| self.execute(command));
            let reply = match outcome {
                Ok(None) => Reply::Done { command: &line },
                Ok(Some(stats)) => Reply::Stats { stats },
                Err(error) => Reply::Error { command: &line, error },
            };
            self.world.truth.write(reply);
            self.change_faults()?;
        }
        Ok(())
    }

    /// Gives what was counted, when that was asked for. What follows for cameras is for [`Self::change_faults`].
    fn execute(&mut self, command: Command) -> Result<Option<Stats>, String> {
        let (cameras, name) = match command {
            Command::Stats => return Ok(Some(self.stats())),
            Command::Fault(fault) => {
                return self.world.add_fault(*fault).map(|()| None).map_err(|error| error.to_string());
            }
            Command::Power { on: false, cameras } => {
                let fault = Fault::now(faults::power_cut(), cameras);
                return self.world.add_fault(fault).map(|()| None).map_err(|error| error.to_string());
            }
            Command::Power { on: true, cameras } => (cameras, Some(faults::power_cut().name.to_owned())),
            Command::Clear { cameras, name } => (cameras, name),
        };
        let found = self.world.farm.find_all(&cameras);
        let found = found.map_err(|name| format!("no camera is called {name:?}"))?;
        self.changes.extend(self.world.plan.clear(&found, name.as_deref()));
        Ok(None)
    }
}

impl World {
    /// The fault's times count from now.
    fn add_fault(&mut self, fault: Fault) -> Result<(), StartError> {
        if fault.kind.needs_login() && self.farm.config.access.is_none() {
            return Err(StartError::NoLogin { fault: fault.to_string() });
        }
        let cameras = self.farm.find_all(&fault.cameras).map_err(|camera| StartError::NoSuchCamera {
            fault: fault.to_string(),
            camera: camera.to_owned(),
        })?;
        self.plan.add(fault, cameras, clock::mono_ns());
        Ok(())
    }
}

fn tell_door(world: &mut World, door: &Door, on: bool) {
    let camera = door.camera.map(|camera| world.farm.name(camera));
    world.truth.tell(Fact::Listening { address: door.address, camera, on });
}

fn open(farm: &Farm) -> io::Result<(Vec<Door>, OwnedFd)> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut doors = vec![Door::open(farm.config.listen, None)?];
    if farm.config.own_ports {
        let any_port = SocketAddr::new(farm.config.listen.ip(), 0);
        for camera in 0..farm.cameras.len() {
            doors.push(Door::open(any_port, Some(camera))?);
        }
    }
    for (door, token) in doors.iter().zip(DOORS..) {
        door.listener.iter().try_for_each(|listener| doors::watch(listener, &epoll, token))?;
    }
    Ok((doors, epoll))
}

const fn token(slot: usize) -> epoll::EventData {
    epoll::EventData::new_u64(slot as u64)
}

const STOP: u64 = u64::MAX;
const COMMANDS: u64 = u64::MAX - 1;
/// Of the first door; the others follow. Slots are fewer.
const DOORS: u64 = 1 << 32;
const READABLE: epoll::EventFlags =
    epoll::EventFlags::IN.union(epoll::EventFlags::HUP).union(epoll::EventFlags::ERR);
const CONNECTIONS_MAX: usize = 4096;
const ACCEPTS_PER_TURN: usize = 64;
const EVENTS_MAX: usize = 256;
const READ_LEN: usize = 16 << 10;
