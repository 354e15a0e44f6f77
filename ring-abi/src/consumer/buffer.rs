//! A reader's own memory for one unit.

use crate::layout::Descriptor;
use crate::map::{Bytes, ReadOnly};
use crate::position::Place;

/// A unit's record, payload and NAL index, copied. Its memory grows to the largest unit and stays.
#[derive(Debug, Default)]
pub(crate) struct UnitBuffer {
    pub(crate) descriptor: Descriptor,
    payload: Room<u8>,
    nal_ends: Room<u32>,
}

impl UnitBuffer {
    /// The payload's bytes.
    pub(crate) fn payload(&self) -> &[u8] {
        self.payload.used()
    }

    /// Where each NAL unit ends.
    pub(crate) fn nal_ends(&self) -> &[u32] {
        self.nal_ends.used()
    }

    /// Copies what the descriptor names from `arena`, where its `place` is: both lengths were compared with the arena's and the
    /// limits. False when it is not inside.
    #[inline]
    pub(super) fn copy(&mut self, arena: &Bytes<ReadOnly>, place: Place) -> bool {
        let payload = self.payload.of(self.descriptor.len as usize);
        let ends = self.nal_ends.of(self.descriptor.nal_count as usize);
        // Without an index `index_off` says nothing.
        let has_index = ends.is_empty() || arena.read_u32s(place.index_off, ends);
        has_index && arena.read(place.payload_off, payload)
    }

    /// Whether the NAL units follow each other within the payload.
    #[inline]
    pub(super) fn index_is_sound(&self) -> bool {
        let ends = self.nal_ends();
        let last = ends.last().copied().unwrap_or(0);
        ends.is_sorted() && last <= self.descriptor.len
    }
}

/// Memory of which the first part is in use. What is behind is kept as it is: zeroing it for each larger unit would cost a
/// second pass over the payload.
#[derive(Debug, Default)]
struct Room<T> {
    memory: Vec<T>,
    len: usize,
}

impl<T: Copy + Default> Room<T> {
    /// The first `len`, to be written.
    fn of(&mut self, len: usize) -> &mut [T] {
        if self.memory.len() < len {
            self.memory.resize(len, T::default());
        }
        self.len = len;
        self.memory.get_mut(..len).unwrap_or_default()
    }

    fn used(&self) -> &[T] {
        self.memory.get(..self.len).unwrap_or_default()
    }
}
