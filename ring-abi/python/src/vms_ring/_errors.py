"""What can go wrong. Each class says what its catcher can do about it: try again, ask an operator, or report a bug."""

from __future__ import annotations

from ._layout import Refusal


class RingError(Exception):
    """Base of all that this package raises."""


class Unsupported(RingError):
    """This interpreter or machine cannot read rings soundly. Use the C header."""


class Refused(RingError):
    """The producer said no; nothing changed."""

    def __init__(self, code: Refusal, text: str) -> None:
        super().__init__(f"refused ({code.name}): {text}")
        self.code = code
        self.text = text


class ProducerGone(RingError):
    """The producer's process has gone, or said goodbye. What was in the rings was given out before."""

    def __init__(self, text: str = "the producer has gone") -> None:
        super().__init__(text)


class ProtocolError(RingError):
    """The producer broke a rule of the ring ABI."""


class RequestTimeout(RingError, TimeoutError):
    """The producer did not answer a request in time."""


class BadMessage(ProtocolError):
    """A packet is no message. `why`: `short`, `unknown` or `field`."""

    def __init__(self, why: str, kind: int) -> None:
        super().__init__(f"a message of type {kind} was not understood: {why}")
        self.why = why
        self.kind = kind


class SegmentError(ProtocolError):
    """A segment is not what it must be. `why`: `seals`, `size`, `magic`, `major`, `features`, `kind` or `table`."""

    def __init__(self, segment: str, why: str) -> None:
        super().__init__(f"the {segment} segment cannot be used: {why}")
        self.segment = segment
        self.why = why


class Evicted(RingError):
    """The producer ended the ring because this reader broke a rule or a limit."""
