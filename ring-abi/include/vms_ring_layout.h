/* The layout of the vms-media ring ABI (ring-abi/SPEC.md). Written by layout.py from layout.toml; not to be edited. */
#ifndef VMS_RING_LAYOUT_H
#define VMS_RING_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define VMS_RING_ASSERT(condition, text) static_assert(condition, text)
#else
#define VMS_RING_ASSERT(condition, text) _Static_assert(condition, text)
#endif

#define VMS_RING_MAGIC 0x00474e4952534d56ULL /* "VMSRING\0" as a little-endian u64 */
#define VMS_RING_ABI_MAJOR 1 /* another major version is refused */
#define VMS_RING_ABI_MINOR 0 /* a minor version only appends or uses reserved bytes */
#define VMS_RING_LINE 64 /* units begin at multiples of this */
#define VMS_RING_CONFIG_DATA_MAX 4032 /* bytes of parameter sets in a configuration entry */
#define VMS_RING_UNIT_LEN_MAX 4194304 /* bytes of a unit with its 128 bytes in front and its NAL index, whatever the arena's size */
#define VMS_RING_NALS_PER_UNIT_MAX 1024 /* NAL units of one access unit */
#define VMS_RING_TRACKS_MAX 4 /* tracks of a stream in this version; the directory says how many there are */
#define VMS_RING_SESSION_SLOTS_MAX 4096 /* streams attached in one session */
#define VMS_RING_MESSAGE_LEN_MAX 4096 /* bytes of a message */
#define VMS_RING_NAME_LEN_MAX 32 /* bytes of a reader's name */
#define VMS_RING_TOKEN_LEN_MAX 256 /* bytes of a token */
#define VMS_RING_STREAM_ID_LEN_MAX 64 /* bytes of a stream id */
#define VMS_RING_REASON_LEN_MAX 232 /* bytes of a refusal's text */

enum vms_ring_segment_kind {
    VMS_RING_SEGMENT_KIND_STREAM = 1, /* state, tracks, configurations and arenas of one stream */
    VMS_RING_SEGMENT_KIND_DESCRIPTOR_RING = 3, /* records for one reader of one stream */
    VMS_RING_SEGMENT_KIND_FRAME_POOL = 5, /* reserved for raw frames */
    VMS_RING_SEGMENT_KIND_RELEASE_RING = 6, /* what R gives back of the frames it was lent (§15) */
    VMS_RING_SEGMENT_KIND_SESSION = 7, /* bell and tails of one connection */
    VMS_RING_SEGMENT_KIND_SESSION_CURSOR = 8 /* what R writes */
};

enum vms_ring_stream_state {
    VMS_RING_STREAM_STATE_PENDING = 0, /* no unit was published yet */
    VMS_RING_STREAM_STATE_LIVE = 1, /* units are coming */
    VMS_RING_STREAM_STATE_STALLED = 2, /* the source is silent or being connected to again */
    VMS_RING_STREAM_STATE_CLOSED = 3 /* final: no unit will come in this segment */
};

enum vms_ring_ring_state {
    VMS_RING_RING_STATE_OK = 0, /* records are coming */
    VMS_RING_RING_STATE_EVICTED = 1, /* R broke a rule or a limit */
    VMS_RING_RING_STATE_CLOSED = 2, /* the stream or the attachment ended */
    VMS_RING_RING_STATE_ROTATED = 3 /* the stream goes on in another segment: attach again (§9.3) */
};

enum vms_ring_end_reason {
    VMS_RING_END_REASON_NONE = 0, /* the ring has not ended */
    VMS_RING_END_REASON_STREAM_CLOSED = 1, /* the stream was torn down */
    VMS_RING_END_REASON_DETACHED = 2, /* R asked for it */
    VMS_RING_END_REASON_BAD_CURSOR = 3, /* R's head was outside of what P had pushed, or moved back; or R gave back a frame that it did not hold */
    VMS_RING_END_REASON_QUOTA = 4, /* R's user holds too much memory of streams that have ended (reserved) */
    VMS_RING_END_REASON_REVOKED = 5 /* somebody's access to the stream was withdrawn: why it moved, not a word about this reader */
};

enum vms_ring_track_kind {
    VMS_RING_TRACK_KIND_VIDEO = 1, /* access units with keyframes */
    VMS_RING_TRACK_KIND_AUDIO = 2, /* each unit is an entry point */
    VMS_RING_TRACK_KIND_DATA = 3 /* each unit is an entry point */
};

enum vms_ring_codec {
    VMS_RING_CODEC_UNKNOWN = 0,
    VMS_RING_CODEC_H264 = 1, /* ITU-T H.264 */
    VMS_RING_CODEC_H265 = 2 /* ITU-T H.265 */
};

enum vms_ring_class {
    VMS_RING_CLASS_LIVE = 1, /* to be on time: jumps to the newest keyframe */
    VMS_RING_CLASS_ARCHIVE = 2 /* to be complete: gets all that is retained */
};

enum vms_ring_record_type {
    VMS_RING_RECORD_TYPE_ACCESS_UNIT = 1, /* a video access unit */
    VMS_RING_RECORD_TYPE_DATA = 2 /* an audio or data unit */
};

enum vms_ring_clock_source {
    VMS_RING_CLOCK_SOURCE_RECEIVE = 1, /* when the first packet was received */
    VMS_RING_CLOCK_SOURCE_SENDER_REPORT = 2, /* the camera's RTCP sender reports */
    VMS_RING_CLOCK_SOURCE_SUSPECT = 3 /* sender reports that contradict the receive time */
};

enum vms_ring_flag {
    VMS_RING_FLAG_KEY = 1, /* decoding can start here: an IDR, an H.265 IRAP picture, or a recovery point */
    VMS_RING_FLAG_RECOVERY_POINT = 2, /* with KEY: not an IDR, what is decoded from here on is clean after a while (recovery-point SEI) */
    VMS_RING_FLAG_DISCONT = 4, /* first unit of a timeline */
    VMS_RING_FLAG_DAMAGED = 8, /* packets were lost in this unit or right before it: it, or a picture it refers to, is not whole */
    VMS_RING_FLAG_CONFIG_CHANGED = 16, /* first unit that uses its configuration: a hint */
    VMS_RING_FLAG_BACKFILL = 32, /* committed before R attached */
    VMS_RING_FLAG_NON_REF = 64, /* no other unit refers to this one */
    VMS_RING_FLAG_TS_ESTIMATED = 128, /* media_ticks was estimated */
    VMS_RING_FLAG_HAS_NAL_INDEX = 256 /* nal_count and nal_off are set */
};

enum vms_ring_feature {
    VMS_RING_FEATURE_NOTIFY_FD = 1 /* WELCOME carries a notify descriptor (§8.2) */
};

enum vms_ring_from {
    VMS_RING_FROM_LIVE = 1, /* the next keyframe that is committed */
    VMS_RING_FROM_KEYFRAME = 2, /* the newest retained keyframe */
    VMS_RING_FROM_OLDEST = 3, /* the oldest retained keyframe */
    VMS_RING_FROM_PREROLL = 4, /* the newest keyframe received from_arg ns or more before the newest unit, else the oldest */
    VMS_RING_FROM_AFTER = 5 /* behind unit from_arg of epoch from_epoch, else as OLDEST */
};

enum vms_ring_filter {
    VMS_RING_FILTER_KEYFRAMES_ONLY = 1, /* video units other than keyframes are withheld */
    VMS_RING_FILTER_SKIP_DAMAGED = 2, /* a damaged video unit and all up to the next undamaged keyframe are withheld */
    VMS_RING_FILTER_EVERYTHING = 4 /* neither P nor R waits for a keyframe */
};

enum vms_ring_attached_flag {
    VMS_RING_ATTACHED_FLAG_RESUMED = 1 /* R goes on right behind the unit that AFTER named */
};

enum vms_ring_refusal {
    VMS_RING_REFUSAL_UNKNOWN_STREAM = 1, /* no stream has this id */
    VMS_RING_REFUSAL_FORBIDDEN = 2, /* R's user may not read this stream, or no stream at all */
    VMS_RING_REFUSAL_LIMIT = 3, /* sessions, slots, attachments or memory are used up; try again later */
    VMS_RING_REFUSAL_VERSION = 4, /* the versions do not overlap */
    VMS_RING_REFUSAL_BAD_REQUEST = 5, /* not understood, or out of order */
    VMS_RING_REFUSAL_UNAVAILABLE = 6 /* P could not: no memory, no descriptors, or it ends */
};

enum vms_ring_message {
    VMS_RING_MESSAGE_HELLO = 1,
    VMS_RING_MESSAGE_WELCOME = 2,
    VMS_RING_MESSAGE_ATTACH = 3,
    VMS_RING_MESSAGE_ATTACHED = 4,
    VMS_RING_MESSAGE_REFUSED = 5,
    VMS_RING_MESSAGE_DETACH = 6,
    VMS_RING_MESSAGE_DETACHED = 7,
    VMS_RING_MESSAGE_EVICTED = 8,
    VMS_RING_MESSAGE_CLOSED = 9,
    VMS_RING_MESSAGE_BYE = 10
};

/* 64 bytes. */
struct vms_ring_segment_header {
    uint64_t magic; /* `VMSRING\0` */
    uint16_t major; /* 1 */
    uint16_t minor; /* 0 */
    uint32_t kind; /* segment_kind */
    uint64_t size; /* bytes of the segment */
    uint64_t epoch; /* random; of the stream's incarnation (kinds 1, 3, 6) or of P's run (kinds 7, 8) */
    uint64_t features_required; /* an unknown bit: R MUST refuse */
    uint64_t features_optional; /* unknown bits are ignored */
    uint32_t header_len; /* offset of the first record, entry, tail or head (3, 6, 7, 8); in kind 1 R uses tracks_off */
    uint32_t rec_size; /* distance of records, entries, tails or heads; 0 in a stream segment */
    uint64_t stream_uid; /* P's number of the stream; 0 in kinds 7 and 8 */
};
VMS_RING_ASSERT(sizeof(struct vms_ring_segment_header) == 64, "segment_header");
VMS_RING_ASSERT(offsetof(struct vms_ring_segment_header, magic) == 0, "segment_header.magic");
VMS_RING_ASSERT(offsetof(struct vms_ring_segment_header, major) == 8, "segment_header.major");
VMS_RING_ASSERT(offsetof(struct vms_ring_segment_header, minor) == 10, "segment_header.minor");
VMS_RING_ASSERT(offsetof(struct vms_ring_segment_header, kind) == 12, "segment_header.kind");
VMS_RING_ASSERT(offsetof(struct vms_ring_segment_header, size) == 16, "segment_header.size");
VMS_RING_ASSERT(offsetof(struct vms_ring_segment_header, epoch) == 24, "segment_header.epoch");
VMS_RING_ASSERT(offsetof(struct vms_ring_segment_header, features_required) == 32, "segment_header.features_required");
VMS_RING_ASSERT(offsetof(struct vms_ring_segment_header, features_optional) == 40, "segment_header.features_optional");
VMS_RING_ASSERT(offsetof(struct vms_ring_segment_header, header_len) == 48, "segment_header.header_len");
VMS_RING_ASSERT(offsetof(struct vms_ring_segment_header, rec_size) == 52, "segment_header.rec_size");
VMS_RING_ASSERT(offsetof(struct vms_ring_segment_header, stream_uid) == 56, "segment_header.stream_uid");

/* 64 bytes. Stands at offset 64 of its segment. */
struct vms_ring_stream_directory {
    uint32_t track_count; /* tracks 0 to track_count − 1 */
    uint32_t track_size; /* distance of track entries, at least 256 */
    uint64_t tracks_off; /* offset of track entry 0 */
    uint8_t reserved0[48];
};
VMS_RING_ASSERT(sizeof(struct vms_ring_stream_directory) == 64, "stream_directory");
VMS_RING_ASSERT(offsetof(struct vms_ring_stream_directory, track_count) == 0, "stream_directory.track_count");
VMS_RING_ASSERT(offsetof(struct vms_ring_stream_directory, track_size) == 4, "stream_directory.track_size");
VMS_RING_ASSERT(offsetof(struct vms_ring_stream_directory, tracks_off) == 8, "stream_directory.tracks_off");

/* 128 bytes. Stands at offset 128 of its segment. */
struct vms_ring_state_line {
    uint32_t state; /* stream_state; others: treat as stalled */
    uint32_t timeline; /* timeline of the newest unit */
    uint64_t heartbeat_ns; /* CLOCK_MONOTONIC of P's newest sign of life */
    uint64_t last_seq; /* newest committed unit; 0 before the first */
    uint64_t last_key_seq; /* newest keyframe; 0 before the first */
    uint64_t retained_ns; /* receive time between oldest and newest retained video unit */
    uint32_t state_reason; /* the number of the API's `StateReason` (`vms.media.v1`); 0 none; an unknown one is shown as its number */
    uint8_t reserved0[84];
};
VMS_RING_ASSERT(sizeof(struct vms_ring_state_line) == 128, "state_line");
VMS_RING_ASSERT(offsetof(struct vms_ring_state_line, state) == 0, "state_line.state");
VMS_RING_ASSERT(offsetof(struct vms_ring_state_line, timeline) == 4, "state_line.timeline");
VMS_RING_ASSERT(offsetof(struct vms_ring_state_line, heartbeat_ns) == 8, "state_line.heartbeat_ns");
VMS_RING_ASSERT(offsetof(struct vms_ring_state_line, last_seq) == 16, "state_line.last_seq");
VMS_RING_ASSERT(offsetof(struct vms_ring_state_line, last_key_seq) == 24, "state_line.last_key_seq");
VMS_RING_ASSERT(offsetof(struct vms_ring_state_line, retained_ns) == 32, "state_line.retained_ns");
VMS_RING_ASSERT(offsetof(struct vms_ring_state_line, state_reason) == 40, "state_line.state_reason");

/* 256 bytes. */
struct vms_ring_track_entry {
    uint32_t kind; /* track_kind; others: data */
    uint32_t timescale; /* ticks a second of media_ticks */
    uint64_t arena_off; /* offset of the arena; P: a multiple of 4096, R checks 8 */
    uint64_t arena_len; /* bytes of the arena, a power of two */
    uint64_t configs_off; /* offset of configuration entry 0 */
    uint32_t config_count; /* configuration entries */
    uint32_t config_size; /* distance of configuration entries */
    uint8_t reserved0[24];
    uint64_t reclaim_pos; /* bytes below it may change at any time; MUST NOT decrease */
    uint8_t reserved1[56];
    uint64_t write_pos; /* end of the newest committed unit */
    uint32_t config_id; /* current configuration; 0 before the first */
    uint32_t codec; /* codec of the current configuration, a hint: the entry is the truth */
    uint8_t reserved2[112];
};
VMS_RING_ASSERT(sizeof(struct vms_ring_track_entry) == 256, "track_entry");
VMS_RING_ASSERT(offsetof(struct vms_ring_track_entry, kind) == 0, "track_entry.kind");
VMS_RING_ASSERT(offsetof(struct vms_ring_track_entry, timescale) == 4, "track_entry.timescale");
VMS_RING_ASSERT(offsetof(struct vms_ring_track_entry, arena_off) == 8, "track_entry.arena_off");
VMS_RING_ASSERT(offsetof(struct vms_ring_track_entry, arena_len) == 16, "track_entry.arena_len");
VMS_RING_ASSERT(offsetof(struct vms_ring_track_entry, configs_off) == 24, "track_entry.configs_off");
VMS_RING_ASSERT(offsetof(struct vms_ring_track_entry, config_count) == 32, "track_entry.config_count");
VMS_RING_ASSERT(offsetof(struct vms_ring_track_entry, config_size) == 36, "track_entry.config_size");
VMS_RING_ASSERT(offsetof(struct vms_ring_track_entry, reclaim_pos) == 64, "track_entry.reclaim_pos");
VMS_RING_ASSERT(offsetof(struct vms_ring_track_entry, write_pos) == 128, "track_entry.write_pos");
VMS_RING_ASSERT(offsetof(struct vms_ring_track_entry, config_id) == 136, "track_entry.config_id");
VMS_RING_ASSERT(offsetof(struct vms_ring_track_entry, codec) == 140, "track_entry.codec");

/* 64 bytes. */
struct vms_ring_config_header {
    uint32_t id; /* from 1, never used twice in an epoch; 0: unused */
    uint32_t generation; /* odd while the entry is being written */
    uint32_t codec; /* codec; others: unknown */
    uint32_t profile; /* profile_idc or general_profile_idc; 0 unknown */
    uint32_t level; /* level_idc or general_level_idc; 0 unknown */
    uint32_t width; /* luma samples a line after cropping; 0 unknown */
    uint32_t height; /* lines after cropping; 0 unknown */
    uint32_t fps_num; /* frames a second, numerator; 0 unknown */
    uint32_t fps_den; /* frames a second, denominator; 0 unknown */
    uint32_t len; /* bytes of parameter sets, at most 4032; they stand at offset 64, in Annex B */
    uint8_t reserved0[24];
};
VMS_RING_ASSERT(sizeof(struct vms_ring_config_header) == 64, "config_header");
VMS_RING_ASSERT(offsetof(struct vms_ring_config_header, id) == 0, "config_header.id");
VMS_RING_ASSERT(offsetof(struct vms_ring_config_header, generation) == 4, "config_header.generation");
VMS_RING_ASSERT(offsetof(struct vms_ring_config_header, codec) == 8, "config_header.codec");
VMS_RING_ASSERT(offsetof(struct vms_ring_config_header, profile) == 12, "config_header.profile");
VMS_RING_ASSERT(offsetof(struct vms_ring_config_header, level) == 16, "config_header.level");
VMS_RING_ASSERT(offsetof(struct vms_ring_config_header, width) == 20, "config_header.width");
VMS_RING_ASSERT(offsetof(struct vms_ring_config_header, height) == 24, "config_header.height");
VMS_RING_ASSERT(offsetof(struct vms_ring_config_header, fps_num) == 28, "config_header.fps_num");
VMS_RING_ASSERT(offsetof(struct vms_ring_config_header, fps_den) == 32, "config_header.fps_den");
VMS_RING_ASSERT(offsetof(struct vms_ring_config_header, len) == 36, "config_header.len");

/* 256 bytes. */
struct vms_ring_ring_head {
    uint8_t reserved0[64];
    uint32_t slots; /* records in the ring, a power of two */
    uint32_t reader_class; /* class */
    uint8_t reserved1[56];
    uint64_t tail; /* records below it are complete; record n stands at header_len + (n mod slots) × rec_size */
    uint8_t reserved2[56];
    uint32_t rstate; /* ring_state; others: closed */
    uint32_t reason; /* end_reason; others: stream closed */
    uint64_t final_seq; /* the stream's last_seq at the ring's end */
    uint64_t final_filtered; /* records withheld until the end */
    uint8_t reserved3[40];
};
VMS_RING_ASSERT(sizeof(struct vms_ring_ring_head) == 256, "ring_head");
VMS_RING_ASSERT(offsetof(struct vms_ring_ring_head, slots) == 64, "ring_head.slots");
VMS_RING_ASSERT(offsetof(struct vms_ring_ring_head, reader_class) == 68, "ring_head.reader_class");
VMS_RING_ASSERT(offsetof(struct vms_ring_ring_head, tail) == 128, "ring_head.tail");
VMS_RING_ASSERT(offsetof(struct vms_ring_ring_head, rstate) == 192, "ring_head.rstate");
VMS_RING_ASSERT(offsetof(struct vms_ring_ring_head, reason) == 196, "ring_head.reason");
VMS_RING_ASSERT(offsetof(struct vms_ring_ring_head, final_seq) == 200, "ring_head.final_seq");
VMS_RING_ASSERT(offsetof(struct vms_ring_ring_head, final_filtered) == 208, "ring_head.final_filtered");

/* 256 bytes. */
struct vms_ring_session_head {
    uint8_t reserved0[64];
    uint32_t slots; /* tails that follow at header_len, rec_size apart: u32, the low half of the slot's tail, stored with release after the tail */
    uint8_t reserved1[60];
    uint32_t bell; /* the futex word (§8) */
    uint32_t state_gen; /* counts changes of any state, rstate, configuration or timeline */
    uint8_t reserved2[120];
};
VMS_RING_ASSERT(sizeof(struct vms_ring_session_head) == 256, "session_head");
VMS_RING_ASSERT(offsetof(struct vms_ring_session_head, slots) == 64, "session_head.slots");
VMS_RING_ASSERT(offsetof(struct vms_ring_session_head, bell) == 128, "session_head.bell");
VMS_RING_ASSERT(offsetof(struct vms_ring_session_head, state_gen) == 132, "session_head.state_gen");

/* 256 bytes. */
struct vms_ring_cursor_head {
    uint8_t reserved0[128];
    uint32_t parked; /* 1 while R sleeps or is about to; heads follow at header_len, rec_size apart: u64, release */
    uint8_t reserved1[124];
};
VMS_RING_ASSERT(sizeof(struct vms_ring_cursor_head) == 256, "cursor_head");
VMS_RING_ASSERT(offsetof(struct vms_ring_cursor_head, parked) == 128, "cursor_head.parked");

/* 256 bytes. */
struct vms_ring_release_head {
    uint8_t reserved0[64];
    uint32_t capacity; /* entries that follow at header_len, rec_size apart: a power of two, at least R's budget */
    uint8_t reserved1[60];
    uint64_t tail; /* entries below it are complete; entry n stands at header_len + (n mod capacity) × rec_size */
    uint8_t reserved2[120];
};
VMS_RING_ASSERT(sizeof(struct vms_ring_release_head) == 256, "release_head");
VMS_RING_ASSERT(offsetof(struct vms_ring_release_head, capacity) == 64, "release_head.capacity");
VMS_RING_ASSERT(offsetof(struct vms_ring_release_head, tail) == 128, "release_head.tail");

/* 8 bytes. */
struct vms_ring_lease {
    uint32_t slot; /* slot of the pool */
    uint32_t generation; /* number of the frame: from 1, +1 a published frame of P, whatever its pool; behind 2³²−1 comes 1 */
};
VMS_RING_ASSERT(sizeof(struct vms_ring_lease) == 8, "lease");
VMS_RING_ASSERT(offsetof(struct vms_ring_lease, slot) == 0, "lease.slot");
VMS_RING_ASSERT(offsetof(struct vms_ring_lease, generation) == 4, "lease.generation");

/* 128 bytes. */
struct vms_ring_record {
    uint64_t seq; /* from 1, +1 a committed unit of the stream */
    uint64_t pos; /* position of the payload, a multiple of 64 */
    uint32_t len; /* bytes of payload */
    uint32_t flags; /* flag bits */
    uint16_t record_type; /* record_type; others: skip the record */
    uint16_t track; /* index of the track */
    uint32_t config_id; /* configuration that decodes it; 0 none */
    int64_t media_ticks; /* presentation time in the track's timescale, exact, unwrapped */
    int64_t pts_ns; /* media_ticks in ns */
    uint32_t timeline; /* +1 at each break of the media clock: reconnect, SSRC change, rebase */
    uint32_t lost_packets; /* network packets that the camera sent and P missed, in this unit or right before it; not lost units (§10) */
    uint64_t key_seq; /* the newest keyframe of its track at or before it; 0 none */
    uint64_t recv_mono_ns; /* CLOCK_MONOTONIC: first packet received */
    uint64_t pub_mono_ns; /* CLOCK_MONOTONIC: committed */
    int64_t wall_utc_ns; /* time of capture, ns since 1970 UTC */
    uint32_t wall_err_us; /* how far wall_utc_ns may be off; 2³²−1 unknown */
    uint8_t clock_source; /* clock_source */
    uint8_t reserved0[3];
    uint32_t rtp_ts; /* RTP timestamp as sent */
    uint32_t ssrc; /* RTP SSRC */
    uint16_t first_rtp_seq; /* RTP sequence number of its first packet */
    uint16_t last_rtp_seq; /* RTP sequence number of its last packet */
    uint32_t nal_count; /* entries of the NAL index; 0 no index */
    uint32_t nal_off; /* offset of the NAL index from pos; a multiple of 4, at least len */
    uint32_t duration_ticks; /* a hint; 0 unknown */
    uint64_t filtered; /* records withheld from this reader so far, in this ring */
};
VMS_RING_ASSERT(sizeof(struct vms_ring_record) == 128, "record");
VMS_RING_ASSERT(offsetof(struct vms_ring_record, seq) == 0, "record.seq");
VMS_RING_ASSERT(offsetof(struct vms_ring_record, pos) == 8, "record.pos");
VMS_RING_ASSERT(offsetof(struct vms_ring_record, len) == 16, "record.len");
VMS_RING_ASSERT(offsetof(struct vms_ring_record, flags) == 20, "record.flags");
VMS_RING_ASSERT(offsetof(struct vms_ring_record, record_type) == 24, "record.record_type");
VMS_RING_ASSERT(offsetof(struct vms_ring_record, track) == 26, "record.track");
VMS_RING_ASSERT(offsetof(struct vms_ring_record, config_id) == 28, "record.config_id");
VMS_RING_ASSERT(offsetof(struct vms_ring_record, media_ticks) == 32, "record.media_ticks");
VMS_RING_ASSERT(offsetof(struct vms_ring_record, pts_ns) == 40, "record.pts_ns");
VMS_RING_ASSERT(offsetof(struct vms_ring_record, timeline) == 48, "record.timeline");
VMS_RING_ASSERT(offsetof(struct vms_ring_record, lost_packets) == 52, "record.lost_packets");
VMS_RING_ASSERT(offsetof(struct vms_ring_record, key_seq) == 56, "record.key_seq");
VMS_RING_ASSERT(offsetof(struct vms_ring_record, recv_mono_ns) == 64, "record.recv_mono_ns");
VMS_RING_ASSERT(offsetof(struct vms_ring_record, pub_mono_ns) == 72, "record.pub_mono_ns");
VMS_RING_ASSERT(offsetof(struct vms_ring_record, wall_utc_ns) == 80, "record.wall_utc_ns");
VMS_RING_ASSERT(offsetof(struct vms_ring_record, wall_err_us) == 88, "record.wall_err_us");
VMS_RING_ASSERT(offsetof(struct vms_ring_record, clock_source) == 92, "record.clock_source");
VMS_RING_ASSERT(offsetof(struct vms_ring_record, rtp_ts) == 96, "record.rtp_ts");
VMS_RING_ASSERT(offsetof(struct vms_ring_record, ssrc) == 100, "record.ssrc");
VMS_RING_ASSERT(offsetof(struct vms_ring_record, first_rtp_seq) == 104, "record.first_rtp_seq");
VMS_RING_ASSERT(offsetof(struct vms_ring_record, last_rtp_seq) == 106, "record.last_rtp_seq");
VMS_RING_ASSERT(offsetof(struct vms_ring_record, nal_count) == 108, "record.nal_count");
VMS_RING_ASSERT(offsetof(struct vms_ring_record, nal_off) == 112, "record.nal_off");
VMS_RING_ASSERT(offsetof(struct vms_ring_record, duration_ticks) == 116, "record.duration_ticks");
VMS_RING_ASSERT(offsetof(struct vms_ring_record, filtered) == 120, "record.filtered");

/* 16 bytes. */
struct vms_ring_message_head {
    uint32_t type; /* the message's number */
    uint32_t length; /* bytes of the message, this head included */
    uint32_t request; /* number of the request; an answer repeats it; 0 in what was not asked for */
    uint8_t reserved0[4];
};
VMS_RING_ASSERT(sizeof(struct vms_ring_message_head) == 16, "message_head");
VMS_RING_ASSERT(offsetof(struct vms_ring_message_head, type) == 0, "message_head.type");
VMS_RING_ASSERT(offsetof(struct vms_ring_message_head, length) == 4, "message_head.length");
VMS_RING_ASSERT(offsetof(struct vms_ring_message_head, request) == 8, "message_head.request");

/* 336 bytes. */
struct vms_ring_hello {
    struct vms_ring_message_head head;
    uint16_t major; /* version spoken */
    uint16_t minor_min; /* lowest minor version that will do */
    uint16_t minor_max; /* highest minor version known */
    uint8_t reserved0[2];
    uint64_t features; /* feature bits that R would use */
    uint32_t slots; /* streams R wants to attach at once; clamped to what P allows, at least 1 */
    uint32_t bell_interval_us; /* R can do without wakes for this long; clamped to 100,000 */
    uint32_t name_len; /* at most 32 */
    uint32_t token_len; /* at most 256 */
    uint8_t name[32]; /* UTF-8, for the operator */
    uint8_t token[256]; /* reserved; P ignores it */
};
VMS_RING_ASSERT(sizeof(struct vms_ring_hello) == 336, "hello");
VMS_RING_ASSERT(offsetof(struct vms_ring_hello, major) == 16, "hello.major");
VMS_RING_ASSERT(offsetof(struct vms_ring_hello, minor_min) == 18, "hello.minor_min");
VMS_RING_ASSERT(offsetof(struct vms_ring_hello, minor_max) == 20, "hello.minor_max");
VMS_RING_ASSERT(offsetof(struct vms_ring_hello, features) == 24, "hello.features");
VMS_RING_ASSERT(offsetof(struct vms_ring_hello, slots) == 32, "hello.slots");
VMS_RING_ASSERT(offsetof(struct vms_ring_hello, bell_interval_us) == 36, "hello.bell_interval_us");
VMS_RING_ASSERT(offsetof(struct vms_ring_hello, name_len) == 40, "hello.name_len");
VMS_RING_ASSERT(offsetof(struct vms_ring_hello, token_len) == 44, "hello.token_len");
VMS_RING_ASSERT(offsetof(struct vms_ring_hello, name) == 48, "hello.name");
VMS_RING_ASSERT(offsetof(struct vms_ring_hello, token) == 80, "hello.token");

/* 48 bytes. */
struct vms_ring_welcome {
    struct vms_ring_message_head head;
    uint16_t major;
    uint16_t minor; /* highest that both know */
    uint32_t slots; /* streams that can be attached at once */
    uint64_t features; /* feature bits granted */
    uint64_t daemon_epoch; /* random number of P's run */
    uint32_t bell_interval_us; /* granted */
    uint8_t reserved0[4];
};
VMS_RING_ASSERT(sizeof(struct vms_ring_welcome) == 48, "welcome");
VMS_RING_ASSERT(offsetof(struct vms_ring_welcome, major) == 16, "welcome.major");
VMS_RING_ASSERT(offsetof(struct vms_ring_welcome, minor) == 18, "welcome.minor");
VMS_RING_ASSERT(offsetof(struct vms_ring_welcome, slots) == 20, "welcome.slots");
VMS_RING_ASSERT(offsetof(struct vms_ring_welcome, features) == 24, "welcome.features");
VMS_RING_ASSERT(offsetof(struct vms_ring_welcome, daemon_epoch) == 32, "welcome.daemon_epoch");
VMS_RING_ASSERT(offsetof(struct vms_ring_welcome, bell_interval_us) == 40, "welcome.bell_interval_us");

/* 136 bytes. */
struct vms_ring_attach {
    struct vms_ring_message_head head;
    uint32_t id_len; /* 1 to 64 */
    uint32_t from_kind; /* a number of the table *from*; others: BAD_REQUEST */
    uint64_t from_epoch; /* of AFTER */
    uint64_t from_arg; /* ns of PREROLL, seq of AFTER */
    uint32_t reader_class; /* a number of the table *class*; others: live */
    uint32_t filters; /* bits of the table *filter*; others are ignored */
    uint64_t tracks; /* bit n: track n is wanted; what is not wanted is withheld by a filter */
    uint64_t lag_max_ns; /* a LIVE reader further behind jumps to the newest keyframe; 0: whenever a newer keyframe is there */
    uint32_t ring_slots; /* rounded up to a power of two, clamped to 8 to 1024 */
    uint8_t reserved0[4];
    uint8_t id[64]; /* UTF-8: the stream's name */
};
VMS_RING_ASSERT(sizeof(struct vms_ring_attach) == 136, "attach");
VMS_RING_ASSERT(offsetof(struct vms_ring_attach, id_len) == 16, "attach.id_len");
VMS_RING_ASSERT(offsetof(struct vms_ring_attach, from_kind) == 20, "attach.from_kind");
VMS_RING_ASSERT(offsetof(struct vms_ring_attach, from_epoch) == 24, "attach.from_epoch");
VMS_RING_ASSERT(offsetof(struct vms_ring_attach, from_arg) == 32, "attach.from_arg");
VMS_RING_ASSERT(offsetof(struct vms_ring_attach, reader_class) == 40, "attach.reader_class");
VMS_RING_ASSERT(offsetof(struct vms_ring_attach, filters) == 44, "attach.filters");
VMS_RING_ASSERT(offsetof(struct vms_ring_attach, tracks) == 48, "attach.tracks");
VMS_RING_ASSERT(offsetof(struct vms_ring_attach, lag_max_ns) == 56, "attach.lag_max_ns");
VMS_RING_ASSERT(offsetof(struct vms_ring_attach, ring_slots) == 64, "attach.ring_slots");
VMS_RING_ASSERT(offsetof(struct vms_ring_attach, id) == 72, "attach.id");

/* 64 bytes. */
struct vms_ring_attached {
    struct vms_ring_message_head head;
    uint32_t slot; /* slot in the session */
    uint32_t flags; /* attached_flag bits */
    uint64_t stream_uid;
    uint64_t epoch; /* of the stream */
    uint64_t first_seq; /* the first retained unit that R will be given, filters aside; last_seq + 1 when it waits for one to come */
    uint64_t last_seq; /* newest unit at the time */
    uint8_t reserved0[8];
};
VMS_RING_ASSERT(sizeof(struct vms_ring_attached) == 64, "attached");
VMS_RING_ASSERT(offsetof(struct vms_ring_attached, slot) == 16, "attached.slot");
VMS_RING_ASSERT(offsetof(struct vms_ring_attached, flags) == 20, "attached.flags");
VMS_RING_ASSERT(offsetof(struct vms_ring_attached, stream_uid) == 24, "attached.stream_uid");
VMS_RING_ASSERT(offsetof(struct vms_ring_attached, epoch) == 32, "attached.epoch");
VMS_RING_ASSERT(offsetof(struct vms_ring_attached, first_seq) == 40, "attached.first_seq");
VMS_RING_ASSERT(offsetof(struct vms_ring_attached, last_seq) == 48, "attached.last_seq");

/* 256 bytes. */
struct vms_ring_refused {
    struct vms_ring_message_head head;
    uint32_t code; /* refusal; others: unavailable */
    uint32_t text_len; /* at most 232 */
    uint8_t text[232]; /* UTF-8, for people */
};
VMS_RING_ASSERT(sizeof(struct vms_ring_refused) == 256, "refused");
VMS_RING_ASSERT(offsetof(struct vms_ring_refused, code) == 16, "refused.code");
VMS_RING_ASSERT(offsetof(struct vms_ring_refused, text_len) == 20, "refused.text_len");
VMS_RING_ASSERT(offsetof(struct vms_ring_refused, text) == 24, "refused.text");

/* 24 bytes. */
struct vms_ring_detach {
    struct vms_ring_message_head head;
    uint32_t slot;
    uint8_t reserved0[4];
};
VMS_RING_ASSERT(sizeof(struct vms_ring_detach) == 24, "detach");
VMS_RING_ASSERT(offsetof(struct vms_ring_detach, slot) == 16, "detach.slot");

/* 24 bytes. */
struct vms_ring_detached {
    struct vms_ring_message_head head;
    uint32_t slot; /* no thread of P touches it any more */
    uint8_t reserved0[4];
};
VMS_RING_ASSERT(sizeof(struct vms_ring_detached) == 24, "detached");
VMS_RING_ASSERT(offsetof(struct vms_ring_detached, slot) == 16, "detached.slot");

/* 32 bytes. */
struct vms_ring_evicted {
    struct vms_ring_message_head head;
    uint32_t slot;
    uint32_t reason; /* end_reason */
    uint64_t last_seq;
};
VMS_RING_ASSERT(sizeof(struct vms_ring_evicted) == 32, "evicted");
VMS_RING_ASSERT(offsetof(struct vms_ring_evicted, slot) == 16, "evicted.slot");
VMS_RING_ASSERT(offsetof(struct vms_ring_evicted, reason) == 20, "evicted.reason");
VMS_RING_ASSERT(offsetof(struct vms_ring_evicted, last_seq) == 24, "evicted.last_seq");

/* 32 bytes. */
struct vms_ring_closed {
    struct vms_ring_message_head head;
    uint32_t slot;
    uint32_t reason; /* end_reason */
    uint64_t last_seq;
};
VMS_RING_ASSERT(sizeof(struct vms_ring_closed) == 32, "closed");
VMS_RING_ASSERT(offsetof(struct vms_ring_closed, slot) == 16, "closed.slot");
VMS_RING_ASSERT(offsetof(struct vms_ring_closed, reason) == 20, "closed.reason");
VMS_RING_ASSERT(offsetof(struct vms_ring_closed, last_seq) == 24, "closed.last_seq");

/* 24 bytes. */
struct vms_ring_bye {
    struct vms_ring_message_head head;
    uint32_t reason; /* 0 */
    uint8_t reserved0[4];
};
VMS_RING_ASSERT(sizeof(struct vms_ring_bye) == 24, "bye");
VMS_RING_ASSERT(offsetof(struct vms_ring_bye, reason) == 16, "bye.reason");

#endif
