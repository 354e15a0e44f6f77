//! A unit of our own.

use ring_abi::consumer::{StreamKey, Unit};
use ring_abi::layout::Descriptor;

/// The newest unit, copied: while the reader lends one, it cannot be asked for the unit's configuration.
#[derive(Debug, Default)]
pub(crate) struct CopiedUnit {
    /// `None` before the first unit.
    pub(crate) stream: Option<StreamKey>,
    pub(crate) descriptor: Descriptor,
    pub(crate) payload: Vec<u8>,
    /// When we had it, `CLOCK_MONOTONIC` ns.
    pub(crate) read_mono_ns: u64,
}

impl CopiedUnit {
    /// Replaces the unit by another; the memory stays.
    pub(crate) fn copy(&mut self, unit: &Unit<'_>, read_mono_ns: u64) {
        self.stream = Some(unit.stream);
        self.descriptor = *unit.descriptor;
        self.payload.clear();
        self.payload.extend_from_slice(unit.payload);
        self.read_mono_ns = read_mono_ns;
    }
}
