//! A shard with its thread and real sockets, and cameras that are a few lines of script.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::*;
use crate::ids::{StreamId, StreamUid};
use crate::ingest::{CameraConfig, Policy, Reason, State, Status};
use crate::io;
use crate::publish::Publisher;
use crate::rtsp::CameraUrl;

#[test]
fn a_refused_camera_is_told_of() {
    let mut shard = Running::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    shard.add(1, &format!("rtsp://127.0.0.1:{port}/x"));
    let status = shard.status(1, |status| status.state == State::Backoff);
    assert_eq!(status.reason, Reason::ConnectRefused);
}

#[test]
fn a_camera_that_hangs_up_does_not_disturb_another() {
    let mut shard = Running::new();
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

#[test]
fn names_are_asked_for_and_answers_are_used() {
    let mut shard = Running::new();
    let peer = Peer::new();
    shard.add(1, "rtsp://camera.invalid:1554/x");
    let event = shard.until(|event| matches!(event, Event::Resolve { .. }));
    let Event::Resolve { uid, host, port, attempt } = event else { unreachable!() };
    assert_eq!((uid, host.as_str(), port), (StreamUid(1), "camera.invalid", 1554));
    shard.send(Command::Resolved { uid, attempt: attempt + 1, answer: Err("for somebody else".into()) });
    shard.send(Command::Resolved { uid, attempt, answer: Ok(vec![peer.address]) });
    assert!(peer.accept().request().starts_with("OPTIONS "));
}

#[test]
fn a_removed_stream_closes_its_connection_and_says_goodbye() {
    let mut shard = Running::new();
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

#[test]
fn a_restart_does_not_wait_for_the_back_off() {
    let mut shard = Running::new();
    let peer = Peer::new();
    shard.add(1, &peer.url());
    drop(peer.accept());
    let status = shard.status(1, |status| status.state == State::Backoff);
    assert!(status.next_attempt.is_some());
    shard.send(Command::Restart { uid: StreamUid(1) });
    assert!(peer.accept().request().starts_with("OPTIONS "));
}

#[test]
fn counters_come_by_themselves() {
    let mut shard = Running::new();
    shard.add(1, "rtsp://127.0.0.1:9/x");
    shard.until(|event| matches!(event, Event::Stats { uid: StreamUid(1), .. }));
    shard.until(|event| matches!(event, Event::Stats { uid: StreamUid(1), .. }));
}

#[test]
fn shutting_down_removes_everything_and_ends_the_thread() {
    let mut shard = Running::new();
    let peer = Peer::new();
    shard.add(1, &peer.url());
    let _session = peer.accept();
    shard.send(Command::Shutdown);
    shard.until(|event| matches!(event, Event::Removed { uid: StreamUid(1), .. }));
    shard.join();
}

#[test]
fn a_shard_that_nobody_commands_ends() {
    let mut shard = Running::new();
    shard.add(1, &Peer::new().url());
    shard.join();
}

/// A shard, its control thread being the test.
struct Running {
    handle: ShardHandle,
}

impl Running {
    fn new() -> Self {
        let config = ShardConfig {
            index: 0,
            core: core_affinity::get_core_ids().and_then(|cores| cores.first().copied()),
            latency: Duration::from_micros(500),
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
            publisher: Box::new(Publisher::create(StreamUid(uid), 1, 64 * 1024).unwrap()),
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
fn hang_up(mut session: Session) {
    session.request();
}

/// A camera's listening socket.
struct Peer {
    listener: TcpListener,
    address: SocketAddr,
}

struct Session {
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

    fn accept(&self) -> Session {
        let (stream, _) = self.listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Session { reader: BufReader::new(stream.try_clone().unwrap()), stream }
    }
}

impl Session {
    /// One request, to its empty line.
    fn request(&mut self) -> String {
        let mut request = String::new();
        while !request.ends_with("\r\n\r\n") {
            assert_ne!(self.reader.read_line(&mut request).unwrap(), 0, "closed after {request:?}");
        }
        request
    }
}
