"""What `./tools/bench ingest` says follows from what was measured; nothing rests on a row that is void. Made-up measurements."""

import argparse
import contextlib
import copy
import io
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

import ingest
import ingest_report
import receivers
from ingest_targets import OURS, OURS_3, OURS_EPOLL, RETINA, spoiled, targets_of, why_void
from receivers import Cores, Receiver

CONTENT = {"lost": 0, "rejected": 0, "skipped": 0, "wrong": 0, "silent": 0, "statuses": [0]}
RATES = {"turns": 30, "wake_ups": 30, "system_calls": 60, "completions": 100, "reader_wakes": 25, "out_of_buffers": 0, "rearms": 0,
         "overruns": 0}


class Verdicts(unittest.TestCase):
    def test_each_target_is_met_or_missed_by_its_median(self):
        run = a_run()
        self.assertEqual(verdict(run, OURS, "CPU, × discard"), "met")
        self.assertEqual(verdict(run, OURS, "CPU, × retina"), "met")
        change(run, RETINA, cpu_s_per_stream_minute=0.1)
        self.assertEqual(verdict(run, OURS, "CPU, × retina"), "missed")

    def test_a_void_row_on_either_side_makes_the_verdict_void(self):
        for name in (RETINA, OURS):
            run = a_run()
            # One round of three is enough.
            row(run, name)[1]["is_complete"] = False
            self.assertEqual(verdict(run, OURS, "CPU, × retina"), "void")
            self.assertEqual(verdict(run, OURS, "CPU, × discard"), "void" if name == OURS else "met")
        run = a_run()
        row(run, "discard, uring")[0]["is_complete"] = False
        self.assertEqual({verdict(run, name, "CPU, × discard") for name in (OURS, OURS_3)}, {"void"})
        self.assertEqual(verdict(run, OURS_EPOLL, "CPU, × discard"), "met")

    def test_growth_rests_on_the_row_at_64_too(self):
        run = a_run()
        self.assertEqual(verdict(run, OURS, "CPU a stream, × that at 64", load=1), "met")
        row(run, OURS)[0]["readers"]["lost"] = 1
        self.assertEqual(verdict(run, OURS, "CPU a stream, × that at 64", load=1), "void")
        self.assertEqual(verdict(run, OURS, "system calls /s", load=1), "met")

    def test_everything_of_a_void_row_is_void(self):
        run = a_run()
        row(run, OURS)[2]["is_complete"] = False
        of_row = [target.verdict for target in targets_of(run) if (target.receiver, target.load) == (OURS, run["loads"][0]["name"])]
        self.assertGreater(len(of_row), 7)
        self.assertEqual(set(of_row), {"void"})

    def test_a_bell_is_judged_on_both_back_ends_and_void_without_wakes(self):
        run = a_run()
        for name in (OURS, OURS_EPOLL):
            self.assertEqual(verdict(run, name, "a bell, feeding included, µs"), "missed")
        change(run, OURS, rates={**RATES, "reader_wakes": 0})
        self.assertEqual(verdict(run, OURS, "a bell, feeding included, µs"), "void")

    def test_no_unit_timed_is_no_latency(self):
        run = a_run()
        row(run, OURS)[0]["latency"] = None
        self.assertEqual(verdict(run, OURS, "latency p50, µs"), "void")
        self.assertIn("met", verdict(run, OURS, "CPU, × discard"))


class VoidRows(unittest.TestCase):
    def test_what_readers_missed_spoils_the_row_and_is_said(self):
        for what, reason in {"lost": "units lost: 2", "rejected": "units rejected: 2", "skipped": "units skipped: 2",
                             "wrong": "units not as stamped: 2", "silent": "streams of which a reader got nothing: 2"}.items():
            run = a_run()
            self.assertEqual(spoiled(run), [])
            row(run, OURS)[1]["readers"][what] = 2
            self.assertIn(f"{OURS} (**void**: {reason})", ingest_report.document(run))
            self.assertEqual(spoiled(run), [f"{run['loads'][0]['name']}: {OURS}: {reason}"])

    def test_a_reader_that_is_not_content_spoils_it(self):
        run = a_run()
        row(run, OURS)[0]["readers"]["statuses"] = [0, 1, -9]
        self.assertEqual(why_void(row(run, OURS)), "a reader ended with -9, 1")

    def test_a_row_of_others_is_void_without_being_our_fault(self):
        run = a_run()
        row(run, RETINA)[0]["is_complete"] = False
        self.assertEqual(spoiled(run), [])
        text = ingest_report.document(run)
        self.assertIn(f"{RETINA} (**void**: it did not get all units)", text)

    def test_ratios_to_a_void_row_are_not_told(self):
        run = a_run()
        row(run, RETINA)[0]["is_complete"] = False
        cells = line(ingest_report.load_tables(run["loads"][0]), OURS).split(" | ")
        self.assertEqual(cells[3], "void")
        self.assertRegex(cells[2], "^1.20 ")

    def test_a_row_without_one_window_is_told(self):
        run = a_run()
        run["loads"][0]["windows"][OURS] = [{"failed": "no 'a|b'"}]
        text = ingest_report.document(run)
        self.assertIn(f"{OURS} (**void**: no 'a\\|b') | – |", text)
        self.assertEqual(verdict(run, OURS, "wake-ups /s"), "void")
        self.assertEqual(len(spoiled(run)), 1)

    def test_what_readers_say_is_counted_once(self):
        whole = {"units": 9, "lost": 0, "rejected": 0, "skipped": 0}
        bad = {"good": 5, "missing": 0, "corrupt": 1, "repeated": 2, "absent": 4, "restarts": 0, "unflagged": 1}
        told = receivers.told_by_readers([{"streams": [{**whole, "stamps": bad}]}, {"streams": [{**whole, "lost": 3, "units": 0}]}], [1, 0])
        self.assertEqual(told, {"lost": 3, "rejected": 0, "skipped": 0, "wrong": 7, "silent": 1, "statuses": [1, 0]})


class Summary(unittest.TestCase):
    def test_counts_stand_in_front_and_64_cameras_at_a_glance(self):
        run = a_run()
        change(run, RETINA, cpu_s_per_stream_minute=0.1)
        row(run, OURS_3)[0]["is_complete"] = False
        verdicts = [target.verdict for target in targets_of(run)]
        text = ingest_report.targets(run)
        count = {word: verdicts.count(word) for word in ("met", "missed", "void")}
        self.assertIn(f"Of {len(verdicts)}: {count['met']} met, {count['missed']} missed, {count['void']} void.", text)
        self.assertTrue(all(count.values()))
        glance = text[:text.index("| what |")]
        self.assertIn("| 64 cameras: median / target | uring, unit | epoll, unit |", glance)
        self.assertIn("| CPU, × discard | 1.20 / 1.35 met | 1.20 / 1.35 met |", glance)
        self.assertIn("| CPU, × retina | **1.20 / 0.6 missed** |", glance)
        self.assertIn("| CPU, × discard, 3 readers | **void** |", glance)
        self.assertNotIn("× that at 64", glance)
        self.assertIn("× that at 64", text)

    def test_a_run_without_64_cameras_has_none(self):
        run = a_run()
        del run["loads"][0]
        self.assertNotIn("64 cameras:", ingest_report.targets(run))


class Files(unittest.TestCase):
    def test_tables_are_made_again_from_json(self):
        for lost in (0, 1):
            run = a_run()
            row(run, OURS)[0]["readers"]["lost"] = lost
            with tempfile.TemporaryDirectory() as directory:
                source, written = pathlib.Path(directory, "run.json"), pathlib.Path(directory, "run.md")
                source.write_text(json.dumps(run))
                again = main("--from", str(source), "--markdown", str(written))
                self.assertEqual(again.returncode, lost, again.stderr)
                self.assertEqual(again.stdout, written.read_text())
            self.assertEqual(again.stdout, ingest_report.document(run) + "\n")
            self.assertEqual("units lost: 1" in again.stderr, bool(lost))

    def test_machine_placement_commit_date_and_rounds_are_told(self):
        text = ingest_report.document(a_run())
        for fact in ("| machine | Some processor, 2 cores, Debian, Linux 6.1 |", "| commit | 0123abc-dirty |", "| date | 2026-01-02 03:04 UTC |",
                     "| rounds | 3 of 10 s, taking turns |", "cameras on core 1, readers on core 1; all go before", "| left out: X | not there |",
                     " / 200 (200–200) / "):
            self.assertIn(fact, text)

    def test_what_cannot_be_is_refused_before_anything_is_measured(self):
        with tempfile.TemporaryDirectory() as directory:
            other = pathlib.Path(directory, "other.json")
            other.write_text("[1]")
            for arguments, words in {("--from", str(other)): "is not what this version of", ("--from", "/nonexistent"): "cannot read",
                                     ("--markdown", "/nonexistent/x.md"): "its directory is not there", ("--json", directory): "it is a directory",
                                     ("--programs", ".", "--only", "7"): "nobody is left", (): "run ./tools/bench",
                                     ("--rounds", "0"): "at least 1",
                                     ("--from", str(other), "--quick"): "only --markdown"}.items():
                refused = main(*arguments)
                self.assertEqual(refused.returncode, 2, arguments)
                self.assertIn(words, refused.stderr)


class Measuring(unittest.TestCase):
    """With programs that fail as they are told."""

    RECEIVER, CORES = Receiver("ours", "uring", readers=1), Cores(0, 1, 1)
    OPTIONS = argparse.Namespace(programs=pathlib.Path("/nonexistent"), seconds=1, rounds=2)
    LOAD = ingest.Load(64, 4, "unit", (RECEIVER, Receiver("retina")))

    def test_who_does_not_come_up_begins_anew_three_times_at_most(self):
        self.assertEqual(self.window([TimeoutError("no\nmore"), ("farm", "receiving")]), {"tries": 2, "cpu_s": 1})
        self.assertEqual(self.window([TimeoutError("no\nmore")] * 3), {"failed": "did not come up in 3 tries: no"})

    def test_who_fails_while_it_is_measured_has_failed(self):
        with mock.patch.object(ingest, "measure_window", side_effect=RuntimeError("ended")):
            self.assertEqual(self.window([("farm", "receiving")]), {"failed": "ended"})

    def test_who_did_not_come_up_is_not_tried_in_the_next_round_and_others_go_on(self):
        def found(_options, receiver, _load, _cores):
            asked.append(receiver.kind)
            return {"failed": "why"} if receiver.kind == "ours" else {"tries": 1}

        asked = []
        with mock.patch.object(ingest, "window", found), mock.patch.object(ingest, "wake", return_value=[]), silent():
            load = ingest.measure(self.LOAD, self.OPTIONS, self.CORES)
        self.assertEqual(asked, ["ours", "retina", "retina"])
        self.assertEqual(load["windows"], {OURS: [{"failed": "why"}], RETINA: [{"tries": 1}] * 2})

    def test_a_camera_that_does_not_stream_is_a_failure_to_come_up(self):
        with self.assertRaises(TimeoutError):
            receivers.until(lambda: False, "not all cameras stream", bound_s=0)

    def test_who_times_units_is_told_when_the_measured_time_begins_and_nobody_else(self):
        process = mock.Mock(pid=7)
        for stamps in (False, True):
            with mock.patch.object(receivers.os, "kill") as kill:
                receivers.Printing(mock.Mock(), process, stamps).begin()
            # The signal would end who does not know it.
            self.assertEqual(kill.call_args_list, [mock.call(7, signal.SIGUSR1)] * stamps)

    def test_both_back_ends_are_asked_the_same_at_64(self):
        of = {io: {(one.latency_us, one.readers) for one in ingest.AT_64 if one.kind == "ours" and one.io == io} for io in ("uring", "epoll")}
        self.assertEqual(of["uring"], of["epoll"])
        self.assertEqual(of["epoll"], {(500, 0), (500, 1), (500, 3), (0, 1), (1000, 1)})
        names = [one.name for one in ingest.AT_64]
        self.assertEqual(len(names), len(set(names)))
        self.assertIn("retina 0.4.21, looking for stamps", names)

    def window(self, starts: list) -> dict:
        start = mock.patch.object(ingest, "start", side_effect=starts)
        found = contextlib.nullcontext() if isinstance(ingest.measure_window, mock.Mock) else mock.patch.object(
            ingest, "measure_window", return_value={"cpu_s": 1})
        with start as started, found, silent():
            window = ingest.window(self.OPTIONS, self.RECEIVER, self.LOAD, self.CORES)
        self.assertEqual(started.call_count, len(starts))
        return window


def a_run() -> dict:
    """64 and 200 cameras; retina takes three times what ours takes, who only receives a sixth less."""
    kinds = (Receiver("ours", "uring", readers=1), Receiver("ours", "uring", readers=0), Receiver("ours", "uring", readers=3),
             Receiver("ours", "epoll", readers=1), Receiver("ours", "epoll", readers=0), Receiver("discard", "uring"),
             Receiver("discard", "epoll"), Receiver("retina"))
    loads = [{"name": f"{cameras} × 4 Mbit/s, unit writes", "cameras": cameras, "mbit": 4, "write": "unit",
              "wakes": [{"sleep_us": 10.0, "wake_us": 5.0, "twice": {"p50_us": 60.0, "p99_us": 200.0, "p999_us": 900.0}}] * 3,
              "receivers": {one.name: {"kind": one.kind, "io": one.io, "readers": one.readers} for one in kinds},
              "windows": {one.name: [a_window(one, cameras) for _ in range(3)] for one in kinds}} for cameras in (64, 200)]
    return {"format": ingest.FORMAT, "command": "./tools/bench ingest", "commit": "0123abc-dirty", "began": "2026-01-02 03:04",
            "machine": {"processor": "Some processor", "cores": 2, "kernel": "6.1", "system": "Debian",
                        "placement": {"receiver": 0, "farm": 1, "readers": 1}},
            "has_precedence": True, "seconds": 10, "rounds": 3, "skipped": {"X": "not there"}, "loads": loads}


def a_window(receiver: Receiver, cameras: int) -> dict:
    cpu = {"ours": 0.12 if receiver.readers else 0.10, "discard": 0.10, "retina": 0.36}[receiver.kind]
    window = {"tries": 1, "is_complete": True, "cameras": cameras, "rates": RATES, "wall_s": 10.0, "cpu_s": cpu * 10,
              "cpu_s_per_stream_minute": cpu, "readers_cpu_s_per_stream_minute": 0.05, "farm_cores": 0.1, "others_cores": 0.0,
              "farm_units": 1, "farm_dropped": 0, "farm_held_up": 0, "anon_kib": 1000, "grown_kib": 900, "shared_kib": 0, "threads": 5}
    if receiver.readers:
        window |= {"readers": CONTENT, "latency": {"p50_us": 50.0, "p99_us": 150.0, "p999_us": 300.0, "max_us": 400.0}}
    return copy.deepcopy(window)


def row(run: dict, name: str) -> list:
    """At 64 cameras."""
    return run["loads"][0]["windows"][name]


def change(run: dict, name: str, **facts) -> None:
    for window in row(run, name):
        window |= facts


def verdict(run: dict, name: str, what: str, load: int = 0) -> str:
    found = [target.verdict for target in targets_of(run)
             if (target.receiver, target.what, target.load) == (name, what, run["loads"][load]["name"])]
    assert len(found) == 1, (name, what, found)
    return found[0]


def line(text: str, begins: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(f"| {begins}"))


def main(*arguments: str) -> subprocess.CompletedProcess:
    program = pathlib.Path(__file__).with_name("ingest.py")
    return subprocess.run([sys.executable, program, *arguments], capture_output=True, text=True, timeout=60)


def silent():
    return contextlib.redirect_stderr(io.StringIO())


if __name__ == "__main__":
    unittest.main()
