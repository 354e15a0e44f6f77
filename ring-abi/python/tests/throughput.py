"""`python -m tests.throughput`: what it costs to read units of 20 KB, in processor time of this process. Not a test.

The ring is filled first and read then, so that the producer, which is Python, too, is not what is measured.
"""

from __future__ import annotations

import os
import statistics
import time
from typing import Callable
from unittest import mock

import vms_ring

from . import producer

LENGTH, UNITS, PASSES = 20 * 1024, 1500, 21


def measure(name: str, one_pass: Callable[[], float]) -> None:
    """The median of some passes."""
    one_pass()
    times = [one_pass() / UNITS * 1e6 for _ in range(PASSES)]
    median = statistics.median(times)
    print(f"{name:13} {median:5.1f} us a unit ({min(times):.1f} to {max(times):.1f}), {1e6 / median:7.0f} units a processor second")


def main() -> None:
    """Fills a ring, and reads it again and again."""
    with mock.patch.object(producer, "ARENA", 1 << 25):
        source = producer.Producer()
        cam = source.stream("cam")
        for number in range(UNITS):
            cam.publish(os.urandom(LENGTH), 1 if number % 25 == 0 else 0, nals=(LENGTH,))

        def copies() -> float:
            begin = time.process_time()
            for unit in cam.units:
                at = producer.ARENA_OFF + unit.fields["pos"]
                cam.segment.map[at : at + LENGTH]
            return time.process_time() - begin

        def session() -> float:
            with vms_ring.Session(source.path) as reader:
                stream = reader.attach("cam", from_=vms_ring.OLDEST, ring_slots=2048)
                begin = time.process_time()
                while reader.next(0) is not None:
                    pass
                taken = time.process_time() - begin
                assert stream.counts().accepted == UNITS
            return taken

        measure("bare copy", copies)
        measure("Session.next", session)
        source.stop()


if __name__ == "__main__":
    main()
