"""Waiting in an event loop. Imported by who has one: the import takes longer than all the rest of the package."""

from __future__ import annotations

import asyncio
from typing import Dict, Optional, Set, TypeVar

from ._waiting import Steps, Wait

T = TypeVar("T")
BATCH = 64
"""Events that are given out without a wait before other tasks get their turn."""


class Waiter:
    """Drives steps with the running event loop. Several tasks may wait for the same descriptor."""

    def __init__(self) -> None:
        self._in_a_row = 0
        self._waiting: Dict[int, Set[asyncio.Future[None]]] = {}
        self._loop: Optional[asyncio.AbstractEventLoop] = None

    async def run(self, steps: Steps[T]) -> T:
        """Drives steps to their end."""
        try:
            while True:
                try:
                    wait = next(steps)
                except StopIteration as done:
                    value: T = done.value
                    return value
                await self._wait(wait)
        finally:
            steps.close()

    async def pause(self) -> None:
        """Something was there at once: after many of them other tasks get their turn."""
        self._in_a_row += 1
        if self._in_a_row >= BATCH:
            self._in_a_row = 0
            await asyncio.sleep(0)

    async def _wait(self, wait: Wait) -> None:
        self._in_a_row = 0
        loop = self._loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(wait.seconds(), wake, woken)
        for descriptor in wait.descriptors:
            if descriptor not in self._waiting:
                self._waiting[descriptor] = set()
                loop.add_reader(descriptor, self._readable, descriptor)
            self._waiting[descriptor].add(woken)
        try:
            await woken
        finally:
            timer.cancel()
            for descriptor in wait.descriptors:
                self._leave(descriptor, woken)

    def _leave(self, descriptor: int, woken: asyncio.Future[None]) -> None:
        waiting = self._waiting.get(descriptor, set())
        waiting.discard(woken)
        if not waiting and self._waiting.pop(descriptor, None) is not None and self._loop is not None:
            self._loop.remove_reader(descriptor)

    def _readable(self, descriptor: int) -> None:
        for woken in self._waiting[descriptor]:
            wake(woken)

    def release(self) -> None:
        """Wakes all who wait: the descriptors are about to be closed."""
        for descriptor, waiting in list(self._waiting.items()):
            for woken in list(waiting):
                wake(woken)
                self._leave(descriptor, woken)


def wake(woken: asyncio.Future[None]) -> None:
    """Ends a wait; once is enough."""
    if not woken.done():
        woken.set_result(None)
