"""What `./tools/bench ingest` was to show: the targets of the design, and what was measured beside them."""

# Ratio of a round to another receiver of the same round, by (kind, io) of that other.
OURS, OURS_3 = "ours, uring, 500 µs, 1 reader", "ours, uring, 500 µs, 3 readers"
OURS_EPOLL, RETINA = "ours, epoll, 500 µs, 1 reader", "retina 0.4.21"
GSTREAMERS = ("GStreamer, appsink", "GStreamer, shmsink + matroskamux")
FLOOR = {OURS: "discard, uring", OURS_3: "discard, uring", OURS_EPOLL: "discard, epoll"}


def is_void(found: list) -> bool:
    """Whether it did not get in some round what it was to be measured with."""
    return not all(window["is_complete"] for window in found)


def judged(load: dict, loads: list[dict]):
    """(what, a value a round, its limit, digits) for each target that this load speaks of."""
    windows, cameras, unit = load["windows"], load["cameras"], load["write"] == "unit"
    for name in (OURS, OURS_EPOLL, OURS_3):
        if name in windows:
            if is_void(windows[name]):
                continue
            limit = 1.55 if name == OURS_3 else 1.35 if unit else 1.20
            if FLOOR[name] not in windows:
                continue
            yield f"{name}: CPU, × discard", ratios(windows, name, FLOOR[name]), limit, 2
    for name in (name for name in (OURS, OURS_EPOLL) if name in windows):
        against = {64: (0.60, 0.45), 200: (0.42, 0.38)}.get(cameras)
        if against and RETINA in windows:
            yield f"{name}: CPU, × retina", ratios(windows, name, RETINA), against[not unit], 2
        for peer in GSTREAMERS:
            if cameras == 64 and peer in windows and not is_void(windows[peer]):
                yield f"{name}: CPU, × {peer}", ratios(windows, name, peer), 0.07, 3
        found = windows[name]
        if cameras == 64:
            yield from ((f"{name}: latency {quantile[:3]}, µs", [window["latency"][quantile] for window in found], limit, 0)
                        for quantile, limit in ((("p50_us", 60), ("p99_us", 200)) if unit else (("p99_us", 450),)))
        none = name.replace("1 reader", "0 readers")
        if none in windows and name in windows and not is_void(windows[none]) and all(rates(found, "reader_wakes")):
            yield f"{name}: a bell, feeding included, µs", bells(found, windows[none]), 4, 1
        # Below, what a daemon takes once is most of it.
        if cameras >= 64:
            yield f"{name}: private KiB a stream", [window["grown_kib"] / window["cameras"] for window in found], 64, 1
        yield f"{name}: system calls /s", rates(found, "system_calls"), 1500 if name == OURS else 5000, 0
        yield f"{name}: wake-ups /s", rates(found, "wake_ups"), 2500, 0
        # Only those that found no buffer; others are armed again after a pause or a new connection.
        yield (f"{name}: receives without a buffer, %",
               [100 * window["rates"]["out_of_buffers"] / window["rates"]["completions"] for window in found], 0.1, 3)
        at_64 = next((other for other in loads if other["cameras"] == 64 and other["write"] == load["write"]), None)
        if cameras > 64 and at_64 and name in at_64["windows"]:
            per_stream = each(at_64["windows"][name], "cpu_s_per_stream_minute")
            growth = [now / then for now, then in zip(each(found, "cpu_s_per_stream_minute"), per_stream)]
            yield f"{name}: CPU a stream, × that at 64", growth, 1, 2


def floor_of(load: dict, name: str) -> str | None:
    receiver = load["receivers"][name]
    return f"discard, {receiver['io']}" if receiver["io"] else "discard, uring"


def ratios(windows: dict, name: str, to: str) -> list[float]:
    what = "cpu_s_per_stream_minute"
    return [one[what] / other[what] for one, other in zip(windows[name], windows.get(to, []))]


def bells(found: list, without: list) -> list[float]:
    """What a reader adds to the receiver's time, a time that it is woken."""
    return [1e6 * (one["cpu_s"] / one["wall_s"] - other["cpu_s"] / other["wall_s"]) / one["rates"]["reader_wakes"]
            for one, other in zip(found, without)]


def rates(found: list, what: str) -> list[float]:
    return [window["rates"][what] for window in found]


def each(found: list, what: str) -> list:
    return [window[what] for window in found]
