/*
 * reader RING_SOCKET COUNT ID [ID...]
 *
 * A reader of the vms-media ring ABI 1.0-rc, written from SPEC.md alone. "§" in the comments is a section of that text.
 * One session, one thread, every stream from OLDEST as ARCHIVE. Linux, C11, libc only.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "shared words are little-endian and are used in place");
_Static_assert(ATOMIC_INT_LOCK_FREE == 2 && ATOMIC_LLONG_LOCK_FREE == 2, "words in shared memory need lock-free atomics");
_Static_assert(sizeof(size_t) == 8, "offsets are 64 bits wide");

/* ---- numbers of the specification -------------------------------------------------------------------------------- */

#define MAGIC UINT64_C(0x474e4952534d56)
enum { MAJOR = 1, MINOR = 0 };
enum { K_STREAM = 1, K_RING = 3, K_SESSION = 7, K_CURSOR = 8 };
/* common header §2.1 */
enum { H_MAGIC = 0, H_MAJOR = 8, H_KIND = 12, H_SIZE = 16, H_FEATURES_REQUIRED = 32, H_HEADER_LEN = 48, H_REC_SIZE = 52, H_LEN = 64 };
/* stream §2.2 */
enum { D_TRACK_COUNT = 64, D_TRACK_SIZE = 68, D_TRACKS_OFF = 72, STREAM_FIXED = 172 };
enum { T_KIND = 0, T_ARENA_OFF = 8, T_ARENA_LEN = 16, T_CONFIGS_OFF = 24, T_CONFIG_COUNT = 32, T_CONFIG_SIZE = 36, T_RECLAIM_POS = 64 };
enum { TRACK_VIDEO = 1, TRACK_SIZE_MIN = 256, CONFIG_SIZE_MIN = 4096 };
/* ring §2.3 */
enum { G_SLOTS = 64, G_TAIL = 128, G_RSTATE = 192, G_REASON = 196, G_FINAL_SEQ = 200, G_FINAL_FILTERED = 208, RING_FIXED = 216 };
enum { RING_OK = 0, RING_EVICTED = 1, RING_CLOSED = 2, RING_ROTATED = 3 };
enum { E_NONE = 0, E_STREAM_CLOSED = 1, E_LAST = 5 };
/* session §2.4, cursor §2.5 */
enum { S_SLOTS = 64, S_BELL = 128, SESSION_FIXED = 136, C_PARKED = 128, CURSOR_FIXED = 132 };
/* constants §2.6 */
enum { CONFIG_DATA_MAX = 4032, UNIT_LEN_MAX = 4194304, NALS_MAX = 1024, TRACKS_MAX = 4, MESSAGE_LEN_MAX = 4096, STREAM_ID_LEN_MAX = 64,
       REASON_LEN_MAX = 232, SESSION_SLOTS_MAX = 4096, RING_SLOTS_MAX = 1024, CONFIGS_LOOKED_AT = 64 };
/* record §3 */
enum { REC_LEN = 128, REC_ACCESS_UNIT = 1, REC_DATA = 2, F_KEY = 1u << 0, F_BACKFILL = 1u << 5 };
/* configuration §4 */
enum { CF_ID = 0, CF_GENERATION = 4, CF_LEN = 36, CF_HEAD = 64 };
/* messages §5 */
enum { M_HELLO = 1, M_WELCOME, M_ATTACH, M_ATTACHED, M_REFUSED, M_DETACH, M_DETACHED, M_EVICTED, M_CLOSED, M_BYE, M_TYPES };
enum { FROM_OLDEST = 3, FROM_AFTER = 5, CLASS_ARCHIVE = 2, ATTACHED_RESUMED = 1u << 0, REFUSED_LIMIT = 3 };

#define SEALS_CURSOR (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
#define SEALS_READ (SEALS_CURSOR | F_SEAL_FUTURE_WRITE)

/* choices of this program */
enum { ANSWER_MS = 10000, RETRY_MS = 250, RETRIES_MAX = 40, FDS_MAX = 8, RING_SLOTS = 128, BELL_US = 10000 };

/* ---- words in shared memory -------------------------------------------------------------------------------------- */

typedef const volatile _Atomic uint32_t shared32;
typedef const volatile _Atomic uint64_t shared64;

static uint32_t rlx32(const unsigned char *p) { return atomic_load_explicit((shared32 *)(const void *)p, memory_order_relaxed); }
static uint64_t rlx64(const unsigned char *p) { return atomic_load_explicit((shared64 *)(const void *)p, memory_order_relaxed); }
static uint32_t acq32(const unsigned char *p) { return atomic_load_explicit((shared32 *)(const void *)p, memory_order_acquire); }
static uint64_t acq64(const unsigned char *p) { return atomic_load_explicit((shared64 *)(const void *)p, memory_order_acquire); }

/* Copies n bytes from an address that is a multiple of 4, each exactly once, by relaxed loads. */
static void copy_shared(void *to, const unsigned char *from, size_t n)
{
    unsigned char *out = to;
    if (((uintptr_t)from & 7) != 0 && n >= 4) {
        uint32_t w = rlx32(from);
        memcpy(out, &w, 4);
        out += 4, from += 4, n -= 4;
    }
    for (; n >= 8; out += 8, from += 8, n -= 8) {
        uint64_t w = rlx64(from);
        memcpy(out, &w, 8);
    }
    for (; n > 0; out++, from++, n--)
        *out = atomic_load_explicit((const volatile _Atomic unsigned char *)from, memory_order_relaxed);
}

static uint16_t get16(const unsigned char *p) { uint16_t v; memcpy(&v, p, sizeof v); return v; }
static uint32_t get32(const unsigned char *p) { uint32_t v; memcpy(&v, p, sizeof v); return v; }
static uint64_t get64(const unsigned char *p) { uint64_t v; memcpy(&v, p, sizeof v); return v; }
static void put16(unsigned char *p, uint16_t v) { memcpy(p, &v, sizeof v); }
static void put32(unsigned char *p, uint32_t v) { memcpy(p, &v, sizeof v); }
static void put64(unsigned char *p, uint64_t v) { memcpy(p, &v, sizeof v); }

/* ---- what the program knows -------------------------------------------------------------------------------------- */

struct segment {
    unsigned char *base; /* NULL: not mapped */
    size_t mapped;
    uint64_t size; /* as the header said, once */
    uint32_t header_len, rec_size;
};

struct track {
    uint32_t kind;
    const unsigned char *arena, *configs, *reclaim_pos;
    uint64_t arena_len;
    uint32_t config_count, config_size;
};

struct config { /* private copy */
    uint32_t id;
    uint32_t len;
    unsigned char head[CF_HEAD], data[CONFIG_DATA_MAX];
};

enum phase { TO_ATTACH, ATTACHED, OVER };

struct stream {
    const char *id;
    enum phase phase;
    bool failed; /* refused, or unusable */

    /* the attachment */
    struct segment T, G;
    uint32_t slot, slots, track_count;
    struct track tracks[TRACKS_MAX];
    struct config held[TRACKS_MAX]; /* of the last accepted unit; id 0: none. Ids are the epoch's, so a rotation keeps them */
    uint64_t held_epoch, head, epoch;
    int64_t retry_at;
    int retries;
    bool rotated; /* the next ATTACH goes on after (epoch, after) */
    uint64_t after;

    /* §7, §10 */
    bool wait_key, begun, ever_begun;
    uint64_t first, last, filtered_base;
    uint64_t total_first, accepted, rejected, skipped, lost, filtered, expected;
    bool broken; /* the end cannot be counted */
    uint32_t rstate, reason;
};

static int sock = -1;
static bool gone; /* P hung up, said BYE, or broke the protocol */
static uint32_t request_number, session_slots;
static struct segment S, C;
static unsigned char *unit;
static uint64_t printed, wanted;
static uint32_t crc_table[256];

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static uint32_t crc32(const unsigned char *p, size_t n)
{
    uint32_t c = UINT32_MAX;
    while (n-- > 0)
        c = crc_table[(c ^ *p++) & 0xff] ^ (c >> 8);
    return ~c;
}

static bool is_utf8(const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n;) {
        unsigned c = p[i++], more = c < 0x80 ? 0 : c >= 0xc2 && c < 0xe0 ? 1 : c >= 0xe0 && c < 0xf0 ? 2 : c >= 0xf0 && c < 0xf5 ? 3 : 4;
        if (more == 4 || n - i < more)
            return false;
        if (more > 0) {
            unsigned low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80, high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
            if (p[i] < low || p[i] > high)
                return false;
            for (unsigned k = 1; k < more; k++)
                if ((p[i + k] & 0xc0) != 0x80)
                    return false;
        }
        i += more;
    }
    return true;
}

/* ---- segments §2 ------------------------------------------------------------------------------------------------- */

static bool within(uint64_t off, uint64_t count, uint64_t each, uint64_t size) /* count and each below 2^32, or one of them 1 */
{
    return off <= size && count * each <= size - off;
}

static void close_segment(struct segment *g)
{
    if (g->base != NULL)
        munmap(g->base, g->mapped);
    *g = (struct segment){0};
}

/* Checks and maps a descriptor; the descriptor stays the caller's. */
static const char *open_segment(struct segment *g, int fd, uint32_t kind, uint64_t fixed)
{
    int need = kind == K_CURSOR ? SEALS_CURSOR : SEALS_READ, seals = fcntl(fd, F_GET_SEALS);
    struct stat st;
    unsigned char h[H_LEN];
    *g = (struct segment){0};
    if (seals < 0 || (seals & need) != need)
        return "seals are missing";
    if (fstat(fd, &st) != 0 || st.st_size < H_LEN)
        return "the file is too small";
    void *m = mmap(NULL, (size_t)st.st_size, kind == K_CURSOR ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
    if (m == MAP_FAILED)
        return "it cannot be mapped";
    g->base = m;
    g->mapped = (size_t)st.st_size;
    copy_shared(h, g->base, sizeof h);
    g->size = get64(h + H_SIZE);
    g->header_len = get32(h + H_HEADER_LEN);
    g->rec_size = get32(h + H_REC_SIZE);
    const char *bad = NULL;
    if (get64(h + H_MAGIC) != MAGIC)
        bad = "magic";
    else if (get16(h + H_MAJOR) != MAJOR)
        bad = "major version";
    else if (get32(h + H_KIND) != kind)
        bad = "kind";
    else if (get64(h + H_FEATURES_REQUIRED) != 0)
        bad = "a required feature is unknown";
    else if (g->size > g->mapped || g->size < fixed)
        bad = "size";
    else if (g->header_len > g->size)
        bad = "header_len";
    if (bad != NULL)
        close_segment(g);
    return bad;
}

static const char *open_session(int session_fd, int cursor_fd, uint32_t welcome_slots)
{
    const char *bad = open_segment(&S, session_fd, K_SESSION, SESSION_FIXED);
    if (bad == NULL)
        bad = open_segment(&C, cursor_fd, K_CURSOR, CURSOR_FIXED);
    if (bad != NULL)
        return bad;
    session_slots = rlx32(S.base + S_SLOTS);
    if (S.header_len < SESSION_FIXED || S.header_len % 4 != 0 || S.rec_size < 4 || S.rec_size % 4 != 0 ||
        !within(S.header_len, session_slots, S.rec_size, S.size))
        return "tails";
    if (session_slots > welcome_slots)
        session_slots = welcome_slots;
    if (C.header_len < CURSOR_FIXED || C.header_len % 8 != 0 || C.rec_size < 8 || C.rec_size % 8 != 0 ||
        !within(C.header_len, session_slots, C.rec_size, C.size))
        return "heads";
    return NULL;
}

static const char *open_stream(struct stream *s, int fd)
{
    const char *bad = open_segment(&s->T, fd, K_STREAM, STREAM_FIXED);
    if (bad != NULL)
        return bad;
    const unsigned char *b = s->T.base;
    uint64_t size = s->T.size, tracks_off = rlx64(b + D_TRACKS_OFF);
    uint32_t count = rlx32(b + D_TRACK_COUNT), track_size = rlx32(b + D_TRACK_SIZE);
    if (count > TRACKS_MAX)
        return "more tracks than this version has";
    if (track_size < TRACK_SIZE_MIN || track_size % 8 != 0 || tracks_off % 8 != 0 || !within(tracks_off, count, track_size, size))
        return "track table";
    for (uint32_t n = 0; n < count; n++) {
        const unsigned char *e = b + tracks_off + (uint64_t)n * track_size;
        unsigned char k[40];
        copy_shared(k, e, sizeof k);
        uint64_t arena_off = get64(k + T_ARENA_OFF), arena_len = get64(k + T_ARENA_LEN), configs_off = get64(k + T_CONFIGS_OFF);
        struct track *t = &s->tracks[n];
        t->kind = get32(k + T_KIND);
        t->config_count = get32(k + T_CONFIG_COUNT);
        t->config_size = get32(k + T_CONFIG_SIZE);
        if (arena_len < 64 || (arena_len & (arena_len - 1)) != 0 || arena_off % 8 != 0 || !within(arena_off, 1, arena_len, size))
            return "arena";
        if (configs_off % 8 != 0 || t->config_size % 8 != 0 || (t->config_count > 0 && t->config_size < CONFIG_SIZE_MIN) ||
            !within(configs_off, t->config_count, t->config_size, size))
            return "configuration table";
        t->arena = b + arena_off;
        t->arena_len = arena_len;
        t->configs = b + configs_off;
        t->reclaim_pos = e + T_RECLAIM_POS;
    }
    s->track_count = count;
    return NULL;
}

static const char *open_ring(struct stream *s, int fd)
{
    const char *bad = open_segment(&s->G, fd, K_RING, RING_FIXED);
    if (bad != NULL)
        return bad;
    s->slots = rlx32(s->G.base + G_SLOTS);
    if (s->slots == 0 || (s->slots & (s->slots - 1)) != 0 || s->slots > RING_SLOTS_MAX || s->G.rec_size < REC_LEN || s->G.rec_size % 8 != 0 ||
        s->G.header_len < RING_FIXED || s->G.header_len % 8 != 0 || !within(s->G.header_len, s->slots, s->G.rec_size, s->G.size))
        return "ring of records";
    return NULL;
}

/* ---- messages §5 ------------------------------------------------------------------------------------------------- */

static const uint32_t message_bytes[M_TYPES] = {0, 336, 48, 136, 64, 256, 24, 24, 32, 32, 24};

struct message {
    unsigned char b[MESSAGE_LEN_MAX];
    uint32_t type, request;
    int fds[FDS_MAX], fd_count;
};

static void close_fds(struct message *m)
{
    for (int i = 0; i < m->fd_count; i++)
        close(m->fds[i]);
    m->fd_count = 0;
}

static void send_message(unsigned char *b, uint32_t type, uint32_t request)
{
    put32(b, type);
    put32(b + 4, message_bytes[type]);
    put32(b + 8, request);
    ssize_t n;
    do
        n = send(sock, b, message_bytes[type], MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n != (ssize_t)message_bytes[type])
        gone = true;
}

/* One message if there is one now. What breaks the rules ends the session. The descriptors are the caller's. */
static bool receive_now(struct message *m)
{
    union { struct cmsghdr align; char b[CMSG_SPACE(sizeof(int) * FDS_MAX)]; } control;
    struct iovec v = {.iov_base = m->b, .iov_len = sizeof m->b};
    struct msghdr h = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control.b, .msg_controllen = sizeof control.b};
    ssize_t n;
    m->fd_count = 0;
    do
        n = recvmsg(sock, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return false;
    if (n <= 0) {
        gone = true;
        return false;
    }
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&h); c != NULL; c = CMSG_NXTHDR(&h, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
            for (size_t k = 0; k < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int) && m->fd_count < FDS_MAX; k++)
                memcpy(&m->fds[m->fd_count++], CMSG_DATA(c) + k * sizeof(int), sizeof(int));
    bool bad = (h.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 || n < 16;
    if (!bad) {
        uint32_t length = get32(m->b + 4);
        m->type = get32(m->b);
        m->request = get32(m->b + 8);
        bad = length > (size_t)n || length < 16;
        if (!bad && m->type > 0 && m->type < M_TYPES) {
            bad = length < message_bytes[m->type] || m->fd_count != (m->type == M_WELCOME || m->type == M_ATTACHED ? 2 : 0);
            if (!bad && m->type == M_REFUSED) {
                uint32_t len = get32(m->b + 20);
                bad = len > REASON_LEN_MAX || !is_utf8(m->b + 24, len);
            }
        }
    }
    if (bad) {
        fprintf(stderr, "reader: a message breaks the rules\n");
        close_fds(m);
        gone = true;
        return false;
    }
    if (m->type == M_BYE)
        gone = true;
    return true;
}

/* Waits for the answer to a request: true if it is `type`, false if REFUSED (m holds it) or if P is gone. */
static bool answer(struct message *m, uint32_t request, uint32_t type)
{
    int64_t until = now_ms() + ANSWER_MS;
    while (!gone) {
        if (receive_now(m)) {
            if (m->request == request && m->type == type)
                return true;
            close_fds(m);
            if (m->type == M_REFUSED && (m->request == request || m->request == 0)) /* 0: P did not understand the request */
                return false;
            continue; /* EVICTED, CLOSED, unknown ones: nothing depends on them */
        }
        int64_t left = until - now_ms();
        if (left <= 0) {
            fprintf(stderr, "reader: no answer\n");
            gone = true;
        } else if (!gone) {
            struct pollfd p = {.fd = sock, .events = POLLIN};
            poll(&p, 1, (int)left);
        }
    }
    return false;
}

static void say_refused(const char *what, const struct message *m)
{
    if (gone)
        fprintf(stderr, "reader: %s: the producer is gone\n", what);
    else
        fprintf(stderr, "reader: %s: refused (%" PRIu32 "): %.*s\n", what, get32(m->b + 16), (int)get32(m->b + 20), (const char *)m->b + 24);
}

static bool hello(const char *path, uint32_t slots)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    unsigned char b[336] = {0};
    struct message m = {0};
    if (strlen(path) >= sizeof a.sun_path) {
        fprintf(stderr, "reader: the path is too long\n");
        return false;
    }
    memcpy(a.sun_path, path, strlen(path) + 1);
    sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (sock < 0 || connect(sock, (const struct sockaddr *)&a, sizeof a) != 0) {
        perror("reader: connect");
        return false;
    }
    put16(b + 16, MAJOR);
    put16(b + 18, MINOR);
    put16(b + 20, MINOR);
    put32(b + 32, slots);
    put32(b + 36, BELL_US);
    put32(b + 40, 8);
    memcpy(b + 48, "stranger", 8);
    send_message(b, M_HELLO, ++request_number);
    if (!answer(&m, request_number, M_WELCOME)) {
        say_refused("HELLO", &m);
        return false;
    }
    const char *bad = "the version is another one than asked for";
    if (get16(m.b + 16) == MAJOR && get16(m.b + 18) == MINOR)
        bad = open_session(m.fds[0], m.fds[1], get32(m.b + 20));
    close_fds(&m);
    if (bad != NULL)
        fprintf(stderr, "reader: session: %s\n", bad);
    return bad == NULL;
}

static void store_head(const struct stream *s, uint64_t v)
{
    unsigned char *p = C.base + C.header_len + (uint64_t)s->slot * C.rec_size;
    atomic_store_explicit((volatile _Atomic uint64_t *)(void *)p, v, memory_order_release);
}

static void detach(struct stream *s)
{
    close_segment(&s->T);
    close_segment(&s->G);
    if (gone)
        return;
    unsigned char b[24] = {0};
    struct message m = {0};
    store_head(s, 0);
    put32(b + 16, s->slot);
    send_message(b, M_DETACH, ++request_number);
    if (!answer(&m, request_number, M_DETACHED) && !gone)
        say_refused("DETACH", &m);
}

static void fail(struct stream *s)
{
    s->phase = OVER;
    s->failed = true;
}

static void attach(struct stream *s)
{
    unsigned char b[136] = {0};
    struct message m = {0};
    size_t n = strlen(s->id);
    put32(b + 16, (uint32_t)n);
    put32(b + 20, s->rotated ? FROM_AFTER : FROM_OLDEST);
    put64(b + 24, s->rotated ? s->epoch : 0);
    put64(b + 32, s->rotated ? s->after : 0);
    put32(b + 40, CLASS_ARCHIVE);
    put64(b + 48, UINT64_MAX);
    put32(b + 64, RING_SLOTS);
    memcpy(b + 72, s->id, n);
    send_message(b, M_ATTACH, ++request_number);
    if (!answer(&m, request_number, M_ATTACHED)) {
        if (!gone && get32(m.b + 16) == REFUSED_LIMIT && s->retries < RETRIES_MAX) {
            s->retries++;
            s->retry_at = now_ms() + RETRY_MS;
            return;
        }
        say_refused(s->id, &m);
        fail(s);
        return;
    }
    s->slot = get32(m.b + 16);
    bool resumed = s->rotated && (get32(m.b + 20) & ATTACHED_RESUMED) != 0;
    s->epoch = get64(m.b + 32);
    if (s->slot >= session_slots) {
        fprintf(stderr, "reader: %s: slot %" PRIu32 " is not in the session\n", s->id, s->slot);
        close_fds(&m);
        gone = true;
        fail(s);
        return;
    }
    const char *bad = open_stream(s, m.fds[0]);
    if (bad == NULL)
        bad = open_ring(s, m.fds[1]);
    close_fds(&m);
    if (bad != NULL) {
        fprintf(stderr, "reader: %s: %s\n", s->id, bad);
        detach(s);
        fail(s);
        return;
    }
    if (s->held_epoch != s->epoch) /* ids of another epoch mean other configurations */
        memset(s->held, 0, sizeof s->held);
    s->held_epoch = s->epoch;
    s->phase = ATTACHED;
    s->retries = 0;
    s->head = 0;
    s->rstate = RING_OK;
    s->reason = E_NONE;
    s->filtered_base = 0;
    s->begun = resumed;
    s->last = resumed ? s->after : 0;
    s->first = s->last + 1;
    if (!resumed)
        s->wait_key = true; /* else as it was at the old ring's end */
}

/* ---- reading §7, counting §10 ------------------------------------------------------------------------------------ */

/* The configuration `id` of a track, whole, or false. The result counts only when the unit is accepted. */
static bool copy_config(const struct track *t, uint32_t id, struct config *c)
{
    uint32_t n = t->config_count < CONFIGS_LOOKED_AT ? t->config_count : CONFIGS_LOOKED_AT;
    for (uint32_t i = 0; i < n; i++) {
        const unsigned char *e = t->configs + (uint64_t)i * t->config_size;
        if (rlx32(e + CF_ID) != id)
            continue; /* a hint only; the copy decides */
        uint32_t generation = acq32(e + CF_GENERATION);
        if (generation % 2 != 0)
            continue;
        copy_shared(c->head, e, CF_HEAD);
        c->id = get32(c->head + CF_ID);
        c->len = get32(c->head + CF_LEN);
        if (c->id != id || c->len > CONFIG_DATA_MAX)
            continue;
        copy_shared(c->data, e + CF_HEAD, c->len);
        atomic_thread_fence(memory_order_acquire);
        if (rlx32(e + CF_GENERATION) == generation)
            return true;
    }
    return false;
}

static void print_id(const char *id)
{
    printf("{\"id\":\"");
    for (; *id != '\0'; id++)
        if (*id == '"' || *id == '\\')
            printf("\\%c", *id);
        else if ((unsigned char)*id < 0x20)
            printf("\\u%04x", (unsigned)*id);
        else
            putchar(*id);
    putchar('"');
}

/* Units lost and filtered between `last` and a record `missing` + 1 further on. */
static uint64_t count_gap(struct stream *s, uint64_t missing, uint64_t filtered)
{
    uint64_t withheld = filtered > s->filtered_base ? filtered - s->filtered_base : 0;
    if (withheld > missing)
        withheld = missing;
    s->filtered += withheld;
    s->lost += missing - withheld;
    if (missing > withheld)
        s->wait_key = true;
    return missing - withheld;
}

/* §3 and §7 for a record that is not skipped: true if `unit` now holds the payload, and `c` the configuration if `fresh`. */
static bool take_unit(const struct stream *s, const unsigned char *d, struct config *c, bool *fresh)
{
    uint64_t pos = get64(d + 8), len = get32(d + 16), nals = get32(d + 108), nal_off = get32(d + 112);
    uint32_t track = get16(d + 26), config_id = get32(d + 28), index[NALS_MAX];
    *fresh = false;
    if (track >= s->track_count || pos % 64 != 0 || nals > NALS_MAX || (nals > 0 && (nal_off < len || nal_off % 4 != 0)))
        return false;
    const struct track *t = &s->tracks[track];
    uint64_t end = nals > 0 ? nal_off + 4 * nals : len, at = pos & (t->arena_len - 1);
    uint64_t limit = t->arena_len / 4 < UNIT_LEN_MAX ? t->arena_len / 4 : UNIT_LEN_MAX;
    if (end > limit || end > t->arena_len - at)
        return false;
    if (config_id != 0 && config_id != s->held[track].id)
        *fresh = copy_config(t, config_id, c);
    copy_shared(index, t->arena + at + (nals > 0 ? nal_off : 0), (size_t)(4 * nals));
    copy_shared(unit, t->arena + at, (size_t)len);
    atomic_thread_fence(memory_order_acquire);
    if (rlx64(t->reclaim_pos) > pos)
        return false;
    for (uint64_t n = 0; n < nals; n++)
        if (index[n] > len || (n > 0 && index[n] < index[n - 1]))
            return false;
    return true;
}

static void one_record(struct stream *s)
{
    static struct config c;
    unsigned char d[REC_LEN];
    copy_shared(d, s->G.base + s->G.header_len + (s->head & (s->slots - 1)) * (uint64_t)s->G.rec_size, sizeof d);
    uint64_t seq = get64(d), filtered = get64(d + 120), lost = 0;
    uint32_t flags = get32(d + 20), type = get16(d + 24), track = get16(d + 26);
    bool video = track < s->track_count && s->tracks[track].kind == TRACK_VIDEO;
    if (seq <= s->last) /* 0 before the first accepted unit */
        return;
    if (s->begun)
        lost = count_gap(s, seq - s->last - 1, filtered);
    if ((type != REC_ACCESS_UNIT && type != REC_DATA) || (video && s->wait_key && (flags & F_KEY) == 0)) {
        if (s->begun)
            s->skipped++;
    } else {
        bool fresh, ok = take_unit(s, d, &c, &fresh);
        if (ok) {
            if (fresh)
                s->held[track] = c;
            if (video)
                s->wait_key = false;
            if (!s->begun)
                s->first = seq;
            s->begun = true;
            if (!s->ever_begun)
                s->total_first = seq;
            s->ever_begun = true;
            s->accepted++;
            printed++;
            print_id(s->id);
            printf(",\"seq\":%" PRIu64 ",\"pts_ns\":%" PRId64 ",\"len\":%" PRIu32 ",\"key\":%s,\"flags\":%" PRIu32 ",\"timeline\":%" PRIu32
                   ",\"config_id\":%" PRIu32 ",\"nal_count\":%" PRIu32 ",\"lost\":%" PRIu64 ",\"crc32\":%" PRIu32 "}\n",
                   seq, (int64_t)get64(d + 40), get32(d + 16), (flags & F_KEY) != 0 ? "true" : "false", flags & ~(uint32_t)F_BACKFILL, get32(d + 48),
                   get32(d + 28), get32(d + 108), lost, crc32(unit, get32(d + 16)));
        } else {
            if (s->begun)
                s->rejected++;
            if (video)
                s->wait_key = true;
        }
    }
    if (s->begun) {
        s->last = seq;
        s->filtered_base = filtered;
    }
}

static uint64_t span(const struct stream *s, uint64_t last) { return s->begun ? last - s->first + 1 : 0; }

static void ring_ended(struct stream *s, uint32_t rstate)
{
    uint64_t final_seq = rlx64(s->G.base + G_FINAL_SEQ), final_filtered = rlx64(s->G.base + G_FINAL_FILTERED);
    uint32_t reason = rlx32(s->G.base + G_REASON);
    s->rstate = rstate > RING_ROTATED ? RING_CLOSED : rstate;
    s->reason = reason > E_LAST ? E_STREAM_CLOSED : reason;
    if (s->begun) {
        if (final_seq >= s->last) {
            count_gap(s, final_seq - s->last, final_filtered);
            s->last = final_seq;
        }
        s->expected += span(s, final_seq);
    }
    s->begun = false;
    detach(s);
    s->phase = OVER;
    if (s->rstate == RING_ROTATED && !gone) {
        s->after = final_seq;
        s->rotated = true;
        s->phase = TO_ATTACH;
        s->retry_at = 0;
    }
}

/* Reads what the ring has now; true if anything was found. */
static bool drain(struct stream *s)
{
    uint32_t end = acq32(s->G.base + G_RSTATE); /* before the tail */
    uint64_t tail = acq64(s->G.base + G_TAIL);
    bool found = tail != s->head;
    if (tail - s->head > s->slots) { /* P's bug: an end, and nothing more is counted */
        s->expected += span(s, s->last);
        s->begun = false;
        s->rstate = RING_CLOSED;
        s->reason = E_NONE;
        s->broken = true;
        detach(s);
        s->phase = OVER;
        return true;
    }
    while (s->head != tail && printed < wanted) {
        one_record(s);
        s->head++;
        store_head(s, s->head);
    }
    if (s->head == tail && end != RING_OK) {
        ring_ended(s, end);
        found = true;
    }
    return found;
}

/* ---- waiting §8.1 ------------------------------------------------------------------------------------------------ */

/* True if the whole second passed without a wake. */
static bool park(uint32_t seen, int64_t ms)
{
    volatile _Atomic uint32_t *parked = (volatile _Atomic uint32_t *)(void *)(C.base + C_PARKED);
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * 1000000};
    bool timed_out = false;
    atomic_store_explicit(parked, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    if (rlx32(S.base + S_BELL) == seen)
        timed_out = syscall(SYS_futex, S.base + S_BELL, FUTEX_WAIT, seen, &t, NULL, 0) != 0 && errno == ETIMEDOUT;
    atomic_store_explicit(parked, 0, memory_order_relaxed);
    return timed_out;
}

static void run(struct stream *all, size_t n)
{
    struct message m;
    bool last_look = false;
    while (printed < wanted) {
        uint32_t seen = acq32(S.base + S_BELL);
        bool found = false, open = false;
        int64_t sleep_ms = 1000, now = now_ms();
        for (size_t i = 0; i < n; i++) {
            struct stream *s = &all[i];
            if (s->phase == TO_ATTACH && !gone && now >= s->retry_at) {
                attach(s);
                found = true;
            }
            if (s->phase == ATTACHED)
                found |= drain(s);
            if (s->phase == TO_ATTACH && !gone && s->retry_at - now < sleep_ms)
                sleep_ms = s->retry_at > now ? s->retry_at - now : 0;
            open |= s->phase == ATTACHED || (s->phase == TO_ATTACH && !gone);
        }
        if (!open)
            return;
        if (found)
            continue;
        if (last_look)
            return; /* P is gone, and a scan after that found nothing */
        if (gone)
            last_look = true;
        else if (park(seen, sleep_ms)) {
            while (!gone && receive_now(&m))
                close_fds(&m);
            last_look = gone;
        }
    }
}

/* ---- the program ------------------------------------------------------------------------------------------------- */

int main(int argc, char **argv)
{
    char *rest = NULL;
    size_t n = argc > 3 ? (size_t)argc - 3 : 0;
    if (n > 0) {
        errno = 0;
        wanted = strtoull(argv[2], &rest, 10);
    }
    if (n == 0 || errno != 0 || rest == argv[2] || *rest != '\0' || argv[2][0] == '-' || n > SESSION_SLOTS_MAX) {
        fprintf(stderr, "usage: reader RING_SOCKET COUNT ID [ID...]\n");
        return 2;
    }
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++)
            c = (c & 1) != 0 ? (c >> 1) ^ UINT32_C(0xedb88320) : c >> 1;
        crc_table[i] = c;
    }
    struct stream *all = calloc(n, sizeof *all);
    unit = malloc(UNIT_LEN_MAX);
    if (all == NULL || unit == NULL) {
        perror("reader");
        return 2;
    }
    int code = 0;
    for (size_t i = 0; i < n; i++) {
        all[i].id = argv[3 + i];
        size_t len = strlen(all[i].id);
        if (len < 1 || len > STREAM_ID_LEN_MAX || !is_utf8((const unsigned char *)all[i].id, len)) {
            fprintf(stderr, "reader: %s: no stream id\n", all[i].id);
            code = 2;
        }
    }
    if (code == 0 && !hello(argv[1], (uint32_t)n))
        code = 1;
    if (code == 0) {
        run(all, n);
        for (size_t i = 0; i < n; i++) {
            struct stream *s = &all[i];
            if (s->phase == ATTACHED) {
                s->expected += span(s, s->last);
                detach(s);
            }
            uint64_t counted = s->accepted + s->rejected + s->skipped + s->lost + s->filtered;
            print_id(s->id);
            printf(",\"first_seq\":%" PRIu64 ",\"last_seq\":%" PRIu64 ",\"accepted\":%" PRIu64 ",\"rejected\":%" PRIu64 ",\"skipped\":%" PRIu64
                   ",\"lost\":%" PRIu64 ",\"filtered\":%" PRIu64 ",\"rstate\":%" PRIu32 ",\"reason\":%" PRIu32 "}\n",
                   s->total_first, s->ever_begun ? s->last : 0, s->accepted, s->rejected, s->skipped, s->lost, s->filtered, s->rstate, s->reason);
            if (counted != s->expected || s->failed || s->broken) {
                fprintf(stderr, "reader: %s: counted %" PRIu64 " of %" PRIu64 "%s\n", s->id, counted, s->expected,
                        s->failed ? ", refused or unusable" : "");
                code = 1;
            }
        }
        if (!gone) {
            unsigned char b[24] = {0};
            send_message(b, M_BYE, 0);
        }
        if (gone)
            fprintf(stderr, "reader: the producer is gone\n");
    }
    close_segment(&S);
    close_segment(&C);
    if (sock >= 0)
        close(sock);
    free(unit);
    free(all);
    if (fflush(stdout) != 0 || ferror(stdout))
        code = code == 0 ? 1 : code;
    return code;
}
