"""One session with a producer, and its streams."""

from __future__ import annotations

import functools
import os
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, AsyncIterator, Callable, Deque, Dict, Iterator, List, Optional, Type, TypeVar, Union

from ._attachment import DROPPED, Attachment, TakenEnd, TakenUnit
from ._client import close_all
from ._counting import Counting
from ._errors import ProducerGone, ProtocolError, Refused, RingError, SegmentError
from ._layout import Attached, AttachedFlag, Class, Filter, From, RingState
from ._link import Link
from ._stream import Stream
from ._values import ALL_TRACKS, KEYFRAME, Counts, Ended, Event, Join, Rotated, Unit, Where, after, join_of
from ._waiting import Steps, deadline_of, is_over, run

if TYPE_CHECKING:
    from ._asyncio import Waiter

T = TypeVar("T")
RECORDS_PER_LOOK = 1024
"""No ring of ours holds more: a producer whose records are never for the caller does not hold it."""


class Session:
    """One connection to a producer, with any number of streams. For one thread, and not to be used by a forked child.

    `for event in session` and `async for event in session` give each `Unit`, `Ended` and `Rotated` of all its streams, and end
    when none is attached any more. `ProducerGone` is raised when the producer dies, after what was in the rings.
    """

    def __init__(
        self,
        path: Union[str, os.PathLike[str]],
        *,
        name: str = "vms_ring",
        slots: int = 256,
        bell_interval: float = 0.0,
        token: str = "",
        timeout: float = 10.0,
    ) -> None:
        """Connects. `bell_interval`: wakes it can do without for so many seconds. `timeout`: how long a request may take."""
        self._prepare(path, timeout)
        run(self._link.open_steps(name, slots, bell_interval, token))

    @classmethod
    async def open(
        cls,
        path: Union[str, os.PathLike[str]],
        *,
        name: str = "vms_ring",
        slots: int = 256,
        bell_interval: float = 0.0,
        token: str = "",
        timeout: float = 10.0,
    ) -> Session:
        """As the constructor, for an event loop."""
        self = cls._unopened(path, timeout)
        await self._loop().run(self._link.open_steps(name, slots, bell_interval, token))
        return self

    @classmethod
    def _unopened(cls, path: Union[str, os.PathLike[str]], timeout: float) -> Session:
        self = cls.__new__(cls)
        self._prepare(path, timeout)
        return self

    def _prepare(self, path: Union[str, os.PathLike[str]], timeout: float) -> None:
        self._streams: Dict[int, Stream] = {}
        self._round: Deque[Stream] = deque()
        self._rotated: Deque[Stream] = deque()
        self._state_gen: Optional[int] = None
        self._waiter: Optional[Waiter] = None
        self._link = Link(path, timeout)

    def _loop(self) -> Waiter:
        if self._waiter is None:
            from ._asyncio import Waiter

            self._waiter = Waiter()
        return self._waiter

    @property
    def daemon_epoch(self) -> int:
        """Random number of the producer's run."""
        return self._link.daemon_epoch

    @property
    def slots(self) -> int:
        """Streams that can be attached at once."""
        return self._link.slots

    @property
    def notified(self) -> bool:
        """It is woken by the producer; else, with an older one, it looks every 2 ms."""
        return self._link.has_notify

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the session. What was given out stays valid: it is the caller's own."""
        for stream in self._streams.values():
            stream._release()
        self._streams.clear()
        self._round.clear()
        self._rotated.clear()
        if self._waiter is not None:
            self._waiter.release()
        self._link.close()

    def attach(
        self,
        id: str,
        *,
        from_: Where = KEYFRAME,
        reader_class: Class = Class.LIVE,
        filters: Optional[Filter] = None,
        tracks: int = ALL_TRACKS,
        lag_max: float = 3.0,
        ring_slots: int = 128,
    ) -> Stream:
        """Attaches a stream. `filters`: default SKIP_DAMAGED for class LIVE, none for ARCHIVE. `tracks`: bit n, track n is
        wanted. `lag_max`: seconds after which a LIVE reader jumps to the newest keyframe.
        """
        return run(self._attach_steps(id, join_of(from_, reader_class, filters, tracks, lag_max, ring_slots)))

    async def attach_async(
        self,
        id: str,
        *,
        from_: Where = KEYFRAME,
        reader_class: Class = Class.LIVE,
        filters: Optional[Filter] = None,
        tracks: int = ALL_TRACKS,
        lag_max: float = 3.0,
        ring_slots: int = 128,
    ) -> Stream:
        """As `attach`, for an event loop."""
        join = join_of(from_, reader_class, filters, tracks, lag_max, ring_slots)
        return await self._loop().run(self._attach_steps(id, join))

    def detach(self, stream: Stream) -> Counts:
        """Detaches a stream; what became of its units."""
        return run(self._detach_steps(stream))

    async def detach_async(self, stream: Stream) -> Counts:
        """As `detach`, for an event loop."""
        return await self._loop().run(self._detach_steps(stream))

    def streams(self) -> List[Stream]:
        """The attached streams."""
        return list(self._streams.values())

    def next(self, timeout: Optional[float] = None) -> Optional[Event]:
        """What happened next, waiting for it at most `timeout` seconds (`None`: for ever); `None` when nothing did."""
        event = self._scan()
        return event if event is not None else run(self._next_steps(timeout))

    async def anext(self, timeout: Optional[float] = None) -> Optional[Event]:
        """As `next`, for an event loop."""
        event = self._scan()
        if event is None:
            return await self._loop().run(self._next_steps(timeout))
        await self._loop().pause()
        return event

    def __iter__(self) -> Iterator[Event]:
        while self._streams or self._rotated:
            event = self.next()
            if event is not None:
                yield event

    async def __aiter__(self) -> AsyncIterator[Event]:
        while self._streams or self._rotated:
            event = await self.anext()
            if event is not None:
                yield event

    def _attach_steps(self, id: str, join: Join) -> Steps[Stream]:
        def open_stream(attached: Attached, descriptors: List[int]) -> Stream:
            resumed = join.where.kind == From.AFTER and attached.flags & AttachedFlag.RESUMED != 0
            counting = Counting(join.where.arg if resumed else None)
            attachment = self._attachment(attached, descriptors, join, counting, not resumed)
            stream = Stream(self, id, join, attached, attachment)
            self._streams[stream.slot] = stream
            return stream

        return (yield from self._ask_attach(id, join, open_stream))

    def _ask_attach(self, id: str, join: Join, adopt: Callable[[Attached, List[int]], T]) -> Steps[T]:
        """ATTACH; what `adopt` makes of the answer. What it cannot use is detached (§5)."""
        attached, descriptors = yield from self._link.attach_steps(id, join)
        try:
            if attached.slot in self._streams:
                raise ProtocolError(f"slot {attached.slot} was given twice")
            return adopt(attached, descriptors)
        except SegmentError:
            self._link.forget(attached.slot)
            raise
        finally:
            close_all(descriptors)

    def _attachment(
        self, attached: Attached, descriptors: List[int], join: Join, counting: Counting, waits: bool
    ) -> Attachment:
        self._link.tail_index(attached.slot)
        head_index = self._link.head_index(attached.slot)
        everything = join.filters & Filter.EVERYTHING != 0
        stream, ring = descriptors
        return Attachment(stream, ring, self._link.heads, head_index, counting, waits, everything)

    def _detach_steps(self, stream: Stream) -> Steps[Counts]:
        stream._wanted = False
        if self._streams.get(stream.slot) is stream:
            self._remove(stream)
            yield from self._link.detach_steps(stream.slot)
        return stream.counts()

    def _remove(self, stream: Stream) -> None:
        del self._streams[stream.slot]
        stream._attachment.clear_head()
        stream._release()

    def _scan(self) -> Optional[Event]:
        """What the next ready ring has for the caller. Each ready ring is asked once a round, so that none starves others."""
        looked = False
        while True:
            while self._round:
                stream = self._round.popleft()
                event = self._take(stream) if stream.attached else None
                if event is not None:
                    return event
            if looked or not self._streams:
                return None
            looked = True
            self._note_changes()
            tails = self._link.tails
            self._round.extend(
                stream
                for stream in self._streams.values()
                if stream._look or tails[stream._tail_index] != stream._attachment.head_low
            )

    def _note_changes(self) -> None:
        """After a change of some state every ring's end is looked at once more: an end moves no tail."""
        now = self._link.state_gen()
        if now != self._state_gen:
            self._state_gen = now
            self._look_at_all()

    def _look_at_all(self) -> None:
        for stream in self._streams.values():
            stream._look = stream._rotated is None

    def _take(self, stream: Stream) -> Optional[Event]:
        taken = stream._attachment.take()
        for _ in range(RECORDS_PER_LOOK):
            if taken is not DROPPED:
                break
            taken = stream._attachment.take()
        if taken is DROPPED:
            # What comes while records are passed over is followed by a bell.
            return None
        if isinstance(taken, TakenUnit):
            return Unit(stream, *taken)
        stream._look = False
        if not isinstance(taken, TakenEnd):
            return None
        if taken.state == RingState.ROTATED:
            stream._rotated = taken
            self._rotated.append(stream)
            return None
        self._remove(stream)
        self._link.forget(stream.slot)
        return Ended(stream, taken.state, taken.reason, stream.counts())

    def _next_steps(self, timeout: Optional[float]) -> Steps[Optional[Event]]:
        deadline = deadline_of(timeout)
        while True:
            event = self._scan()
            if event is None and self._rotated:
                event = yield from self._follow(self._rotated.popleft())
            if event is not None:
                return event
            if self._link.closed:
                raise RingError("the session is closed")
            if not self._link.client.alive:
                raise ProducerGone()
            if is_over(deadline):
                return None
            yield self._link.wait(deadline)
            self._link.refresh()
            if not self._link.client.alive or is_over(deadline):
                # The producer may have died between what a ring says and what the session says of it (§7).
                self._look_at_all()

    def _follow(self, stream: Stream) -> Steps[Optional[Event]]:
        """Lets a rotated stream's slot go and attaches the stream where it goes on (§9.3)."""
        end = stream._rotated
        if end is None or not stream._wanted:
            return None
        join = stream._join._replace(where=after(stream.epoch, end.final_seq))
        try:
            if stream.attached:
                self._remove(stream)
                yield from self._link.detach_steps(stream.slot)
            return (yield from self._ask_attach(stream.id, join, functools.partial(self._adopt, stream, end)))
        except Refused as refused:
            return Ended(stream, end.state, end.reason, stream.counts(), refused)
        except GeneratorExit:
            # The task was cancelled: the next one to wait goes on with it.
            self._rotated.append(stream)
            raise

    def _adopt(self, stream: Stream, end: TakenEnd, attached: Attached, descriptors: List[int]) -> Optional[Event]:
        if not stream._wanted:
            # Another task has detached it meanwhile.
            self._link.forget(attached.slot)
            return None
        resumed = attached.flags & AttachedFlag.RESUMED != 0
        attachment = self._attachment(attached, descriptors, stream._join, Counting(), not resumed)
        counts = stream.counts()
        if attached.epoch == stream.epoch:
            attachment.follow(stream._attachment, end)
        stream._adopt(attached, attachment)
        self._streams[stream.slot] = stream
        return Rotated(stream, resumed, stream.epoch, counts)
