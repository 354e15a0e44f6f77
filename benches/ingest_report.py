"""The tables of `./tools/bench ingest`, in Markdown, and what they say of the targets."""

import statistics

from ingest_targets import RETINA, each, floor_of, is_void, judged, ratios



def load_tables(load: dict) -> str:
    windows = load["windows"]
    others = [window["others_cores"] for found in windows.values() for window in found]
    lines = [f"### {load['name']}", "",
             "| receiver | CPU s a stream-minute | × discard | × retina | readers, CPU s a stream-minute | latency µs, p50 / p99 / p99.9 |",
             "|---|---|---|---|---|---|"]
    for name, found in windows.items():
        cells = [title(name, found), spread(each(found, "cpu_s_per_stream_minute"), 4),
                 ratio(windows, name, floor_of(load, name)), ratio(windows, name, RETINA),
                 spread(each(found, "readers_cpu_s_per_stream_minute"), 4) if found[0]["readers_cpu_s"] else "",
                 latency(found)]
        lines.append(row(cells))
    lines += ["", "| receiver | system calls /s | wake-ups /s | turns /s | reader wakes /s | without buffer, re-armed, over budget /s"
              " | private KiB a stream | shared KiB a stream | threads | simulator: of a core, dropped, held up | readers: lost |",
              "|---|---|---|---|---|---|---|---|---|---|---|"]
    lines += [row(facts(name, found)) for name, found in windows.items()]
    wakes = {what: spread(each(load["wakes"], what), 1) for what in ("sleep_us", "wake_us")}
    return "\n".join([*lines, "", f"Other programs had {spread(others, 2)} cores of this machine meanwhile. To sleep and be woken by a timer "
                      f"cost a thread {wakes['sleep_us']} µs, to wake a thread on the readers' core {wakes['wake_us']} µs.", ""])


def title(name: str, found: list) -> str:
    return f"{name} (**void**: it did not get all units)" if is_void(found) else name


def facts(name: str, found: list) -> list[str]:
    def rate(what: str) -> str:
        values = [window["rates"][what] for window in found if what in window["rates"]]
        return number(statistics.median(values), 0) if values else ""

    trouble = ", ".join(rate(what) or "–" for what in ("out_of_buffers", "rearms", "overruns"))
    private = "grown_kib" if "grown_kib" in found[0] else "anon_kib"
    a_stream = {what: statistics.median(window[what] / window["cameras"] for window in found) for what in (private, "shared_kib")}
    threads = statistics.median(window["threads"] for window in found)
    farm = ", ".join([spread(each(found, "farm_cores"), 2), *(str(sum(each(found, f"farm_{what}"))) for what in ("dropped", "held_up"))])
    lost = str(sum(each(found, "lost"))) if found[0]["readers_cpu_s"] else ""
    return [title(name, found), rate("system_calls"), rate("wake_ups"), rate("turns"), rate("reader_wakes"),
            trouble if found[0]["rates"].get("turns") else "", number(a_stream[private], 0),
            number(a_stream["shared_kib"], 0), number(threads, 0), farm, lost]


def targets(run: dict) -> str:
    """Every target of the design beside what was measured."""
    lines = ["### Targets", "", "| what | load | measured | target | |", "|---|---|---|---|---|"]
    for load in run["loads"]:
        for what, values, limit, digits in judged(load, run["loads"]):
            met = statistics.median(values) <= limit
            lines.append(row([what, load["name"], spread(values, digits), f"≤ {limit:g}", "met" if met else "**missed**"]))
    return "\n".join(lines) + "\n"


def ratio(windows: dict, name: str, to: str) -> str:
    values = ratios(windows, name, to)
    return spread(values, 2) if values and name != to else ""


def latency(found: list) -> str:
    if not all(window.get("latency") for window in found):
        return ""
    of = [[window["latency"][quantile] for window in found] for quantile in ("p50_us", "p99_us", "p999_us")]
    return " / ".join(spread(values, 0) for values in of)


def spread(values: list, digits: int) -> str:
    """Median (least–most)."""
    middle = number(statistics.median(values), digits)
    return f"{middle} ({number(min(values), digits)}–{number(max(values), digits)})" if len(values) > 1 else middle


def number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}"


def row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
