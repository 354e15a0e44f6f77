"""What `./tools/bench ingest` prints, in Markdown."""

import statistics
from collections import Counter

from ingest_targets import (MISSED, RETINA, Target, each, floor_of, is_void, latencies, measured, ratios, targets_of,
                            why_void)

VOID, NOTHING = "void", "–"


def document(run: dict) -> str:
    return "\n".join([header(run), *map(load_tables, run["loads"]), targets(run)])


def header(run: dict) -> str:
    """Where, when and how it was measured."""
    machine, placement = run["machine"], run["machine"]["placement"]
    facts = {
        "command": f"`{run['command']}`",
        "machine": f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, Linux {machine['kernel']}",
        "placement": f"the receiver with all its threads on core {placement['receiver']}, cameras on core {placement['farm']}, "
                     f"readers on core {placement['readers']}; "
                     + ("all go before other programs" if run["has_precedence"] else "**not allowed to go before other programs**"),
        "commit": run["commit"],
        "date": f"{run['began']} UTC",
        "rounds": f"{run['rounds']} of {run['seconds']} s, taking turns",
    }
    facts |= {f"left out: {name}": why for name, why in run["skipped"].items()}
    lines = ["### Run", "", "| | |", "|---|---|", *(row([what, cell(fact)]) for what, fact in facts.items())]
    return "\n".join([*lines, "", "Medians (least–most) of the rounds. Latency counts from where the measured time begins. "
                      "What rests on a void row is void.", ""])


def load_tables(load: dict) -> str:
    windows = load["windows"]
    others = each([window for found in windows.values() for window in measured(found)], "others_cores")
    lines = [f"### {load['name']}", "",
             "| receiver | CPU s a stream-minute | × discard | × retina | readers, CPU s a stream-minute | latency µs, p50 / p99 / p99.9 |",
             "|---|---|---|---|---|---|"]
    for name, found in windows.items():
        done = measured(found)
        cells = [title(name, found, says_why=True), spread(each(done, "cpu_s_per_stream_minute"), 4),
                 ratio(windows, name, floor_of(load, name)), ratio(windows, name, RETINA),
                 spread(each(done, "readers_cpu_s_per_stream_minute"), 4) if has_readers(done) else "", latency(done)]
        lines.append(row(cells))
    missed = ", ".join(MISSED.values())
    lines += ["", "| receiver | system calls /s | wake-ups /s | turns /s | reader wakes /s | without buffer, re-armed, over budget /s"
              " | private KiB a stream | shared KiB a stream | threads | simulator: of a core, dropped, held up"
              f" | readers: {missed} |",
              "|---|---|---|---|---|---|---|---|---|---|---|"]
    lines += [row(facts(name, found)) for name, found in windows.items()]
    wakes = {what: spread(each(load["wakes"], what), 1) for what in ("sleep_us", "wake_us")}
    twice = [wake["twice"] for wake in load["wakes"] if wake.get("twice")]
    hops = (" Woken from the readers' core, a thread on the receiver's that woke another on the readers' had it run "
            + " / ".join(spread(each(twice, f"{what}_us"), 0) for what in ("p50", "p99", "p999")) + " µs later (p50 / p99 / p99.9)."
            if twice else "")
    again = [f"{name} did not come up at once in some round (tries: {', '.join(map(str, each(measured(found), 'tries')))}).\n"
             for name, found in windows.items() if any(window["tries"] > 1 for window in measured(found))]
    return "\n".join([*lines, "", f"Other programs had {spread(others, 2)} cores of this machine meanwhile. To sleep and be woken by a timer "
                      f"cost a thread {wakes['sleep_us']} µs, to wake a thread on the readers' core {wakes['wake_us']} µs.{hops}", "", *again])


def title(name: str, found: list, says_why: bool = False) -> str:
    if not is_void(found):
        return name
    return f"{name} (**void**: {cell(why_void(found))})" if says_why else f"{name} (**void**)"


def facts(name: str, found: list) -> list[str]:
    done = measured(found)
    if not done:
        return [title(name, found), *[NOTHING] * 10]

    def rate(what: str) -> str:
        values = [window["rates"][what] for window in done if what in window["rates"]]
        return number(statistics.median(values), 0) if values else ""

    trouble = ", ".join(rate(what) or NOTHING for what in ("out_of_buffers", "rearms", "overruns"))
    private = "grown_kib" if "grown_kib" in done[0] else "anon_kib"
    a_stream = {what: statistics.median(window[what] / window["cameras"] for window in done) for what in (private, "shared_kib")}
    threads = statistics.median(window["threads"] for window in done)
    farm = ", ".join([spread(each(done, "farm_cores"), 2), *(str(sum(each(done, f"farm_{what}"))) for what in ("dropped", "held_up"))])
    missed = ", ".join(str(sum(each(each(done, "readers"), what))) for what in MISSED) if has_readers(done) else ""
    return [title(name, found), rate("system_calls"), rate("wake_ups"), rate("turns"), rate("reader_wakes"),
            trouble if done[0]["rates"].get("turns") else "", number(a_stream[private], 0),
            number(a_stream["shared_kib"], 0), number(threads, 0), farm, missed]


def targets(run: dict) -> str:
    """Every target of the design beside what was measured: how many are met, those of 64 cameras at a glance, then all."""
    found = targets_of(run)
    count = Counter(target.verdict for target in found)
    lines = ["### Targets", "", f"Of {len(found)}: {count['met']} met, {count['missed']} missed, {count['void']} void.", ""]
    lines += glance([load for load in run["loads"] if load["cameras"] == 64], found)
    lines += ["| what | load | measured | target | |", "|---|---|---|---|---|"]
    for target in found:
        verdict = target.verdict if target.verdict == "met" else f"**{target.verdict}**"
        lines.append(row([f"{target.receiver}: {target.what}", target.load, spread(target.values, target.digits),
                          f"≤ {target.limit:g}", verdict]))
    return "\n".join(lines) + "\n"


def glance(loads: list[dict], found: list[Target]) -> list[str]:
    """A line for what is judged, a column for how it is received and sent."""
    table: dict[str, dict[str, str]] = {}
    columns = [f"{io}, {load['write']}" for io in ("uring", "epoll") for load in loads]
    for load in loads:
        for target in (target for target in found if target.load == load["name"]):
            receiver = load["receivers"][target.receiver]
            what = target.what + f", {receiver['readers']} readers" * (receiver["readers"] != 1)
            table.setdefault(what, {})[f"{receiver['io']}, {load['write']}"] = verdict_in_short(target)
    if not table:
        return []
    columns = [column for column in columns if any(column in cells for cells in table.values())]
    return [row(["64 cameras: median / target", *columns]), "|---" * (1 + len(columns)) + "|",
            *(row([what, *(cells.get(column, "") for column in columns)]) for what, cells in table.items()), ""]


def verdict_in_short(target: Target) -> str:
    if not target.values:
        return f"**{VOID}**"
    text = f"{number(statistics.median(target.values), target.digits)} / {target.limit:g}"
    return f"{text} met" if target.verdict == "met" else f"**{text} missed**"


def ratio(windows: dict, name: str, to: str) -> str:
    if name == to or to not in windows:
        return ""
    return VOID if is_void(windows[name]) or is_void(windows[to]) else spread(ratios(windows, name, to), 2)


def has_readers(done: list) -> bool:
    return bool(done and done[0].get("readers"))


def latency(done: list) -> str:
    of = [latencies(done, quantile) for quantile in ("p50_us", "p99_us", "p999_us")]
    return " / ".join(spread(values, 0) for values in of) if done and all(of) else ""


def spread(values: list, digits: int) -> str:
    """Median (least–most)."""
    if not values:
        return NOTHING
    middle = number(statistics.median(values), digits)
    return f"{middle} ({number(min(values), digits)}–{number(max(values), digits)})" if len(values) > 1 else middle


def number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}"


def cell(text: str) -> str:
    """What others say may hold what would end a cell."""
    return " ".join(text.split()).replace("|", "\\|")


def row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
