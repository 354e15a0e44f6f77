//! Promise: a camera that sends without end costs the daemon's memory nothing, however much it sends: 100 MiB and 300 MiB of
//! each attack leave no more than 8 MiB of private memory behind, at any time, and a stream beside it loses nothing.
//!
//! A client that gathers what it is sent grows with it: 134 MB and 528 MB, measured with another.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Pid;
use support::{Lab, SOON, Tap, assert_flawless};

const MIB: u64 = 1024 * 1024;
const GROWTH_MAX: u64 = 8 * MIB;
/// Between two looks at the daemon's memory.
const LOOK: Duration = Duration::from_millis(5);

#[derive(Clone, Copy, Debug)]
enum Attack {
    /// An H.264 FU-A that starts and never ends, all of one timestamp.
    FragmentsH264,
    /// The same as an H.265 FU.
    FragmentsH265,
    /// A description of 99,999,999,999 bytes.
    Body,
    /// A header line that never ends.
    Header,
}

#[test]
fn an_h264_unit_without_end() {
    endure(Attack::FragmentsH264);
}

#[test]
fn an_h265_unit_without_end() {
    endure(Attack::FragmentsH265);
}

#[test]
fn a_body_without_end() {
    endure(Attack::Body);
}

#[test]
fn a_header_line_without_end() {
    endure(Attack::Header);
}

fn endure(attack: Attack) {
    let lab = Lab::new(&format!("{attack:?}").to_lowercase());
    // The amount is the point here, not the time.
    let file = lab.path("vms-media.toml");
    fs::write(&file, "[camera]\nmax_mbit_s = 100000\n").unwrap();
    let daemon = lab.daemon(&["--shards", "1", "--config", &file]);
    let good = lab.cameras(&[]);
    lab.setup("good", &good.url("h264"));
    let mut tap: Tap = lab.tap(&["--stamp", "--json", "--from", "oldest", "good"]).into();
    tap.take_records(25, SOON);
    let attacker = Attacker::listen(attack);
    let before = private_bytes(daemon.pid());
    let peak = Peak::of(daemon.pid());

    let mut watch = lab.watch();
    lab.setup("bad", &format!("rtsp://{}/x", attacker.address));
    for amount in [100 * MIB, 300 * MIB] {
        attacker.sent.store(0, Ordering::Relaxed);
        while attacker.sent.load(Ordering::Relaxed) < amount {
            // The daemon hangs up each time; an operator without patience brings it back.
            let stream = watch.next_state("bad", "backoff");
            assert_eq!(stream["reason"], "limit_exceeded", "{stream:#}");
            lab.ctl_json(&["restart", "bad"]);
        }
        let grown = peak.bytes().saturating_sub(before);
        assert!(grown <= GROWTH_MAX, "{attack:?}: {grown} bytes after {} MiB", amount / MIB);
    }
    assert!(peak.looks() > 20, "{} looks", peak.looks());

    lab.ctl(&["teardown", "good"]);
    let status = tap.process.wait_for_end(SOON);
    assert!(status.success(), "vms-tap: {status}");
    assert_flawless("good", &tap.summaries()["good"]);
}

/// A camera that attacks whoever connects.
struct Attacker {
    address: String,
    /// Bytes that the daemon's kernel took of the attack.
    sent: Arc<AtomicU64>,
}

impl Attacker {
    fn listen(attack: Attack) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let sent = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&sent);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                serve(attack, &client, &counter);
            }
        });
        Self { address, sent }
    }
}

/// Answers requests until it is time to attack, then attacks until the client has gone.
fn serve(attack: Attack, mut client: &TcpStream, sent: &AtomicU64) {
    let mut lines = BufReader::new(client).lines().map_while(Result::ok);
    while let Some(request) = lines.next() {
        let Some(sequence) = lines.find_map(|line| line.strip_prefix("CSeq: ").map(str::to_owned)) else {
            return;
        };
        let _rest = lines.find(String::is_empty);
        let head = format!("RTSP/1.0 200 OK\r\nCSeq: {sequence}\r\n");
        let answer = match (request.split(' ').next().unwrap_or_default(), attack) {
            ("DESCRIBE", Attack::Body) => {
                format!("{head}Content-Type: application/sdp\r\nContent-Length: 99999999999\r\n\r\n")
            }
            ("DESCRIBE", Attack::Header) => format!("{head}X-Name: "),
            ("DESCRIBE", _) => {
                let body = sdp(attack);
                format!("{head}Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            }
            ("SETUP", _) => {
                format!("{head}Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n")
            }
            _ => format!("{head}Session: 1\r\n\r\n"),
        };
        if client.write_all(answer.as_bytes()).is_err() {
            return;
        }
        match (request.split(' ').next().unwrap_or_default(), attack) {
            ("DESCRIBE", Attack::Body | Attack::Header) => {
                return flood(client, sent, |_| vec![b'a'; 65_536]);
            }
            ("PLAY", Attack::FragmentsH264) => {
                return flood(client, sent, |number| fragments(number, &[0x7C, 0x05]));
            }
            ("PLAY", Attack::FragmentsH265) => {
                return flood(client, sent, |number| fragments(number, &[0x62, 0x01, 0x13]));
            }
            _ => {}
        }
    }
}

fn flood(mut client: &TcpStream, sent: &AtomicU64, chunk: impl Fn(u64) -> Vec<u8>) {
    for number in 0.. {
        let bytes = chunk(number);
        match client.write_all(&bytes) {
            Ok(()) => sent.fetch_add(bytes.len() as u64, Ordering::Relaxed),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
    }
}

/// 48 packets with a fragment each, the first of all with the start bit; `header` is the FU's, without that bit.
fn fragments(chunk: u64, header: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in chunk * 48..(chunk + 1) * 48 {
        let mut packet = vec![0x80, 96];
        packet.extend(u16::try_from(number & 0xFFFF).unwrap().to_be_bytes());
        packet.extend([0, 0, 0, 1, 0, 0, 0, 7]);
        packet.extend(header);
        if number == 0 {
            *packet.last_mut().unwrap() |= 0x80;
        }
        packet.resize(1400, 0xFF);
        bytes.extend([b'$', 0, 0x05, 0x78]);
        bytes.extend(packet);
    }
    bytes
}

fn sdp(attack: Attack) -> &'static str {
    match attack {
        Attack::FragmentsH265 => {
            "v=0\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H265/90000\r\na=control:t0\r\n"
        }
        Attack::FragmentsH264 | Attack::Body | Attack::Header => {
            "v=0\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
             a=fmtp:96 packetization-mode=1\r\na=control:t0\r\n"
        }
    }
}

/// The most private memory that a process was seen with.
struct Peak {
    seen: Arc<Mutex<(u64, u64)>>,
    _end: std::sync::mpsc::Sender<()>,
}

impl Peak {
    fn of(pid: Pid) -> Self {
        let seen = Arc::new(Mutex::new((0, 0)));
        let (end, is_over) = channel();
        let told = Arc::clone(&seen);
        std::thread::spawn(move || {
            while is_over.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                let bytes = private_bytes(pid);
                let mut told = told.lock().unwrap();
                *told = (told.0.max(bytes), told.1 + 1);
            }
        });
        Self { seen, _end: end }
    }

    fn bytes(&self) -> u64 {
        self.seen.lock().unwrap().0
    }

    fn looks(&self) -> u64 {
        self.seen.lock().unwrap().1
    }
}

/// `RssAnon` of `/proc/PID/status`: shared segments and files are left out. 0 when the process has ended.
fn private_bytes(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
