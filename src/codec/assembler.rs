//! NAL units to access units: where one ends, what it is, and what becomes of it after loss.
//!
//! A unit ends with the marker, or with another timestamp when the camera sends no markers, or where a NAL unit
//! comes that can only be the first of one. A unit without slices does not end: parameter sets that carry the
//! marker (Tapo, Reolink) or the timestamp of the picture before (Reolink RLC-822A) belong to the next slice.
//!
//! Loss never stalls: a unit with missing bytes is published as it is, flagged. So is the unit after a loss, which may
//! have been of its head, or of whole units that it refers to; a key unit refers to none, and is flagged unless its
//! head is there. A unit beyond a limit is dropped, and its packets count as lost for the unit after it.

use super::nal::{NalKind, SetKind, Slice};
use super::parameter_sets::{ParameterSetCache, START_CODE};
use super::{AccessUnit, AccessUnitSink, Codec, ConfigId, PacketInfo, Stats, UnitFlags, annex_b, sei};
use crate::limits::{NALS_PER_UNIT_MAX, PARAMETER_SET_LEN_MAX, SEI_LEN_SCANNED, UNIT_LEN_MAX};

/// The unit that is being built, and what outlives it.
#[derive(Debug)]
pub(super) struct Assembler {
    codec: Codec,
    state: UnitState,
    unit: Unit,
    /// The packet that is being read.
    packet: Option<PacketInfo>,
    nal_ends: Box<[u32]>,
    /// The NAL unit that is being appended.
    nal: Option<NalKind>,
    /// Its beginning, where it has to be looked at: parameter sets and SEI.
    capture: Vec<u8>,
    sets: ParameterSetCache,
    config: Option<ConfigId>,
    committed: Committed,
    /// Type of the NAL unit that this camera's key units begin with, once a whole one was seen.
    key_begins_with: Option<u8>,
    /// The highest temporal layer seen.
    temporal_id_max: u8,
    marker_seen: bool,
    stats: Stats,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UnitState {
    /// The next NAL unit opens one.
    Closed,
    Open,
    /// Beyond a limit; the rest of it is passed over.
    Failed,
}

/// What is known of the unit so far. Loss and damage may be known before it opens.
#[derive(Clone, Copy, Debug, Default)]
struct Unit {
    first: Option<PacketInfo>,
    packets: u32,
    len: u32,
    nal_count: usize,
    lost: u32,
    damaged: bool,
    has_slice: bool,
    /// Its picture is an IDR, or for H.265 any IRAP.
    intra: bool,
    recovery_point: bool,
    /// Some slice is of a picture that others may refer to.
    referenced: bool,
    /// Type of its first NAL unit.
    begins_with: Option<u8>,
    /// Packets are missing before its first NAL unit.
    head_in_doubt: bool,
    /// A unit right before it was dropped.
    after_drop: bool,
    /// Packets are missing before the first slice, whose first byte will tell whether it is the picture's first.
    slice_in_doubt: bool,
}

impl Unit {
    /// Whether decoding can start here.
    const fn is_key(&self) -> bool {
        self.intra || self.recovery_point
    }
}

/// What the last committed unit had.
#[derive(Clone, Copy, Debug, Default)]
struct Committed {
    timeline: Option<u32>,
    config: Option<ConfigId>,
}

impl Assembler {
    pub(super) fn new(codec: Codec) -> Self {
        Self {
            codec,
            state: UnitState::Closed,
            unit: Unit::default(),
            packet: None,
            nal_ends: vec![0; NALS_PER_UNIT_MAX].into_boxed_slice(),
            nal: None,
            capture: Vec::with_capacity(PARAMETER_SET_LEN_MAX + 1),
            sets: ParameterSetCache::new(codec),
            config: None,
            committed: Committed::default(),
            key_begins_with: None,
            temporal_id_max: 0,
            marker_seen: false,
            stats: Stats::default(),
        }
    }

    pub(super) const fn stats(&self) -> &Stats {
        &self.stats
    }

    pub(super) const fn stats_mut(&mut self) -> &mut Stats {
        &mut self.stats
    }

    pub(super) const fn unit_open(&self) -> bool {
        matches!(self.state, UnitState::Open)
    }

    pub(super) fn set_parameter_sets<'a>(&mut self, nals: impl Iterator<Item = &'a [u8]>) {
        self.sets.clear();
        for nal in nals.flat_map(annex_b::nal_units) {
            if let NalKind::ParameterSet(kind) = self.codec.nal_kind(header_of(nal)) {
                self.store(kind, nal);
            }
        }
    }

    /// A packet begins. Ends the open unit when the packet is not of it; true when it did. `cuts_nal`: whether the NAL unit
    /// that is open lacks its end then.
    pub(super) fn packet(
        &mut self,
        packet: &PacketInfo,
        cuts_nal: impl FnOnce() -> bool,
        sink: &mut impl AccessUnitSink,
    ) -> bool {
        let first = self.unit.first;
        if packet.lost_before > 0
            || (self.marker_seen && first.is_some_and(|first| is_another_source(&first, packet)))
        {
            self.cut_nal();
            self.unit.damaged |= self.state == UnitState::Open;
        }
        let ended =
            first.is_some_and(|first| is_another_unit(&first, packet)) && self.other(packet, cuts_nal, sink);
        if packet.lost_before > 0 {
            self.unit.lost = self.unit.lost.saturating_add(packet.lost_before);
            self.unit.head_in_doubt |= self.state == UnitState::Closed;
            self.unit.slice_in_doubt = !self.unit.has_slice;
        }
        self.packet = Some(*packet);
        let unit = &mut self.unit;
        unit.first.get_or_insert(*packet);
        unit.packets = unit.packets.saturating_add(1);
        ended
    }

    /// Opens a NAL unit with this header.
    pub(super) fn nal_begin(&mut self, header: [u8; 2], sink: &mut impl AccessUnitSink) {
        self.nal_end();
        let kind = self.codec.nal_kind(header);
        if kind == NalKind::Unusable {
            return self.drop_nal();
        }
        if self.unit.has_slice && begins_unit(kind) {
            self.split(sink);
        }
        if self.state == UnitState::Closed {
            sink.begin();
            self.state = UnitState::Open;
            self.unit.begins_with = Some(self.codec.nal_type(header));
        }
        if self.state == UnitState::Failed {
            return;
        }
        if self.unit.nal_count == self.nal_ends.len() {
            self.stats.dropped_too_many_nals += 1;
            return self.fail(sink);
        }
        self.capture.clear();
        if let NalKind::Slice(slice) = kind {
            self.note_slice(slice);
        }
        self.nal = Some(kind);
        self.write_header(header, sink);
    }

    /// Appends bytes to the NAL unit that is open; without one they are passed over.
    pub(super) fn nal_bytes(&mut self, bytes: &[u8], sink: &mut impl AccessUnitSink) {
        match self.nal {
            None => return,
            Some(NalKind::Slice(_)) => self.check_head(bytes),
            Some(NalKind::ParameterSet(_)) => self.capture(bytes, PARAMETER_SET_LEN_MAX + 1),
            Some(NalKind::Sei) => self.capture(bytes, SEI_LEN_SCANNED),
            Some(NalKind::Delimiter | NalKind::Other | NalKind::Unusable) => {}
        }
        self.append(bytes, sink);
    }

    /// Ends the NAL unit that is open, if there is one.
    pub(super) fn nal_end(&mut self) {
        match self.close_nal() {
            Some(NalKind::ParameterSet(kind)) => {
                let nal = std::mem::take(&mut self.capture);
                self.store(kind, &nal);
                self.capture = nal;
            }
            Some(NalKind::Sei) => {
                self.unit.recovery_point |= sei::has_recovery_point(self.codec, &self.capture);
            }
            Some(NalKind::Slice(_) | NalKind::Delimiter | NalKind::Other | NalKind::Unusable) | None => {}
        }
    }

    /// Ends the NAL unit that is open though bytes of it are missing.
    pub(super) fn cut_nal(&mut self) {
        if self.close_nal().is_some() {
            self.damage();
        }
    }

    /// A NAL unit of the unit had to be dropped.
    pub(super) const fn drop_nal(&mut self) {
        self.stats.nals_dropped += 1;
        self.damage();
    }

    /// Bytes of the unit had to be dropped.
    pub(super) const fn damage(&mut self) {
        self.unit.damaged = true;
    }

    /// The packet that ended had the marker.
    pub(super) fn marker(&mut self, sink: &mut impl AccessUnitSink) {
        self.marker_seen = true;
        self.nal_end();
        if self.state == UnitState::Open && !self.unit.has_slice {
            return;
        }
        self.finish(sink);
    }

    /// Nothing more comes: publishes the open unit if it has a slice. Without its marker, from a camera that
    /// sends markers, the unit is not whole.
    pub(super) fn flush(&mut self, sink: &mut impl AccessUnitSink) {
        if !self.unit.has_slice {
            return self.reset(sink);
        }
        self.unit.damaged |= self.marker_seen;
        self.finish(sink);
        self.marker_seen = false;
    }

    /// Drops the open unit.
    pub(super) fn reset(&mut self, sink: &mut impl AccessUnitSink) {
        if self.state == UnitState::Open {
            sink.abort();
            self.stats.dropped_unfinished += 1;
        }
        self.state = UnitState::Closed;
        self.nal = None;
        self.unit = Unit::default();
        self.marker_seen = false;
    }

    /// A packet of another timestamp came while a unit is open, or after packets that opened none.
    fn other(
        &mut self,
        packet: &PacketInfo,
        cuts_nal: impl FnOnce() -> bool,
        sink: &mut impl AccessUnitSink,
    ) -> bool {
        if self.state != UnitState::Open || self.unit.has_slice {
            if cuts_nal() {
                self.cut_nal();
            }
            self.finish(sink);
            return true;
        }
        if packet.lost_before > 0 || (self.unit.lost > 0 && self.unit.damaged) {
            self.drop_head(sink);
            return true;
        }
        // Parameter sets and the like go to the picture that follows.
        if let Some(first) = &mut self.unit.first {
            *first = PacketInfo { sequence: first.sequence, received: first.received, ..*packet };
        }
        false
    }

    /// The picture that the open unit was the head of may be lost: its SEI must not speak for the next one. Parameter
    /// sets are kept all the same, and stand in the configuration.
    fn drop_head(&mut self, sink: &mut impl AccessUnitSink) {
        sink.abort();
        self.nal = None;
        self.stats.dropped_unfinished += 1;
        self.state = UnitState::Closed;
        let unit = std::mem::take(&mut self.unit);
        self.carry_drop(&unit);
    }

    /// Ends the unit before a NAL unit of the packet that is being read.
    fn split(&mut self, sink: &mut impl AccessUnitSink) {
        self.finish(sink);
        self.unit.first = self.packet;
    }

    fn finish(&mut self, sink: &mut impl AccessUnitSink) {
        self.nal_end();
        let mut unit = std::mem::take(&mut self.unit);
        match std::mem::replace(&mut self.state, UnitState::Closed) {
            UnitState::Open => {
                unit.damaged |= self.lacks_something(&unit);
                self.commit(&unit, sink);
            }
            UnitState::Failed => self.carry_drop(&unit),
            UnitState::Closed => self.carry_loss(&unit, if unit.damaged { unit.packets } else { 0 }),
        }
    }

    /// A unit that was dropped is missing before the unit that follows.
    fn carry_drop(&mut self, unit: &Unit) {
        self.carry_loss(unit, unit.packets);
        self.unit.head_in_doubt = false;
        self.unit.after_drop = true;
    }

    /// What was lost, and what came and was of no use, is missing before the unit that follows.
    fn carry_loss(&mut self, unit: &Unit, dropped: u32) {
        self.unit.lost = unit.lost.saturating_add(dropped);
        self.unit.head_in_doubt = unit.head_in_doubt;
        self.unit.after_drop = unit.after_drop;
        self.unit.slice_in_doubt = self.unit.lost > 0;
    }

    /// Whether what is missing before the unit may have been of it or of a picture that it refers to. A key unit refers
    /// to none, and its head is there if it begins as this camera's key units do.
    fn lacks_something(&self, unit: &Unit) -> bool {
        if unit.is_key() {
            unit.head_in_doubt && unit.begins_with != self.key_begins_with
        } else {
            unit.head_in_doubt || unit.after_drop
        }
    }

    fn commit(&mut self, unit: &Unit, sink: &mut impl AccessUnitSink) {
        let (Some(first), Some(last)) = (unit.first, self.packet) else {
            return sink.abort();
        };
        self.configure(sink);
        let flags = self.flags(unit, &first);
        let committed = sink.commit(&AccessUnit {
            nal_ends: self.nal_ends.get(..unit.nal_count).unwrap_or_default(),
            flags,
            config: self.config,
            media_ticks: first.media_ticks,
            timeline: first.timeline,
            lost_packets: unit.lost,
            received: first.received,
            wall: first.wall,
            wall_error_us: first.wall_error_us,
            clock_source: first.clock_source,
            rtp_timestamp: first.timestamp,
            ssrc: first.ssrc,
            first_rtp_sequence: first.sequence,
            last_rtp_sequence: last.sequence,
        });
        if committed.is_err() {
            self.stats.dropped_by_sink += 1;
            return self.carry_drop(unit);
        }
        self.committed = Committed { timeline: Some(first.timeline), config: self.config };
        if unit.is_key() && !unit.damaged {
            self.key_begins_with = unit.begins_with;
        }
        self.stats.units += 1;
        self.stats.too_large_since_unit = 0;
        self.stats.key_units += u64::from(unit.is_key());
        self.stats.damaged_units += u64::from(unit.damaged);
        self.stats.bytes += u64::from(unit.len);
        self.stats.nals += u64::try_from(unit.nal_count).unwrap_or(0);
    }

    fn flags(&self, unit: &Unit, first: &PacketInfo) -> UnitFlags {
        let mut flags = UnitFlags::default();
        let mut set = |flag, condition| {
            if condition {
                flags.insert(flag);
            }
        };
        set(UnitFlags::KEY, unit.is_key());
        // Some encoders say of an IDR, too, that it is a recovery point.
        set(UnitFlags::RECOVERY_POINT, unit.recovery_point && !unit.intra);
        set(UnitFlags::DISCONT, self.committed.timeline != Some(first.timeline));
        set(UnitFlags::DAMAGED, unit.damaged);
        set(UnitFlags::CONFIG_CHANGED, self.committed.config != self.config);
        set(UnitFlags::NON_REF, unit.has_slice && !unit.referenced);
        set(UnitFlags::TS_ESTIMATED, first.ticks_estimated);
        flags
    }

    fn configure(&mut self, sink: &mut impl AccessUnitSink) {
        if !self.sets.changed() {
            return;
        }
        if let Some(sets) = self.sets.assemble() {
            match sink.configure(&sets) {
                Ok(id) => self.config = Some(id),
                Err(_) => self.stats.parameter_sets_too_large += 1,
            }
        }
        self.temporal_id_max = self.temporal_id_max.max(self.sets.temporal_layers().saturating_sub(1));
    }

    fn store(&mut self, kind: SetKind, nal: &[u8]) {
        if self.sets.store(kind, nal).is_err() {
            self.stats.parameter_sets_too_large += 1;
        }
    }

    /// Drops the open unit; what comes until its end is passed over.
    fn fail(&mut self, sink: &mut impl AccessUnitSink) {
        sink.abort();
        self.state = UnitState::Failed;
        self.nal = None;
    }

    fn note_slice(&mut self, slice: Slice) {
        self.temporal_id_max = self.temporal_id_max.max(slice.temporal_id);
        self.unit.has_slice = true;
        self.unit.intra |= slice.key;
        self.unit.referenced |= !slice.disposable || slice.temporal_id < self.temporal_id_max;
    }

    fn write_header(&mut self, header: [u8; 2], sink: &mut impl AccessUnitSink) {
        let [a, b, c, d] = START_CODE;
        let bytes = [a, b, c, d, header[0], header[1]];
        let (bytes, _) = bytes.split_at(START_CODE.len() + self.codec.header_len());
        let (_, header) = bytes.split_at(START_CODE.len());
        self.capture.extend_from_slice(header);
        self.append(bytes, sink);
    }

    fn append(&mut self, bytes: &[u8], sink: &mut impl AccessUnitSink) {
        let len = u32::try_from(bytes.len()).ok().and_then(|len| self.unit.len.checked_add(len));
        match len {
            Some(len) if len as usize <= UNIT_LEN_MAX && sink.append(bytes).is_ok() => self.unit.len = len,
            _ => {
                self.stats.dropped_too_large += 1;
                self.stats.too_large_since_unit += 1;
                self.fail(sink);
            }
        }
    }

    fn capture(&mut self, bytes: &[u8], limit: usize) {
        let room = limit.saturating_sub(self.capture.len()).min(bytes.len());
        self.capture.extend_from_slice(bytes.get(..room).unwrap_or_default());
    }

    /// After loss before the first slice that came: a picture's first slice says so in its first bit (H.264 §7.3.3
    /// `first_mb_in_slice` = 0, H.265 §7.3.6.1 `first_slice_segment_in_pic_flag`).
    fn check_head(&mut self, bytes: &[u8]) {
        if self.unit.slice_in_doubt
            && let Some(&byte) = bytes.first()
        {
            self.unit.slice_in_doubt = false;
            self.unit.damaged |= byte & 0x80 == 0;
        }
    }

    fn close_nal(&mut self) -> Option<NalKind> {
        let kind = self.nal.take()?;
        if let Some(end) = self.nal_ends.get_mut(self.unit.nal_count) {
            *end = self.unit.len;
            self.unit.nal_count += 1;
        }
        Some(kind)
    }
}

/// Whether packets of these two cannot be of the same unit.
const fn is_another_unit(a: &PacketInfo, b: &PacketInfo) -> bool {
    a.timestamp != b.timestamp || is_another_source(a, b)
}

/// Whether the camera began anew between these two, so that nobody knows what it still had to send.
const fn is_another_source(a: &PacketInfo, b: &PacketInfo) -> bool {
    a.ssrc != b.ssrc || a.timeline != b.timeline
}

/// Whether a NAL unit behind slices begins the next unit (H.264 §7.4.1.2.3, H.265 §7.4.2.4.4). SEI does too by
/// the letter, but cameras send it behind their slices.
const fn begins_unit(kind: NalKind) -> bool {
    matches!(kind, NalKind::Delimiter | NalKind::ParameterSet(_))
}

/// The header of a whole NAL unit.
pub(super) fn header_of(nal: &[u8]) -> [u8; 2] {
    [nal.first().copied().unwrap_or(0), nal.get(1).copied().unwrap_or(0)]
}
