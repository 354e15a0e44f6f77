"""Opening segments: seals and size before a descriptor is mapped, header and tables after (SPEC.md §2, §13)."""

from __future__ import annotations

import fcntl
import os
from typing import List

from ._errors import SegmentError
from ._layout import (
    ABI_MAJOR,
    CONFIG_DATA_MAX,
    CONFIG_HEADER,
    MAGIC,
    RECORD,
    RING_HEAD,
    RING_HEAD_SLOTS,
    SEGMENT_HEADER,
    STATE_LINE,
    STATE_LINE_STATE,
    STREAM_DIRECTORY,
    STREAM_DIRECTORY_TRACK_COUNT,
    TRACK_ENTRY,
    TRACK_ENTRY_RECLAIM_POS,
    TRACKS_MAX,
    UNIT_LEN_MAX,
    LINE,
    SegmentHeader,
    SegmentKind,
    StreamDirectory,
    TrackEntry,
    TrackKind,
)
from ._memory import Mapping
from ._values import Configuration

F_GET_SEALS = 1034
SEALS_CURSOR = 0x1 | 0x2 | 0x4
"""`F_SEAL_SEAL`, `F_SEAL_SHRINK`, `F_SEAL_GROW`."""
SEALS_READ_ONLY = SEALS_CURSOR | 0x10
"""... and `F_SEAL_FUTURE_WRITE`."""
FEATURES_KNOWN = 0
CONFIG_ENTRY_LEN = CONFIG_HEADER.size + CONFIG_DATA_MAX
ARENA_LEN_MAX = 1 << 40


class Segment:
    """A mapped segment whose header was checked."""

    __slots__ = ("name", "header", "mapping")

    def __init__(self, fd: int, kind: SegmentKind) -> None:
        self.name = NAMES[kind]
        writable = kind is SegmentKind.SESSION_CURSOR
        length = self._checked_length(fd, SEALS_CURSOR if writable else SEALS_READ_ONLY)
        try:
            self.mapping = Mapping(fd, length, writable)
        except (OSError, OverflowError, ValueError) as error:
            raise SegmentError(self.name, f"it could not be mapped: {error}") from error
        self.header = SegmentHeader._make(SEGMENT_HEADER.unpack(self.mapping.copy(0, SEGMENT_HEADER.size)))
        try:
            self._check_header(kind)
        except SegmentError:
            self.mapping.close()
            raise

    def _checked_length(self, fd: int, need: int) -> int:
        try:
            seals = fcntl.fcntl(fd, F_GET_SEALS)
        except OSError:
            # No file that could have seals.
            seals = 0
        if seals & need != need:
            raise SegmentError(self.name, "seals")
        length = os.fstat(fd).st_size
        if length < SEGMENT_HEADER.size:
            raise SegmentError(self.name, "magic")
        return length

    def _check_header(self, kind: SegmentKind) -> None:
        header = self.header
        rules = (
            ("magic", header.magic == MAGIC),
            ("major", header.major == ABI_MAJOR),
            ("features", header.features_required & ~FEATURES_KNOWN == 0),
            ("kind", header.kind == kind),
            ("size", header.size <= self.mapping.length and header.header_len <= header.size),
        )
        for why, holds in rules:
            if not holds:
                raise SegmentError(self.name, why)

    def require(self, offset: int, length: int, align: int = 8) -> int:
        """`offset`, when `length` bytes from it are within the segment."""
        if offset + length > self.header.size or not self.mapping.inside(offset, length, align):
            raise SegmentError(self.name, "table")
        return offset

    def require_slots(self, slots: int, size: int) -> None:
        """That a session or cursor has a whole, aligned word of `size` bytes for each slot."""
        distance = self.header.rec_size
        if distance < size or distance % size:
            raise SegmentError(self.name, "table")
        self.require(self.header.header_len, slots * distance, size)

    def slot_word(self, slot: int, size: int) -> int:
        """Index of a slot's word of `size` bytes in a session or cursor."""
        offset = self.header.header_len + slot * self.header.rec_size
        return self.require(offset, size, size) // size

    def close(self) -> None:
        """Unmaps."""
        self.mapping.close()


NAMES = {
    SegmentKind.STREAM: "stream",
    SegmentKind.DESCRIPTOR_RING: "ring",
    SegmentKind.SESSION: "session",
    SegmentKind.SESSION_CURSOR: "cursor",
}


class Track:
    """A track of a stream segment, each of its places compared with the segment's size."""

    __slots__ = ("is_video", "arena_off", "arena_mask", "arena_len", "unit_limit", "reclaim_index", "configs", "config")

    def __init__(self, segment: Segment, offset: int) -> None:
        segment.require(offset, TRACK_ENTRY.size)
        entry = TrackEntry._make(TRACK_ENTRY.unpack(segment.mapping.copy(offset, TRACK_ENTRY.size)))
        length = entry.arena_len
        if length < LINE or length > ARENA_LEN_MAX or length & (length - 1):
            raise SegmentError(segment.name, "table")
        self.is_video = entry.kind == TrackKind.VIDEO
        self.arena_off = segment.require(entry.arena_off, length)
        self.arena_len, self.arena_mask = length, length - 1
        self.unit_limit = min(length // 4, UNIT_LEN_MAX)
        self.reclaim_index = (offset + TRACK_ENTRY_RECLAIM_POS) // 8
        if entry.config_count and not is_distance(entry.config_size, CONFIG_ENTRY_LEN):
            raise SegmentError(segment.name, "table")
        # Bounded by the segment's size: the first entry outside of it ends the walk.
        self.configs: List[int] = [
            segment.require(entry.configs_off + n * entry.config_size, CONFIG_ENTRY_LEN)
            for n in range(entry.config_count)
        ]
        self.config = Configuration()


def is_distance(distance: int, length: int) -> bool:
    """Whether entries of at least `length` bytes can stand this far apart, their words aligned."""
    return distance >= length and distance % 8 == 0


def tracks_of(stream: Segment) -> List[Track]:
    """The tracks that the stream segment's directory names."""
    stream.require(STATE_LINE_STATE, STATE_LINE.size)
    raw = stream.mapping.copy(STREAM_DIRECTORY_TRACK_COUNT, STREAM_DIRECTORY.size)
    directory = StreamDirectory._make(STREAM_DIRECTORY.unpack(raw))
    if directory.track_count > TRACKS_MAX or not is_distance(directory.track_size, TRACK_ENTRY.size):
        raise SegmentError(stream.name, "table")
    return [Track(stream, directory.tracks_off + n * directory.track_size) for n in range(directory.track_count)]


def slots_of(ring: Segment) -> int:
    """Records of a descriptor ring whose shape was checked."""
    ring.require(0, RING_HEAD.size)
    slots = ring.mapping.words32[RING_HEAD_SLOTS // 4]
    distance = ring.header.rec_size
    if slots == 0 or slots & (slots - 1) or not is_distance(distance, RECORD.size):
        raise SegmentError(ring.name, "table")
    ring.require(ring.header.header_len, slots * distance)
    return slots
