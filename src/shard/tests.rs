//! A shard with its thread and real sockets, and cameras that are a few lines of script.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::time::Duration;

use ring_abi::join::Join;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::*;
use crate::ids::{StreamId, StreamUid};
use crate::ingest::{CameraConfig, Policy, Reason, State, Status};
use crate::io::{self, BackendKind, on_both};
use crate::publish::{Publisher, ReaderRing, Session};
use crate::rtsp::CameraUrl;

const EPOCH: u64 = 77;

const SDP: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n\
    a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1;\
    sprop-parameter-sets=Z0LAHtkA2D3n4QAAAwABAAADADIPFi5I,aMuMsg==\r\na=control:t0\r\n";

on_both![
    a_refused_camera_is_told_of,
    a_camera_that_hangs_up_does_not_disturb_another,
    a_bug_at_one_camera_is_that_cameras_alone,
    names_are_asked_for_and_answers_are_used,
    a_removed_stream_closes_its_connection_and_says_goodbye,
    a_restart_does_not_wait_for_the_back_off,
    others_wait_while_a_camera_is_connected_to,
    access_units_reach_a_reader,
    readers_of_a_stream_that_is_gone_are_answered,
    counters_come_by_themselves,
    shutting_down_removes_everything_and_ends_the_thread,
    a_shard_that_nobody_commands_ends,
];

fn a_refused_camera_is_told_of(kind: BackendKind) {
    let mut shard = Running::new(kind);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    shard.add(1, &format!("rtsp://127.0.0.1:{port}/x"));
    let status = shard.status(1, |status| status.state == State::Backoff);
    assert_eq!(status.reason, Reason::ConnectRefused);
}

fn a_camera_that_hangs_up_does_not_disturb_another(kind: BackendKind) {
    let mut shard = Running::new(kind);
    let (good, bad) = (Peer::new(), Peer::new());
    shard.add(1, &good.url());
    shard.add(2, &bad.url());
    let mut good = good.accept();
    assert!(good.request().starts_with("OPTIONS "));
    hang_up(bad.accept());
    assert_eq!(shard.status(2, |status| status.state == State::Backoff).reason, Reason::ConnectionClosed);
    good.stream.write_all(b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n").unwrap();
    assert!(good.request().starts_with("DESCRIBE "));
}

fn a_bug_at_one_camera_is_that_cameras_alone(kind: BackendKind) {
    let mut shard = Running::new(kind);
    let (good, bad) = (Peer::new(), Peer::new());
    shard.add(1, &good.url());
    shard.add(2, &bad.url());
    let (mut steady, mut first) = (good.accept(), bad.accept());
    steady.play();
    first.play();
    steady.send_unit(0);
    first.send_unit(0);
    steady.send_unit(1);
    first.stream.write_all(stream::PLANTED).unwrap();
    let status = shard.status(2, |status| status.state == State::Backoff);
    assert_eq!(status.reason, Reason::InternalError);
    assert!(status.next_attempt.is_some() && status.detail.contains("report"), "{status:?}");
    first.wait_for_end();
    // It comes back, fails again, and waits longer.
    let mut second = bad.accept();
    second.play();
    second.stream.write_all(stream::PLANTED).unwrap();
    shard.status(2, |status| status.state == State::Backoff && status.reason == Reason::InternalError);
    for number in 2..50 {
        steady.send_unit(number);
    }
    let told = shard.until(
        |event| matches!(event, Event::Stats { uid: StreamUid(1), stats, .. } if stats.published.units == 50),
    );
    let Event::Stats { stats, .. } = told else { unreachable!() };
    let camera = stats.camera;
    assert_eq!(
        (camera.failures, camera.lost_packets, camera.damaged_units, camera.skipped_bytes),
        (0, 0, 0, 0)
    );
}

fn names_are_asked_for_and_answers_are_used(kind: BackendKind) {
    let mut shard = Running::new(kind);
    let peer = Peer::new();
    shard.add(1, "rtsp://camera.invalid:1554/x");
    let event = shard.until(|event| matches!(event, Event::Resolve { .. }));
    let Event::Resolve { uid, host, port, attempt } = event else { unreachable!() };
    assert_eq!((uid, host.as_str(), port), (StreamUid(1), "camera.invalid", 1554));
    shard.send(Command::Resolved { uid, attempt: attempt + 1, answer: Err("for somebody else".into()) });
    shard.send(Command::Resolved { uid, attempt, answer: Ok(vec![peer.address]) });
    assert!(peer.accept().request().starts_with("OPTIONS "));
}

fn a_removed_stream_closes_its_connection_and_says_goodbye(kind: BackendKind) {
    let mut shard = Running::new(kind);
    let peer = Peer::new();
    shard.add(1, &peer.url());
    let mut session = peer.accept();
    session.request();
    shard.send(Command::Remove { uid: StreamUid(1) });
    shard.until(|event| matches!(event, Event::Removed { uid: StreamUid(1), .. }));
    let mut rest = String::new();
    session.reader.read_line(&mut rest).unwrap();
    assert_eq!(rest, "", "the connection is closed");
}

fn a_restart_does_not_wait_for_the_back_off(kind: BackendKind) {
    let mut shard = Running::new(kind);
    let peer = Peer::new();
    shard.add(1, &peer.url());
    drop(peer.accept());
    let status = shard.status(1, |status| status.state == State::Backoff);
    assert!(status.next_attempt.is_some());
    shard.send(Command::Restart { uid: StreamUid(1) });
    assert!(peer.accept().request().starts_with("OPTIONS "));
}

fn others_wait_while_a_camera_is_connected_to(kind: BackendKind) {
    let mut shard = Running::with_connects(kind, NonZeroUsize::MIN);
    let peers = [Peer::new(), Peer::new(), Peer::new()];
    for (uid, peer) in (1..).zip(&peers) {
        shard.add(uid, &peer.url());
    }
    let [first, second, third] = &peers;
    let mut camera = first.accept();
    camera.play();
    camera.send_unit(0);
    camera.send_unit(1);
    hang_up(second.accept());
    third.accept();
    // Each began when the one before was through: streaming, or failed.
    let mut told = Vec::new();
    while !told.contains(&(3, State::Connecting)) {
        let event = shard.until(|event| matches!(event, Event::Status { .. }));
        let Event::Status { uid, status } = event else { unreachable!() };
        told.push((uid.0, status.state));
    }
    let at = |what| told.iter().position(|told| *told == what);
    assert!(at((1, State::Streaming)) < at((2, State::Connecting)), "{told:?}");
    assert!(at((2, State::Backoff)) < at((3, State::Connecting)), "{told:?}");

    // Somebody who asks for a camera by name does not wait behind the third, which is silent.
    shard.send(Command::Restart { uid: StreamUid(2) });
    second.accept();
    // A stream that waits can be removed.
    shard.add(4, &first.url());
    shard.send(Command::Remove { uid: StreamUid(4) });
    shard.until(|event| matches!(event, Event::Removed { uid: StreamUid(4), .. }));
}

fn access_units_reach_a_reader(kind: BackendKind) {
    let mut shard = Running::new(kind);
    let peer = Peer::new();
    shard.add(1, &peer.url());
    let mut camera = peer.accept();
    camera.play();
    let reader = Session::create(1, 1, 4).unwrap();
    let ring = ReaderRing::create(1, EPOCH, &Join::default(), &reader, 0).unwrap().0;
    let id = ring.id();
    shard.send(Command::Attach { uid: StreamUid(1), ring: Box::new(ring) });
    let attached = shard.until(|event| matches!(event, Event::Attached { .. }));
    assert!(matches!(attached, Event::Attached { ring, joined, .. } if ring == id && joined.last_seq == 0));
    for number in 0..50 {
        camera.send_unit(number);
    }
    shard.status(1, |status| status.state == State::Streaming);
    let told =
        shard.until(|event| matches!(event, Event::Stats { stats, .. } if stats.published.units == 50));
    let Event::Stats { stats, .. } = told else { unreachable!() };
    assert_eq!(
        (stats.published.keyframes, stats.published.readers, stats.published.readers_behind),
        (1, 1, 0)
    );
    assert_eq!((stats.camera.units, stats.camera.lost_packets, stats.camera.packets), (50, 0, 50));
    shard.send(Command::Detach { uid: StreamUid(1), ring: id });
    let detached = shard.until(|event| matches!(event, Event::Detached { .. }));
    assert!(matches!(detached, Event::Detached { ring: Some(ring), .. } if ring.id() == id));
}

fn readers_of_a_stream_that_is_gone_are_answered(kind: BackendKind) {
    let mut shard = Running::new(kind);
    let reader = Session::create(1, 1, 4).unwrap();
    let ring = ReaderRing::create(7, EPOCH, &Join::default(), &reader, 0).unwrap().0;
    let id = ring.id();
    shard.send(Command::Attach { uid: StreamUid(7), ring: Box::new(ring) });
    shard.send(Command::Detach { uid: StreamUid(7), ring: id });
    shard.until(|event| matches!(event, Event::NotAttached { id: ours, ring: Some(_), .. } if *ours == id));
    shard.until(|event| matches!(event, Event::Detached { ring: None, .. }));
}

fn counters_come_by_themselves(kind: BackendKind) {
    let mut shard = Running::new(kind);
    shard.add(1, "rtsp://127.0.0.1:9/x");
    shard.until(|event| matches!(event, Event::Stats { uid: StreamUid(1), .. }));
    shard.until(|event| matches!(event, Event::Stats { uid: StreamUid(1), .. }));
}

fn shutting_down_removes_everything_and_ends_the_thread(kind: BackendKind) {
    let mut shard = Running::new(kind);
    let peer = Peer::new();
    shard.add(1, &peer.url());
    let _session = peer.accept();
    shard.send(Command::Shutdown);
    shard.until(|event| matches!(event, Event::Removed { uid: StreamUid(1), .. }));
    shard.join();
}

fn a_shard_that_nobody_commands_ends(kind: BackendKind) {
    let mut shard = Running::new(kind);
    shard.add(1, &Peer::new().url());
    shard.join();
}

/// A shard, its control thread being the test.
struct Running {
    handle: ShardHandle,
}

impl Running {
    fn new(kind: BackendKind) -> Self {
        Self::with_connects(kind, NonZeroUsize::MAX)
    }

    fn with_connects(kind: BackendKind, connects_at_once: NonZeroUsize) -> Self {
        let config = ShardConfig {
            index: 0,
            core: core_affinity::get_core_ids().and_then(|cores| cores.first().copied()),
            latency: Duration::from_micros(500),
            connects: Connects::new(connects_at_once),
            backend: kind,
            io: io::Config { sockets_max: 16, ..io::Config::default() },
        };
        Self { handle: spawn(config).unwrap() }
    }

    fn add(&mut self, uid: u64, url: &str) {
        let (url, credentials) = CameraUrl::parse(url).unwrap();
        self.send(Command::Add(Box::new(NewStream {
            uid: StreamUid(uid),
            id: StreamId::new(&format!("cam-{uid}")).unwrap(),
            camera: CameraConfig { url, credentials, policy: Policy::default() },
            seed: uid,
            publisher: Box::new(Publisher::create(StreamUid(uid), EPOCH, 1024 * 1024).unwrap()),
        })));
    }

    fn send(&mut self, command: Command) {
        self.handle.commands.send(command).unwrap();
    }

    /// The next event that is `wanted`; others are dropped.
    fn until(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        loop {
            while let Some(event) = self.handle.events.next_event() {
                if wanted(&event) {
                    return event;
                }
            }
            let bound = Timespec { tv_sec: 10, tv_nsec: 0 };
            let mut fds = [PollFd::new(&self.handle.events, PollFlags::IN)];
            assert_eq!(poll(&mut fds, Some(&bound)).unwrap(), 1, "nothing happened");
            self.handle.events.clear_bell();
        }
    }

    fn status(&mut self, of: u64, wanted: impl Fn(&Status) -> bool) -> Status {
        let event = self
            .until(|event| matches!(event, Event::Status { uid, status } if uid.0 == of && wanted(status)));
        let Event::Status { status, .. } = event else { unreachable!() };
        status
    }

    /// Drops the commands and waits for the end.
    fn join(self) {
        let ShardHandle { commands, events: _events, thread } = self.handle;
        drop(commands);
        thread.join().unwrap();
    }
}

/// Closes without a reset: everything that was sent has been read.
fn hang_up(mut session: Rtsp) {
    session.request();
}

/// A camera's listening socket.
struct Peer {
    listener: TcpListener,
    address: SocketAddr,
}

struct Rtsp {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Peer {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    fn url(&self) -> String {
        format!("rtsp://{}/x", self.address)
    }

    fn accept(&self) -> Rtsp {
        let (stream, _) = self.listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Rtsp { reader: BufReader::new(stream.try_clone().unwrap()), stream }
    }
}

impl Rtsp {
    /// One request, to its empty line.
    fn request(&mut self) -> String {
        let mut request = String::new();
        while !request.ends_with("\r\n\r\n") {
            assert_ne!(self.reader.read_line(&mut request).unwrap(), 0, "closed after {request:?}");
        }
        request
    }

    /// Waits until the other end has gone.
    fn wait_for_end(&mut self) {
        while self.reader.read_line(&mut String::new()).is_ok_and(|len| len > 0) {}
    }

    /// Answers everything up to PLAY.
    fn play(&mut self) {
        loop {
            let request = self.request();
            let sequence = request.lines().find(|line| line.starts_with("CSeq")).unwrap().to_owned();
            let method = request.split(' ').next().unwrap().to_owned();
            let (header, body) = match method.as_str() {
                "DESCRIBE" => ("Content-Type: application/sdp\r\n", SDP),
                "SETUP" => ("Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n", ""),
                _ => ("Session: 1\r\n", ""),
            };
            let len = body.len();
            write!(
                self.stream,
                "RTSP/1.0 200 OK\r\n{sequence}\r\n{header}Content-Length: {len}\r\n\r\n{body}"
            )
            .unwrap();
            if method == "PLAY" {
                return;
            }
        }
    }

    /// One access unit in one packet: the first an IDR picture, the others not.
    fn send_unit(&mut self, number: u16) {
        let nal = if number == 0 { 0x65 } else { 0x41 };
        let mut packet = vec![0x80, 0x80 | 96];
        packet.extend(number.to_be_bytes());
        packet.extend((u32::from(number) * 3600).to_be_bytes());
        packet.extend([0, 0, 0, 9, nal, 0x88]);
        packet.extend([0x5A; 1000]);
        let len = u16::try_from(packet.len()).unwrap();
        self.stream.write_all(&[b'$', 0, len.to_be_bytes()[0], len.to_be_bytes()[1]]).unwrap();
        self.stream.write_all(&packet).unwrap();
    }
}
