//! One attached stream, seen from the reader: take a record, copy, validate.

use std::os::fd::OwnedFd;

use super::buffer::UnitBuffer;
use super::counting::{Counting, Counts, Outcome};
use crate::cursor::{self, AtomicU32, AtomicU64, Load, Ordering, Store};
use crate::handshake::Attached;
use crate::join::{From, Join};
use crate::layout::{
    CONFIG_DATA_MAX, CONFIG_ENTRY_LEN, Codec, ConfigHeader, DESCRIPTOR_LEN, DESCRIPTOR_WORDS, Descriptor,
    EndReason, Flags, HeaderError, NALS_PER_UNIT_MAX, RECORD_ACCESS_UNIT, RECORD_DATA, RingState,
    STREAM_DIRECTORY_OFF, SegmentKind, StreamState, TRACKS_MAX, TrackEntry, TrackKind, high, low,
};
use crate::map::{Bytes, Mapping, ReadOnly, ReadWrite, Word};
use crate::position::Arena;
use crate::segment::{OpenError, open_read_only};
use crate::state_words::StateWords;

/// The parameter sets of a track, copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// Its id in the epoch; 0 while none was seen.
    pub id: u32,
    /// Number of the codec, see [`Configuration::codec`].
    pub codec: u32,
    /// `profile_idc` or `general_profile_idc`; 0 when unknown.
    pub profile: u32,
    /// `level_idc` or `general_level_idc`; 0 when unknown.
    pub level: u32,
    /// Luma samples a line; 0 when unknown.
    pub width: u32,
    /// Lines; 0 when unknown.
    pub height: u32,
    /// Nominal frames a second as a fraction; `(0, 0)` when unknown.
    pub frame_rate: (u32, u32),
    /// Parameter sets in Annex B form.
    pub data: Vec<u8>,
}

impl Configuration {
    /// The codec.
    pub fn codec(&self) -> Codec {
        Codec::from_word(self.codec)
    }
}

/// What a stream says of itself at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamStatus {
    /// What it does.
    pub state: StreamState,
    /// The producer's number of the reason.
    pub reason: u32,
    /// Newest unit; 0 before the first.
    pub last_seq: u64,
    /// Newest keyframe; 0 before the first.
    pub last_key_seq: u64,
    /// Time between the oldest and the newest retained unit, ns.
    pub retained_ns: u64,
    /// The producer's newest sign of life, `CLOCK_MONOTONIC` ns.
    pub heartbeat_ns: u64,
    /// Timeline of the newest unit.
    pub timeline: u32,
}

/// What [`Attachment::take`] found.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Taken {
    /// A unit, which is in the caller's buffer.
    Unit { lost: u64, config_changed: bool },
    /// A record that was not for the caller; there may be more.
    Dropped,
    /// No record.
    Empty,
    /// The ring has ended and everything in it was taken, or cannot be. Said once.
    Ended { state: RingState, reason: EndReason },
}

#[derive(Debug)]
struct TrackView {
    kind: TrackKind,
    arena: Arena,
    bytes: Bytes<ReadOnly>,
    reclaim_pos: Word<AtomicU64, ReadOnly>,
    configs: Vec<ConfigEntry>,
    config: Configuration,
}

#[derive(Debug)]
struct ConfigEntry {
    bytes: Bytes<ReadOnly>,
    generation: Word<AtomicU32, ReadOnly>,
}

/// An attached stream.
#[derive(Debug)]
pub(crate) struct Attachment {
    tracks: Vec<TrackView>,
    status: StateWords<ReadOnly>,
    ring_tail: Word<AtomicU64, ReadOnly>,
    end_word: Word<AtomicU32, ReadOnly>,
    end_line: Bytes<ReadOnly>,
    records: Bytes<ReadOnly>,
    /// Distance of two records: a later minor version may append to them.
    record_size: u64,
    slots: u64,
    head_word: Word<AtomicU64, ReadWrite>,
    head: u64,
    counting: Counting,
    /// Video is dropped until a keyframe.
    awaits_key: bool,
    everything: bool,
    ended: bool,
    /// Records withheld in the rings before this one.
    filtered_before: u64,
}

impl Attachment {
    /// Maps the two segments that came with ATTACHED. `head_word` is the reader's own word of the slot.
    pub(crate) fn open(
        attached: &Attached,
        join: &Join,
        [stream_fd, ring_fd]: &[OwnedFd; 2],
        head_word: Word<AtomicU64, ReadWrite>,
    ) -> Result<Self, OpenError> {
        let (stream, _) = open_read_only(stream_fd, SegmentKind::Stream)?;
        let (ring, header) = open_read_only(ring_fd, SegmentKind::DescriptorRing)?;
        let shape: [u64; 1] = ring.bytes(64, 8).and_then(|b| b.read_words(0)).ok_or(HeaderError::Table)?;
        let slots = low(shape[0]);
        if !slots.is_power_of_two()
            || u64::from(header.rec_size) < DESCRIPTOR_LEN
            || !header.rec_size.is_multiple_of(8)
        {
            return Err(HeaderError::Table.into());
        }
        let resumed_after = match join.from {
            From::After { seq, .. } if attached.resumed => Some(seq),
            From::Live | From::Keyframe | From::Oldest | From::Preroll { .. } | From::After { .. } => None,
        };
        Ok(Self {
            tracks: track_views(&stream)?,
            status: StateWords::new(&stream).ok_or(HeaderError::Table)?,
            ring_tail: ring.word64(128).ok_or(HeaderError::Table)?,
            end_word: ring.word32(192).ok_or(HeaderError::Table)?,
            end_line: ring.bytes(192, 64).ok_or(HeaderError::Table)?,
            records: ring
                .bytes(u64::from(header.header_len), u64::from(slots) * u64::from(header.rec_size))
                .ok_or(HeaderError::Table)?,
            record_size: u64::from(header.rec_size),
            slots: u64::from(slots),
            head_word,
            head: 0,
            counting: resumed_after.map_or_else(Counting::default, Counting::resumed_after),
            awaits_key: resumed_after.is_none() && !join.filters.everything,
            everything: join.filters.everything,
            ended: false,
            filtered_before: 0,
        })
    }

    /// Goes on where `old` ended, whose stream was rotated into this one's segment: counts and configurations are those of one
    /// attachment.
    pub(crate) fn follow(&mut self, old: &Self) {
        self.counting = old.counting.in_next_ring();
        self.filtered_before = old.filtered_before.saturating_add(old.final_filtered());
        self.awaits_key |= old.awaits_key;
        for (track, before) in self.tracks.iter_mut().zip(&old.tracks) {
            track.config.clone_from(&before.config);
        }
    }

    /// The stream's newest unit when the ring ended.
    pub(crate) fn final_seq(&self) -> u64 {
        self.end_line.read_words::<2>(0).map_or(0, |[_, seq]| seq)
    }

    fn final_filtered(&self) -> u64 {
        self.end_line.read_words::<3>(0).map_or(0, |[_, _, filtered]| filtered)
    }

    /// The low half of the head, to compare with `tails[slot]`.
    pub(crate) fn head_low(&self) -> u32 {
        low(self.head)
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counting.counts()
    }

    /// The configuration of `track` that the newest unit referred to.
    pub(crate) fn configuration(&self, track: usize) -> Option<&Configuration> {
        self.tracks.get(track).map(|t| &t.config).filter(|c| c.id != 0)
    }

    pub(crate) fn status(&self) -> StreamStatus {
        let words = &self.status;
        StreamStatus {
            state: StreamState::from_word(words.state.load(Ordering::Acquire)),
            reason: words.reason.load(Ordering::Relaxed),
            last_seq: words.last_seq.load(Ordering::Acquire),
            last_key_seq: words.last_key_seq.load(Ordering::Relaxed),
            retained_ns: words.retained_ns.load(Ordering::Relaxed),
            heartbeat_ns: words.heartbeat_ns.load(Ordering::Relaxed),
            timeline: words.timeline.load(Ordering::Relaxed),
        }
    }

    /// Tells the producer that the slot is no longer read, so that its next user starts from 0.
    pub(crate) fn clear_head(&self) {
        self.head_word.store(0, Ordering::Release);
    }

    /// The record that comes next, for tests that want to know what was rejected.
    #[cfg(test)]
    pub(crate) fn peek(&self) -> Option<Descriptor> {
        let at = self.record_off();
        let waits = cursor::observe_tail(&self.ring_tail) != self.head;
        waits.then(|| self.records.read_words(at)).flatten().map(|words| Descriptor::from_words(&words))
    }

    /// How far a unit's payload is from being overwritten; `None` when it may be already. For tests that aim at that edge.
    #[cfg(test)]
    pub(crate) fn distance(&self, d: &Descriptor) -> Option<u64> {
        let track = self.tracks.get(usize::from(d.track))?;
        d.pos.checked_sub(track.reclaim_pos.load(Ordering::Relaxed))
    }

    /// Passes the next record over, for tests.
    #[cfg(test)]
    pub(crate) fn skip(&mut self) {
        self.head += 1;
        cursor::publish_head(&self.head_word, self.head);
    }

    /// Takes the next record. The payload of a [`Taken::Unit`] is in `buffer`, whole and validated.
    pub(crate) fn take(&mut self, buffer: &mut UnitBuffer) -> Taken {
        // The state first: what was pushed before it ended is in the ring when the state is seen.
        let state = RingState::from_word(cursor::observe_end(&self.end_word));
        let tail = cursor::observe_tail(&self.ring_tail);
        if tail == self.head {
            return self.take_end(state);
        }
        if self.ended || tail.wrapping_sub(self.head) > self.slots {
            return self.take_nonsense();
        }
        self.take_record(buffer)
    }

    /// Whether that many records can wait in the ring, and it has not ended.
    pub(crate) fn holds(&self, waiting: u32) -> bool {
        waiting > 0 && u64::from(waiting) <= self.slots && !self.ended
    }

    /// As [`Self::take`] where the session's `tails[slot]` has shown that a record waits: it is stored after the ring's own
    /// tail, which stands on a line of its own that need not be fetched then.
    #[inline]
    pub(crate) fn take_record(&mut self, buffer: &mut UnitBuffer) -> Taken {
        let at = self.record_off();
        let taken = match self.records.read_words::<DESCRIPTOR_WORDS>(at) {
            Some(words) => {
                buffer.descriptor = Descriptor::from_words(&words);
                self.take_unit(buffer)
            }
            None => Taken::Dropped,
        };
        self.head += 1;
        cursor::publish_head(&self.head_word, self.head);
        taken
    }

    /// Where the record that comes next begins.
    const fn record_off(&self) -> u64 {
        (self.head & (self.slots - 1)) * self.record_size
    }

    fn take_end(&mut self, state: RingState) -> Taken {
        if state == RingState::Ok || self.ended {
            return Taken::Empty;
        }
        self.ended = true;
        let [line, last_seq, filtered] = self.end_line.read_words(0).unwrap_or_default();
        let lost = self.counting.counts().lost;
        self.counting.end(last_seq, filtered);
        self.awaits_key |= self.counting.counts().lost > lost && !self.everything;
        Taken::Ended { state, reason: EndReason::from_word(high(line)) }
    }

    /// The producer said what cannot be: nothing of the ring can be relied on any more, its final counts neither.
    fn take_nonsense(&mut self) -> Taken {
        if self.ended {
            return Taken::Empty;
        }
        self.ended = true;
        Taken::Ended { state: RingState::Closed, reason: EndReason::None }
    }

    /// Deals with the unit whose descriptor is in `buffer`.
    fn take_unit(&mut self, buffer: &mut UnitBuffer) -> Taken {
        let d = &buffer.descriptor;
        if d.seq <= self.counting.counts().last_seq {
            return Taken::Dropped;
        }
        // Whatever the record is: once it is counted, what is missing before it shows no more.
        let lost = self.counting.lost_before(d.seq, d.filtered);
        self.awaits_key |= lost > 0 && !self.everything;
        if !matches!(d.record_type, RECORD_ACCESS_UNIT | RECORD_DATA) {
            // Of a later minor version: passed over, and not missing.
            return self.drop_unit(d.seq, d.filtered, Outcome::Skipped);
        }
        let Some(track) = self.tracks.get_mut(usize::from(d.track)) else {
            return self.drop_unit(d.seq, d.filtered, Outcome::Rejected);
        };
        let is_video = track.kind == TrackKind::Video;
        if is_video && self.awaits_key && !d.has(Flags::KEY) {
            return self.drop_unit(d.seq, d.filtered, Outcome::Skipped);
        }
        let (seq, filtered) = (d.seq, d.filtered);
        let Some(config_changed) = track.copy(buffer) else {
            self.awaits_key |= is_video && !self.everything;
            return self.drop_unit(seq, filtered, Outcome::Rejected);
        };
        self.awaits_key &= !is_video;
        self.counting.record(seq, filtered, Outcome::Accepted);
        buffer.descriptor.filtered = filtered.saturating_add(self.filtered_before);
        Taken::Unit { lost, config_changed }
    }

    fn drop_unit(&mut self, seq: u64, filtered: u64, outcome: Outcome) -> Taken {
        self.counting.record(seq, filtered, outcome);
        Taken::Dropped
    }
}

impl TrackView {
    /// Copies the unit that `buffer` has the descriptor of, its NAL index and, if it is another than the last, its
    /// configuration; then validates all at once. Whether the configuration is new; `None` when the record is not plausible
    /// or the bytes were overwritten meanwhile.
    #[inline]
    fn copy(&mut self, buffer: &mut UnitBuffer) -> Option<bool> {
        let d = &buffer.descriptor;
        let place = self.arena.place(d).filter(|_| d.nal_count as usize <= NALS_PER_UNIT_MAX)?;
        let (pos, config_id) = (d.pos, d.config_id);
        let new_config =
            if config_id != 0 && config_id != self.config.id { self.find_config(config_id) } else { None };
        let copied = buffer.copy(&self.bytes, place);
        if !copied || !cursor::still_valid(&self.reclaim_pos, pos) || !buffer.index_is_sound() {
            return None;
        }
        let changed = new_config.is_some();
        if let Some(config) = new_config {
            self.config = config;
        }
        Some(changed)
    }

    /// A copy of the entry with this id, if it was whole.
    fn find_config(&self, id: u32) -> Option<Configuration> {
        self.configs.iter().find_map(|entry| entry.copy(id))
    }
}

impl ConfigEntry {
    /// A seqlock's reader: what was copied counts if the generation was even and did not change.
    fn copy(&self, id: u32) -> Option<Configuration> {
        let before = cursor::observe_entry(&self.generation)?;
        let words: [u64; 5] = self.bytes.read_words(0)?;
        if low(words[0]) != id {
            return None;
        }
        let [_, w1, w2, w3, w4] = words;
        let len = usize::try_from(high(w4)).ok().filter(|len| *len <= CONFIG_DATA_MAX)?;
        let mut data = vec![0; len];
        let copied = self.bytes.read(size_of::<ConfigHeader>() as u64, &mut data);
        let whole = copied && cursor::entry_unchanged(&self.generation, before);
        whole.then(|| Configuration {
            id,
            codec: low(w1),
            profile: high(w1),
            level: low(w2),
            width: high(w2),
            height: low(w3),
            frame_rate: (high(w3), low(w4)),
            data,
        })
    }
}

/// The tracks that a stream segment's directory names, each checked against the segment's size.
fn track_views(map: &Mapping<ReadOnly>) -> Result<Vec<TrackView>, HeaderError> {
    let directory = map.bytes(STREAM_DIRECTORY_OFF, 64).and_then(|b| b.read_words::<2>(0));
    let [shape, tracks_off] = directory.ok_or(HeaderError::Table)?;
    let (count, track_size) = (low(shape), u64::from(high(shape)));
    if count as usize > TRACKS_MAX || !is_distance(track_size, size_of::<TrackEntry>()) {
        return Err(HeaderError::Table);
    }
    let view = |n: u32| {
        let offset = tracks_off.checked_add(u64::from(n).checked_mul(track_size)?)?;
        track_view(map, offset)
    };
    (0..count).map(|n| view(n).ok_or(HeaderError::Table)).collect()
}

/// Whether entries of at least `len` bytes can stand this far apart, their words aligned.
fn is_distance(distance: u64, len: usize) -> bool {
    distance >= len as u64 && distance.is_multiple_of(8)
}

fn track_view(map: &Mapping<ReadOnly>, offset: u64) -> Option<TrackView> {
    let words = map.bytes(offset, size_of::<TrackEntry>() as u64)?.read_words::<5>(0)?;
    let [kind, arena_off, arena_len, configs_off, configs] = words;
    let (count, size) = (low(configs), u64::from(high(configs)));
    if count > 0 && !is_distance(size, CONFIG_ENTRY_LEN as usize) {
        return None;
    }
    // Bounded by the segment's size: the first entry outside of it ends the walk.
    let entry = |n: u32| {
        let at = configs_off.checked_add(u64::from(n).checked_mul(size)?)?;
        Some(ConfigEntry {
            bytes: map.bytes(at, u64::from(CONFIG_ENTRY_LEN))?,
            generation: map.word32(at.checked_add(4)?)?,
        })
    };
    Some(TrackView {
        kind: TrackKind::from_word(low(kind)),
        arena: Arena::new(arena_len)?,
        bytes: map.bytes(arena_off, arena_len)?,
        reclaim_pos: map.word64(offset.checked_add(64)?)?,
        configs: (0..count).map(entry).collect::<Option<_>>()?,
        config: Configuration::default(),
    })
}
