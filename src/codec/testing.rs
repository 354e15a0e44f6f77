//! A sink for tests: keeps what it is given and insists on the order of calls.

use super::{
    AccessUnit, AccessUnitSink, AppendError, ClockSource, Codec, CommitError, ConfigError, ConfigId,
    ParameterSets, UnitFlags,
};
use crate::time::{Mono, UnixNanos};

/// A committed unit: the fields of [`AccessUnit`], owned, with the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of AccessUnit")]
pub struct OwnedUnit {
    pub payload: Vec<u8>,
    pub nal_ends: Vec<u32>,
    pub flags: UnitFlags,
    pub config: Option<ConfigId>,
    pub media_ticks: i64,
    pub timeline: u32,
    pub lost_packets: u32,
    pub received: Mono,
    pub wall: UnixNanos,
    pub wall_error_us: u32,
    pub clock_source: ClockSource,
    pub rtp_timestamp: u32,
    pub ssrc: u32,
    pub first_rtp_sequence: u16,
    pub last_rtp_sequence: u16,
}

impl OwnedUnit {
    /// The NAL units without their start codes.
    ///
    /// # Panics
    /// When the index and the payload disagree.
    pub fn nals(&self) -> Vec<&[u8]> {
        let mut start = 0;
        let mut nals = Vec::new();
        for &end in &self.nal_ends {
            let nal = &self.payload[start..end as usize];
            assert_eq!(nal[..4], [0, 0, 0, 1], "each NAL unit begins with a start code");
            nals.push(&nal[4..]);
            start = end as usize;
        }
        assert_eq!(start, self.payload.len(), "the index covers the payload");
        nals
    }
}

/// Parameter sets that were declared.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of ParameterSets")]
pub struct OwnedSets {
    pub codec: Codec,
    pub annex_b: Vec<u8>,
    pub profile: u8,
    pub level: u8,
    pub width: u32,
    pub height: u32,
    pub frame_rate: (u32, u32),
}

/// Keeps units and parameter sets in vectors. Panics when calls come out of order, also where
/// [`AccessUnitSink`] would tolerate it.
#[derive(Clone, Debug)]
pub struct VecSink {
    /// Committed units, in order.
    pub units: Vec<OwnedUnit>,
    /// Declared parameter sets; a [`ConfigId`] is the place in here.
    pub configs: Vec<OwnedSets>,
    /// Units given up.
    pub aborted: usize,
    /// Bytes a unit may have.
    pub limit: usize,
    open: Option<Vec<u8>>,
}

impl Default for VecSink {
    fn default() -> Self {
        Self::with_limit(usize::MAX)
    }
}

impl VecSink {
    /// An empty sink.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty sink that refuses units of more than `limit` bytes.
    pub const fn with_limit(limit: usize) -> Self {
        Self { units: Vec::new(), configs: Vec::new(), aborted: 0, limit, open: None }
    }

    /// Whether a unit is open.
    pub const fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The NAL units of each unit.
    pub fn nals(&self) -> Vec<Vec<&[u8]>> {
        self.units.iter().map(OwnedUnit::nals).collect()
    }
}

impl AccessUnitSink for VecSink {
    fn begin(&mut self) {
        assert!(self.open.is_none(), "a unit is begun while one is open");
        self.open = Some(Vec::new());
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), AppendError> {
        let Some(open) = &mut self.open else { panic!("bytes are appended to no unit") };
        assert!(!bytes.is_empty(), "nothing is appended");
        if open.len() + bytes.len() > self.limit {
            return Err(AppendError::TooLarge { limit: self.limit });
        }
        open.extend_from_slice(bytes);
        Ok(())
    }

    fn commit(&mut self, unit: &AccessUnit<'_>) -> Result<(), CommitError> {
        let Some(payload) = self.open.take() else { panic!("no unit is committed") };
        if let Some(ConfigId(id)) = unit.config {
            assert!((id as usize) < self.configs.len(), "a unit has parameter sets that were never declared");
        }
        let unit = OwnedUnit {
            payload,
            nal_ends: unit.nal_ends.to_vec(),
            flags: unit.flags,
            config: unit.config,
            media_ticks: unit.media_ticks,
            timeline: unit.timeline,
            lost_packets: unit.lost_packets,
            received: unit.received,
            wall: unit.wall,
            wall_error_us: unit.wall_error_us,
            clock_source: unit.clock_source,
            rtp_timestamp: unit.rtp_timestamp,
            ssrc: unit.ssrc,
            first_rtp_sequence: unit.first_rtp_sequence,
            last_rtp_sequence: unit.last_rtp_sequence,
        };
        assert!(!unit.nals().is_empty(), "a unit has no NAL units");
        self.units.push(unit);
        Ok(())
    }

    fn abort(&mut self) {
        assert!(self.open.take().is_some(), "no unit is aborted");
        self.aborted += 1;
    }

    fn configure(&mut self, sets: &ParameterSets<'_>) -> Result<ConfigId, ConfigError> {
        let known = self.configs.iter().position(|known| known.annex_b == sets.annex_b);
        let id = known.unwrap_or_else(|| {
            self.configs.push(OwnedSets {
                codec: sets.codec,
                annex_b: sets.annex_b.to_vec(),
                profile: sets.profile,
                level: sets.level,
                width: sets.width,
                height: sets.height,
                frame_rate: sets.frame_rate,
            });
            self.configs.len() - 1
        });
        Ok(ConfigId(u32::try_from(id).unwrap_or(u32::MAX)))
    }
}
