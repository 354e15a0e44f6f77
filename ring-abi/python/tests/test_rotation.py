"""Rotation (SPEC.md §9.3) and reading on across restarts."""

from __future__ import annotations

import os
import shutil
import tempfile
import unittest
from typing import List

import vms_ring
from vms_ring import Ended, Filter, ReaderClass, Reconnected, Restarted, Rotated, Session, Unit
from vms_ring._layout import RingState

from .producer import KEY, Producer


class Rotation(unittest.TestCase):
    def setUp(self) -> None:
        self.producer = Producer()
        self.addCleanup(self.producer.stop)
        self.cam = self.producer.stream("cam")

    def attach(self, filters: Filter = Filter(0), slots: int = 8) -> None:
        self.producer.slots = slots
        self.session = Session(self.producer.path)
        self.addCleanup(self.session.close)
        self.stream = self.session.attach("cam", from_=vms_ring.OLDEST, reader_class=ReaderClass.ARCHIVE, filters=filters)

    def unit(self, seq: int) -> Unit:
        event = self.session.next(10)
        assert isinstance(event, Unit), event
        self.assertEqual((event.seq, event.payload), (seq, self.cam.units[seq - 1].payload))
        return event

    def rotated(self) -> Rotated:
        event = self.session.next(10)
        assert isinstance(event, Rotated), event
        self.assertTrue(event.stream is self.stream and self.stream.attached)
        return event

    def test_a_stream_goes_on_in_another_segment(self) -> None:
        for slots in (8, 1):
            self.setUp()
            self.attach(slots=slots)
            self.cam.configure(1, b"sets")
            self.cam.publish(b"one", KEY)
            self.cam.rotate()
            self.cam.configure(1, b"sets")
            self.cam.publish(b"two")
            self.assertTrue(self.unit(1).config_changed)
            event = self.rotated()
            self.assertEqual((event.resumed, event.epoch, event.counts.accepted), (True, 1000, 1))
            self.assertFalse(self.unit(2).config_changed, "the same as before: counts and configurations go on")
            self.cam.close()
            ended = self.session.next(10)
            assert isinstance(ended, Ended)
            self.assertEqual(ended.counts, vms_ring.Counts(1, 2, 2, 0, 0, 0, 0))
            self.producer.wait_for(lambda: len(self.producer.detached) == 2)
            self.assertNotIn(-1, self.producer.detached)

    def test_filtered_goes_on(self) -> None:
        self.attach(Filter.KEYFRAMES_ONLY)
        for flags in (KEY, 0, 0):
            self.cam.publish(b"x", flags)
        self.cam.rotate()
        for flags in (0, KEY):
            self.cam.publish(b"x", flags)
        self.assertEqual(self.unit(1).filtered, 0)
        self.rotated()
        unit = self.unit(5)
        self.assertEqual((unit.filtered, unit.lost), (3, 0))
        self.assertEqual(self.stream.counts(), vms_ring.Counts(1, 5, 2, 0, 0, 0, 3))

    def test_who_waits_for_a_keyframe_still_does(self) -> None:
        self.attach()
        self.cam.publish(b"k", KEY)
        self.unit(1)
        self.cam.publish(b"lost", ring=False)
        self.cam.rotate()
        self.cam.publish(b"depends on it")
        self.cam.publish(b"k", KEY)
        self.rotated()
        self.unit(4)
        self.assertEqual(self.stream.counts(), vms_ring.Counts(1, 4, 2, 0, 1, 1, 0))

    def test_what_the_new_segment_no_longer_has_is_lost(self) -> None:
        self.attach()
        self.cam.publish(b"k", KEY)
        self.unit(1)
        self.cam.rotate()
        self.cam.publish(b"gone", KEY)
        self.cam.publish(b"gone")
        self.cam.retained_from = 3
        self.cam.publish(b"k", KEY)
        self.assertFalse(self.rotated().resumed)
        self.assertEqual(self.unit(4).lost, 2)

    def test_another_epoch_begins_anew(self) -> None:
        self.attach()
        self.cam.publish(b"k", KEY)
        self.unit(1)
        self.producer.stream("cam", epoch=2000).publish(b"new", KEY)
        self.cam.rotate()
        event = self.rotated()
        self.assertEqual((event.resumed, event.epoch, event.counts.accepted), (False, 2000, 1))
        self.cam = self.producer.streams["cam"]
        self.assertEqual((self.unit(1).epoch, self.stream.counts().last_seq), (2000, 1))

    def test_access_that_was_withdrawn(self) -> None:
        self.attach()
        self.cam.allowed = False
        self.cam.rotate()
        event = self.session.next(10)
        assert isinstance(event, Ended) and event.refusal is not None
        self.assertEqual((event.state, event.refusal.code), (RingState.ROTATED, vms_ring.Refusal.FORBIDDEN))
        self.assertFalse(self.stream.attached)
        cam = self.producer.stream("cam2")
        units = vms_ring.attach(self.producer.path, "cam2", timeout=10)
        cam.allowed = False
        cam.rotate()
        with self.assertRaises(vms_ring.Refused):
            next(units)


class Restarts(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        self.path = os.path.join(directory, "ring.sock")

    def start(self, epoch: int = 1000) -> Producer:
        producer = Producer(path=self.path)
        self.addCleanup(producer.stop)
        self.cam = producer.stream("cam", epoch)
        return producer

    def test_it_goes_on_where_it_was(self) -> None:
        with vms_ring.reconnecting(self.path, ["cam"], from_=vms_ring.OLDEST) as events:
            self.assertIsNone(events.next(0.05), "there is no producer yet")
            self.assertIsInstance(events.last_error, OSError)
            producer = self.start()
            for flags in (KEY, 0, 0):
                self.cam.publish(b"x", flags)
            self.assertEqual(self.seqs(events, 3), [1, 2, 3])
            producer.stop()
            self.assertIsNone(events.next(0.01))
            self.assertIsInstance(events.last_error, (vms_ring.ProducerGone, OSError))
            self.start()
            for flags in (KEY, 0, 0, 0):
                self.cam.publish(b"x", flags)
            event = events.next(10)
            assert isinstance(event, Reconnected), event
            self.assertEqual((event.resumed, event.epoch, event.stream.id), (True, 1000, "cam"))
            self.assertEqual(self.seqs(events, 1), [4])

    def test_another_epoch_is_said(self) -> None:
        producer = self.start()
        self.cam.publish(b"x", KEY)
        with vms_ring.reconnecting(self.path, ["cam"]) as events:
            self.assertEqual(self.seqs(events, 1), [1])
            producer.stop()
            self.start(2000).streams["cam"].publish(b"y", KEY)
            event = events.next(10)
            assert isinstance(event, Restarted), event
            self.assertEqual((event.before, event.epoch), (1000, 2000))
            self.assertEqual(self.seqs(events, 1), [1])

    def test_streams_come_and_go(self) -> None:
        producer = self.start()
        with vms_ring.reconnecting(self.path, ["cam", "late"]) as events:
            self.cam.publish(b"x", KEY)
            self.assertEqual(self.seqs(events, 1), [1], "cam is read although late is not there")
            producer.stream("late").publish(b"x", KEY)
            self.assertEqual(self.seqs(events, 1), [1])
            self.cam.close()
            self.assertIsInstance(events.next(10), Ended)
            producer.stream("cam", 3000).publish(b"x", KEY)
            self.assertIsInstance(events.next(10), Restarted)
            self.assertEqual(self.seqs(events, 1), [1])
            self.cam = producer.streams["cam"]
            self.cam.allowed = False
            self.cam.end(1, 3)
            self.assertIsInstance(events.next(10), Ended)
            with self.assertRaises(vms_ring.Refused, msg="time will not help"):
                events.next(10)

    def seqs(self, events: vms_ring.Reconnecting, count: int) -> List[int]:
        found = []
        for _ in range(count):
            event = events.next(10)
            assert isinstance(event, Unit), event
            found.append(event.seq)
        return found
