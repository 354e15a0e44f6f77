//! One camera in this process: its bytes as they come from a socket, and each part of ingest that works on them.

use std::sync::Arc;

use anyhow::{Result, ensure};
use ring_abi::join::{From, Join};
use ring_abi::layout::{CURSOR_HEAD_LEN, Class, SESSION_HEAD_LEN};
use ring_abi::producer::{ReaderRing, Session};
use rustix::io::{pread, pwrite};
use vms_media::codec::{
    AccessUnit, AccessUnitSink, AppendError, Codec, CommitError, ConfigError, ConfigId, Depacketizer,
    PacketInfo, ParameterSets,
};
use vms_media::ids::StreamUid;
use vms_media::ingest::{self, CameraConfig, Policy};
use vms_media::publish::{Bells, Publisher};
use vms_media::rtp::ClockSource;
use vms_media::rtsp::{CameraUrl, Event, Framer};
use vms_media::time::{Mono, Now, UnixNanos};

/// What the sender's packets hold of a NAL unit.
const FRAGMENT_LEN: usize = 1400;
/// Bytes of the slice behind an SEI message.
const SLICE_LEN: usize = 1000;
const NAL_IDR: u8 = 5;
const NAL_SEI: u8 = 6;
const FRAME_HEADER_LEN: usize = 4;
const RTP_HEADER_LEN: usize = 12;
const EPOCH: u64 = 1;
/// The daemon's default for a camera of 4 Mbit/s.
const ARENA_LEN: usize = 8 << 20;

/// A camera that plays, with the stream that it publishes and one reader of it.
#[derive(Debug)]
pub(crate) struct Camera {
    machine: ingest::Camera,
    publisher: Publisher,
    session: Arc<Session>,
    bells: Bells,
    framer: Framer,
    depacketizer: Depacketizer,
    counted: Counted,
    now: Now,
    units: usize,
}

/// The interleaved frames of a unit, where the kernel has put them.
#[derive(Debug)]
pub(crate) struct Received {
    /// What is sent each time.
    template: Vec<u8>,
    bytes: Vec<u8>,
    packets: usize,
    /// What one receive brings at most.
    piece_len: usize,
}

impl Camera {
    /// A camera that has sent nothing yet.
    pub(crate) fn new() -> Result<Self> {
        let (url, credentials) = CameraUrl::parse("rtsp://10.1.1.1/live")?;
        let now = Now { mono: Mono(1_000_000_000), wall: UnixNanos(1_700_000_000_000_000_000) };
        let config = CameraConfig { url, credentials, policy: Policy::default() };
        let mut publisher = Publisher::create(StreamUid(1), EPOCH, ARENA_LEN)?;
        let session = Session::create(1, EPOCH, 4)?;
        let join = Join::new(Class::Archive, From::Live);
        publisher.attach(ReaderRing::create(1, EPOCH, &join, &session, 0)?.0);
        let mut camera = Self {
            machine: ingest::Camera::new(config, 1, now),
            publisher,
            session,
            bells: Bells::new(),
            framer: Framer::new(),
            depacketizer: Depacketizer::new(Codec::H264, false),
            counted: Counted::default(),
            now,
            units: 0,
        };
        camera.framer.set_channels(0, Some(1));
        camera.play();
        Ok(camera)
    }

    fn play(&mut self) {
        self.machine.start(self.now, &mut self.publisher);
        self.machine.on_connected(self.now);
        let sdp = "v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:t0\r\n";
        let describe = format!("RTSP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{sdp}", sdp.len());
        let setup = "RTSP/1.0 200 OK\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n\r\n";
        for reply in ["RTSP/1.0 200 OK\r\n\r\n", &describe, setup, "RTSP/1.0 200 OK\r\n\r\n"] {
            self.machine.on_bytes(self.now, reply.as_bytes(), &mut self.publisher);
            while self.machine.poll_output().is_some() {}
        }
    }

    /// Sends the next unit, a frame's time later.
    pub(crate) fn send(&mut self, received: &mut Received) {
        self.now.mono.0 += 40_000_000;
        received.stamp(self.units);
        self.units += 1;
    }

    /// The framer alone.
    pub(crate) fn frame(&mut self, received: &Received) -> Result<()> {
        let mut payload_len = 0;
        for mut piece in received.pieces() {
            while let Some(event) = self.framer.next(&mut piece)? {
                if let Event::Frame { payload: bytes, .. } | Event::Data(bytes) = event {
                    payload_len += bytes.len();
                }
            }
        }
        ensure!(
            payload_len + received.packets * FRAME_HEADER_LEN == received.bytes.len(),
            "bytes are missing"
        );
        Ok(())
    }

    /// The depacketiser alone: each payload in one piece, into a sink that only counts.
    pub(crate) fn depacketize(&mut self, received: &Received) -> Result<()> {
        let mut at = 0;
        while at < received.bytes.len() {
            let frame = &received.bytes[at..];
            let len = usize::from(u16::from_be_bytes([frame[2], frame[3]]));
            let payload = &frame[FRAME_HEADER_LEN + RTP_HEADER_LEN..FRAME_HEADER_LEN + len];
            let packet = PacketInfo {
                sequence: u16::from_be_bytes([frame[6], frame[7]]),
                timestamp: u32::from_be_bytes([frame[8], frame[9], frame[10], frame[11]]),
                marker: frame[5] & 0x80 != 0,
                ssrc: 1,
                payload_len: payload.len(),
                lost_before: 0,
                media_ticks: 0,
                timeline: 0,
                ticks_estimated: false,
                received: self.now.mono,
                wall: self.now.wall,
                wall_error_us: u32::MAX,
                clock_source: ClockSource::Receive,
            };
            self.depacketizer.packet_begin(&packet, &mut self.counted);
            self.depacketizer.packet_bytes(payload, &mut self.counted);
            self.depacketizer.packet_end(&mut self.counted);
            at += FRAME_HEADER_LEN + len;
        }
        ensure!(self.counted.units == self.units, "a unit is missing");
        Ok(())
    }

    /// The whole machine, from received bytes to the committed unit.
    pub(crate) fn receive(&mut self, received: &Received) -> Result<()> {
        self.publisher.set_now(self.now.mono);
        for piece in received.pieces() {
            self.machine.on_bytes(self.now, piece, &mut self.publisher);
        }
        ensure!(self.publisher.counters().units == self.units as u64, "a unit is missing");
        Ok(())
    }

    /// The end of the turn.
    pub(crate) fn feed(&mut self) {
        self.publisher.feed();
        self.publisher.take_touched(&mut self.bells);
        self.bells.ring(self.now.mono, |_| false);
    }

    /// The reader takes the unit, of which the producer sees that its head moves to the ring's tail (`ring-abi/SPEC.md`).
    pub(crate) fn take(&self) -> Result<()> {
        ensure!(self.publisher.counters().readers_behind == 0, "the reader was not given the unit");
        let [session, cursor] = self.session.fds();
        let mut tail = [0; 4];
        pread(session, &mut tail, SESSION_HEAD_LEN)?;
        let head = u64::from(u32::from_le_bytes(tail));
        ensure!(head == self.units as u64, "the reader was given {head} units");
        pwrite(cursor, &head.to_le_bytes(), CURSOR_HEAD_LEN)?;
        Ok(())
    }
}

impl Received {
    /// A unit with one slice of `unit_len` bytes, of which one receive brings `piece_len` at most. `behind_sei`: nearly all of it is an
    /// SEI message, as `vms-camsim` pads its units.
    pub(crate) fn new(unit_len: usize, piece_len: usize, behind_sei: bool) -> Self {
        let (template, packets) = if behind_sei {
            let sei = fragments(NAL_SEI, unit_len - SLICE_LEN, false);
            let slice = frame(true, &[&[0x60 | NAL_IDR], &[0xa5; SLICE_LEN - 1][..]].concat());
            ([sei, slice].concat(), (unit_len - SLICE_LEN).div_ceil(FRAGMENT_LEN) + 1)
        } else {
            (fragments(NAL_IDR, unit_len, true), unit_len.div_ceil(FRAGMENT_LEN))
        };
        Self { bytes: template.clone(), template, packets, piece_len }
    }

    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks(self.piece_len)
    }

    /// Writes the packets, as the kernel does, with the sequence numbers and the timestamp of unit `number`.
    fn stamp(&mut self, number: usize) {
        self.bytes.copy_from_slice(&self.template);
        let (mut at, mut sequence) = (0, number * self.packets);
        while at < self.bytes.len() {
            let frame = &mut self.bytes[at..];
            let len = usize::from(u16::from_be_bytes([frame[2], frame[3]]));
            frame[6..8].copy_from_slice(&u16::try_from(sequence & 0xffff).unwrap_or(0).to_be_bytes());
            frame[8..12].copy_from_slice(&(u32::try_from(number).unwrap_or(0) * 3600).to_be_bytes());
            (at, sequence) = (at + FRAME_HEADER_LEN + len, sequence + 1);
        }
    }
}

/// A NAL unit in fragments (RFC 6184 §5.8).
fn fragments(nal_type: u8, nal_len: usize, ends_unit: bool) -> Vec<u8> {
    let content = vec![0xa5; nal_len];
    let count = content.chunks(FRAGMENT_LEN).count();
    let mut frames = Vec::new();
    for (index, piece) in content.chunks(FRAGMENT_LEN).enumerate() {
        let (is_first, is_last) = (index == 0, index + 1 == count);
        let header = [0x7c, u8::from(is_first) << 7 | u8::from(is_last) << 6 | nal_type];
        frames.extend(frame(ends_unit && is_last, &[&header, piece].concat()));
    }
    frames
}

/// An interleaved packet.
fn frame(marker: bool, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(RTP_HEADER_LEN + payload.len()).unwrap_or(u16::MAX);
    let mut frame = vec![b'$', 0];
    frame.extend(len.to_be_bytes());
    frame.extend([0x80, u8::from(marker) << 7 | 96, 0, 0, 0, 0, 0, 0, 9, 9, 9, 9]);
    frame.extend(payload);
    frame
}

/// A sink that takes no copy.
#[derive(Debug, Default)]
struct Counted {
    units: usize,
    len: usize,
}

impl AccessUnitSink for Counted {
    fn begin(&mut self) {
        self.len = 0;
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), AppendError> {
        self.len += bytes.len();
        Ok(())
    }

    fn commit(&mut self, _: &AccessUnit<'_>) -> Result<(), CommitError> {
        self.units += 1;
        Ok(())
    }

    fn abort(&mut self) {}

    fn configure(&mut self, _: &ParameterSets<'_>) -> Result<ConfigId, ConfigError> {
        Ok(ConfigId(0))
    }
}
