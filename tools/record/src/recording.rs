//! One stream that is recorded: its units into files, one after another, and what the catalogue has to know of them. Touches no file
//! and reads no clock.

use std::collections::VecDeque;
use std::path::PathBuf;

use ring_abi::consumer::Configuration;
use ring_abi::layout::{Codec, Descriptor, Flags};

use crate::cut::{CutPolicy, Cutter, Place, UnitFacts, Why};
use crate::mkv::{Finished, Frame, Header, Muxer, Payload, SeekPoint, VideoTrack};
use crate::utc;
use crate::volume::{FileId, Volume};

/// A unit, as the ring gave it.
#[derive(Clone, Copy, Debug)]
pub struct RingUnit<'a> {
    /// What is known of it.
    pub descriptor: &'a Descriptor,
    /// Annex B.
    pub payload: &'a [u8],
    /// Where its NAL units end.
    pub nal_ends: &'a [u32],
    /// Units missing right before it.
    pub lost: u64,
    /// The parameter sets that it refers to, if they are known.
    pub configuration: Option<&'a Configuration>,
}

/// What the catalogue knows of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Of the stream.
    pub stream: String,
    /// Within the storage.
    pub path: PathBuf,
    /// Why it begins where it does: [`Why::name`], or `recovered` when that is not known.
    pub why: String,
    /// Of the stream when it was recorded.
    pub epoch: u64,
    /// Of its first unit.
    pub timeline: u32,
    /// `h264` or `h265`.
    pub codec: String,
    /// Luma samples a line; 0 unknown.
    pub width: u32,
    /// Lines; 0 unknown.
    pub height: u32,
    /// Capture of the first unit, UTC.
    pub start_utc_ns: i64,
    /// Capture of the last unit, UTC. Where it is not `start_utc_ns` and the media time between, the camera's clock drifts or was set.
    pub end_utc_ns: i64,
    /// Presentation of the first unit in its timeline.
    pub start_pts_ns: i64,
    /// From timestamp 0 of the file to the end of its last unit.
    pub duration_ns: i64,
    /// Number of the first unit.
    pub first_seq: u64,
    /// Number of the last unit.
    pub last_seq: u64,
    /// Units in it.
    pub units: u64,
    /// Those of them that are not whole, or refer to one that is not.
    pub damaged: u64,
    /// Of the file.
    pub bytes: u64,
    /// Where `start_utc_ns` comes from (`ring-abi/SPEC.md` §3).
    pub clock_source: u8,
    /// Where playing can start.
    pub seek_points: Vec<SeekPoint>,
}

/// Why there is nothing of a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// Units were published that the recorder did not get in time, or could not write.
    Missed,
    /// The camera, its network or its clock: the media clock began anew.
    Camera,
    /// The stream was set up anew or the daemon was started again.
    Restart,
    /// Units came that nobody can decode: no keyframe, or no parameter sets.
    Undecodable,
}

impl GapReason {
    /// For the catalogue.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Missed => "missed",
            Self::Camera => "camera",
            Self::Restart => "restart",
            Self::Undecodable => "undecodable",
        }
    }
}

/// A time of which there is nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The last unit before it, UTC.
    pub from_utc_ns: i64,
    /// The first one behind it.
    pub to_utc_ns: i64,
    /// Why.
    pub reason: GapReason,
    /// Units that are missing; 0 when that is not known.
    pub lost: u64,
}

/// What the catalogue is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A file is complete, but for what the disk says.
    Segment(FileId, Box<Segment>),
    /// There is a gap.
    Gap(Gap),
}

/// A stream that is recorded.
#[derive(Debug)]
pub struct Recording {
    stream: String,
    epoch: u64,
    cutter: Cutter,
    open: Option<OpenFile>,
    last: Option<LastUnit>,
    /// Epoch and number of the last unit that was recorded.
    recorded: Option<(u64, u64)>,
    /// How much earlier than their keyframe leading pictures of this stream were shown.
    lead_ns: i64,
    key_pts_ns: i64,
    /// Files that the disk has failed.
    failures: u32,
    /// Units that went nowhere since the last one that was recorded, and the time of the first.
    dropped: Option<(u64, i64)>,
}

#[derive(Debug)]
struct OpenFile {
    file: FileId,
    muxer: Muxer,
    segment: Segment,
    timeline: u32,
    /// What is added to the presentation times of a timeline that began in the middle of this file.
    shift_ns: i64,
    last_pts_ns: i64,
    /// What was flushed: up to where in the file, and up to which unit. The oldest first; what is on the disk but for the last is forgotten.
    flushed: VecDeque<(u64, u64)>,
    /// So much is on the disk.
    durable_to: u64,
}

/// The unit that came last, recorded or not.
#[derive(Clone, Copy, Debug)]
struct LastUnit {
    epoch: u64,
    seq: u64,
    /// `None` of an earlier run's.
    timeline: Option<u32>,
    wall_utc_ns: i64,
    recv_mono_ns: u64,
}

/// Where an earlier run has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Of the stream then.
    pub epoch: u64,
    /// The last unit that was recorded.
    pub seq: u64,
    /// Its time.
    pub utc_ns: i64,
}

impl Recording {
    /// Of a stream that is not attached yet.
    pub fn new(stream: &str, policy: CutPolicy, stopped: Option<Stopped>) -> Self {
        let last = stopped.map(|Stopped { epoch, seq, utc_ns }| LastUnit {
            epoch,
            seq,
            timeline: None,
            wall_utc_ns: utc_ns,
            recv_mono_ns: 0,
        });
        Self {
            stream: stream.to_owned(),
            epoch: 0,
            cutter: Cutter::new(policy),
            open: None,
            last,
            recorded: stopped.map(|stopped| (stopped.epoch, stopped.seq)),
            lead_ns: 0,
            key_pts_ns: 0,
            failures: 0,
            dropped: None,
        }
    }

    /// The stream's name.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// Of the units that come.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The stream was attached, of this epoch.
    pub const fn attached(&mut self, epoch: u64) {
        self.epoch = epoch;
    }

    /// Records a unit.
    pub fn unit(&mut self, unit: &RingUnit<'_>, volume: &mut Volume, notes: &mut Vec<Note>) {
        let d = unit.descriptor;
        let facts = UnitFacts {
            is_key: d.has(Flags::KEY),
            continues: self.recorded == Some((self.epoch, d.seq.wrapping_sub(1))),
            epoch: self.epoch,
            timeline: d.timeline,
            config_id: unit.configuration.map_or(0, |_| d.config_id),
            wall_utc_ns: d.wall_utc_ns,
            pts_ns: d.pts_ns,
        };
        if let Some(gap) = self.gap(unit) {
            notes.push(Note::Gap(gap));
        }
        let len = self.open.as_ref().map_or(0, |open| open.muxer.position());
        match self.cutter.place(&facts, len) {
            Place::NewFile(why) => {
                if let Some((lost, from_utc_ns)) = self.dropped.take() {
                    let reason = GapReason::Undecodable;
                    notes.push(Note::Gap(Gap { from_utc_ns, to_utc_ns: d.wall_utc_ns, reason, lost }));
                }
                self.finish_file(volume, notes);
                self.begin_file(why, unit, volume);
            }
            Place::OpenFile => {}
            Place::NoKeyframe | Place::NoConfiguration => {
                self.dropped.get_or_insert((0, d.wall_utc_ns)).0 += 1;
            }
        }
        self.write(unit, volume);
        self.last = Some(LastUnit {
            epoch: self.epoch,
            seq: d.seq,
            timeline: Some(d.timeline),
            wall_utc_ns: d.wall_utc_ns,
            recv_mono_ns: d.recv_mono_ns,
        });
    }

    /// What is missing in front of this unit.
    fn gap(&self, unit: &RingUnit<'_>) -> Option<Gap> {
        let (d, last) = (unit.descriptor, self.last?);
        let between = |reason, lost| {
            Some(Gap { from_utc_ns: last.wall_utc_ns, to_utc_ns: d.wall_utc_ns, reason, lost })
        };
        if last.epoch != self.epoch {
            return between(GapReason::Restart, 0);
        }
        let missed = unit.lost.max(d.seq.saturating_sub(last.seq).saturating_sub(1));
        match () {
            () if missed > 0 => between(GapReason::Missed, missed),
            () if last.timeline.is_some_and(|timeline| timeline != d.timeline) => {
                between(GapReason::Camera, 0)
            }
            () => None,
        }
    }

    fn begin_file(&mut self, why: Why, unit: &RingUnit<'_>, volume: &mut Volume) {
        let d = unit.descriptor;
        let Some(configuration) = unit.configuration else { return self.cutter.close() };
        let track = VideoTrack {
            codec: configuration.codec(),
            parameter_sets: &configuration.data,
            width: configuration.width,
            height: configuration.height,
        };
        let uuid = u128::from(self.epoch) << 64 | u128::from(d.seq);
        let Ok(header) = Header::new(track, uuid, &self.stream, d.wall_utc_ns) else {
            return self.cutter.close();
        };
        let header = header
            .tag("STREAM_ID", &self.stream)
            .tag("EPOCH", &format!("{:016x}", self.epoch))
            .tag("TIMELINE", &d.timeline.to_string())
            .tag("FIRST_SEQ", &d.seq.to_string())
            .tag("FIRST_PTS_NS", &d.pts_ns.to_string())
            .tag("CLOCK_SOURCE", clock_source(d.clock_source));
        let path = utc::path(&self.stream, d.wall_utc_ns, d.seq, self.failures);
        let file = volume.create(path.clone());
        let zero_ns = d.pts_ns.saturating_sub(self.lead_ns);
        let muxer = Muxer::begin(&header, self.epoch, zero_ns, &mut volume.appender(file));
        let segment = Segment {
            stream: self.stream.clone(),
            path,
            why: why.name().to_owned(),
            epoch: self.epoch,
            timeline: d.timeline,
            codec: codec_name(track.codec).to_owned(),
            width: track.width,
            height: track.height,
            start_utc_ns: d.wall_utc_ns,
            end_utc_ns: d.wall_utc_ns,
            start_pts_ns: d.pts_ns,
            duration_ns: 0,
            first_seq: d.seq,
            last_seq: d.seq,
            units: 0,
            damaged: 0,
            bytes: 0,
            clock_source: d.clock_source,
            seek_points: Vec::new(),
        };
        self.open = Some(OpenFile {
            file,
            muxer,
            segment,
            timeline: d.timeline,
            shift_ns: 0,
            last_pts_ns: d.pts_ns,
            flushed: VecDeque::new(),
            durable_to: 0,
        });
    }

    fn write(&mut self, unit: &RingUnit<'_>, volume: &mut Volume) {
        let (d, last) = (unit.descriptor, self.last);
        let Some(open) = &mut self.open else { return };
        if d.timeline != open.timeline {
            // In the middle of a group of pictures: the file goes on, its time too, by what passed here.
            let passed = last.map_or(0, |last| d.recv_mono_ns.saturating_sub(last.recv_mono_ns));
            let expected = open.last_pts_ns.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX));
            open.shift_ns = expected.saturating_sub(d.pts_ns);
            open.timeline = d.timeline;
        }
        let pts_ns = d.pts_ns.saturating_add(open.shift_ns);
        let is_key = d.has(Flags::KEY);
        if is_key {
            self.key_pts_ns = pts_ns;
        } else {
            self.lead_ns = self.lead_ns.max(self.key_pts_ns.saturating_sub(pts_ns)).min(LEAD_NS_MAX);
        }
        let frame = Frame {
            payload: Payload::AnnexB { bytes: unit.payload, nal_ends: unit.nal_ends },
            pts_ns,
            is_key,
            is_disposable: d.has(Flags::NON_REF),
            seq: d.seq,
        };
        open.muxer.unit(&frame, &mut volume.appender(open.file));
        open.last_pts_ns = pts_ns;
        self.recorded = Some((self.epoch, d.seq));
        let segment = &mut open.segment;
        segment.units += 1;
        segment.damaged += u64::from(d.has(Flags::DAMAGED));
        segment.last_seq = d.seq;
        segment.end_utc_ns = d.wall_utc_ns;
    }

    /// Gives to the disk what was recorded since the last time.
    pub fn flush(&mut self, volume: &mut Volume) {
        if let Some(open) = self.open.as_mut().filter(|open| !open.muxer.is_checked()) {
            open.muxer.checkpoint(&mut volume.appender(open.file));
            volume.flush(open.file);
            open.flushed.push_back((open.muxer.position(), open.segment.last_seq));
        }
    }

    /// So much of a file is on the disk.
    pub fn durable(&mut self, file: FileId, offset: u64) {
        let Some(open) = self.open.as_mut().filter(|open| open.file == file) else { return };
        while open.flushed.get(1).is_some_and(|(end, _)| *end <= offset) {
            open.flushed.pop_front();
        }
        open.durable_to = open.durable_to.max(offset);
    }

    /// Ends the file that is open; the next unit that can begin one does.
    pub fn end_file(&mut self, volume: &mut Volume, notes: &mut Vec<Note>) {
        self.finish_file(volume, notes);
        self.cutter.close();
    }

    fn finish_file(&mut self, volume: &mut Volume, notes: &mut Vec<Note>) {
        let Some(OpenFile { file, muxer, mut segment, .. }) = self.open.take() else { return };
        let Finished { header, len, duration_ns, units, seek_points } =
            muxer.finish(&mut volume.appender(file));
        volume.flush(file);
        volume.finish(file, header);
        debug_assert_eq!(units, segment.units, "counted twice");
        segment.bytes = len;
        segment.duration_ns = duration_ns;
        segment.seek_points = seek_points;
        notes.push(Note::Segment(file, Box::new(segment)));
    }

    /// The disk has failed a file. If it is the one that is open, forgets it: the last unit that is surely on the disk, and where in the file that
    /// ends. What is behind is to be recorded again.
    pub fn lost_file(&mut self, file: FileId) -> Option<(u64, u64)> {
        let open = self.open.take_if(|open| open.file == file)?;
        self.cutter.close();
        self.failures += 1;
        let is_durable = |(end, _): &&(u64, u64)| *end <= open.durable_to;
        let before = (0, open.segment.first_seq.saturating_sub(1));
        let (end, last_seq) = open.flushed.iter().rev().find(is_durable).copied().unwrap_or(before);
        // What comes next is what came behind that unit.
        self.recorded = Some((self.epoch, last_seq));
        self.last = self.last.map(|last| LastUnit { seq: last_seq, ..last });
        Some((last_seq, end))
    }
}

/// A codec's name in the catalogue.
pub(crate) const fn codec_name(codec: Codec) -> &'static str {
    match codec {
        Codec::H264 => "h264",
        Codec::H265 => "h265",
        Codec::Unknown => "unknown",
    }
}

pub(crate) const fn clock_source(number: u8) -> &'static str {
    match number {
        1 => "receive",
        2 => "sender-report",
        3 => "suspect",
        _ => "unknown",
    }
}

/// Leading pictures are at most a few units earlier; what says more is no picture order.
const LEAD_NS_MAX: i64 = 1_000_000_000;
