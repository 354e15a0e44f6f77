//! The parameter sets of one stream, from the session description and in band.
//!
//! Bounded: a set has at most [`PARAMETER_SET_LEN_MAX`] bytes, there are at most [`PARAMETER_SETS_MAX`] of a
//! kind, and in Annex B form all together have at most [`PARAMETER_SETS_LEN_MAX`] bytes; beyond that the one
//! that was not seen for longest goes. Sets of the same kind and id replace each other.

use super::annex_b::trim_trailing_zeros;
use super::bits::Bits;
use super::nal::SetKind;
use super::sps::{self, SpsInfo};
use super::{Codec, ParameterSets};
use crate::limits::{PARAMETER_SET_LEN_MAX, PARAMETER_SETS_LEN_MAX, PARAMETER_SETS_MAX};

/// A parameter set was too large to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

/// Collects sets and puts them together.
#[derive(Debug)]
pub(super) struct ParameterSetCache {
    codec: Codec,
    /// Ordered by kind and id.
    sets: Vec<ParameterSet>,
    /// What [`Self::assemble`] made.
    annex_b: Vec<u8>,
    info: SpsInfo,
    /// Counts stored sets, to know which is oldest.
    clock: u64,
    changed: bool,
}

#[derive(Debug)]
struct ParameterSet {
    kind: SetKind,
    id: u32,
    seen: u64,
    nal: Vec<u8>,
}

impl ParameterSetCache {
    pub(super) fn new(codec: Codec) -> Self {
        let annex_b = Vec::with_capacity(PARAMETER_SETS_LEN_MAX);
        Self { codec, sets: Vec::new(), annex_b, info: SpsInfo::default(), clock: 0, changed: false }
    }

    pub(super) fn clear(&mut self) {
        self.changed |= !self.sets.is_empty();
        self.sets.clear();
    }

    /// Whether sets came or went since [`Self::assemble`].
    pub(super) const fn changed(&self) -> bool {
        self.changed
    }

    /// Temporal layers by the SPS; 0 when unknown.
    pub(super) const fn temporal_layers(&self) -> u8 {
        self.info.temporal_layers
    }

    /// Keeps a set. Seeing a known one again costs a comparison.
    pub(super) fn store(&mut self, kind: SetKind, nal: &[u8]) -> Result<(), TooLarge> {
        let nal = trim_trailing_zeros(nal);
        if nal.len() > PARAMETER_SET_LEN_MAX {
            return Err(TooLarge);
        }
        self.clock += 1;
        let id = set_id(self.codec, kind, nal).unwrap_or(0);
        match self.sets.binary_search_by_key(&(kind, id), |set| (set.kind, set.id)) {
            Ok(at) => {
                if let Some(set) = self.sets.get_mut(at) {
                    set.seen = self.clock;
                    if set.nal != nal {
                        self.changed = true;
                        set.nal.clear();
                        set.nal.extend_from_slice(nal);
                    }
                }
            }
            Err(at) => {
                self.changed = true;
                self.sets.insert(at, ParameterSet { kind, id, seen: self.clock, nal: nal.to_vec() });
            }
        }
        self.evict(kind);
        Ok(())
    }

    /// Puts the sets together, if there is an SPS, and declares them unchanged.
    pub(super) fn assemble(&mut self) -> Option<ParameterSets<'_>> {
        self.changed = false;
        let newest_sps =
            self.sets.iter().filter(|set| set.kind == SetKind::Sps).max_by_key(|set| set.seen)?;
        self.info = sps::read(self.codec, &newest_sps.nal);
        self.annex_b.clear();
        for set in &self.sets {
            self.annex_b.extend_from_slice(&START_CODE);
            self.annex_b.extend_from_slice(&set.nal);
        }
        Some(ParameterSets {
            codec: self.codec,
            annex_b: &self.annex_b,
            profile: self.info.profile,
            level: self.info.level,
            width: self.info.width,
            height: self.info.height,
            frame_rate: self.info.frame_rate,
        })
    }

    /// Makes room after a set of `kind` came or grew.
    fn evict(&mut self, kind: SetKind) {
        while self.sets.iter().filter(|set| set.kind == kind).count() > PARAMETER_SETS_MAX {
            self.remove_oldest(|set| set.kind == kind);
        }
        while self.annex_b_len() > PARAMETER_SETS_LEN_MAX {
            self.remove_oldest(|_| true);
        }
    }

    fn annex_b_len(&self) -> usize {
        self.sets.iter().map(|set| START_CODE.len() + set.nal.len()).sum()
    }

    fn remove_oldest(&mut self, of: impl Fn(&ParameterSet) -> bool) {
        let oldest = self.sets.iter().enumerate().filter(|(_, set)| of(set)).min_by_key(|(_, set)| set.seen);
        if let Some((at, _)) = oldest {
            self.sets.remove(at);
        }
    }
}

/// The set's own id: H.264 §7.3.2.1.1 and §7.3.2.2, H.265 §7.3.2.1 to §7.3.2.3.
fn set_id(codec: Codec, kind: SetKind, nal: &[u8]) -> Option<u32> {
    let mut bits = Bits::new(nal);
    match (codec, kind) {
        (Codec::H264, SetKind::Sps) => bits.skip(8 + 24)?,
        (Codec::H264, SetKind::Vps | SetKind::Pps) => bits.skip(8)?,
        (Codec::H265, SetKind::Pps) => bits.skip(16)?,
        (Codec::H265, SetKind::Vps) => {
            bits.skip(16)?;
            return bits.bits(4);
        }
        (Codec::H265, SetKind::Sps) => sps::skip_to_h265_id(&mut bits)?,
    }
    bits.ue()
}

pub(super) const START_CODE: [u8; 4] = [0, 0, 0, 1];

#[cfg(test)]
mod tests {
    use super::*;

    const SPS: [u8; 5] = [0x67, 0x42, 0, 0x1e, 0x80];
    const PPS: [u8; 2] = [0x68, 0x80];

    fn cache() -> ParameterSetCache {
        let mut cache = ParameterSetCache::new(Codec::H264);
        cache.store(SetKind::Pps, &PPS).unwrap();
        cache.store(SetKind::Sps, &SPS).unwrap();
        cache
    }

    #[test]
    fn puts_them_in_the_decoders_order() {
        let mut cache = cache();
        let expected = [&START_CODE[..], &SPS, &START_CODE, &PPS].concat();
        let sets = cache.assemble().unwrap();
        assert_eq!((sets.annex_b, sets.profile, sets.level), (&expected[..], 0x42, 0x1e));
        assert!(!cache.changed());
    }

    #[test]
    fn the_same_again_is_no_change() {
        let mut cache = cache();
        cache.assemble();
        cache.store(SetKind::Pps, &[0x68, 0x80, 0, 0]).unwrap();
        assert!(!cache.changed());
        cache.store(SetKind::Pps, &[0x68, 0x81]).unwrap();
        assert!(cache.changed());
        assert_eq!(cache.assemble().unwrap().annex_b.len(), 4 + 5 + 4 + 2);
    }

    #[test]
    fn ids_stand_beside_each_other_up_to_the_limit() {
        let mut cache = cache();
        for id in 0..64_u8 {
            // 0000001xxxxxx1: ue(63 + x) with the stop bit.
            cache.store(SetKind::Pps, &[0x68, 0x02 | id >> 5, id << 3 | 4]).unwrap();
        }
        let count = cache.sets.iter().filter(|set| set.kind == SetKind::Pps).count();
        assert_eq!(count, PARAMETER_SETS_MAX);
        assert_eq!(cache.sets.iter().filter(|set| set.kind == SetKind::Sps).count(), 1);
    }

    #[test]
    fn the_total_is_bounded() {
        let mut cache = cache();
        for id in [0x80_u8, 0x40, 0x60] {
            let mut pps = vec![0x68, id];
            pps.resize(PARAMETER_SET_LEN_MAX, 1);
            cache.store(SetKind::Pps, &pps).unwrap();
            cache.store(SetKind::Sps, &SPS).unwrap();
        }
        assert!(cache.assemble().unwrap().annex_b.len() <= PARAMETER_SETS_LEN_MAX);
        assert_eq!(cache.store(SetKind::Sps, &[1; PARAMETER_SET_LEN_MAX + 1]), Err(TooLarge));
    }

    #[test]
    fn without_sps_there_is_nothing() {
        let mut cache = cache();
        cache.clear();
        assert!(cache.changed());
        assert!(cache.assemble().is_none());
    }
}
