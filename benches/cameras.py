"""How much of a core a farm of simulated cameras, the daemon and one reader take: `./tools/bench cameras`.

Three processes on this machine: vms-camsim sends, vms-media receives and publishes, vms-tap reads every stream in
one session, checks each unit's stamp (counter, CRC, send time) and writes a line of JSON a unit. Processor time is each
process's own clock at both ends of the measured time; losses and latencies come from vms-tap's own summary.
"""

import json
import os
import pathlib
import statistics
import sys
import time

from rig import Rig, cpu_seconds, status_kib

WARM_UP_S = 3


def main(programs: pathlib.Path, cameras: int, seconds: int, write: str, io: str) -> int:
    with Rig(programs) as rig:
        return measure(rig, cameras, seconds, write, io)


def measure(rig: Rig, cameras: int, seconds: int, write: str, io: str) -> int:
    farm, address = rig.start_farm(cameras, "4M", write)
    daemon = rig.start_daemon("--io", io)
    ids = [f"cam{number}" for number in range(cameras)]
    for stream in ids:
        rig.ctl("setup", stream, f"rtsp://{address}/{stream}")
    tap = rig.start("tap", "vms-tap", "--ring-socket", str(rig.ring_socket), "--json", "--stamp",
                    "--duration", str(seconds + 2 * WARM_UP_S), *ids)
    programs_of = {"vms-camsim": farm.pid, "vms-media": daemon.pid, "vms-tap --json": tap.pid}
    time.sleep(WARM_UP_S)
    before, since = {name: cpu_seconds(pid) for name, pid in programs_of.items()}, time.monotonic()
    time.sleep(seconds)
    wall = time.monotonic() - since
    cores = {name: (cpu_seconds(pid) - before[name]) / wall for name, pid in programs_of.items()}
    private_kib = status_kib(daemon.pid, "RssAnon")
    states = rig.states()
    # What it does in fact, when it was left to choose.
    io = json.loads(rig.ctl("info", "--json"))["io_backend"]
    status = tap.wait(timeout=60)
    rig.end(daemon)
    rig.end(farm)
    farm, tap = rig.last_json("farm"), rig.last_json("tap")
    report(cores, wall, f"{write} writes, {io}", private_kib, states, farm, tap)
    return status or incomplete(cameras, states, farm, tap)


def incomplete(cameras: int, states: list, farm: dict, tap: dict) -> int:
    """1, with the reason, if anything did not arrive that a camera was to send: a unit that was never sent has no number that a reader misses."""
    late = {name: camera for name, camera in farm["cameras"].items() if camera["dropped"] or camera["held_up"]}
    wrong = [f"{name}: {camera['dropped']} units dropped, {camera['held_up']} times held up" for name, camera in late.items()]
    if states.count("streaming") != cameras:
        wrong.append(f"only {states.count('streaming')} of {cameras} cameras streamed at the end")
    wrong += [f"{stream['id']}: no unit" for stream in tap["streams"] if not stream["units"]]
    for line in wrong[:10]:
        print(f"error: {line}", file=sys.stderr)
    return 1 if wrong else 0


def report(cores, wall, how, private_kib, states, farm, tap) -> None:
    sent, streams = farm["cameras"].values(), tap["streams"]
    print(f"{len(streams)} cameras x 4 Mbit/s, {how}, {wall:.0f} s, {os.cpu_count()} cores")
    for name, used in cores.items():
        print(f"  {name:<15} {used:.3f} of a core")
    print(f"  streaming {states.count('streaming')} of {len(streams)}; the daemon's private memory {private_kib} KiB")
    print(f"  cameras: {sum(c['units'] for c in sent)} units sent,"
          f" {sum(c['dropped'] for c in sent)} dropped, {sum(c['held_up'] for c in sent)} held up")
    lost = sum(s["lost"] + s["rejected"] + s["skipped"] for s in streams)
    bad = sum(count for s in streams for verdict, count in s["stamps"].items() if verdict != "good")
    print(f"  reader: {sum(s['units'] for s in streams)} units, {lost} lost, {bad} bad stamps")
    for quantile in ("p50_us", "p99_us"):
        values = sorted(s["latency"][quantile] for s in streams)
        print(f"  latency {quantile[:3]} of a stream: median {statistics.median(values):.0f} us, worst {values[-1]:.0f} us")


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]).resolve(), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:]))
