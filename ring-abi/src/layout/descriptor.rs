//! The record of one unit.

use std::mem::size_of;

use super::{halves, high, low, pair, split_halves};

/// An access unit's flag bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u32);

impl Flags {
    /// Decoding can start here: an IDR, an H.265 IRAP picture, or a recovery point.
    pub const KEY: Self = Self(1 << 0);
    /// With [`Self::KEY`]: not an IDR, what is decoded from here on is clean after a while.
    pub const RECOVERY_POINT: Self = Self(1 << 1);
    /// First unit of a timeline.
    pub const DISCONT: Self = Self(1 << 2);
    /// Packets were lost in this unit or right before it: it, or a picture it refers to, is not whole.
    pub const DAMAGED: Self = Self(1 << 3);
    /// First unit that uses its configuration. A hint.
    pub const CONFIG_CHANGED: Self = Self(1 << 4);
    /// The unit was committed before this reader attached.
    pub const BACKFILL: Self = Self(1 << 5);
    /// No other unit refers to this one.
    pub const NON_REF: Self = Self(1 << 6);
    /// `media_ticks` was estimated.
    pub const TS_ESTIMATED: Self = Self(1 << 7);
    /// `nal_count` and `nal_off` are set.
    pub const HAS_NAL_INDEX: Self = Self(1 << 8);

    /// Whether all bits of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These bits and those of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Record type of an access unit.
pub const RECORD_ACCESS_UNIT: u16 = 1;
/// Record type of a data or audio record.
pub const RECORD_DATA: u16 = 2;

/// A record of a descriptor ring, 128 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Descriptor {
    /// Number of the unit in the stream's epoch, from 1, without gaps at the producer.
    pub seq: u64,
    /// Position of the payload in the track's arena.
    pub pos: u64,
    /// Bytes of payload, without the NAL index.
    pub len: u32,
    /// [`Flags`].
    pub flags: u32,
    /// [`RECORD_ACCESS_UNIT`] or [`RECORD_DATA`]; others are skipped.
    pub record_type: u16,
    /// Index of the track.
    pub track: u16,
    /// Id of the configuration that decodes it; 0 when none was known.
    pub config_id: u32,
    /// Presentation time in the track's timescale, exact and unwrapped.
    pub media_ticks: i64,
    /// `media_ticks` in nanoseconds.
    pub pts_ns: i64,
    /// Incremented on each break of the media clock.
    pub timeline: u32,
    /// Packets missing within this unit or right before it.
    pub lost_packets: u32,
    /// Sequence number of the random-access point that it depends on; 0 when there was none.
    pub key_seq: u64,
    /// When its first packet was received, `CLOCK_MONOTONIC` ns.
    pub recv_mono_ns: u64,
    /// When it was committed, `CLOCK_MONOTONIC` ns.
    pub pub_mono_ns: u64,
    /// Wall-clock time of capture, ns since 1970.
    pub wall_utc_ns: i64,
    /// How far the wall-clock time may be off, µs; `u32::MAX` when unknown.
    pub wall_err_us: u32,
    /// Where the wall-clock time comes from: 1 receive, 2 sender report, 3 suspect sender report.
    pub clock_source: u8,
    /// Zero when written, ignored when read.
    pub reserved: [u8; 3],
    /// RTP timestamp as sent.
    pub rtp_ts: u32,
    /// RTP SSRC.
    pub ssrc: u32,
    /// RTP sequence number of the first packet.
    pub first_rtp_seq: u16,
    /// RTP sequence number of the last packet.
    pub last_rtp_seq: u16,
    /// Entries of the NAL index.
    pub nal_count: u32,
    /// Where the NAL index begins, in bytes from `pos`: u32 end offsets.
    pub nal_off: u32,
    /// Duration in ticks, a hint; 0 when unknown.
    pub duration_ticks: u32,
    /// Records withheld by this reader's filters since it attached.
    pub filtered: u64,
}

impl Descriptor {
    /// Whether all bits of `flags` are set.
    pub const fn has(&self, flags: Flags) -> bool {
        Flags(self.flags).contains(flags)
    }

    /// The record as the sixteen little-endian words of memory.
    pub fn to_words(&self) -> [u64; DESCRIPTOR_WORDS] {
        let [r0, r1, r2] = self.reserved;
        [
            self.seq,
            self.pos,
            pair(self.len, self.flags),
            pair(halves(self.record_type, self.track), self.config_id),
            self.media_ticks.cast_unsigned(),
            self.pts_ns.cast_unsigned(),
            pair(self.timeline, self.lost_packets),
            self.key_seq,
            self.recv_mono_ns,
            self.pub_mono_ns,
            self.wall_utc_ns.cast_unsigned(),
            pair(self.wall_err_us, u32::from_le_bytes([self.clock_source, r0, r1, r2])),
            pair(self.rtp_ts, self.ssrc),
            pair(halves(self.first_rtp_seq, self.last_rtp_seq), self.nal_count),
            pair(self.nal_off, self.duration_ticks),
            self.filtered,
        ]
    }

    /// The record in sixteen words of memory. Any words are a record; what they say is the caller's to check.
    pub fn from_words(words: &[u64; DESCRIPTOR_WORDS]) -> Self {
        let [w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, w15] = *words;
        let (record_type, track) = split_halves(low(w3));
        let (first_rtp_seq, last_rtp_seq) = split_halves(low(w13));
        let [clock_source, r0, r1, r2] = high(w11).to_le_bytes();
        Self {
            seq: w0,
            pos: w1,
            len: low(w2),
            flags: high(w2),
            record_type,
            track,
            config_id: high(w3),
            media_ticks: w4.cast_signed(),
            pts_ns: w5.cast_signed(),
            timeline: low(w6),
            lost_packets: high(w6),
            key_seq: w7,
            recv_mono_ns: w8,
            pub_mono_ns: w9,
            wall_utc_ns: w10.cast_signed(),
            wall_err_us: low(w11),
            clock_source,
            reserved: [r0, r1, r2],
            rtp_ts: low(w12),
            ssrc: high(w12),
            first_rtp_seq,
            last_rtp_seq,
            nal_count: high(w13),
            nal_off: low(w14),
            duration_ticks: high(w14),
            filtered: w15,
        }
    }
}

/// A descriptor as it stands in memory, made once for the arena and all rings.
#[cfg(not(loom))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record([u64; DESCRIPTOR_WORDS]);

#[cfg(not(loom))]
impl Record {
    pub(crate) fn new(d: &Descriptor) -> Self {
        Self(d.to_words())
    }

    /// The record in words that this process wrote.
    pub(crate) const fn of_words(words: [u64; DESCRIPTOR_WORDS]) -> Self {
        Self(words)
    }

    pub(crate) const fn words(&self) -> &[u64; DESCRIPTOR_WORDS] {
        &self.0
    }

    /// The unit's sequence number.
    pub(crate) const fn seq(&self) -> u64 {
        let [seq, ..] = self.0;
        seq
    }

    /// The record as one reader gets it: `filtered` counts what was withheld from it, and units up to `backfill_until` were
    /// committed before it attached.
    pub(crate) const fn for_reader(&self, filtered: u64, backfill_until: u64) -> [u64; DESCRIPTOR_WORDS] {
        let [seq, pos, len_and_flags, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, _] = self.0;
        let flags = if seq <= backfill_until { pair(0, Flags::BACKFILL.0) } else { 0 };
        [seq, pos, len_and_flags | flags, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, filtered]
    }
}

/// Bytes of an access-unit descriptor.
pub const DESCRIPTOR_LEN: u64 = size_of::<Descriptor>() as u64;
/// Words of an access-unit descriptor.
pub const DESCRIPTOR_WORDS: usize = size_of::<Descriptor>() / 8;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn words_keep_every_field_at_its_offset() {
        let mut words = [0u64; DESCRIPTOR_WORDS];
        for (n, word) in words.iter_mut().enumerate() {
            *word = u64::from_le_bytes(std::array::from_fn(|i| u8::try_from(n * 8 + i).unwrap()));
        }
        let d = Descriptor::from_words(&words);
        assert_eq!(d.len, u32::from_le_bytes([16, 17, 18, 19]));
        assert_eq!(d.track, u16::from_le_bytes([26, 27]));
        assert_eq!(d.clock_source, 92);
        assert_eq!(d.last_rtp_seq, u16::from_le_bytes([106, 107]));
        assert_eq!(d.nal_off, u32::from_le_bytes([112, 113, 114, 115]));
        assert_eq!(d.to_words(), words, "a round trip keeps all 128 bytes");
    }
}
