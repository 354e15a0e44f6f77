"""Who receives in `./tools/bench ingest`: how each is started, and what it can tell of itself."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import time

from rig import Rig, status_kib

# FFmpeg is a process a camera; more of them than this are measured no better, and fill the machine.
FFMPEG_CAMERAS_MAX = 16
COUNTERS = ("turns", "wake_ups", "system_calls", "completions", "reader_wakes", "out_of_buffers", "rearms", "overruns")


@dataclasses.dataclass(frozen=True)
class Receiver:
    """One line of a table."""

    kind: str
    io: str = ""
    latency_us: int = 500
    readers: int = 0
    # How often a reader asks to be woken at most; 0: as soon as there is something.
    bell_ms: int = 0
    # Whether who is not ours looks for stamps in what it receives, and so knows how late that is. It costs time.
    stamps: bool = False

    @property
    def name(self) -> str:
        if self.kind == "ours":
            bell = f", woken every {self.bell_ms} ms" if self.bell_ms else ""
            return f"ours, {self.io}, {self.latency_us} µs, {self.readers} reader{'s' * (self.readers != 1)}{bell}"
        return (f"discard, {self.io}" if self.kind == "discard" else TITLES[self.kind]) + ", looking for stamps" * self.stamps

    @property
    def warm_up_s(self) -> int:
        """Others are busy with their start for some seconds after the last camera plays."""
        return 8 if self.kind in (*GSTREAMER_ELEMENTS, "ffmpeg") else 2

    def cameras(self, of: int) -> int:
        return min(of, FFMPEG_CAMERAS_MAX) if self.kind == "ffmpeg" else of

    def missing(self) -> str | None:
        """Why it cannot be measured here."""
        if self.kind in GSTREAMER_ELEMENTS:
            elements = ("rtspsrc", "rtph264depay", "h264parse", *GSTREAMER_ELEMENTS[self.kind])
            if not shutil.which("gst-launch-1.0") or any(not has_element(element) for element in elements):
                return f"GStreamer (gst-launch-1.0, {', '.join(elements)}) is not installed"
        if self.kind == "ffmpeg" and not shutil.which("ffmpeg"):
            return "FFmpeg is not installed"
        return None

    def start(self, rig: Rig, address: str, cameras: int, cores: "Cores") -> "Receiving":
        return STARTS[self.kind](self, rig, address, cameras, cores)


@dataclasses.dataclass(frozen=True)
class Cores:
    """Where who runs."""

    receiver: int
    farm: int
    readers: int


class Receiving:
    """A receiver that plays every camera."""

    def __init__(self, rig: Rig, processes: list[subprocess.Popen]):
        self.rig = rig
        self.pids = [process.pid for process in processes]
        self.processes = processes
        self.reader_pids: list[int] = []

    def counters(self) -> tuple[float, dict] | None:
        """What it has done so far, and when that was; None if it does not tell."""
        return None

    def begin(self) -> None:
        """The measured time begins: latencies of the start are forgotten."""

    def facts(self) -> dict:
        """What is known at the end of the measured time."""
        return {"anon_kib": sum(status_kib(pid, "RssAnon") for pid in self.pids),
                "shared_kib": sum(status_kib(pid, "RssShmem") for pid in self.pids),
                "threads": sum(status_kib(pid, "Threads") for pid in self.pids)}

    def end(self) -> dict:
        """Ends it; what only became known by that."""
        for process in self.processes:
            if process.poll() is not None:
                raise RuntimeError(f"a receiver ended by itself: {process.args}")
            process.terminate()
        for process in self.processes:
            process.wait(timeout=60)
        return {}


class Printing(Receiving):
    """Tells its counters as a line of JSON every second."""

    def __init__(self, rig: Rig, process: subprocess.Popen, stamps: bool):
        super().__init__(rig, [process])
        self.stamps = stamps

    def counters(self):
        path = self.rig.scratch / "receiver"
        return fresh(lambda: json.loads(path.read_bytes().rstrip().splitlines()[-1]))

    def begin(self):
        if self.stamps:
            os.kill(self.pids[0], signal.SIGUSR1)

    def facts(self):
        return {**super().facts(), "latency": self.counters()[1]["latency"]}


class Daemon(Receiving):
    """vms-media with its readers. The first reader checks the stamps and so knows the latency; the others only read."""

    def __init__(self, rig, receiver, address, cameras, cores):
        daemon = rig.start_daemon("--shards", "1", "--io", receiver.io, "--latency-us", str(receiver.latency_us),
                                  core=cores.receiver)
        super().__init__(rig, [daemon])
        self.anon_kib_before = status_kib(daemon.pid, "RssAnon")
        ids = [f"cam{number}" for number in range(cameras)]
        for stream in ids:
            rig.ctl("setup", stream, f"rtsp://{address}/{stream}")
        until(lambda: rig.states().count("streaming") == cameras, "not all cameras stream")
        bell = ["--bell-interval", str(receiver.bell_ms)] if receiver.bell_ms else []
        options = [["--summary", "--stamp", *bell]] + [["--summary", *bell]] * 2
        self.readers = [
            rig.start(f"reader{index}", "vms-tap", "--ring-socket", str(rig.ring_socket), *options[index], *ids,
                      core=cores.readers)
            for index in range(receiver.readers)]
        self.reader_pids = [reader.pid for reader in self.readers]

    def counters(self):
        return fresh(lambda: json.loads(self.rig.ctl("info", "--json"))["shard_stats"][0])

    def begin(self):
        for pid in self.reader_pids:
            os.kill(pid, signal.SIGUSR1)

    def facts(self):
        facts = super().facts()
        return {**facts, "grown_kib": facts["anon_kib"] - self.anon_kib_before}

    def end(self):
        statuses = [self.rig.end(reader) for reader in self.readers]
        summaries = [self.rig.last_json(f"reader{index}") for index in range(len(self.readers))]
        super().end()
        if not summaries:
            return {}
        # Without one unit it timed nothing.
        return {"readers": told_by_readers(summaries, statuses), "latency": summaries[0].get("latency")}


def told_by_readers(summaries: list[dict], statuses: list[int]) -> dict:
    """What the readers missed of all streams, by how, and what they ended with."""
    streams = [stream for summary in summaries for stream in summary["streams"]]
    # A unit whose flag is missing is among the others.
    wrong = sum(count for stream in streams for verdict, count in stream.get("stamps", {}).items()
                if verdict not in ("good", "unflagged"))
    return {**{what: sum(stream[what] for stream in streams) for what in ("lost", "rejected", "skipped")},
            "wrong": wrong, "silent": sum(not stream["units"] for stream in streams), "statuses": statuses}


def start_own(receiver: Receiver, rig: Rig, address: str, cameras: int, cores: Cores) -> Receiving:
    options = ["--io", receiver.io, "--latency-us", str(receiver.latency_us)] if receiver.kind == "discard" else []
    options += ["--stamps"] if receiver.stamps else []
    process = rig.start("receiver", "vms-ingest-bench", receiver.kind, address, str(cameras), *options,
                        core=cores.receiver)
    rig.wait_for("receiver", "ready")
    return Printing(rig, process, receiver.stamps)


def start_gstreamer(receiver: Receiver, rig: Rig, address: str, cameras: int, cores: Cores) -> Receiving:
    pipelines = []
    for number in range(cameras):
        pipelines += ["rtspsrc", f"location=rtsp://{address}/cam{number}", "protocols=tcp", "latency=0",
                      "!", "rtph264depay", "!", "h264parse", "!"]
        if receiver.kind == "gstreamer":
            pipelines += ["appsink", "sync=false", "max-buffers=1", "drop=true"]
        else:
            pipelines += ["tee", f"name=t{number}",
                          f"t{number}.", "!", "queue", "!", "shmsink", f"socket-path={rig.scratch}/shm{number}",
                          "wait-for-connection=false", "sync=false",
                          f"t{number}.", "!", "queue", "!", "matroskamux", "!", "filesink", "location=/dev/null", "sync=false"]
    process = rig.start("receiver", "gst-launch-1.0", *pipelines, core=cores.receiver)
    rig.wait_for("receiver", "Sent PLAY request", count=cameras)
    return Receiving(rig, [process])


def start_ffmpeg(_: Receiver, rig: Rig, address: str, cameras: int, cores: Cores) -> Receiving:
    processes = [
        rig.start(f"receiver{number}", "ffmpeg", "-nostdin", "-loglevel", "info", "-rtsp_transport", "tcp",
                  "-i", f"rtsp://{address}/cam{number}", "-c", "copy", "-f", "matroska", "-y", "/dev/null",
                  core=cores.receiver)
        for number in range(cameras)]
    # It looks at some seconds of the stream before it begins to copy.
    for number in range(cameras):
        rig.wait_for(f"receiver{number}.err", "Stream mapping")
    return Receiving(rig, processes)


def fresh(tell) -> tuple[float, dict]:
    """What `tell` says right after it changed: it is brought up once a second."""
    before = tell()
    until(lambda: tell() != before, "its counters do not move")
    return time.monotonic(), tell()


def until(is_so, otherwise: str, bound_s: float = 60) -> None:
    end = time.monotonic() + bound_s
    while not is_so():
        if time.monotonic() > end:
            raise TimeoutError(f"{otherwise} within {bound_s:.0f} s")
        time.sleep(0.02)


def has_element(name: str) -> bool:
    return subprocess.run(["gst-inspect-1.0", "--exists", name], capture_output=True).returncode == 0


GSTREAMER_ELEMENTS = {"gstreamer": ("appsink",), "gstreamer-shm": ("tee", "queue", "shmsink", "matroskamux", "filesink")}
TITLES = {"retina": "retina 0.4.21", "gstreamer": "GStreamer, appsink", "gstreamer-shm": "GStreamer, shmsink + matroskamux", "ffmpeg": "FFmpeg, a process a camera"}
STARTS = {
    "ours": lambda receiver, rig, address, cameras, cores: Daemon(rig, receiver, address, cameras, cores),
    "discard": start_own,
    "retina": start_own,
    "gstreamer": start_gstreamer,
    "gstreamer-shm": start_gstreamer,
    "ffmpeg": start_ffmpeg,
}
