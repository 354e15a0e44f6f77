/* Reads one stream for ever, as fast as it goes: the C reader of `./tools/bench ring`. Usage: read SOCKET STREAM */
#include "vms_ring.h"

#include <stdio.h>

int main(int argc, char **argv)
{
    struct vms_ring_reader reader;
    struct vms_ring_join join;
    struct vms_ring_event event;
    int error = argc == 3 ? vms_ring_connect(&reader, argv[1], NULL) : -EINVAL;
    if (error < 0) {
        fprintf(stderr, "%s\n", vms_ring_strerror(error));
        return 1;
    }
    vms_ring_join_init(&join, VMS_RING_CLASS_ARCHIVE, VMS_RING_FROM_KEYFRAME);
    error = vms_ring_attach(&reader, argv[2], &join, NULL);
    while (error >= 0 && error != VMS_RING_EVENT_ENDED && error != VMS_RING_EVENT_GONE)
        error = vms_ring_next(&reader, -1, &event);
    vms_ring_close(&reader);
    return error < 0;
}
