"""The units of one stream, for who wants nothing else: `for unit in vms_ring.attach(path, "cam1")`."""

from __future__ import annotations

import os
from types import TracebackType
from typing import AsyncIterator, Iterator, Optional, Type, Union

from ._errors import Evicted
from ._layout import Class, Filter, RingState
from ._session import Session
from ._stream import Stream
from ._values import ALL_TRACKS, KEYFRAME, Ended, Event, Unit, Where, join_of
from ._waiting import deadline_of, is_over, run, seconds_left


class Units:
    """Iterates over the units of one stream, across rotations, until it ends. Owns its session.

    Raises `ProducerGone` when the producer dies, `Refused` when access was withdrawn, `Evicted` when this reader broke a rule,
    `TimeoutError` when no unit came for `timeout` seconds.
    """

    def __init__(self, session: Session, stream: Stream, timeout: Optional[float]) -> None:
        self.session = session
        self.stream = stream
        self.timeout = timeout
        self.ended: Optional[Ended] = None
        """How the stream ended, once it has."""

    def __enter__(self) -> Units:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Unit]:
        return self

    def __next__(self) -> Unit:
        deadline = deadline_of(self.timeout)
        while self.ended is None:
            event = self.session.next(seconds_left(deadline))
            if isinstance(event, Unit):
                return event
            self._note(event, deadline)
        raise StopIteration

    def __aiter__(self) -> AsyncIterator[Unit]:
        return self

    async def __anext__(self) -> Unit:
        deadline = deadline_of(self.timeout)
        while self.ended is None:
            event = await self.session.anext(seconds_left(deadline))
            if isinstance(event, Unit):
                return event
            self._note(event, deadline)
        raise StopAsyncIteration

    def _note(self, event: Optional[Event], deadline: Optional[float]) -> None:
        if isinstance(event, Ended):
            self.ended = event
            self.close()
            if event.refusal is not None:
                raise event.refusal
            if event.state == RingState.EVICTED:
                raise Evicted(f"the producer ended the ring: {event.reason.name}")
        elif event is None and is_over(deadline):
            raise TimeoutError(f"no unit of {self.stream.id} came for {self.timeout} s")

    def close(self) -> None:
        """Ends the session."""
        self.session.close()


def attach(
    path: Union[str, os.PathLike[str]],
    id: str,
    *,
    from_: Where = KEYFRAME,
    reader_class: Class = Class.LIVE,
    filters: Optional[Filter] = None,
    tracks: int = ALL_TRACKS,
    lag_max: float = 3.0,
    ring_slots: int = 128,
    timeout: Optional[float] = None,
) -> Units:
    """Opens a session for one stream and gives its units. `timeout`: seconds without a unit. For the rest see `Session.attach`."""
    session = Session(path, slots=1)
    try:
        join = join_of(from_, reader_class, filters, tracks, lag_max, ring_slots)
        return Units(session, run(session._attach_steps(id, join)), timeout)
    except BaseException:
        session.close()
        raise
