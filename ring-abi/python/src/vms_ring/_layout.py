"""The layout of the vms-media ring ABI. Written by layout.py from layout.toml; not to be edited."""

import enum
import struct
from typing import Final, NamedTuple

MAGIC: Final = 0x474e4952534d56
# "VMSRING\0" as a little-endian u64
ABI_MAJOR: Final = 1
"""another major version is refused"""
ABI_MINOR: Final = 0
"""a minor version only appends or uses reserved bytes"""
LINE: Final = 64
"""units begin at multiples of this"""
CONFIG_DATA_MAX: Final = 4032
"""bytes of parameter sets in a configuration entry"""
UNIT_LEN_MAX: Final = 4194304
"""bytes of a unit with its 128 bytes in front and its NAL index, whatever the arena's size"""
NALS_PER_UNIT_MAX: Final = 1024
"""NAL units of one access unit"""
TRACKS_MAX: Final = 4
"""tracks of a stream in this version; the directory says how many there are"""
SESSION_SLOTS_MAX: Final = 4096
"""streams attached in one session"""
MESSAGE_LEN_MAX: Final = 4096
"""bytes of a message"""
NAME_LEN_MAX: Final = 32
"""bytes of a reader's name"""
TOKEN_LEN_MAX: Final = 256
"""bytes of a token"""
STREAM_ID_LEN_MAX: Final = 64
"""bytes of a stream id"""
REASON_LEN_MAX: Final = 232
"""bytes of a refusal's text"""


class SegmentKind(enum.IntEnum):
    """Numbers of `segment_kind`."""

    STREAM = 1
    """state, tracks, configurations and arenas of one stream"""
    DESCRIPTOR_RING = 3
    """records for one reader of one stream"""
    FRAME_POOL = 5
    """reserved for raw frames"""
    RELEASE_RING = 6
    """what R gives back of the frames it was lent (§15)"""
    SESSION = 7
    """bell and tails of one connection"""
    SESSION_CURSOR = 8
    """what R writes"""


class StreamState(enum.IntEnum):
    """Numbers of `stream_state`."""

    PENDING = 0
    """no unit was published yet"""
    LIVE = 1
    """units are coming"""
    STALLED = 2
    """the source is silent or being connected to again"""
    CLOSED = 3
    """final: no unit will come in this segment"""


class RingState(enum.IntEnum):
    """Numbers of `ring_state`."""

    OK = 0
    """records are coming"""
    EVICTED = 1
    """R broke a rule or a limit"""
    CLOSED = 2
    """the stream or the attachment ended"""
    ROTATED = 3
    """the stream goes on in another segment: attach again (§9.3)"""


class EndReason(enum.IntEnum):
    """Numbers of `end_reason`."""

    NONE = 0
    """the ring has not ended"""
    STREAM_CLOSED = 1
    """the stream was torn down"""
    DETACHED = 2
    """R asked for it"""
    BAD_CURSOR = 3
    """R's head was outside of what P had pushed, or moved back; or R gave back a frame that it did not hold"""
    QUOTA = 4
    """R's user holds too much memory of streams that have ended (reserved)"""
    REVOKED = 5
    """somebody's access to the stream was withdrawn: why it moved, not a word about this reader"""


class TrackKind(enum.IntEnum):
    """Numbers of `track_kind`."""

    VIDEO = 1
    """access units with keyframes"""
    AUDIO = 2
    """each unit is an entry point"""
    DATA = 3
    """each unit is an entry point"""


class Codec(enum.IntEnum):
    """Numbers of `codec`."""

    UNKNOWN = 0
    H264 = 1
    """ITU-T H.264"""
    H265 = 2
    """ITU-T H.265"""


class Class(enum.IntEnum):
    """Numbers of `class`."""

    LIVE = 1
    """to be on time: jumps to the newest keyframe"""
    ARCHIVE = 2
    """to be complete: gets all that is retained"""


class RecordType(enum.IntEnum):
    """Numbers of `record_type`."""

    ACCESS_UNIT = 1
    """a video access unit"""
    DATA = 2
    """an audio or data unit"""


class ClockSource(enum.IntEnum):
    """Numbers of `clock_source`."""

    RECEIVE = 1
    """when the first packet was received"""
    SENDER_REPORT = 2
    """the camera's RTCP sender reports"""
    SUSPECT = 3
    """sender reports that contradict the receive time"""


class Flag(enum.IntFlag):
    """Numbers of `flag`."""

    KEY = 1
    """decoding can start here: an IDR, an H.265 IRAP picture, or a recovery point"""
    RECOVERY_POINT = 2
    """with KEY: not an IDR, what is decoded from here on is clean after a while (recovery-point SEI)"""
    DISCONT = 4
    """first unit of a timeline"""
    DAMAGED = 8
    """packets were lost in this unit or right before it: it, or a picture it refers to, is not whole"""
    CONFIG_CHANGED = 16
    """first unit that uses its configuration: a hint"""
    BACKFILL = 32
    """committed before R attached"""
    NON_REF = 64
    """no other unit refers to this one"""
    TS_ESTIMATED = 128
    """media_ticks was estimated"""
    HAS_NAL_INDEX = 256
    """nal_count and nal_off are set"""


class Feature(enum.IntFlag):
    """Numbers of `feature`."""

    NOTIFY_FD = 1
    """WELCOME carries a notify descriptor (§8.2)"""


class From(enum.IntEnum):
    """Numbers of `from`."""

    LIVE = 1
    """the next keyframe that is committed"""
    KEYFRAME = 2
    """the newest retained keyframe"""
    OLDEST = 3
    """the oldest retained keyframe"""
    PREROLL = 4
    """the newest keyframe received from_arg ns or more before the newest unit, else the oldest"""
    AFTER = 5
    """behind unit from_arg of epoch from_epoch, else as OLDEST"""


class Filter(enum.IntFlag):
    """Numbers of `filter`."""

    KEYFRAMES_ONLY = 1
    """video units other than keyframes are withheld"""
    SKIP_DAMAGED = 2
    """a damaged video unit and all up to the next undamaged keyframe are withheld"""
    EVERYTHING = 4
    """neither P nor R waits for a keyframe"""


class AttachedFlag(enum.IntFlag):
    """Numbers of `attached_flag`."""

    RESUMED = 1
    """R goes on right behind the unit that AFTER named"""


class Refusal(enum.IntEnum):
    """Numbers of `refusal`."""

    UNKNOWN_STREAM = 1
    """no stream has this id"""
    FORBIDDEN = 2
    """R's user may not read this stream, or no stream at all"""
    LIMIT = 3
    """sessions, slots, attachments or memory are used up; try again later"""
    VERSION = 4
    """the versions do not overlap"""
    BAD_REQUEST = 5
    """not understood, or out of order"""
    UNAVAILABLE = 6
    """P could not: no memory, no descriptors, or it ends"""


class SegmentHeader(NamedTuple):
    """64 bytes."""

    magic: int
    """`VMSRING\0`"""
    major: int
    """1"""
    minor: int
    """0"""
    kind: int
    """segment_kind"""
    size: int
    """bytes of the segment"""
    epoch: int
    """random; of the stream's incarnation (kinds 1, 3, 6) or of P's run (kinds 7, 8)"""
    features_required: int
    """an unknown bit: R MUST refuse"""
    features_optional: int
    """unknown bits are ignored"""
    header_len: int
    """offset of the first record, entry, tail or head (3, 6, 7, 8); in kind 1 R uses tracks_off"""
    rec_size: int
    """distance of records, entries, tails or heads; 0 in a stream segment"""
    stream_uid: int
    """P's number of the stream; 0 in kinds 7 and 8"""


SEGMENT_HEADER: Final = struct.Struct("<QHHIQQQQIIQ")
SEGMENT_HEADER_MAGIC: Final = 0
SEGMENT_HEADER_MAJOR: Final = 8
SEGMENT_HEADER_MINOR: Final = 10
SEGMENT_HEADER_KIND: Final = 12
SEGMENT_HEADER_SIZE: Final = 16
SEGMENT_HEADER_EPOCH: Final = 24
SEGMENT_HEADER_FEATURES_REQUIRED: Final = 32
SEGMENT_HEADER_FEATURES_OPTIONAL: Final = 40
SEGMENT_HEADER_HEADER_LEN: Final = 48
SEGMENT_HEADER_REC_SIZE: Final = 52
SEGMENT_HEADER_STREAM_UID: Final = 56


class StreamDirectory(NamedTuple):
    """64 bytes."""

    track_count: int
    """tracks 0 to track_count − 1"""
    track_size: int
    """distance of track entries, at least 256"""
    tracks_off: int
    """offset of track entry 0"""


STREAM_DIRECTORY: Final = struct.Struct("<IIQ48x")
STREAM_DIRECTORY_TRACK_COUNT: Final = 64
STREAM_DIRECTORY_TRACK_SIZE: Final = 68
STREAM_DIRECTORY_TRACKS_OFF: Final = 72


class StateLine(NamedTuple):
    """128 bytes."""

    state: int
    """stream_state; others: treat as stalled"""
    timeline: int
    """timeline of the newest unit"""
    heartbeat_ns: int
    """CLOCK_MONOTONIC of P's newest sign of life"""
    last_seq: int
    """newest committed unit; 0 before the first"""
    last_key_seq: int
    """newest keyframe; 0 before the first"""
    retained_ns: int
    """receive time between oldest and newest retained video unit"""
    state_reason: int
    """the number of the API's `StateReason` (`vms.media.v1`); 0 none; an unknown one is shown as its number"""


STATE_LINE: Final = struct.Struct("<IIQQQQI84x")
STATE_LINE_STATE: Final = 128
STATE_LINE_TIMELINE: Final = 132
STATE_LINE_HEARTBEAT_NS: Final = 136
STATE_LINE_LAST_SEQ: Final = 144
STATE_LINE_LAST_KEY_SEQ: Final = 152
STATE_LINE_RETAINED_NS: Final = 160
STATE_LINE_STATE_REASON: Final = 168


class TrackEntry(NamedTuple):
    """256 bytes."""

    kind: int
    """track_kind; others: data"""
    timescale: int
    """ticks a second of media_ticks"""
    arena_off: int
    """offset of the arena; P: a multiple of 4096, R checks 8"""
    arena_len: int
    """bytes of the arena, a power of two"""
    configs_off: int
    """offset of configuration entry 0"""
    config_count: int
    """configuration entries"""
    config_size: int
    """distance of configuration entries"""
    reclaim_pos: int
    """bytes below it may change at any time; MUST NOT decrease"""
    write_pos: int
    """end of the newest committed unit"""
    config_id: int
    """current configuration; 0 before the first"""
    codec: int
    """codec of the current configuration, a hint: the entry is the truth"""


TRACK_ENTRY: Final = struct.Struct("<IIQQQII24xQ56xQII112x")
TRACK_ENTRY_KIND: Final = 0
TRACK_ENTRY_TIMESCALE: Final = 4
TRACK_ENTRY_ARENA_OFF: Final = 8
TRACK_ENTRY_ARENA_LEN: Final = 16
TRACK_ENTRY_CONFIGS_OFF: Final = 24
TRACK_ENTRY_CONFIG_COUNT: Final = 32
TRACK_ENTRY_CONFIG_SIZE: Final = 36
TRACK_ENTRY_RECLAIM_POS: Final = 64
TRACK_ENTRY_WRITE_POS: Final = 128
TRACK_ENTRY_CONFIG_ID: Final = 136
TRACK_ENTRY_CODEC: Final = 140


class ConfigHeader(NamedTuple):
    """64 bytes."""

    id: int
    """from 1, never used twice in an epoch; 0: unused"""
    generation: int
    """odd while the entry is being written"""
    codec: int
    """codec; others: unknown"""
    profile: int
    """profile_idc or general_profile_idc; 0 unknown"""
    level: int
    """level_idc or general_level_idc; 0 unknown"""
    width: int
    """luma samples a line after cropping; 0 unknown"""
    height: int
    """lines after cropping; 0 unknown"""
    fps_num: int
    """frames a second, numerator; 0 unknown"""
    fps_den: int
    """frames a second, denominator; 0 unknown"""
    len: int
    """bytes of parameter sets, at most 4032; they stand at offset 64, in Annex B"""


CONFIG_HEADER: Final = struct.Struct("<IIIIIIIIII24x")
CONFIG_HEADER_ID: Final = 0
CONFIG_HEADER_GENERATION: Final = 4
CONFIG_HEADER_CODEC: Final = 8
CONFIG_HEADER_PROFILE: Final = 12
CONFIG_HEADER_LEVEL: Final = 16
CONFIG_HEADER_WIDTH: Final = 20
CONFIG_HEADER_HEIGHT: Final = 24
CONFIG_HEADER_FPS_NUM: Final = 28
CONFIG_HEADER_FPS_DEN: Final = 32
CONFIG_HEADER_LEN: Final = 36


class RingHead(NamedTuple):
    """256 bytes."""

    slots: int
    """records in the ring, a power of two"""
    reader_class: int
    """class"""
    tail: int
    """records below it are complete; record n stands at header_len + (n mod slots) × rec_size"""
    rstate: int
    """ring_state; others: closed"""
    reason: int
    """end_reason; others: stream closed"""
    final_seq: int
    """the stream's last_seq at the ring's end"""
    final_filtered: int
    """records withheld until the end"""


RING_HEAD: Final = struct.Struct("<64xII56xQ56xIIQQ40x")
RING_HEAD_SLOTS: Final = 64
RING_HEAD_READER_CLASS: Final = 68
RING_HEAD_TAIL: Final = 128
RING_HEAD_RSTATE: Final = 192
RING_HEAD_REASON: Final = 196
RING_HEAD_FINAL_SEQ: Final = 200
RING_HEAD_FINAL_FILTERED: Final = 208


class SessionHead(NamedTuple):
    """256 bytes."""

    slots: int
    """tails that follow at header_len, rec_size apart: u32, the low half of the slot's tail, stored with release after the tail"""
    bell: int
    """the futex word (§8)"""
    state_gen: int
    """counts changes of any state, rstate, configuration or timeline"""


SESSION_HEAD: Final = struct.Struct("<64xI60xII120x")
SESSION_HEAD_SLOTS: Final = 64
SESSION_HEAD_BELL: Final = 128
SESSION_HEAD_STATE_GEN: Final = 132


class CursorHead(NamedTuple):
    """256 bytes."""

    parked: int
    """1 while R sleeps or is about to; heads follow at header_len, rec_size apart: u64, release"""


CURSOR_HEAD: Final = struct.Struct("<128xI124x")
CURSOR_HEAD_PARKED: Final = 128


class ReleaseHead(NamedTuple):
    """256 bytes."""

    capacity: int
    """entries that follow at header_len, rec_size apart: a power of two, at least R's budget"""
    tail: int
    """entries below it are complete; entry n stands at header_len + (n mod capacity) × rec_size"""


RELEASE_HEAD: Final = struct.Struct("<64xI60xQ120x")
RELEASE_HEAD_CAPACITY: Final = 64
RELEASE_HEAD_TAIL: Final = 128


class Lease(NamedTuple):
    """8 bytes."""

    slot: int
    """slot of the pool"""
    generation: int
    """number of the frame: from 1, +1 a published frame of P, whatever its pool; behind 2³²−1 comes 1"""


LEASE: Final = struct.Struct("<II")
LEASE_SLOT: Final = 0
LEASE_GENERATION: Final = 4


class Record(NamedTuple):
    """128 bytes."""

    seq: int
    """from 1, +1 a committed unit of the stream"""
    pos: int
    """position of the payload, a multiple of 64"""
    len: int
    """bytes of payload"""
    flags: int
    """flag bits"""
    record_type: int
    """record_type; others: skip the record"""
    track: int
    """index of the track"""
    config_id: int
    """configuration that decodes it; 0 none"""
    media_ticks: int
    """presentation time in the track's timescale, exact, unwrapped"""
    pts_ns: int
    """media_ticks in ns"""
    timeline: int
    """+1 at each break of the media clock: reconnect, SSRC change, rebase"""
    lost_packets: int
    """network packets that the camera sent and P missed, in this unit or right before it; not lost units (§10)"""
    key_seq: int
    """the newest keyframe of its track at or before it; 0 none"""
    recv_mono_ns: int
    """CLOCK_MONOTONIC: first packet received"""
    pub_mono_ns: int
    """CLOCK_MONOTONIC: committed"""
    wall_utc_ns: int
    """time of capture, ns since 1970 UTC"""
    wall_err_us: int
    """how far wall_utc_ns may be off; 2³²−1 unknown"""
    clock_source: int
    """clock_source"""
    rtp_ts: int
    """RTP timestamp as sent"""
    ssrc: int
    """RTP SSRC"""
    first_rtp_seq: int
    """RTP sequence number of its first packet"""
    last_rtp_seq: int
    """RTP sequence number of its last packet"""
    nal_count: int
    """entries of the NAL index; 0 no index"""
    nal_off: int
    """offset of the NAL index from pos; a multiple of 4, at least len"""
    duration_ticks: int
    """a hint; 0 unknown"""
    filtered: int
    """records withheld from this reader so far, in this ring"""


RECORD: Final = struct.Struct("<QQIIHHIqqIIQQQqIB3xIIHHIIIQ")
RECORD_SEQ: Final = 0
RECORD_POS: Final = 8
RECORD_LEN: Final = 16
RECORD_FLAGS: Final = 20
RECORD_RECORD_TYPE: Final = 24
RECORD_TRACK: Final = 26
RECORD_CONFIG_ID: Final = 28
RECORD_MEDIA_TICKS: Final = 32
RECORD_PTS_NS: Final = 40
RECORD_TIMELINE: Final = 48
RECORD_LOST_PACKETS: Final = 52
RECORD_KEY_SEQ: Final = 56
RECORD_RECV_MONO_NS: Final = 64
RECORD_PUB_MONO_NS: Final = 72
RECORD_WALL_UTC_NS: Final = 80
RECORD_WALL_ERR_US: Final = 88
RECORD_CLOCK_SOURCE: Final = 92
RECORD_RTP_TS: Final = 96
RECORD_SSRC: Final = 100
RECORD_FIRST_RTP_SEQ: Final = 104
RECORD_LAST_RTP_SEQ: Final = 106
RECORD_NAL_COUNT: Final = 108
RECORD_NAL_OFF: Final = 112
RECORD_DURATION_TICKS: Final = 116
RECORD_FILTERED: Final = 120


class MessageHead(NamedTuple):
    """16 bytes."""

    type: int
    """the message's number"""
    length: int
    """bytes of the message, this head included"""
    request: int
    """number of the request; an answer repeats it; 0 in what was not asked for"""


MESSAGE_HEAD: Final = struct.Struct("<III4x")
MESSAGE_HEAD_TYPE: Final = 0
MESSAGE_HEAD_LENGTH: Final = 4
MESSAGE_HEAD_REQUEST: Final = 8


class Hello(NamedTuple):
    """336 bytes."""

    major: int
    """version spoken"""
    minor_min: int
    """lowest minor version that will do"""
    minor_max: int
    """highest minor version known"""
    features: int
    """feature bits that R would use"""
    slots: int
    """streams R wants to attach at once; clamped to what P allows, at least 1"""
    bell_interval_us: int
    """R can do without wakes for this long; clamped to 100,000"""
    name_len: int
    """at most 32"""
    token_len: int
    """at most 256"""
    name: bytes
    """UTF-8, for the operator"""
    token: bytes
    """reserved; P ignores it"""


HELLO: Final = struct.Struct("<16xHHH2xQIIII32s256s")
HELLO_MAJOR: Final = 16
HELLO_MINOR_MIN: Final = 18
HELLO_MINOR_MAX: Final = 20
HELLO_FEATURES: Final = 24
HELLO_SLOTS: Final = 32
HELLO_BELL_INTERVAL_US: Final = 36
HELLO_NAME_LEN: Final = 40
HELLO_TOKEN_LEN: Final = 44
HELLO_NAME: Final = 48
HELLO_TOKEN: Final = 80


class Welcome(NamedTuple):
    """48 bytes."""

    major: int
    minor: int
    """highest that both know"""
    slots: int
    """streams that can be attached at once"""
    features: int
    """feature bits granted"""
    daemon_epoch: int
    """random number of P's run"""
    bell_interval_us: int
    """granted"""


WELCOME: Final = struct.Struct("<16xHHIQQI4x")
WELCOME_MAJOR: Final = 16
WELCOME_MINOR: Final = 18
WELCOME_SLOTS: Final = 20
WELCOME_FEATURES: Final = 24
WELCOME_DAEMON_EPOCH: Final = 32
WELCOME_BELL_INTERVAL_US: Final = 40


class Attach(NamedTuple):
    """136 bytes."""

    id_len: int
    """1 to 64"""
    from_kind: int
    """a number of the table *from*; others: BAD_REQUEST"""
    from_epoch: int
    """of AFTER"""
    from_arg: int
    """ns of PREROLL, seq of AFTER"""
    reader_class: int
    """a number of the table *class*; others: live"""
    filters: int
    """bits of the table *filter*; others are ignored"""
    tracks: int
    """bit n: track n is wanted; what is not wanted is withheld by a filter"""
    lag_max_ns: int
    """a LIVE reader further behind jumps to the newest keyframe; 0: whenever a newer keyframe is there"""
    ring_slots: int
    """rounded up to a power of two, clamped to 8 to 1024"""
    id: bytes
    """UTF-8: the stream's name"""


ATTACH: Final = struct.Struct("<16xIIQQIIQQI4x64s")
ATTACH_ID_LEN: Final = 16
ATTACH_FROM_KIND: Final = 20
ATTACH_FROM_EPOCH: Final = 24
ATTACH_FROM_ARG: Final = 32
ATTACH_READER_CLASS: Final = 40
ATTACH_FILTERS: Final = 44
ATTACH_TRACKS: Final = 48
ATTACH_LAG_MAX_NS: Final = 56
ATTACH_RING_SLOTS: Final = 64
ATTACH_ID: Final = 72


class Attached(NamedTuple):
    """64 bytes."""

    slot: int
    """slot in the session"""
    flags: int
    """attached_flag bits"""
    stream_uid: int
    epoch: int
    """of the stream"""
    first_seq: int
    """the first retained unit that R will be given, filters aside; last_seq + 1 when it waits for one to come"""
    last_seq: int
    """newest unit at the time"""


ATTACHED: Final = struct.Struct("<16xIIQQQQ8x")
ATTACHED_SLOT: Final = 16
ATTACHED_FLAGS: Final = 20
ATTACHED_STREAM_UID: Final = 24
ATTACHED_EPOCH: Final = 32
ATTACHED_FIRST_SEQ: Final = 40
ATTACHED_LAST_SEQ: Final = 48


class Refused(NamedTuple):
    """256 bytes."""

    code: int
    """refusal; others: unavailable"""
    text_len: int
    """at most 232"""
    text: bytes
    """UTF-8, for people"""


REFUSED: Final = struct.Struct("<16xII232s")
REFUSED_CODE: Final = 16
REFUSED_TEXT_LEN: Final = 20
REFUSED_TEXT: Final = 24


class Detach(NamedTuple):
    """24 bytes."""

    slot: int


DETACH: Final = struct.Struct("<16xI4x")
DETACH_SLOT: Final = 16


class Detached(NamedTuple):
    """24 bytes."""

    slot: int
    """no thread of P touches it any more"""


DETACHED: Final = struct.Struct("<16xI4x")
DETACHED_SLOT: Final = 16


class Evicted(NamedTuple):
    """32 bytes."""

    slot: int
    reason: int
    """end_reason"""
    last_seq: int


EVICTED: Final = struct.Struct("<16xIIQ")
EVICTED_SLOT: Final = 16
EVICTED_REASON: Final = 20
EVICTED_LAST_SEQ: Final = 24


class Closed(NamedTuple):
    """32 bytes."""

    slot: int
    reason: int
    """end_reason"""
    last_seq: int


CLOSED: Final = struct.Struct("<16xIIQ")
CLOSED_SLOT: Final = 16
CLOSED_REASON: Final = 20
CLOSED_LAST_SEQ: Final = 24


class Bye(NamedTuple):
    """24 bytes."""

    reason: int
    """0"""


BYE: Final = struct.Struct("<16xI4x")
BYE_REASON: Final = 16


MESSAGES: Final = {
    1: (HELLO, Hello),
    2: (WELCOME, Welcome),
    3: (ATTACH, Attach),
    4: (ATTACHED, Attached),
    5: (REFUSED, Refused),
    6: (DETACH, Detach),
    7: (DETACHED, Detached),
    8: (EVICTED, Evicted),
    9: (CLOSED, Closed),
    10: (BYE, Bye),
}
"""Format and fields of each message, by its number."""
