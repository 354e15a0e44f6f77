/* Opens session after session at a socket and says what came of each in a line; for producers that break the rules.
 *
 *     probe SOCKET TIMES
 */
#include "vms_ring.h"

#include <dirent.h>
#include <stdio.h>

/* Descriptors of this process. */
static int open_descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");
    int count = 0;
    while (directory != NULL && readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}

static void read_stream(struct vms_ring_reader *reader)
{
    struct vms_ring_event event;
    int found, n;
    fputs("attached", stdout);
    for (n = 0; n < 10000; n++) {
        found = vms_ring_next(reader, 0, &event);
        if (found == VMS_RING_EVENT_UNIT)
            printf(" %llu", (unsigned long long)event.record.seq);
        else
            break;
    }
    if (found == VMS_RING_EVENT_ENDED)
        printf(" ended: %s\n", vms_ring_strerror(event.error));
    else
        puts(found == VMS_RING_EVENT_TIMEOUT ? " nothing" : found == VMS_RING_EVENT_GONE ? " gone" : " error");
}

static void try_once(const char *path)
{
    struct vms_ring_reader reader;
    struct vms_ring_options options;
    struct vms_ring_join join;
    int error;
    vms_ring_options_init(&options);
    options.request_timeout_ms = 300;
    error = vms_ring_connect(&reader, path, &options);
    if (error != 0) {
        printf("connect: %s %s\n", vms_ring_strerror(error), vms_ring_refusal_text(&reader));
    } else {
        vms_ring_join_init(&join, VMS_RING_CLASS_ARCHIVE, VMS_RING_FROM_OLDEST);
        error = vms_ring_attach(&reader, "cam", &join, NULL);
        if (error < 0)
            printf("attach: %s %s\n", vms_ring_strerror(error), vms_ring_refusal_text(&reader));
        else
            read_stream(&reader);
    }
    vms_ring_close(&reader);
    vms_ring_close(&reader);
}

int main(int argc, char **argv)
{
    int n, before;
    if (argc != 3)
        return 2;
    before = open_descriptors();
    for (n = 0; n < atoi(argv[2]); n++) {
        try_once(argv[1]);
        if (open_descriptors() != before) {
            puts("a descriptor was left open");
            return 1;
        }
        fflush(stdout);
    }
    return 0;
}
