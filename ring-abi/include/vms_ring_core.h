/* The core of a reader of the vms-media ring ABI (SPEC.md): opening segments, taking records, counting. No socket.
 *
 * Most programs include vms_ring.h instead, which connects to a producer and uses this. What is here takes descriptors from
 * wherever the caller has them, so that recorded segments can be read too (c/replay.c).
 *
 *     stream segment (1) ──┐
 *     descriptor ring (3) ─┴▶ vms_ring_attachment ──take──▶ vms_ring_taken + vms_ring_buffer
 *
 * All that is read from shared memory is a claim: it is loaded once, compared with the mapping and with limits, and then the
 * copy is used. Offsets are compared when a segment is opened, records each time. Names with vms_ring_i_ are internal.
 */
#ifndef VMS_RING_CORE_H
#define VMS_RING_CORE_H

#if defined(_FEATURES_H) && !defined(_DEFAULT_SOURCE) && !defined(_GNU_SOURCE)
#error "include vms_ring.h first, or define _DEFAULT_SOURCE or _GNU_SOURCE before the first #include"
#endif
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE 1
#endif

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "vms_ring_layout.h"

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the ring ABI is defined for little-endian machines"
#endif
VMS_RING_ASSERT(sizeof(void *) == 8, "the ring ABI is defined for 64-bit machines");

/* Hidden by <fcntl.h> unless _GNU_SOURCE is defined. Linux's numbers. */
#ifndef F_GET_SEALS
#define F_GET_SEALS 1034
#define F_SEAL_SEAL 0x0001
#define F_SEAL_SHRINK 0x0002
#define F_SEAL_GROW 0x0004
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

/* Sanitizers cannot see into the assembly of the copy: they get loads that they can check. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define VMS_RING_COPY_WORDS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define VMS_RING_COPY_WORDS 1
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* What functions of these headers return when they fail. A system call's failure is -errno; these are below all of those. */
enum vms_ring_error {
    VMS_RING_E_PROTOCOL = -10001, /* what came is no answer, or lacks descriptors or has too many */
    VMS_RING_E_TIMEOUT = -10002, /* the producer did not answer in time */
    VMS_RING_E_GONE = -10003, /* the producer closed the connection */
    VMS_RING_E_VERSION = -10004, /* the producer answered in a version that was not asked for */
    VMS_RING_E_NO_STREAM = -10005, /* no stream is attached under this number */
    VMS_RING_E_EPOCH = -10006, /* the stream was set up anew meanwhile: its numbers begin at 1 again */
    VMS_RING_E_RING = -10007, /* the ring says that it holds more records than it has room for */
    VMS_RING_E_SEALS = -10010, /* a segment lacks seals */
    VMS_RING_E_MAGIC = -10011, /* not a segment */
    VMS_RING_E_MAJOR = -10012, /* a segment of another major version */
    VMS_RING_E_FEATURES = -10013, /* a segment requires features that these headers do not know */
    VMS_RING_E_KIND = -10014, /* a segment of another kind */
    VMS_RING_E_SIZE = -10015, /* a segment is smaller than it says */
    VMS_RING_E_TABLE = -10016, /* a table, ring or arena lies outside of its segment, or is misaligned */
    VMS_RING_E_SHORT = -10020, /* a message is cut short */
    VMS_RING_E_UNKNOWN = -10021, /* a message of an unknown type */
    VMS_RING_E_FIELD = -10022, /* a message's field cannot be */
    VMS_RING_E_REFUSED = -10100 /* minus enum vms_ring_refusal: the producer said no */
};

/* The error for a refusal's code. */
#define VMS_RING_E_REFUSED_AS(code) (VMS_RING_E_REFUSED - (int)(code))

/* ------------------------------------------------------------------------------------------------ shared memory */

static inline uint32_t vms_ring_i_acquire32(const uint32_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static inline uint32_t vms_ring_i_relaxed32(const uint32_t *word)
{
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static inline uint64_t vms_ring_i_acquire64(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static inline uint64_t vms_ring_i_relaxed64(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

/* Copies `len` bytes that the producer may be writing at the same time. The compiler can neither repeat nor split it; what
 * was copied may be torn, and counts only after the validation that follows. */
static inline void vms_ring_i_copy(void *to, const void *from, size_t len)
{
#if defined(__x86_64__) && !defined(VMS_RING_COPY_WORDS)
    __asm__ __volatile__("rep movsb" : "+D"(to), "+S"(from), "+c"(len) : : "memory");
#else
    unsigned char *target = (unsigned char *)to;
    const unsigned char *source = (const unsigned char *)from;
    if (((uintptr_t)source & 7) == 0) {
        for (; len >= 8; len -= 8, source += 8, target += 8) {
            uint64_t word = __atomic_load_n((const uint64_t *)(const void *)source, __ATOMIC_RELAXED);
            memcpy(target, &word, 8);
        }
    }
    for (; len > 0; len--)
        *target++ = __atomic_load_n(source++, __ATOMIC_RELAXED);
#endif
}

/* Loads `count` words, each once. `from` is a multiple of 8. */
static inline void vms_ring_i_load_words(void *to, const void *from, size_t count)
{
    const uint64_t *source = (const uint64_t *)from;
    size_t n;
    for (n = 0; n < count; n++) {
        uint64_t word = vms_ring_i_relaxed64(source + n);
        memcpy((unsigned char *)to + 8 * n, &word, 8);
    }
}

/* ------------------------------------------------------------------------------------------------ segments */

/* A mapped segment. */
struct vms_ring_segment {
    unsigned char *base; /* NULL: not mapped */
    size_t len; /* bytes of the mapping: the file's */
    struct vms_ring_segment_header header; /* a copy that was checked */
};

/* Frees the mapping. Nothing that points into it may be used any more. May be called twice. */
static inline void vms_ring_segment_close(struct vms_ring_segment *segment)
{
    if (segment->base != NULL)
        munmap(segment->base, segment->len);
    memset(segment, 0, sizeof *segment);
}

/* Maps the segment `fd` after all checks of SPEC §2: seals, size, header. `kind` is an enum vms_ring_segment_kind; a session
 * cursor is mapped for writing too. The descriptor stays the caller's and is not needed afterwards.
 * 0, or VMS_RING_E_SEALS, _MAGIC, _MAJOR, _FEATURES, _KIND, _SIZE, or -errno; then nothing is mapped. */
static inline int vms_ring_segment_open(struct vms_ring_segment *segment, int fd, uint32_t kind)
{
    const int writable = kind == VMS_RING_SEGMENT_KIND_SESSION_CURSOR;
    const int common = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    const int need = writable ? common : common | F_SEAL_FUTURE_WRITE;
    struct vms_ring_segment_header *header = &segment->header;
    struct stat stat;
    void *base;
    int seals, error = 0;

    memset(segment, 0, sizeof *segment);
    seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & need) != need)
        return VMS_RING_E_SEALS; /* also what is no memfd at all */
    if (fstat(fd, &stat) != 0)
        return -errno;
    if (stat.st_size < (off_t)sizeof *header)
        return VMS_RING_E_MAGIC;
    base = mmap(NULL, (size_t)stat.st_size, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED)
        return -errno;
    segment->base = (unsigned char *)base;
    segment->len = (size_t)stat.st_size;
    vms_ring_i_load_words(header, base, sizeof *header / 8);
    if (header->magic != VMS_RING_MAGIC)
        error = VMS_RING_E_MAGIC;
    else if (header->major != VMS_RING_ABI_MAJOR)
        error = VMS_RING_E_MAJOR;
    else if (header->features_required != 0)
        error = VMS_RING_E_FEATURES;
    else if (header->kind != kind)
        error = VMS_RING_E_KIND;
    else if (header->size > segment->len || header->header_len > header->size)
        error = VMS_RING_E_SIZE;
    if (error != 0)
        vms_ring_segment_close(segment);
    return error;
}

/* Where `offset` is in this process, if `len` bytes from it are inside of the segment and it is a multiple of `align`. */
static inline void *vms_ring_i_at(const struct vms_ring_segment *segment, uint64_t offset, uint64_t len, uint64_t align)
{
    if (offset > segment->header.size || len > segment->header.size - offset || offset % align != 0)
        return NULL;
    return segment->base + offset;
}

/* ------------------------------------------------------------------------------------------------ counting */

/* What became of every unit (SPEC §10). From the first accepted unit on:
 * accepted + rejected + skipped + lost + filtered == last_seq - first_seq + 1. */
struct vms_ring_counts {
    uint64_t first_seq; /* the first accepted unit, or the one behind the last of an attachment that was resumed; 0 before */
    uint64_t last_seq; /* up to here all is accounted for */
    uint64_t accepted; /* given to the caller */
    uint64_t rejected; /* overwritten before they were copied, or their record was not plausible */
    uint64_t skipped; /* dropped here to wait for a keyframe, or of an unknown type */
    uint64_t lost; /* never came */
    uint64_t filtered; /* withheld as this attachment's filters ask */
};

/* 1 if the counts account for every unit from first_seq to last_seq. */
static inline int vms_ring_counts_balance(const struct vms_ring_counts *counts)
{
    uint64_t all = counts->accepted + counts->rejected + counts->skipped + counts->lost + counts->filtered;
    if (counts->first_seq == 0 || counts->last_seq < counts->first_seq)
        return all == 0;
    return all == counts->last_seq - counts->first_seq + 1;
}

/* Follows the records of one ring. */
struct vms_ring_counting {
    struct vms_ring_counts counts;
    uint64_t filtered; /* of the newest record of this ring */
};

static inline uint64_t vms_ring_i_minus(uint64_t from, uint64_t what)
{
    return from > what ? from - what : 0;
}

static inline uint64_t vms_ring_i_plus(uint64_t one, uint64_t other)
{
    return one > UINT64_MAX - other ? UINT64_MAX : one + other;
}

static inline uint64_t vms_ring_i_least(uint64_t one, uint64_t other)
{
    return one < other ? one : other;
}

/* Units missing right before the record `seq`; 0 before the first accepted one, and for a record that goes backwards. */
static inline uint64_t vms_ring_i_lost_before(const struct vms_ring_counting *counting, uint64_t seq, uint64_t filtered)
{
    uint64_t between = vms_ring_i_minus(vms_ring_i_minus(seq, counting->counts.last_seq), 1);
    if (counting->counts.first_seq == 0)
        return 0;
    return between - vms_ring_i_least(vms_ring_i_minus(filtered, counting->filtered), between);
}

/* Accounts for all above last_seq up to `seq`, of which the newest `own` (0 or 1) are counted by the caller. */
static inline void vms_ring_i_advance(struct vms_ring_counting *counting, uint64_t seq, uint64_t filtered, uint64_t own)
{
    uint64_t between = seq - counting->counts.last_seq - own;
    uint64_t withheld = vms_ring_i_least(vms_ring_i_minus(filtered, counting->filtered), between);
    counting->counts.filtered += withheld;
    counting->counts.lost += between - withheld;
    counting->counts.last_seq = seq;
    counting->filtered = filtered;
}

/* Counts a record and what is missing before it. `place` is the member of counts->… that it adds to. */
static inline void vms_ring_i_count(struct vms_ring_counting *counting, uint64_t seq, uint64_t filtered, uint64_t *place)
{
    struct vms_ring_counts *counts = &counting->counts;
    if (counts->first_seq == 0) {
        if (place != &counts->accepted)
            return;
        counts->first_seq = seq;
        counts->last_seq = vms_ring_i_minus(seq, 1);
        counting->filtered = filtered;
    }
    if (seq <= counts->last_seq)
        return;
    vms_ring_i_advance(counting, seq, filtered, 1);
    ++*place;
}

/* Counts what is missing at the ring's end. */
static inline void vms_ring_i_count_end(struct vms_ring_counting *counting, uint64_t last_seq, uint64_t filtered)
{
    if (counting->counts.first_seq != 0 && last_seq > counting->counts.last_seq)
        vms_ring_i_advance(counting, last_seq, filtered, 0);
}

/* ------------------------------------------------------------------------------------------------ attachments */

/* The parameter sets of a track, copied. */
struct vms_ring_configuration {
    uint32_t id; /* in the epoch; 0: none was seen */
    uint32_t codec; /* enum vms_ring_codec; others: unknown */
    uint32_t profile; /* profile_idc or general_profile_idc; 0 unknown */
    uint32_t level; /* level_idc or general_level_idc; 0 unknown */
    uint32_t width; /* luma samples a line; 0 unknown */
    uint32_t height; /* lines; 0 unknown */
    uint32_t fps_num; /* frames a second, numerator; 0 unknown */
    uint32_t fps_den; /* frames a second, denominator; 0 unknown */
    uint32_t len; /* bytes of data */
    unsigned char data[VMS_RING_CONFIG_DATA_MAX]; /* parameter sets in Annex B */
};

/* Memory for one unit, used again for each. Zeroed before its first use. */
struct vms_ring_buffer {
    unsigned char *payload; /* grows to the largest unit, at most VMS_RING_UNIT_LEN_MAX bytes, and stays */
    size_t capacity;
    uint32_t nal_ends[VMS_RING_NALS_PER_UNIT_MAX];
    struct vms_ring_configuration staged; /* counts when its unit is accepted */
};

/* Frees what the buffer holds. */
static inline void vms_ring_buffer_free(struct vms_ring_buffer *buffer)
{
    free(buffer->payload);
    buffer->payload = NULL;
    buffer->capacity = 0;
}

/* What a stream says of itself at the moment. */
struct vms_ring_status {
    uint32_t state; /* enum vms_ring_stream_state */
    uint32_t reason; /* the number of the API's StateReason; 0 none */
    uint64_t last_seq; /* newest unit; 0 before the first */
    uint64_t last_key_seq; /* newest keyframe; 0 before the first */
    uint64_t retained_ns; /* receive time between the oldest and the newest retained video unit */
    uint64_t heartbeat_ns; /* CLOCK_MONOTONIC of the producer's newest sign of life */
    uint32_t timeline; /* of the newest unit */
};

/* A track of a mapped stream. All pointers and offsets were compared with the segment. */
struct vms_ring_track {
    int is_video;
    const unsigned char *arena;
    uint64_t arena_len;
    const uint64_t *reclaim_pos;
    uint64_t configs_off;
    uint32_t config_count;
    uint32_t config_size;
    struct vms_ring_configuration config;
};

/* One attached stream: its mappings, where the reader stands, and what became of its units. For one thread at a time. */
struct vms_ring_attachment {
    struct vms_ring_segment stream;
    struct vms_ring_segment ring;
    struct vms_ring_track *tracks;
    uint32_t track_count;
    const unsigned char *records;
    uint32_t slots;
    uint32_t rec_size;
    uint64_t *head_word; /* heads[slot] of the session cursor */
    uint64_t head; /* the reader's own; what it stored there is never read back */
    struct vms_ring_counting counting;
    uint64_t filtered_before; /* withheld in earlier rings of this attachment (SPEC §9.3) */
    int awaits_key; /* video is dropped until a keyframe */
    int everything; /* filter EVERYTHING: it never waits for one */
    int ended;
};

/* What vms_ring_attachment_take found. */
enum vms_ring_take {
    VMS_RING_TAKE_EMPTY = 0, /* no record */
    VMS_RING_TAKE_UNIT = 1, /* a whole, validated unit; it stands in the buffer */
    VMS_RING_TAKE_DROPPED = 2, /* a record that is not for the caller; there may be more */
    VMS_RING_TAKE_ENDED = 3 /* the ring has ended and everything in it was taken, or cannot be; said once */
};

/* Its particulars. */
struct vms_ring_taken {
    struct vms_ring_record record; /* of a unit */
    uint64_t lost; /* units missing right before it */
    int config_changed; /* the track's configuration is another since the last unit */
    uint32_t ring_state; /* of an end: enum vms_ring_ring_state */
    uint32_t reason; /* of an end: enum vms_ring_end_reason */
    uint64_t final_seq; /* of an end: the stream's newest unit */
    uint64_t final_filtered; /* of an end: records withheld in this ring */
    int error; /* of an end: VMS_RING_E_RING when the producer said of the ring what cannot be, else 0 */
};

static inline uint32_t vms_ring_i_stream_state(uint32_t word)
{
    return word <= VMS_RING_STREAM_STATE_CLOSED ? word : (uint32_t)VMS_RING_STREAM_STATE_STALLED;
}

static inline uint32_t vms_ring_i_ring_state(uint32_t word)
{
    return word <= VMS_RING_RING_STATE_ROTATED ? word : (uint32_t)VMS_RING_RING_STATE_CLOSED;
}

static inline uint32_t vms_ring_i_end_reason(uint32_t word)
{
    return word <= VMS_RING_END_REASON_REVOKED ? word : (uint32_t)VMS_RING_END_REASON_STREAM_CLOSED;
}

static inline int vms_ring_i_is_power_of_two(uint64_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

/* Whether entries of at least `len` bytes can stand this far apart, their words aligned. */
static inline int vms_ring_i_is_distance(uint64_t distance, uint64_t len)
{
    return distance >= len && distance % 8 == 0;
}

/* Checks track entry at `offset`. */
static inline int vms_ring_i_track_open(struct vms_ring_track *track, const struct vms_ring_segment *stream, uint64_t offset)
{
    struct vms_ring_track_entry entry;
    const unsigned char *at = (const unsigned char *)vms_ring_i_at(stream, offset, sizeof entry, 8);
    const uint64_t config_len = sizeof(struct vms_ring_config_header) + VMS_RING_CONFIG_DATA_MAX;
    uint64_t span;
    if (at == NULL)
        return VMS_RING_E_TABLE;
    /* What is written before the descriptor leaves the producer; the words behind change and are loaded when needed. */
    vms_ring_i_load_words(&entry, at, 5);
    track->is_video = entry.kind == VMS_RING_TRACK_KIND_VIDEO;
    track->reclaim_pos = (const uint64_t *)(const void *)(at + offsetof(struct vms_ring_track_entry, reclaim_pos));
    track->arena_len = entry.arena_len;
    if (!vms_ring_i_is_power_of_two(entry.arena_len) || entry.arena_len < VMS_RING_LINE || entry.arena_len > UINT64_C(1) << 40)
        return VMS_RING_E_TABLE;
    track->arena = (const unsigned char *)vms_ring_i_at(stream, entry.arena_off, entry.arena_len, 8);
    if (track->arena == NULL)
        return VMS_RING_E_TABLE;
    track->config_count = entry.config_count;
    track->config_size = entry.config_size;
    track->configs_off = entry.configs_off;
    if (entry.config_count == 0)
        return 0;
    span = (uint64_t)(entry.config_count - 1) * entry.config_size + config_len; /* below 2^64: both factors are 32 bits */
    if (!vms_ring_i_is_distance(entry.config_size, config_len) || vms_ring_i_at(stream, entry.configs_off, span, 8) == NULL)
        return VMS_RING_E_TABLE;
    return 0;
}

/* Checks directory and tracks of the stream segment that is mapped. */
static inline int vms_ring_i_tracks_open(struct vms_ring_attachment *attachment)
{
    const struct vms_ring_segment *stream = &attachment->stream;
    struct vms_ring_stream_directory directory;
    const void *at = vms_ring_i_at(stream, 64, 192, 8);
    uint32_t n;
    int error = 0;
    if (at == NULL)
        return VMS_RING_E_TABLE;
    vms_ring_i_load_words(&directory, at, 2);
    if (directory.track_count > VMS_RING_TRACKS_MAX ||
        !vms_ring_i_is_distance(directory.track_size, sizeof(struct vms_ring_track_entry)))
        return VMS_RING_E_TABLE;
    attachment->tracks = (struct vms_ring_track *)calloc(directory.track_count + 1, sizeof *attachment->tracks);
    if (attachment->tracks == NULL)
        return -ENOMEM;
    attachment->track_count = directory.track_count;
    for (n = 0; n < directory.track_count && error == 0; n++) {
        uint64_t step = (uint64_t)n * directory.track_size;
        error = directory.tracks_off > UINT64_MAX - step
                    ? (int)VMS_RING_E_TABLE
                    : vms_ring_i_track_open(&attachment->tracks[n], stream, directory.tracks_off + step);
    }
    return error;
}

/* Checks head and records of the descriptor ring that is mapped. */
static inline int vms_ring_i_ring_open(struct vms_ring_attachment *attachment)
{
    const struct vms_ring_segment *ring = &attachment->ring;
    const uint32_t rec_size = ring->header.rec_size;
    const unsigned char *head = (const unsigned char *)vms_ring_i_at(ring, 0, sizeof(struct vms_ring_ring_head), 8);
    if (head == NULL)
        return VMS_RING_E_TABLE;
    attachment->slots = vms_ring_i_relaxed32((const uint32_t *)(const void *)(head + offsetof(struct vms_ring_ring_head, slots)));
    attachment->rec_size = rec_size;
    if (!vms_ring_i_is_power_of_two(attachment->slots) || !vms_ring_i_is_distance(rec_size, sizeof(struct vms_ring_record)))
        return VMS_RING_E_TABLE;
    attachment->records =
        (const unsigned char *)vms_ring_i_at(ring, ring->header.header_len, (uint64_t)attachment->slots * rec_size, 8);
    return attachment->records == NULL ? (int)VMS_RING_E_TABLE : 0;
}

/* Unmaps and frees. May be called twice, and after a failed open. The head word stays as it is. */
static inline void vms_ring_attachment_close(struct vms_ring_attachment *attachment)
{
    vms_ring_segment_close(&attachment->stream);
    vms_ring_segment_close(&attachment->ring);
    free(attachment->tracks);
    memset(attachment, 0, sizeof *attachment);
}

/* Maps the two segments that came with ATTACHED after all checks of SPEC §2. The descriptors stay the caller's.
 * `head_word` is the slot's word in the session cursor, or any word of the caller's when there is no session; it stays
 * valid as long as the attachment. `resumed_after` points to the number of the unit that the attachment goes on behind, or
 * is NULL. `everything`: filter EVERYTHING.
 * 0, or an error of vms_ring_segment_open, VMS_RING_E_TABLE or -ENOMEM; then nothing is mapped, and `*failed` (unless NULL)
 * is the kind of the segment that was refused. */
static inline int vms_ring_attachment_open(struct vms_ring_attachment *attachment, int stream_fd, int ring_fd,
                                           uint64_t *head_word, const uint64_t *resumed_after, int everything,
                                           uint32_t *failed)
{
    uint32_t kind = VMS_RING_SEGMENT_KIND_STREAM;
    int error;
    memset(attachment, 0, sizeof *attachment);
    error = vms_ring_segment_open(&attachment->stream, stream_fd, kind);
    if (error == 0)
        error = vms_ring_i_tracks_open(attachment);
    if (error == 0) {
        kind = VMS_RING_SEGMENT_KIND_DESCRIPTOR_RING;
        error = vms_ring_segment_open(&attachment->ring, ring_fd, kind);
    }
    if (error == 0)
        error = vms_ring_i_ring_open(attachment);
    if (error != 0) {
        vms_ring_attachment_close(attachment);
        if (failed != NULL)
            *failed = kind;
        return error;
    }
    attachment->head_word = head_word;
    attachment->everything = everything;
    attachment->awaits_key = !everything && resumed_after == NULL;
    if (resumed_after != NULL) {
        /* No unit has the highest number; who asks for what is behind it gets nothing. */
        attachment->counting.counts.last_seq = vms_ring_i_least(*resumed_after, UINT64_MAX - 1);
        attachment->counting.counts.first_seq = attachment->counting.counts.last_seq + 1;
    }
    return 0;
}

/* What the stream says of itself at the moment. */
static inline void vms_ring_attachment_status(const struct vms_ring_attachment *attachment, struct vms_ring_status *status)
{
    const struct vms_ring_state_line *line = (const struct vms_ring_state_line *)(const void *)(attachment->stream.base + 128);
    status->state = vms_ring_i_stream_state(vms_ring_i_acquire32(&line->state));
    status->reason = vms_ring_i_relaxed32(&line->state_reason);
    status->last_seq = vms_ring_i_acquire64(&line->last_seq);
    status->last_key_seq = vms_ring_i_relaxed64(&line->last_key_seq);
    status->retained_ns = vms_ring_i_relaxed64(&line->retained_ns);
    status->heartbeat_ns = vms_ring_i_relaxed64(&line->heartbeat_ns);
    status->timeline = vms_ring_i_relaxed32(&line->timeline);
}

/* Copies entry `at` if it is whole and has this id: 1, else 0 (SPEC §4). */
static inline int vms_ring_i_config_copy(struct vms_ring_configuration *to, const unsigned char *at, uint32_t id)
{
    const uint32_t *generation = (const uint32_t *)(const void *)(at + offsetof(struct vms_ring_config_header, generation));
    struct vms_ring_config_header head;
    uint32_t before = vms_ring_i_acquire32(generation);
    vms_ring_i_load_words(&head, at, 5);
    if (before % 2 == 1 || head.id != id || head.len > VMS_RING_CONFIG_DATA_MAX)
        return 0;
    vms_ring_i_copy(to->data, at + sizeof head, head.len);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (vms_ring_i_relaxed32(generation) != before)
        return 0;
    to->id = id;
    to->codec = head.codec;
    to->profile = head.profile;
    to->level = head.level;
    to->width = head.width;
    to->height = head.height;
    to->fps_num = head.fps_num;
    to->fps_den = head.fps_den;
    to->len = head.len;
    return 1;
}

static inline int vms_ring_i_config_find(const struct vms_ring_attachment *attachment, const struct vms_ring_track *track,
                                         uint32_t id, struct vms_ring_configuration *to)
{
    uint32_t n;
    for (n = 0; n < track->config_count; n++) {
        const unsigned char *at = attachment->stream.base + track->configs_off + (uint64_t)n * track->config_size;
        if (vms_ring_i_config_copy(to, at, id))
            return 1;
    }
    return 0;
}

/* 1 if the record can be true for this track (SPEC §3). */
static inline int vms_ring_i_is_plausible(const struct vms_ring_track *track, const struct vms_ring_record *record)
{
    uint64_t limit = vms_ring_i_least(track->arena_len / 4, VMS_RING_UNIT_LEN_MAX);
    uint64_t index_len = (uint64_t)record->nal_count * 4;
    uint64_t end = index_len == 0 ? record->len : record->nal_off + index_len;
    if (record->nal_count > VMS_RING_NALS_PER_UNIT_MAX || record->pos % VMS_RING_LINE != 0)
        return 0;
    if (index_len != 0 && (record->nal_off < record->len || record->nal_off % 4 != 0))
        return 0;
    return end <= limit && end <= track->arena_len - (record->pos & (track->arena_len - 1));
}

static inline int vms_ring_i_reserve(struct vms_ring_buffer *buffer, size_t len)
{
    unsigned char *larger;
    size_t capacity = buffer->capacity;
    if (len <= capacity && buffer->payload != NULL)
        return 0;
    if (capacity < 64 * 1024)
        capacity = 64 * 1024;
    while (capacity < len)
        capacity *= 2;
    larger = (unsigned char *)malloc(capacity);
    if (larger == NULL)
        return -ENOMEM;
    free(buffer->payload);
    buffer->payload = larger;
    buffer->capacity = capacity;
    return 0;
}

/* Copies a plausible unit, its index and, if it is new, its configuration; then validates all at once.
 * 1: accepted; 0: rejected; -ENOMEM. */
static inline int vms_ring_i_unit_copy(const struct vms_ring_attachment *attachment, struct vms_ring_track *track,
                                       const struct vms_ring_record *record, struct vms_ring_buffer *buffer,
                                       int *config_changed)
{
    const unsigned char *at = track->arena + (record->pos & (track->arena_len - 1));
    uint32_t n, before = 0;
    int error = vms_ring_i_reserve(buffer, record->len);
    if (error != 0)
        return error;
    *config_changed = record->config_id != 0 && record->config_id != track->config.id &&
                      vms_ring_i_config_find(attachment, track, record->config_id, &buffer->staged);
    if (record->nal_count != 0)
        vms_ring_i_copy(buffer->nal_ends, at + record->nal_off, (size_t)record->nal_count * 4);
    vms_ring_i_copy(buffer->payload, at, record->len);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (vms_ring_i_relaxed64(track->reclaim_pos) > record->pos)
        return 0;
    for (n = 0; n < record->nal_count; n++) {
        if (buffer->nal_ends[n] < before || buffer->nal_ends[n] > record->len)
            return 0;
        before = buffer->nal_ends[n];
    }
    if (*config_changed)
        track->config = buffer->staged;
    return 1;
}

/* What R gives to its user (SPEC §7). An enum vms_ring_take, or -ENOMEM when the record was not dealt with. */
static inline int vms_ring_i_take_unit(struct vms_ring_attachment *attachment, struct vms_ring_buffer *buffer,
                                       struct vms_ring_taken *taken)
{
    struct vms_ring_counting *counting = &attachment->counting;
    struct vms_ring_record *record = &taken->record;
    struct vms_ring_track *track = record->track < attachment->track_count ? &attachment->tracks[record->track] : NULL;
    int is_video = track != NULL && track->is_video;
    int accepted;
    uint64_t *place;

    if (record->seq <= counting->counts.last_seq)
        return VMS_RING_TAKE_DROPPED; /* the producer's mistake; that it counts as nothing keeps the counts true */
    /* Whatever the record is: once it is counted, what is missing before it shows no more. */
    taken->lost = vms_ring_i_lost_before(counting, record->seq, record->filtered);
    if (taken->lost > 0 && !attachment->everything)
        attachment->awaits_key = 1;
    if ((record->record_type != VMS_RING_RECORD_TYPE_ACCESS_UNIT && record->record_type != VMS_RING_RECORD_TYPE_DATA) ||
        (is_video && attachment->awaits_key && (record->flags & VMS_RING_FLAG_KEY) == 0)) {
        place = &counting->counts.skipped;
    } else {
        accepted = track != NULL && vms_ring_i_is_plausible(track, record)
                       ? vms_ring_i_unit_copy(attachment, track, record, buffer, &taken->config_changed)
                       : 0;
        if (accepted < 0)
            return accepted;
        place = accepted ? &counting->counts.accepted : &counting->counts.rejected;
        if (is_video)
            attachment->awaits_key = !accepted && !attachment->everything;
    }
    vms_ring_i_count(counting, record->seq, record->filtered, place);
    record->filtered = vms_ring_i_plus(record->filtered, attachment->filtered_before);
    return place == &counting->counts.accepted ? VMS_RING_TAKE_UNIT : VMS_RING_TAKE_DROPPED;
}

static inline int vms_ring_i_take_end(struct vms_ring_attachment *attachment, uint32_t state, struct vms_ring_taken *taken)
{
    const struct vms_ring_ring_head *head = (const struct vms_ring_ring_head *)(const void *)attachment->ring.base;
    uint64_t lost;
    if (state == VMS_RING_RING_STATE_OK)
        return VMS_RING_TAKE_EMPTY;
    attachment->ended = 1;
    taken->ring_state = state;
    taken->reason = vms_ring_i_end_reason(vms_ring_i_relaxed32(&head->reason));
    taken->final_seq = vms_ring_i_relaxed64(&head->final_seq);
    taken->final_filtered = vms_ring_i_relaxed64(&head->final_filtered);
    lost = attachment->counting.counts.lost;
    vms_ring_i_count_end(&attachment->counting, taken->final_seq, taken->final_filtered);
    /* For the ring that may follow: what comes next there refers to units that never came. */
    if (attachment->counting.counts.lost > lost && !attachment->everything)
        attachment->awaits_key = 1;
    return VMS_RING_TAKE_ENDED;
}

/* The producer said what cannot be: nothing of the ring can be relied on any more, its final counts neither. */
static inline int vms_ring_i_take_nonsense(struct vms_ring_attachment *attachment, struct vms_ring_taken *taken)
{
    attachment->ended = 1;
    taken->ring_state = VMS_RING_RING_STATE_CLOSED;
    taken->reason = VMS_RING_END_REASON_NONE;
    taken->error = VMS_RING_E_RING;
    return VMS_RING_TAKE_ENDED;
}

/* Takes the next record (SPEC §7). Never waits.
 * An enum vms_ring_take; or -ENOMEM when there is no memory for the unit, which then can be taken again. With VMS_RING_TAKE_UNIT the payload stands in
 * buffer->payload, record.len bytes, and where each NAL unit ends in buffer->nal_ends, record.nal_count of them; both until
 * the next call. */
static inline int vms_ring_attachment_take(struct vms_ring_attachment *attachment, struct vms_ring_buffer *buffer,
                                           struct vms_ring_taken *taken)
{
    const struct vms_ring_ring_head *head = (const struct vms_ring_ring_head *)(const void *)attachment->ring.base;
    /* The state first: what was pushed before the end is in the ring when the state is seen. */
    uint32_t state = vms_ring_i_ring_state(vms_ring_i_acquire32(&head->rstate));
    uint64_t tail = vms_ring_i_acquire64(&head->tail);
    const unsigned char *record;
    int took;

    memset(taken, 0, sizeof *taken);
    if (attachment->ended)
        return VMS_RING_TAKE_EMPTY;
    if (tail == attachment->head)
        return vms_ring_i_take_end(attachment, state, taken);
    if (tail - attachment->head > attachment->slots)
        return vms_ring_i_take_nonsense(attachment, taken);
    record = attachment->records + (attachment->head & (attachment->slots - 1)) * (uint64_t)attachment->rec_size;
    vms_ring_i_load_words(&taken->record, record, sizeof taken->record / 8);
    took = vms_ring_i_take_unit(attachment, buffer, taken);
    if (took >= 0) {
        attachment->head++;
        __atomic_store_n(attachment->head_word, attachment->head, __ATOMIC_RELEASE);
    }
    return took;
}

#ifdef __cplusplus
}
#endif

#endif
