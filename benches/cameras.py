"""How much of a core a farm of simulated cameras, the daemon and one reader take: `./tools/bench cameras`.

Three processes on this machine: vms-camsim sends, vms-media receives and publishes, vms-tap reads every stream in
one session, checks each unit's stamp (counter, CRC, send time) and writes a line of JSON a unit. Processor time is read from
/proc/PID/stat at both ends of the measured time; losses and latencies come from vms-tap's own summary.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

WARM_UP_S = 3


def main(programs: pathlib.Path, cameras: int, seconds: int, write: str) -> int:
    with tempfile.TemporaryDirectory(prefix="vms-bench.") as scratch:
        return measure(programs, pathlib.Path(scratch), cameras, seconds, write)


def measure(programs: pathlib.Path, scratch: pathlib.Path, cameras: int, seconds: int, write: str) -> int:
    running: list[subprocess.Popen] = []

    def start(log: str, program: str, *arguments: str) -> subprocess.Popen:
        out = (scratch / log).open("wb")
        running.append(subprocess.Popen([programs / program, *arguments], stdout=out, stderr=subprocess.STDOUT))
        return running[-1]

    try:
        farm = start("farm", "vms-camsim", "--listen", "127.0.0.1:0", "--cameras", str(cameras),
                     "--bitrate", "4M", "--write", write, "--stats")
        address = wait_for(scratch / "farm", "listening on ").split()[-1]
        daemon = start("daemon", "vms-media", "--listen", f"unix:{scratch}/control", "--ring-socket", f"{scratch}/ring")
        wait_for(scratch / "daemon", "ready")
        ids = [f"cam{number}" for number in range(cameras)]
        for stream in ids:
            ctl(programs, scratch, "setup", stream, f"rtsp://{address}/{stream}")
        tap = subprocess.Popen(
            [programs / "vms-tap", "--ring-socket", f"{scratch}/ring", "--json", "--stamp",
             "--duration", str(seconds + 2 * WARM_UP_S), *ids],
            stdout=(scratch / "tap").open("wb"), stderr=subprocess.DEVNULL)
        running.append(tap)
        programs_of = {"vms-camsim": farm.pid, "vms-media": daemon.pid, "vms-tap --json": tap.pid}
        time.sleep(WARM_UP_S)
        before, since = {name: cpu_seconds(pid) for name, pid in programs_of.items()}, time.monotonic()
        time.sleep(seconds)
        wall = time.monotonic() - since
        cores = {name: (cpu_seconds(pid) - before[name]) / wall for name, pid in programs_of.items()}
        private_kib = rss_anon_kib(daemon.pid)
        states = [stream["state"] for stream in json.loads(ctl(programs, scratch, "list", "--json"))["streams"]]
        status = tap.wait(timeout=60)
        daemon.terminate()
        daemon.wait(timeout=30)
        farm.terminate()
        farm.wait(timeout=30)
        report(cores, wall, write, private_kib, states, last_json(scratch / "farm"), last_json(scratch / "tap"))
        return status
    finally:
        for process in reversed(running):
            if process.poll() is None:
                process.kill()
                process.wait()


def report(cores, wall, write, private_kib, states, farm, tap) -> None:
    sent, streams = farm["cameras"].values(), tap["streams"]
    print(f"{len(streams)} cameras x 4 Mbit/s, {write} writes, {wall:.0f} s, {os.cpu_count()} cores")
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


def ctl(programs: pathlib.Path, scratch: pathlib.Path, *arguments: str) -> str:
    command = [programs / "vms-ctl", "--server", f"unix:{scratch}/control", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def wait_for(log: pathlib.Path, words: str, bound_s: float = 20) -> str:
    end = time.monotonic() + bound_s
    while time.monotonic() < end:
        for line in log.read_text().splitlines():
            if words in line:
                return line
        time.sleep(0.05)
    sys.exit(f"error: no '{words}' within {bound_s} s:\n{log.read_text()}")


def last_json(path: pathlib.Path) -> dict:
    return json.loads(path.read_bytes().splitlines()[-1])


def cpu_seconds(pid: int) -> float:
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_anon_kib(pid: int) -> int:
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]).resolve(), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
