"""What a reader is given: units whole, in order, accounted for."""

from __future__ import annotations

import time
import unittest
from typing import List, Optional

import vms_ring
from vms_ring import Ended, Filter, ReaderClass, Session, Stream, Unit
from vms_ring._layout import EndReason, RingState, StreamState

from .producer import KEY, Producer


def large(seq: int) -> bytes:
    """Four of them fill the arena."""
    return bytes([seq]) * 15_000


class Reading(unittest.TestCase):
    """A producer, a session and a stream `cam`."""

    notify = True

    def setUp(self) -> None:
        self.producer = Producer(notify=self.notify)
        self.addCleanup(self.producer.stop)
        self.cam = self.producer.stream("cam")
        self.session = Session(self.producer.path, name="tests")
        self.addCleanup(self.session.close)

    def archive(self, from_: vms_ring.Where = vms_ring.OLDEST, filters: Optional[Filter] = None) -> Stream:
        return self.session.attach("cam", from_=from_, reader_class=ReaderClass.ARCHIVE, filters=filters)

    def units(self) -> List[int]:
        """The seq of all units that are there."""
        found = []
        event = self.session.next(0)
        while isinstance(event, Unit):
            self.assertEqual(event.payload, self.cam.units[event.seq - 1].payload)
            found.append(event.seq)
            event = self.session.next(0)
        self.assertIsNone(event)
        return found

    def ended(self) -> Ended:
        event = self.session.next(10)
        assert isinstance(event, Ended), event
        self.assertTrue(event.counts.balance(), event.counts)
        return event


class Units(Reading):
    def test_a_unit_has_all_that_its_record_says(self) -> None:
        self.cam.configure(1, b"sps+pps")
        self.cam.publish(
            b"\0\0\0\1key\0\0\0\1x", KEY | 4 | 1 << 20, nals=(7, 12), timeline=3, lost_packets=2, key_seq=1, recv_mono_ns=5, pub_mono_ns=6,
            wall_utc_ns=-7, wall_err_us=2**32 - 1, clock_source=2, rtp_ts=8, ssrc=9, first_rtp_seq=10, last_rtp_seq=11,
            duration_ticks=12, media_ticks=-3600, pts_ns=-40,
        )
        self.archive()
        unit = self.session.next(10)
        assert isinstance(unit, Unit)
        self.assertEqual((unit.seq, unit.pos, unit.len, unit.track, unit.config_id), (1, 0, 12, 0, 1))
        self.assertEqual((unit.epoch, unit.timeline, unit.media_ticks, unit.pts_ns), (1000, 3, -3600, -40))
        self.assertEqual((unit.recv_mono_ns, unit.pub_mono_ns, unit.wall_utc_ns, unit.wall_err_us), (5, 6, -7, None))
        self.assertEqual((unit.clock_source, unit.rtp_ts, unit.ssrc, unit.duration_ticks), (2, 8, 9, 12))
        self.assertEqual((unit.first_rtp_seq, unit.last_rtp_seq, unit.lost_packets, unit.key_seq), (10, 11, 2, 1))
        self.assertEqual((unit.key, unit.damaged, unit.backfill, unit.is_video), (True, False, False, True))
        self.assertEqual((unit.lost, unit.filtered), (0, 0))
        self.assertIn(vms_ring.Flag.DISCONT, unit.flags)
        self.assertEqual(unit.record.flags, KEY | 4 | 1 << 20, "bits of later versions are not lost")
        self.assertEqual([bytes(nal) for nal in unit.nals()], [b"\0\0\0\1key", b"\0\0\0\1x"])
        config = unit.configuration
        assert config is not None and unit.config_changed
        self.assertEqual((config.id, config.codec, config.width, config.data), (1, vms_ring.Codec.H264, 1920, b"sps+pps"))

    def test_where_a_reader_enters(self) -> None:
        for flags in (KEY, 0, KEY, 0):
            self.cam.publish(b"x", flags)
        cases = [(vms_ring.OLDEST, [1, 2, 3, 4]), (vms_ring.KEYFRAME, [3, 4]), (vms_ring.LIVE, []), (vms_ring.after(1000, 3), [4])]
        for where, seqs in cases:
            stream = self.archive(where)
            self.assertEqual(self.units(), seqs, where)
            self.assertEqual(stream.resumed, where.kind == 5)
            stream.detach()
        self.assertEqual(self.producer.detached, [0] * 4, "each head was 0 before DETACH")
        self.assertEqual([bytes(a.id[: a.id_len]) for a in self.producer.attaches], [b"cam"] * 4)

    def test_what_is_asked_for_is_sent(self) -> None:
        self.session.attach(
            "cam", from_=vms_ring.preroll(1.5), filters=Filter.KEYFRAMES_ONLY | Filter.EVERYTHING, tracks=5, lag_max=0.25, ring_slots=64
        )
        self.session.attach("cam")
        first, second = self.producer.attaches
        self.assertEqual((first.from_kind, first.from_arg, first.reader_class, first.filters), (4, 1_500_000_000, 1, 5))
        self.assertEqual((first.tracks, first.lag_max_ns, first.ring_slots), (5, 250_000_000, 64))
        self.assertEqual((second.from_kind, second.filters, second.tracks), (2, 2, 2**64 - 1))
        hello = self.producer.hellos[0]
        self.assertEqual((hello.major, hello.features, hello.name[: hello.name_len]), (1, 1, b"tests"))

    def test_a_configuration_is_told_when_it_changes(self) -> None:
        stream = self.archive(vms_ring.LIVE)
        told = []
        for id, data in ((1, b"a"), (1, b"a"), (2, b"bb"), (1, b"a")):
            self.cam.configure(id, data)
            self.cam.publish(b"x", KEY)
            unit = self.session.next(10)
            assert isinstance(unit, Unit) and unit.configuration is not None
            told.append((unit.config_changed, unit.configuration.data))
        self.assertEqual(told, [(True, b"a"), (False, b"a"), (True, b"bb"), (True, b"a")])
        self.cam.configure(3, b"c", generation=7)
        self.cam.publish(b"x", KEY)
        unit = self.session.next(10)
        assert isinstance(unit, Unit)
        self.assertEqual((unit.config_changed, unit.configuration), (False, None), "half written: a unit all the same")
        self.cam.configure(4, b"c", len=4033)
        self.cam.publish(b"x", KEY)
        unit = self.session.next(10)
        assert isinstance(unit, Unit) and unit.configuration is None
        known = stream.configuration(0)
        assert known is not None and known.id == 1 and stream.configuration(1) is None and stream.configuration(9) is None

    def test_status_is_what_the_stream_says(self) -> None:
        stream = self.archive()
        self.assertEqual(stream.status().state, StreamState.PENDING)
        self.cam.publish(b"x", KEY)
        self.cam.segment.words32[168 // 4] = 9
        self.assertEqual((stream.status().state, stream.status().last_seq, stream.status().reason), (StreamState.LIVE, 1, 9))
        self.cam.segment.words32[128 // 4] = 99
        self.assertEqual(stream.status().state, StreamState.STALLED, "unknown: treat as stalled")
        stream.detach()
        self.assertEqual(stream.status().reason, 9, "what it said last")


class Losses(Reading):
    def test_lapped_units_are_rejected_and_video_waits_for_a_keyframe(self) -> None:
        stream = self.archive(vms_ring.LIVE)
        self.cam.publish(large(1), KEY)
        self.assertEqual(self.units(), [1])
        for seq in range(2, 8):
            self.cam.publish(large(seq), KEY if seq == 7 else 0)
        self.assertEqual(self.units(), [7])
        counts = stream.counts()
        self.assertEqual((counts.accepted, counts.rejected, counts.skipped, counts.lost), (2, 1, 4, 0), "who waits looks at no bytes")

    def test_who_asked_for_everything_waits_for_nothing(self) -> None:
        stream = self.archive(vms_ring.LIVE, Filter.EVERYTHING)
        self.cam.publish(large(1))
        self.assertEqual(self.units(), [1])
        for seq in range(2, 8):
            self.cam.publish(large(seq))
        self.assertEqual(self.units(), [4, 5, 6, 7])
        self.assertEqual((stream.counts().rejected, stream.counts().skipped), (2, 0))

    def test_the_edge_of_what_may_be_read(self) -> None:
        self.archive(vms_ring.LIVE, Filter.EVERYTHING)
        pos = [self.cam.publish(b"x" * 100, KEY).fields["pos"] for _ in range(3)][1]
        self.cam.reclaim(0, pos)
        self.assertEqual(self.units(), [2, 3], "reclaim_pos may stand at the unit's own position")
        pos = self.cam.publish(b"y", KEY).fields["pos"]
        self.cam.reclaim(0, pos + 1)
        self.assertEqual(self.units(), [])

    def test_a_copy_that_was_overwritten_meanwhile_is_not_given_out(self) -> None:
        stream = self.archive(vms_ring.LIVE, Filter.EVERYTHING)
        self.cam.publish(large(1), KEY)
        mapping = stream._attachment._stream.mapping
        shared, torn = mapping.map, []

        class Slow:
            """Copies one half, lets the producer lap, copies the other."""

            def __getitem__(this, part: slice) -> bytes:
                half = (part.start + part.stop) // 2
                first = shared[part.start : half]
                for seq in range(2, 6):
                    self.cam.publish(large(seq), ring=False)
                torn.append(first + shared[half : part.stop])
                return torn[-1]

        mapping.map = Slow()  # type: ignore[assignment]
        event = self.session.next(0)
        mapping.map = shared
        self.assertIsNone(event)
        self.assertEqual(len(set(torn[0])), 2, "the naive reader would have been given two halves")
        self.assertEqual(stream.counts().accepted, 0)

    def test_gaps_are_seen_by_whatever_record(self) -> None:
        for missing in ("video", "data", "unknown", "bad track"):
            stream = self.archive(vms_ring.LIVE)
            first = self.cam.publish(b"k", KEY).fields["seq"]
            self.assertEqual(self.units(), [first])
            self.cam.publish(b"lost", ring=False)
            if missing == "data":
                self.cam.publish(b"d", track=1)
            elif missing == "unknown":
                self.cam.publish(b"d", record_type=9)
            elif missing == "bad track":
                fields = self.cam.publish(b"d", ring=False).fields
                self.cam.rings[0].push(**{**fields, "track": 7})
            self.cam.publish(b"depends on what was lost")
            self.cam.publish(b"k", KEY)
            seqs = self.units()
            self.assertEqual(seqs[-1], len(self.cam.units), missing)
            self.assertNotIn(len(self.cam.units) - 1, seqs, missing)
            counts = stream.counts()
            self.assertEqual(counts.lost, 1, missing)
            self.assertTrue(counts.balance(), (missing, counts))
            stream.detach()

    def test_lost_units_are_told_with_the_next(self) -> None:
        self.archive(vms_ring.LIVE, Filter.EVERYTHING)
        self.cam.publish(b"k", KEY)
        self.session.next(10)
        for _ in range(3):
            self.cam.publish(b"lost", ring=False)
        self.cam.publish(b"x")
        unit = self.session.next(10)
        assert isinstance(unit, Unit)
        self.assertEqual((unit.seq, unit.lost), (5, 3))

    def test_what_is_filtered_is_not_lost(self) -> None:
        self.archive(vms_ring.LIVE, Filter.KEYFRAMES_ONLY)
        for flags in (KEY, 0, 0, KEY, 0):
            self.cam.publish(b"x", flags)
        self.assertEqual(self.units(), [1, 4])
        self.cam.close()
        counts = self.ended().counts
        self.assertEqual((counts.accepted, counts.lost, counts.filtered, counts.last_seq), (2, 0, 3, 5))

    def test_a_resumed_reader_counts_from_where_it_was(self) -> None:
        for _ in range(3):
            self.cam.publish(b"x", KEY)
        stream = self.archive(vms_ring.after(1000, 2))
        self.cam.publish(b"lost", ring=False)
        self.cam.publish(b"x")
        self.assertEqual(self.units(), [3])
        self.assertEqual(stream.counts(), vms_ring.Counts(3, 5, 1, 0, 1, 1, 0))

    def test_a_seq_that_does_not_increase_is_passed_over(self) -> None:
        stream = self.archive(vms_ring.LIVE)
        self.cam.publish(b"x", KEY)
        self.cam.rings[0].push(**self.cam.units[0].fields)
        self.cam.publish(b"x")
        self.assertEqual(self.units(), [1, 2])
        self.assertEqual(stream.counts().accepted, 2)

    def test_records_that_cannot_be_are_rejected(self) -> None:
        bad = [
            {"pos": 65}, {"len": 16_385}, {"len": 2**32 - 1}, {"nal_count": 1025, "nal_off": 4}, {"nal_count": 1, "nal_off": 6},
            {"nal_count": 1, "nal_off": 0}, {"nal_count": 1, "nal_off": 2**32 - 4}, {"pos": 2**16 - 64, "len": 65}, {"track": 2}, {"track": 65535},
        ]
        for fields in bad:
            stream = self.archive(vms_ring.LIVE)
            self.cam.publish(b"good", KEY)
            self.cam.rings[0].push(**{**self.cam.publish(b"bad!", KEY, ring=False).fields, **fields})
            self.cam.publish(b"good", KEY)
            self.assertEqual(len(self.units()), 2, fields)
            self.assertEqual(stream.counts().rejected, 1, fields)
            stream.detach()

    def test_an_index_that_cannot_be_is_rejected(self) -> None:
        stream = self.archive(vms_ring.LIVE)
        for nals in ((3, 2, 4), (5,), (2**32 - 1,), (4, 4), ()):
            self.cam.publish(b"four", KEY, nals=nals)
        self.assertEqual(self.units(), [4, 5])
        self.assertEqual(stream.counts().rejected, 0, "nothing counts before the first accepted one")


class Ends(Reading):
    def test_a_stream_that_ends(self) -> None:
        self.archive()
        self.cam.publish(b"x", KEY)
        self.cam.publish(b"lost", ring=False)
        self.cam.close()
        events = list(self.session)
        self.assertEqual([type(event) for event in events], [Unit, Ended])
        ended = events[1]
        assert isinstance(ended, Ended)
        self.assertEqual((ended.state, ended.reason), (RingState.CLOSED, EndReason.STREAM_CLOSED))
        self.assertEqual(ended.counts, vms_ring.Counts(1, 2, 1, 0, 0, 1, 0))
        self.assertFalse(ended.stream.attached)
        self.assertEqual(ended.stream.status().state, StreamState.CLOSED)
        self.producer.wait_for(lambda: self.producer.detached == [0])

    def test_numbers_of_later_versions(self) -> None:
        self.archive()
        self.cam.end(99, 99)
        ended = self.ended()
        self.assertEqual((ended.state, ended.reason), (RingState.CLOSED, EndReason.STREAM_CLOSED))

    def test_a_tail_that_cannot_be_ends_the_ring(self) -> None:
        for tail in (129, 2**64 - 1):
            self.archive()
            ring = self.cam.rings[-1]
            ring.segment.words[128 // 8] = tail
            ring.session.tails(ring.slot, tail)
            ended = self.ended()
            self.assertEqual((ended.state, ended.reason, ended.counts.last_seq), (RingState.CLOSED, EndReason.NONE, 0))

    def test_tails_that_do_not_agree_hold_nobody(self) -> None:
        stream = self.archive()
        self.producer.sessions[0].tails(stream.slot, 5)
        self.assertIsNone(self.session.next(0))

    def test_a_producer_that_dies(self) -> None:
        self.archive()
        self.cam.publish(b"x", KEY)
        self.producer.stop()
        self.assertIsInstance(self.session.next(10), Unit, "what was in the ring comes first")
        with self.assertRaises(vms_ring.ProducerGone):
            self.session.next(10)

    def test_time_outs(self) -> None:
        self.archive()
        begin = time.monotonic()
        self.assertIsNone(self.session.next(0.05))
        self.assertGreaterEqual(time.monotonic() - begin, 0.05)
        units = vms_ring.attach(self.producer.path, "cam", timeout=0.05)
        with self.assertRaises(TimeoutError), units:
            next(units)

    def test_one_stream_as_an_iterator(self) -> None:
        self.cam.publish(b"x", KEY)
        units = vms_ring.attach(self.producer.path, "cam", timeout=10)
        self.assertEqual(next(units).seq, 1)
        self.cam.publish(b"y")
        self.cam.close()
        self.assertEqual([unit.payload for unit in units], [b"y"])
        assert units.ended is not None and units.ended.counts.accepted == 2
        self.assertEqual(list(units), [], "it stays ended")
        cam = self.producer.stream("cam")
        units = vms_ring.attach(self.producer.path, "cam", timeout=10)
        cam.end(1, 3)
        with self.assertRaises(vms_ring.Evicted):
            next(units)

    def test_a_closed_session_says_so(self) -> None:
        self.archive()
        self.session.close()
        with self.assertRaises(vms_ring.RingError):
            self.session.next(10)
        self.assertEqual(list(self.session), [])


class ManyStreams(Reading):
    def test_none_starves_others(self) -> None:
        ids = [f"cam{n}" for n in range(6)]
        streams = {id: self.producer.stream(id) for id in ids}
        for id in ids:
            self.session.attach(id, from_=vms_ring.LIVE)
        for _ in range(20):
            for stream in streams.values():
                stream.publish(b"x", KEY)
        order = []
        for _ in range(120):
            event = self.session.next(10)
            assert isinstance(event, Unit)
            order.append(event.stream.id)
        for begin in range(0, 120, 6):
            self.assertEqual(sorted(order[begin : begin + 6]), ids)
        streams["cam3"].close()
        ended = self.session.next(10)
        assert isinstance(ended, Ended) and ended.stream.id == "cam3"
        self.assertEqual(len(self.session.streams()), 5)

    def test_a_slot_that_is_used_again_begins_at_nothing(self) -> None:
        self.cam.publish(b"x", KEY)
        for _ in range(3):
            stream = self.archive()
            self.assertEqual((stream.slot, self.units()), (0, [1]))
            stream.detach()
            self.assertEqual(stream.detach().accepted, 1, "twice is no error")


class ByPolling(Units, Losses, Ends, ManyStreams):
    """The same with an older producer, which grants no notify descriptor."""

    notify = False

    def test_nothing_was_granted(self) -> None:
        self.assertFalse(self.session.notified)


del Reading
