"""What well-behaved cameras notice of others that misbehave: `./tools/bench isolation`.

Two daemons' lives, taking turns: 64 cameras that behave, and the same with 8 of them misbehaving, each in another way of
`MISBEHAVIOURS`, for as long as it is measured. vms-tap reads the other 56 in one session and checks each unit's stamp (counter,
CRC, send time). They must lose nothing; their latency is put beside that of the undisturbed turn of the same pair.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time

from rig import Rig, cpu_seconds

CAMERAS = 64
WARM_UP_S = 3
TARGET = 1.2
QUANTILES = {"p50_us": "p50", "p99_us": "p99", "p999_us": "p99.9"}

# Each is a simulator of its own with one camera: what it is called, and how it is told.
MISBEHAVIOURS = {
    "hangs up after 2 s, again and again": ("--fault", "close-after=50"),
    "falls silent after 2 s, TCP alive": ("--fault", "stall-after=50"),
    "garbage between frames": ("--fault", "garbage"),
    "every 7th packet is missing": ("--fault", "lose=7"),
    "another SSRC, sequence and time each second": ("--fault", "ssrc-change=25"),
    "a fragmented unit without end, as fast as it is read": ("--fault", "endless-fu"),
    "an answer of 100 GB, as fast as it is read": ("--fault", "huge-body"),
    "refuses the password": ("--user", "operator", "--password", "another"),
}


def main() -> int:
    options = arguments()
    pairs = []
    for number in range(options.pairs):
        pair = {}
        # Who goes first takes turns too.
        for disturbed in (False, True) if number % 2 == 0 else (True, False):
            word = "disturbed" if disturbed else "undisturbed"
            print(f"pair {number + 1}: {word} ...", file=sys.stderr)
            with Rig(options.programs.resolve()) as rig:
                pair[word] = window(rig, disturbed, options)
        pairs.append(pair)
    if options.json:
        options.json.write_text(json.dumps(pairs, indent=1) + "\n")
    return report(pairs, options)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./tools/bench isolation")
    parser.add_argument("programs", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--pairs", type=int, default=5, help="pairs of turns (default 5)")
    parser.add_argument("--seconds", type=int, default=60, help="measured seconds of each turn (default 60)")
    parser.add_argument("--io", choices=("uring", "epoll"), default="uring", help="the daemon's back end")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write what was measured to FILE")
    options = parser.parse_args()
    if options.pairs < 1 or options.seconds < 1:
        parser.error("--pairs and --seconds are at least 1")
    return options


def window(rig: Rig, disturbed: bool, options: argparse.Namespace) -> dict:
    """One turn."""
    good = CAMERAS - len(MISBEHAVIOURS)
    farm, address = rig.start_farm(CAMERAS, "4M", "unit")
    daemon = rig.start_daemon("--io", options.io)
    urls = {f"cam{number}": f"rtsp://{address}/cam{number}" for number in range(CAMERAS)}
    if disturbed:
        urls |= misbehaving(rig, good)
    for stream, url in urls.items():
        rig.ctl("setup", stream, url)
    ids = [f"cam{number}" for number in range(good)]
    time.sleep(WARM_UP_S)
    tap = rig.start("tap", "vms-tap", "--ring-socket", str(rig.ring_socket), "--summary", "--stamp",
                    "--duration", str(options.seconds), *ids)
    before, since = cpu_seconds(daemon.pid), time.monotonic()
    status = tap.wait(timeout=options.seconds + 60)
    used = (cpu_seconds(daemon.pid) - before) / (time.monotonic() - since)
    states = {stream["stream_id"]: stream for stream in json.loads(rig.ctl("list", "--json"))["streams"]}
    rig.end(daemon)
    rig.end(farm)
    summary = rig.last_json("tap")
    streams = summary["streams"]
    return {
        "latency": summary["latency"], "status": status, "daemon_cores": used,
        "units": sum(s["units"] for s in streams),
        "lost": sum(s["lost"] + s["rejected"] + s["skipped"] for s in streams),
        "bad": sum(count for s in streams for verdict, count in s["stamps"].items() if verdict != "good"),
        "not_streaming": [stream for stream in ids if states[stream]["state"] != "streaming"],
        "reconnects": sum(states[stream]["reconnects"] for stream in ids),
        "late": sum(camera["dropped"] + camera["held_up"] for camera in rig.last_json("farm")["cameras"].values()),
        "misbehaving": {stream: told(states[stream]) for stream in urls if stream not in ids} if disturbed else {},
    }


def misbehaving(rig: Rig, first: int) -> dict:
    """The other cameras, by stream."""
    urls = {}
    for number, arguments in enumerate(MISBEHAVIOURS.values(), first):
        log = f"bad{number}"
        rig.start(log, "vms-camsim", "--listen", "127.0.0.1:0", "--cameras", "1", "--bitrate", "4M", *arguments)
        address = rig.wait_for(log, "listening on ").split()[-1]
        user = "operator:wrong@" if "--password" in arguments else ""
        urls[f"cam{number}"] = f"rtsp://{user}{address}/cam0"
    return urls


def told(stream: dict) -> str:
    """What the daemon says of a stream at the end of a turn."""
    return f"{stream['state']}, {stream['reason'] or 'nothing wrong'}, {stream['reconnects']} reconnects"


def report(pairs: list, options: argparse.Namespace) -> int:
    good = CAMERAS - len(MISBEHAVIOURS)
    print(f"### {good} cameras beside {len(MISBEHAVIOURS)} that misbehave\n")
    print(f"{options.pairs} pairs of {options.seconds} s, {CAMERAS} cameras of 4 Mbit/s, {options.io}; medians (least–most).\n")
    print("| | undisturbed | disturbed | disturbed / undisturbed | target |\n|---|---|---|---|---|")
    for quantile, name in QUANTILES.items():
        of = {word: [pair[word]["latency"][quantile] for pair in pairs] for word in ("undisturbed", "disturbed")}
        ratios = [pair["disturbed"]["latency"][quantile] / pair["undisturbed"]["latency"][quantile] for pair in pairs]
        if quantile == "p99_us":
            ratio = statistics.median(ratios)
        target = f"≤ {TARGET}" if quantile == "p99_us" else ""
        print(f"| latency {name}, µs | {spread(of['undisturbed'], 0)} | {spread(of['disturbed'], 0)} | {spread(ratios, 2)} | {target} |")
    of = {word: [pair[word]["daemon_cores"] for pair in pairs] for word in ("undisturbed", "disturbed")}
    print(f"| the daemon, of a core | {spread(of['undisturbed'], 3)} | {spread(of['disturbed'], 3)} | | |")
    for what in ("units", "lost", "bad", "reconnects", "late"):
        undisturbed, disturbed = (sum(pair[word][what] for pair in pairs) for word in ("undisturbed", "disturbed"))
        print(f"| {what} of the {good} | {undisturbed} | {disturbed} | | {'' if what == 'units' else 0} |")
    print("\nThe eight, as the daemon told of them at the end of the last pair:\n\n| camera | told |\n|---|---|")
    for name, words in zip(MISBEHAVIOURS, pairs[-1]["disturbed"]["misbehaving"].values()):
        print(f"| {name} | {words} |")
    turns = [pair[word] for pair in pairs for word in pair]
    is_whole = all(not (turn["lost"] or turn["bad"] or turn["reconnects"] or turn["not_streaming"] or turn["status"]) for turn in turns)
    print(f"\n{'Nothing was lost' if is_whole else 'SOMETHING WAS LOST'}; p99 is {ratio:.2f} times that of undisturbed turns,"
          f" target {TARGET}: {'met' if ratio <= TARGET else 'missed'}.")
    return 0 if is_whole else 1


def spread(values: list, digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


if __name__ == "__main__":
    sys.exit(main())
