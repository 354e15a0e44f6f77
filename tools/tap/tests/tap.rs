//! The program against a producer of the test's own: what it prints, writes and returns.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failing test may panic anywhere")]

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::thread::JoinHandle;

use ring_abi::handshake::{MESSAGE_LEN_MAX, RefusalCode};
use ring_abi::layout::{Codec, Flags};
use ring_abi::producer::{Configuration, Producer, ReaderRing, Session, TrackSpec, Unit};
use ring_abi::server::{Connection, Received, Request};
use ring_abi::socket::{receive, send};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
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
fn an_unknown_stream_and_a_missing_daemon_fail() {
    let daemon = Daemon::start("unknown", Vec::new());
    assert_eq!(daemon.tap(&["other"]).status.code(), Some(1));
    let output = tap(Path::new("/nonexistent/ring.sock"), &["cam"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nonexistent/ring.sock"));
}

/// Stamped access units; the first is a key frame without parameter sets.
fn units(counters: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    counters
        .map(|counter| {
            let slice = [if counter == 0 { 0x65 } else { 0x41 }, 0x88, counter.to_le_bytes()[0], 0xff];
            let mut stamp = StampNal::new(vms_stamp::Codec::H264, unit_crc([&slice[..]]));
            stamp.patch(counter, 1_000 + counter);
            [&[0, 0, 0, 1], stamp.bytes(), &[0, 0, 0, 1], &slice].concat()
        })
        .collect()
}

/// A producer with one stream called "cam", for one reader.
struct Daemon {
    directory: PathBuf,
    thread: Option<JoinHandle<()>>,
}

impl Daemon {
    fn start(name: &str, units: Vec<Vec<u8>>) -> Self {
        let directory = std::env::temp_dir().join(format!("vms-tap-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let socket = directory.join("ring.sock");
        let listener =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .unwrap();
        rustix::net::bind(&listener, &SocketAddrUnix::new(&socket).unwrap()).unwrap();
        rustix::net::listen(&listener, 1).unwrap();
        let thread = std::thread::spawn(move || serve(&listener, &mut publish(&units)));
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
    let program = env!("CARGO_BIN_EXE_vms-tap");
    Command::new(program).arg("--ring-socket").arg(socket).args(arguments).output().unwrap()
}

/// A stream that holds `units`.
fn publish(units: &[Vec<u8>]) -> Producer {
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
    for (index, bytes) in units.iter().enumerate() {
        producer.begin(0);
        producer.append(0, bytes).unwrap();
        let flags = if index == 0 { Flags::KEY } else { Flags::default() };
        let unit = Unit { flags, config_id, timeline: 1, recv_mono_ns: mono_ns(), ..Unit::default() };
        producer.commit(0, &unit, &[], mono_ns()).unwrap();
    }
    producer
}

/// Answers one reader until it goes.
fn serve(listener: &OwnedFd, producer: &mut Producer) {
    let socket = rustix::net::accept(listener).unwrap();
    let mut connection = Connection::new();
    let mut buffer = [0; MESSAGE_LEN_MAX];
    loop {
        let len = receive(&socket, &mut buffer, true).map_or(0, |packet| packet.len);
        if len == 0 {
            return;
        }
        match connection.receive(&buffer[..len]) {
            Received::Request(request) => answer(&socket, &mut connection, producer, request),
            Received::Reply(packet) | Received::Violation(packet) => {
                send(&socket, packet.as_bytes(), &[], true).unwrap();
            }
        }
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
