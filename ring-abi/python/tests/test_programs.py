"""The programs, what numpy wraps, and where the package refuses to run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import unittest
import zlib
from typing import List
from unittest import mock

import vms_ring
from vms_ring import Session, Unit, Unsupported, _memory
from vms_ring import _layout as layout

from .producer import KEY, Producer, Segment, message

SOURCES = os.path.dirname(os.path.dirname(os.path.abspath(vms_ring.__file__)))


def program(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a program of the package."""
    environment = {**os.environ, "PYTHONPATH": SOURCES, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, encoding="utf-8")


class Tap(unittest.TestCase):
    def setUp(self) -> None:
        self.producer = Producer()
        self.addCleanup(self.producer.stop)

    def tap(self, *arguments: str) -> List[str]:
        done = program("vms_ring", "tap", "--ring-socket", self.producer.path, *arguments)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout.splitlines()

    def test_lines_are_those_of_vms_tap(self) -> None:
        cam = self.producer.stream("caméra")
        cam.publish(b"abc", KEY, pub_mono_ns=10**9, recv_mono_ns=7, wall_utc_ns=-5, rtp_ts=9)
        cam.publish(b"de", 0, pub_mono_ns=2 * 10**9)
        self.producer.stream("b").publish(b"x", KEY | 8)
        lines = self.tap("caméra", "b", "--json", "--from", "oldest", "--count", "3")
        self.assertEqual(len(lines), 4)
        self.assertEqual(
            lines[0] if "caméra" in lines[0] else lines[1],
            '{"id":"caméra","seq":1,"pts_ns":40000000,"media_ticks":3600,"rtp_ts":9,"recv_mono_ns":7,"pub_mono_ns":1000000000,'
            '"wall_utc_ns":-5,"len":3,"key":true,"flags":1,"gap":0,"timeline":1,"config_id":0,"crc32":891568578,"lost_packets":0}',
        )
        self.assertEqual(
            lines[3],
            '{"type":"summary","streams":[{"id":"caméra","units":2,"bytes":5,"keyframes":1,"fps":1.0,"bitrate":16.0,"lost":0,"rejected":0,'
            '"skipped":0,"filtered":0,"damaged":0},{"id":"b","units":1,"bytes":1,"keyframes":1,"fps":0.0,"bitrate":0.0,"lost":0,'
            '"rejected":0,"skipped":0,"filtered":0,"damaged":1}]}',
        )

    def test_limits_and_gaps(self) -> None:
        cam = self.producer.stream("cam")
        for number in range(4):
            cam.publish(b"x", KEY)
        cam.units[2] = cam.units[1]
        lines = [json.loads(line) for line in self.tap("cam", "--json", "--from", "after=1000:0", "--idle-exit", "0.1")]
        self.assertEqual([(line["seq"], line["gap"]) for line in lines[:-1]], [(1, 0), (2, 0), (4, 1)])
        self.assertEqual(lines[-1]["streams"][0]["lost"], 1)
        done = program("vms_ring", "tap", "--ring-socket", self.producer.path, "cam", "--duration", "0.1")
        self.assertEqual((done.returncode, done.stdout), (0, ""), "without --json the summary goes to standard error")

    def test_errors(self) -> None:
        done = program("vms_ring", "tap", "--ring-socket", self.producer.path, "nobody")
        self.assertEqual(done.returncode, 1)
        self.assertIn("no such stream", done.stderr)
        self.assertEqual(program("vms_ring", "tap", "cam", "--from", "preroll=-1").returncode, 2)


class Replay(unittest.TestCase):
    def replay(self, *lines: str) -> List[str]:
        with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as script:
            script.write("\n".join(lines) + "\n")
            script.flush()
            done = program("vms_ring.replay", script.name)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout.splitlines()

    def test_a_stream_with_a_configuration(self) -> None:
        producer = Producer()
        self.addCleanup(producer.stop)
        cam = producer.stream("cam")
        with Session(producer.path) as session:
            session.attach("cam", from_=vms_ring.LIVE)
            ring = cam.rings[0]
            cam.configure(1, b"sets")
            cam.publish(b"payload!", KEY, nals=(8,))
            cam.close()
            script = ["# a comment", "", *dump("stream", cam.segment), *dump("ring", ring.segment), "take", "take"]
        counts = '"last_seq":1,"accepted":1,"rejected":0,"skipped":0,"lost":0,"filtered":0,"state":"closed","timeline":0,"stream_last_seq":1}'
        self.assertEqual(
            self.replay(*script),
            [
                '{"event":"configuration","track":0,"id":1,"codec":1,"profile":100,"level":40,"width":1920,"height":1080,"fps_num":25,'
                f'"fps_den":1,"len":4,"crc32":{zlib.crc32(b"sets")}}}',
                '{"event":"unit","seq":1,"pos":0,"len":8,"flags":1,"record_type":1,"track":0,"config_id":1,"media_ticks":3600,'
                '"pts_ns":40000000,"timeline":1,"lost_packets":0,"key_seq":0,"recv_mono_ns":0,"pub_mono_ns":0,"wall_utc_ns":0,'
                '"wall_err_us":0,"clock_source":0,"rtp_ts":0,"ssrc":0,"first_rtp_seq":0,"last_rtp_seq":0,"nal_ends":[8],'
                f'"duration_ticks":0,"filtered":0,"lost":0,"crc32":{zlib.crc32(b"payload!")}}}',
                '{"event":"ended","rstate":"closed","reason":"stream_closed"}',
                '{"event":"counts","first_seq":1,' + counts,
                '{"event":"counts","first_seq":1,' + counts,
            ],
        )

    def test_refusals_and_options(self) -> None:
        refused = ['{"event":"refused","segment":"stream","why":"seals"}']
        self.assertEqual(self.replay("unsealed stream 4096", "size ring 4096", "take", "take"), refused)
        refused = ['{"event":"refused","segment":"stream","why":"magic"}']
        self.assertEqual(self.replay("size stream 4096", "size ring 4096", "attach resumed_after=3 everything=1", "take"), refused)
        self.assertEqual(self.replay("size stream 0", "size ring 4096", "take"), refused)

    def test_lines_that_cannot_be_done(self) -> None:
        cases = [
            (["at ring fff 0102"], "outside of the segment"), (["at ring 1001 00"], "outside of the segment"), (["at stream"], "not understood"),
            (["at cursor 0 00"], "not understood"), (["size"], "not understood"), (["jump"], "unknown command"), (["attach a=1"], "unknown option"),
        ]
        for lines, why in cases:
            with self.subTest(lines), tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as script:
                script.write("\n".join(["size stream 4096", "size ring 4096", *lines, ""]))
                script.flush()
                done = program("vms_ring.replay", script.name)
                self.assertEqual((done.returncode, done.stdout), (2, ""))
                self.assertIn(f"{script.name}: line 3: ", done.stderr)
                self.assertIn(why, done.stderr)
                self.assertNotIn("Traceback", done.stderr)

    def test_messages(self) -> None:
        hello = message(1, layout.HELLO, 7, 1, 0, 0, 1, 4, 0, 2, 0, "é".encode(), b"")
        attach = message(3, layout.ATTACH, 1, 1, 2, 0, 0, 9, 0xFF, 1, 2, 3, b"x")
        lines = self.replay(f"message {hello.hex()}", f"message {attach.hex()}", "message 00", f"message {(b'c' + hello[1:]).hex()}")
        self.assertEqual(
            lines,
            [
                '{"event":"message","type":"hello","request":7,"major":1,"minor_min":0,"minor_max":0,"features":1,"slots":4,'
                '"bell_interval_us":0,"name":"é","token":""}',
                '{"event":"message","type":"attach","request":1,"from_kind":2,"from_epoch":0,"from_arg":0,"reader_class":1,"filters":7,'
                '"tracks":1,"lag_max_ns":2,"ring_slots":3,"id":"x"}',
                '{"event":"bad_message","why":"short"}',
                '{"event":"bad_message","why":"unknown"}',
            ],
        )


def dump(name: str, segment: Segment) -> List[str]:
    """A segment as a script's lines."""
    data = segment.map[:]
    lines = [f"size {name} {len(data)}"]
    for at in range(0, len(data), 64):
        if any(data[at : at + 64]):
            lines.append(f"at {name} {at:x} {data[at:at + 64].hex()}")
    return lines


class Machines(unittest.TestCase):
    def test_elsewhere_it_is_refused_and_the_header_named(self) -> None:
        memory = vars(_memory)
        arm = os.uname_result(("Linux", "", "", "", "aarch64"))
        with mock.patch.object(memory["os"], "uname", return_value=arm), self.assertRaisesRegex(Unsupported, r"aarch64.*vms_ring\.h"):
            Session("/nowhere")
        with mock.patch.object(memory["sys"], "maxsize", 2**31 - 1), self.assertRaisesRegex(Unsupported, "32 bits"):
            Session("/nowhere")
        other = mock.Mock()
        other.name = "pypy"
        with mock.patch.object(memory["sys"], "implementation", other), self.assertRaisesRegex(Unsupported, "pypy"):
            Session("/nowhere")


class Numpy(unittest.TestCase):
    def test_a_payload_is_wrapped_without_a_copy(self) -> None:
        try:
            import numpy
        except ImportError:
            if os.environ.get("VMS_RING_NUMPY"):
                raise
            self.skipTest("numpy is not installed")
        producer = Producer()
        self.addCleanup(producer.stop)
        producer.stream("cam").publish(b"\1\2\3", KEY, nals=(1, 3))
        with vms_ring.attach(producer.path, "cam", timeout=10) as units:
            unit: Unit = next(units)
        array = numpy.frombuffer(unit.payload, numpy.uint8)
        self.assertEqual(array.tolist(), [1, 2, 3])
        address = numpy.frombuffer(memoryview(unit.payload), numpy.uint8).__array_interface__["data"][0]
        self.assertEqual(array.__array_interface__["data"][0], address, "its memory is the payload's own")
        self.assertEqual([numpy.frombuffer(nal, numpy.uint8).tolist() for nal in unit.nals()], [[1], [2, 3]])
