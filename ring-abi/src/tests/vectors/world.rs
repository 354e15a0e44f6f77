//! A scenario: the real producer at work, the script that tells of it, and what must come of it.
//!
//! What is expected is said by the scenario and by [`World::commit`]'s own account of each unit, never by the reader.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::events::{Event, crc32, end_reason, ring_state};
use super::replay::replay;
use super::script::{Script, Seals, Segment};
use crate::cursor::{Ordering, Store};
use crate::join::{From, Join};
use crate::layout::{
    CURSOR_HEAD_LEN, Class, Codec, DESCRIPTOR_LEN, Descriptor, Flags, RING_HEAD_LEN, StreamState, TrackKind,
};
use crate::map::{Bytes, Mapping, ReadOnly, ReadWrite};
use crate::position::round_up;
use crate::producer::{Configuration, Producer, ReaderRing, RingId, Session, TrackSpec, Unit};
use crate::segment::open_cursor;

/// The stream's number and epoch in every vector.
pub(super) const UID: u64 = 0x5eed;
pub(super) const EPOCH: u64 = 0xe90c_0000_0000_0001;
/// The smallest arena.
pub(super) const ARENA: u64 = 64 * 1024;
/// Slots of every ring.
pub(super) const SLOTS: u64 = 8;

/// A finished vector.
#[derive(Debug)]
pub(super) struct Vector {
    pub(super) name: String,
    /// What it shows.
    pub(super) about: String,
    pub(super) script: String,
    pub(super) jsonl: String,
}

/// A video track with the smallest arena.
pub(super) fn video() -> TrackSpec {
    TrackSpec::video(ARENA)
}

/// A track of small things with a clock in milliseconds.
pub(super) fn other(kind: TrackKind) -> TrackSpec {
    TrackSpec { kind, timescale: 1000, arena_len: ARENA, units_max: 64 }
}

/// A reader that wants all, with the smallest ring.
pub(super) fn archive(from: From) -> Join {
    Join { ring_slots: 8, ..Join::new(Class::Archive, from) }
}

/// Changes what the producer made into what another one could have made.
pub(super) type Shape = fn(Segment, Vec<u8>) -> Vec<u8>;

pub(super) struct World {
    pub(super) producer: Producer,
    pub(super) script: Script,
    /// What became of each committed unit, by its seq; a scenario that changes a record by hand changes it here, too.
    pub(super) sent: BTreeMap<u64, Sent>,
    /// What a `take` must say of the stream; `None`: what the producer does.
    pub(super) status: Option<(StreamState, u32, u64)>,
    shape: Shape,
    seals: [Seals; 2],
    /// Bytes of the files when not what the segments have.
    pub(super) file_len: [Option<usize>; 2],
    tracks: Vec<TrackModel>,
    session: Arc<Session>,
    cursor: Mapping<ReadWrite>,
    stream: Bytes<ReadOnly>,
    stream_len: usize,
    ring: Option<(RingId, Bytes<ReadOnly>)>,
    ring_len: usize,
    /// By-hand changes, which stay.
    patches: Vec<(Segment, usize, Vec<u8>)>,
    timeline: u32,
    expected: Vec<Expected>,
}

/// What the scenario knows of a unit.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sent {
    pub(super) descriptor: Descriptor,
    pub(super) nal_ends: Vec<u32>,
    pub(super) crc32: u32,
}

/// Where the next unit of a track goes, as §2.2 and §3 say.
#[derive(Clone, Copy, Debug)]
struct TrackModel {
    kind: TrackKind,
    timescale: u32,
    write_pos: u64,
    key_seq: u64,
}

/// What a `take` must print.
struct Expected {
    essence: String,
    status: (StreamState, u32, u64),
    sent: BTreeMap<u64, Sent>,
}

impl World {
    pub(super) fn new(tracks: &[TrackSpec]) -> Self {
        Self::shaped(tracks, |_, bytes| bytes)
    }

    pub(super) fn shaped(tracks: &[TrackSpec], shape: Shape) -> Self {
        let producer = Producer::create(UID, EPOCH, tracks).unwrap();
        let stream_len = usize::try_from(Producer::segment_len(tracks).unwrap()).unwrap();
        let session = Session::create(1, 7, 1).unwrap();
        let [_, cursor] = session.fds().map(|fd| fd.try_clone_to_owned().unwrap());
        let model =
            |t: &TrackSpec| TrackModel { kind: t.kind, timescale: t.timescale, write_pos: 0, key_seq: 0 };
        Self {
            stream: whole(&producer.fd(), stream_len),
            producer,
            script: Script::default(),
            sent: BTreeMap::new(),
            status: None,
            shape,
            seals: [Seals::All; 2],
            file_len: [None; 2],
            tracks: tracks.iter().map(model).collect(),
            cursor: open_cursor(&cursor).unwrap().0,
            session,
            stream_len,
            ring: None,
            ring_len: 0,
            patches: Vec::new(),
            timeline: 0,
            expected: Vec::new(),
        }
    }

    /// A stream with one video track and a reader that attached before the first unit.
    pub(super) fn with_reader() -> Self {
        Self::with_reader_of(&archive(From::Live))
    }

    /// The same with a reader of other wishes.
    pub(super) fn with_reader_of(join: &Join) -> Self {
        let mut world = Self::new(&[video()]);
        world.attach(join);
        world
    }

    /// Whether the reader was given unit `seq`, by the producer's own records.
    pub(super) fn was_pushed(&self, seq: u64) -> bool {
        let Some((_, ring)) = &self.ring else { return false };
        (0..SLOTS).any(|n| ring.read_words::<1>(record_off(n) as u64) == Some([seq]))
    }

    pub(super) fn seal(&mut self, segment: Segment, seals: Seals) {
        self.seals[segment as usize] = seals;
    }

    pub(super) fn comment(&mut self, text: &str) {
        self.script.comment(text);
    }

    /// Attaches the vector's reader.
    pub(super) fn attach(&mut self, join: &Join) {
        let (ring, fd) = ReaderRing::create(UID, EPOCH, join, &self.session, 0).unwrap();
        self.ring_len =
            usize::try_from(RING_HEAD_LEN + SLOTS * DESCRIPTOR_LEN).unwrap().next_multiple_of(4096);
        self.ring = Some((ring.id(), whole(&fd, self.ring_len)));
        self.sent.values_mut().for_each(|sent| sent.descriptor.flags |= Flags::BACKFILL.0);
        self.producer.attach(ring, self.now());
        self.comment("the segments as they are handed out");
        self.sync();
    }

    /// Says what has changed since the last call, once there is a reader.
    pub(super) fn sync(&mut self) {
        for segment in [Segment::Stream, Segment::Ring] {
            if let Some(now) = self.snapshot(segment).filter(|_| self.ring.is_some()) {
                self.script.say(segment, &now);
            }
        }
    }

    /// What the vector says the segment's file holds.
    fn snapshot(&self, segment: Segment) -> Option<Vec<u8>> {
        let (bytes, len) = match segment {
            Segment::Stream => (&self.stream, self.stream_len),
            Segment::Ring => (&self.ring.as_ref()?.1, self.ring_len),
        };
        let mut now = vec![0; len];
        assert!(bytes.read(0, &mut now));
        now = (self.shape)(segment, now);
        for (_, at, bytes) in self.patches.iter().filter(|(of, ..)| *of == segment) {
            now[*at..*at + bytes.len()].copy_from_slice(bytes);
        }
        now.resize(self.file_len[segment as usize].unwrap_or(now.len()), 0);
        Some(now)
    }

    /// Changes bytes by hand, for good.
    pub(super) fn patch(&mut self, segment: Segment, at: usize, bytes: &[u8]) {
        self.patches.push((segment, at, bytes.to_vec()));
        self.sync();
    }

    /// Changes a field of the `number`th record that was pushed, by hand.
    pub(super) fn patch_record(&mut self, number: u64, field: usize, bytes: &[u8]) {
        self.patch(Segment::Ring, record_off(number) + field, bytes);
    }

    pub(super) fn now(&self) -> u64 {
        10_000_000_000 + self.producer.last_seq() * 40_000_000
    }

    /// The properties of the next unit, 40 ms after the last one.
    pub(super) fn unit(&self, flags: Flags, config_id: u32) -> Unit {
        let n = u32::try_from(self.producer.last_seq()).unwrap();
        let first_rtp_seq = u16::try_from(100 + 3 * n).unwrap();
        Unit {
            flags,
            config_id,
            media_ticks: i64::from(n) * 3600,
            timeline: self.timeline,
            recv_mono_ns: self.now() - 5_000_000,
            wall_utc_ns: 1_700_000_000_000_000_000 + i64::from(n) * 40_000_000,
            wall_err_us: 250,
            clock_source: 2,
            rtp_ts: 90_000 + n * 3600,
            ssrc: 0xcafe_f00d,
            first_rtp_seq,
            last_rtp_seq: first_rtp_seq + 2,
            duration_ticks: 3600,
            ..Unit::default()
        }
    }

    /// Commits a small video unit of one NAL unit on track 0.
    pub(super) fn video(&mut self, flags: Flags) -> u64 {
        let seq = self.producer.last_seq() + 1;
        let unit = self.unit(flags, 0);
        let payload = nal(seq, flags, 20);
        let end = u32::try_from(payload.len()).unwrap();
        self.commit(0, &unit, &payload, &[end])
    }

    /// Commits keyframe and others by a word: `K` a keyframe, `.` another unit.
    pub(super) fn videos(&mut self, kinds: &str) {
        for kind in kinds.chars() {
            self.video(if kind == 'K' { Flags::KEY } else { Flags(0) });
        }
    }

    pub(super) fn commit(&mut self, track: usize, unit: &Unit, payload: &[u8], nal_ends: &[u32]) -> u64 {
        self.producer.begin(track);
        self.producer.append(track, payload).unwrap();
        self.finish_unit(track, unit, payload, nal_ends)
    }

    /// Commits what was appended to the open unit of `track`.
    pub(super) fn finish_unit(&mut self, track: usize, unit: &Unit, payload: &[u8], nal_ends: &[u32]) -> u64 {
        let seq = self.producer.commit(track, unit, nal_ends, self.now()).unwrap();
        self.timeline = unit.timeline;
        self.account(seq, track, unit, payload, nal_ends);
        let what = format!("unit {seq} on track {track}: {} bytes, flags {:#x}", payload.len(), unit.flags.0);
        self.comment(&what);
        self.sync();
        seq
    }

    /// Notes what readers must see of a unit: the tables of §3 once more, by hand.
    fn account(&mut self, seq: u64, track: usize, unit: &Unit, payload: &[u8], nal_ends: &[u32]) {
        let pub_mono_ns = 10_000_000_000 + (seq - 1) * 40_000_000;
        let model = &mut self.tracks[track];
        let (len, count) = (payload.len() as u64, nal_ends.len() as u64);
        let nal_off = if count > 0 { round_up(len, 4) } else { 0 };
        let end = 128 + if count > 0 { nal_off + 4 * count } else { len };
        let mut start = model.write_pos;
        if start % ARENA + end > ARENA {
            start = (start / ARENA + 1) * ARENA;
        }
        model.write_pos = round_up(start + end, 64);
        if unit.flags.contains(Flags::KEY) {
            model.key_seq = seq;
        }
        let ns = i128::from(unit.media_ticks) * 1_000_000_000 / i128::from(model.timescale);
        let ns = ns.clamp(i128::from(i64::MIN), i128::from(i64::MAX));
        let flags = unit.flags.0 | if count > 0 { Flags::HAS_NAL_INDEX.0 } else { 0 };
        let descriptor = Descriptor {
            seq,
            pos: start + 128,
            len: u32::try_from(len).unwrap(),
            flags,
            record_type: if model.kind == TrackKind::Video { 1 } else { 2 },
            track: u16::try_from(track).unwrap(),
            config_id: unit.config_id,
            media_ticks: unit.media_ticks,
            pts_ns: i64::try_from(ns).unwrap(),
            timeline: unit.timeline,
            lost_packets: unit.lost_packets,
            key_seq: model.key_seq,
            recv_mono_ns: unit.recv_mono_ns,
            pub_mono_ns,
            wall_utc_ns: unit.wall_utc_ns,
            wall_err_us: unit.wall_err_us,
            clock_source: unit.clock_source,
            reserved: [0; 3],
            rtp_ts: unit.rtp_ts,
            ssrc: unit.ssrc,
            first_rtp_seq: unit.first_rtp_seq,
            last_rtp_seq: unit.last_rtp_seq,
            nal_count: u32::try_from(count).unwrap(),
            nal_off: u32::try_from(nal_off).unwrap(),
            duration_ticks: unit.duration_ticks,
            filtered: 0,
        };
        self.sent.insert(seq, Sent { descriptor, nal_ends: nal_ends.to_vec(), crc32: crc32(payload) });
    }

    /// Makes a configuration current; its id must be `id`.
    pub(super) fn configure(&mut self, track: usize, configuration: &Configuration<'_>, id: u32) {
        assert_eq!(self.producer.configure(track, configuration), Ok(id));
        let what = format!("configuration {id} of track {track}: {} bytes", configuration.data.len());
        self.comment(&what);
        self.sync();
    }

    /// The reader takes all there is; `essence` is what must come of it, see [`essence`].
    pub(super) fn take(&mut self, essence: &str) {
        self.take_slowly(essence);
        self.give_back();
    }

    /// The reader takes all there is and has not yet given the slots back.
    pub(super) fn take_slowly(&mut self, essence: &str) {
        self.sync();
        self.script.line("take");
        let producer = &self.producer;
        let status = self.status.unwrap_or((producer.state(), self.timeline, producer.last_seq()));
        self.expected.push(Expected { essence: essence.into(), status, sent: self.sent.clone() });
    }

    /// The reader gives back what it took.
    pub(super) fn give_back(&self) {
        let pushed = self.producer.readers().iter().map(ReaderRing::pushed).max().unwrap_or(0);
        self.set_head(pushed);
    }

    /// What the reader claims to have read.
    pub(super) fn set_head(&self, head: u64) {
        self.cursor.word64(CURSOR_HEAD_LEN).unwrap().store(head, Ordering::Release);
    }

    /// Detaches the reader.
    pub(super) fn detach(&mut self) {
        let id = self.ring.as_ref().unwrap().0;
        self.producer.detach(id).unwrap();
        self.sync();
    }

    /// The vector, after its replay was held against what was expected.
    pub(super) fn finish(mut self, name: &str, about: &str) -> Vector {
        for segment in [Segment::Stream, Segment::Ring] {
            let len = self.snapshot(segment).unwrap().len();
            self.script.size(segment, len, self.seals[segment as usize]);
        }
        let script = self.script.text(about);
        let takes = replay(&script);
        assert_eq!(takes.len(), self.expected.len());
        for (n, (events, expected)) in takes.iter().zip(&self.expected).enumerate() {
            assert_eq!(essence(events), expected.essence, "{name}, take {n}: {events:#?}");
            events.iter().for_each(|event| expected.check(event));
        }
        let jsonl = takes.iter().flatten().map(Event::to_json).collect();
        Vector { name: name.into(), about: about.into(), script, jsonl }
    }
}

impl Expected {
    /// Compares what the essence leaves out: a unit's every field and byte, and what the stream says of itself.
    fn check(&self, event: &Event) {
        if let Event::Unit { descriptor, nal_ends, crc32, .. } = event {
            let sent = &self.sent[&descriptor.seq];
            // The count of the records withheld is the essence's.
            let descriptor = Descriptor { filtered: sent.descriptor.filtered, ..*descriptor };
            let seen = Sent { descriptor, nal_ends: nal_ends.clone(), crc32: *crc32 };
            assert_eq!(&seen, sent);
        }
        if let Event::Counts { status, .. } = event {
            assert_eq!((status.state, status.timeline, status.last_seq), self.status);
        }
    }
}

/// What happened in one `take`, in words: `c1` a configuration, `2` a unit, `5-2` a unit after a loss of two, then
/// `| first..last accepted+rejected+skipped+lost+filtered`, or `refused segment why`.
fn essence(events: &[Event]) -> String {
    let word = |event: &Event| match event {
        Event::Refused { segment, why } => format!("refused {segment} {why}"),
        Event::Configuration { configuration, .. } => format!("c{}", configuration.id),
        Event::Unit { descriptor, lost: 0, .. } => descriptor.seq.to_string(),
        Event::Unit { descriptor, lost, .. } => format!("{}-{lost}", descriptor.seq),
        Event::Ended { state, reason } => format!("{} {}", ring_state(*state), end_reason(*reason)),
        Event::Counts { counts: c, .. } => format!(
            "| {}..{} {}+{}+{}+{}+{}",
            c.first_seq, c.last_seq, c.accepted, c.rejected, c.skipped, c.lost, c.filtered
        ),
        Event::Message { .. } => "message".into(),
        Event::BadMessage { why } => (*why).into(),
    };
    events.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// Offset of the `number`th record in the ring as our producer makes it.
pub(super) fn record_off(number: u64) -> usize {
    usize::try_from(RING_HEAD_LEN + number % SLOTS * DESCRIPTOR_LEN).unwrap()
}

/// Offset of a field of the track entry `track` as our producer lays it out.
pub(super) fn track_off(track: usize, field: usize) -> usize {
    256 + track * 256 + field
}

/// Offset of a byte of configuration entry `entry` of a stream's only track.
pub(super) fn config_off(entry: usize, at: usize) -> usize {
    4096 + entry * 4096 + at
}

/// Offset of a record's field.
macro_rules! field {
    ($name:ident) => {
        std::mem::offset_of!(crate::layout::Descriptor, $name)
    };
}
pub(super) use field;

/// A NAL unit of H.264 with its start code: `len` bytes that tell which unit they belong to.
pub(super) fn nal(seq: u64, flags: Flags, len: usize) -> Vec<u8> {
    let header = if flags.contains(Flags::KEY) { 0x65 } else { 0x41 };
    [&[0, 0, 0, 1, header][..], &filler(seq, len)].concat()
}

/// Bytes that look like nothing and are never 0, so that no start code comes of them.
pub(super) fn filler(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        u8::try_from(state >> 56).unwrap() | 1
    };
    (0..len).map(|_| next()).collect()
}

/// A large payload that takes few lines: zeros but for its begin, middle and end.
pub(super) fn sparse(seq: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    for at in [0, len / 2, len - 8] {
        bytes[at..at + 8].copy_from_slice(&filler(seq + at as u64, 8));
    }
    bytes
}

/// Parameter sets that say what they are.
pub(super) fn configuration(codec: Codec, width: u32, data: &[u8]) -> Configuration<'_> {
    Configuration { codec, data, profile: 100, level: 40, width, height: 1080, frame_rate: (25, 1) }
}

fn whole(fd: &std::os::fd::OwnedFd, len: usize) -> Bytes<ReadOnly> {
    Mapping::read_only(fd, len).unwrap().bytes(0, len as u64).unwrap()
}
