"""A connection with its session segments: requests with their answers, the words of each slot, and what it waits on."""

from __future__ import annotations

import os
import socket
import stat
from typing import List, Optional, Tuple, Union

from . import _handshake as handshake
from ._client import Client, close_all
from ._errors import ProtocolError, SegmentError
from ._layout import CURSOR_HEAD, SESSION_HEAD, SESSION_HEAD_SLOTS, SESSION_HEAD_STATE_GEN, Attached, Detached, Feature, SegmentKind, Welcome
from ._memory import require_supported
from ._segments import Segment
from ._values import Join
from ._waiting import Steps, Wait, sooner

POLL_INTERVAL = 0.002
"""How often the tails are looked at when the producer granted no notify descriptor (an older one)."""
NOTIFICATIONS_PER_LOOK = 4096
"""More than fit into the socket: a producer that sends without end does not hold the caller."""


class Link:
    """One session's connection."""

    def __init__(self, path: Union[str, os.PathLike[str]], timeout: float) -> None:
        require_supported()
        self._segments: List[Segment] = []
        self._notify: Optional[socket.socket] = None
        self.daemon_epoch = 0
        self.slots = 0
        self.closed = False
        self.client = Client(path, timeout)

    def open_steps(self, name: str, slots: int, bell_interval: float, token: str) -> Steps[None]:
        """HELLO, and what comes with WELCOME."""
        try:
            number = self.client.next_request()
            packet = handshake.hello(number, name, slots, int(bell_interval * 1_000_000), token)
            welcome, descriptors = yield from self.client.request(number, packet, Welcome, (2, 3))
            try:
                self._take_welcome(welcome, descriptors)
            finally:
                close_all(descriptors)
        except BaseException:
            self.close()
            raise

    def _take_welcome(self, welcome: Welcome, descriptors: List[int]) -> None:
        handshake.check_welcome(welcome)
        notified = welcome.features & Feature.NOTIFY_FD != 0
        if len(descriptors) != (3 if notified else 2):
            raise ProtocolError(f"WELCOME came with {len(descriptors)} descriptors")
        self.daemon_epoch, self.slots = welcome.daemon_epoch, welcome.slots
        self._session = self._open(descriptors[0], SegmentKind.SESSION)
        self._cursor = self._open(descriptors[1], SegmentKind.SESSION_CURSOR)
        self._session.require(0, SESSION_HEAD.size)
        self._cursor.require(0, CURSOR_HEAD.size)
        self._places = self._session.mapping.words32[SESSION_HEAD_SLOTS // 4]
        self._session.require_slots(self._places, 4)
        self._cursor.require_slots(self._places, 8)
        self.tails, self.heads = self._session.mapping.words32, self._cursor.mapping.words64
        if notified:
            self._notify = notify_socket(descriptors[2])

    def _open(self, descriptor: int, kind: SegmentKind) -> Segment:
        segment = Segment(descriptor, kind)
        self._segments.append(segment)
        return segment

    def attach_steps(self, id: str, join: Join) -> Steps[Tuple[Attached, List[int]]]:
        """ATTACH; the answer with descriptors that the caller closes."""
        number = self.client.next_request()
        return (yield from self.client.request(number, handshake.attach(number, id, join), Attached, (2,)))

    def detach_steps(self, slot: int) -> Steps[None]:
        """DETACH, until it is confirmed."""
        number = self.client.next_request()
        yield from self.client.request(number, handshake.detach(number, slot), Detached, (0,))

    def forget(self, slot: int) -> None:
        """DETACH without waiting for an answer that nobody needs. If the socket is full, the slot is free when the session ends."""
        if self.client.alive:
            self.client.send(handshake.detach(self.client.next_request(), slot))

    def tail_index(self, slot: int) -> int:
        """Where `tails` has the slot's word."""
        if slot >= self._places:
            raise SegmentError(self._session.name, "table")
        return self._session.slot_word(slot, 4)

    def head_index(self, slot: int) -> int:
        """Where `heads` has the slot's word."""
        return self._cursor.slot_word(slot, 8)

    def state_gen(self) -> int:
        """Counts changes of any state."""
        return self._session.mapping.words32[SESSION_HEAD_STATE_GEN // 4]

    def wait(self, deadline: Optional[float]) -> Wait:
        """Until there may be something new."""
        if self._notify is None:
            return Wait((self.client.fileno(),), sooner(deadline, POLL_INTERVAL))
        return Wait((self._notify.fileno(), self.client.fileno()), deadline)

    def refresh(self) -> None:
        """After a wait and before a scan: takes what came, and empties the notify socket (§8.2)."""
        self.client.look()
        if self._notify is None:
            return
        try:
            for _ in range(NOTIFICATIONS_PER_LOOK):
                if not self._notify.recv(64, socket.MSG_DONTWAIT):
                    self.client.alive = False
                    return
        except BlockingIOError:
            pass
        except OSError:
            self.client.alive = False

    @property
    def has_notify(self) -> bool:
        """The producer granted a notify descriptor."""
        return self._notify is not None

    def close(self) -> None:
        """Says goodbye, closes and unmaps."""
        self.closed = True
        self.client.close()
        if self._notify is not None:
            self._notify.close()
        for segment in self._segments:
            segment.close()
        self._segments.clear()


def notify_socket(descriptor: int) -> socket.socket:
    """A duplicate of the descriptor, as a socket."""
    if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        notify = socket.fromfd(descriptor, socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if notify.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_SEQPACKET:
            return notify
        notify.close()
    raise ProtocolError("the notify descriptor is no SOCK_SEQPACKET socket")
