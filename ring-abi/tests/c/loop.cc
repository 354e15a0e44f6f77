// A reader in C++17 with an event loop: waits by poll on the notify descriptor, prints "SEQ LEN" of each unit.
//
//     loop SOCKET ID...
#include <cstdio>
#include <vector>

#include "vms_ring.h"

namespace {

struct Session {
    vms_ring_reader reader{};
    int open = 0;
    ~Session() { vms_ring_close(&reader); }
};

int fail(const char *what, int error)
{
    std::fprintf(stderr, "loop: %s: %s\n", what, vms_ring_strerror(error));
    return 1;
}

// Takes all there is: false when it is over.
bool take(Session &session)
{
    vms_ring_event event;
    for (;;) {
        int found = vms_ring_next(&session.reader, 0, &event);
        if (found == VMS_RING_EVENT_UNIT) {
            vms_ring_status status;
            const auto *configuration = vms_ring_configuration_of(&session.reader, event.stream, event.record.track);
            vms_ring_status_of(&session.reader, event.stream, &status);
            std::printf("%llu %u %u %s\n", static_cast<unsigned long long>(event.record.seq), event.record.len,
                        configuration == nullptr ? 0 : configuration->width, status.last_seq >= event.record.seq ? "ok" : "wrong");
        } else if (found == VMS_RING_EVENT_ENDED) {
            vms_ring_counts counts;
            if (vms_ring_detach(&session.reader, event.stream, &counts) != 0 || !vms_ring_counts_balance(&counts))
                std::puts("wrong counts");
            if (--session.open == 0)
                return false;
        } else {
            std::fflush(stdout);
            return found == VMS_RING_EVENT_TIMEOUT;
        }
    }
}

} // namespace

int main(int argc, char **argv)
{
    Session session;
    vms_ring_options options;
    vms_ring_join join;
    if (argc < 3)
        return 2;
    vms_ring_options_init(&options);
    options.name = "loop with a näme that is longer than its place";
    options.features = VMS_RING_FEATURE_NOTIFY_FD;
    int error = vms_ring_connect(&session.reader, argv[1], &options);
    if (error != 0)
        return fail("connect", error);
    vms_ring_join_init(&join, VMS_RING_CLASS_ARCHIVE, VMS_RING_FROM_OLDEST);
    for (int n = 2; n < argc; n++) {
        int stream = vms_ring_attach(&session.reader, argv[n], &join, nullptr);
        if (stream < 0)
            return fail(argv[n], stream);
        session.open++;
    }
    if (vms_ring_notify_fd(&session.reader) < 0)
        return fail("no notify descriptor", 0);
    // The producer may ring again behind our back, but not for ever: a descriptor that is never quiet is a loop that never sleeps.
    for (int calls = 0; take(session); calls++) {
        pollfd item{};
        item.fd = vms_ring_notify_fd(&session.reader);
        item.events = POLLIN;
        if (poll(&item, 1, 0) == 0) {
            calls = 0;
            poll(&item, 1, 20000);
        } else if (calls > 1000) {
            return fail("the descriptor is never quiet", 0);
        }
    }
    std::puts(session.open == 0 ? "done" : "gone");
    return 0;
}
