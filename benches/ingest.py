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
import shlex
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
PROGRAM = "./tools/bench ingest"
# Of what --json writes: another number when the tables need what it did not hold.
FORMAT = 2
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
         Receiver("retina", stamps=True), Receiver("gstreamer"), Receiver("gstreamer-shm"))
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
    if run := options.earlier:
        print(ingest_report.document(run))
        write(run, options)
    else:
        run = measure_all(options)
    spoiled = spoiled_rows(run)
    for row in spoiled:
        print(f"error: void: {row}", file=sys.stderr)
    return 1 if spoiled else 0


def measure_all(options: argparse.Namespace) -> dict:
    """All loads. What was found so far is printed and written after each."""
    missing = {receiver.name: why for load in options.loads for receiver in load.receivers if (why := receiver.missing())}
    cores = choose_cores()
    has_precedence = take_precedence()
    if not has_precedence:
        print(f"not allowed to go before other programs (nice {NICE}): measure on a quiet machine", file=sys.stderr)
    run = {"format": FORMAT, "command": command(), "commit": commit(), "machine": machine(cores), "has_precedence": has_precedence,
           "seconds": options.seconds, "rounds": options.rounds, "skipped": missing,
           "began": time.strftime("%Y-%m-%d %H:%M", time.gmtime()), "loads": []}
    print(ingest_report.header(run), flush=True)
    for load in options.loads:
        run["loads"].append(measure(load, options, cores))
        print(ingest_report.load_tables(run["loads"][-1]), flush=True)
        write(run, options)
    print(ingest_report.targets(run))
    return run


def write(run: dict, options: argparse.Namespace) -> None:
    if options.json:
        options.json.write_text(json.dumps(run, indent=1, ensure_ascii=False) + "\n")
    if options.markdown:
        options.markdown.write_text(ingest_report.document(run) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=PROGRAM, allow_abbrev=False)
    parser.add_argument("--programs", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default 3)")
    parser.add_argument("--seconds", type=int, default=10, help="measured seconds of each receiver and round (default 10)")
    parser.add_argument("--quick", action="store_true", help="64 cameras x 4 Mbit/s only, without the options' variants")
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="N[,N]", help="loads with these numbers of cameras")
    parser.add_argument("--write", choices=("unit", "segment"), help="loads with this way of writing")
    parser.add_argument("--who", action="append", metavar="TEXT",
                        help="only receivers with TEXT in their names (may be given again); targets that compare with others are left out")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write what was measured to FILE")
    parser.add_argument("--markdown", type=pathlib.Path, metavar="FILE", help="also write all that is printed to FILE")
    parser.add_argument("--from", type=pathlib.Path, metavar="JSON", dest="source",
                        help="measure nothing: print (and with --markdown write) what an earlier run wrote with --json")
    options = parser.parse_args()
    options.is_wanted = lambda receiver: options.who is None or any(text in receiver.name for text in options.who)
    if options.rounds < 1 or options.seconds < 1:
        parser.error("--rounds and --seconds are at least 1")
    for path in filter(None, (options.json, options.markdown)):
        # Said now rather than after an hour.
        if path.is_dir():
            parser.error(f"cannot write {path}: it is a directory")
        if not path.absolute().parent.is_dir():
            parser.error(f"cannot write {path}: its directory is not there")
    options.earlier = earlier_run(options, parser) if options.source else None
    options.loads = [load for load in all_loads(options)
                     if load.receivers and (options.only is None or str(load.cameras) in options.only)]
    if not options.programs and not options.earlier:
        parser.error("run ./tools/bench ingest, which builds what is measured")
    if not options.loads:
        parser.error("nobody is left to measure: see --only and --who")
    return options


def earlier_run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> dict:
    """A run that was measured before."""
    if options.json or options.quick or options.only or options.write or options.who:
        parser.error("--from measures nothing: only --markdown goes with it")
    try:
        run = json.loads(options.source.read_text())
    except (OSError, ValueError) as why:
        parser.error(f"cannot read {options.source}: {why}")
    if not isinstance(run, dict) or run.get("format") != FORMAT:
        parser.error(f"{options.source} is not what this version of {PROGRAM} writes with --json")
    return run


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
    return {"processor": model, "cores": os.cpu_count(), "kernel": platform.release(), "system": system(),
            "placement": dataclasses.asdict(cores)}


def system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def commit() -> str:
    """What is measured, with "-dirty" if it is not just that."""
    told = subprocess.run(["git", "describe", "--always", "--dirty", "--exclude=*"], cwd=pathlib.Path(__file__).parent,
                          capture_output=True, text=True)
    return told.stdout.strip() or "unknown"


def command() -> str:
    """What repeats this."""
    given = sys.argv[1:]
    if "--programs" in given:
        at = given.index("--programs")
        del given[at:at + 2]
    return shlex.join([*PROGRAM.split(), *given])


def measure(load: Load, options: argparse.Namespace, cores: Cores) -> dict:
    receivers = [receiver for receiver in load.receivers if not receiver.missing()]
    windows: dict[str, list] = {receiver.name: [] for receiver in receivers}
    wakes: list[dict] = []
    for number in range(options.rounds):
        wakes += wake(options.programs, cores)
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


def wake(programs: pathlib.Path, cores: Cores) -> list[dict]:
    """What it costs here to sleep, and to wake a thread on the readers' core; nothing if that could not be found out."""
    command = [programs / "vms-ingest-bench", "wake", str(cores.receiver), str(cores.readers)]
    found = subprocess.run(command, capture_output=True, text=True)
    if found.returncode:
        print(found.stderr, file=sys.stderr)
        return []
    return [json.loads(found.stdout)]


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
    receiving.begin()
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
