/* Spoils segments and messages at random and reads them. What it gives out must be in bounds; what it touches ends at a guard.
 *
 *     fuzz STREAM RING SEED TIMES          (dumps of a stream segment and of a descriptor ring)
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* Mappings of the reader end at pages that nobody may touch, so that one byte too far is a fault. */
static size_t pages_of(size_t len)
{
    return (len + 4095) / 4096 * 4096;
}

static void *guarded_mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset)
{
    unsigned char *base = (unsigned char *)mmap(NULL, pages_of(len) + 2 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    (void)at;
    return base == MAP_FAILED ? MAP_FAILED : mmap(base + 4096, len, protection, flags | MAP_FIXED, fd, offset);
}

static int guarded_munmap(void *base, size_t len)
{
    return munmap((unsigned char *)base - 4096, pages_of(len) + 2 * 4096);
}

#define mmap guarded_mmap
#define munmap guarded_munmap
#include "vms_ring.h"
#undef mmap
#undef munmap

struct dump {
    unsigned char *bytes;
    size_t len;
};

/* What came of the tries: a run that never opens anything would prove nothing. */
struct found {
    unsigned long opened, accepted, rejected, skipped, lost, broken, ended, messages;
};

static uint64_t state;

static uint64_t next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static uint64_t below(uint64_t limit)
{
    return next() % limit;
}

static void check(int holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "fuzz: %s\n", what);
    abort();
}

static struct dump load(const char *path)
{
    struct dump dump;
    FILE *file = fopen(path, "rb");
    check(file != NULL && fseek(file, 0, SEEK_END) == 0, path);
    dump.len = (size_t)ftell(file);
    rewind(file);
    dump.bytes = (unsigned char *)malloc(dump.len);
    check(dump.bytes != NULL && fread(dump.bytes, 1, dump.len, file) == dump.len, path);
    fclose(file);
    return dump;
}

/* A number that programs stumble over. */
static uint64_t strange(const struct dump *dump)
{
    switch (below(9)) {
    case 0: return 0;
    case 1: return UINT64_MAX - below(9);
    case 2: return UINT64_C(1) << below(64);
    case 3: return (UINT64_C(1) << below(64)) - 1;
    case 4: return dump->len - below(300);
    case 5: return dump->len + below(300);
    case 6: return below(5000);
    case 7: return UINT32_MAX - below(5000);
    default: return next();
    }
}

/* Writes one to three fields, of one to eight bytes, mostly where tables and records stand. */
static void spoil(unsigned char *bytes, const struct dump *dump)
{
    uint64_t n;
    for (n = below(4); n > 0; n--) {
        size_t len = (size_t)1 << below(4);
        size_t reach = below(8) == 0 ? dump->len : dump->len < 1024 ? dump->len : 1024;
        size_t at = (size_t)below(reach - 8) / len * len;
        uint64_t value = strange(dump);
        memcpy(bytes + at, &value, len);
    }
}

/* A unit elsewhere in its arena, of another length: often near the arena's end, where the segment may end too. */
static void spoil_record(unsigned char *ring)
{
    size_t record = 256 + (size_t)below(16) * sizeof(struct vms_ring_record);
    uint64_t pos = below(4) * 65536 + (below(2) == 0 ? 65536 - 64 * (1 + below(20)) : 64 * below(1024));
    uint32_t len = (uint32_t)below(2000), fields[2];
    memcpy(ring + record + offsetof(struct vms_ring_record, pos), &pos, sizeof pos);
    memcpy(ring + record + offsetof(struct vms_ring_record, len), &len, sizeof len);
    fields[0] = (uint32_t)below(300);
    fields[1] = (len + 3) / 4 * 4;
    if (below(2) == 0)
        fields[0] = 0;
    memcpy(ring + record + offsetof(struct vms_ring_record, nal_count), fields, sizeof fields);
}

/* A configuration of another length. Entries begin at the second page, a page each. */
static void spoil_config(unsigned char *stream)
{
    uint32_t len = VMS_RING_CONFIG_DATA_MAX - 5 + (uint32_t)below(10);
    memcpy(stream + 4096 * (1 + below(3)) + offsetof(struct vms_ring_config_header, len), &len, sizeof len);
}

/* A sealed file with a spoilt copy of the dump. */
static int file_of(const struct dump *dump, unsigned char *copy, void (*spoil_more)(unsigned char *))
{
    size_t len = dump->len;
    int fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    memcpy(copy, dump->bytes, dump->len);
    if (below(2) == 0)
        spoil(copy, dump);
    if (below(2) == 0)
        spoil_more(copy);
    if (below(16) == 0)
        len = (size_t)below(len / 8 + 1) * 8;
    check(fd >= 0 && write(fd, copy, len) == (ssize_t)len, "no file");
    check(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) == 0, "no seals");
    return fd;
}

static void check_unit(const struct vms_ring_buffer *buffer, const struct vms_ring_taken *taken)
{
    unsigned sum = 0;
    uint32_t n;
    check(taken->record.len <= VMS_RING_UNIT_LEN_MAX && taken->record.nal_count <= VMS_RING_NALS_PER_UNIT_MAX, "limits");
    for (n = 0; n < taken->record.len; n++)
        sum += buffer->payload[n];
    for (n = 0; n < taken->record.nal_count; n++)
        check(buffer->nal_ends[n] <= taken->record.len, "an end of a NAL unit");
    check(sum < UINT32_MAX, "touched");
}

static void read_all(struct vms_ring_attachment *attachment, struct vms_ring_buffer *buffer, struct found *found)
{
    struct vms_ring_taken taken;
    struct vms_ring_status status;
    int took, records;
    for (records = 0; records < 2000; records++) {
        took = vms_ring_attachment_take(attachment, buffer, &taken);
        check(took >= 0, "an error that take does not have");
        if (took == VMS_RING_TAKE_UNIT)
            check_unit(buffer, &taken);
        if (took <= 0 || took == VMS_RING_TAKE_ENDED)
            break;
    }
    check(records < 2000, "a ring of 1024 records does not end");
    vms_ring_attachment_status(attachment, &status);
    check(status.state <= VMS_RING_STREAM_STATE_CLOSED, "the state");
    found->broken += took == VMS_RING_TAKE_ENDED && taken.error == VMS_RING_E_RING;
    found->ended += took == VMS_RING_TAKE_ENDED && taken.error == 0;
    found->accepted += attachment->counting.counts.accepted > 0;
    found->rejected += attachment->counting.counts.rejected > 0;
    found->skipped += attachment->counting.counts.skipped > 0;
    found->lost += attachment->counting.counts.lost > 0;
}

static void try_segments(const struct dump *stream, const struct dump *ring, unsigned char *copy, struct vms_ring_buffer *buffer,
                         struct found *found)
{
    struct vms_ring_attachment attachment;
    uint64_t head = 0, resumed_after = strange(stream);
    uint32_t failed = 0;
    int stream_fd = file_of(stream, copy, spoil_config), ring_fd = file_of(ring, copy, spoil_record);
    int error = vms_ring_attachment_open(&attachment, stream_fd, ring_fd, &head, below(4) == 0 ? &resumed_after : NULL,
                                         below(4) == 0, &failed);
    close(stream_fd);
    close(ring_fd);
    if (error == 0) {
        found->opened++;
        read_all(&attachment, buffer, found);
    } else {
        check(error <= VMS_RING_E_SEALS && error >= VMS_RING_E_TABLE, "an error that open does not have");
        check(failed == VMS_RING_SEGMENT_KIND_STREAM || failed == VMS_RING_SEGMENT_KIND_DESCRIPTOR_RING, "which segment");
    }
    vms_ring_attachment_close(&attachment);
}

static void try_message(struct found *found)
{
    union vms_ring_any_message message;
    size_t n, len = (size_t)below(400);
    uint32_t type = (uint32_t)below(12), size = (uint32_t)(below(4) == 0 ? next() : len);
    /* As large as the packet, so that one byte too far is seen. */
    unsigned char *packet = (unsigned char *)malloc(len + (len == 0));
    int decoded;
    check(packet != NULL, "no memory");
    for (n = 0; n < len; n++)
        packet[n] = (unsigned char)(below(3) == 0 ? next() : 0);
    if (len >= 8) {
        memcpy(packet, &type, 4);
        memcpy(packet + 4, &size, 4);
    }
    decoded = vms_ring_message_decode(packet, len, &message);
    check(decoded > 0 || (decoded <= VMS_RING_E_SHORT && decoded >= VMS_RING_E_FIELD), "an error that decode does not have");
    if (decoded == VMS_RING_MESSAGE_REFUSED)
        check(message.refused.text_len <= sizeof message.refused.text, "a text that is too long");
    found->messages += decoded > 0;
    free(packet);
}

int main(int argc, char **argv)
{
    struct dump stream, ring;
    struct vms_ring_buffer buffer;
    struct found found;
    unsigned char *copy;
    long n, times;
    if (argc != 5)
        return 2;
    stream = load(argv[1]);
    ring = load(argv[2]);
    state = strtoull(argv[3], NULL, 10) | 1;
    times = atol(argv[4]);
    copy = (unsigned char *)malloc(stream.len > ring.len ? stream.len : ring.len);
    check(copy != NULL, "no memory");
    memset(&buffer, 0, sizeof buffer);
    memset(&found, 0, sizeof found);
    for (n = 0; n < times; n++) {
        try_segments(&stream, &ring, copy, &buffer, &found);
        try_message(&found);
    }
    printf("{\"opened\":%lu,\"accepted\":%lu,\"rejected\":%lu,\"skipped\":%lu,\"lost\":%lu,", found.opened, found.accepted,
           found.rejected, found.skipped, found.lost);
    printf("\"broken\":%lu,\"ended\":%lu,\"messages\":%lu}\n", found.broken, found.ended, found.messages);
    vms_ring_buffer_free(&buffer);
    free(copy);
    free(stream.bytes);
    free(ring.bytes);
    return 0;
}
