"""A producer in another process that never waits: what is accepted is whole, though much is overwritten while it is copied."""

from __future__ import annotations

import os
import signal
import socket
import time
import unittest
from typing import Tuple

from vms_ring._attachment import Attachment, TakenUnit
from vms_ring._counting import Counting

from .producer import Ring, Session, Stream

LENGTH = 12_000
WANTED = 300
"""Units rejected, of which some were torn, and units accepted."""


class Lapping(unittest.TestCase):
    def test_nothing_torn_is_accepted(self) -> None:
        ours, theirs = socket.socketpair()
        session, stream = Session(theirs, 8, False, 1), Stream("cam", 1, 1)
        ring = Ring(session, 0, stream, 4)
        stream.rings.append(ring)
        attachment = Attachment(stream.segment.seal(), ring.segment.seal(), session.cursor.words, 256 // 8, Counting(), False, True)
        child = os.fork()
        if child == 0:
            self.publish_for_ever(stream)
        try:
            accepted, torn = self.read(attachment)
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            attachment.close()
            ours.close()
            theirs.close()
        self.assertGreaterEqual(accepted, WANTED)
        self.assertGreaterEqual(attachment.counting.rejected, WANTED)
        self.assertGreater(torn, 0, "the naive reader saw none torn: this proves nothing here")

    @staticmethod
    def publish_for_ever(stream: Stream) -> None:
        parent = os.getppid()
        try:
            while os.getppid() == parent:
                stream.publish(bytes([stream.last_seq % 251]) * LENGTH)
                stream.units.clear()
        finally:
            os._exit(1)

    def read(self, attachment: Attachment) -> Tuple[int, int]:
        """Reads until enough was accepted and rejected; how many copies of rejected units were torn."""
        accepted = torn = 0
        shared, copies = attachment._stream.mapping.map, [b""]

        class Spy:
            """Keeps what was copied last."""

            def __getitem__(self, part: slice) -> bytes:
                copies[0] = shared[part]
                return copies[0]

        attachment._stream.mapping.map = Spy()  # type: ignore[assignment]
        deadline = time.monotonic() + 60
        while accepted < WANTED or attachment.counting.rejected < WANTED or not torn:
            self.assertLess(time.monotonic(), deadline, (accepted, attachment.counting.counts(), torn))
            rejected = attachment.counting.rejected
            taken = attachment.take()
            if isinstance(taken, TakenUnit):
                self.assertEqual(taken.payload, taken.payload[:1] * LENGTH, "torn")
                accepted += 1
            elif attachment.counting.rejected > rejected and copies[0] != copies[0][:1] * LENGTH:
                torn += 1
        attachment._stream.mapping.map = shared
        return accepted, torn
