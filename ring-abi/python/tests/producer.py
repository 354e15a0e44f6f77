"""A producer for tests, written from SPEC.md and the generated layout alone: it uses nothing of the reader's code.

Segments are memfds built by hand and sealed. The handshake runs in a thread; units are published by the test's thread, so what a
test does is in order. `Producer.answer` makes it hostile.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import socket
import struct
import tempfile
import threading
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from vms_ring import _layout as layout

SEALS_CURSOR = 1 | 2 | 4
SEALS = SEALS_CURSOR | 16
KEY = 1
ARENA = 1 << 16
TRACK, CONFIGS, ARENA_OFF = 256, 4096, 4096 * 9


class Segment:
    """A sealed memfd that its maker can write."""

    def __init__(self, kind: int, size: int, header_len: int, rec_size: int, epoch: int, uid: int = 0, seals: int = SEALS) -> None:
        self.fd = os.memfd_create("test", os.MFD_CLOEXEC | 2)
        os.ftruncate(self.fd, size)
        self.map = mmap.mmap(self.fd, size)
        self.words = memoryview(self.map).cast("Q")
        self.words32 = memoryview(self.map).cast("I")
        layout.SEGMENT_HEADER.pack_into(
            self.map, 0, layout.MAGIC, layout.ABI_MAJOR, layout.ABI_MINOR, kind, size, epoch, 0, 0, header_len, rec_size, uid
        )
        self._seals = seals

    def seal(self) -> int:
        """What goes to the reader."""
        if fcntl.fcntl(self.fd, 1034) & self._seals != self._seals:
            fcntl.fcntl(self.fd, 1033, self._seals)
        return self.fd

    def __del__(self) -> None:
        os.close(self.fd)


class Unit(NamedTuple):
    """What was published."""

    fields: Dict[str, int]
    payload: bytes


class Ring:
    """A descriptor ring and its place in a session."""

    def __init__(self, session: "Session", slot: int, stream: "Stream", slots: int) -> None:
        self.session, self.slot, self.slots = session, slot, slots
        self.segment = Segment(3, 256 + slots * 128, 256, 128, stream.epoch, stream.uid)
        struct.pack_into("<II", self.segment.map, 64, slots, 1)
        self.tail = self.filtered = 0
        self.keyframes_only = False
        session.tails(slot, 0)

    def head(self) -> int:
        """What the reader says."""
        return int(self.session.cursor.words[256 // 8 + self.slot])

    def offer(self, unit: Unit) -> None:
        """Pushes a record if there is room; withholds it if the filter says so."""
        if self.keyframes_only and not unit.fields["flags"] & KEY:
            self.filtered += 1
        elif self.tail - self.head() < self.slots:
            self.push(**unit.fields)

    def push(self, **fields: int) -> None:
        """Pushes a record, whatever it says."""
        record = layout.Record(**{**{name: 0 for name in layout.Record._fields}, "filtered": self.filtered, **fields})
        layout.RECORD.pack_into(self.segment.map, 256 + self.tail % self.slots * 128, *record)
        self.tail += 1
        self.segment.words[128 // 8] = self.tail
        self.session.tails(self.slot, self.tail)

    def end(self, state: int, reason: int, final_seq: int) -> None:
        """Ends the ring."""
        struct.pack_into("<IQQ", self.segment.map, 196, reason, final_seq, self.filtered)
        self.segment.words32[192 // 4] = state
        self.session.segment.words32[132 // 4] += 1
        self.session.ring_bell()


class Session:
    """The segments of one connection."""

    def __init__(self, connection: socket.socket, slots: int, notify: bool, epoch: int) -> None:
        self.connection = connection
        self.segment = Segment(7, 4096, 256, 4, epoch)
        self.segment.words32[64 // 4] = slots
        self.cursor = Segment(8, 4096, 256, 8, epoch, seals=SEALS_CURSOR)
        self.rings: Dict[int, Ring] = {}
        self.notify: Optional[socket.socket] = None
        self.readers_end: Optional[socket.socket] = None
        if notify:
            self.notify, self.readers_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def tails(self, slot: int, tail: int) -> None:
        """The slot's word."""
        self.segment.words32[256 // 4 + slot] = tail & 0xFFFFFFFF

    def ring_bell(self) -> None:
        """At the end of a turn."""
        self.segment.words32[128 // 4] = (self.segment.words32[128 // 4] + 1) & 0xFFFFFFFF
        if self.notify is not None:
            try:
                self.notify.send(b"\1", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except OSError:
                pass

    def free_slot(self) -> int:
        """The lowest slot that no ring uses."""
        return next(slot for slot in range(64) if slot not in self.rings)


class Stream:
    """A stream with a video track 0 and a data track 1."""

    def __init__(self, id: str, uid: int, epoch: int) -> None:
        self.id, self.uid, self.epoch = id, uid, epoch
        self.units: List[Unit] = []
        self.rings: List[Ring] = []
        self.allowed = True
        self.last_seq = 0
        self.config_id = 0
        self.new_segment()

    def new_segment(self) -> None:
        """An empty segment with the same epoch."""
        self.segment = Segment(1, ARENA_OFF + 2 * ARENA, 256, 0, self.epoch, self.uid)
        struct.pack_into("<IIQ", self.segment.map, 64, 2, 256, TRACK)
        for track, kind in ((0, 1), (1, 3)):
            entry = (kind, 90_000, ARENA_OFF + track * ARENA, ARENA, CONFIGS, 8 if track == 0 else 0, 4096)
            struct.pack_into("<IIQQQII", self.segment.map, TRACK + track * 256, *entry)
        self.write_pos = [0, 0]
        self.reclaim_pos = [0, 0]
        self.retained_from = len(self.units)

    def configure(self, id: int, data: bytes, **changes: int) -> None:
        """Writes entry `(id − 1) mod 8`."""
        at = CONFIGS + (id - 1) % 8 * 4096
        generation = struct.unpack_from("<I", self.segment.map, at + 4)[0]
        fields = dict(id=id, generation=generation + 2, codec=1, profile=100, level=40, width=1920, height=1080, fps_num=25, fps_den=1)
        fields.update(len=len(data))
        fields.update(changes)
        layout.CONFIG_HEADER.pack_into(self.segment.map, at, *layout.ConfigHeader(**fields))
        self.segment.map[at + 64 : at + 64 + len(data)] = data
        self.config_id = id

    def publish(self, payload: bytes, flags: int = 0, track: int = 0, nals: Tuple[int, ...] = (), ring: bool = True, **changes: int) -> Unit:
        """Publishes a unit as §6 says; `ring=False`: no reader is told."""
        size = -(-len(payload) // 4) * 4
        total = size + 4 * len(nals)
        begin = -(-self.write_pos[track] // 64) * 64
        if begin % ARENA + total > ARENA:
            begin = -(-begin // ARENA) * ARENA
        self.reclaim(track, begin + total - ARENA)
        at = ARENA_OFF + track * ARENA + begin % ARENA
        self.segment.map[at : at + len(payload)] = payload
        struct.pack_into(f"<{len(nals)}I", self.segment.map, at + size, *nals)
        seq = self.last_seq = self.last_seq + 1
        fields = dict(
            seq=seq, pos=begin, len=len(payload), flags=flags, record_type=1 if track == 0 else 2, track=track, pts_ns=seq * 40_000_000,
            media_ticks=seq * 3600, timeline=1, nal_count=len(nals), nal_off=size if nals else 0, config_id=self.config_id if track == 0 else 0,
        )
        fields.update(changes)
        self.units.append(Unit(fields, payload))
        self.write_pos[track] = begin + total
        self.segment.words32[128 // 4] = 1
        self.segment.words[144 // 8] = seq
        if ring:
            self.tell(self.units[-1])
        return self.units[-1]

    def tell(self, unit: Unit) -> None:
        """Offers a unit to all rings and rings the bells."""
        for ring in self.rings:
            ring.offer(unit)
            ring.session.ring_bell()

    def reclaim(self, track: int, to: int) -> None:
        """Takes what is below from the readers."""
        if to > self.reclaim_pos[track]:
            self.reclaim_pos[track] = to
            self.segment.words[(TRACK + track * 256 + 64) // 8] = to

    def end(self, state: int, reason: int) -> None:
        """Ends all rings."""
        rings, self.rings = self.rings, []
        for ring in rings:
            ring.end(state, reason, len(self.units))

    def close(self) -> None:
        """Tears the stream down."""
        self.segment.words32[128 // 4] = 3
        self.end(2, 1)

    def rotate(self) -> None:
        """Goes on in another segment."""
        old = self.segment
        self.new_segment()
        old.words32[128 // 4] = 3
        self.end(3, 5)

    def join(self, ring: Ring, kind: int, epoch: int, arg: int) -> Tuple[int, int]:
        """Back-fill; `resumed` and `first_seq`."""
        first = len(self.units)
        keys = [n for n in range(self.retained_from, len(self.units)) if self.units[n].fields["flags"] & KEY]
        resumed = kind == 5 and epoch == self.epoch and arg >= self.retained_from
        if resumed:
            first = arg
        elif kind in (3, 5) and keys:
            first = keys[0]
        elif kind == 2 and keys:
            first = keys[-1]
        for unit in self.units[first:]:
            ring.offer(unit)
        self.rings.append(ring)
        return int(resumed), first + 1


class Producer:
    """Listens, and answers as SPEC.md §5 says. `answer` may replace any answer: (name, packet, descriptors) → the same, or None."""

    def __init__(self, notify: bool = True, path: Optional[str] = None, epoch: int = 77) -> None:
        self.notify, self.epoch = notify, epoch
        self._dir = tempfile.TemporaryDirectory() if path is None else None
        self.path = path or os.path.join(self._dir.name if self._dir else "", "ring.sock")
        self.streams: Dict[str, Stream] = {}
        self.sessions: List[Session] = []
        self.hellos: List[layout.Hello] = []
        self.attaches: List[layout.Attach] = []
        self.detached: List[int] = []
        self.slots = 8
        self.answer: Callable[[str, bytes, List[int]], Optional[Tuple[bytes, List[int]]]] = lambda _name, packet, fds: (packet, fds)
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(self.path)
        self._listener.listen(16)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._connections: List[socket.socket] = []
        self._stopped = False
        self._threads[0].start()

    def stream(self, id: str, epoch: int = 1000) -> Stream:
        """Sets a stream up."""
        with self.lock:
            self.streams[id] = Stream(id, len(self.streams) + 1, epoch)
            return self.streams[id]

    def wait_for(self, condition: Callable[[], Any]) -> None:
        """Waits, bounded, until something has been said by a reader."""
        with self._changed:
            if not self._changed.wait_for(condition, 10):
                raise AssertionError("it did not happen")

    def stop(self) -> None:
        """Dies: everything is closed at once."""
        if self._stopped:
            return
        self._stopped = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(10)
        self._listener.close()
        for connection in self._connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                # Its thread has closed it.
                pass
        for session in self.sessions:
            if session.notify is not None:
                session.notify.close()
        for thread in self._threads:
            thread.join(10)
        os.unlink(self.path)
        if self._dir is not None:
            self._dir.cleanup()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self.lock:
                self._connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        session: Optional[Session] = None
        while True:
            try:
                packet = connection.recv(4096)
            except OSError:
                packet = b""
            if not packet:
                connection.close()
                return
            kind, _, request = struct.unpack_from("<III", packet)
            with self._changed:
                if kind == 1:
                    session = self._hello(connection, packet, request)
                elif kind == 3 and session is not None:
                    self._attach(session, packet, request)
                elif kind == 6 and session is not None:
                    self._detach(session, packet, request)
                self._changed.notify_all()

    def _hello(self, connection: socket.socket, packet: bytes, request: int) -> Session:
        hello = layout.Hello._make(layout.HELLO.unpack(packet))
        self.hellos.append(hello)
        session = Session(connection, self.slots, self.notify and bool(hello.features & 1), self.epoch)
        self.sessions.append(session)
        fds = [session.segment.seal(), session.cursor.seal()]
        if session.readers_end is not None:
            fds.append(session.readers_end.fileno())
        welcome = message(2, layout.WELCOME, request, 1, 0, self.slots, int(session.notify is not None), self.epoch, 0)
        self._send(session, "welcome", welcome, fds)
        if session.readers_end is not None:
            session.readers_end.close()
        return session

    def _attach(self, session: Session, packet: bytes, request: int) -> None:
        attach = layout.Attach._make(layout.ATTACH.unpack(packet))
        self.attaches.append(attach)
        stream = self.streams.get(attach.id[: attach.id_len].decode())
        if stream is None or not stream.allowed or len(session.rings) >= self.slots:
            code, text = (1, b"no such stream") if stream is None else (3, b"full") if stream.allowed else (2, "verb\u00f6ten".encode())
            self._send(session, "refused", message(5, layout.REFUSED, request, code, len(text), text), [])
            return
        slot = session.free_slot()
        ring = Ring(session, slot, stream, attach.ring_slots)
        ring.keyframes_only = bool(attach.filters & 1)
        session.rings[slot] = ring
        last = len(stream.units)
        resumed, first = stream.join(ring, attach.from_kind, attach.from_epoch, attach.from_arg)
        answer = message(4, layout.ATTACHED, request, slot, resumed, stream.uid, stream.epoch, first, last)
        self._send(session, "attached", answer, [stream.segment.seal(), ring.segment.seal()])

    def _detach(self, session: Session, packet: bytes, request: int) -> None:
        (slot,) = layout.DETACH.unpack(packet)
        ring = session.rings.pop(slot, None)
        for stream in self.streams.values():
            if ring in stream.rings:
                stream.rings.remove(ring)
        self.detached.append(slot if ring is not None and ring.head() == 0 else -1)
        self._send(session, "detached", message(7, layout.DETACHED, request, slot), [])

    def _send(self, session: Session, name: str, packet: bytes, fds: List[int]) -> None:
        answer = self.answer(name, packet, fds)
        if answer is not None:
            send(session.connection, *answer)


def message(kind: int, form: struct.Struct, request: int, *fields: Any) -> bytes:
    """A packet."""
    return struct.pack("<IIII", kind, form.size, request, 0) + form.pack(*fields)[16:]


def send(connection: socket.socket, packet: bytes, fds: List[int]) -> None:
    """A packet with descriptors."""
    try:
        connection.sendmsg([packet], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))] if fds else [])
    except OSError:
        pass
