"""What `./tools/bench ingest` was to show: which rows hold, the targets of the design, and what was measured beside them.

A row is a receiver's windows of one load, one a round. It is void when one of them is not what it was to be, and then nothing
may rest on it: neither a ratio to it nor a verdict.
"""

import dataclasses
import statistics
from collections.abc import Callable

OURS, OURS_3 = "ours, uring, 500 µs, 1 reader", "ours, uring, 500 µs, 3 readers"
OURS_EPOLL, OURS_EPOLL_3 = "ours, epoll, 500 µs, 1 reader", "ours, epoll, 500 µs, 3 readers"
RETINA = "retina 0.4.21"
GSTREAMERS = ("GStreamer, appsink", "GStreamer, shmsink + matroskamux")
# What readers count of units that did not arrive once, in order and as they were sent, and how it is said.
MISSED = {"lost": "lost", "rejected": "rejected", "skipped": "skipped", "wrong": "not as stamped"}


@dataclasses.dataclass(frozen=True)
class Target:
    """A target of the design beside what was measured."""

    receiver: str
    what: str
    # The load's name.
    load: str
    # One a round; none if it would rest on a void row.
    values: list[float]
    limit: float
    digits: int

    @property
    def verdict(self) -> str:
        if not self.values:
            return "void"
        return "met" if statistics.median(self.values) <= self.limit else "missed"


def why_void(found: list) -> str:
    """What spoils the row, for a table's cell; empty if it holds."""
    failed = [window["failed"] for window in found if "failed" in window]
    done = measured(found)
    reasons = failed + ["it did not get all units"] * any(not window["is_complete"] for window in done)
    of_readers = [window["readers"] for window in done if window.get("readers")]
    missed = {words: sum(readers[what] for readers in of_readers) for what, words in MISSED.items()}
    reasons += [f"units {words}: {count}" for words, count in missed.items() if count]
    silent = sum(readers["silent"] for readers in of_readers)
    reasons += [f"streams of which a reader got nothing: {silent}"] * bool(silent)
    statuses = sorted({status for readers in of_readers for status in readers["statuses"] if status})
    reasons += [f"a reader ended with {', '.join(map(str, statuses))}"] * bool(statuses)
    return "; ".join(reasons)


def is_void(found: list) -> bool:
    return bool(why_void(found))


def measured(found: list) -> list:
    """The windows that came to their end."""
    return [window for window in found if "failed" not in window]


def spoiled(run: dict) -> list[str]:
    """Rows of ours that are void."""
    return [f"{load['name']}: {name}: {why}" for load in run["loads"] for name, found in load["windows"].items()
            if load["receivers"][name]["kind"] == "ours" and (why := why_void(found))]


def targets_of(run: dict) -> list[Target]:
    """All that this run speaks of."""
    return [target for load in run["loads"] for target in judged(load, run["loads"])]


def judged(load: dict, loads: list[dict]):
    windows, cameras, unit = load["windows"], load["cameras"], load["write"] == "unit"

    def target(name: str, what: str, limit: float, digits: int, values: Callable[[list], list], *beside: list) -> Target:
        rests_on_void = any(map(is_void, (windows[name], *beside)))
        return Target(name, what, load["name"], [] if rests_on_void else values(windows[name]), limit, digits)

    def beside_peer(name: str, peer: str, what: str, limit: float, digits: int = 2) -> Target:
        return target(name, f"CPU, × {what}", limit, digits, lambda _: ratios(windows, name, peer), windows[peer])

    for name in (name for name in (OURS, OURS_EPOLL, OURS_3, OURS_EPOLL_3) if name in windows):
        if (floor := floor_of(load, name)) in windows:
            limit = 1.55 if name in (OURS_3, OURS_EPOLL_3) else 1.35 if unit else 1.20
            yield beside_peer(name, floor, "discard", limit)
        none = name.replace("1 reader", "0 readers").replace("3 readers", "0 readers")
        if none in windows:
            yield target(name, "a bell, feeding included, µs", 4, 1, lambda found: bells(found, windows[none]), windows[none])
    for name in (name for name in (OURS, OURS_EPOLL) if name in windows):
        against = {64: (0.60, 0.45), 200: (0.42, 0.38)}.get(cameras)
        if against and RETINA in windows:
            yield beside_peer(name, RETINA, "retina", against[not unit])
        for peer in GSTREAMERS:
            if cameras == 64 and peer in windows:
                yield beside_peer(name, peer, peer, 0.07, 3)
        if cameras == 64:
            for quantile, limit in (("p50_us", 60), ("p99_us", 200)) if unit else (("p99_us", 450),):
                yield target(name, f"latency {quantile[:3]}, µs", limit, 0, lambda found: latencies(found, quantile))
        # Below, what a daemon takes once is most of it.
        if cameras >= 64:
            yield target(name, "private KiB a stream", 64, 1,
                         lambda found: [window["grown_kib"] / window["cameras"] for window in found])
        yield target(name, "system calls /s", 1500 if name == OURS else 5000, 0, lambda found: rates(found, "system_calls"))
        yield target(name, "wake-ups /s", 2500, 0, lambda found: rates(found, "wake_ups"))
        # Only those that found no buffer; others are armed again after a pause or a new connection.
        yield target(name, "receives without a buffer, %", 0.1, 3, lambda found: [
            100 * window["rates"]["out_of_buffers"] / window["rates"]["completions"] for window in found])
        at_64 = next((other for other in loads if other["cameras"] == 64 and other["write"] == load["write"]), None)
        if cameras > 64 and at_64 and name in at_64["windows"]:
            there = at_64["windows"][name]
            yield target(name, "CPU a stream, × that at 64", 1, 2, lambda found: growth(found, there), there)


def floor_of(load: dict, name: str) -> str:
    """Who only receives, in the same way."""
    return f"discard, {load['receivers'][name]['io'] or 'uring'}"


def ratios(windows: dict, name: str, to: str) -> list[float]:
    """Of each round; neither row is void."""
    return growth(windows[name], windows[to])


def growth(found: list, than: list) -> list[float]:
    what = "cpu_s_per_stream_minute"
    return [one[what] / other[what] for one, other in zip(found, than, strict=True)]


def bells(found: list, without: list) -> list[float]:
    """What readers add to the receiver's time, a time that one of them is woken; nothing if none was."""
    if not all(rates(found, "reader_wakes")):
        return []
    return [1e6 * (one["cpu_s"] / one["wall_s"] - other["cpu_s"] / other["wall_s"]) / one["rates"]["reader_wakes"]
            for one, other in zip(found, without, strict=True)]


def latencies(found: list, quantile: str) -> list[float]:
    """Nothing if a round timed no unit."""
    return each(each(found, "latency"), quantile) if all(window.get("latency") for window in found) else []


def rates(found: list, what: str) -> list[float]:
    return [window["rates"][what] for window in found]


def each(found: list, what: str) -> list:
    return [window[what] for window in found]
