"""`python -m vms_ring tap`: the JSON lines of `vms-tap --json`, by this package."""

from __future__ import annotations

import argparse
import os
import sys
from typing import List, Optional

from ._errors import RingError
from ._tap import run
from ._values import KEYFRAME, LIVE, OLDEST, Where, after, preroll


def where(text: str) -> Where:
    """The value of `--from`."""
    name, _, value = text.partition("=")
    entries = {"live": LIVE, "keyframe": KEYFRAME, "oldest": OLDEST}
    try:
        if text in entries:
            return entries[text]
        if name == "preroll":
            return preroll(seconds(value))
        if name == "after":
            epoch, _, seq = value.partition(":")
            return after(int(epoch), int(seq))
    except ValueError:
        pass
    raise argparse.ArgumentTypeError("expected live, keyframe, oldest, preroll=SECONDS or after=EPOCH:SEQ")


def seconds(text: str) -> float:
    """A time that is not negative."""
    value = float(text)
    if not 0 <= value < 2**63:
        raise ValueError(text)
    return value


def default_socket() -> str:
    """Where a producer listens unless it is told otherwise."""
    directory = os.environ.get("XDG_RUNTIME_DIR") if os.geteuid() else None
    return os.path.join(directory or "/run", "vms-media/ring.sock")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m vms_ring", description="Reads streams from the rings of a running vms-media.")
    tap = top.add_subparsers(dest="command", required=True).add_parser("tap", help="print one line of JSON a unit")
    tap.add_argument("ids", nargs="+", metavar="ID", help="streams to read; they share one session")
    tap.add_argument("--ring-socket", default=default_socket(), metavar="PATH", help="default: %(default)s")
    tap.add_argument("--json", action="store_true", help="print a line for each unit, and a last line of type summary")
    tap.add_argument("--count", type=int, metavar="N", help="stop after this many units, all streams taken together")
    tap.add_argument("--from", type=where, default=LIVE, dest="where", metavar="WHERE", help="where to enter: live (default), keyframe, oldest, preroll=SECONDS or after=EPOCH:SEQ")
    tap.add_argument("--duration", type=seconds, metavar="SECONDS", help="stop after this long")
    tap.add_argument("--idle-exit", type=seconds, metavar="SECONDS", help="stop when no unit came for this long")
    return top


def main(arguments: Optional[List[str]] = None) -> int:
    """Runs the program; its exit code."""
    options = parser().parse_args(arguments)
    try:
        run(options.ring_socket, options.ids, options.where, options.json, options.count, options.duration, options.idle_exit)
    except BrokenPipeError:
        # Whoever read our output has seen enough. Nothing is left to be flushed at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (RingError, OSError) as error:
        print(f"vms_ring tap: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
