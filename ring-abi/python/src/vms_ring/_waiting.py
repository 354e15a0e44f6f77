"""Waiting without saying how: operations that may have to wait are generators of `Wait`, driven by poll here, by asyncio in `_asyncio`."""

from __future__ import annotations

import select
import time
from typing import Generator, NamedTuple, Optional, Tuple, TypeVar

T = TypeVar("T")
NAP_MAX = 1.0
"""Longest wait: how late anything is noticed that no descriptor tells."""


class Wait(NamedTuple):
    """Wait until a descriptor is readable or has hung up, or until a time (`time.monotonic`)."""

    descriptors: Tuple[int, ...]
    until: Optional[float] = None

    def seconds(self) -> float:
        """How long at most."""
        return NAP_MAX if self.until is None else min(max(self.until - time.monotonic(), 0.0), NAP_MAX)


Steps = Generator[Wait, None, T]


def deadline_of(timeout: Optional[float]) -> Optional[float]:
    """The end of a wait of `timeout` seconds that begins now."""
    return None if timeout is None else time.monotonic() + timeout


def is_over(deadline: Optional[float]) -> bool:
    """Whether it has passed."""
    return deadline is not None and time.monotonic() >= deadline


def seconds_left(deadline: Optional[float]) -> Optional[float]:
    """What is left until then."""
    return None if deadline is None else max(deadline - time.monotonic(), 0.0)


def sooner(deadline: Optional[float], seconds: float) -> float:
    """The earlier of a deadline and `seconds` from now."""
    soon = time.monotonic() + seconds
    return soon if deadline is None else min(deadline, soon)


def run(steps: Steps[T]) -> T:
    """Drives steps with this thread."""
    while True:
        try:
            wait = next(steps)
        except StopIteration as done:
            value: T = done.value
            return value
        poller = select.poll()
        for descriptor in wait.descriptors:
            poller.register(descriptor, select.POLLIN)
        poller.poll(wait.seconds() * 1000)
