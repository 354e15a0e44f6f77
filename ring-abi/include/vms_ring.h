/* A reader of the vms-media ring ABI 1.0 (SPEC.md). Header-only; needs C11 or C++17, gcc or clang, Linux 5.1 on a 64-bit
 * little-endian machine, and nothing but libc.
 *
 *     #include "vms_ring.h"
 *
 *     struct vms_ring_reader reader;
 *     struct vms_ring_join join;
 *     struct vms_ring_event event;
 *     int error = vms_ring_connect(&reader, "/run/vms-media/ring.sock", NULL);
 *     vms_ring_join_init(&join, VMS_RING_CLASS_ARCHIVE, VMS_RING_FROM_KEYFRAME);
 *     if (error == 0)
 *         error = vms_ring_attach(&reader, "door", &join, NULL);       -- the stream's number, from 0, or an error
 *     while (error >= 0) {
 *         error = vms_ring_next(&reader, 1000, &event);
 *         if (error == VMS_RING_EVENT_UNIT)
 *             fwrite(event.payload, 1, event.record.len, stdout);      -- Annex B
 *         else if (error == VMS_RING_EVENT_ENDED || error == VMS_RING_EVENT_GONE)
 *             break;
 *     }
 *     if (error < 0)
 *         fprintf(stderr, "%s %s\n", vms_ring_strerror(error), vms_ring_refusal_text(&reader));
 *     vms_ring_close(&reader);
 *
 * One reader is one session with any number of streams. It belongs to one thread at a time; different readers share nothing.
 * There are no globals, no threads, no signals. A unit's payload is copied into the reader's memory and validated before the
 * caller sees it: what was overwritten meanwhile is never given out. After warm-up nothing is allocated for a unit.
 *
 * Functions give 0 or more, or a negative error: enum vms_ring_error, or -errno.
 */
#ifndef VMS_RING_H
#define VMS_RING_H

#include "vms_ring_core.h"
#include "vms_ring_message.h"

#include <linux/futex.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How a reader introduces itself. */
struct vms_ring_options {
    const char *name; /* UTF-8, for the operator; what is behind 32 bytes is cut; NULL: none */
    const char *token; /* reserved; NULL: none; at most 256 bytes are sent */
    uint32_t slots; /* streams it wants to attach at once */
    uint32_t bell_interval_us; /* it can do without wakes for this long, at most 100,000 */
    uint64_t features; /* VMS_RING_FEATURE_NOTIFY_FD: see vms_ring_notify_fd */
    int request_timeout_ms; /* how long a request may take */
};

/* Where a reader enters a stream and what it wants of it. */
struct vms_ring_join {
    uint32_t from; /* enum vms_ring_from */
    uint64_t from_epoch; /* of VMS_RING_FROM_AFTER */
    uint64_t from_arg; /* ns of VMS_RING_FROM_PREROLL, seq of VMS_RING_FROM_AFTER */
    uint32_t reader_class; /* enum vms_ring_class */
    uint32_t filters; /* bits of enum vms_ring_filter */
    uint64_t tracks; /* bit n: track n is wanted */
    uint64_t lag_max_ns; /* a live reader further behind jumps to the newest keyframe */
    uint32_t ring_slots; /* rounded up to a power of two, 8 to 1024 */
    int stay; /* when the stream rotates: end, do not attach again (§9.3) */
};

/* What vms_ring_next found. */
enum vms_ring_event_kind {
    VMS_RING_EVENT_TIMEOUT = 0, /* nothing came in time */
    VMS_RING_EVENT_UNIT = 1, /* a unit */
    VMS_RING_EVENT_ENDED = 2, /* a stream's ring ended; said once, after all its units: detach it */
    VMS_RING_EVENT_GONE = 3 /* the producer's process has gone; what was in the rings has been given out */
};

/* Its particulars. What it points to is the reader's, valid until its next call. */
struct vms_ring_event {
    int kind; /* enum vms_ring_event_kind */
    int stream; /* number that vms_ring_attach gave; -1: none */

    struct vms_ring_record record; /* UNIT: all that is known of it. `filtered` goes on across rotations. */
    const unsigned char *payload; /* UNIT: record.len bytes, Annex B */
    const uint32_t *nal_ends; /* UNIT: record.nal_count offsets in payload where NAL units end; may be none */
    uint64_t lost; /* UNIT: units missing right before it */
    int config_changed; /* UNIT: vms_ring_configuration_of has changed since the last unit of its track */

    uint32_t ring_state; /* ENDED: enum vms_ring_ring_state */
    uint32_t reason; /* ENDED: enum vms_ring_end_reason */
    int error; /* ENDED: why this reader could not go on by itself: 0, VMS_RING_E_RING, or why the attach after a
                  rotation failed, such as VMS_RING_E_REFUSED_AS(VMS_RING_REFUSAL_FORBIDDEN) */
    struct vms_ring_counts counts; /* ENDED: what became of every unit */
};

/* Internal: an attached stream. */
struct vms_ring_i_stream {
    struct vms_ring_attachment attachment;
    struct vms_ring_join join;
    char id[VMS_RING_STREAM_ID_LEN_MAX + 1];
    uint64_t epoch;
    uint32_t slot;
    int has_slot;
    const uint32_t *tail; /* tails[slot] */
    int look; /* the ring's end must be looked at although its tail has not moved */
};

/* A session with a producer. The members are internal. */
struct vms_ring_reader {
    int socket;
    int notify; /* -1: not granted */
    int alive;
    int timeout_ms;
    uint32_t last_request;
    uint64_t daemon_epoch;
    uint32_t minor;
    struct vms_ring_segment session;
    struct vms_ring_segment cursor;
    const uint32_t *bell;
    const uint32_t *state_gen;
    uint32_t *parked;
    uint32_t seen_gen;
    struct vms_ring_i_stream **streams; /* by number */
    uint32_t slots;
    uint32_t streams_end; /* no stream has this number or a higher one */
    uint32_t turn; /* number that the next scan begins behind, so that no stream starves others */
    struct vms_ring_buffer buffer;
    char refusal[VMS_RING_REASON_LEN_MAX + 1];
};

/* What an error number means, in English. For a system call's error it is strerror's text. */
static inline const char *vms_ring_strerror(int error)
{
    switch (error) {
    case VMS_RING_E_PROTOCOL: return "the producer's answer was not understood";
    case VMS_RING_E_TIMEOUT: return "the producer did not answer in time";
    case VMS_RING_E_GONE: return "the producer closed the connection";
    case VMS_RING_E_VERSION: return "the producer answered in another version";
    case VMS_RING_E_NO_STREAM: return "no such stream is attached";
    case VMS_RING_E_EPOCH: return "the stream was set up anew";
    case VMS_RING_E_RING: return "a ring says that it holds more records than it can";
    case VMS_RING_E_SEALS: return "a segment lacks seals";
    case VMS_RING_E_MAGIC: return "not a ring segment";
    case VMS_RING_E_MAJOR: return "a segment's major version is not supported";
    case VMS_RING_E_FEATURES: return "a segment requires unknown features";
    case VMS_RING_E_KIND: return "a segment is of another kind";
    case VMS_RING_E_SIZE: return "a segment is smaller than it says";
    case VMS_RING_E_TABLE: return "a table of a segment lies outside of it";
    case VMS_RING_E_SHORT: return "a message is cut short";
    case VMS_RING_E_UNKNOWN: return "a message of an unknown type";
    case VMS_RING_E_FIELD: return "a message's field is out of range";
    case VMS_RING_E_REFUSED_AS(VMS_RING_REFUSAL_UNKNOWN_STREAM): return "refused: no such stream";
    case VMS_RING_E_REFUSED_AS(VMS_RING_REFUSAL_FORBIDDEN): return "refused: forbidden";
    case VMS_RING_E_REFUSED_AS(VMS_RING_REFUSAL_LIMIT): return "refused: a limit is reached";
    case VMS_RING_E_REFUSED_AS(VMS_RING_REFUSAL_VERSION): return "refused: the versions do not overlap";
    case VMS_RING_E_REFUSED_AS(VMS_RING_REFUSAL_BAD_REQUEST): return "refused: bad request";
    case VMS_RING_E_REFUSED_AS(VMS_RING_REFUSAL_UNAVAILABLE): return "refused: unavailable";
    default: return error >= 0 ? "no error" : error > -10000 ? strerror(-error) : "unknown error";
    }
}

/* What the producer said when it last refused a request, UTF-8; "" when it did not. Also after a failed connect. */
static inline const char *vms_ring_refusal_text(const struct vms_ring_reader *reader)
{
    return reader->refusal;
}

/* The defaults: 256 streams, no bell interval, 10 s for a request, no notify descriptor. */
static inline void vms_ring_options_init(struct vms_ring_options *options)
{
    memset(options, 0, sizeof *options);
    options->slots = 256;
    options->request_timeout_ms = 10000;
}

/* The defaults of a class, entering at `from`: an archive takes damaged units, a live view skips to the next keyframe; all
 * tracks, a ring of 128 records, 3 s of lag. */
static inline void vms_ring_join_init(struct vms_ring_join *join, uint32_t reader_class, uint32_t from)
{
    memset(join, 0, sizeof *join);
    join->from = from;
    join->reader_class = reader_class;
    join->filters = reader_class == VMS_RING_CLASS_ARCHIVE ? 0 : VMS_RING_FILTER_SKIP_DAMAGED;
    join->tracks = UINT64_MAX;
    join->lag_max_ns = UINT64_C(3000000000);
    join->ring_slots = 128;
}

/* ------------------------------------------------------------------------------------------------ the socket */

/* Descriptors that one packet may bring before it is refused as a whole; more than any message has. */
#define VMS_RING_I_FDS_MAX 16

/* A packet that came. */
struct vms_ring_i_packet {
    union vms_ring_any_message message;
    int type; /* enum vms_ring_message, or why it is none; VMS_RING_E_GONE: the other side closed */
    int fds[VMS_RING_I_FDS_MAX];
    unsigned fd_count;
};

static inline uint64_t vms_ring_i_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline void vms_ring_i_close_fds(struct vms_ring_i_packet *packet)
{
    while (packet->fd_count > 0)
        close(packet->fds[--packet->fd_count]);
}

/* Receives one packet without waiting: 0, -EAGAIN when there is none, or -errno. `packet->type` says what it is; the
 * descriptors are the caller's to close. */
static inline int vms_ring_i_receive(int socket, struct vms_ring_i_packet *packet)
{
    unsigned char bytes[VMS_RING_MESSAGE_LEN_MAX];
    union {
        struct cmsghdr aligned;
        char bytes[CMSG_SPACE(VMS_RING_I_FDS_MAX * sizeof(int))];
    } control;
    struct iovec vector;
    struct msghdr header;
    struct cmsghdr *item;
    ssize_t len;

    vector.iov_base = bytes;
    vector.iov_len = sizeof bytes;
    memset(&header, 0, sizeof header);
    header.msg_iov = &vector;
    header.msg_iovlen = 1;
    header.msg_control = control.bytes;
    header.msg_controllen = sizeof control.bytes;
    packet->fd_count = 0;
    do
        len = recvmsg(socket, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    while (len < 0 && errno == EINTR);
    if (len < 0 && errno != ECONNRESET)
        return -errno;
    if (len <= 0) {
        packet->type = VMS_RING_E_GONE;
        return 0;
    }
    for (item = CMSG_FIRSTHDR(&header); item != NULL; item = CMSG_NXTHDR(&header, item)) {
        size_t n, count = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS)
            continue;
        for (n = 0; n < count && packet->fd_count < VMS_RING_I_FDS_MAX; n++)
            memcpy(&packet->fds[packet->fd_count++], CMSG_DATA(item) + n * sizeof(int), sizeof(int));
    }
    packet->type = (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0
                       ? (int)VMS_RING_E_PROTOCOL
                       : vms_ring_message_decode(bytes, (size_t)len, &packet->message);
    return 0;
}

static inline int vms_ring_i_send(int socket, const void *bytes, size_t len)
{
    ssize_t sent;
    do
        sent = send(socket, bytes, len, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent < 0)
        return errno == EPIPE || errno == ECONNRESET ? (int)VMS_RING_E_GONE
               : errno == EAGAIN                     ? (int)VMS_RING_E_TIMEOUT
                                                     : -errno;
    return (size_t)sent == len ? 0 : VMS_RING_E_PROTOCOL;
}

static inline uint32_t vms_ring_i_next_request(struct vms_ring_reader *reader)
{
    reader->last_request = reader->last_request == UINT32_MAX ? 1 : reader->last_request + 1;
    return reader->last_request;
}

/* Gives up a slot of which nobody waits to hear again. Its head was never moved, or was zeroed. */
static inline void vms_ring_i_abandon_slot(struct vms_ring_reader *reader, uint32_t slot)
{
    union vms_ring_any_message message;
    size_t size = vms_ring_message_init(&message, VMS_RING_MESSAGE_DETACH);
    message.head.request = vms_ring_i_next_request(reader);
    message.detach.slot = slot;
    /* The socket's end says the same when the message is lost. */
    (void)vms_ring_i_send(reader->socket, &message, size);
}

/* Waits until the socket has something: 0, VMS_RING_E_TIMEOUT or -errno. */
static inline int vms_ring_i_wait_readable(const struct vms_ring_reader *reader, uint64_t until_ns)
{
    for (;;) {
        uint64_t now = vms_ring_i_now_ns();
        struct pollfd item;
        int ready;
        item.fd = reader->socket;
        item.events = POLLIN;
        item.revents = 0;
        ready = now >= until_ns ? 0 : poll(&item, 1, (int)((until_ns - now + 999999) / 1000000));
        if (ready > 0)
            return 0;
        if (ready == 0)
            return VMS_RING_E_TIMEOUT;
        if (errno != EINTR)
            return -errno;
    }
}

/* A refusal as an error; its text is kept. */
static inline int vms_ring_i_refused(struct vms_ring_reader *reader, const struct vms_ring_refused *refused)
{
    memcpy(reader->refusal, refused->text, refused->text_len); /* compared with the place by the decoder */
    reader->refusal[refused->text_len] = '\0';
    return VMS_RING_E_REFUSED_AS(refused->code);
}

/* Sends `message` and waits for its answer, which must be of type `want` and bring its descriptors; what comes unasked
 * meanwhile is dropped: the rings say the same. 0, and the caller owns the descriptors; or an error. */
static inline int vms_ring_i_request(struct vms_ring_reader *reader, union vms_ring_any_message *message, int want,
                                     struct vms_ring_i_packet *answer)
{
    const uint64_t until_ns = vms_ring_i_now_ns() + (uint64_t)reader->timeout_ms * 1000000u;
    const uint32_t request = vms_ring_i_next_request(reader);
    unsigned fd_count;
    int error;

    reader->refusal[0] = '\0';
    message->head.request = request;
    error = vms_ring_i_send(reader->socket, message, message->head.length);
    while (error == 0) {
        error = vms_ring_i_wait_readable(reader, until_ns);
        if (error == 0)
            error = vms_ring_i_receive(reader->socket, answer);
        if (error == -EAGAIN)
            error = 0;
        else if (error != 0)
            break;
        else if (answer->type == VMS_RING_E_GONE) {
            error = VMS_RING_E_GONE;
        } else if (answer->type == VMS_RING_E_UNKNOWN) {
            vms_ring_i_close_fds(answer); /* of a newer minor version */
        } else if (answer->type < 0) {
            vms_ring_i_close_fds(answer);
            error = VMS_RING_E_PROTOCOL;
        } else if (answer->message.head.request != request) {
            vms_ring_i_close_fds(answer);
            /* The answer to a request that was given up: its slot is nobody's. */
            if (answer->type == VMS_RING_MESSAGE_ATTACHED && answer->message.head.request != 0)
                vms_ring_i_abandon_slot(reader, answer->message.attached.slot);
        } else if (answer->type == VMS_RING_MESSAGE_REFUSED) {
            vms_ring_i_close_fds(answer);
            return vms_ring_i_refused(reader, &answer->message.refused);
        } else {
            fd_count = answer->type == VMS_RING_MESSAGE_ATTACHED ? 2 : 0;
            if (answer->type == VMS_RING_MESSAGE_WELCOME)
                fd_count = (answer->message.welcome.features & VMS_RING_FEATURE_NOTIFY_FD) != 0 ? 3 : 2;
            if (answer->type == want && answer->fd_count == fd_count)
                return 0;
            vms_ring_i_close_fds(answer);
            if (answer->type == VMS_RING_MESSAGE_ATTACHED)
                vms_ring_i_abandon_slot(reader, answer->message.attached.slot);
            return VMS_RING_E_PROTOCOL;
        }
    }
    if (error == VMS_RING_E_GONE)
        reader->alive = 0;
    return error;
}

/* Reads what came unasked; clears `alive` when the producer has gone. */
static inline void vms_ring_i_check_alive(struct vms_ring_reader *reader)
{
    struct vms_ring_i_packet packet;
    unsigned n;
    /* A producer that talks without end is alive. */
    for (n = 0; n < 1024; n++) {
        int error = vms_ring_i_receive(reader->socket, &packet);
        if (error == -EAGAIN)
            return;
        if (error != 0 || packet.type == VMS_RING_E_GONE || packet.type == VMS_RING_MESSAGE_BYE) {
            vms_ring_i_close_fds(&packet);
            reader->alive = 0;
            return;
        }
        vms_ring_i_close_fds(&packet);
        if (packet.type == VMS_RING_MESSAGE_ATTACHED && packet.message.head.request != 0)
            vms_ring_i_abandon_slot(reader, packet.message.attached.slot);
    }
}

/* ------------------------------------------------------------------------------------------------ the session */

/* Ends the session: detaches everything, tells the producer, frees all. Nothing that the reader gave out may be used any
 * more. May be called twice, and after a connect that failed. */
static inline void vms_ring_close(struct vms_ring_reader *reader)
{
    union vms_ring_any_message message;
    uint32_t n;
    if (reader->socket >= 0) {
        size_t size = vms_ring_message_init(&message, VMS_RING_MESSAGE_BYE);
        (void)send(reader->socket, &message, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        close(reader->socket);
    }
    if (reader->notify >= 0)
        close(reader->notify);
    reader->socket = -1;
    reader->notify = -1;
    reader->alive = 0;
    for (n = 0; n < reader->streams_end; n++) {
        if (reader->streams[n] != NULL)
            vms_ring_attachment_close(&reader->streams[n]->attachment);
        free(reader->streams[n]);
    }
    free(reader->streams);
    reader->streams = NULL;
    reader->streams_end = 0;
    reader->slots = 0;
    vms_ring_buffer_free(&reader->buffer);
    vms_ring_segment_close(&reader->session);
    vms_ring_segment_close(&reader->cursor);
}

static inline int vms_ring_i_connect_socket(struct vms_ring_reader *reader, const char *path)
{
    struct sockaddr_un address;
    struct timeval timeout;
    size_t len = strlen(path);
    memset(&address, 0, sizeof address);
    address.sun_family = AF_UNIX;
    if (len >= sizeof address.sun_path)
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, len);
    reader->socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (reader->socket < 0)
        return -errno;
    /* Bounds connect and send; answers are waited for by poll. */
    timeout.tv_sec = reader->timeout_ms / 1000;
    timeout.tv_usec = reader->timeout_ms % 1000 * 1000;
    if (setsockopt(reader->socket, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout) != 0)
        return -errno;
    if (connect(reader->socket, (const struct sockaddr *)(const void *)&address, sizeof address) != 0)
        return errno == EAGAIN ? (int)VMS_RING_E_TIMEOUT : -errno;
    return 0;
}

/* As much of `text` as fits, cut at a character; its length, or -EINVAL when it is not UTF-8. */
static inline int vms_ring_i_put_text(uint8_t *place, size_t size, const char *text)
{
    size_t len = text == NULL ? 0 : strlen(text);
    if (!vms_ring_i_is_utf8((const uint8_t *)text, len))
        return -EINVAL;
    if (len > size)
        for (len = size; len > 0 && ((uint8_t)text[len] & 0xc0) == 0x80;)
            len--;
    if (len > 0)
        memcpy(place, text, len);
    return (int)len;
}

static inline int vms_ring_i_hello(struct vms_ring_reader *reader, const struct vms_ring_options *options,
                                   struct vms_ring_i_packet *answer)
{
    union vms_ring_any_message message;
    int name_len, token_len;
    vms_ring_message_init(&message, VMS_RING_MESSAGE_HELLO);
    name_len = vms_ring_i_put_text(message.hello.name, sizeof message.hello.name, options->name);
    token_len = vms_ring_i_put_text(message.hello.token, sizeof message.hello.token, options->token);
    if (name_len < 0 || token_len < 0)
        return -EINVAL;
    message.hello.name_len = (uint32_t)name_len;
    message.hello.token_len = (uint32_t)token_len;
    message.hello.major = VMS_RING_ABI_MAJOR;
    message.hello.minor_min = 0;
    message.hello.minor_max = VMS_RING_ABI_MINOR;
    message.hello.features = options->features & VMS_RING_FEATURE_NOTIFY_FD;
    message.hello.slots = options->slots;
    message.hello.bell_interval_us = options->bell_interval_us;
    return vms_ring_i_request(reader, &message, VMS_RING_MESSAGE_WELCOME, answer);
}

/* Whether `count` words of `len` bytes, tails or heads, lie within their segment (SPEC §2.4, §2.5). */
static inline int vms_ring_i_are_inside(const struct vms_ring_segment *segment, uint32_t count, uint32_t len)
{
    const struct vms_ring_segment_header *header = &segment->header;
    return header->rec_size >= len && header->rec_size % len == 0 &&
           vms_ring_i_at(segment, header->header_len, (uint64_t)count * header->rec_size, len) != NULL;
}

/* Takes over what WELCOME brought. */
static inline int vms_ring_i_welcomed(struct vms_ring_reader *reader, const struct vms_ring_options *options,
                                      struct vms_ring_i_packet *answer)
{
    const struct vms_ring_welcome *welcome = &answer->message.welcome;
    unsigned char *session, *cursor;
    uint32_t slots;
    int error;
    if (welcome->major != VMS_RING_ABI_MAJOR || welcome->minor > VMS_RING_ABI_MINOR)
        return VMS_RING_E_VERSION;
    /* A feature that nobody asked for. */
    if ((welcome->features & ~(options->features & VMS_RING_FEATURE_NOTIFY_FD)) != 0 || welcome->slots == 0)
        return VMS_RING_E_PROTOCOL;
    error = vms_ring_segment_open(&reader->session, answer->fds[0], VMS_RING_SEGMENT_KIND_SESSION);
    if (error == 0)
        error = vms_ring_segment_open(&reader->cursor, answer->fds[1], VMS_RING_SEGMENT_KIND_SESSION_CURSOR);
    if (error != 0)
        return error;
    session = (unsigned char *)vms_ring_i_at(&reader->session, 0, sizeof(struct vms_ring_session_head), 8);
    cursor = (unsigned char *)vms_ring_i_at(&reader->cursor, 0, sizeof(struct vms_ring_cursor_head), 8);
    if (session == NULL || cursor == NULL)
        return VMS_RING_E_TABLE;
    slots = vms_ring_i_relaxed32((const uint32_t *)(void *)(session + offsetof(struct vms_ring_session_head, slots)));
    if (!vms_ring_i_are_inside(&reader->session, slots, sizeof(uint32_t)) ||
        !vms_ring_i_are_inside(&reader->cursor, slots, sizeof(uint64_t)))
        return VMS_RING_E_TABLE;
    reader->bell = (const uint32_t *)(void *)(session + offsetof(struct vms_ring_session_head, bell));
    reader->state_gen = (const uint32_t *)(void *)(session + offsetof(struct vms_ring_session_head, state_gen));
    reader->parked = (uint32_t *)(void *)(cursor + offsetof(struct vms_ring_cursor_head, parked));
    reader->seen_gen = vms_ring_i_acquire32(reader->state_gen); /* every stream is looked at once after its attach */
    reader->daemon_epoch = welcome->daemon_epoch;
    reader->minor = welcome->minor;
    reader->slots = slots < VMS_RING_SESSION_SLOTS_MAX ? slots : VMS_RING_SESSION_SLOTS_MAX;
    reader->streams = (struct vms_ring_i_stream **)calloc(reader->slots, sizeof *reader->streams);
    if (reader->streams == NULL)
        return -ENOMEM;
    if (answer->fd_count == 3)
        reader->notify = answer->fds[--answer->fd_count];
    return 0;
}

/* Connects to the producer's socket at `path` and opens a session. `options` may be NULL for the defaults. Waits at most
 * twice the request's time. 0; or an error, after which only vms_ring_refusal_text and vms_ring_close make sense. */
static inline int vms_ring_connect(struct vms_ring_reader *reader, const char *path, const struct vms_ring_options *options)
{
    struct vms_ring_options defaults;
    struct vms_ring_i_packet answer;
    int error;
    memset(reader, 0, sizeof *reader);
    reader->socket = -1;
    reader->notify = -1;
    vms_ring_options_init(&defaults);
    if (options == NULL)
        options = &defaults;
    reader->timeout_ms = options->request_timeout_ms > 0 ? options->request_timeout_ms : defaults.request_timeout_ms;
    reader->alive = 1;
    error = vms_ring_i_connect_socket(reader, path);
    if (error == 0)
        error = vms_ring_i_hello(reader, options, &answer);
    if (error == 0) {
        error = vms_ring_i_welcomed(reader, options, &answer);
        vms_ring_i_close_fds(&answer);
    }
    if (error != 0)
        vms_ring_close(reader);
    return error;
}

/* Random number of the producer's run. */
static inline uint64_t vms_ring_daemon_epoch(const struct vms_ring_reader *reader)
{
    return reader->daemon_epoch;
}

/* The descriptor for an event loop: when it is readable or hung up, call vms_ring_next with a time-out of 0 until it gives
 * VMS_RING_EVENT_TIMEOUT or VMS_RING_EVENT_GONE. Never read or close it. -1 when it was not asked for by
 * options->features, or the producer did not grant it: then vms_ring_next has to wait. */
static inline int vms_ring_notify_fd(const struct vms_ring_reader *reader)
{
    return reader->notify;
}

/* The attach socket: readable when the producer said something or has gone. Never read or close it. */
static inline int vms_ring_socket_fd(const struct vms_ring_reader *reader)
{
    return reader->socket;
}

static inline struct vms_ring_i_stream *vms_ring_i_stream_of(const struct vms_ring_reader *reader, int stream)
{
    return stream >= 0 && (uint32_t)stream < reader->streams_end ? reader->streams[stream] : NULL;
}

/* Asks for `stream` from where `join` says and opens what comes: `stream` then has a slot and a new attachment.
 * 0, or an error; then nothing changed but that `*attached` may have. */
static inline int vms_ring_i_attach(struct vms_ring_reader *reader, struct vms_ring_i_stream *stream,
                                    const struct vms_ring_join *join, struct vms_ring_attached *attached)
{
    union vms_ring_any_message message;
    struct vms_ring_i_packet answer;
    struct vms_ring_attachment attachment;
    const struct vms_ring_segment_header *tails = &reader->session.header, *heads = &reader->cursor.header;
    const uint32_t *tail;
    uint64_t *head;
    uint32_t n, slot;
    int error;

    vms_ring_message_init(&message, VMS_RING_MESSAGE_ATTACH);
    message.attach.id_len = (uint32_t)strlen(stream->id);
    memcpy(message.attach.id, stream->id, message.attach.id_len);
    message.attach.from_kind = join->from;
    message.attach.from_epoch = join->from_epoch;
    message.attach.from_arg = join->from_arg;
    message.attach.reader_class = join->reader_class;
    message.attach.filters = join->filters;
    message.attach.tracks = join->tracks;
    message.attach.lag_max_ns = join->lag_max_ns;
    message.attach.ring_slots = join->ring_slots;
    error = vms_ring_i_request(reader, &message, VMS_RING_MESSAGE_ATTACHED, &answer);
    if (error != 0)
        return error;
    *attached = answer.message.attached;
    slot = attached->slot;
    for (n = 0; n < reader->streams_end; n++) {
        if (reader->streams[n] != NULL && reader->streams[n]->has_slot && reader->streams[n]->slot == slot) {
            vms_ring_i_close_fds(&answer); /* two rings in one slot: nothing that follows could be told apart */
            return VMS_RING_E_PROTOCOL;
        }
    }
    tail = (const uint32_t *)vms_ring_i_at(&reader->session, tails->header_len + (uint64_t)slot * tails->rec_size, 4, 4);
    head = (uint64_t *)vms_ring_i_at(&reader->cursor, heads->header_len + (uint64_t)slot * heads->rec_size, 8, 8);
    error = VMS_RING_E_PROTOCOL;
    if (tail != NULL && head != NULL && slot < reader->slots) {
        int resumed = join->from == VMS_RING_FROM_AFTER && (attached->flags & VMS_RING_ATTACHED_FLAG_RESUMED) != 0;
        error = vms_ring_attachment_open(&attachment, answer.fds[0], answer.fds[1], head, resumed ? &join->from_arg : NULL,
                                         (join->filters & VMS_RING_FILTER_EVERYTHING) != 0, NULL);
    }
    vms_ring_i_close_fds(&answer);
    if (error != 0) {
        vms_ring_i_abandon_slot(reader, slot); /* the producer holds a ring for us that we cannot read */
        return error;
    }
    stream->attachment = attachment;
    stream->epoch = attached->epoch;
    stream->slot = slot;
    stream->has_slot = 1;
    stream->tail = tail;
    stream->look = 1;
    return 0;
}

/* Attaches the stream `id` (1 to 64 bytes of UTF-8) as `join` says. Its number in this reader, from 0; or an error, after
 * which nothing changed. Unless NULL, `*attached` is what the producer answered: epoch, flags (VMS_RING_ATTACHED_FLAG_RESUMED),
 * first_seq, last_seq. Waits for the answer at most the request's time. A stream may be attached more than once. */
static inline int vms_ring_attach(struct vms_ring_reader *reader, const char *id, const struct vms_ring_join *join,
                                  struct vms_ring_attached *attached)
{
    struct vms_ring_attached answer;
    struct vms_ring_i_stream *stream;
    size_t len = strlen(id);
    uint32_t number = 0;
    int error;
    if (len == 0 || len > VMS_RING_STREAM_ID_LEN_MAX || !vms_ring_i_is_utf8((const uint8_t *)id, len))
        return -EINVAL;
    if (reader->socket < 0)
        return VMS_RING_E_GONE;
    while (number < reader->slots && reader->streams[number] != NULL)
        number++;
    if (number == reader->slots)
        return VMS_RING_E_REFUSED_AS(VMS_RING_REFUSAL_LIMIT);
    stream = (struct vms_ring_i_stream *)calloc(1, sizeof *stream);
    if (stream == NULL)
        return -ENOMEM;
    memcpy(stream->id, id, len);
    stream->join = *join;
    error = vms_ring_i_attach(reader, stream, join, &answer);
    if (error != 0) {
        free(stream);
        return error;
    }
    reader->streams[number] = stream;
    if (number >= reader->streams_end)
        reader->streams_end = number + 1;
    if (attached != NULL)
        *attached = answer;
    return (int)number;
}

/* Gives the slot of a stream back. */
static inline int vms_ring_i_detach(struct vms_ring_reader *reader, struct vms_ring_i_stream *stream)
{
    union vms_ring_any_message message;
    struct vms_ring_i_packet answer;
    if (!stream->has_slot)
        return 0;
    /* The slot's next user starts from 0. */
    __atomic_store_n(stream->attachment.head_word, 0, __ATOMIC_RELEASE);
    stream->has_slot = 0;
    vms_ring_message_init(&message, VMS_RING_MESSAGE_DETACH);
    message.detach.slot = stream->slot;
    return vms_ring_i_request(reader, &message, VMS_RING_MESSAGE_DETACHED, &answer);
}

/* Detaches a stream, ended or not, and frees its number. Unless NULL, `*counts` is what became of its units.
 * 0; VMS_RING_E_NO_STREAM; or an error when the producer did not confirm: the stream is gone from this reader all the same. */
static inline int vms_ring_detach(struct vms_ring_reader *reader, int number, struct vms_ring_counts *counts)
{
    struct vms_ring_i_stream *stream = vms_ring_i_stream_of(reader, number);
    int error;
    if (counts != NULL)
        memset(counts, 0, sizeof *counts);
    if (stream == NULL)
        return VMS_RING_E_NO_STREAM;
    if (counts != NULL)
        *counts = stream->attachment.counting.counts;
    error = vms_ring_i_detach(reader, stream);
    vms_ring_attachment_close(&stream->attachment);
    free(stream);
    reader->streams[number] = NULL;
    while (reader->streams_end > 0 && reader->streams[reader->streams_end - 1] == NULL)
        reader->streams_end--;
    return error;
}

/* What a stream says of itself at the moment. 0; or VMS_RING_E_NO_STREAM, and *status is all 0. */
static inline int vms_ring_status_of(const struct vms_ring_reader *reader, int number, struct vms_ring_status *status)
{
    const struct vms_ring_i_stream *stream = vms_ring_i_stream_of(reader, number);
    memset(status, 0, sizeof *status);
    if (stream == NULL)
        return VMS_RING_E_NO_STREAM;
    vms_ring_attachment_status(&stream->attachment, status);
    return 0;
}

/* What became of a stream's units so far. 0; or VMS_RING_E_NO_STREAM, and *counts is all 0. */
static inline int vms_ring_counts_of(const struct vms_ring_reader *reader, int number, struct vms_ring_counts *counts)
{
    const struct vms_ring_i_stream *stream = vms_ring_i_stream_of(reader, number);
    memset(counts, 0, sizeof *counts);
    if (stream == NULL)
        return VMS_RING_E_NO_STREAM;
    *counts = stream->attachment.counting.counts;
    return 0;
}

/* The parameter sets that the newest unit of a track referred to; NULL when there was none or no such stream or track.
 * Valid until the next vms_ring_next or vms_ring_detach. */
static inline const struct vms_ring_configuration *vms_ring_configuration_of(const struct vms_ring_reader *reader, int number,
                                                                              uint32_t track)
{
    const struct vms_ring_i_stream *stream = vms_ring_i_stream_of(reader, number);
    if (stream == NULL || track >= stream->attachment.track_count || stream->attachment.tracks[track].config.id == 0)
        return NULL;
    return &stream->attachment.tracks[track].config;
}

/* The epoch of a stream's numbers, for VMS_RING_FROM_AFTER; 0 when there is no such stream. */
static inline uint64_t vms_ring_epoch_of(const struct vms_ring_reader *reader, int number)
{
    const struct vms_ring_i_stream *stream = vms_ring_i_stream_of(reader, number);
    return stream == NULL ? 0 : stream->epoch;
}

/* ------------------------------------------------------------------------------------------------ reading */

/* The stream goes on in another segment: goes on behind the last unit of the old one (SPEC §9.3), with the counts, the
 * configurations and what was filtered so far. 0; or why that is not possible, after which the old attachment is without a
 * slot. */
static inline int vms_ring_i_rotate(struct vms_ring_reader *reader, struct vms_ring_i_stream *stream,
                                    const struct vms_ring_taken *end)
{
    struct vms_ring_attachment old = stream->attachment, *now = &stream->attachment;
    struct vms_ring_join join = stream->join;
    struct vms_ring_attached attached;
    uint64_t epoch = stream->epoch;
    uint32_t n;
    int error;

    join.from = VMS_RING_FROM_AFTER;
    join.from_epoch = epoch;
    join.from_arg = end->final_seq;
    /* All of the old ring was read, so its slot goes first: there may be no other. */
    error = vms_ring_i_detach(reader, stream);
    if (error == 0)
        error = vms_ring_i_attach(reader, stream, &join, &attached);
    if (error != 0)
        return error;
    if (stream->epoch != epoch) {
        (void)vms_ring_i_detach(reader, stream);
        vms_ring_attachment_close(now);
        *now = old;
        return VMS_RING_E_EPOCH;
    }
    now->counting.counts = old.counting.counts;
    now->counting.filtered = 0; /* the new ring's own number starts anew */
    now->filtered_before = vms_ring_i_plus(old.filtered_before, end->final_filtered);
    if (old.awaits_key)
        now->awaits_key = 1;
    for (n = 0; n < now->track_count && n < old.track_count; n++)
        now->tracks[n].config = old.tracks[n].config; /* ids are the epoch's */
    vms_ring_attachment_close(&old);
    return 0;
}

/* The next unit or end of one stream, past records that are not for the caller: an enum vms_ring_event_kind (TIMEOUT: there
 * is none), or -ENOMEM. */
static inline int vms_ring_i_look(struct vms_ring_reader *reader, int number, struct vms_ring_event *event)
{
    struct vms_ring_i_stream *stream = reader->streams[number];
    struct vms_ring_taken taken;
    uint32_t n, rotations = 0;
    /* No ring holds more. What comes while records are passed over is followed by a bell; and a producer that never stops takes
     * no more of the caller's time. */
    for (n = 0; n <= stream->attachment.slots; n++) {
        int took, error;
        if (!stream->look && vms_ring_i_acquire32(stream->tail) == (uint32_t)stream->attachment.head)
            break;
        took = vms_ring_attachment_take(&stream->attachment, &reader->buffer, &taken);
        if (took == VMS_RING_TAKE_DROPPED)
            continue;
        if (took < 0)
            return took;
        if (took == VMS_RING_TAKE_EMPTY) {
            stream->look = 0;
            return VMS_RING_EVENT_TIMEOUT;
        }
        event->stream = number;
        if (took == VMS_RING_TAKE_UNIT) {
            event->record = taken.record;
            event->payload = reader->buffer.payload;
            event->nal_ends = reader->buffer.nal_ends;
            event->lost = taken.lost;
            event->config_changed = taken.config_changed;
            return VMS_RING_EVENT_UNIT;
        }
        error = taken.error;
        if (taken.ring_state == VMS_RING_RING_STATE_ROTATED && !stream->join.stay) {
            error = vms_ring_i_rotate(reader, stream, &taken);
            if (error == 0) {
                /* The new ring gets all of its turn; a stream that rotates without end gets one. */
                if (++rotations == 16)
                    return VMS_RING_EVENT_TIMEOUT;
                n = 0;
                continue;
            }
        }
        event->ring_state = taken.ring_state;
        event->reason = taken.reason;
        event->error = error;
        event->counts = stream->attachment.counting.counts;
        return VMS_RING_EVENT_ENDED;
    }
    return VMS_RING_EVENT_TIMEOUT;
}

/* Every ring's own words are looked at once more: the producer may have died between them and what the session says. */
static inline void vms_ring_i_look_at_all(struct vms_ring_reader *reader)
{
    uint32_t n;
    for (n = 0; n < reader->streams_end; n++)
        if (reader->streams[n] != NULL)
            reader->streams[n]->look = 1;
}

/* Looks at each ready ring once, in turn, until one has something for the caller. */
static inline int vms_ring_i_scan(struct vms_ring_reader *reader, struct vms_ring_event *event)
{
    uint32_t n, generation = vms_ring_i_acquire32(reader->state_gen);
    const uint32_t first = reader->turn, end = reader->streams_end;
    if (generation != reader->seen_gen) {
        /* An end moves no tail. */
        reader->seen_gen = generation;
        vms_ring_i_look_at_all(reader);
    }
    for (n = 0; n < end; n++) {
        uint32_t number = (first < end ? first : 0) + 1 + n;
        int found;
        number = number < end ? number : number - end;
        if (reader->streams[number] == NULL)
            continue;
        found = vms_ring_i_look(reader, (int)number, event);
        if (found != VMS_RING_EVENT_TIMEOUT) {
            reader->turn = number;
            return found;
        }
    }
    return VMS_RING_EVENT_TIMEOUT;
}

/* Takes what the notify descriptor has; 1 if that was anything, also its end. */
static inline int vms_ring_i_drain(struct vms_ring_reader *reader)
{
    char byte[16];
    unsigned n;
    if (reader->notify < 0)
        return 0;
    /* What is left behind the bound keeps the descriptor readable. */
    for (n = 0; n < 4096; n++) {
        ssize_t len = recv(reader->notify, byte, sizeof byte, MSG_DONTWAIT);
        if (len < 0 && errno == EINTR)
            continue;
        if (len < 0 && errno == EAGAIN)
            break;
        if (len <= 0) {
            reader->alive = 0;
            return 1;
        }
    }
    return n > 0;
}

/* Sleeps until the producer rings, at most `nap_ns`; looks whether it lives when it did not ring. */
static inline void vms_ring_i_sleep(struct vms_ring_reader *reader, uint32_t seen, uint64_t nap_ns)
{
    if (reader->notify >= 0) {
        struct pollfd items[2];
        memset(items, 0, sizeof items);
        items[0].fd = reader->notify;
        items[1].fd = reader->socket;
        items[0].events = items[1].events = POLLIN;
        if (poll(items, 2, (int)((nap_ns + 999999) / 1000000)) > 0 && items[1].revents != 0)
            vms_ring_i_check_alive(reader);
        if (items[0].revents == 0)
            vms_ring_i_look_at_all(reader);
        return;
    }
    __atomic_store_n(reader->parked, 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (vms_ring_i_relaxed32(reader->bell) == seen) {
        struct timespec nap;
        nap.tv_sec = (time_t)(nap_ns / 1000000000u);
        nap.tv_nsec = (long)(nap_ns % 1000000000u);
        /* Every outcome means the same: look again. */
        (void)syscall(SYS_futex, reader->bell, FUTEX_WAIT, seen, &nap, NULL, 0);
    }
    __atomic_store_n(reader->parked, 0, __ATOMIC_RELAXED);
    if (vms_ring_i_acquire32(reader->bell) == seen) {
        vms_ring_i_check_alive(reader);
        vms_ring_i_look_at_all(reader);
    }
}

/* What happened next in any of the streams, in fair turns; waits for it at most `timeout_ms` (0: not at all; below 0: for
 * ever). An enum vms_ring_event_kind, which `event->kind` repeats: TIMEOUT is 0; or -ENOMEM when there is no memory for a
 * unit, which the next call then tries again. What `*event` points to is valid until the next call with this reader.
 *
 * A stream that rotates is attached again here, which may take the request's time; its number stays, its counts go on. A
 * producer that died is noticed at most 1 s later, by a call that waits (or by the notify descriptor). */
static inline int vms_ring_next(struct vms_ring_reader *reader, int timeout_ms, struct vms_ring_event *event)
{
    const uint64_t nap_max_ns = 1000000000u;
    uint64_t until_ns = 0;
    int found;
    memset(event, 0, sizeof *event);
    event->stream = -1;
    if (reader->session.base == NULL)
        return event->kind = VMS_RING_EVENT_GONE;
    for (;;) {
        uint32_t seen = vms_ring_i_acquire32(reader->bell);
        uint64_t now, left = nap_max_ns;
        found = vms_ring_i_scan(reader, event);
        if (found == VMS_RING_EVENT_TIMEOUT && reader->alive && vms_ring_i_drain(reader))
            found = vms_ring_i_scan(reader, event);
        if (found != VMS_RING_EVENT_TIMEOUT)
            break;
        if (!reader->alive) {
            /* What was pushed before the end is in the rings, and was found by the scan above or is by this one. */
            vms_ring_i_look_at_all(reader);
            found = vms_ring_i_scan(reader, event);
            if (found == VMS_RING_EVENT_TIMEOUT)
                found = VMS_RING_EVENT_GONE;
            break;
        }
        /* The clock is read only by who has to wait. */
        if (timeout_ms >= 0) {
            now = vms_ring_i_now_ns();
            if (until_ns == 0)
                until_ns = now + (uint64_t)timeout_ms * 1000000u;
            left = vms_ring_i_least(vms_ring_i_minus(until_ns, now), nap_max_ns);
            if (left == 0)
                break;
        }
        vms_ring_i_sleep(reader, seen, left);
    }
    if (found > 0)
        event->kind = found;
    return found;
}

#ifdef __cplusplus
}
#endif

#endif
