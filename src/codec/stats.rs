//! Counters of one stream's depacketiser.

/// What a [`super::Depacketizer`] did since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Units committed.
    pub units: u64,
    /// Of these, key units: decoding can start there, recovery points among them.
    pub key_units: u64,
    /// Of these, units with the flag "damaged".
    pub damaged_units: u64,
    /// Payload bytes of committed units, start codes included.
    pub bytes: u64,
    /// Units dropped: larger than a unit may be.
    pub dropped_too_large: u64,
    /// Of these, those since the newest committed unit.
    pub too_large_since_unit: u64,
    /// Units dropped: more NAL units than a unit may have.
    pub dropped_too_many_nals: u64,
    /// Units that the sink did not commit.
    pub dropped_by_sink: u64,
    /// Units without a slice that a reset or a loss cut off.
    pub dropped_unfinished: u64,
    /// NAL units committed.
    pub nals: u64,
    /// NAL units dropped: forbidden bit, or a type that is no NAL unit of a stream.
    pub nals_dropped: u64,
    /// Fragments without the start of their NAL unit.
    pub fragments_dropped: u64,
    /// Fragmented NAL units without a last fragment, though no packet is missing.
    pub fragments_unended: u64,
    /// Payloads that end within a header or whose lengths reach beyond them.
    pub malformed: u64,
    /// Parameter sets that were too large to be kept or published.
    pub parameter_sets_too_large: u64,
}
