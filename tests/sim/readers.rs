//! Real readers over real shared memory: one that misses nothing and tells the truth what was published, and others that come, lag
//! and go. They speak with this file over the attach socket as they do with the daemon; all of it in one process, in turns.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use ring_abi::consumer::{Counts, Event, Options, Reader, StreamKey};
use ring_abi::handshake::{Attach, MESSAGE_LEN_MAX, Message, Text};
use ring_abi::join::{From, Join};
use ring_abi::layout::{Class, Flags, RingState};
use ring_abi::producer::{ReaderRing, RingId, Session};
use ring_abi::server::{Connection, Received, Request};
use ring_abi::socket;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with,
};
use vms_media::time::Now;

use crate::plan::ReaderPlan;
use crate::site::Site;
use crate::tally::{Digest, Tally};

/// Where readers come in.
#[derive(Debug)]
pub(crate) struct Porter {
    listening: OwnedFd,
    path: PathBuf,
}

/// Both ends of a reader's session.
#[derive(Debug)]
struct Guest {
    reader: Reader,
    socket: OwnedFd,
    protocol: Connection,
    session: Arc<Session>,
    last_request: u32,
}

/// The reader of all streams that is never late.
#[derive(Debug)]
pub(crate) struct Auditor {
    guest: Guest,
    keys: Vec<StreamKey>,
}

/// One that does as it likes with one stream.
#[derive(Debug)]
pub(crate) struct Guesting {
    plan: ReaderPlan,
    pub(crate) site: usize,
    guest: Guest,
    attached: Option<(StreamKey, RingId)>,
    /// Units that were published before it came.
    came_behind: u64,
    /// Sequence number and counts at the newest unit.
    last: Option<(u64, Counts)>,
    ended: Option<Counts>,
    pub(crate) is_awake: bool,
    /// What it was given.
    pub(crate) digest: Digest,
}

impl Porter {
    pub(crate) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("vms-sim-{}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listening =
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        bind(&listening, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        listen(&listening, 16).unwrap();
        Self { listening, path }
    }

    /// Lets a reader in. It waits for its answer, so it is made by a thread of its own, which ends with it.
    fn admit(&self, number: u64, slots: u32) -> Guest {
        std::thread::scope(|scope| {
            let options = Options { slots, ..Options::default() };
            let reader = scope.spawn(move || Reader::connect(&self.path, &options));
            let socket = accept_with(&self.listening, SocketFlags::CLOEXEC).unwrap();
            let mut protocol = Connection::new();
            let hello = receive(&socket);
            let Received::Request(Request::Hello(hello)) = protocol.receive(&hello) else {
                panic!("no HELLO")
            };
            let session = Session::create(number, 1, hello.slots).unwrap();
            let welcome = protocol.welcome(Arc::clone(&session), 1);
            socket::send(&socket, welcome.as_bytes(), &session.fds(), true).unwrap();
            let reader = reader.join().unwrap().unwrap();
            Guest { reader, socket, protocol, session, last_request: 1 }
        })
    }
}

impl Drop for Porter {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn receive(socket: &OwnedFd) -> Vec<u8> {
    let mut buffer = [0; MESSAGE_LEN_MAX];
    let packet = socket::receive(socket, &mut buffer, true).unwrap();
    buffer[..packet.len].to_vec()
}

impl Guest {
    /// Attaches the site's stream. The answer waits in the socket when the reader asks, so that nobody waits for anybody.
    fn attach(&mut self, site: &mut Site, join: &Join, now: Now) -> (StreamKey, RingId) {
        let publisher = &mut site.daemon.sink.publisher;
        let attach = Attach { stream: Text::new("cam"), join: *join };
        let request = self.request(&Message::Attach(attach));
        let Received::Request(Request::Attach { slot, attach }) = self.protocol.receive(&request) else {
            panic!("no ATTACH")
        };
        let (uid, epoch) = (publisher.uid().0, publisher.epoch());
        let (ring, ring_fd) = ReaderRing::create(uid, epoch, &attach.join, &self.session, slot).unwrap();
        let id = ring.id();
        publisher.set_now(now.mono);
        let joined = publisher.attach(ring);
        let answer = self.protocol.attached(slot, uid, epoch, joined).unwrap();
        let stream_fd = publisher.fd();
        socket::send(&self.socket, answer.as_bytes(), &[stream_fd.as_fd(), ring_fd.as_fd()], true).unwrap();
        let (key, _) = self.reader.attach("cam", join).unwrap();
        assert_eq!(receive(&self.socket), request, "the reader asked as was foreseen");
        (key, id)
    }

    fn detach(&mut self, site: &mut Site, (key, id): (StreamKey, RingId)) -> Counts {
        let request = self.request(&Message::Detach { slot: id.slot });
        let Received::Request(Request::Detach { slot }) = self.protocol.receive(&request) else {
            panic!("no DETACH")
        };
        assert!(site.daemon.sink.publisher.detach(id).is_some(), "the ring was there");
        let answer = self.protocol.detached(slot).unwrap();
        socket::send(&self.socket, answer.as_bytes(), &[], true).unwrap();
        let counts = self.reader.detach(key).unwrap().unwrap();
        assert_eq!(receive(&self.socket), request, "the reader asked as was foreseen");
        counts
    }

    fn request(&mut self, message: &Message) -> Vec<u8> {
        self.last_request += 1;
        message.encode(self.last_request).as_bytes().to_vec()
    }
}

impl Auditor {
    pub(crate) fn new(porter: &Porter, sites: &mut [Site], now: Now) -> Self {
        let mut guest = porter.admit(1, u32::try_from(sites.len()).unwrap());
        let mut join = Join { ring_slots: 64, ..Join::new(Class::Archive, From::Oldest) };
        join.filters.everything = true;
        let keys = sites.iter_mut().map(|site| guest.attach(site, &join, now).0).collect();
        Self { guest, keys }
    }

    /// Takes all that there is and tells the truth of it; how many units there were of each site.
    pub(crate) fn drain(&mut self, sites: &mut [Site], now: Now) -> Vec<usize> {
        let mut units = vec![0; sites.len()];
        while let Some(event) = self.guest.reader.try_next() {
            match event {
                Event::Unit(unit) => {
                    let at = self.keys.iter().position(|key| *key == unit.stream).unwrap();
                    let (site, descriptor) = (&mut sites[at], unit.descriptor);
                    assert_eq!(unit.lost, 0, "a reader that is never late misses something");
                    site.trace(
                        now,
                        format_args!(
                            "unit {} of {} bytes, flags {:#x}",
                            descriptor.seq, descriptor.len, descriptor.flags
                        ),
                    );
                    site.truth.publish(&unit, now.mono.0, now.wall.0);
                    site.digest.add(&(descriptor.to_words(), unit.payload));
                    units[at] += 1;
                }
                Event::Ended(ended) => {
                    assert_eq!(ended.state, RingState::Closed);
                    let at = self.keys.iter().position(|key| *key == ended.stream).unwrap();
                    assert!(sites[at].daemon.is_over, "its ring ended and the stream did not");
                    assert_eq!(ended.counts.accepted, sites[at].truth.published.len() as u64);
                }
                Event::Timeout | Event::ProducerGone => break,
            }
        }
        units
    }
}

impl Guesting {
    pub(crate) fn new(porter: &Porter, number: u64, plan: ReaderPlan, site: usize) -> Self {
        let guest = porter.admit(number, 1);
        Self {
            plan,
            site,
            guest,
            attached: None,
            came_behind: 0,
            last: None,
            ended: None,
            is_awake: false,
            digest: Digest::default(),
        }
    }

    pub(crate) const fn plan(&self) -> &ReaderPlan {
        &self.plan
    }

    pub(crate) fn come(&mut self, site: &mut Site, now: Now) {
        site.trace(now, format_args!("a reader comes: {:?}", self.plan.join));
        self.came_behind = site.truth.published.len() as u64;
        self.attached = Some(self.guest.attach(site, &self.plan.join, now));
    }

    pub(crate) const fn is_there(&self) -> bool {
        self.attached.is_some()
    }

    /// Takes as much as it likes; whether there may be more.
    pub(crate) fn look(&mut self, site: &mut Site, most: usize) -> bool {
        for _ in 0..most {
            let Some(event) = self.guest.reader.try_next() else { return false };
            match event {
                Event::Unit(unit) => {
                    let (seq, lost, flags) = (unit.descriptor.seq, unit.lost, unit.descriptor.flags);
                    let published = &site.truth.published[usize::try_from(seq).unwrap() - 1];
                    assert!(unit.payload == published.payload, "unit {seq}: other bytes than were published");
                    let backfill = if seq <= self.came_behind { Flags::BACKFILL.0 } else { 0 };
                    assert_eq!(flags, published.flags | backfill, "unit {seq}");
                    self.digest.add(&(seq, lost));
                    let is_key = unit.descriptor.has(Flags::KEY);
                    self.count(seq, lost, is_key, &mut site.tally);
                }
                Event::Ended(ended) => {
                    assert!(ended.counts.balance(), "{:?}", ended.counts);
                    self.ended = Some(ended.counts);
                }
                Event::Timeout | Event::ProducerGone => return false,
            }
        }
        true
    }

    /// What lies between two units that it got is told to the last.
    fn count(&mut self, seq: u64, lost: u64, is_key: bool, tally: &mut Tally) {
        let (key, _) = self.attached.unwrap();
        let counts = self.guest.reader.counts(key).unwrap();
        assert!(counts.balance() && counts.last_seq == seq, "{counts:?} at unit {seq}");
        if let Some((last_seq, before)) = self.last {
            let between = seq - last_seq - 1;
            let withheld = counts.filtered + counts.skipped + counts.rejected
                - (before.filtered + before.skipped + before.rejected);
            assert!(lost + withheld <= between, "{lost} lost and {withheld} withheld of {between}");
            assert_eq!(counts.lost - before.lost + withheld, between, "{counts:?} after {before:?}");
            tally.missed += counts.lost - before.lost;
        } else {
            assert!(
                is_key || self.plan.join.filters.everything,
                "it begins with unit {seq}, which is no keyframe"
            );
        }
        assert!(is_key || !self.plan.join.filters.keyframes_only, "it asked for keyframes only");
        tally.taken += 1;
        self.last = Some((seq, counts));
    }

    /// It goes, or the stream has ended and it has had its time.
    pub(crate) fn go(&mut self, site: &mut Site, now: Now) {
        let Some(attached) = self.attached.take() else { return };
        let counts = self.guest.detach(site, attached);
        site.trace(now, format_args!("a reader goes: {counts:?}"));
        assert!(counts.balance(), "{counts:?}");
    }

    /// The stream has ended and it has taken all: it knows of every unit since its first.
    pub(crate) fn check_end(&self, site: &Site) {
        let Some(counts) = self.ended else { panic!("nobody told it of the end") };
        if counts.first_seq > 0 {
            assert_eq!(counts.last_seq, site.truth.published.len() as u64, "{counts:?}");
        }
    }
}
