//! Access units in, bytes of a Matroska file and its seek points out. Touches no file and reads no clock.

use crc32fast::Hasher;

use super::checkpoint::{CHECKPOINT_LEN, Checkpoint};
use super::cues::{Cues, SeekPoint};
use super::ebml;
use super::header::{ALIGN, Ending, Header, TICK_NS, VIDEO_TRACK, WrittenHeader};
use super::nal::{START_CODE_LEN, nal_units};

/// Where a file's bytes go, in order.
pub trait Sink {
    /// Takes the next bytes.
    fn append(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn append(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// An access unit, as the ring gives it.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Its NAL units.
    pub payload: Payload<'a>,
    /// Presentation time, ns, of the stream's timeline.
    pub pts_ns: i64,
    /// Decoding can start here.
    pub is_key: bool,
    /// No other unit refers to it.
    pub is_disposable: bool,
    /// Its number in the stream's epoch.
    pub seq: u64,
}

/// How NAL units are told apart.
#[derive(Clone, Copy, Debug)]
pub enum Payload<'a> {
    /// As the ring has them.
    AnnexB {
        /// Each NAL unit behind a start code of four bytes.
        bytes: &'a [u8],
        /// Where each ends, start codes included; empty when that is not known.
        nal_ends: &'a [u32],
    },
    /// As a file has them: each behind its length in four bytes.
    Lengths(&'a [u8]),
}

/// Writes one file.
#[derive(Debug)]
pub struct Muxer {
    /// As it was written.
    header: WrittenHeader,
    epoch: u64,
    /// `pts_ns` of timestamp 0.
    zero_ns: i64,
    /// Bytes appended so far, the header included.
    position: u64,
    /// Timestamp of the cluster that is open.
    cluster: Option<i64>,
    cues: Cues,
    times: Times,
    last_seq: u64,
    /// Where the bytes begin that are not behind a checkpoint yet, and their checksum.
    unchecked_from: u64,
    unchecked: Hasher,
}

/// A file that is whole but for its header.
#[derive(Clone, PartialEq, Eq)]
pub struct Finished {
    /// To be written over the header: of the same length, a multiple of [`ALIGN`]. Its first [`ALIGN`] bytes say that the file is
    /// finished, so they are to be written last.
    pub header: Vec<u8>,
    /// Bytes of the file.
    pub len: u64,
    /// From timestamp 0 to the end of the last unit, ns.
    pub duration_ns: i64,
    /// Access units in it.
    pub units: u64,
    /// Where playing can start.
    pub seek_points: Vec<SeekPoint>,
}

impl Muxer {
    /// Begins a file of a stream's epoch whose timestamps count from `zero_ns`, and gives its header to `out`.
    pub fn begin(header: &Header, epoch: u64, zero_ns: i64, out: &mut impl Sink) -> Self {
        let bytes = header.to_bytes();
        out.append(&bytes);
        let position = bytes.len() as u64;
        let header = WrittenHeader::read(&bytes).expect("it has just been made");
        Self {
            epoch,
            zero_ns,
            position,
            cluster: None,
            cues: Cues::new(header.cues_max()),
            header,
            times: Times::default(),
            last_seq: 0,
            unchecked_from: position,
            unchecked: Hasher::new(),
        }
    }

    /// Bytes of the file so far.
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// Whether nothing came since the last checkpoint, or since the begin.
    pub const fn is_checked(&self) -> bool {
        self.position == self.unchecked_from
    }

    /// Adds a unit, in decoding order.
    pub fn unit(&mut self, frame: &Frame<'_>, out: &mut impl Sink) {
        // What lies before the file's begin (leading pictures of its first keyframe) is shown at its begin.
        let ticks =
            frame.pts_ns.saturating_sub(self.zero_ns).saturating_add(TICK_NS / 2).div_euclid(TICK_NS).max(0);
        let mut tap = Tap { position: &mut self.position, crc: &mut self.unchecked, out };
        let offset = match self.cluster.map(|cluster| ticks - cluster) {
            Some(offset) if !frame.is_key && OFFSETS.contains(&offset) => offset,
            _ => {
                if frame.is_key {
                    self.cues.add(SeekPoint { ticks: ticks.unsigned_abs(), cluster_at: *tap.position });
                }
                self.cluster = Some(ticks);
                tap.append(&cluster_head(ticks.unsigned_abs()));
                0
            }
        };
        // In range: OFFSETS is.
        let offset = i16::try_from(offset).unwrap_or(0);
        tap.block(frame, offset);
        self.times.add(ticks);
        self.last_seq = frame.seq;
    }

    /// Closes what was appended since the last checkpoint, and pads the file to a multiple of [`ALIGN`].
    pub fn checkpoint(&mut self, out: &mut impl Sink) {
        let checkpoint = Checkpoint {
            from: self.unchecked_from,
            epoch: self.epoch,
            seq: self.last_seq,
            crc: std::mem::take(&mut self.unchecked).finalize(),
        };
        let least = self.position + (VOID_HEAD_MAX + CHECKPOINT_LEN) as u64;
        let end = least.next_multiple_of(ALIGN as u64);
        let len = usize::try_from(end - self.position).unwrap_or(usize::MAX);
        let mut bytes = Vec::with_capacity(len);
        ebml::void_head(&mut bytes, len);
        bytes.extend(checkpoint.to_bytes());
        bytes.resize(len, 0);
        out.append(&bytes);
        self.position = end;
        self.unchecked_from = end;
    }

    /// Ends the file behind its last unit. What is not behind a checkpoint gets one.
    pub fn finish(mut self, out: &mut impl Sink) -> Finished {
        if !self.is_checked() {
            self.checkpoint(out);
        }
        Finished::new(self.header, self.position, &self.times, &self.cues)
    }
}

impl std::fmt::Debug for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { header, len, duration_ns, units, seek_points } = self;
        f.debug_struct("Finished")
            .field("header", &format_args!("{} bytes, CRC {:08x}", header.len(), crc32fast::hash(header)))
            .field("len", len)
            .field("duration_ns", duration_ns)
            .field("units", units)
            .field("seek_points", seek_points)
            .finish()
    }
}

impl Finished {
    /// Of a file of `len` bytes with these units and seek points.
    pub(super) fn new(header: WrittenHeader, len: u64, times: &Times, cues: &Cues) -> Self {
        let duration_ticks = times.end();
        Self {
            header: header.finish(Ending { file_len: len, duration_ticks, cues }),
            len,
            duration_ns: i64::try_from(duration_ticks).unwrap_or(i64::MAX).saturating_mul(TICK_NS),
            units: times.count,
            seek_points: cues.points().to_vec(),
        }
    }
}

/// Counts and checks what goes to the sink.
#[derive(Debug)]
struct Tap<'a, S> {
    position: &'a mut u64,
    crc: &'a mut Hasher,
    out: &'a mut S,
}

impl<S: Sink> Tap<'_, S> {
    fn append(&mut self, bytes: &[u8]) {
        *self.position += bytes.len() as u64;
        self.crc.update(bytes);
        self.out.append(bytes);
    }

    /// A SimpleBlock: the unit with a length before each NAL unit, where the start code was.
    fn block(&mut self, frame: &Frame<'_>, offset: i16) {
        let flags = u8::from(frame.is_key) << 7 | u8::from(frame.is_disposable && !frame.is_key);
        let [high, low] = offset.to_be_bytes();
        let head = [0x80 | VIDEO_TRACK, high, low, flags];
        let len = match frame.payload {
            Payload::AnnexB { bytes, nal_ends } => {
                units_of(bytes, nal_ends).map(|unit| START_CODE_LEN + unit.len()).sum()
            }
            Payload::Lengths(bytes) => bytes.len(),
        };
        let (size, size_len) = ebml::size((head.len() + len) as u64);
        let mut block = [0; 1 + 8 + 4];
        // The id has one byte.
        let (id, rest) = block.split_at_mut(1);
        id.copy_from_slice(&[0xA3]);
        rest.iter_mut().zip(size.iter().take(size_len).chain(&head)).for_each(|(to, from)| *to = *from);
        self.append(block.get(..1 + size_len + head.len()).unwrap_or_default());
        match frame.payload {
            Payload::AnnexB { bytes, nal_ends } => {
                for unit in units_of(bytes, nal_ends) {
                    // A unit's length is a u32 in the ring.
                    self.append(&u32::try_from(unit.len()).unwrap_or(u32::MAX).to_be_bytes());
                    self.append(unit);
                }
            }
            Payload::Lengths(bytes) => self.append(bytes),
        }
    }
}

/// NAL units without start codes: by their index, or else by looking for them.
fn units_of<'a>(payload: &'a [u8], ends: &'a [u32]) -> impl Iterator<Item = &'a [u8]> {
    let mut start = 0;
    let indexed = ends.iter().filter_map(move |end| {
        let end = usize::try_from(*end).ok()?;
        let unit = payload.get(start + START_CODE_LEN..end);
        start = end;
        unit.filter(|unit| !unit.is_empty())
    });
    let scanned = ends.is_empty().then(|| nal_units(payload));
    indexed.chain(scanned.into_iter().flatten())
}

fn cluster_head(ticks: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(CLUSTER_HEAD_LEN);
    ebml::CLUSTER.put(&mut out);
    out.extend(ebml::SIZE_UNKNOWN);
    ebml::unsigned(&mut out, ebml::TIMESTAMP, ticks);
    out
}

/// Timestamps that were written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    count: u64,
    first: u64,
    last: u64,
}

impl Times {
    pub(super) fn add(&mut self, ticks: i64) {
        let ticks = ticks.unsigned_abs();
        self.first = if self.count == 0 { ticks } else { self.first.min(ticks) };
        self.last = self.last.max(ticks);
        self.count += 1;
    }

    /// Where the last unit ends, by what units take on average.
    pub(super) fn end(&self) -> u64 {
        let each = (self.last - self.first).checked_div(self.count.saturating_sub(1));
        self.last + if self.count == 0 { 0 } else { each.filter(|each| *each > 0).unwrap_or(UNIT_TICKS) }
    }
}

/// Timestamps that a cluster's blocks may have, from its own: short enough for 16 bits, and for a player that reads whole clusters.
const OFFSETS: std::ops::RangeInclusive<i64> = -20_000..=10_000;
const CLUSTER_HEAD_LEN: usize = 4 + 8 + 1 + 1 + 8;
const VOID_HEAD_MAX: usize = 9;
/// What a single unit takes: 40 ms.
const UNIT_TICKS: u64 = 400;
