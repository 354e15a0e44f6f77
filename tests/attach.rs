//! Promise: a reader process attaches over the socket, gets every unit whole, and hurts nobody, whatever it does.
#![expect(clippy::unwrap_used, reason = "a test's helpers may fail the test")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use ring_abi::consumer::{Counts, Event, Options, Reader};
use ring_abi::join::{From, Join};
use ring_abi::layout::{Class, EndReason, RingState};
use rustix::event::{PollFd, PollFlags, poll};
use vms_media::codec::{AccessUnit, AccessUnitSink, ClockSource, Codec, ParameterSets, UnitFlags};
use vms_media::ids::{StreamId, StreamUid};
use vms_media::limits::Rate;
use vms_media::publish::attach::{self, Completion, Handle, Limits, Listener, Request};
use vms_media::publish::{Bells, Publisher, RefusalCode};
use vms_media::time::{Mono, UnixNanos};

const SECOND: Option<Duration> = Some(Duration::from_secs(5));

#[test]
fn a_reader_gets_the_newest_picture_at_once_and_everything_after() {
    let mut daemon = Daemon::start("picture");
    daemon.publish("cam", 1..=10, &[1, 6]);
    let (handle, mut reader) = daemon.attach_while_serving("cam", Join::new(Class::Archive, From::Keyframe));
    let mut daemon = handle;
    daemon.publish("cam", 11..=13, &[]);
    for seq in 6..=13 {
        let Event::Unit(unit) = reader.next(SECOND) else { panic!("unit {seq} did not come") };
        assert_eq!(unit.descriptor.seq, seq);
        assert_eq!(unit.payload, payload(seq));
        assert_eq!(unit.nal_ends, [u32::try_from(payload(seq).len()).unwrap()]);
        assert_eq!(unit.descriptor.has(ring_abi::layout::Flags::BACKFILL), seq <= 10);
        assert_eq!((unit.descriptor.key_seq, unit.lost), (6, 0));
    }
    let key = reader.streams().next().unwrap();
    let configuration = reader.configuration(key, 0).unwrap();
    assert_eq!((configuration.width, configuration.data.as_slice()), (1920, PARAMETER_SETS));
    drop(daemon);
    let Event::Ended(ended) = reader.next(SECOND) else { panic!("the end was not told") };
    assert_eq!((ended.state, ended.reason), (RingState::Closed, EndReason::StreamClosed));
    assert!(ended.counts.balance() && ended.counts.accepted == 8, "{:?}", ended.counts);
    assert!(matches!(reader.next(SECOND), Event::ProducerGone));
}

#[test]
fn a_reader_with_an_event_loop_waits_on_a_descriptor() {
    let mut daemon = Daemon::start("notify");
    daemon.publish("cam", 1..=3, &[1]);
    let options = Options { notify: true, ..Options::default() };
    let join = Join::new(Class::Archive, From::Keyframe);
    let (mut daemon, mut reader) = daemon.attach_with("cam", join, options);
    let readable = |reader: &Reader, bound_ms: i64| {
        let bound = rustix::event::Timespec { tv_sec: 0, tv_nsec: bound_ms * 1_000_000 };
        let fd = reader.notify_fd().expect("it was asked for and granted");
        poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&bound)).unwrap() == 1
    };
    while reader.try_next().is_some() {}
    assert_eq!(reader.counts(reader.streams().next().unwrap()).unwrap().accepted, 3);
    assert!(!readable(&reader, 0), "all was read");
    daemon.publish("cam", 4..=5, &[]);
    assert!(readable(&reader, 900), "units came");
    for seq in 4..=5 {
        let Some(Event::Unit(unit)) = reader.try_next() else { panic!("unit {seq} is not there") };
        assert_eq!(unit.descriptor.seq, seq);
    }
    assert!(reader.try_next().is_none() && !readable(&reader, 0));
    daemon.publish("cam", 6..=6, &[]);
    assert!(matches!(reader.next(SECOND), Event::Unit(_)), "and who waits in it is woken, too");
    drop(daemon);
    assert!(matches!(reader.next(SECOND), Event::Ended(_)));
    assert!(matches!(reader.next(SECOND), Event::ProducerGone));
}

#[test]
fn unknown_streams_are_refused_and_slots_come_back() {
    let mut daemon = Daemon::start("slots");
    daemon.publish("cam", 1..=3, &[1]);
    let path = daemon.path.clone();
    let reader = std::thread::spawn(move || {
        let mut reader = Reader::connect(&path, &Options { slots: 1, ..Options::default() }).unwrap();
        let unknown = reader.attach("nobody", &Join::default()).unwrap_err();
        let (key, attached) = reader.attach("cam", &Join::default()).unwrap();
        let full = reader.attach("cam", &Join::default()).unwrap_err();
        let counts = reader.detach(key).unwrap();
        let (_, again) = reader.attach("cam", &Join::new(Class::Archive, From::Oldest)).unwrap();
        let Event::Unit(unit) = reader.next(SECOND) else { panic!("no unit after the slot was reused") };
        assert_eq!(unit.descriptor.seq, 1);
        (unknown.to_string(), attached.slot, full.to_string(), counts, again.slot)
    });
    daemon.serve_until(|| reader.is_finished());
    let (unknown, slot, full, counts, again) = reader.join().unwrap();
    assert!(unknown.contains("UnknownStream"), "{unknown}");
    assert!(full.contains("Limit"), "{full}");
    assert_eq!((slot, again, counts), (0, 0, Some(Counts::default())));
    daemon.serve_until_detached(2);
    assert_eq!(daemon.publishers["cam"].counters().readers, 0, "the reader's end detached its ring");
}

#[test]
fn a_resumed_reader_loses_nothing() {
    let mut daemon = Daemon::start("resume");
    daemon.publish("cam", 1..=10, &[1, 6]);
    let epoch = daemon.publishers["cam"].epoch();
    let join = Join::new(Class::Archive, From::After { epoch, seq: 7 });
    let (mut daemon, mut reader) = daemon.attach_while_serving("cam", join);
    daemon.publish("cam", 11..=11, &[]);
    for seq in 8..=11 {
        let Event::Unit(unit) = reader.next(SECOND) else { panic!("unit {seq} did not come") };
        assert_eq!((unit.descriptor.seq, unit.lost), (seq, 0));
    }
}

#[test]
fn hostile_packets_end_their_own_connection_only() {
    let mut daemon = Daemon::start("hostile");
    daemon.publish("cam", 1..=3, &[1]);
    for packet in [&b"x"[..], &[0u8; 4096], &[1u8; 16], &[255u8; 336]] {
        let socket = connect(&daemon.path);
        let _ = ring_abi::socket::send(&socket, packet, &[], true);
    }
    let (_daemon, mut reader) = daemon.attach_while_serving("cam", Join::default());
    assert!(matches!(reader.next(SECOND), Event::Unit(_)));
}

#[test]
fn who_connects_and_says_nothing_is_turned_away_and_who_speaks_stays() {
    let limits = Limits { sessions_max: 2, hello_timeout: Duration::from_millis(300), ..Limits::default() };
    let mut daemon = Daemon::start_with("silent", limits);
    daemon.publish("cam", 1..=3, &[1]);
    let (daemon, mut reader) = daemon.attach_while_serving("cam", Join::default());
    let silent = connect(&daemon.path);
    let extra = connect(&daemon.path);
    assert!(is_hung_up(&extra), "both places are taken");
    assert!(is_hung_up(&silent), "its time is over");
    Reader::connect(&daemon.path, &Options::default()).expect("its place is free");
    assert!(matches!(reader.next(SECOND), Event::Unit(_)));
}

#[test]
fn connections_above_the_rate_wait_and_attachments_above_it_are_refused() {
    let rate = Rate::per_second(1, 5);
    let daemon = Daemon::start_with("rate", Limits { connects: rate, ..Limits::default() });
    let before = monotonic();
    for _ in 0..3 {
        Reader::connect(&daemon.path, &Options::default()).expect("it waits for its turn");
    }
    assert!(monotonic() - before >= Duration::from_millis(390), "two of them waited for 200 ms each");
    let mut daemon = Daemon::start_with("rate-attach", Limits { attaches: rate, ..Limits::default() });
    daemon.publish("cam", 1..=3, &[1]);
    let (mut daemon, mut reader) = daemon.attach_while_serving("cam", Join::default());
    let refused = std::thread::spawn(move || reader.attach("cam", &Join::default()).unwrap_err());
    daemon.serve_until(|| refused.is_finished());
    assert!(refused.join().unwrap().to_string().contains("Limit"));
}

const PARAMETER_SETS: &[u8] = &[0, 0, 0, 1, 0x67, 1, 2, 3, 0, 0, 0, 1, 0x68, 4];

fn payload(seq: u64) -> Vec<u8> {
    let len = 100 + usize::try_from(seq).unwrap() * 37;
    (0..len).map(|n| u8::try_from((n as u64 ^ seq) & 0xff).unwrap()).collect()
}

fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.try_into().unwrap()
}

/// Whether the daemon closes the connection within a bound.
fn is_hung_up(socket: &std::os::fd::OwnedFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let bound = Timespec { tv_sec: 10, tv_nsec: 0 };
    let mut watched = [PollFd::new(socket, PollFlags::IN)];
    poll(&mut watched, Some(&bound)).unwrap();
    watched[0].revents().contains(PollFlags::HUP)
}

fn connect(path: &PathBuf) -> std::os::fd::OwnedFd {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    connect(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    socket
}

/// Control layer and shard in one: answers requests, publishes units.
struct Daemon {
    publishers: BTreeMap<String, Publisher>,
    requests: Receiver<Request>,
    handle: Option<Handle>,
    path: PathBuf,
    detached: usize,
}

impl Daemon {
    fn start(name: &str) -> Self {
        Self::start_with(name, Limits::default())
    }

    fn start_with(name: &str, limits: Limits) -> Self {
        let path = std::env::temp_dir().join(format!("vms-attach-{}-{name}", std::process::id()));
        let (sender, requests): (Sender<Request>, _) = channel();
        let listener = Listener::bind(&path).unwrap();
        let handle = attach::spawn(listener, limits, 42, move |request| sender.send(request).unwrap());
        let handle = Some(handle.unwrap());
        Self { publishers: BTreeMap::new(), requests, handle, path, detached: 0 }
    }

    fn publish(&mut self, stream: &str, seqs: std::ops::RangeInclusive<u64>, keys: &[u64]) {
        let publishers = &mut self.publishers;
        let publisher = publishers
            .entry(stream.to_owned())
            .or_insert_with(|| Publisher::create(StreamUid(1), 0xfeed, 1 << 20).unwrap());
        let sets = ParameterSets {
            codec: Codec::H264,
            annex_b: PARAMETER_SETS,
            profile: 100,
            level: 40,
            width: 1920,
            height: 1080,
            frame_rate: (25, 1),
        };
        let mut touched = Bells::new();
        for seq in seqs {
            publisher.set_now(Mono(seq * 40_000_000));
            let config = publisher.configure(&sets).unwrap();
            publisher.begin();
            for part in payload(seq).chunks(33) {
                publisher.append(part).unwrap();
            }
            let nal_ends = [u32::try_from(payload(seq).len()).unwrap()];
            let flags = if keys.contains(&seq) { UnitFlags::KEY } else { UnitFlags::default() };
            publisher.commit(&unit(seq, flags, &nal_ends, config)).unwrap();
            publisher.take_touched(&mut touched);
            touched.ring(Mono(0), |_| false);
        }
    }

    /// Attaches a reader on a thread of its own while this one serves.
    fn attach_while_serving(self, stream: &'static str, join: Join) -> (Self, Reader) {
        self.attach_with(stream, join, Options::default())
    }

    fn attach_with(mut self, stream: &'static str, join: Join, options: Options) -> (Self, Reader) {
        let path = self.path.clone();
        let reader = std::thread::spawn(move || {
            let mut reader = Reader::connect(&path, &options).unwrap();
            reader.attach(stream, &join).unwrap();
            reader
        });
        self.serve_until(|| reader.is_finished());
        (self, reader.join().unwrap())
    }

    fn serve_until(&mut self, done: impl Fn() -> bool) {
        while !done() {
            self.serve_one();
        }
    }

    fn serve_until_detached(&mut self, count: usize) {
        while self.detached < count {
            self.serve_one();
        }
    }

    fn serve_one(&mut self) {
        let Ok(request) = self.requests.recv_timeout(Duration::from_millis(20)) else { return };
        let completion = match request {
            Request::Attach(pending) => match self.publishers.get_mut(pending.stream.as_str()) {
                Some(publisher) => attach(publisher, &pending),
                None => Completion::Refused {
                    ring: pending.ring,
                    code: RefusalCode::UnknownStream,
                    text: "no such stream".into(),
                },
            },
            Request::Detach { ring, stream } => {
                self.detached += 1;
                let publisher = self.publishers.values_mut().find(|p| p.uid() == stream);
                assert!(publisher.unwrap().detach(ring).is_some());
                Completion::Detached { ring }
            }
        };
        self.handle.as_ref().unwrap().complete(completion);
    }
}

fn attach(publisher: &mut Publisher, pending: &attach::PendingAttach) -> Completion {
    assert_eq!(pending.stream, StreamId::new("cam").unwrap());
    let (ring, ring_fd) = pending.make_ring(publisher.uid(), publisher.epoch()).unwrap();
    let joined = publisher.attach(ring);
    Completion::Attached {
        ring: pending.ring,
        stream: publisher.uid(),
        epoch: publisher.epoch(),
        joined,
        stream_fd: publisher.fd(),
        ring_fd,
    }
}

fn unit<'a>(
    seq: u64,
    flags: UnitFlags,
    nal_ends: &'a [u32],
    config: vms_media::codec::ConfigId,
) -> AccessUnit<'a> {
    AccessUnit {
        nal_ends,
        flags,
        config: Some(config),
        media_ticks: i64::try_from(seq).unwrap() * 3600,
        timeline: 0,
        lost_packets: 0,
        received: Mono(seq * 40_000_000),
        wall: UnixNanos(0),
        wall_error_us: u32::MAX,
        clock_source: ClockSource::Receive,
        rtp_timestamp: 0,
        ssrc: 7,
        first_rtp_sequence: 0,
        last_rtp_sequence: 0,
    }
}
