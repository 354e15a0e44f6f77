//! Promise: once a stream runs, nothing is allocated per packet or per access unit, and payload is copied once.
//!
//! The camera's state machine and the publisher with its shared memory run in this process; only the socket is left out.
//! A reader is attached, so that feeding it counts too.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::alloc::System;
use std::sync::Arc;

use ring_abi::join::{From, Join};
use ring_abi::layout::{CURSOR_HEAD_LEN, Class, SESSION_HEAD_LEN};
use ring_abi::producer::{ReaderRing, Session};
use rustix::io::{pread, pwrite};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use vms_media::codec::{
    AccessUnit, AccessUnitSink, AppendError, CommitError, ConfigError, ConfigId, ParameterSets,
};
use vms_media::ids::StreamUid;
use vms_media::ingest::{Camera, CameraConfig, Output, Policy, State};
use vms_media::publish::{Bells, Publisher};
use vms_media::rtsp::CameraUrl;
use vms_media::time::{Mono, Now, UnixNanos};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Small enough that the arena laps during the warm-up.
const ARENA_LEN: usize = 1024 * 1024;
/// No divisor of the arena: each lap ends in the middle of a unit.
const UNIT_LEN: usize = 20_300;
const GOP: u32 = 25;

/// One test: the allocator counts for the whole process.
#[test]
fn nothing_is_allocated_per_packet_or_unit_and_payload_is_copied_once() {
    let mut world = World::playing();
    let join = Join::new(Class::Live, From::Live);
    world.sink.publisher.attach(ReaderRing::create(1, 1, &join, &world.session, 0).unwrap().0);
    let unit: Vec<Vec<u8>> = (0..GOP).map(frames_of_unit).collect();

    for number in 0..300 {
        world.unit(number, &unit);
    }
    let region = Region::new(ALLOCATOR);
    for number in 300..1300 {
        world.unit(number, &unit);
    }
    let change = region.change();

    assert_eq!(world.camera.stats().units, 1300);
    assert_eq!(world.camera.status().state, State::Streaming);
    assert_eq!((change.allocations, change.reallocations), (0, 0), "{change:?}");
    // Once into the arena. Once more: what the publisher was given from anywhere but the receive buffer (start codes and the NAL
    // headers of fragments; a packet with padding that is received in pieces and one in Annex B form are gathered first, but none
    // of them is here), and what a unit has when it meets the arena's end. That the publisher writes what it is given only once is
    // not seen here: a second write costs instructions, which `./tools/bench instructions` counts.
    let counters = world.sink.publisher.counters();
    assert_eq!(world.sink.received + world.sink.gathered, counters.bytes);
    let copies = world.sink.received + 2 * world.sink.gathered + counters.moved_bytes;
    let copied = copies as f64 / counters.bytes as f64;
    println!("copied per payload byte: {copied:.4}");
    assert!((1.000_1..=1.02).contains(&copied), "{copied}: the arena was lapped, and little was moved");
}

/// The publisher, and where what it is given comes from.
struct Sink {
    publisher: Publisher,
    /// What is being received.
    piece: std::ops::Range<*const u8>,
    /// Bytes that were appended straight from there.
    received: u64,
    /// Bytes that were appended from elsewhere.
    gathered: u64,
}

impl AccessUnitSink for Sink {
    fn begin(&mut self) {
        self.publisher.begin();
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), AppendError> {
        let from = bytes.as_ptr_range();
        let is_received = self.piece.start <= from.start && from.end <= self.piece.end;
        *if is_received { &mut self.received } else { &mut self.gathered } += bytes.len() as u64;
        self.publisher.append(bytes)
    }

    fn commit(&mut self, unit: &AccessUnit<'_>) -> Result<(), CommitError> {
        self.publisher.commit(unit)
    }

    fn abort(&mut self) {
        self.publisher.abort();
    }

    fn configure(&mut self, sets: &ParameterSets<'_>) -> Result<ConfigId, ConfigError> {
        self.publisher.configure(sets)
    }
}

struct World {
    camera: Camera,
    sink: Sink,
    session: Arc<Session>,
    touched: Bells,
    now: Now,
    bytes: Vec<u8>,
}

impl World {
    fn playing() -> Self {
        let (url, credentials) = CameraUrl::parse("rtsp://10.1.1.1/live").unwrap();
        let now = Now { mono: Mono(1_000_000_000), wall: UnixNanos(1_700_000_000_000_000_000) };
        let mut world = Self {
            camera: Camera::new(CameraConfig { url, credentials, policy: Policy::default() }, 1, now),
            sink: Sink {
                publisher: Publisher::create(StreamUid(1), 1, ARENA_LEN).unwrap(),
                piece: [].as_ptr_range(),
                received: 0,
                gathered: 0,
            },
            session: Session::create(1, 1, 4).unwrap(),
            touched: Bells::default(),
            now,
            bytes: Vec::with_capacity(2 * UNIT_LEN),
        };
        world.camera.start(now, &mut world.sink);
        world.camera.on_connected(now);
        let sdp = "v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:t0\r\n";
        let describe = format!("RTSP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{sdp}", sdp.len());
        let setup = "RTSP/1.0 200 OK\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n\r\n";
        for reply in ["RTSP/1.0 200 OK\r\n\r\n", &describe, setup, "RTSP/1.0 200 OK\r\n\r\n"] {
            world.camera.on_bytes(now, reply.as_bytes(), &mut world.sink);
            world.outputs();
        }
        world
    }

    /// Receives one unit in pieces that no packet's border knows of, as a turn does.
    fn unit(&mut self, number: u32, units: &[Vec<u8>]) {
        self.now.mono.0 += 40_000_000;
        self.bytes.clear();
        self.bytes.extend_from_slice(&units[(number % GOP) as usize]);
        stamp(&mut self.bytes, number);
        self.sink.publisher.set_now(self.now.mono);
        for piece in self.bytes.chunks(1448) {
            self.sink.piece = piece.as_ptr_range();
            self.camera.on_bytes(self.now, piece, &mut self.sink);
        }
        self.sink.publisher.feed();
        self.sink.publisher.take_touched(&mut self.touched);
        self.touched.ring(self.now.mono, |_| false);
        self.take();
        // Deadlines that come with an allocation (a keepalive's text, twice a minute) are none of a unit's.
    }

    /// The reader takes what it was given; all that the producer sees of that is the ring's head (`ring-abi/SPEC.md`).
    fn take(&self) {
        assert_eq!(self.sink.publisher.counters().readers_behind, 0);
        let [session, cursor] = self.session.fds();
        let mut tail = [0; 4];
        pread(session, &mut tail, SESSION_HEAD_LEN).unwrap();
        pwrite(cursor, &u64::from(u32::from_le_bytes(tail)).to_le_bytes(), CURSOR_HEAD_LEN).unwrap();
    }

    fn outputs(&mut self) {
        while let Some(output) = self.camera.poll_output() {
            assert!(!matches!(output, Output::Close), "{:?}", self.camera.status());
        }
    }
}

/// The interleaved frames of one unit: parameter sets before each key frame, and one NAL unit in fragments.
fn frames_of_unit(number: u32) -> Vec<u8> {
    let is_key = number == 0;
    let mut frames = Vec::new();
    if is_key {
        frame(&mut frames, false, &[&[0x67, 0x42, 0x00, 0x0a, 0xf8, 0x41, 0xa2]]);
        frame(&mut frames, false, &[&[0x68, 0xce, 0x38, 0x80]]);
    }
    let kind = if is_key { 0x05 } else { 0x01 };
    let payload = vec![0xa5; UNIT_LEN];
    let count = payload.chunks(1400).count();
    for (index, piece) in payload.chunks(1400).enumerate() {
        let (is_first, is_last) = (index == 0, index + 1 == count);
        let fragment = [0x7c, u8::from(is_first) << 7 | u8::from(is_last) << 6 | kind];
        frame(&mut frames, is_last, &[&fragment, piece]);
    }
    frames
}

fn frame(out: &mut Vec<u8>, marker: bool, payload: &[&[u8]]) {
    let len = 12 + payload.iter().map(|part| part.len()).sum::<usize>();
    out.extend([b'$', 0]);
    out.extend(u16::try_from(len).unwrap().to_be_bytes());
    out.extend([0x80, u8::from(marker) << 7 | 96]);
    // Sequence number and timestamp are stamped later.
    out.extend([0, 0, 0, 0, 0, 0, 9, 9, 9, 9]);
    payload.iter().for_each(|part| out.extend(*part));
}

/// Writes sequence numbers and the timestamp of unit `number` into its frames. Units with parameter sets have two
/// packets more, so each unit starts at a number of its own that leaves room for them.
fn stamp(frames: &mut [u8], number: u32) {
    let packets_before = number * PACKETS + number.div_ceil(GOP) * 2;
    let mut at = 0;
    let mut index = 0;
    while at < frames.len() {
        let len = usize::from(u16::from_be_bytes([frames[at + 2], frames[at + 3]]));
        let sequence = ((packets_before + index) & 0xffff) as u16;
        frames[at + 6..at + 8].copy_from_slice(&sequence.to_be_bytes());
        frames[at + 8..at + 12].copy_from_slice(&(number * 3600).to_be_bytes());
        at += 4 + len;
        index += 1;
    }
}

/// Packets of a unit without parameter sets.
const PACKETS: u32 = 15;
const _: () = assert!(PACKETS as usize == UNIT_LEN.div_ceil(1400));
