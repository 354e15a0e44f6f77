"""The attach socket: requests and their answers, descriptors, and whether the producer is there."""

from __future__ import annotations

import array
import os
import socket
from typing import Dict, List, Optional, Tuple, Type, TypeVar, Union

from . import _handshake as handshake
from ._errors import BadMessage, ProducerGone, ProtocolError, Refused, RequestTimeout
from ._handshake import Message, Packet
from ._layout import MESSAGE_LEN_MAX, Attached, Detached, Refusal, Welcome
from ._layout import Refused as RefusedMessage
from ._waiting import Steps, Wait, deadline_of, is_over, sooner

DESCRIPTORS_MAX = 4
PACKETS_PER_LOOK = 1024
"""Packets that are received in one go: a producer that sends without end does not hold the caller."""


A = TypeVar("A", Welcome, Attached, Detached)
Answer = Tuple[Message, List[int]]
"""An answer and the descriptors that came with it, which its receiver owns."""


class Client:
    """A connected attach socket."""

    def __init__(self, path: Union[str, "os.PathLike[str]"], timeout: float) -> None:
        self._timeout = timeout
        self._last_request = 0
        self._answers: Dict[int, Optional[Answer]] = {}
        self.alive = True
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._socket.settimeout(timeout)
            self._socket.connect(os.fspath(path))
            self._socket.setblocking(False)
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """The socket."""
        return self._socket.fileno()

    def next_request(self) -> int:
        """A number for the next request."""
        self._last_request = self._last_request % 0xFFFFFFFF + 1
        return self._last_request

    def request(self, number: int, packet: bytes, answer: Type[A], counts: Tuple[int, ...]) -> Steps[Tuple[A, List[int]]]:
        """Sends a request and waits for its answer, with one of `counts` descriptors."""
        deadline = deadline_of(self._timeout)
        self._answers[number] = None
        try:
            while not self.send(packet):
                self._check(deadline)
                yield Wait((), sooner(deadline, 0.002))
            while True:
                self.look(strict=True)
                got = self._answers[number]
                if got is not None:
                    return self._checked(got, answer, counts)
                self._check(deadline)
                yield Wait((self.fileno(),), deadline)
        finally:
            self._answers.pop(number, None)

    def send(self, packet: bytes) -> bool:
        """Sends a packet; false when the socket is full."""
        try:
            self._socket.send(packet, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except (BrokenPipeError, ConnectionResetError):
            # A last word may still be there to be read.
            pass
        return True

    def look(self, strict: bool = False) -> None:
        """Receives what has come: answers are kept for who waits for them, the rest is dropped, as rings say the same.

        A packet that is no message, or was cut, is an error for who waits for an answer, else it is dropped, too.
        """
        for _ in range(PACKETS_PER_LOOK):
            try:
                received = self._receive()
            except BlockingIOError:
                return
            except OSError:
                self.alive = False
                return
            except ProtocolError as error:
                # A type of a later version is ignored (§5).
                if strict and not (isinstance(error, BadMessage) and error.why == "unknown"):
                    raise
                continue
            if received is None:
                self.alive = False
                return
            packet, descriptors = received
            if packet.request in self._answers and self._answers[packet.request] is None:
                self._answers[packet.request] = (packet.message, descriptors)
            else:
                self._drop(packet, descriptors)

    def _receive(self) -> Optional[Tuple[Packet, List[int]]]:
        # Not socket.recv_fds: it does not pass its flags on, so descriptors would leak into child processes.
        space = socket.CMSG_SPACE(DESCRIPTORS_MAX * 4)
        flags = socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT
        data, ancillary, came, _ = self._socket.recvmsg(MESSAGE_LEN_MAX, space, flags)
        descriptors = array.array("i")
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
        owned = descriptors.tolist()
        try:
            if came & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise ProtocolError("a message or its descriptors were cut")
            if data:
                return handshake.decode(data), owned
        except ProtocolError:
            close_all(owned)
            raise
        close_all(owned)
        return None

    def _drop(self, packet: Packet, descriptors: List[int]) -> None:
        close_all(descriptors)
        if packet.kind == handshake.BYE_TYPE:
            self.alive = False
        elif isinstance(packet.message, Attached):
            # The answer to a request that was given up: the producer holds a ring that nobody reads.
            self.send(handshake.detach(self.next_request(), packet.message.slot))

    def _check(self, deadline: Optional[float]) -> None:
        if not self.alive:
            raise ProducerGone("the producer closed the connection")
        if is_over(deadline):
            raise RequestTimeout("the producer did not answer in time")

    def _checked(self, answer: Answer, wanted: Type[A], counts: Tuple[int, ...]) -> Tuple[A, List[int]]:
        message, descriptors = answer
        if isinstance(message, wanted) and len(descriptors) in counts:
            return message, descriptors
        close_all(descriptors)
        if isinstance(message, RefusedMessage) and not descriptors:
            known = Refusal.UNKNOWN_STREAM <= message.code <= Refusal.UNAVAILABLE
            code = Refusal(message.code) if known else Refusal.UNAVAILABLE
            raise Refused(code, handshake.text(message, "text"))
        raise ProtocolError(f"the producer answered {type(message).__name__} with {len(descriptors)} descriptors")

    def close(self) -> None:
        """Says goodbye and closes."""
        if self._socket.fileno() < 0:
            return
        if self.alive:
            try:
                self.send(handshake.bye())
            except OSError:
                pass
        # Answers that came and that nobody took hold descriptors.
        for answer in self._answers.values():
            close_all(answer[1] if answer else [])
        self._answers.clear()
        self._socket.close()


def close_all(descriptors: List[int]) -> None:
    """Closes descriptors that are not needed."""
    for descriptor in descriptors:
        os.close(descriptor)
