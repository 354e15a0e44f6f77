"""Reading on across restarts of the producer, and of streams that come and go."""

from __future__ import annotations

import os
import time
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, AsyncIterator, Deque, Dict, Iterable, Iterator, List, NamedTuple, Optional, Type, Union

from ._errors import ProducerGone, ProtocolError, Refused, RequestTimeout
from ._layout import Class, Filter, Refusal
from ._session import Session
from ._stream import Stream
from ._values import ALL_TRACKS, KEYFRAME, Ended, Event, Join, Reconnected, Restarted, Where, after, join_of
from ._waiting import Steps, Wait, deadline_of, is_over, run

if TYPE_CHECKING:
    from ._asyncio import Waiter

DELAY_MIN, DELAY_MAX = 0.1, 5.0
"""Seconds between two attempts: doubled each time, as the producer refuses who asks too often."""
TIMEOUT = 10.0
"""Seconds that a request may take."""
FINAL = (Refusal.FORBIDDEN, Refusal.VERSION, Refusal.BAD_REQUEST)
"""Refusals that time does not change."""

ReconnectingEvent = Union[Event, Reconnected, Restarted]


class Place(NamedTuple):
    """Up to where a stream was read."""

    epoch: int
    seq: int


class Retry:
    """When something is tried again."""

    def __init__(self) -> None:
        self.at = 0.0
        self._delay = DELAY_MIN

    def is_due(self) -> bool:
        """Now."""
        return time.monotonic() >= self.at

    def failed(self) -> None:
        """Later, and later each time."""
        self.at = time.monotonic() + self._delay
        self._delay = min(self._delay * 2, DELAY_MAX)

    def succeeded(self) -> None:
        """At once, the next time."""
        self.at, self._delay = 0.0, DELAY_MIN


class Reconnecting:
    """Gives what a session gives, and goes on when the producer or a stream comes back. See `reconnecting`."""

    def __init__(self, path: Union[str, os.PathLike[str]], ids: Iterable[str], join: Join, name: str) -> None:
        self._path = path
        self._join = join
        self._name = name
        self._places: Dict[str, Optional[Place]] = {id: None for id in ids}
        self._missing: Dict[str, Retry] = {id: Retry() for id in self._places}
        self._connecting = Retry()
        self._streams: List[Stream] = []
        self._events: Deque[ReconnectingEvent] = deque()
        self._waiter: Optional[Waiter] = None
        self.session: Optional[Session] = None
        """The session, while there is one."""
        self.last_error: Optional[Exception] = None
        """Why the last attempt failed, or why the last session ended."""

    def next(self, timeout: Optional[float] = None) -> Optional[ReconnectingEvent]:
        """What happened next, waiting for it at most `timeout` seconds; `None` when nothing did."""
        return run(self._next_steps(timeout))

    async def anext(self, timeout: Optional[float] = None) -> Optional[ReconnectingEvent]:
        """As `next`, for an event loop."""
        if self._waiter is None:
            from ._asyncio import Waiter

            self._waiter = Waiter()
        return await self._waiter.run(self._next_steps(timeout))

    def __iter__(self) -> Iterator[ReconnectingEvent]:
        while True:
            event = self.next()
            if event is not None:
                yield event

    async def __aiter__(self) -> AsyncIterator[ReconnectingEvent]:
        while True:
            event = await self.anext()
            if event is not None:
                yield event

    def __enter__(self) -> Reconnecting:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the session."""
        if self.session is not None:
            self.session.close()
            self.session = None

    def _next_steps(self, timeout: Optional[float]) -> Steps[Optional[ReconnectingEvent]]:
        deadline = deadline_of(timeout)
        while True:
            try:
                if not self._events:
                    yield from self._try_missing()
                if self._events:
                    return self._events.popleft()
                event = yield from self._session_event(self._due(deadline))
                if event is not None:
                    return event
            except (ProducerGone, ProtocolError, RequestTimeout, OSError) as error:
                self._lose_session(error)
            if is_over(deadline):
                return None

    def _session_event(self, until: Optional[float]) -> Steps[Optional[Event]]:
        if self.session is None or not self.session.streams():
            client = self.session._link.client if self.session else None
            yield Wait((client.fileno(),) if client else (), until)
            if client:
                client.look()
                if not client.alive:
                    raise ProducerGone()
            return None
        left = None if until is None else max(until - time.monotonic(), 0.0)
        event = yield from self.session._next_steps(left)
        if isinstance(event, Ended):
            self._forget(event.stream)
        return event

    def _due(self, deadline: Optional[float]) -> Optional[float]:
        """When there is something to try again, or the caller's deadline."""
        times = [retry.at for retry in self._missing.values()] if self.session else [self._connecting.at]
        return min(times + ([] if deadline is None else [deadline]), default=None)

    def _try_missing(self) -> Steps[None]:
        if self.session is None:
            if not self._connecting.is_due():
                return
            self.session = yield from self._connect()
        for id, retry in list(self._missing.items()):
            if retry.is_due():
                yield from self._attach(self.session, id, retry)

    def _connect(self) -> Steps[Session]:
        try:
            session = Session._unopened(self._path, TIMEOUT)
            yield from session._link.open_steps(self._name, len(self._places), 0.0, "")
        except Refused as refused:
            if refused.code in FINAL:
                raise
            raise ProducerGone(str(refused)) from refused
        self._connecting.succeeded()
        return session

    def _attach(self, session: Session, id: str, retry: Retry) -> Steps[None]:
        place = self._places[id]
        where = self._join.where if place is None else after(*place)
        try:
            stream = yield from session._attach_steps(id, self._join._replace(where=where))
        except Refused as refused:
            if refused.code in FINAL:
                raise
            self.last_error = refused
            retry.failed()
            return
        del self._missing[id]
        self._streams.append(stream)
        if place is None:
            return
        if place.epoch == stream.epoch:
            self._events.append(Reconnected(stream, stream.resumed, stream.epoch))
        else:
            self._events.append(Restarted(stream, place.epoch, stream.epoch))

    def _forget(self, stream: Stream) -> None:
        """The stream is to be attached again, behind what was dealt with."""
        self._streams.remove(stream)
        seq = stream.counts().last_seq
        if seq:
            self._places[stream.id] = Place(stream.epoch, seq)
        self._missing[stream.id] = Retry()

    def _lose_session(self, error: Exception) -> None:
        self.last_error = error
        self._connecting.failed()
        self.close()
        for stream in list(self._streams):
            self._forget(stream)


def reconnecting(
    path: Union[str, os.PathLike[str]],
    ids: Iterable[str],
    *,
    from_: Where = KEYFRAME,
    reader_class: Class = Class.LIVE,
    filters: Optional[Filter] = None,
    tracks: int = ALL_TRACKS,
    lag_max: float = 3.0,
    ring_slots: int = 128,
    name: str = "vms_ring",
) -> Reconnecting:
    """Reads streams for ever, across restarts of the producer and of streams.

    Iterate over it, with `for` or `async for`: units and ends of streams as from a session, and after a break a `Reconnected` (the
    same epoch: it resumes behind the last unit if that is still retained) or a `Restarted` (another epoch: everything begins
    anew). A stream or a producer that is not there yet is waited for. Raises `Refused` only when time will not help.
    """
    return Reconnecting(path, ids, join_of(from_, reader_class, filters, tracks, lag_max, ring_slots), name)
