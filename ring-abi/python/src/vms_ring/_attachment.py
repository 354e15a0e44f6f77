"""One attached ring: take a record, copy the unit, validate the copy (SPEC.md §3, §4, §7)."""

from __future__ import annotations

import struct
from typing import List, NamedTuple, Optional, Tuple, Union

from ._counting import ACCEPTED, REJECTED, SKIPPED, Counting
from ._layout import (
    CONFIG_DATA_MAX,
    CONFIG_HEADER,
    CONFIG_HEADER_GENERATION,
    NALS_PER_UNIT_MAX,
    RECORD,
    RING_HEAD_FINAL_FILTERED,
    RING_HEAD_FINAL_SEQ,
    RING_HEAD_REASON,
    RING_HEAD_RSTATE,
    RING_HEAD_TAIL,
    STATE_LINE_HEARTBEAT_NS,
    STATE_LINE_LAST_KEY_SEQ,
    STATE_LINE_LAST_SEQ,
    STATE_LINE_RETAINED_NS,
    STATE_LINE_STATE,
    STATE_LINE_STATE_REASON,
    STATE_LINE_TIMELINE,
    ConfigHeader,
    EndReason,
    Record,
    RingState,
    SegmentKind,
    StreamState,
)
from ._segments import Segment, Track, slots_of, tracks_of
from ._values import Configuration, Status


class TakenUnit(NamedTuple):
    """A unit that was accepted."""

    record: Record
    payload: bytes
    nal_ends: Tuple[int, ...]
    lost: int
    configuration: Optional[Configuration]
    config_changed: bool


class TakenEnd(NamedTuple):
    """The ring has ended and was drained."""

    state: RingState
    reason: EndReason
    final_seq: int
    final_filtered: int


class Dropped:
    """A record that was not for the caller; there may be more."""


COUNT_MAX = 2**64 - 1
DROPPED = Dropped()
Taken = Union[TakenUnit, TakenEnd, Dropped, None]


class Attachment:
    """The two segments of an attached stream and this reader's place in the ring. `heads[head_index]` is its word in the cursor."""

    def __init__(
        self,
        stream_fd: int,
        ring_fd: int,
        heads: memoryview,
        head_index: int,
        counting: Counting,
        waits_for_key: bool,
        everything: bool,
    ) -> None:
        self._stream = Segment(stream_fd, SegmentKind.STREAM)
        self._ring: Optional[Segment] = None
        try:
            self._tracks: List[Track] = tracks_of(self._stream)
            self._ring = Segment(ring_fd, SegmentKind.DESCRIPTOR_RING)
            self._slots = slots_of(self._ring)
        except BaseException:
            self.close()
            raise
        self._records = self._ring.header.header_len
        self._distance = self._ring.header.rec_size
        self._ring_map = self._ring.mapping.map
        self._ring32, self._ring64 = self._ring.mapping.words32, self._ring.mapping.words64
        self._heads, self._head_index = heads, head_index
        self._everything = everything
        self._filtered_before = 0
        self._ended = False
        self._head = 0
        self.head_low = 0
        """The low half of the head, to compare with `tails[slot]`."""
        self.counting = counting
        self.waits_for_key = waits_for_key and not everything

    def take(self) -> Taken:
        """Takes the next record; `None` when there is none."""
        # The state first: what was pushed before it ended is in the ring when the state is seen.
        state = self._ring32[RING_HEAD_RSTATE // 4]
        waiting = self._ring64[RING_HEAD_TAIL // 8] - self._head
        if waiting == 0:
            return self._take_end(state)
        if self._ended or waiting % (1 << 64) > self._slots:
            return self._take_nonsense()
        offset = self._records + (self._head & (self._slots - 1)) * self._distance
        record = Record._make(RECORD.unpack(self._ring_map[offset : offset + 128]))
        taken = self._take_record(record)
        self._head += 1
        self.head_low = self._head & 0xFFFFFFFF
        self._heads[self._head_index] = self._head
        return taken

    def _take_end(self, state: int) -> Optional[TakenEnd]:
        if state == RingState.OK or self._ended:
            return None
        self._ended = True
        final_seq = self._ring64[RING_HEAD_FINAL_SEQ // 8]
        filtered = self._ring64[RING_HEAD_FINAL_FILTERED // 8]
        lost = self.counting.lost
        self.counting.end(final_seq, filtered)
        if self.counting.lost > lost and not self._everything:
            self.waits_for_key = True
        reason = self._ring32[RING_HEAD_REASON // 4]
        known = RingState(state) if state in RING_STATES else RingState.CLOSED
        why = EndReason(reason) if reason in END_REASONS else EndReason.STREAM_CLOSED
        return TakenEnd(known, why, final_seq, filtered)

    def _take_nonsense(self) -> Optional[TakenEnd]:
        """The tail is where it cannot be: nothing of the ring can be relied on any more, its final counts neither (§7)."""
        if self._ended:
            return None
        self._ended = True
        return TakenEnd(RingState.CLOSED, EndReason.NONE, 0, 0)

    def _take_record(self, d: Record) -> Union[TakenUnit, Dropped]:
        counting = self.counting
        if d.seq <= counting.last_seq:
            # The producer's bug (§10).
            return DROPPED
        lost = counting.lost_before(d.seq, d.filtered)
        if lost and not self._everything:
            self.waits_for_key = True
        if d.record_type not in (1, 2):
            # Of a later minor version: passed over, and not missing.
            counting.record(d.seq, d.filtered, SKIPPED)
            return DROPPED
        if d.track >= len(self._tracks):
            counting.record(d.seq, d.filtered, REJECTED)
            return DROPPED
        track = self._tracks[d.track]
        if self.waits_for_key and track.is_video and not d.flags & 1:
            counting.record(d.seq, d.filtered, SKIPPED)
            return DROPPED
        taken = self._copy(track, d, lost)
        if taken is None:
            if track.is_video and not self._everything:
                self.waits_for_key = True
            counting.record(d.seq, d.filtered, REJECTED)
            return DROPPED
        if track.is_video:
            self.waits_for_key = False
        counting.record(d.seq, d.filtered, ACCEPTED)
        return taken

    def _copy(self, track: Track, d: Record, lost: int) -> Optional[TakenUnit]:
        """Copies configuration, NAL index and payload, then validates all at once; `None` when the unit is not to be used."""
        count, length, begin = d.nal_count, d.len, d.pos & track.arena_mask
        end = length
        if count:
            end = d.nal_off + 4 * count
            if count > NALS_PER_UNIT_MAX or d.nal_off < length or d.nal_off % 4:
                return None
        if d.pos % 64 or end > track.unit_limit or begin + end > track.arena_len:
            return None
        found = None
        if d.config_id and d.config_id != track.config.id:
            found = self._find_configuration(track, d.config_id)
        stream = self._stream.mapping
        at = track.arena_off + begin
        payload = stream.map[at : at + length]
        ends: Tuple[int, ...] = ()
        if count:
            ends = struct.unpack(f"<{count}I", stream.map[at + d.nal_off : at + end])
        # The fence of §7 is here: see `_memory`.
        if stream.words64[track.reclaim_index] > d.pos:
            return None
        if count and (ends[-1] > length or (count > 1 and sorted(ends) != list(ends))):
            return None
        if found is not None:
            track.config = found
        if self._filtered_before:
            d = d._replace(filtered=min(d.filtered + self._filtered_before, COUNT_MAX))
        config = track.config if d.config_id and track.config.id == d.config_id else None
        return TakenUnit(d, payload, ends, lost, config, found is not None)

    def _find_configuration(self, track: Track, wanted: int) -> Optional[Configuration]:
        """A copy of the entry with this id, if it was whole."""
        stream = self._stream.mapping
        for entry in track.configs:
            generation_at = (entry + CONFIG_HEADER_GENERATION) // 4
            before = stream.words32[generation_at]
            head = ConfigHeader._make(CONFIG_HEADER.unpack(stream.copy(entry, CONFIG_HEADER.size)))
            if before % 2 or head.id != wanted or head.len > CONFIG_DATA_MAX:
                continue
            data = stream.copy(entry + CONFIG_HEADER.size, head.len)
            if stream.words32[generation_at] == before:
                return Configuration(head.id, *head[2:9], data)
        return None

    def configuration(self, track: int) -> Optional[Configuration]:
        """The configuration that the newest unit of a track referred to."""
        if 0 <= track < len(self._tracks) and self._tracks[track].config.id:
            return self._tracks[track].config
        return None

    def status(self) -> Status:
        """What the stream says of itself."""
        words32, words64 = self._stream.mapping.words32, self._stream.mapping.words64
        state = words32[STATE_LINE_STATE // 4]
        return Status(
            StreamState(state) if state in STREAM_STATES else StreamState.STALLED,
            words32[STATE_LINE_STATE_REASON // 4],
            words64[STATE_LINE_LAST_SEQ // 8],
            words64[STATE_LINE_LAST_KEY_SEQ // 8],
            words64[STATE_LINE_RETAINED_NS // 8],
            words64[STATE_LINE_HEARTBEAT_NS // 8],
            words32[STATE_LINE_TIMELINE // 4],
        )

    def clear_head(self) -> None:
        """Tells the producer that the slot is no longer read, so that its next user starts from 0 (§2.5)."""
        self._heads[self._head_index] = 0

    def follow(self, old: Attachment, end: TakenEnd) -> None:
        """Goes on where `old` ended, whose stream was rotated into this one's segment."""
        self.counting = old.counting
        self.counting.next_ring()
        self._filtered_before = min(old._filtered_before + end.final_filtered, COUNT_MAX)
        # Who waited for a keyframe when the old ring ended still does.
        self.waits_for_key = self.waits_for_key or old.waits_for_key
        for track, before in zip(self._tracks, old._tracks):
            track.config = before.config

    def close(self) -> None:
        """Unmaps both segments."""
        self._stream.close()
        if self._ring is not None:
            self._ring.close()


RING_STATES = frozenset(int(state) for state in RingState)
END_REASONS = frozenset(int(reason) for reason in EndReason)
STREAM_STATES = frozenset(int(state) for state in StreamState)
