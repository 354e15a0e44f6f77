//! Producers and readers in one process, introduced to each other by the real handshake.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use ring_abi::consumer::{AttachError, Event, Options, Reader};
use ring_abi::handshake::MESSAGE_LEN_MAX;
use ring_abi::join::{From, Join};
use ring_abi::layout::{Class, Flags};
use ring_abi::producer::{Producer, ReaderRing, Session, TrackSpec, Unit};
use ring_abi::server::{Connection, Received, Request};
use ring_abi::socket;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with,
};

const EPOCH: u64 = 0x636f_756e_7465_6421;
const NOW_NS: u64 = 1_000_000_000;
/// Units of 64 bytes fill it in about the units that the index holds.
const ARENA_LEN: u64 = 1 << 20;

/// Streams `0`, `1` … and readers that are attached to all of them.
#[derive(Debug)]
pub(crate) struct Pair {
    producers: Vec<Producer>,
    readers: Vec<Reader>,
    /// The stream whose turn it is.
    stream: usize,
    /// Kept open, so that the readers see a living producer.
    _sockets: Vec<OwnedFd>,
}

impl Pair {
    pub(crate) fn new(readers: usize, streams: usize) -> Result<Self> {
        let track = TrackSpec::video(ARENA_LEN);
        let mut producers = (0..streams)
            .map(|n| Producer::create(n as u64, EPOCH, &[track]))
            .collect::<Result<Vec<_>, _>>()?;
        let path = SocketPath::new();
        let listener = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        bind(&listener, &SocketAddrUnix::new(&path.0)?)?;
        listen(&listener, 1)?;
        let (mut opened, mut sockets) = (Vec::new(), Vec::new());
        for number in 0..readers {
            let path = path.0.clone();
            let reader = std::thread::spawn(move || open(&path, streams));
            let socket = accept_with(&listener, SocketFlags::CLOEXEC)?;
            serve(&socket, number as u64, &mut producers)?;
            opened.push(reader.join().map_err(|_| anyhow::anyhow!("the reader's thread failed"))??);
            sockets.push(socket);
        }
        Ok(Self { producers, readers: opened, stream: 0, _sockets: sockets })
    }

    /// The next unit goes to the next stream.
    pub(crate) fn next_stream(&mut self) {
        self.stream = (self.stream + 1) % self.producers.len();
    }

    pub(crate) fn append(&mut self, payload: &[u8]) -> Result<()> {
        let producer = &mut self.producers[self.stream];
        producer.begin(0);
        Ok(producer.append(0, payload)?)
    }

    pub(crate) fn commit(&mut self, len: usize) -> Result<()> {
        let end = [u32::try_from(len)?];
        // A unit of a camera has at least one NAL unit; a bare descriptor has none.
        let ends = if len == 0 { &[][..] } else { &end[..] };
        let unit = Unit { flags: Flags::KEY, recv_mono_ns: NOW_NS, ..Unit::default() };
        self.producers[self.stream].commit(0, &unit, ends, NOW_NS)?;
        Ok(())
    }

    pub(crate) fn bell(&mut self) {
        self.producers[self.stream].take_touched(|session| {
            if session.ring_bell() {
                session.wake();
            }
        });
    }

    pub(crate) fn take(&mut self, reader: usize) -> Result<()> {
        let event = self.readers[reader].try_next().context("a unit is missing")?;
        ensure!(matches!(event, Event::Unit(_)), "the reader gave something else than a unit");
        Ok(())
    }

    pub(crate) fn look(&mut self, reader: usize) -> Result<()> {
        ensure!(self.readers[reader].try_next().is_none(), "there is a unit too many");
        Ok(())
    }
}

fn open(path: &Path, streams: usize) -> Result<Reader, AttachError> {
    let mut reader = Reader::connect(path, &Options { name: "count".into(), ..Options::default() })?;
    for stream in 0..streams {
        reader.attach(&stream.to_string(), &Join::new(Class::Archive, From::Live))?;
    }
    Ok(reader)
}

/// Answers one reader: HELLO, and an ATTACH for each stream.
fn serve(socket: &OwnedFd, number: u64, producers: &mut [Producer]) -> Result<()> {
    let mut protocol = Connection::new();
    for _ in 0..=producers.len() {
        let mut buffer = [0; MESSAGE_LEN_MAX];
        let len = socket::receive(socket, &mut buffer, true)?.len;
        match protocol.receive(&buffer[..len]) {
            Received::Request(Request::Hello(hello)) => {
                let session = Session::create(number, EPOCH, hello.slots)?;
                let reply = protocol.welcome(Arc::clone(&session), EPOCH);
                socket::send(socket, reply.as_bytes(), &session.fds(), true)?;
            }
            Received::Request(Request::Attach { slot, attach }) => {
                let session = protocol.session().context("no session was opened")?;
                let producer = &mut producers[attach.stream.as_str().parse::<usize>()?];
                let (uid, epoch) = (producer.uid(), producer.epoch());
                let (ring, ring_fd) = ReaderRing::create(uid, epoch, &attach.join, session, slot)?;
                let joined = producer.attach(ring, NOW_NS);
                let reply = protocol.attached(slot, uid, epoch, joined).context("nobody waits")?;
                socket::send(socket, reply.as_bytes(), &[producer.fd().as_fd(), ring_fd.as_fd()], true)?;
            }
            other @ (Received::Request(_) | Received::Reply(_) | Received::Violation(_)) => {
                anyhow::bail!("the reader said {other:?}")
            }
        }
    }
    Ok(())
}

/// The attach socket's name, until the readers are attached.
struct SocketPath(PathBuf);

impl SocketPath {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("vms-instructions-{}", std::process::id())))
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        // Not there is as good.
        let _ = std::fs::remove_file(&self.0);
    }
}
