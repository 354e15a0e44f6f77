//! A part of what was recorded as one file: the same units, behind each other, from a keyframe on. Pure: files in memory, bytes out.

use crate::mkv::{
    Finished, Frame, Header, HeaderFacts, Muxer, Payload, Sink, StoredUnit, TICK_NS, facts, units,
};

/// What is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// From the keyframe at or before this, UTC.
    pub from_utc_ns: i64,
    /// Up to this, not included.
    pub to_utc_ns: i64,
}

/// Why a file cannot be added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// It is none of ours.
    #[error("{path} is not readable as a recording")]
    Unreadable {
        /// The file.
        path: String,
    },
    /// A file has one set of parameters.
    #[error("the camera's parameter sets changed at {at}: export up to there, and the rest for itself")]
    OtherParameters {
        /// When.
        at: String,
    },
}

/// Puts files together.
#[derive(Debug)]
pub struct Exporter {
    range: Range,
    stream: String,
    open: Option<(Muxer, HeaderFacts, i64)>,
    count: u64,
}

impl Exporter {
    /// Of a stream.
    pub fn new(stream: &str, range: Range) -> Self {
        Self { range, stream: stream.to_owned(), open: None, count: 0 }
    }

    /// Adds what a file has of the range. Files come in the order of their times.
    ///
    /// # Errors
    /// [`ExportError`]; nothing of this file was added.
    pub fn add(&mut self, path: &str, file: &[u8], out: &mut impl Sink) -> Result<(), ExportError> {
        let unreadable = || ExportError::Unreadable { path: path.to_owned() };
        let facts = facts(file).ok_or_else(unreadable)?;
        if let Some((_, first, _)) = &self.open
            && first.codec_private != facts.codec_private
        {
            return Err(ExportError::OtherParameters { at: crate::utc::format(facts.start_utc_ns) });
        }
        // The first unit's time is the header's.
        let zero_ticks = units(file).ok_or_else(unreadable)?.next().map_or(0, |unit| unit.ticks);
        let utc_of = |unit: &StoredUnit<'_>| {
            facts.start_utc_ns.saturating_add((unit.ticks - zero_ticks).saturating_mul(TICK_NS))
        };
        let stored = || units(file).into_iter().flatten();
        // Only the first file is cut in front: what comes behind it goes on where that ends.
        let from = if self.open.is_some() {
            0
        } else {
            let is_before = |unit: &StoredUnit<'_>| unit.is_key && utc_of(unit) <= self.range.from_utc_ns;
            stored().enumerate().filter(|(_, unit)| is_before(unit)).last().map_or(0, |(index, _)| index)
        };
        let to_utc_ns = self.range.to_utc_ns;
        for unit in stored().skip(from).take_while(|unit| utc_of(unit) < to_utc_ns) {
            self.unit(&facts, &unit, utc_of(&unit), out);
        }
        Ok(())
    }

    fn unit(&mut self, facts: &HeaderFacts, unit: &StoredUnit<'_>, utc_ns: i64, out: &mut impl Sink) {
        let (muxer, _, _) = self.open.get_or_insert_with(|| {
            let uuid = u128::from_be_bytes(
                [utc_ns.to_be_bytes(), unit.ticks.to_be_bytes()].concat().try_into().unwrap_or_default(),
            );
            let header = Header::like(facts, uuid, &self.stream, utc_ns)
                .tag("STREAM_ID", &self.stream)
                .cues_max(CUES_MAX);
            (Muxer::begin(&header, 0, utc_ns, out), facts.clone(), utc_ns)
        });
        self.count += 1;
        let frame = Frame {
            payload: Payload::Lengths(unit.payload),
            pts_ns: utc_ns,
            is_key: unit.is_key,
            is_disposable: unit.is_disposable,
            seq: self.count,
        };
        muxer.unit(&frame, out);
    }

    /// Ends the file; `None` when nothing was in the range.
    pub fn finish(self, out: &mut impl Sink) -> Option<Finished> {
        self.open.map(|(muxer, ..)| muxer.finish(out))
    }
}

/// Seek points of an export: one every some seconds of a day.
const CUES_MAX: usize = 4096;
