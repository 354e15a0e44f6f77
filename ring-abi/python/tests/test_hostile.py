"""Producers that break the rules: refused by name, nothing leaks, nothing hangs."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import unittest
from typing import Callable, List, Optional, Tuple
from unittest import mock

import vms_ring
from vms_ring import ProtocolError, Refusal, Refused, SegmentError, Session
from vms_ring import _layout as layout
from vms_ring._attachment import DROPPED, Dropped
from vms_ring._handshake import decode

from .producer import KEY, Producer, Segment, message, send

Answer = Optional[Tuple[bytes, List[int]]]


class Hostile(unittest.TestCase):
    def setUp(self) -> None:
        self.producer = Producer()
        self.addCleanup(self.producer.stop)
        self.cam = self.producer.stream("cam")

    def attach(self, timeout: float = 10) -> None:
        with Session(self.producer.path, timeout=timeout) as session:
            session.attach("cam")

    def answering(self, wanted: str, change: Callable[[bytes, List[int]], Answer]) -> None:
        self.producer.answer = lambda name, packet, fds: change(packet, fds) if name == wanted else (packet, fds)

    def test_refusals(self) -> None:
        with Session(self.producer.path) as session:
            with self.assertRaises(Refused) as caught:
                session.attach("nobody")
            self.assertEqual((caught.exception.code, caught.exception.text), (Refusal.UNKNOWN_STREAM, "no such stream"))
            self.cam.allowed = False
            with self.assertRaises(Refused) as caught:
                session.attach("cam")
            self.assertEqual((caught.exception.code, caught.exception.text), (Refusal.FORBIDDEN, "verböten"))
            self.cam.allowed = True
            session.attach("cam")
            for id in ("", "x" * 65):
                with self.assertRaises(ValueError):
                    session.attach(id)

    def test_an_unknown_refusal_is_unavailable(self) -> None:
        self.answering("attached", lambda packet, fds: (message(5, layout.REFUSED, request(packet), 99, 2, b"no"), []))
        with self.assertRaises(Refused) as caught:
            self.attach()
        self.assertEqual(caught.exception.code, Refusal.UNAVAILABLE)

    def test_wrong_numbers_of_descriptors(self) -> None:
        with NoneLeft(self) as canary:
            for name, right in (("welcome", 3), ("attached", 2)):
                for count in (0, 1, right - 1, right + 1, 4, 5, 50):
                    if count == right:
                        continue
                    self.answering(name, lambda packet, fds, count=count: (packet, [canary] * count))
                    with self.assertRaises(ProtocolError):
                        self.attach()
                # The right number, and no segments.
                self.answering(name, lambda packet, fds, right=right: (packet, [canary] * right))
                with self.assertRaises(SegmentError):
                    self.attach()
            self.answering("welcome", lambda packet, fds: (packet, fds[:2] + [canary]))
            with self.assertRaises(ProtocolError):
                self.attach()
            self.answering("attached", lambda packet, fds: (message(5, layout.REFUSED, request(packet), 1, 0, b""), [canary]))
            with self.assertRaises(ProtocolError):
                self.attach()

    def test_a_feature_that_was_granted_and_not_sent(self) -> None:
        self.answering("welcome", lambda packet, fds: (packet, fds[:2]))
        with self.assertRaises(ProtocolError):
            self.attach()
        self.answering("welcome", lambda packet, fds: (packet[:24] + b"\0" * 8 + packet[32:], fds))
        with self.assertRaises(ProtocolError):
            self.attach()
        self.answering("welcome", lambda packet, fds: (packet[:24] + b"\3" + packet[25:], fds))
        with self.assertRaises(ProtocolError):
            self.attach()
        self.answering("welcome", lambda packet, fds: (packet, fds[:2] + fds[:1]))
        with self.assertRaises(ProtocolError, msg="a notify descriptor that is no socket"):
            self.attach()

    def test_another_version(self) -> None:
        for at in (16, 18):
            self.answering("welcome", lambda packet, fds, at=at: (packet[:at] + b"\2" + packet[at + 1 :], fds))
            with self.assertRaises(ProtocolError):
                self.attach()

    def test_messages_cut_anywhere_and_long_texts(self) -> None:
        for cut in (1, 15, 16, 47):
            self.answering("welcome", lambda packet, fds, cut=cut: (packet[:cut], []))
            with self.assertRaises(ProtocolError):
                self.attach()
        long = message(5, layout.REFUSED, 2, 1, 233, b"x" * 232)
        torn = message(5, layout.REFUSED, 2, 1, 2, b"\xc3\x28")
        for packet in (long, torn):
            self.answering("attached", lambda _packet, _fds, packet=packet: (packet, []))
            with self.assertRaises(ProtocolError):
                self.attach()
        self.answering("welcome", lambda packet, fds: (packet + b"\0" * 5000, fds))
        with self.assertRaises(ProtocolError, msg="longer than a message can be"):
            self.attach()

    def test_dribble_beside_the_answer_is_passed_over(self) -> None:
        """Unknown types, other people's answers, and CLOSED come before the answer."""

        def dribble(packet: bytes, fds: List[int]) -> Answer:
            connection, canaries = self.producer.sessions[-1].connection, [canary, canary]
            send(connection, message(99, layout.BYE, 0, 0), [])
            send(connection, message(99, layout.BYE, request(packet), 0), canaries)
            send(connection, message(9, layout.CLOSED, 0, 1, 1, 1), [])
            send(connection, message(4, layout.ATTACHED, 77, 5, 0, 0, 0, 0, 0), canaries)
            return packet, fds

        with NoneLeft(self) as canary:
            self.answering("attached", dribble)
            self.attach()
            # Of what was answered to nobody the slot was given back; it is not attached, which `-1` says.
            self.producer.wait_for(lambda: -1 in self.producer.detached)

    def test_a_producer_that_only_dribbles(self) -> None:
        def dribble(packet: bytes, fds: List[int]) -> Answer:
            for _ in range(50):
                send(self.producer.sessions[-1].connection, message(99, layout.BYE, 0, 0), [])
            return None

        self.answering("attached", dribble)
        with self.assertRaises(vms_ring.RequestTimeout):
            self.attach(timeout=0.1)
        with self.assertRaises(TimeoutError):
            self.attach(timeout=0.1)

    def test_a_producer_that_hangs_up_instead(self) -> None:
        def hang_up(_packet: bytes, _fds: List[int]) -> Answer:
            self.producer.sessions[-1].connection.shutdown(socket.SHUT_RDWR)
            return None

        for name in ("welcome", "attached"):
            self.answering(name, hang_up)
            with self.assertRaises(vms_ring.ProducerGone):
                self.attach()

    def test_bye_is_the_end(self) -> None:
        with Session(self.producer.path) as session:
            session.attach("cam")
            self.cam.publish(b"x", KEY)
            send(self.producer.sessions[-1].connection, message(10, layout.BYE, 0, 0), [])
            self.assertIsNotNone(session.next(10))
            with self.assertRaises(vms_ring.ProducerGone):
                session.next(10)

    def test_a_slot_that_is_given_twice_or_is_none(self) -> None:
        with Session(self.producer.path) as session:
            session.attach("cam")
            for slot, error in ((0, ProtocolError), (8, SegmentError), (100_000, SegmentError), (2**32 - 1, SegmentError)):
                put = struct.pack("<I", slot)
                self.answering("attached", lambda packet, fds, put=put: (packet[:16] + put + packet[20:], fds))
                with self.assertRaises(error):
                    session.attach("cam")

    def test_records_that_are_never_for_the_caller(self) -> None:
        with Session(self.producer.path) as session:
            stream = session.attach("cam")
            taken = 0

            def take() -> Dropped:
                nonlocal taken
                taken += 1
                self.assertLess(taken, 1_000_000)
                return DROPPED

            with mock.patch.object(stream._attachment, "take", take):
                self.assertIsNone(session.next(timeout=0.01))
            self.assertGreater(taken, 1_000)

    def test_the_tables_of_a_session(self) -> None:
        def swap(packet: bytes, fds: List[int]) -> Answer:
            mine = self.producer.sessions[-1]
            struct.pack_into("<II", mine.segment.map, 48, *session)
            struct.pack_into("<II", mine.cursor.map, 48, *cursor)
            mine.segment.words32[64 // 4] = slots
            return packet, fds

        self.answering("welcome", swap)
        for session, cursor, slots in (((256, 4), (256, 8), 8), ((260, 12), (256, 64), 4), ((256, 4), (256, 8), 480)):
            with Session(self.producer.path):
                pass
        cases = [
            ("session", (256, 0), (256, 8), 8), ("session", (256, 2), (256, 8), 8), ("session", (256, 6), (256, 8), 8),
            ("session", (258, 4), (256, 8), 8), ("session", (256, 2**32 - 4), (256, 8), 8), ("session", (256, 16), (256, 8), 241),
            ("cursor", (256, 4), (256, 0), 8), ("cursor", (256, 4), (256, 4), 8), ("cursor", (256, 4), (256, 12), 8),
            ("cursor", (256, 4), (260, 8), 8), ("cursor", (256, 4), (256, 8), 481), ("session", (256, 4), (256, 8), 2**32 - 1),
        ]
        for name, session, cursor, slots in cases:
            with self.subTest(session=session, cursor=cursor, slots=slots), self.assertRaises(SegmentError) as caught:
                Session(self.producer.path)
            self.assertEqual((caught.exception.segment, caught.exception.why), (name, "table"))

    def test_segments_that_break_a_rule(self) -> None:
        def header(at: int, value: int, form: str) -> Callable[[Segment], None]:
            return lambda segment: struct.pack_into(form, segment.map, at, value)

        rules = [
            ("magic", header(0, 1, "<Q")), ("major", header(8, 2, "<H")), ("features", header(32, 1, "<Q")), ("kind", header(12, 5, "<I")),
            ("size", header(16, 1 << 40, "<Q")), ("size", header(48, 2**32 - 1, "<I")),
        ]
        stream = [
            ("table", header(64, 5, "<I")), ("table", header(68, 248, "<I")), ("table", header(68, 260, "<I")), ("table", header(72, 1 << 40, "<Q")),
            ("table", header(72, 2**64 - 8, "<Q")), ("table", header(72, 257, "<Q")), ("table", header(264, 4097, "<Q")),
            ("table", header(264, 1 << 40, "<Q")), ("table", header(272, 3 << 14, "<Q")), ("table", header(272, 1 << 41, "<Q")),
            ("table", header(272, 0, "<Q")), ("table", header(280, 1 << 40, "<Q")), ("table", header(288, 2**32 - 1, "<I")),
            ("table", header(292, 4088, "<I")), ("table", header(16, 4096, "<Q")),
        ]
        ring = [
            ("table", header(64, 3, "<I")), ("table", header(64, 0, "<I")), ("table", header(64, 256, "<I")), ("table", header(52, 120, "<I")),
            ("table", header(52, 132, "<I")), ("table", header(48, 260, "<I")), ("table", header(52, 2**32 - 8, "<I")),
        ]
        for place, name, cases in ((0, "stream", rules + stream), (1, "ring", rules + ring)):
            for why, change in cases:
                self.broken(place, name, why, change)
        self.assertEqual(self.producer.detached.count(0), len(rules) * 2 + len(stream) + len(ring), "what cannot be used is detached")

    def broken(self, place: int, name: str, why: str, change: Callable[[Segment], None]) -> None:
        self.cam.new_segment()

        def swap(packet: bytes, fds: List[int]) -> Answer:
            segment = self.cam.segment if place == 0 else list(self.producer.sessions[-1].rings.values())[-1].segment
            change(segment)
            return packet, fds

        self.answering("attached", swap)
        count = len(self.producer.detached)
        with Session(self.producer.path) as session, self.assertRaises(SegmentError) as caught:
            session.attach("cam")
        self.assertEqual((caught.exception.segment, caught.exception.why), (name, why))
        self.producer.wait_for(lambda: len(self.producer.detached) > count)

    def test_files_that_are_no_sealed_segments(self) -> None:
        unsealed = Segment(1, 4096, 256, 0, 1)
        half = Segment(1, 4096, 256, 0, 1, seals=1 | 2 | 4)
        short = Segment(1, 4096, 256, 0, 1)
        os.ftruncate(short.fd, 60)
        empty = Segment(1, 4096, 256, 0, 1)
        os.ftruncate(empty.fd, 0)
        pipe = os.pipe()
        for end in pipe:
            self.addCleanup(os.close, end)
        with open(os.devnull) as device:
            cases = [
                (unsealed.fd, "seals"), (half.seal(), "seals"), (short.seal(), "magic"), (empty.seal(), "magic"), (pipe[0], "seals"),
                (device.fileno(), "seals"),
            ]
            for fd, why in cases:
                self.answering("attached", lambda packet, fds, fd=fd: (packet, [fd, fds[1]]))
                with self.assertRaises(SegmentError) as caught:
                    self.attach()
                self.assertEqual((caught.exception.segment, caught.exception.why), ("stream", why))
            for place, name in enumerate(("session", "cursor")):
                self.answering("welcome", lambda packet, fds, place=place: (packet, fds[:place] + [unsealed.fd] + fds[place + 1 :]))
                with self.assertRaises(SegmentError) as caught:
                    self.attach()
                self.assertEqual((caught.exception.segment, caught.exception.why), (name, "seals"))

    def test_any_bytes_are_a_message_or_an_error(self) -> None:
        for packet in (b"", b"\0" * 15, b"\0" * 16, b"\xff" * 4096):
            with self.assertRaises(vms_ring.BadMessage):
                decode(packet)
        attach = bytearray(message(3, layout.ATTACH, 1, 3, 6, 0, 0, 1, 0, 0, 0, 8, b"cam"))
        with self.assertRaises(vms_ring.BadMessage):
            decode(bytes(attach))
        attach[20] = 5
        self.assertEqual(decode(bytes(attach)).request, 1)
        attach[4:8] = struct.pack("<I", len(attach) - 1)
        with self.assertRaises(vms_ring.BadMessage, msg="the message is the packet's first `length` bytes"):
            decode(bytes(attach))

    def test_received_descriptors_do_not_leak_into_children(self) -> None:
        before, real, seen = inheritable_descriptors(), fcntl.fcntl, []

        def spy(fd: int, command: int, argument: int = 0) -> int:
            seen.append(os.get_inheritable(fd))
            return real(fd, command, argument)

        with mock.patch.object(fcntl, "fcntl", spy), Session(self.producer.path) as session:
            session.attach("cam")
            self.assertEqual(inheritable_descriptors(), before)
        self.assertIn(False, seen)
        self.assertNotIn(True, seen, "not even before they are mapped")


def request(packet: bytes) -> int:
    """The number in a packet."""
    return int(struct.unpack_from("<I", packet, 8)[0])


class NoneLeft:
    """A descriptor of which no copy must be left: then the other end of its pipe has ended."""

    def __init__(self, test: unittest.TestCase) -> None:
        self.test = test
        self.read, self.write = os.pipe()

    def __enter__(self) -> int:
        return self.write

    def __exit__(self, *_: object) -> None:
        os.close(self.write)
        os.set_blocking(self.read, False)
        try:
            self.test.assertEqual(os.read(self.read, 1), b"")
        except BlockingIOError:
            self.test.fail("a received descriptor was left open")
        finally:
            os.close(self.read)


def inheritable_descriptors() -> List[int]:
    """What a child of this process would get."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.get_inheritable(int(name)):
                found.append(int(name))
        except OSError:
            # The listing's own.
            pass
    return sorted(found)
