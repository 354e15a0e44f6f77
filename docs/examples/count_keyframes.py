"""Counts the keyframes of some streams for a while: count_keyframes.py RING_SOCKET SECONDS ID..."""

import collections
import sys
import time

import vms_ring

path, seconds, *ids = sys.argv[1:]
keyframes: collections.Counter[str] = collections.Counter()
with vms_ring.Session(path, name="count_keyframes") as session:
    for stream_id in ids:
        session.attach(stream_id)
    until = time.monotonic() + float(seconds)
    while (left := until - time.monotonic()) > 0:
        event = session.next(timeout=left)
        if isinstance(event, vms_ring.Unit):
            keyframes[event.stream.id] += event.key
        elif isinstance(event, vms_ring.Ended):
            print(f"{event.stream.id} ended: {event.reason.name}", file=sys.stderr)
for stream_id in ids:
    print(stream_id, keyframes[stream_id])
