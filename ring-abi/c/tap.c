/* Reads streams from the rings of a running vms-media and prints a line of JSON for each unit, as `vms-tap --json` does.
 *
 *     cc -std=c11 -O2 -I../include -o tap tap.c
 *     ./tap --ring-socket /run/vms-media/ring.sock door yard --from keyframe --count 100
 *
 * Exit status: 0 when it read what was asked for, 1 when something failed or the producer has gone, 2 for a wrong command.
 */
#include "vms_ring.h"

#include <signal.h>
#include <stdio.h>

#include "text.h"

#define IDS_MAX VMS_RING_SESSION_SLOTS_MAX
/* How late a signal or a limit may be noticed. */
#define NAP_MS 100

static const char USAGE[] =
    "usage: tap [options] ID...\n"
    "  --ring-socket PATH   attach socket [$XDG_RUNTIME_DIR/vms-media/ring.sock; root: /run/vms-media/ring.sock]\n"
    "  --count N            stop after this many records, all streams taken together\n"
    "  --from WHERE         live (default), keyframe, oldest, preroll=SECONDS or after=EPOCH:SEQ\n"
    "  --duration S         stop after this long\n"
    "  --idle-exit S        stop when no record came for this long\n"
    "  --annexb FILE        write the payloads of the one stream to FILE\n"
    "  --notify             wait by the notify descriptor, if the producer grants one\n"
    "  --json               accepted for the likeness of vms-tap; records are always printed as JSON\n";

struct options {
    char socket[256];
    const char *annexb;
    struct vms_ring_join join;
    uint64_t count; /* 0: no limit */
    uint64_t duration_ns; /* 0: no limit */
    uint64_t idle_ns; /* 0: no limit */
    uint64_t features;
    const char *ids[IDS_MAX];
    int id_count;
};

/* One attached stream. */
struct stream {
    const char *id;
    int number; /* -1: its ring has ended */
    uint64_t units, bytes, keyframes, damaged;
    uint64_t last_seq, last_filtered;
    struct vms_ring_counts counts;
};

struct tap {
    struct vms_ring_reader reader;
    struct stream *streams;
    int stream_count;
    int open_count; /* streams whose ring has not ended */
    uint64_t records;
    FILE *annexb;
    uint32_t written_config; /* whose parameter sets stand in the file */
    struct crc32 crc;
};

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
    (void)number;
    stop = 1;
}

/* CLOCK_MONOTONIC. */
static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static uint64_t difference(uint64_t from, uint64_t what)
{
    return from > what ? from - what : 0;
}

/* ------------------------------------------------------------------------------------------------ options */

static int wrong(const char *what)
{
    fprintf(stderr, "tap: %s\n%s", what, USAGE);
    return 2;
}

/* Seconds as nanoseconds; 0 and *end moved for none. */
static int parse_seconds(const char *text, uint64_t *ns)
{
    char *end;
    double seconds = strtod(text, &end);
    if (end == text || *end != '\0' || !(seconds >= 0) || seconds > 1e9)
        return 0;
    *ns = (uint64_t)(seconds * 1e9);
    return 1;
}

static int parse_number(const char *text, char until, uint64_t *number, const char **rest)
{
    char *end;
    errno = 0;
    *number = strtoull(text, &end, 10);
    *rest = end + 1;
    return *text >= '0' && *text <= '9' && errno == 0 && *end == until;
}

static int parse_from(const char *text, struct vms_ring_join *join)
{
    const char *rest;
    if (strcmp(text, "live") == 0)
        join->from = VMS_RING_FROM_LIVE;
    else if (strcmp(text, "keyframe") == 0)
        join->from = VMS_RING_FROM_KEYFRAME;
    else if (strcmp(text, "oldest") == 0)
        join->from = VMS_RING_FROM_OLDEST;
    else if (strncmp(text, "preroll=", 8) == 0 && parse_seconds(text + 8, &join->from_arg))
        join->from = VMS_RING_FROM_PREROLL;
    else if (strncmp(text, "after=", 6) == 0 && parse_number(text + 6, ':', &join->from_epoch, &rest) &&
             parse_number(rest, '\0', &join->from_arg, &rest))
        join->from = VMS_RING_FROM_AFTER;
    else
        return 0;
    return 1;
}

static void default_socket(char *path, size_t size)
{
    const char *directory = geteuid() == 0 ? NULL : getenv("XDG_RUNTIME_DIR");
    snprintf(path, size, "%s/vms-media/ring.sock", directory == NULL ? "/run" : directory);
}

/* 0, or the exit status for a wrong command. */
static int parse(struct options *options, int argc, char **argv)
{
    const char *rest;
    int n;
    memset(options, 0, sizeof *options);
    default_socket(options->socket, sizeof options->socket);
    vms_ring_join_init(&options->join, VMS_RING_CLASS_ARCHIVE, VMS_RING_FROM_LIVE);
    for (n = 1; n < argc; n++) {
        const char *name = argv[n], *value = n + 1 < argc ? argv[n + 1] : NULL;
        if (strncmp(name, "--", 2) != 0) {
            if (options->id_count == IDS_MAX)
                return wrong("too many IDs");
            options->ids[options->id_count++] = name;
            continue;
        }
        if (strcmp(name, "--json") == 0)
            continue;
        if (strcmp(name, "--notify") == 0) {
            options->features = VMS_RING_FEATURE_NOTIFY_FD;
            continue;
        }
        if (value == NULL)
            return wrong("an option is unknown or lacks its value");
        n++;
        if (strcmp(name, "--ring-socket") == 0)
            snprintf(options->socket, sizeof options->socket, "%s", value);
        else if (strcmp(name, "--annexb") == 0)
            options->annexb = value;
        else if (!(strcmp(name, "--from") == 0 && parse_from(value, &options->join)) &&
                 !(strcmp(name, "--count") == 0 && parse_number(value, '\0', &options->count, &rest)) &&
                 !(strcmp(name, "--duration") == 0 && parse_seconds(value, &options->duration_ns)) &&
                 !(strcmp(name, "--idle-exit") == 0 && parse_seconds(value, &options->idle_ns)))
            return wrong("an option is unknown or its value is wrong");
    }
    if (options->id_count == 0)
        return wrong("which streams?");
    if (options->annexb != NULL && options->id_count > 1)
        return wrong("--annexb takes one stream");
    return 0;
}

/* ------------------------------------------------------------------------------------------------ output */

static void print_record(const struct stream *stream, const struct vms_ring_record *r, uint64_t gap, uint32_t crc)
{
    fputs("{\"id\":", stdout);
    print_text(stdout, (const uint8_t *)stream->id, strlen(stream->id));
    printf(",\"seq\":%" PRIu64 ",\"pts_ns\":%" PRId64 ",\"media_ticks\":%" PRId64 ",\"rtp_ts\":%" PRIu32, r->seq, r->pts_ns,
           r->media_ticks, r->rtp_ts);
    printf(",\"recv_mono_ns\":%" PRIu64 ",\"pub_mono_ns\":%" PRIu64 ",\"wall_utc_ns\":%" PRId64 ",\"len\":%" PRIu32,
           r->recv_mono_ns, r->pub_mono_ns, r->wall_utc_ns, r->len);
    printf(",\"key\":%s,\"flags\":%" PRIu32 ",\"gap\":%" PRIu64 ",\"timeline\":%" PRIu32 ",\"config_id\":%" PRIu32,
           r->flags & VMS_RING_FLAG_KEY ? "true" : "false", r->flags, gap, r->timeline, r->config_id);
    printf(",\"crc32\":%" PRIu32 ",\"lost_packets\":%" PRIu32 "}\n", crc, r->lost_packets);
}

static void print_summary(const struct tap *tap)
{
    int n;
    fputs("{\"type\":\"summary\",\"streams\":[", stdout);
    for (n = 0; n < tap->stream_count; n++) {
        const struct stream *stream = &tap->streams[n];
        const struct vms_ring_counts *counts = &stream->counts;
        fputs(n == 0 ? "{\"id\":" : ",{\"id\":", stdout);
        print_text(stdout, (const uint8_t *)stream->id, strlen(stream->id));
        printf(",\"units\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"keyframes\":%" PRIu64 ",\"lost\":%" PRIu64, stream->units,
               stream->bytes, stream->keyframes, counts->lost);
        printf(",\"rejected\":%" PRIu64 ",\"skipped\":%" PRIu64 ",\"filtered\":%" PRIu64 ",\"damaged\":%" PRIu64,
               counts->rejected, counts->skipped, counts->filtered, stream->damaged);
        printf(",\"first_seq\":%" PRIu64 ",\"last_seq\":%" PRIu64 ",\"balance\":%s}", counts->first_seq, counts->last_seq,
               vms_ring_counts_balance(counts) ? "true" : "false");
    }
    puts("]}");
}

/* 1 if a sequence parameter set stands among the NAL units. */
static int holds_parameter_sets(const unsigned char *bytes, size_t len, uint32_t codec)
{
    size_t n;
    for (n = 0; n + 3 < len; n++) {
        if (bytes[n] != 0 || bytes[n + 1] != 0 || bytes[n + 2] != 1)
            continue;
        if (codec == VMS_RING_CODEC_H264 && (bytes[n + 3] & 0x1f) == 7)
            return 1;
        if (codec == VMS_RING_CODEC_H265 && (bytes[n + 3] >> 1 & 0x3f) == 33)
            return 1;
    }
    return 0;
}

/* Adds a unit to the file, behind its parameter sets when they are new and it does not hold its own. */
static int write_annexb(struct tap *tap, const struct vms_ring_event *event)
{
    const struct vms_ring_configuration *config =
        vms_ring_configuration_of(&tap->reader, event->stream, event->record.track);
    if (config != NULL && config->id != tap->written_config) {
        tap->written_config = config->id;
        if (!holds_parameter_sets(event->payload, event->record.len, config->codec) &&
            fwrite(config->data, 1, config->len, tap->annexb) != config->len)
            return -errno;
    }
    return fwrite(event->payload, 1, event->record.len, tap->annexb) == event->record.len ? 0 : -errno;
}

/* ------------------------------------------------------------------------------------------------ reading */

static struct stream *stream_of(struct tap *tap, int number)
{
    int n;
    for (n = 0; n < tap->stream_count; n++)
        if (tap->streams[n].number == number)
            return &tap->streams[n];
    return NULL;
}

static int take_unit(struct tap *tap, const struct vms_ring_event *event)
{
    struct stream *stream = stream_of(tap, event->stream);
    const struct vms_ring_record *record = &event->record;
    uint64_t gap = 0;
    if (stream == NULL)
        return 0;
    /* Missing for whatever reason, what the producer withheld as asked aside. A number that goes back hides nothing. */
    if (stream->units > 0) {
        gap = difference(difference(record->seq, stream->last_seq), 1);
        gap = difference(gap, difference(record->filtered, stream->last_filtered));
    }
    stream->last_seq = record->seq;
    stream->last_filtered = record->filtered;
    stream->units++;
    stream->bytes += record->len;
    stream->keyframes += (record->flags & VMS_RING_FLAG_KEY) != 0;
    stream->damaged += (record->flags & VMS_RING_FLAG_DAMAGED) != 0;
    tap->records++;
    print_record(stream, record, gap, crc32_of(&tap->crc, event->payload, record->len));
    return tap->annexb == NULL ? 0 : write_annexb(tap, event);
}

static void take_end(struct tap *tap, const struct vms_ring_event *event)
{
    struct stream *stream = stream_of(tap, event->stream);
    if (stream == NULL)
        return;
    fprintf(stderr, "%s: the ring ended: state %" PRIu32 ", reason %" PRIu32 "%s%s\n", stream->id, event->ring_state,
            event->reason, event->error == 0 ? "" : ", ", event->error == 0 ? "" : vms_ring_strerror(event->error));
    stream->counts = event->counts;
    stream->number = -1;
    tap->open_count--;
    /* What the producer answers changes nothing for us. */
    (void)vms_ring_detach(&tap->reader, event->stream, NULL);
}

/* Reads until something says stop: 0 or an error. */
static int read_all(struct tap *tap, const struct options *options)
{
    const uint64_t start_ns = now();
    uint64_t last_record_ns = start_ns;
    int idle = 0, error = 0;
    while (!stop && error == 0 && tap->open_count > 0) {
        struct vms_ring_event event;
        uint64_t now_ns = now();
        if ((options->count != 0 && tap->records >= options->count) ||
            (options->duration_ns != 0 && now_ns - start_ns >= options->duration_ns) ||
            (options->idle_ns != 0 && now_ns - last_record_ns >= options->idle_ns))
            break;
        error = vms_ring_next(&tap->reader, idle ? NAP_MS : 0, &event);
        idle = error == VMS_RING_EVENT_TIMEOUT;
        if (error < 0)
            return error;
        error = 0;
        switch (event.kind) {
        case VMS_RING_EVENT_UNIT:
            error = take_unit(tap, &event);
            last_record_ns = now_ns;
            break;
        case VMS_RING_EVENT_ENDED:
            take_end(tap, &event);
            break;
        case VMS_RING_EVENT_GONE:
            return VMS_RING_E_GONE;
        default:
            /* All that was read is written out before we wait. */
            if (fflush(stdout) != 0)
                return -errno;
        }
    }
    return error;
}

/* Opens the session and attaches all streams: 0 or an error that was said. */
static int attach_all(struct tap *tap, const struct options *options)
{
    struct vms_ring_options session;
    int n, number;
    vms_ring_options_init(&session);
    session.name = "tap";
    session.slots = (uint32_t)options->id_count;
    session.features = options->features;
    number = vms_ring_connect(&tap->reader, options->socket, &session);
    if (number < 0) {
        fprintf(stderr, "tap: %s: %s %s\n", options->socket, vms_ring_strerror(number), vms_ring_refusal_text(&tap->reader));
        return number;
    }
    if (options->features != 0 && vms_ring_notify_fd(&tap->reader) < 0)
        fputs("tap: no notify descriptor was granted; waiting by the bell\n", stderr);
    for (n = 0; n < options->id_count; n++) {
        number = vms_ring_attach(&tap->reader, options->ids[n], &options->join, NULL);
        if (number < 0) {
            fprintf(stderr, "tap: %s: %s %s\n", options->ids[n], vms_ring_strerror(number),
                    vms_ring_refusal_text(&tap->reader));
            return number;
        }
        tap->streams[n].id = options->ids[n];
        tap->streams[n].number = number;
        tap->stream_count = ++tap->open_count;
    }
    return 0;
}

static int run(struct tap *tap, const struct options *options)
{
    int n, error = attach_all(tap, options);
    if (error != 0)
        return 1;
    if (options->annexb != NULL && (tap->annexb = fopen(options->annexb, "wb")) == NULL) {
        perror(options->annexb);
        return 1;
    }
    error = read_all(tap, options);
    for (n = 0; n < tap->stream_count; n++)
        if (tap->streams[n].number >= 0)
            (void)vms_ring_counts_of(&tap->reader, tap->streams[n].number, &tap->streams[n].counts);
    print_summary(tap);
    if (tap->annexb != NULL && fclose(tap->annexb) != 0 && error == 0)
        error = -errno;
    if (fflush(stdout) != 0 && error == 0)
        error = -errno;
    if (error != 0)
        fprintf(stderr, "tap: %s\n", vms_ring_strerror(error));
    return error != 0;
}

int main(int argc, char **argv)
{
    static struct options options;
    static struct tap tap;
    struct sigaction action;
    int status = parse(&options, argc, argv);
    if (status != 0)
        return status;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    crc32_init(&tap.crc);
    tap.streams = (struct stream *)calloc((size_t)options.id_count, sizeof *tap.streams);
    if (tap.streams == NULL)
        return 1;
    status = run(&tap, &options);
    vms_ring_close(&tap.reader);
    free(tap.streams);
    return status;
}
