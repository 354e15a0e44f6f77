"""The values that a reader is given: units, configurations, counts, and what becomes of streams. None changes after it was made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterator, NamedTuple, Optional, Tuple, Union

from ._errors import Refused
from ._layout import Class, Codec, EndReason, Filter, Flag, From, Record, RecordType, RingState, StreamState

if TYPE_CHECKING:
    from ._stream import Stream


ALL_TRACKS = (1 << 64) - 1


class Where(NamedTuple):
    """Where a reader enters a stream: `LIVE`, `KEYFRAME`, `OLDEST`, `preroll(seconds)` or `after(epoch, seq)`."""

    kind: From
    epoch: int = 0
    arg: int = 0


LIVE = Where(From.LIVE)
"""At the next keyframe that is committed."""
KEYFRAME = Where(From.KEYFRAME)
"""At the newest retained keyframe: a picture at once."""
OLDEST = Where(From.OLDEST)
"""At the oldest retained keyframe."""


def preroll(seconds: float) -> Where:
    """At the newest retained keyframe that is at least this old, else the oldest."""
    return Where(From.PREROLL, 0, int(seconds * 1_000_000_000))


def after(epoch: int, seq: int) -> Where:
    """Behind a unit that an earlier attachment had seen; at the oldest when that is no longer possible."""
    return Where(From.AFTER, epoch, seq)


class Join(NamedTuple):
    """All that a reader says when it attaches a stream."""

    where: Where
    reader_class: Class
    filters: Filter
    tracks: int
    lag_max_ns: int
    ring_slots: int


def join_of(
    from_: Where, reader_class: Class, filters: Optional[Filter], tracks: int, lag_max: float, ring_slots: int
) -> Join:
    """What `attach` was told; without filters: those of the class."""
    if filters is None:
        filters = Filter.SKIP_DAMAGED if reader_class == Class.LIVE else Filter(0)
    return Join(from_, reader_class, filters, tracks & ALL_TRACKS, int(lag_max * 1_000_000_000), ring_slots)


class Configuration(NamedTuple):
    """The parameter sets of a track."""

    id: int = 0
    """From 1, never used twice in an epoch."""
    codec_number: int = 0
    profile: int = 0
    """`profile_idc` or `general_profile_idc`; 0 unknown."""
    level: int = 0
    """`level_idc` or `general_level_idc`; 0 unknown."""
    width: int = 0
    """Luma samples a line after cropping; 0 unknown."""
    height: int = 0
    """Lines after cropping; 0 unknown."""
    fps_num: int = 0
    fps_den: int = 0
    """Nominal frames a second as a fraction; 0/0 unknown."""
    data: bytes = b""
    """Parameter sets in Annex B."""

    @property
    def codec(self) -> Codec:
        """The codec; `UNKNOWN` for a number that this version does not know."""
        known = self.codec_number in (Codec.H264, Codec.H265)
        return Codec(self.codec_number) if known else Codec.UNKNOWN


class Counts(NamedTuple):
    """What became of every unit (SPEC.md §10)."""

    first_seq: int = 0
    """The first accepted unit, or the one behind the last of an attachment that was resumed; 0 before."""
    last_seq: int = 0
    """Up to here all is accounted for."""
    accepted: int = 0
    """Given to the caller."""
    rejected: int = 0
    """Overwritten before they were copied, or not plausible."""
    skipped: int = 0
    """Dropped here to wait for a keyframe after a loss."""
    lost: int = 0
    """Never came."""
    filtered: int = 0
    """Withheld by this reader's filters."""

    def balance(self) -> bool:
        """Whether every unit from `first_seq` to `last_seq` is accounted for."""
        every = self.last_seq + 1 - self.first_seq if self.first_seq else 0
        return self.accepted + self.rejected + self.skipped + self.lost + self.filtered == every


class Status(NamedTuple):
    """What a stream says of itself at the moment."""

    state: StreamState
    reason: int
    """The number of the API's `StateReason`; 0 none."""
    last_seq: int
    """Newest unit; 0 before the first."""
    last_key_seq: int
    """Newest keyframe; 0 before the first."""
    retained_ns: int
    heartbeat_ns: int
    """The producer's newest sign of life, CLOCK_MONOTONIC."""
    timeline: int
    """Timeline of the newest unit."""


class Unit:
    """A whole, validated unit. `payload` is a private copy: `numpy.frombuffer(unit.payload, "u1")` wraps it without another."""

    __slots__ = ("stream", "record", "payload", "nal_ends", "lost", "configuration", "config_changed")

    def __init__(
        self,
        stream: Stream,
        record: Record,
        payload: bytes,
        nal_ends: Tuple[int, ...],
        lost: int,
        configuration: Optional[Configuration],
        config_changed: bool,
    ) -> None:
        self.stream = stream
        """The attached stream."""
        self.record = record
        """The record with all its fields (SPEC.md §3); the properties below are the same values."""
        self.payload = payload
        """Annex B in a video track."""
        self.nal_ends = nal_ends
        """Where each NAL unit ends in `payload`; empty when the producer gave no index."""
        self.lost = lost
        """Units missing right before this one."""
        self.configuration = configuration
        """The parameter sets of its track that it refers to; `None` while none was seen."""
        self.config_changed = config_changed
        """`configuration` is another than with the track's unit before."""

    def __repr__(self) -> str:
        return f"<Unit {self.stream.id} seq={self.record.seq} {len(self.payload)} bytes{' key' if self.key else ''}>"

    def nals(self) -> Iterator[memoryview]:
        """The NAL units, start codes included, as views of `payload`."""
        begin, view = 0, memoryview(self.payload)
        for end in self.nal_ends:
            yield view[begin:end]
            begin = end

    @property
    def epoch(self) -> int:
        """Incarnation of the stream: `(epoch, seq)` names a unit for ever."""
        return self.stream.epoch

    @property
    def seq(self) -> int:
        """From 1, +1 a committed unit of the stream."""
        return self.record.seq

    @property
    def pos(self) -> int:
        """Position in the track's arena."""
        return self.record.pos

    @property
    def len(self) -> int:
        """Bytes of payload."""
        return self.record.len

    @property
    def flags(self) -> Flag:
        """The flag bits."""
        return Flag(self.record.flags & FLAGS_KNOWN)

    @property
    def key(self) -> bool:
        """Decoding can start here."""
        return self.record.flags & 1 != 0

    @property
    def damaged(self) -> bool:
        """Bytes of this unit are missing."""
        return self.record.flags & 8 != 0

    @property
    def backfill(self) -> bool:
        """Committed before this reader attached."""
        return self.record.flags & 32 != 0

    @property
    def is_video(self) -> bool:
        """A video access unit; else an audio or data unit."""
        return self.record.record_type == RecordType.ACCESS_UNIT

    @property
    def track(self) -> int:
        """Index of the track."""
        return self.record.track

    @property
    def config_id(self) -> int:
        """The configuration that decodes it; 0 none."""
        return self.record.config_id

    @property
    def media_ticks(self) -> int:
        """Presentation time in the track's timescale, exact, unwrapped."""
        return self.record.media_ticks

    @property
    def pts_ns(self) -> int:
        """`media_ticks` in ns."""
        return self.record.pts_ns

    @property
    def timeline(self) -> int:
        """+1 at each break of the media clock; media times of two timelines do not compare."""
        return self.record.timeline

    @property
    def lost_packets(self) -> int:
        """Packets missing in this unit or right before it."""
        return self.record.lost_packets

    @property
    def key_seq(self) -> int:
        """The newest keyframe at or before it; 0 none."""
        return self.record.key_seq

    @property
    def recv_mono_ns(self) -> int:
        """CLOCK_MONOTONIC: first packet received."""
        return self.record.recv_mono_ns

    @property
    def pub_mono_ns(self) -> int:
        """CLOCK_MONOTONIC: committed."""
        return self.record.pub_mono_ns

    @property
    def wall_utc_ns(self) -> int:
        """Time of capture, ns since 1970 UTC."""
        return self.record.wall_utc_ns

    @property
    def wall_err_us(self) -> Optional[int]:
        """How far `wall_utc_ns` may be off; `None` unknown."""
        return None if self.record.wall_err_us == 0xFFFFFFFF else self.record.wall_err_us

    @property
    def clock_source(self) -> int:
        """A `ClockSource`, or a number that this version does not know."""
        return self.record.clock_source

    @property
    def rtp_ts(self) -> int:
        """RTP timestamp as sent."""
        return self.record.rtp_ts

    @property
    def ssrc(self) -> int:
        """RTP SSRC."""
        return self.record.ssrc

    @property
    def first_rtp_seq(self) -> int:
        """RTP sequence number of its first packet."""
        return self.record.first_rtp_seq

    @property
    def last_rtp_seq(self) -> int:
        """RTP sequence number of its last packet."""
        return self.record.last_rtp_seq

    @property
    def duration_ticks(self) -> int:
        """A hint; 0 unknown."""
        return self.record.duration_ticks

    @property
    def filtered(self) -> int:
        """Units withheld from this reader so far, also before a rotation."""
        return self.record.filtered


class Ended(NamedTuple):
    """A stream's ring ended; all its units were given out, and it is detached."""

    stream: Stream
    state: RingState
    reason: EndReason
    counts: Counts
    refusal: Optional[Refused] = None
    """Why it could not be attached again after a rotation."""


class Rotated(NamedTuple):
    """The stream went on in another segment and was attached there (SPEC.md §9.3)."""

    stream: Stream
    resumed: bool
    """Nothing is missing."""
    epoch: int
    counts: Counts
    """Counts up to here. They go on, unless the epoch is another."""


class Reconnected(NamedTuple):
    """`reconnecting` attached a stream again, in the same epoch."""

    stream: Stream
    resumed: bool
    """It goes on right behind the last unit that was dealt with."""
    epoch: int


class Restarted(NamedTuple):
    """`reconnecting` attached a stream again, and it is another incarnation: seq, timeline and media time began anew."""

    stream: Stream
    before: int
    """The epoch that is over."""
    epoch: int


Event = Union[Unit, Ended, Rotated]
"""What a session gives."""

FLAGS_KNOWN = 0
for _flag in Flag:
    FLAGS_KNOWN |= int(_flag)
