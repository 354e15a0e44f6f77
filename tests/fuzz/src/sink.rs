//! A sink that keeps the newest unit only, and holds whoever fills it to its rules.

use std::hash::{DefaultHasher, Hash, Hasher};

use vms_pure::codec::{
    AccessUnit, AccessUnitSink, AppendError, CommitError, ConfigError, ConfigId, ParameterSets, UnitFlags,
};
use vms_pure::limits::{NALS_PER_UNIT_MAX, PARAMETER_SETS_LEN_MAX, UNIT_LEN_MAX};

/// Panics at calls out of order and at units that contradict themselves or the unit before.
#[derive(Debug)]
pub struct Sink {
    /// Whether a unit is open, in `payload`.
    is_open: bool,
    payload: Vec<u8>,
    limit: usize,
    /// Hashes of what was configured; an id is the place in here.
    configs: Vec<u64>,
    /// What came so far, in order.
    pub seen: Seen,
    /// The newest committed unit.
    pub newest: Option<Newest>,
}

/// Sums over all committed units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub units: u64,
    pub key_units: u64,
    pub damaged_units: u64,
    pub bytes: u64,
    pub nals: u64,
    pub lost_packets: u64,
    /// Of everything that the sink was told, in order.
    pub hash: u64,
}

/// A committed unit.
#[derive(Clone, Debug)]
pub struct Newest {
    pub payload: Vec<u8>,
    pub nal_ends: Vec<u32>,
    pub flags: UnitFlags,
    pub config: Option<ConfigId>,
    pub media_ticks: i64,
    pub timeline: u32,
    pub lost_packets: u32,
}

impl Newest {
    /// The NAL units without their start codes.
    pub fn nals(&self) -> Vec<&[u8]> {
        let starts = std::iter::once(0).chain(self.nal_ends.iter().map(|end| *end as usize));
        starts.zip(&self.nal_ends).map(|(start, end)| &self.payload[start + 4..*end as usize]).collect()
    }
}

impl Sink {
    /// An empty sink that refuses units of more than `limit` bytes.
    pub fn new(limit: usize) -> Self {
        let seen = Seen::default();
        Self { is_open: false, payload: Vec::new(), limit, configs: Vec::new(), seen, newest: None }
    }

    /// Whether a unit is open.
    pub const fn is_open(&self) -> bool {
        self.is_open
    }

    /// Bytes on the heap.
    pub fn held(&self) -> usize {
        let newest = |unit: &Newest| unit.payload.capacity() + unit.nal_ends.capacity() * 4;
        self.payload.capacity() + self.configs.capacity() * 8 + self.newest.as_ref().map_or(0, newest)
    }

    fn note(&mut self, what: impl Hash) {
        let mut hasher = DefaultHasher::new();
        (self.seen.hash, what).hash(&mut hasher);
        self.seen.hash = hasher.finish();
    }

    fn check(&self, unit: &AccessUnit<'_>) {
        assert!(!self.payload.is_empty() && self.payload.len() <= UNIT_LEN_MAX);
        assert!(!unit.nal_ends.is_empty() && unit.nal_ends.len() <= NALS_PER_UNIT_MAX);
        let mut start = 0;
        for end in unit.nal_ends.iter().map(|end| *end as usize) {
            assert!(end > start + 4, "an empty NAL unit");
            assert_eq!(self.payload[start..start + 4], [0, 0, 0, 1], "each begins with a start code");
            start = end;
        }
        assert_eq!(start, self.payload.len(), "the index covers the payload");
        let before = self.newest.as_ref();
        assert!(unit.config.is_none_or(|id| (id.0 as usize) < self.configs.len()), "never declared");
        if unit.config.is_some() && unit.config != before.and_then(|unit| unit.config) {
            assert!(unit.flags.contains(UnitFlags::CONFIG_CHANGED));
        }
        let is_other = before.is_none_or(|before| before.timeline != unit.timeline);
        assert_eq!(unit.flags.contains(UnitFlags::DISCONT), is_other, "a break of the timeline is told");
        if unit.flags.contains(UnitFlags::RECOVERY_POINT) {
            assert!(unit.flags.contains(UnitFlags::KEY));
        }
    }
}

impl AccessUnitSink for Sink {
    fn begin(&mut self) {
        assert!(!self.is_open, "a unit is begun while one is open");
        self.is_open = true;
        self.payload.clear();
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), AppendError> {
        assert!(self.is_open, "bytes are appended to no unit");
        assert!(!bytes.is_empty(), "nothing is appended");
        if self.payload.len() + bytes.len() > self.limit {
            return Err(AppendError::TooLarge { limit: self.limit });
        }
        self.payload.extend_from_slice(bytes);
        Ok(())
    }

    fn commit(&mut self, unit: &AccessUnit<'_>) -> Result<(), CommitError> {
        assert!(std::mem::take(&mut self.is_open), "no unit is committed");
        self.check(unit);
        let payload = std::mem::take(&mut self.payload);
        let times = (
            unit.media_ticks,
            unit.timeline,
            unit.received,
            unit.wall,
            unit.wall_error_us,
            unit.clock_source,
        );
        let packets = (unit.lost_packets, unit.first_rtp_sequence, unit.last_rtp_sequence);
        self.note((
            &payload,
            unit.nal_ends,
            unit.flags,
            unit.config,
            times,
            unit.rtp_timestamp,
            unit.ssrc,
            packets,
        ));
        let seen = &mut self.seen;
        seen.units += 1;
        seen.key_units += u64::from(unit.flags.contains(UnitFlags::KEY));
        seen.damaged_units += u64::from(unit.flags.contains(UnitFlags::DAMAGED));
        seen.bytes += payload.len() as u64;
        seen.nals += unit.nal_ends.len() as u64;
        seen.lost_packets += u64::from(unit.lost_packets);
        self.newest = Some(Newest {
            payload,
            nal_ends: unit.nal_ends.to_vec(),
            flags: unit.flags,
            config: unit.config,
            media_ticks: unit.media_ticks,
            timeline: unit.timeline,
            lost_packets: unit.lost_packets,
        });
        Ok(())
    }

    fn abort(&mut self) {
        assert!(std::mem::take(&mut self.is_open), "no unit is aborted");
        self.note("abort");
    }

    fn configure(&mut self, sets: &ParameterSets<'_>) -> Result<ConfigId, ConfigError> {
        assert!(!sets.annex_b.is_empty() && sets.annex_b.len() <= PARAMETER_SETS_LEN_MAX);
        let mut hasher = DefaultHasher::new();
        (sets.annex_b, format!("{:?}", sets.format())).hash(&mut hasher);
        let hash = hasher.finish();
        self.note(hash);
        let at = self.configs.iter().position(|known| *known == hash).unwrap_or_else(|| {
            self.configs.push(hash);
            self.configs.len() - 1
        });
        Ok(ConfigId(u32::try_from(at).unwrap()))
    }
}
