"""What the measurements with cameras share: programs that are started, watched through /proc and ended with the measurement."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

NS_PER_S = 1_000_000_000
NICE = -15


class Rig:
    """The programs of one measurement and a directory for what they say. On exit all are ended, however it went."""

    def __init__(self, programs: pathlib.Path):
        self.programs = programs
        self.running: list[subprocess.Popen] = []

    def __enter__(self):
        self.directory = tempfile.TemporaryDirectory(prefix="vms-bench.")
        self.scratch = pathlib.Path(self.directory.name)
        return self

    def __exit__(self, *_):
        for process in reversed(self.running):
            if process.poll() is None:
                process.kill()
                process.wait()
        self.directory.cleanup()

    def start(self, log: str, program: str, *arguments: str, core: int | None = None) -> subprocess.Popen:
        """Starts one of ours, or one of the system's; what it says goes to `log`, its standard error to `log.err`."""
        ours = self.programs / program
        command = [str(ours) if ours.exists() else program, *arguments]
        pin = (lambda: os.sched_setaffinity(0, {core})) if core is not None else None
        with (self.scratch / log).open("wb") as out, (self.scratch / f"{log}.err").open("wb") as err:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, preexec_fn=pin)
        self.running.append(process)
        return process

    def start_farm(self, cameras: int, bitrate: str, write: str, *arguments: str, core: int | None = None):
        """The simulated cameras and their address."""
        farm = self.start("farm", "vms-camsim", "--listen", "127.0.0.1:0", "--cameras", str(cameras),
                          "--bitrate", bitrate, "--write", write, "--stats", *arguments, core=core)
        return farm, self.wait_for("farm", "listening on ").split()[-1]

    def start_daemon(self, *arguments: str, core: int | None = None) -> subprocess.Popen:
        daemon = self.start("daemon", "vms-media", "--listen", f"unix:{self.scratch}/control",
                            "--ring-socket", str(self.ring_socket), *arguments, core=core)
        self.wait_for("daemon.err", "ready")
        return daemon

    @property
    def ring_socket(self) -> pathlib.Path:
        return self.scratch / "ring"

    def ctl(self, *arguments: str) -> str:
        command = [self.programs / "vms-ctl", "--server", f"unix:{self.scratch}/control", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def states(self) -> list[str]:
        return [stream["state"] for stream in json.loads(self.ctl("list", "--json"))["streams"]]

    def wait_for(self, log: str, words: str, count: int = 1, bound_s: float = 30) -> str:
        """The `count`th line of `log` that holds `words`."""
        path = self.scratch / log
        end = time.monotonic() + bound_s
        while time.monotonic() < end:
            lines = [line for line in path.read_text(errors="replace").splitlines() if words in line]
            if len(lines) >= count:
                return lines[count - 1]
            time.sleep(0.05)
        said = path.read_text(errors="replace")[-2000:]
        raise TimeoutError(f"no '{words}' within {bound_s} s in {log}:\n{said}")

    def last_json(self, log: str) -> dict:
        lines = (self.scratch / log).read_bytes().splitlines()
        if not lines:
            raise RuntimeError(f"{log} ended without a word: {(self.scratch / f'{log}.err').read_text(errors='replace')[-2000:]}")
        return json.loads(lines[-1])

    def end(self, process: subprocess.Popen) -> int:
        """Asks the program to end, and waits."""
        process.terminate()
        return process.wait(timeout=60)


def take_precedence() -> bool:
    """Lets this process and what it starts go before other programs; whether that was allowed."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
        # Where the kernel groups programs by session, niceness counts within the session only, and this between them.
        group = pathlib.Path("/proc/self/autogroup")
        if group.exists():
            group.write_text(f"{NICE}")
    except OSError:
        return False
    return True


def cpu_seconds(*pids: int) -> float:
    """Processor time of all threads of these processes, those that have ended included, to the nanosecond."""
    # The clock id of another process's CLOCK_PROCESS_CPUTIME_ID, as clock_getcpuclockid(3) makes it.
    return sum(time.clock_gettime_ns((~pid << 3) | 2) for pid in pids) / NS_PER_S


def busy_seconds() -> float:
    """Processor time of everybody on this machine, of what the hypervisor took away too."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = (
        int(ticks) for ticks in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def status_kib(pid: int, field: str) -> int:
    """A field of /proc/PID/status in KiB, such as RssAnon; `Threads` is a plain number."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    found = [int(line.split()[1]) for line in lines if line.startswith(f"{field}:")]
    if not found:
        raise RuntimeError(f"process {pid} has ended by itself")
    return found[0]
