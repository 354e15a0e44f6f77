"""The daemon's ingest beside those who receive the same cameras: `./tools/bench ingest`.

```
 for each load:   round 1: A B C …   round 2: A B C …   round 3: A B C …
                          └ fresh cameras, one receiver, warm-up, the measured seconds, end
```
One receiver at a time, alone on its core; the cameras (and reader processes, whose time is listed apart) are on another. All
go before other programs where that is allowed. Processor time is the process's own clock. What is compared is a round's
ratio; tables give medians, least and most.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import platform
import subprocess
import sys
import time

import ingest_report
from ingest_targets import spoiled as spoiled_rows
from receivers import COUNTERS, Cores, Receiver, Receiving
from rig import NICE, Rig, busy_seconds, cpu_seconds, take_precedence

UNITS_PER_S = 25
# What is received in the measured time, of what is sent in it on the average.
WHOLE = 0.97
TRIES_MAX = 3
# What a program that is not what it was to be brings about here.
FAILURES = (OSError, RuntimeError, ValueError, subprocess.SubprocessError)
CLIP = pathlib.Path(__file__).parent.parent / "tests/media/testsrc2.h264"

OURS = Receiver("ours", "uring", readers=1)
OURS_EPOLL = Receiver("ours", "epoll", readers=1)
ALWAYS = (OURS, OURS_EPOLL, Receiver("discard", "uring"), Receiver("discard", "epoll"),
          Receiver("retina"))
# Where every question is asked; elsewhere it is only how we stand beside the floor and retina.
AT_64 = (OURS, *(Receiver("ours", "uring", latency_us, readers) for latency_us, readers in ((500, 0), (500, 3), (0, 1), (1000, 1))),
         Receiver("ours", "uring", readers=1, bell_ms=20),
         OURS_EPOLL, *(Receiver("ours", "epoll", latency_us, readers) for latency_us, readers in ((500, 0), (500, 3), (0, 1), (1000, 1))),
         *ALWAYS[2:], Receiver("discard", "uring", stamps=True), Receiver("discard", "epoll", stamps=True),
         Receiver("gstreamer"), Receiver("gstreamer-shm"))
AT_16 = (*ALWAYS, Receiver("gstreamer"), Receiver("ffmpeg"))


@dataclasses.dataclass(frozen=True)
class Load:
    """What the cameras send."""

    cameras: int
    mbit: int
    write: str
    receivers: tuple[Receiver, ...] = ALWAYS

    @property
    def name(self) -> str:
        return f"{self.cameras} × {self.mbit} Mbit/s, {self.write} writes"


def main() -> int:
    options = arguments()
    loads = [load for load in all_loads(options) if options.only is None or str(load.cameras) in options.only]
    missing = {receiver.name: why for load in loads for receiver in load.receivers if (why := receiver.missing())}
    for name, why in missing.items():
        print(f"skipped: {name}: {why}", file=sys.stderr)
    cores = choose_cores()
    if not take_precedence():
        print(f"not allowed to go before other programs (nice {NICE}): measure on a quiet machine", file=sys.stderr)
    run = {"machine": machine(cores), "seconds": options.seconds, "rounds": options.rounds, "skipped": missing,
           "began": time.strftime("%Y-%m-%d %H:%M", time.gmtime()), "loads": []}
    for load in loads:
        run["loads"].append(measure(load, options, cores))
        print(ingest_report.load_tables(run["loads"][-1]), flush=True)
        if options.json:
            options.json.write_text(json.dumps(run, indent=1, ensure_ascii=False) + "\n")
    print(ingest_report.targets(run))
    spoiled = spoiled_rows(run)
    for row in spoiled:
        print(f"error: void: {row}", file=sys.stderr)
    return 1 if spoiled else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./tools/bench ingest")
    parser.add_argument("programs", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default 3)")
    parser.add_argument("--seconds", type=int, default=10, help="measured seconds of each receiver and round (default 10)")
    parser.add_argument("--quick", action="store_true", help="64 cameras x 4 Mbit/s only, without the options' variants")
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="N[,N]", help="loads with these numbers of cameras")
    parser.add_argument("--write", choices=("unit", "segment"), help="loads with this way of writing")
    parser.add_argument("--who", action="append", metavar="TEXT",
                        help="only receivers with TEXT in their names (may be given again); targets that compare with others are left out")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write what was measured to FILE")
    options = parser.parse_args()
    options.is_wanted = lambda receiver: options.who is None or any(text in receiver.name for text in options.who)
    return options


def all_loads(options: argparse.Namespace) -> list[Load]:
    sizes = [(64, 4, ALWAYS)] if options.quick else [(1, 4, ALWAYS), (16, 4, AT_16), (64, 4, AT_64), (200, 4, ALWAYS), (512, 1, ALWAYS)]
    writes = (options.write,) if options.write else ("unit", "segment")
    return [Load(cameras, mbit, write, tuple(filter(options.is_wanted, receivers))) for cameras, mbit, receivers in sizes
            for write in writes]


def choose_cores() -> Cores:
    mine = sorted(os.sched_getaffinity(0))
    if len(mine) < 2:
        sys.exit("error: the receiver and the cameras need a core each; this process may use one")
    return Cores(receiver=mine[0], farm=mine[1], readers=mine[2] if len(mine) > 2 else mine[1])


def machine(cores: Cores) -> dict:
    model = next(line.split(":")[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                 if line.startswith("model name"))
    return {"processor": model, "cores": os.cpu_count(), "kernel": platform.release(), "placement": dataclasses.asdict(cores)}


def measure(load: Load, options: argparse.Namespace, cores: Cores) -> dict:
    receivers = [receiver for receiver in load.receivers if not receiver.missing()]
    windows: dict[str, list] = {receiver.name: [] for receiver in receivers}
    wakes = []
    for number in range(options.rounds):
        wakes.append(wake(options.programs, cores))
        for receiver in receivers:
            # Nothing can rest on its row any more.
            if any("failed" in window for window in windows[receiver.name]):
                continue
            print(f"{load.name}: round {number + 1}: {receiver.name} ...", file=sys.stderr)
            windows[receiver.name].append(window(options, receiver, load, cores))
    receivers_of = {receiver.name: dataclasses.asdict(receiver) for receiver in receivers}
    return {"name": load.name, "cameras": load.cameras, "mbit": load.mbit, "write": load.write, "wakes": wakes,
            "receivers": receivers_of, "windows": windows}


def window(options: argparse.Namespace, receiver: Receiver, load: Load, cores: Cores) -> dict:
    """A round of a receiver. Who does not come up with all cameras, as GStreamer sometimes does not, begins anew; who fails later
    has failed."""
    for tries in range(1, TRIES_MAX + 1):
        with Rig(options.programs.resolve()) as rig:
            try:
                farm, receiving = start(rig, receiver, load, cores)
            except FAILURES as why:
                failed = f"did not come up in {tries} tries: {told(receiver, why)}"
                continue
            try:
                return {"tries": tries, **measure_window(rig, farm, receiving, receiver, load, options.seconds)}
            except FAILURES as why:
                return {"failed": told(receiver, why)}
    return {"failed": failed}


def told(receiver: Receiver, why: Exception) -> str:
    """Why something failed, in a line; all of it goes to standard error."""
    print(f"{receiver.name}: {why}\n{getattr(why, 'stderr', None) or ''}", file=sys.stderr)
    return next(iter(str(why).splitlines()), type(why).__name__)


def wake(programs: pathlib.Path, cores: Cores) -> dict:
    """What it costs here to sleep, and to wake a thread on the readers' core."""
    command = [programs / "vms-ingest-bench", "wake", str(cores.receiver), str(cores.readers)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def start(rig: Rig, receiver: Receiver, load: Load, cores: Cores):
    """The cameras, and who plays them all."""
    cameras = receiver.cameras(load.cameras)
    farm, address = rig.start_farm(cameras, f"{load.mbit}M", load.write, "--media", f"h264={CLIP}", core=cores.farm)
    return farm, receiver.start(rig, address, cameras, cores)


def measure_window(rig: Rig, farm: subprocess.Popen, receiving: Receiving, receiver: Receiver, load: Load, seconds: int) -> dict:
    """What one receiver took in one round."""
    cameras = receiver.cameras(load.cameras)
    time.sleep(receiver.warm_up_s)
    counted_before = receiving.counters()
    pids = {"cpu_s": receiving.pids, "readers_cpu_s": receiving.reader_pids, "farm_cpu_s": [farm.pid]}
    before, since = {name: cpu_seconds(*of) for name, of in pids.items()}, time.monotonic()
    busy = busy_seconds()
    time.sleep(seconds)
    wall = time.monotonic() - since
    used = {name: cpu_seconds(*of) - before[name] for name, of in pids.items()}
    others = max(0, busy_seconds() - busy - sum(used.values()))
    facts = receiving.facts()
    rates = rates_of(counted_before, receiving.counters())
    facts |= receiving.end()
    rig.end(farm)
    sent = rig.last_json("farm")["cameras"].values()
    per_stream_minute = 60 / (wall * cameras)
    late = sum(camera["dropped"] + camera["held_up"] for camera in sent)
    return {**facts, **used, "rates": rates, "cameras": cameras, "wall_s": wall,
            "is_complete": is_complete(rates, cameras, load.mbit, late),
            "cpu_s_per_stream_minute": used["cpu_s"] * per_stream_minute,
            "readers_cpu_s_per_stream_minute": used["readers_cpu_s"] * per_stream_minute,
            "farm_cores": used["farm_cpu_s"] / wall, "others_cores": others / wall,
            **{f"farm_{what}": sum(camera[what] for camera in sent) for what in ("units", "dropped", "held_up")}}


def is_complete(rates: dict, cameras: int, mbit: int, late: int) -> bool:
    """Whether it got what it was to be measured with. Who does not count is believed if no camera was late or dropped a unit."""
    if "received_bytes" in rates:
        return rates["received_bytes"] * 8 >= WHOLE * cameras * mbit * 1e6
    if "units" in rates:
        return rates["units"] >= WHOLE * cameras * UNITS_PER_S
    return late == 0


def rates_of(before, after) -> dict:
    """What it did a second."""
    if before is None:
        return {}
    (began, was), (ended, now) = before, after
    names = [name for name in (*COUNTERS, "received_bytes", "units") if name in now]
    return {name: (now[name] - was[name]) / (ended - began) for name in names}


if __name__ == "__main__":
    sys.exit(main())
