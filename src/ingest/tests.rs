//! A camera's whole life in no time: scripted answers, a clock that jumps, a sink that insists on its order.

mod clocks;
mod endings;
mod portions;
mod sources;
mod waits;

use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::codec::UnitFlags;
use crate::codec::testing::VecSink;
use crate::limits::CAMERA_BURST_LEN;
use crate::rtsp::CameraUrl;
use crate::time::{Mono, Now, UnixNanos};

#[test]
fn from_start_to_stop() {
    let mut world = World::new("rtsp://10.1.1.1:8554/live");
    assert_eq!(world.camera.status().state, State::Pending);
    world.start();
    assert_eq!(world.take(), [Did::Connect("10.1.1.1:8554".parse().unwrap())]);
    assert_eq!(world.camera.status().state, State::Connecting);
    world.play();
    world.unit(0, 0, true);
    assert_eq!(world.camera.status().state, State::Streaming);
    world.unit(1, 3600, false);
    assert_eq!(world.sink.units.len(), 2);
    assert!(world.sink.units[0].flags.contains(UnitFlags::KEY.with(UnitFlags::DISCONT)));
    assert_eq!(world.sink.units[1].media_ticks, 3600);
    assert_eq!(world.camera.stats().units, 2);

    world.camera.stop(world.now, &mut world.sink);
    assert!(world.sent().starts_with("TEARDOWN "));
    assert_eq!(world.camera.status().state, State::Stopping);
    world.reply(200, "");
    assert_eq!(world.take(), [Did::Close, Did::Stopped]);
    assert_eq!(world.camera.poll_timeout(), None);
}

#[test]
fn a_camera_that_ignores_teardown_is_left_after_a_second() {
    let mut world = World::playing();
    world.camera.stop(world.now, &mut world.sink);
    world.take();
    world.pass(Duration::from_secs(1));
    assert_eq!(world.take(), [Did::Close, Did::Stopped]);
}

#[test]
fn stopping_ends_every_phase() {
    let to_phase: [fn(&mut World); 5] = [
        |_| {},
        |world| world.start(),
        |world| {
            world.start();
            world.connect();
        },
        |world| {
            world.start();
            world.camera.on_connect_failed(world.now, ConnectFailure::Refused);
        },
        |world| {
            world.start();
            world.play();
            world.packet(0, 0, false, &[0x7c, 0x85, 1, 2, 3]);
        },
    ];
    for (number, to_phase) in to_phase.into_iter().enumerate() {
        let mut world = World::new("rtsp://10.1.1.1/live");
        to_phase(&mut world);
        world.take();
        world.camera.stop(world.now, &mut world.sink);
        world.pass(Duration::from_secs(1));
        assert_eq!(world.take().last(), Some(&Did::Stopped), "phase {number}");
        assert!(!world.sink.is_open());
        assert_eq!(world.camera.poll_timeout(), None);
    }
}

#[test]
fn a_name_is_resolved_and_each_address_tried() {
    let mut world = World::new("rtsp://camera.example/live");
    world.start();
    assert_eq!(world.take()[0], Did::Resolve("camera.example".to_owned(), 554, 1));
    let addresses: Vec<SocketAddr> =
        vec!["[2001:db8::1]:554".parse().unwrap(), "10.0.0.1:554".parse().unwrap()];
    world.camera.on_resolved(world.now, 7, Ok(Vec::new()));
    assert_eq!(world.take(), [], "an answer to another attempt");
    world.camera.on_resolved(world.now, 1, Ok(addresses.clone()));
    assert_eq!(world.take(), [Did::Connect(addresses[0])]);
    world.pass(Duration::from_secs(5));
    assert_eq!(world.take(), [Did::Close, Did::Connect(addresses[1])]);
    world.camera.on_connect_failed(world.now, ConnectFailure::Refused);
    let next = world.expect_failure(State::Backoff, Reason::ConnectRefused, "RTSP is enabled");
    world.pass(next.since(world.now.mono));
    let status = world.camera.status();
    assert_eq!((status.state, status.reason), (State::Connecting, Reason::ConnectRefused));
    assert!(
        status.detail.contains("RTSP is enabled"),
        "the advice stays during the next attempt: {}",
        status.detail
    );
}

#[test]
fn names_that_lead_nowhere() {
    for (answer, reason, advice) in [
        (Err("no such name".to_owned()), Reason::ResolveFailed, "no such name"),
        (Ok(Vec::new()), Reason::ResolveFailed, "DNS"),
    ] {
        let mut world = World::new("rtsp://camera.example/live");
        world.start();
        world.camera.on_resolved(world.now, 1, answer);
        world.expect_failure(State::Backoff, reason, advice);
    }
    let mut world = World::new("rtsp://camera.example/live");
    world.start();
    world.pass(Duration::from_secs(6));
    world.expect_failure(State::Backoff, Reason::ResolveFailed, "within 6 s");
}

#[test]
fn silence_is_a_stall_then_a_failure() {
    let mut world = World::playing();
    world.pass(Duration::from_secs(5));
    assert_eq!(world.camera.status().state, State::Stalled);
    world.unit(1, 450_000, false);
    assert_eq!(world.camera.status().state, State::Streaming);
    world.pass(Duration::from_secs(5));
    // Only whole units count: keepalive answers and the start of one do not.
    world.reply(200, "");
    world.packet(2, 900_000, false, &[0x7c, 0x85, 1, 2, 3]);
    assert_eq!(world.camera.status().state, State::Stalled);
    world.pass(Duration::from_secs(5));
    assert!(
        world.sent().contains("TEARDOWN "),
        "the camera is told: it may have no session left for the next"
    );
    assert_eq!(world.take(), [], "the connection stays for its answer");
    world.reply(200, "");
    assert_eq!(world.take(), [Did::Close]);
    world.expect_failure(State::Backoff, Reason::NoVideoData, "no video came");
}

#[test]
fn a_failed_camera_that_ignores_teardown_is_left_after_a_second_and_tried_again() {
    let mut world = World::playing();
    world.pass(Duration::from_secs(10));
    assert_eq!(world.camera.status().state, State::Backoff);
    let next = world.camera.status().next_attempt.unwrap();
    world.take();
    world.pass(Duration::from_secs(1));
    assert_eq!(world.take().first(), Some(&Did::Close));
    world.pass(next.since(world.now.mono));
    assert_eq!(world.camera.status().state, State::Connecting);
}

#[test]
fn stopping_while_a_failed_camera_is_being_left_stops() {
    let mut world = World::playing();
    world.pass(Duration::from_secs(10));
    world.take();
    world.camera.stop(world.now, &mut world.sink);
    world.reply(200, "");
    assert_eq!(world.take(), [Did::Close, Did::Stopped]);
}

#[test]
fn a_camera_that_never_begins() {
    let mut world = World::new("rtsp://10.1.1.1/live");
    world.start();
    world.play();
    world.pass(Duration::from_secs(10));
    world.expect_failure(State::Backoff, Reason::NoFirstFrame, "within 10 s");
}

#[test]
fn video_that_comes_stands_for_the_answer_to_play() {
    let mut world = World::asked_to_play();
    world.unit(0, 0, true);
    world.pass(Duration::from_secs(4));
    world.unit(1, 360_000, false);
    assert_eq!(world.camera.status().state, State::Connecting, "an answer may still come");
    world.pass(Duration::from_secs(1));
    assert_eq!(world.camera.status().state, State::Streaming);
    assert_eq!(world.camera.stats().failures, 0);
    // From here on it is as with any other: what does not come any more has stalled.
    world.pass(Duration::from_secs(4));
    assert_eq!(world.camera.status().state, State::Stalled);
}

#[test]
fn packets_that_make_no_unit_do_not_stand_for_the_answer_to_play() {
    let mut world = World::asked_to_play();
    world.packet(0, 0, false, &[0x41, 0x88, 1, 2, 3]);
    world.pass(Duration::from_secs(5));
    world.expect_failure(State::Backoff, Reason::ReplyTimeout, "did not answer PLAY within 5 s");
}

#[test]
fn what_does_not_speak_rtsp_is_named() {
    let endings: [fn(&mut World); 2] = [
        |world| world.camera.on_closed(world.now, PeerClose::Closed, &mut world.sink),
        // OPTIONS may stay without answer; DESCRIBE may not.
        |world| world.pass(Duration::from_secs(10)),
    ];
    for ending in endings {
        let mut world = World::new("rtsp://10.1.1.1:80/live");
        world.start();
        world.connect();
        world.receive(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 9\r\n\r\nIt works!");
        ending(&mut world);
        world.expect_failure(State::Backoff, Reason::NotRtsp, "check the port");
    }
}

#[test]
fn a_unit_that_never_ends_is_named() {
    let mut world = World::new("rtsp://10.1.1.1/live");
    world.sink = VecSink::with_limit(100_000);
    world.start();
    world.play();
    world.packet(0, 0, false, &[0x7c, 0x85, 1]);
    let mut fragment = vec![7; 60_000];
    fragment[..2].copy_from_slice(&[0x7c, 0x05]);
    for sequence in 1..50 {
        world.packet(sequence, 0, false, &fragment);
    }
    assert_eq!((world.sink.units.len(), world.sink.aborted), (0, 1));
    world.pass(Duration::from_secs(10));
    world.expect_failure(State::Backoff, Reason::LimitExceeded, "lower its bit rate");
}

#[test]
fn a_unit_that_never_ends_is_named_after_video_too() {
    let mut world = World::new("rtsp://10.1.1.1/live");
    world.sink = VecSink::with_limit(100_000);
    world.start();
    world.play();
    let mut fragment = vec![7; 60_000];
    fragment[..2].copy_from_slice(&[0x7c, 0x05]);
    // One unit that is too large among others is no reason for a later silence.
    world.packet(0, 0, false, &[0x7c, 0x85, 1]);
    (1..4).for_each(|sequence| world.packet(sequence, 0, false, &fragment));
    world.unit(4, 90_000, true);
    world.pass(Duration::from_secs(5));
    assert_eq!(
        (world.camera.status().state, world.camera.status().reason),
        (State::Stalled, Reason::NoVideoData)
    );

    world.unit(5, 180_000, true);
    world.packet(6, 270_000, false, &[0x7c, 0x85, 1]);
    (7..50).for_each(|sequence| world.packet(sequence, 270_000, false, &fragment));
    world.pass(Duration::from_secs(5));
    assert_eq!(
        (world.camera.status().state, world.camera.status().reason),
        (State::Stalled, Reason::LimitExceeded)
    );
    world.pass(Duration::from_secs(5));
    world.expect_failure(State::Backoff, Reason::LimitExceeded, "lower its bit rate");
}

#[test]
fn a_camera_without_measure_is_read_later_also_after_hanging_up() {
    let mut world = World::playing();
    let payload = [0x41; 60_000];
    let mut units = 0;
    while !world.camera.is_throttled() {
        units += 1;
        world.packet(units, u32::from(units) * 3600, true, &payload);
    }
    let bytes = usize::from(units) * payload.len();
    assert!((CAMERA_BURST_LEN - 60_000..CAMERA_BURST_LEN + 60_000).contains(&bytes), "{bytes}");
    assert_eq!(world.camera.stats().throttled, 1);
    // What was read before is still taken, and a new connection begins with the same debt.
    let before = world.camera.stats().units;
    world.packet(units + 1, u32::from(units + 1) * 3600, true, &payload);
    assert_eq!(world.camera.stats().units, before + 1);
    world.camera.on_closed(world.now, PeerClose::Closed, &mut world.sink);
    assert_eq!((world.camera.is_throttled(), world.camera.status().state), (true, State::Backoff));
    let opens_at = world.camera.poll_timeout().unwrap();
    assert!(opens_at.since(world.now.mono) < Duration::from_millis(50), "before the next attempt");
    world.pass(Duration::from_millis(50));
    assert_eq!((world.camera.is_throttled(), world.camera.status().state), (false, State::Backoff));
    assert!(world.camera.poll_timeout().unwrap() > opens_at + Duration::from_millis(500), "the wait goes on");
}

#[test]
fn a_reconnect_is_a_new_timeline_whose_ticks_go_on() {
    let mut world = World::playing();
    world.unit(1, 3600, false);
    world.camera.on_closed(world.now, PeerClose::Closed, &mut world.sink);
    world.pass(Duration::from_secs(2));
    world.play();
    world.unit(900, 12, true);
    let [.., before, after] = world.sink.units.as_slice() else { panic!("three units") };
    assert_eq!(after.timeline, before.timeline + 1);
    assert!(after.media_ticks > before.media_ticks);
    assert!(after.flags.contains(UnitFlags::DISCONT));
    assert_eq!(world.camera.stats().reconnects, 1);
}

#[test]
fn a_reconnect_before_any_video_counts_no_timeline() {
    let mut world = World::new("rtsp://10.1.1.1/live");
    world.start();
    world.connect();
    world.camera.on_closed(world.now, PeerClose::Closed, &mut world.sink);
    world.pass(Duration::from_secs(2));
    world.play();
    world.unit(0, 0, true);
    assert_eq!(world.sink.units[0].timeline, 0);
    assert_eq!(world.camera.stats().reconnects, 0);
}

#[test]
fn a_redirect_is_followed_without_credentials_to_another_host() {
    let mut world = World::new("rtsp://user:secret@10.1.1.1/live");
    world.start();
    world.connect();
    world.reply(200, "");
    world.reply(302, "Location: rtsp://10.2.2.2/other\r\n");
    let did = world.take();
    assert!(
        did.contains(&Did::Close) && did.contains(&Did::Connect("10.2.2.2:554".parse().unwrap())),
        "{did:?}"
    );
    world.connect();
    world.reply(200, "");
    world.reply(401, "WWW-Authenticate: Basic realm=\"x\"\r\n");
    world.expect_failure(State::AuthFailed, Reason::AuthRefused, "set rtsp://10.2.2.2/other for this stream");
    let words = &world.camera.status().detail;
    assert!(words.contains("redirected to 10.2.2.2:554") && !words.contains("none are set"), "{words}");
    assert!(!world.log.contains("Authorization"), "{}", world.log);
}

#[test]
fn redirects_have_an_end() {
    let mut world = World::new("rtsp://10.1.1.1/live");
    world.start();
    for _ in 0..4 {
        world.connect();
        world.reply(200, "");
        world.reply(302, "Location: rtsp://10.1.1.1/live\r\n");
    }
    world.expect_failure(State::Backoff, Reason::RequestRefused, "redirects without end");
}

#[test]
fn a_receiver_report_goes_out_every_five_seconds() {
    let mut world = World::playing();
    world.unit(1, 3600, false);
    for _ in 0..2 {
        world.take();
        world.pass(Duration::from_secs(5));
        let sent = world.bytes_sent();
        assert_eq!(sent.get(..2), Some([b'$', 1].as_slice()), "on the RTCP channel");
        assert_eq!(sent.get(5), Some(&201), "a receiver report");
        world.unit(2, 450_000, false);
    }
}

#[test]
fn secrets_are_in_no_debug_print_and_no_status() {
    let mut world = World::new("rtsp://operator:hunter2@10.1.1.1/live");
    world.start();
    world.connect();
    world.reply(200, "");
    world.reply(401, "WWW-Authenticate: Basic realm=\"x\"\r\n");
    assert!(world.log.contains("Authorization: Basic "), "the camera is told");
    world.reply(401, "WWW-Authenticate: Basic realm=\"x\"\r\n");
    world.reply(401, "WWW-Authenticate: Basic realm=\"x\"\r\n");
    world.expect_failure(State::AuthFailed, Reason::AuthRefused, "refused the user name or password");
    let printed = format!("{:?} {:?}", world.camera, world.camera.status());
    assert!(!printed.contains("hunter2") && !printed.contains("operator:"), "{printed}");
}

proptest! {
    #[test]
    fn no_bytes_panic_or_leave_the_camera_without_a_deadline(
        noise in prop::collection::vec(any::<u8>(), 0..3000),
        plays in any::<bool>(),
        portion in 1..500usize,
    ) {
        let mut world = if plays { World::playing() } else { World::new("rtsp://10.1.1.1/live") };
        if !plays {
            world.start();
            world.connect();
        }
        for piece in noise.chunks(portion) {
            world.camera.on_bytes(world.now, piece, &mut world.sink);
            prop_assert!(world.camera.poll_timeout().is_some());
        }
        world.camera.on_closed(world.now, PeerClose::Closed, &mut world.sink);
        prop_assert!(!world.sink.is_open());
        prop_assert!(world.camera.poll_timeout().is_some());
    }
}

/// What the camera asked for.
#[derive(Debug, PartialEq, Eq)]
enum Did {
    Resolve(String, u16, u64),
    Connect(SocketAddr),
    Close,
    Stopped,
}

struct World {
    camera: Camera,
    sink: VecSink,
    now: Now,
    /// Everything that was sent, as text.
    log: String,
    sent: Vec<u8>,
    did: Vec<Did>,
}

impl World {
    fn new(url: &str) -> Self {
        let (url, credentials) = CameraUrl::parse(url).unwrap();
        let now = Now { mono: Mono(1_000_000_000_000), wall: UnixNanos(1_700_000_000_000_000_000) };
        let config = CameraConfig { url, credentials, policy: Policy::default() };
        let camera = Camera::new(config, 42, now);
        Self { camera, sink: VecSink::new(), now, log: String::new(), sent: Vec::new(), did: Vec::new() }
    }

    /// A camera whose first unit came.
    fn playing() -> Self {
        let mut world = Self::new("rtsp://10.1.1.1/live");
        world.start();
        world.play();
        world.unit(0, 0, true);
        world.take();
        world
    }

    fn start(&mut self) {
        self.camera.start(self.now, &mut self.sink);
    }

    fn connect(&mut self) {
        self.camera.on_connected(self.now);
    }

    /// A camera that has not answered PLAY yet.
    fn asked_to_play() -> Self {
        let mut world = Self::new("rtsp://10.1.1.1/live");
        world.start();
        world.ask_to_play();
        world.take();
        world
    }

    /// From the TCP connection to PLAY's answer.
    fn play(&mut self) {
        self.ask_to_play();
        self.reply(200, "");
    }

    fn ask_to_play(&mut self) {
        self.ask_to_set_up();
        self.reply(200, "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n");
        assert!(self.sent().contains("PLAY "), "{}", self.log);
    }

    fn ask_to_set_up(&mut self) {
        self.connect();
        self.reply(200, "");
        let sdp = "v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:t0\r\n";
        self.receive(format!("RTSP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{sdp}", sdp.len()).as_bytes());
    }

    fn reply(&mut self, status: u16, headers: &str) {
        self.receive(format!("RTSP/1.0 {status} X\r\n{headers}\r\n").as_bytes());
    }

    /// One access unit in one packet.
    fn unit(&mut self, sequence: u16, timestamp: u32, key: bool) {
        let header = if key { 0x65 } else { 0x41 };
        self.packet(sequence, timestamp, true, &[header, 0x88, 1, 2, 3]);
    }

    fn packet(&mut self, sequence: u16, timestamp: u32, marker: bool, payload: &[u8]) {
        self.packet_of(0x0909_0909, sequence, timestamp, marker, payload);
    }

    fn packet_of(&mut self, ssrc: u32, sequence: u16, timestamp: u32, marker: bool, payload: &[u8]) {
        let mut frame = vec![b'$', 0];
        frame.extend(u16::try_from(12 + payload.len()).unwrap().to_be_bytes());
        frame.extend([0x80, u8::from(marker) << 7 | 96]);
        frame.extend(sequence.to_be_bytes());
        frame.extend(timestamp.to_be_bytes());
        frame.extend(ssrc.to_be_bytes());
        frame.extend(payload);
        self.receive(&frame);
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.camera.on_bytes(self.now, bytes, &mut self.sink);
        self.collect();
    }

    /// Lets time pass, with a call at each deadline on the way.
    fn pass(&mut self, time: Duration) {
        let end = self.now.mono + time;
        while let Some(due) = self.camera.poll_timeout().filter(|due| *due <= end) {
            self.advance_to(due);
            self.camera.handle_timeout(self.now, &mut self.sink);
        }
        self.advance_to(end);
    }

    fn advance_to(&mut self, mono: Mono) {
        let step = mono.since(self.now.mono);
        self.now.mono = mono;
        self.now.wall.0 += i64::try_from(step.as_nanos()).unwrap();
    }

    /// What the camera asked for since the last call, but for what it sent.
    fn take(&mut self) -> Vec<Did> {
        self.collect();
        std::mem::take(&mut self.did)
    }

    fn collect(&mut self) {
        while let Some(output) = self.camera.poll_output() {
            match output {
                Output::Resolve { host, port, attempt } => {
                    self.did.push(Did::Resolve(host.to_owned(), port, attempt))
                }
                Output::Connect(address) => self.did.push(Did::Connect(address)),
                Output::Send(bytes) => {
                    self.sent.extend(bytes);
                    self.log += &String::from_utf8_lossy(bytes);
                }
                Output::Close => self.did.push(Did::Close),
                Output::StatusChanged => {}
                Output::Stopped => self.did.push(Did::Stopped),
            }
        }
    }

    fn bytes_sent(&mut self) -> Vec<u8> {
        self.collect();
        std::mem::take(&mut self.sent)
    }

    fn sent(&mut self) -> String {
        String::from_utf8_lossy(&self.bytes_sent()).into_owned()
    }

    /// The attempt ended so, with a next one planned. Gives its time.
    ///
    /// A camera that holds a session for us is told that it ended, and answers.
    fn expect_failure(&mut self, state: State, reason: Reason, advice: &str) -> Mono {
        if self.sent().contains("TEARDOWN ") {
            self.reply(200, "");
        }
        let status = self.camera.status().clone();
        assert_eq!((status.state, status.reason), (state, reason), "{}", status.detail);
        assert!(status.detail.contains(advice), "{:?} does not say {advice:?}", status.detail);
        assert!(!self.sink.is_open());
        let next = status.next_attempt.expect("a next attempt");
        assert_eq!(self.camera.poll_timeout(), Some(next));
        next
    }
}
