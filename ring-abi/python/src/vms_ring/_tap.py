"""The program `tap`: attach, print each unit as a line of JSON, sum up. Its lines are those of `vms-tap --json`."""

from __future__ import annotations

import json
import math
import signal
import sys
import time
import zlib
from typing import Dict, List, Optional, Tuple

from ._errors import ProducerGone
from ._layout import Class
from ._session import Session
from ._stream import Stream
from ._values import Ended, Unit, Where

NAP = 0.1
"""How late a signal or a limit may be noticed."""


class Tapped:
    """What is kept of one stream."""

    def __init__(self, id: str, stream: Stream) -> None:
        self.id = id
        self.stream = stream
        self.units = self.bytes = self.keyframes = self.damaged = 0
        self._newest: Optional[Tuple[int, int]] = None
        self._published: Optional[Tuple[int, int]] = None
        self._first_len = 0

    def take(self, unit: Unit) -> str:
        """Counts a unit; its line."""
        record = unit.record
        self.units += 1
        self.bytes += record.len
        self.keyframes += unit.key
        self.damaged += unit.damaged
        if self._published is None:
            self._published, self._first_len = (record.pub_mono_ns, record.pub_mono_ns), record.len
        self._published = (self._published[0], record.pub_mono_ns)
        return compact(
            {
                "id": self.id,
                "seq": record.seq,
                "pts_ns": record.pts_ns,
                "media_ticks": record.media_ticks,
                "rtp_ts": record.rtp_ts,
                "recv_mono_ns": record.recv_mono_ns,
                "pub_mono_ns": record.pub_mono_ns,
                "wall_utc_ns": record.wall_utc_ns,
                "len": record.len,
                "key": unit.key,
                "flags": record.flags,
                "gap": self._gap(record.seq, record.filtered),
                "timeline": record.timeline,
                "config_id": record.config_id,
                "crc32": zlib.crc32(unit.payload),
                "lost_packets": record.lost_packets,
            }
        )

    def _gap(self, seq: int, filtered: int) -> int:
        """Units missing between the unit before and this one, for whatever reason but the filters."""
        before, self._newest = self._newest, (seq, filtered)
        if before is None:
            return 0
        return max(max(seq - before[0] - 1, 0) - max(filtered - before[1], 0), 0)

    def summary(self) -> Dict[str, object]:
        """What is said of the stream at the end."""
        counts = self.stream.counts()
        first, last = self._published or (0, 0)
        span = max(last - first, 0) / 1e9
        return {
            "id": self.id,
            "units": self.units,
            "bytes": self.bytes,
            "keyframes": self.keyframes,
            # The first unit opens an interval and fills none.
            "fps": rate(max(self.units - 1, 0), span),
            "bitrate": rate((self.bytes - self._first_len) * 8, span),
            "lost": counts.lost,
            "rejected": counts.rejected,
            "skipped": counts.skipped,
            "filtered": counts.filtered,
            "damaged": self.damaged,
        }


def run(
    path: str,
    ids: List[str],
    where: Where,
    lines: bool,
    count: Optional[int],
    duration: Optional[float],
    idle_exit: Optional[float],
) -> None:
    """Reads until the limits, a signal or the producer say stop."""
    stop: List[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.append(1))
    with Session(path, name="vms_ring tap", slots=len(ids)) as session:
        streams = [session.attach(id, from_=where, reader_class=Class.ARCHIVE) for id in ids]
        tapped = {stream: Tapped(id, stream) for id, stream in zip(ids, streams)}
        gone: Optional[ProducerGone] = None
        try:
            read(session, tapped, lines, stop, count, duration, idle_exit)
        except ProducerGone as error:
            gone = error
        summaries = [stream.summary() for stream in tapped.values()]
    if lines:
        write(compact({"type": "summary", "streams": summaries}))
        sys.stdout.buffer.flush()
    else:
        for summary in summaries:
            print(compact(summary), file=sys.stderr)
    if gone is not None:
        raise gone


def read(
    session: Session,
    tapped: Dict[Stream, Tapped],
    lines: bool,
    stop: List[int],
    count: Optional[int],
    duration: Optional[float],
    idle_exit: Optional[float],
) -> None:
    """The loop."""
    start = newest = time.monotonic()
    records, idle = 0, False
    while not stop and session.streams() and (count is None or records < count):
        now = time.monotonic()
        if (duration is not None and now - start >= duration) or (idle_exit is not None and now - newest >= idle_exit):
            break
        event = session.next(NAP if idle else 0.0)
        idle = event is None
        if isinstance(event, Unit):
            records, newest = records + 1, time.monotonic()
            line = tapped[event.stream].take(event)
            if lines:
                write(line)
        elif isinstance(event, Ended):
            print(f"{event.stream.id}: the ring ended: {event.state.name}, {event.reason.name}", file=sys.stderr)
        elif event is None:
            sys.stdout.buffer.flush()


def write(line: str) -> None:
    """Writes a line; it is flushed when the rings are empty."""
    sys.stdout.buffer.write(line.encode("utf-8") + b"\n")


def compact(value: Dict[str, object]) -> str:
    """JSON without blanks, texts as they are."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def rate(amount: int, seconds: float) -> float:
    """Amount a second, with two decimals."""
    return math.floor(amount / seconds * 100 + 0.5) / 100 if seconds > 0 else 0.0
