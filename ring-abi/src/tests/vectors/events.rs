//! What a replay prints: one compact JSON object an event.

use std::fmt::Write;

use crate::consumer::{Configuration, Counts, StreamStatus};
use crate::handshake::{Attach, Attached, Ended, Hello, Message, Refused, Welcome};
use crate::join::{Damaged, From};
use crate::layout::{Descriptor, EndReason, RingState, StreamState};

/// What a replay saw.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Event {
    /// Opening failed.
    Refused { segment: &'static str, why: &'static str },
    /// Stands before the unit that brought it.
    Configuration { track: u16, configuration: Configuration },
    /// An accepted unit.
    Unit { descriptor: Descriptor, nal_ends: Vec<u32>, lost: u64, crc32: u32 },
    /// The ring has ended.
    Ended { state: RingState, reason: EndReason },
    /// The end of a `take`.
    Counts { counts: Counts, status: StreamStatus },
    /// A packet that is a message.
    Message { message: Message, request: u32 },
    /// A packet that is none.
    BadMessage { why: &'static str },
}

impl Event {
    /// The event's line, its newline included.
    pub(super) fn to_json(&self) -> String {
        let mut line = match self {
            Self::Refused { segment, why } => {
                format!(r#"{{"event":"refused","segment":"{segment}","why":"{why}""#)
            }
            Self::Configuration { track, configuration } => configuration_json(*track, configuration),
            Self::Unit { descriptor, nal_ends, lost, crc32 } => {
                unit_json(descriptor, nal_ends, *lost, *crc32)
            }
            Self::Ended { state, reason } => {
                let (state, reason) = (ring_state(*state), end_reason(*reason));
                format!(r#"{{"event":"ended","rstate":"{state}","reason":"{reason}""#)
            }
            Self::Counts { counts, status } => counts_json(counts, status),
            Self::Message { message, request } => message_json(message, *request),
            Self::BadMessage { why } => format!(r#"{{"event":"bad_message","why":"{why}""#),
        };
        line.push_str("}\n");
        line
    }
}

/// The checksum of payloads: CRC-32/ISO-HDLC.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

pub(super) fn ring_state(state: RingState) -> &'static str {
    match state {
        RingState::Ok => "ok",
        RingState::Evicted => "evicted",
        RingState::Closed => "closed",
        RingState::Rotated => "rotated",
    }
}

pub(super) fn end_reason(reason: EndReason) -> &'static str {
    match reason {
        EndReason::None => "none",
        EndReason::StreamClosed => "stream_closed",
        EndReason::Detached => "detached",
        EndReason::BadCursor => "bad_cursor",
        EndReason::Quota => "quota",
        EndReason::Revoked => "revoked",
    }
}

fn stream_state(state: StreamState) -> &'static str {
    match state {
        StreamState::Pending => "pending",
        StreamState::Live => "live",
        StreamState::Stalled => "stalled",
        StreamState::Closed => "closed",
    }
}

fn configuration_json(track: u16, c: &Configuration) -> String {
    let (fps_num, fps_den) = c.frame_rate;
    let mut line = object("configuration");
    put(&mut line, "track", track);
    put(&mut line, "id", c.id);
    put(&mut line, "codec", c.codec);
    put(&mut line, "profile", c.profile);
    put(&mut line, "level", c.level);
    put(&mut line, "width", c.width);
    put(&mut line, "height", c.height);
    put(&mut line, "fps_num", fps_num);
    put(&mut line, "fps_den", fps_den);
    put(&mut line, "len", c.data.len());
    put(&mut line, "crc32", crc32(&c.data));
    line
}

fn unit_json(d: &Descriptor, nal_ends: &[u32], lost: u64, crc32: u32) -> String {
    let mut line = object("unit");
    put(&mut line, "seq", d.seq);
    put(&mut line, "pos", d.pos);
    put(&mut line, "len", d.len);
    put(&mut line, "flags", d.flags);
    put(&mut line, "record_type", d.record_type);
    put(&mut line, "track", d.track);
    put(&mut line, "config_id", d.config_id);
    put(&mut line, "media_ticks", d.media_ticks);
    put(&mut line, "pts_ns", d.pts_ns);
    put(&mut line, "timeline", d.timeline);
    put(&mut line, "lost_packets", d.lost_packets);
    put(&mut line, "key_seq", d.key_seq);
    put(&mut line, "recv_mono_ns", d.recv_mono_ns);
    put(&mut line, "pub_mono_ns", d.pub_mono_ns);
    put(&mut line, "wall_utc_ns", d.wall_utc_ns);
    put(&mut line, "wall_err_us", d.wall_err_us);
    put(&mut line, "clock_source", d.clock_source);
    put(&mut line, "rtp_ts", d.rtp_ts);
    put(&mut line, "ssrc", d.ssrc);
    put(&mut line, "first_rtp_seq", d.first_rtp_seq);
    put(&mut line, "last_rtp_seq", d.last_rtp_seq);
    let ends: Vec<String> = nal_ends.iter().map(ToString::to_string).collect();
    put(&mut line, "nal_ends", format!("[{}]", ends.join(",")));
    put(&mut line, "duration_ticks", d.duration_ticks);
    put(&mut line, "filtered", d.filtered);
    put(&mut line, "lost", lost);
    put(&mut line, "crc32", crc32);
    line
}

fn counts_json(c: &Counts, status: &StreamStatus) -> String {
    let mut line = object("counts");
    put(&mut line, "first_seq", c.first_seq);
    put(&mut line, "last_seq", c.last_seq);
    put(&mut line, "accepted", c.accepted);
    put(&mut line, "rejected", c.rejected);
    put(&mut line, "skipped", c.skipped);
    put(&mut line, "lost", c.lost);
    put(&mut line, "filtered", c.filtered);
    put(&mut line, "state", text(stream_state(status.state)));
    put(&mut line, "timeline", status.timeline);
    put(&mut line, "stream_last_seq", status.last_seq);
    line
}

fn message_json(message: &Message, request: u32) -> String {
    let kind = match message {
        Message::Hello(_) => "hello",
        Message::Welcome(_) => "welcome",
        Message::Attach(_) => "attach",
        Message::Attached(_) => "attached",
        Message::Refused(_) => "refused",
        Message::Detach { .. } => "detach",
        Message::Detached { .. } => "detached",
        Message::Evicted(_) => "evicted",
        Message::Closed(_) => "closed",
        Message::Bye { .. } => "bye",
    };
    let mut line = object("message");
    put(&mut line, "type", text(kind));
    put(&mut line, "request", request);
    match message {
        Message::Hello(hello) => put_hello(&mut line, hello),
        Message::Welcome(welcome) => put_welcome(&mut line, welcome),
        Message::Attach(attach) => put_attach(&mut line, attach),
        Message::Attached(attached) => put_attached(&mut line, attached),
        Message::Refused(Refused { code, text: reason }) => {
            put(&mut line, "code", *code as u32);
            put(&mut line, "text", text(reason.as_str()));
        }
        Message::Detach { slot } | Message::Detached { slot } => put(&mut line, "slot", slot),
        Message::Evicted(Ended { slot, reason, last_seq })
        | Message::Closed(Ended { slot, reason, last_seq }) => {
            put(&mut line, "slot", slot);
            put(&mut line, "reason", reason);
            put(&mut line, "last_seq", last_seq);
        }
        Message::Bye { reason } => put(&mut line, "reason", reason),
    }
    line
}

fn put_hello(line: &mut String, hello: &Hello) {
    put(line, "major", hello.major);
    put(line, "minor_min", hello.minor_min);
    put(line, "minor_max", hello.minor_max);
    put(line, "features", hello.features);
    put(line, "slots", hello.slots);
    put(line, "bell_interval_us", hello.bell_interval_us);
    put(line, "name", text(hello.name.as_str()));
    put(line, "token", text(hello.token.as_str()));
}

fn put_welcome(line: &mut String, welcome: &Welcome) {
    put(line, "major", welcome.major);
    put(line, "minor", welcome.minor);
    put(line, "slots", welcome.slots);
    put(line, "features", welcome.features);
    put(line, "daemon_epoch", welcome.daemon_epoch);
    put(line, "bell_interval_us", welcome.bell_interval_us);
}

/// The numbers are those of the table, not of the encoder under test.
fn put_attach(line: &mut String, attach: &Attach) {
    let join = &attach.join;
    let (kind, epoch, argument) = match join.from {
        From::Live => (1, 0, 0),
        From::Keyframe => (2, 0, 0),
        From::Oldest => (3, 0, 0),
        From::Preroll { ns } => (4, 0, ns),
        From::After { epoch, seq } => (5, epoch, seq),
    };
    let bits = [
        join.filters.keyframes_only,
        join.filters.damaged == Damaged::SkipToKeyframe,
        join.filters.everything,
    ];
    let filters: u32 = bits.iter().zip([1, 2, 4]).filter(|(set, _)| **set).map(|(_, bit)| bit).sum();
    put(line, "from_kind", kind);
    put(line, "from_epoch", epoch);
    put(line, "from_arg", argument);
    put(line, "reader_class", join.class as u32);
    put(line, "filters", filters);
    put(line, "tracks", join.filters.tracks);
    put(line, "lag_max_ns", join.lag_max_ns);
    put(line, "ring_slots", join.ring_slots);
    put(line, "id", text(attach.stream.as_str()));
}

fn put_attached(line: &mut String, attached: &Attached) {
    put(line, "slot", attached.slot);
    put(line, "flags", u32::from(attached.resumed));
    put(line, "stream_uid", attached.stream_uid);
    put(line, "epoch", attached.epoch);
    put(line, "first_seq", attached.first_seq);
    put(line, "last_seq", attached.last_seq);
}

fn object(event: &str) -> String {
    format!(r#"{{"event":"{event}""#)
}

fn put(line: &mut String, key: &str, value: impl std::fmt::Display) {
    write!(line, r#","{key}":{value}"#).unwrap();
}

/// A JSON string: short escapes where JSON has them, others as `\u00xx`, all else as it is.
fn text(value: &str) -> String {
    let mut out = String::from('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => write!(out, "\\u{:04x}", u32::from(c)).unwrap(),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
