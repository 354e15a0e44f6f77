/* Replays a vector (ring-abi/vectors/NAME.txt) and prints what a reader makes of it, a line of JSON an event.
 *
 *     cc -std=c11 -O2 -I../include -o replay replay.c
 *     ./replay NAME.txt | diff - NAME.jsonl
 *
 * Lines of a script (vectors/README.md); one that begins with # is a comment:
 *     size stream|ring N           the segment's file has N bytes, all 0, sealed
 *     unsealed stream|ring N SEAL  ... without this one seal, or without any if none is named
 *     at stream|ring OFFSET HEX    (OFFSET in hexadecimal) these bytes now stand there
 *     attach resumed_after=N everything=0|1     options of the attachment, before the first take
 *     take                         open at the first, then read until nothing is left
 *     message HEX                  decode this packet
 */
#define _GNU_SOURCE /* memfd_create */
#include "vms_ring_core.h"
#include "vms_ring_message.h"

#include <stdio.h>

#include "text.h"

/* Bytes that a line of a script may have. */
#define LINE_MAX_LEN (16u << 20)

/* A segment's file, which the script writes through a mapping that was there before the seals. */
struct file {
    const char *name;
    int fd; /* -1: the script has not given its size */
    unsigned char *base;
    size_t len;
    int missing_seals;
};

struct replay {
    struct file stream, ring;
    struct vms_ring_attachment attachment;
    struct vms_ring_buffer buffer;
    uint64_t head_word;
    int is_open, refused;
    int everything, is_resumed;
    uint64_t resumed_after;
    unsigned line;
    struct crc32 crc;
};

static void fail(const struct replay *replay, const char *what)
{
    fprintf(stderr, "replay: line %u: %s\n", replay->line, what);
    exit(2);
}

/* ------------------------------------------------------------------------------------------------ events */

static void print_refusal(uint32_t kind, int error)
{
    const char *why = error == VMS_RING_E_SEALS      ? "seals"
                      : error == VMS_RING_E_MAGIC    ? "magic"
                      : error == VMS_RING_E_MAJOR    ? "major"
                      : error == VMS_RING_E_FEATURES ? "features"
                      : error == VMS_RING_E_KIND     ? "kind"
                      : error == VMS_RING_E_SIZE     ? "size"
                                                     : "table";
    printf("{\"event\":\"refused\",\"segment\":\"%s\",\"why\":\"%s\"}\n",
           kind == VMS_RING_SEGMENT_KIND_STREAM ? "stream" : "ring", why);
}

static void print_configuration(const struct replay *replay, uint32_t track)
{
    const struct vms_ring_configuration *c = &replay->attachment.tracks[track].config;
    printf("{\"event\":\"configuration\",\"track\":%" PRIu32 ",\"id\":%" PRIu32 ",\"codec\":%" PRIu32 ",\"profile\":%" PRIu32,
           track, c->id, c->codec, c->profile);
    printf(",\"level\":%" PRIu32 ",\"width\":%" PRIu32 ",\"height\":%" PRIu32 ",\"fps_num\":%" PRIu32 ",\"fps_den\":%" PRIu32,
           c->level, c->width, c->height, c->fps_num, c->fps_den);
    printf(",\"len\":%" PRIu32 ",\"crc32\":%" PRIu32 "}\n", c->len, crc32_of(&replay->crc, c->data, c->len));
}

static void print_unit(const struct replay *replay, const struct vms_ring_taken *taken)
{
    const struct vms_ring_record *r = &taken->record;
    uint32_t n;
    printf("{\"event\":\"unit\",\"seq\":%" PRIu64 ",\"pos\":%" PRIu64 ",\"len\":%" PRIu32 ",\"flags\":%" PRIu32, r->seq, r->pos,
           r->len, r->flags);
    printf(",\"record_type\":%u,\"track\":%u,\"config_id\":%" PRIu32 ",\"media_ticks\":%" PRId64 ",\"pts_ns\":%" PRId64,
           r->record_type, r->track, r->config_id, r->media_ticks, r->pts_ns);
    printf(",\"timeline\":%" PRIu32 ",\"lost_packets\":%" PRIu32 ",\"key_seq\":%" PRIu64 ",\"recv_mono_ns\":%" PRIu64,
           r->timeline, r->lost_packets, r->key_seq, r->recv_mono_ns);
    printf(",\"pub_mono_ns\":%" PRIu64 ",\"wall_utc_ns\":%" PRId64 ",\"wall_err_us\":%" PRIu32 ",\"clock_source\":%u",
           r->pub_mono_ns, r->wall_utc_ns, r->wall_err_us, r->clock_source);
    printf(",\"rtp_ts\":%" PRIu32 ",\"ssrc\":%" PRIu32 ",\"first_rtp_seq\":%u,\"last_rtp_seq\":%u,\"nal_ends\":[", r->rtp_ts,
           r->ssrc, r->first_rtp_seq, r->last_rtp_seq);
    for (n = 0; n < r->nal_count; n++)
        printf(n == 0 ? "%" PRIu32 : ",%" PRIu32, replay->buffer.nal_ends[n]);
    printf("],\"duration_ticks\":%" PRIu32 ",\"filtered\":%" PRIu64 ",\"lost\":%" PRIu64 ",\"crc32\":%" PRIu32 "}\n",
           r->duration_ticks, r->filtered, taken->lost, crc32_of(&replay->crc, replay->buffer.payload, r->len));
}

static void print_end(const struct vms_ring_taken *taken)
{
    static const char *const states[] = {"ok", "evicted", "closed", "rotated"};
    static const char *const reasons[] = {"none", "stream_closed", "detached", "bad_cursor", "quota", "revoked"};
    printf("{\"event\":\"ended\",\"rstate\":\"%s\",\"reason\":\"%s\"}\n", states[taken->ring_state], reasons[taken->reason]);
}

static void print_counts(const struct vms_ring_attachment *attachment)
{
    static const char *const states[] = {"pending", "live", "stalled", "closed"};
    const struct vms_ring_counts *c = &attachment->counting.counts;
    struct vms_ring_status status;
    vms_ring_attachment_status(attachment, &status);
    printf("{\"event\":\"counts\",\"first_seq\":%" PRIu64 ",\"last_seq\":%" PRIu64 ",\"accepted\":%" PRIu64, c->first_seq,
           c->last_seq, c->accepted);
    printf(",\"rejected\":%" PRIu64 ",\"skipped\":%" PRIu64 ",\"lost\":%" PRIu64 ",\"filtered\":%" PRIu64, c->rejected,
           c->skipped, c->lost, c->filtered);
    printf(",\"state\":\"%s\",\"timeline\":%" PRIu32 ",\"stream_last_seq\":%" PRIu64 "}\n", states[status.state],
           status.timeline, status.last_seq);
}

/* ------------------------------------------------------------------------------------------------ take */

/* The script has described the file: now it is what a reader would get. */
static void seal(const struct replay *replay, const struct file *file)
{
    int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;
    if (file->fd < 0)
        fail(replay, "take before both sizes");
    if (fcntl(file->fd, F_ADD_SEALS, seals & ~file->missing_seals) != 0)
        fail(replay, strerror(errno));
}

static void open_attachment(struct replay *replay)
{
    const uint64_t *resumed_after = replay->is_resumed ? &replay->resumed_after : NULL;
    uint32_t failed = 0;
    int error;
    replay->is_open = 1;
    seal(replay, &replay->stream);
    seal(replay, &replay->ring);
    error = vms_ring_attachment_open(&replay->attachment, replay->stream.fd, replay->ring.fd, &replay->head_word,
                                     resumed_after, replay->everything, &failed);
    if (error > -10000 && error < 0)
        fail(replay, strerror(-error));
    replay->refused = error != 0;
    if (error != 0)
        print_refusal(failed, error);
}

static void take(struct replay *replay)
{
    struct vms_ring_taken taken;
    int took;
    if (!replay->is_open)
        open_attachment(replay);
    if (replay->refused)
        return;
    do {
        took = vms_ring_attachment_take(&replay->attachment, &replay->buffer, &taken);
        if (took == VMS_RING_TAKE_UNIT && taken.config_changed)
            print_configuration(replay, taken.record.track);
        if (took == VMS_RING_TAKE_UNIT)
            print_unit(replay, &taken);
        else if (took == VMS_RING_TAKE_ENDED)
            print_end(&taken);
        else if (took == -ENOMEM)
            fail(replay, strerror(ENOMEM));
    } while (took > VMS_RING_TAKE_EMPTY && took != VMS_RING_TAKE_ENDED);
    print_counts(&replay->attachment);
}

/* ------------------------------------------------------------------------------------------------ messages */

static void print_number(const char *name, uint64_t value)
{
    printf(",\"%s\":%" PRIu64, name, value);
}

static void print_string(const char *name, const uint8_t *text, uint32_t len)
{
    printf(",\"%s\":", name);
    print_text(stdout, text, len);
}

/* `from_epoch` and `from_arg` count only where `from` has them; bits that nobody knows count nowhere. */
static void print_attach(const struct vms_ring_attach *m)
{
    int after = m->from_kind == VMS_RING_FROM_AFTER, preroll = m->from_kind == VMS_RING_FROM_PREROLL;
    print_number("from_kind", m->from_kind);
    print_number("from_epoch", after ? m->from_epoch : 0);
    print_number("from_arg", after || preroll ? m->from_arg : 0);
    print_number("reader_class", m->reader_class);
    print_number("filters", m->filters & 7);
    print_number("tracks", m->tracks);
    print_number("lag_max_ns", m->lag_max_ns);
    print_number("ring_slots", m->ring_slots);
    print_string("id", m->id, m->id_len);
}

static void print_fields(const union vms_ring_any_message *m)
{
    switch (m->head.type) {
    case VMS_RING_MESSAGE_HELLO:
        print_number("major", m->hello.major);
        print_number("minor_min", m->hello.minor_min);
        print_number("minor_max", m->hello.minor_max);
        print_number("features", m->hello.features);
        print_number("slots", m->hello.slots);
        print_number("bell_interval_us", m->hello.bell_interval_us);
        print_string("name", m->hello.name, m->hello.name_len);
        print_string("token", m->hello.token, m->hello.token_len);
        break;
    case VMS_RING_MESSAGE_WELCOME:
        print_number("major", m->welcome.major);
        print_number("minor", m->welcome.minor);
        print_number("slots", m->welcome.slots);
        print_number("features", m->welcome.features);
        print_number("daemon_epoch", m->welcome.daemon_epoch);
        print_number("bell_interval_us", m->welcome.bell_interval_us);
        break;
    case VMS_RING_MESSAGE_ATTACH:
        print_attach(&m->attach);
        break;
    case VMS_RING_MESSAGE_ATTACHED:
        print_number("slot", m->attached.slot);
        print_number("flags", m->attached.flags & VMS_RING_ATTACHED_FLAG_RESUMED);
        print_number("stream_uid", m->attached.stream_uid);
        print_number("epoch", m->attached.epoch);
        print_number("first_seq", m->attached.first_seq);
        print_number("last_seq", m->attached.last_seq);
        break;
    case VMS_RING_MESSAGE_REFUSED:
        print_number("code", m->refused.code);
        print_string("text", m->refused.text, m->refused.text_len);
        break;
    case VMS_RING_MESSAGE_BYE:
        print_number("reason", m->bye.reason);
        break;
    default: /* DETACH, DETACHED, EVICTED, CLOSED begin alike */
        print_number("slot", m->detach.slot);
        if (m->head.type == VMS_RING_MESSAGE_EVICTED || m->head.type == VMS_RING_MESSAGE_CLOSED) {
            print_number("reason", m->evicted.reason);
            print_number("last_seq", m->evicted.last_seq);
        }
    }
}

static void print_message(const unsigned char *bytes, size_t len)
{
    static const char *const types[] = {"",         "hello",  "welcome",  "attach",  "attached", "refused",
                                        "detach", "detached", "evicted", "closed", "bye"};
    union vms_ring_any_message message;
    int type = vms_ring_message_decode(bytes, len, &message);
    if (type < 0) {
        const char *why = type == VMS_RING_E_SHORT ? "short" : type == VMS_RING_E_UNKNOWN ? "unknown" : "field";
        printf("{\"event\":\"bad_message\",\"why\":\"%s\"}\n", why);
        return;
    }
    printf("{\"event\":\"message\",\"type\":\"%s\"", types[type]);
    print_number("request", message.head.request);
    print_fields(&message);
    puts("}");
}

/* ------------------------------------------------------------------------------------------------ the script */

static struct file *file_of(struct replay *replay, const char *name)
{
    if (name != NULL && strcmp(name, "stream") == 0)
        return &replay->stream;
    if (name != NULL && strcmp(name, "ring") == 0)
        return &replay->ring;
    fail(replay, "expected stream or ring");
    return NULL;
}

/* The seal that is missing, by its name; all of them without one. */
static int seal_of(const struct replay *replay, const char *name)
{
    if (name == NULL)
        return ~0;
    if (strcmp(name, "shrink") == 0)
        return F_SEAL_SHRINK;
    if (strcmp(name, "grow") == 0)
        return F_SEAL_GROW;
    if (strcmp(name, "future_write") == 0)
        return F_SEAL_FUTURE_WRITE;
    if (strcmp(name, "seal") == 0)
        return F_SEAL_SEAL;
    fail(replay, "expected a seal's name");
    return 0;
}

static uint64_t number_of(const struct replay *replay, const char *text, int base)
{
    char *end = NULL;
    unsigned long long number = 0;
    errno = 0;
    if (text != NULL)
        number = strtoull(text, &end, base);
    if (text == NULL || end == text || *end != '\0' || *text == '-' || errno != 0)
        fail(replay, "expected a number");
    return number;
}

static void make_file(const struct replay *replay, struct file *file, uint64_t len)
{
    void *base;
    if (file->fd >= 0)
        fail(replay, "the size was given before");
    file->fd = memfd_create(file->name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    file->len = (size_t)len;
    if (file->fd < 0 || ftruncate(file->fd, (off_t)len) != 0)
        fail(replay, strerror(errno));
    base = mmap(NULL, file->len == 0 ? 1 : file->len, PROT_READ | PROT_WRITE, MAP_SHARED, file->fd, 0);
    if (base == MAP_FAILED)
        fail(replay, strerror(errno));
    file->base = (unsigned char *)base;
}

static int digit_of(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    return digit >= 'A' && digit <= 'F' ? digit - 'A' + 10 : -1;
}

/* Hexadecimal text as bytes, in place; how many. */
static size_t bytes_of(const struct replay *replay, char *text)
{
    size_t n, len = text == NULL ? 0 : strlen(text);
    if (len % 2 != 0)
        fail(replay, "expected an even number of hexadecimal digits");
    for (n = 0; n < len / 2; n++) {
        int high = digit_of(text[2 * n]), low = digit_of(text[2 * n + 1]);
        if (high < 0 || low < 0)
            fail(replay, "expected hexadecimal digits");
        text[n] = (char)(high << 4 | low);
    }
    return len / 2;
}

static void attach_options(struct replay *replay, char *option)
{
    if (replay->is_open)
        fail(replay, "attach behind take");
    for (; option != NULL; option = strtok(NULL, " \t\r\n")) {
        if (strncmp(option, "resumed_after=", 14) == 0) {
            replay->is_resumed = 1;
            replay->resumed_after = number_of(replay, option + 14, 10);
        } else if (strncmp(option, "everything=", 11) == 0) {
            replay->everything = number_of(replay, option + 11, 10) != 0;
        } else {
            fail(replay, "unknown option of attach");
        }
    }
}

static void run_line(struct replay *replay, char *line)
{
    char *word, *argument;
    word = strtok(line, " \t\r\n");
    if (word == NULL || *word == '#')
        return;
    argument = strtok(NULL, " \t\r\n");
    if (strcmp(word, "size") == 0) {
        make_file(replay, file_of(replay, argument), number_of(replay, strtok(NULL, " \t\r\n"), 10));
    } else if (strcmp(word, "unsealed") == 0) {
        struct file *file = file_of(replay, argument);
        make_file(replay, file, number_of(replay, strtok(NULL, " \t\r\n"), 10));
        file->missing_seals = seal_of(replay, strtok(NULL, " \t\r\n"));
    } else if (strcmp(word, "at") == 0) {
        struct file *file = file_of(replay, argument);
        uint64_t offset = number_of(replay, strtok(NULL, " \t\r\n"), 16);
        char *bytes = strtok(NULL, " \t\r\n");
        size_t len = bytes_of(replay, bytes);
        if (offset > file->len || len > file->len - offset)
            fail(replay, "these bytes are outside of the segment");
        if (len > 0)
            memcpy(file->base + offset, bytes, len);
    } else if (strcmp(word, "attach") == 0) {
        attach_options(replay, argument);
    } else if (strcmp(word, "take") == 0) {
        take(replay);
    } else if (strcmp(word, "message") == 0) {
        size_t len = bytes_of(replay, argument);
        print_message((const unsigned char *)argument, len);
    } else {
        fail(replay, "unknown word");
    }
}

int main(int argc, char **argv)
{
    static struct replay replay;
    FILE *script;
    char *line;
    if (argc != 2 || (script = fopen(argv[1], "r")) == NULL) {
        fputs("usage: replay FILE.txt\n", stderr);
        return 2;
    }
    line = (char *)malloc(LINE_MAX_LEN);
    if (line == NULL)
        return 2;
    crc32_init(&replay.crc);
    replay.stream.name = "stream";
    replay.ring.name = "ring";
    replay.stream.fd = replay.ring.fd = -1;
    while (fgets(line, LINE_MAX_LEN, script) != NULL) {
        replay.line++;
        run_line(&replay, line);
    }
    free(line);
    fclose(script);
    vms_ring_attachment_close(&replay.attachment);
    vms_ring_buffer_free(&replay.buffer);
    return fflush(stdout) == 0 ? 0 : 2;
}
