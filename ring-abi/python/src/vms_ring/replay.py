"""`python -m vms_ring.replay FILE.txt`: replays a conformance vector (`ring-abi/vectors`) and prints its events as JSON lines."""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import re
import sys
import zlib
from typing import Dict, Iterable, Iterator, List, Optional

from . import _handshake as handshake
from ._attachment import DROPPED, Attachment, TakenEnd, TakenUnit
from ._counting import Counting
from ._errors import BadMessage, SegmentError
from ._layout import Attach, AttachedFlag, Attached, Filter, Refusal, Refused
from ._memory import require_supported
from ._segments import SEALS_READ_ONLY

SEALS = {"seal": 0x1, "shrink": 0x2, "grow": 0x4, "future_write": 0x10}
F_ADD_SEALS = 1033
ALLOW_SEALING = getattr(os, "MFD_ALLOW_SEALING", 2)
Line = Dict[str, object]


class ScriptError(ValueError):
    """A line of the script that cannot be done."""


class Script:
    """The segments of a vector, and what a reader makes of them."""

    def __init__(self) -> None:
        self._sizes: Dict[str, int] = {}
        self._files: Dict[str, int] = {}
        self._maps: Dict[str, mmap.mmap] = {}
        self._missing_seals: Dict[str, int] = {}
        self._resumed_after: Optional[int] = None
        self._everything = False
        self._attachment: Optional[Attachment] = None
        self._refused = False
        self._heads = memoryview(bytearray(8)).cast("Q")

    def run(self, lines: Iterable[str]) -> Iterator[Line]:
        """Runs a script; its events."""
        for number, line in enumerate(lines, 1):
            try:
                yield from self._line(line.partition("#")[0].split())
            except (IndexError, KeyError, ValueError) as error:
                why = str(error) if isinstance(error, ScriptError) else "not understood"
                raise ScriptError(f"line {number}: {why}: {line.rstrip()[:80]}") from error

    def _line(self, words: List[str]) -> Iterator[Line]:
        if not words:
            return
        command, arguments = words[0], words[1:]
        if command in ("size", "unsealed"):
            self._sizes[arguments[0]] = int(arguments[1])
            if command == "unsealed":
                missing = SEALS[arguments[2]] if len(arguments) > 2 else SEALS_READ_ONLY
                self._missing_seals[arguments[0]] = missing
        elif command == "at":
            self._write(arguments[0], int(arguments[1], 16), bytes.fromhex("".join(arguments[2:])))
        elif command == "attach":
            self._options(arguments)
        elif command == "take":
            yield from self._take()
        elif command == "message":
            yield message_line(bytes.fromhex("".join(arguments)))
        else:
            raise ScriptError("unknown command")

    def _options(self, arguments: List[str]) -> None:
        for argument in arguments:
            name, _, value = argument.partition("=")
            if name == "resumed_after":
                self._resumed_after = int(value)
            elif name == "everything":
                self._everything = value == "1"
            else:
                raise ScriptError(f"unknown option {argument}")

    def _write(self, segment: str, offset: int, data: bytes) -> None:
        """Bytes now stand there, as if the producer had stored them."""
        self._file(segment)
        if offset + len(data) > self._sizes[segment]:
            raise ScriptError("these bytes are outside of the segment")
        if data:
            self._maps[segment][offset : offset + len(data)] = data

    def _file(self, segment: str) -> int:
        """The segment's file, made on first use: mapped for writing first, then sealed, as a producer does."""
        if segment not in self._files:
            size = self._sizes[segment]
            fd = self._files[segment] = os.memfd_create(segment, os.MFD_CLOEXEC | ALLOW_SEALING)
            os.ftruncate(fd, size)
            if size:
                self._maps[segment] = mmap.mmap(fd, size)
            fcntl.fcntl(fd, F_ADD_SEALS, SEALS_READ_ONLY & ~self._missing_seals.get(segment, 0))
        return self._files[segment]

    def _take(self) -> Iterator[Line]:
        if self._refused:
            return
        if self._attachment is None:
            try:
                self._attachment = self._open()
            except SegmentError as error:
                self._refused = True
                yield {"event": "refused", "segment": error.segment, "why": error.why}
                return
        taken = self._attachment.take()
        while taken is not None:
            if isinstance(taken, TakenUnit):
                yield from unit_lines(taken)
            elif isinstance(taken, TakenEnd):
                yield {"event": "ended", "rstate": taken.state.name.lower(), "reason": taken.reason.name.lower()}
            else:
                assert taken is DROPPED
            taken = self._attachment.take()
        yield counts_line(self._attachment)

    def _open(self) -> Attachment:
        counting = Counting(self._resumed_after)
        fds = (self._file("stream"), self._file("ring"))
        return Attachment(*fds, self._heads, 0, counting, self._resumed_after is None, self._everything)


def unit_lines(taken: TakenUnit) -> Iterator[Line]:
    """The events of an accepted unit."""
    d, config = taken.record, taken.configuration
    if taken.config_changed and config is not None:
        yield {
            "event": "configuration",
            "track": d.track,
            "id": config.id,
            "codec": config.codec_number,
            "profile": config.profile,
            "level": config.level,
            "width": config.width,
            "height": config.height,
            "fps_num": config.fps_num,
            "fps_den": config.fps_den,
            "len": len(config.data),
            "crc32": zlib.crc32(config.data),
        }
    fields = d._asdict()
    line: Line = {"event": "unit"}
    line.update((name, fields[name]) for name in UNIT_FIELDS)
    line.update(nal_ends=list(taken.nal_ends), duration_ticks=d.duration_ticks, filtered=d.filtered)
    line.update(lost=taken.lost, crc32=zlib.crc32(taken.payload))
    yield line


UNIT_FIELDS = (
    "seq pos len flags record_type track config_id media_ticks pts_ns timeline lost_packets key_seq recv_mono_ns pub_mono_ns "
    "wall_utc_ns wall_err_us clock_source rtp_ts ssrc first_rtp_seq last_rtp_seq"
).split()


def counts_line(attachment: Attachment) -> Line:
    """What is said at the end of every take."""
    status = attachment.status()
    line: Line = {"event": "counts"}
    line.update(attachment.counting.counts()._asdict())
    line.update(state=status.state.name.lower(), timeline=status.timeline, stream_last_seq=status.last_seq)
    return line


def message_line(packet: bytes) -> Line:
    """What a packet says. Numbers that this version does not know are those that it takes them for."""
    try:
        decoded = handshake.decode(packet)
    except BadMessage as error:
        return {"event": "bad_message", "why": error.why}
    message = decoded.message
    line: Line = {"event": "message", "type": type(message).__name__.lower(), "request": decoded.request}
    for name, value in message._asdict().items():
        if not re.fullmatch(r"(name|token|id|text)_len", name):
            line[name] = handshake.text(message, name) if isinstance(value, bytes) else value
    if isinstance(message, Attach):
        line["reader_class"] = 2 if message.reader_class == 2 else 1
        line["filters"] = message.filters & int(Filter.KEYFRAMES_ONLY | Filter.SKIP_DAMAGED | Filter.EVERYTHING)
    if isinstance(message, Attached):
        line["flags"] = message.flags & AttachedFlag.RESUMED
    if isinstance(message, Refused) and not Refusal.UNKNOWN_STREAM <= message.code <= Refusal.UNAVAILABLE:
        line["code"] = int(Refusal.UNAVAILABLE)
    return line


def main(arguments: List[str]) -> int:
    """Runs the program; its exit code."""
    if len(arguments) != 1:
        print("usage: python -m vms_ring.replay FILE.txt", file=sys.stderr)
        return 2
    require_supported()
    with open(arguments[0], encoding="utf-8") as file:
        try:
            for line in Script().run(file):
                text = json.dumps(line, separators=(",", ":"), ensure_ascii=False)
                sys.stdout.buffer.write(text.encode("utf-8") + b"\n")
        except ScriptError as error:
            print(f"{arguments[0]}: {error}", file=sys.stderr)
            return 2
        finally:
            sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
