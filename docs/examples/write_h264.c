/* Writes a stream to a file, from a keyframe on: write_h264 RING_SOCKET ID FILE [SECONDS]
 *
 *     cc -std=c11 -O2 -I ring-abi/include -o write_h264 docs/examples/write_h264.c
 */
#include "vms_ring.h"

#include <stdio.h>

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: write_h264 RING_SOCKET ID FILE [SECONDS]\n");
        return 2;
    }
    struct vms_ring_reader reader;
    struct vms_ring_join join;
    int error = vms_ring_connect(&reader, argv[1], NULL);
    if (error < 0) {
        fprintf(stderr, "cannot connect: %s\n", vms_ring_strerror(error));
        return 1;
    }
    FILE *file = fopen(argv[3], "wb");
    vms_ring_join_init(&join, VMS_RING_CLASS_ARCHIVE, VMS_RING_FROM_KEYFRAME);
    int stream = file == NULL ? -errno : vms_ring_attach(&reader, argv[2], &join, NULL);
    if (stream < 0) {
        fprintf(stderr, "cannot begin: %s %s\n", vms_ring_strerror(stream), vms_ring_refusal_text(&reader));
        return 1;
    }
    const time_t until = argc > 4 ? time(NULL) + atoi(argv[4]) : 0;
    int failed = 0;
    while (!failed && (until == 0 || time(NULL) < until)) {
        struct vms_ring_event event;
        int kind = vms_ring_next(&reader, 1000, &event);
        if (kind == VMS_RING_EVENT_UNIT) {
            /* Parameter sets may have come in the camera's SDP only; before a keyframe a decoder takes them twice. */
            const struct vms_ring_configuration *sets = vms_ring_configuration_of(&reader, stream, event.record.track);
            if (sets != NULL && (event.record.flags & VMS_RING_FLAG_KEY))
                failed = fwrite(sets->data, 1, sets->len, file) != sets->len;
            failed |= fwrite(event.payload, 1, event.record.len, file) != event.record.len;
            if (event.lost > 0)
                fprintf(stderr, "%llu units are missing before %llu\n", (unsigned long long)event.lost,
                        (unsigned long long)event.record.seq);
        } else if (kind != VMS_RING_EVENT_TIMEOUT) {
            break; /* the stream, the producer or this reader has ended */
        }
    }
    failed |= fclose(file) != 0;
    vms_ring_close(&reader);
    if (failed)
        perror("cannot write");
    return failed;
}
