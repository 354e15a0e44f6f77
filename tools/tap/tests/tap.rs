//! The program against a producer of the test's own: what it prints, writes and returns.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failing test may panic anywhere")]

use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use ring_abi::handshake::{MESSAGE_LEN_MAX, RefusalCode};
use ring_abi::layout::{Codec, Flags};
use ring_abi::producer::{Configuration, Producer, ReaderRing, Session, TrackSpec, Unit};
use ring_abi::server::{Connection, Received, Request};
use ring_abi::socket::{receive, send};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};
use vms_stamp::{StampNal, unit_crc};

const EPOCH: u64 = 77;
const SETS: &[u8] = &[0, 0, 0, 1, 0x67, 0x42, 1, 2, 0, 0, 0, 1, 0x68, 3];

#[test]
fn a_line_for_each_record_and_a_summary() {
    let daemon = Daemon::start("json", units(0..10));
    let output = daemon.tap(&["cam", "--from", "oldest", "--json", "--count", "10"]);
    assert!(output.status.success(), "{output:?}");
    let lines: Vec<serde_json::Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (summary, records) = lines.split_last().unwrap();
    assert_eq!(records.len(), 10);
    let fields: Vec<&str> = records[0].as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = vec![
        "id",
        "seq",
        "pts_ns",
        "media_ticks",
        "rtp_ts",
        "recv_mono_ns",
        "pub_mono_ns",
        "wall_utc_ns",
        "len",
        "key",
        "flags",
        "gap",
        "timeline",
        "config_id",
        "crc32",
        "lost_packets",
    ];
    // serde_json reads objects into sorted maps.
    expected.sort_unstable();
    assert_eq!(fields, expected);
    for (record, (seq, unit)) in records.iter().zip((1..).zip(units(0..10))) {
        assert_eq!((record["id"].as_str(), record["seq"].as_u64()), (Some("cam"), Some(seq)));
        assert_eq!(record["crc32"], crc32fast::hash(&unit));
        assert_eq!((record["gap"].as_u64(), record["timeline"].as_u64()), (Some(0), Some(1)));
    }
    assert_eq!(records[0]["key"], true);
    assert_eq!((&summary["type"], &summary["streams"][0]["units"]), (&"summary".into(), &10.into()));
}

#[test]
fn the_summary_alone() {
    let daemon = Daemon::start("summary", units(0..10));
    let output = daemon.tap(&["cam", "--from", "oldest", "--summary", "--count", "10"]);
    assert!(output.status.success(), "{output:?}");
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&summary["type"], &summary["streams"][0]["units"]), (&"summary".into(), &10.into()));
    assert!(summary.get("latency").is_none(), "without --stamp nothing was timed");
}

#[test]
fn the_file_starts_with_parameter_sets() {
    let daemon = Daemon::start("annexb", units(0..4));
    let file = daemon.directory.join("cam.h264");
    let template = daemon.directory.join("{id}.h264");
    let template = template.to_str().unwrap();
    let output = daemon.tap(&["cam", "--from", "oldest", "--annexb", template, "--idle-exit", "0.3"]);
    assert!(output.status.success(), "{output:?}");
    let expected = [SETS.to_vec(), units(0..4).concat()].concat();
    assert_eq!(std::fs::read(file).unwrap(), expected);
}

#[test]
fn good_stamps_pass() {
    let daemon = Daemon::start("good", units(0..10));
    let output = daemon.tap(&["cam", "--from", "oldest", "--stamp", "--idle-exit", "0.3"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && text.contains("stamps: 10 good, 0 missing"), "{text}");
}

#[test]
fn a_missing_or_changed_unit_fails() {
    let absent = [units(0..3), units(4..9)].concat();
    let mut corrupt = units(0..9);
    *corrupt[5].last_mut().unwrap() ^= 1;
    for (name, bad, words) in [("absent", absent, "1 absent"), ("corrupt", corrupt, "1 corrupt")] {
        let daemon = Daemon::start(name, bad);
        let output = daemon.tap(&["cam", "--from", "oldest", "--stamp", "--idle-exit", "0.3"]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(words), "{text}");
    }
}

#[test]
fn latencies_are_counted_anew_when_asked_for() {
    let (publish, live) = mpsc::channel();
    let daemon = Daemon::start_live("latency", live);
    let mut tap = command(&daemon.directory.join("ring.sock"), &["cam", "--stamp", "--json", "--count", "3"]);
    let mut tap = tap.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(tap.stdout.take().unwrap()).lines();
    // Sent when the clock began, so that its latency is that of all the time since.
    publish.send(stamped(0, 1_000)).unwrap();
    lines.next().expect("the first unit").unwrap();
    kill_process(Pid::from_child(&tap), Signal::USR1).unwrap();
    for counter in 1..3 {
        publish.send(stamped(counter, mono_ns())).unwrap();
        lines.next().expect("a unit").unwrap();
    }
    drop(publish);
    let summary: serde_json::Value =
        serde_json::from_str(&lines.next().expect("a summary").unwrap()).unwrap();
    assert!(tap.wait().unwrap().success());
    assert_eq!(summary["streams"][0]["stamps"]["good"], 3, "counts go on: {summary}");
    let max_us = summary["latency"]["max_us"].as_f64().expect("units were timed");
    let since_boot_us = mono_ns() / 1000;
    assert!(max_us < 10e6 && since_boot_us > 20_000_000, "{summary}");
}

#[test]
fn an_unknown_stream_and_a_missing_daemon_fail() {
    let daemon = Daemon::start("unknown", Vec::new());
    assert_eq!(daemon.tap(&["other"]).status.code(), Some(1));
    let output = tap(Path::new("/nonexistent/ring.sock"), &["cam"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nonexistent/ring.sock"));
}

/// Stamped access units; the first is a key frame without parameter sets.
fn units(counters: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    counters.map(|counter| stamped(counter, 1_000 + counter)).collect()
}

fn stamped(counter: u64, send_mono_ns: u64) -> Vec<u8> {
    let slice = [if counter == 0 { 0x65 } else { 0x41 }, 0x88, counter.to_le_bytes()[0], 0xff];
    let mut stamp = StampNal::new(vms_stamp::Codec::H264, unit_crc([&slice[..]]));
    stamp.patch(counter, send_mono_ns);
    [&[0, 0, 0, 1], stamp.bytes(), &[0, 0, 0, 1], &slice].concat()
}

/// A producer with one stream called "cam", for one reader.
struct Daemon {
    directory: PathBuf,
    thread: Option<JoinHandle<()>>,
}

impl Daemon {
    /// All of them are there before the reader comes.
    fn start(name: &str, units: Vec<Vec<u8>>) -> Self {
        Self::listen(name, move |listener| {
            let mut stream = Published::new();
            units.iter().for_each(|unit| stream.publish(unit));
            let mut reader = Served::accept(listener);
            while reader.serve(&mut stream.producer) {}
        })
    }

    /// Publishes what is sent to it, once the reader has attached.
    fn start_live(name: &str, units: mpsc::Receiver<Vec<u8>>) -> Self {
        Self::listen(name, move |listener| {
            let mut stream = Published::new();
            let mut reader = Served::accept(listener);
            while !reader.is_attached && reader.serve(&mut stream.producer) {}
            units.iter().for_each(|unit| stream.publish(&unit));
            while reader.serve(&mut stream.producer) {}
        })
    }

    fn listen(name: &str, serve: impl FnOnce(&OwnedFd) + Send + 'static) -> Self {
        let directory = std::env::temp_dir().join(format!("vms-tap-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let socket = directory.join("ring.sock");
        let listener =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .unwrap();
        rustix::net::bind(&listener, &SocketAddrUnix::new(&socket).unwrap()).unwrap();
        rustix::net::listen(&listener, 1).unwrap();
        let thread = std::thread::spawn(move || serve(&listener));
        Self { directory, thread: Some(thread) }
    }

    fn tap(&self, arguments: &[&str]) -> Output {
        tap(&self.directory.join("ring.sock"), arguments)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let served = self.thread.take().is_none_or(|thread| thread.join().is_ok());
        let _ = std::fs::remove_dir_all(&self.directory);
        assert!(served || std::thread::panicking(), "the test's own producer failed");
    }
}

fn tap(socket: &Path, arguments: &[&str]) -> Output {
    command(socket, arguments).output().unwrap()
}

fn command(socket: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vms-tap"));
    command.arg("--ring-socket").arg(socket).args(arguments);
    command
}

/// The stream.
struct Published {
    producer: Producer,
    config_id: u32,
    is_any: bool,
}

impl Published {
    fn new() -> Self {
        let mut producer = Producer::create(1, EPOCH, &[TrackSpec::video(1 << 20)]).unwrap();
        let configuration = Configuration {
            codec: Codec::H264,
            data: SETS,
            profile: 66,
            level: 30,
            width: 640,
            height: 360,
            frame_rate: (25, 1),
        };
        let config_id = producer.configure(0, &configuration).unwrap();
        Self { producer, config_id, is_any: false }
    }

    fn publish(&mut self, bytes: &[u8]) {
        self.producer.begin(0);
        self.producer.append(0, bytes).unwrap();
        let flags = if self.is_any { Flags::default() } else { Flags::KEY };
        self.is_any = true;
        let unit = Unit {
            flags,
            config_id: self.config_id,
            timeline: 1,
            recv_mono_ns: mono_ns(),
            ..Unit::default()
        };
        self.producer.commit(0, &unit, &[], mono_ns()).unwrap();
    }
}

/// The one reader.
struct Served {
    socket: OwnedFd,
    connection: Connection,
    is_attached: bool,
}

impl Served {
    fn accept(listener: &OwnedFd) -> Self {
        let socket = rustix::net::accept(listener).unwrap();
        Self { socket, connection: Connection::new(), is_attached: false }
    }

    /// Answers its next message; false when it has gone.
    fn serve(&mut self, producer: &mut Producer) -> bool {
        let mut buffer = [0; MESSAGE_LEN_MAX];
        let len = receive(&self.socket, &mut buffer, true).map_or(0, |packet| packet.len);
        if len == 0 {
            return false;
        }
        match self.connection.receive(&buffer[..len]) {
            Received::Request(request) => {
                self.is_attached |= matches!(request, Request::Attach { .. });
                answer(&self.socket, &mut self.connection, producer, request);
            }
            Received::Reply(packet) | Received::Violation(packet) => {
                send(&self.socket, packet.as_bytes(), &[], true).unwrap();
            }
        }
        true
    }
}

fn answer(socket: &OwnedFd, connection: &mut Connection, producer: &mut Producer, request: Request) {
    match request {
        Request::Hello(hello) => {
            let session = Session::create(1, EPOCH, hello.slots).unwrap();
            let packet = connection.welcome(Arc::clone(&session), EPOCH);
            send(socket, packet.as_bytes(), &session.fds(), true).unwrap();
        }
        Request::Attach { slot, attach } if attach.stream.as_str() == "cam" => {
            let session = connection.session().expect("HELLO came first").clone();
            let (ring, ring_fd) = ReaderRing::create(1, EPOCH, &attach.join, &session, slot).unwrap();
            let joined = producer.attach(ring, mono_ns());
            let packet = connection.attached(slot, 1, EPOCH, joined).unwrap();
            send(socket, packet.as_bytes(), &[producer.fd().as_fd(), ring_fd.as_fd()], true).unwrap();
        }
        Request::Attach { slot, .. } => {
            let code = RefusalCode::UnknownStream;
            let packet = connection.refused(slot, code, "no such stream").unwrap();
            send(socket, packet.as_bytes(), &[], true).unwrap();
        }
        Request::Detach { .. } | Request::Bye => {}
    }
}

fn mono_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap()
}
