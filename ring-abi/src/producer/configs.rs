//! One track's configuration entries: eight parameter sets with ids that are never used twice.

use crate::cursor::{self, AtomicU32, Load, Ordering};
use crate::layout::{
    CONFIG_DATA_MAX, CONFIG_ENTRY_LEN, CONFIGS_PER_TRACK, Codec, ConfigHeader, high, low, pair,
};
use crate::map::{Bytes, Mapping, ReadWrite, Word};

/// Parameter sets and what they say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Configuration<'a> {
    /// The codec.
    pub codec: Codec,
    /// Parameter sets in Annex B form.
    pub data: &'a [u8],
    /// `profile_idc` or `general_profile_idc`; 0 when unknown.
    pub profile: u32,
    /// `level_idc` or `general_level_idc`; 0 when unknown.
    pub level: u32,
    /// Luma samples a line after cropping; 0 when unknown.
    pub width: u32,
    /// Lines after cropping; 0 when unknown.
    pub height: u32,
    /// Nominal frames a second as a fraction; `(0, 0)` when unknown.
    pub frame_rate: (u32, u32),
}

/// The entries of one track.
#[derive(Debug)]
pub(crate) struct ConfigTable {
    slots: Vec<Slot>,
    /// Index of the current configuration's slot.
    current: Option<usize>,
}

#[derive(Debug)]
struct Slot {
    bytes: Bytes<ReadWrite>,
    generation: Word<AtomicU32, ReadWrite>,
    id: u32,
    codec: Codec,
    len: u32,
    /// End of the last unit that refers to it.
    last_use: u64,
}

impl ConfigTable {
    /// The table at `offset`; `None` when it is not inside of the mapping.
    pub(crate) fn new(map: &Mapping<ReadWrite>, offset: u64) -> Option<Self> {
        let entry = u64::from(CONFIG_ENTRY_LEN);
        let slot = |n: u64| {
            let at = offset + n * entry;
            Some(Slot {
                bytes: map.bytes(at, entry)?,
                generation: map.word32(at + 4)?,
                id: 0,
                codec: Codec::Unknown,
                len: 0,
                last_use: 0,
            })
        };
        let slots = (0..u64::from(CONFIGS_PER_TRACK)).map(slot).collect::<Option<Vec<_>>>()?;
        Some(Self { slots, current: None })
    }

    /// Makes the entry that already holds exactly this current; its id.
    pub(crate) fn reuse(&mut self, configuration: &Configuration<'_>) -> Option<u32> {
        let at = self.slots.iter().position(|slot| slot.holds(configuration))?;
        self.current = Some(at);
        self.slots.get(at).map(|slot| slot.id)
    }

    /// The current configuration and its id; the parameter sets are copied into `data`.
    pub(crate) fn current<'a>(
        &self,
        data: &'a mut [u8; CONFIG_DATA_MAX],
    ) -> Option<(u32, Configuration<'a>)> {
        let slot = self.slots.get(self.current?)?;
        let [_, w1, w2, w3, w4] = slot.bytes.read_words(0)?;
        let data = data.get_mut(..usize::try_from(slot.len).ok()?)?;
        let configuration = slot.bytes.read(64, data).then_some(Configuration {
            codec: slot.codec,
            data,
            profile: high(w1),
            level: low(w2),
            width: high(w2),
            height: low(w3),
            frame_rate: (high(w3), low(w4)),
        })?;
        Some((slot.id, configuration))
    }

    /// The entry to write next, and up to where its last user reaches: below that must be reclaimed first.
    /// The current entry is never given.
    pub(crate) fn victim(&self) -> Option<(usize, u64)> {
        let candidates = self.slots.iter().enumerate().filter(|(at, _)| Some(*at) != self.current);
        // An unused entry has id 0 and is the oldest; among used ones the one whose users are oldest goes.
        candidates.min_by_key(|(_, slot)| (slot.last_use, slot.id)).map(|(at, slot)| (at, slot.last_use))
    }

    /// Writes entry `at` and makes it current. The caller has reclaimed its last users.
    pub(crate) fn write(&mut self, at: usize, id: u32, configuration: &Configuration<'_>) {
        let Some(slot) = self.slots.get_mut(at) else { return };
        slot.write(id, configuration);
        self.current = Some(at);
    }

    /// Notes that a unit that ends at `end` refers to `id`; false when no entry has that id any more.
    pub(crate) fn note_use(&mut self, id: u32, end: u64) -> bool {
        if id == 0 {
            return false;
        }
        // Nearly all units use the current one.
        let is_wanted = |slot: &&mut Slot| slot.id == id;
        let current = self.current.and_then(|at| self.slots.get_mut(at)).filter(is_wanted);
        let slot = match current {
            Some(slot) => Some(slot),
            None => self.slots.iter_mut().find(is_wanted),
        };
        slot.map(|slot| slot.last_use = end).is_some()
    }
}

impl Slot {
    /// Compares with the entry itself: only this process can write it, so it is as good as a private copy.
    fn holds(&self, configuration: &Configuration<'_>) -> bool {
        let len = configuration.data.len();
        if self.id == 0
            || self.codec != configuration.codec
            || self.len as usize != len
            || len > CONFIG_DATA_MAX
        {
            return false;
        }
        let mut copy = [0u8; CONFIG_DATA_MAX];
        let copy = &mut copy[..len];
        self.bytes.read(64, copy) && copy == configuration.data
    }

    /// A seqlock's writer: the generation is odd while the entry is not whole.
    fn write(&mut self, id: u32, configuration: &Configuration<'_>) {
        let generation = self.generation.load(Ordering::Relaxed);
        cursor::begin_entry(&self.generation, generation);
        let len = u32::try_from(configuration.data.len()).unwrap_or(0);
        let (fps_num, fps_den) = configuration.frame_rate;
        let whole = self.bytes.write(64, configuration.data)
            && self.bytes.write(0, &id.to_le_bytes())
            && self.bytes.write_words(
                8,
                &[
                    pair(configuration.codec as u32, configuration.profile),
                    pair(configuration.level, configuration.width),
                    pair(configuration.height, fps_num),
                    pair(fps_den, len),
                ],
            );
        debug_assert!(whole, "the caller compared the length with the entry's");
        cursor::end_entry(&self.generation, generation);
        (self.id, self.codec, self.len, self.last_use) = (id, configuration.codec, len, 0);
    }
}

const _: () = assert!(size_of::<ConfigHeader>() == 64);
