"""A reader that attacks, in a process of its own and with nothing of ours: `hostile_reader.py ROLE RING_SOCKET ID...`.

Numbers are SPEC.md's, written out here by hand. Each role prints one line of JSON when it has done its worst; then
it stays, attached, until its standard input ends.
"""

import ctypes
import errno
import fcntl
import json
import mmap
import os
import random
import socket
import struct
import sys
import threading
import time

F_ADD_SEALS, F_SEAL_WRITE = 1033, 0x8
FALLOC_FL_PUNCH_HOLE_KEEP_SIZE = 0x3
MADV_REMOVE = 9
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]


def message(kind: int, body: bytes, request: int = 1) -> bytes:
    return struct.pack("<IIII", kind, 16 + len(body), request, 0) + body


def hello(features: int = 0, slots: int = 64) -> bytes:
    return message(1, struct.pack("<HHHHQIIII32s256s", 1, 0, 0, 0, features, slots, 0, 0, 0, b"", b""))


def attach(stream: str, request: int = 2, slots: int = 8) -> bytes:
    body = struct.pack("<IIQQIIQQII64s", len(stream), 3, 0, 0, 2, 0, 2**64 - 1, 3 * 10**9, slots, 0, stream.encode())
    return message(3, body, request)


class Session:
    def __init__(self, path: str, features: int = 0) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.connect(path)
        self.socket.send(hello(features))
        data, self.fds, _, _ = socket.recv_fds(self.socket, 4096, 4)
        assert struct.unpack_from("<I", data)[0] == 2, data

    def attach(self, stream: str):
        self.socket.send(attach(stream))
        data, fds, _, _ = socket.recv_fds(self.socket, 4096, 4)
        assert struct.unpack_from("<I", data)[0] == 4, data
        return struct.unpack_from("<I", data, 16)[0], fds


def outcome(attempt) -> str:
    """The name of the error, or "done" if there was none."""
    try:
        result = attempt()
    except OSError as error:
        return errno.errorcode[error.errno]
    if result in (-1, 2**64 - 1):
        return errno.errorcode[ctypes.get_errno()]
    return "done"


def write_paths(fd: int) -> dict[str, str]:
    """Every way to write to a segment that this reader may only read."""
    size = os.fstat(fd).st_size
    own = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    assert own not in (None, 2**64 - 1)
    return {
        "mmap": outcome(lambda: libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, fd, 0)),
        "mprotect": outcome(lambda: libc.mprotect(own, size, mmap.PROT_READ | mmap.PROT_WRITE)),
        "write": outcome(lambda: os.pwrite(fd, b"x", 0)),
        "grow": outcome(lambda: os.ftruncate(fd, size + 4096)),
        "shrink": outcome(lambda: os.ftruncate(fd, 0)),
        "punch": outcome(lambda: libc.fallocate(fd, FALLOC_FL_PUNCH_HOLE_KEEP_SIZE, 0, 4096)),
        "allocate": outcome(lambda: libc.fallocate(fd, 0, size, 4096)),
        "remove": outcome(lambda: libc.madvise(own, size, MADV_REMOVE)),
        "reopen": outcome(lambda: os.pwrite(os.open(f"/proc/self/fd/{fd}", os.O_RDWR), b"x", 0)),
        "reopen and map": outcome(lambda: mmap.mmap(os.open(f"/proc/self/fd/{fd}", os.O_RDWR), size)),
        "seal": outcome(lambda: fcntl.fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE)),
        "sendfile": outcome(lambda: os.sendfile(fd, os.open("/dev/zero", os.O_RDONLY), 0, 1)),
        "splice": outcome(lambda: splice(fd)),
        "copy": outcome(lambda: os.copy_file_range(fd, fd, 1, 0, 64)),
    }


def splice(fd: int) -> int:
    reading, writing = os.pipe()
    os.write(writing, b"x")
    return os.splice(reading, fd, 1, offset_dst=0) if hasattr(os, "splice") else os.pwrite(fd, b"x", 0)


def seals(path: str, ids: list[str]) -> dict:
    session = Session(path)
    _, (stream, ring) = session.attach(ids[0])
    keep.append(session)
    return {"stream": write_paths(stream), "ring": write_paths(ring), "session": write_paths(session.fds[0])}


def notify(path: str, ids: list[str]) -> dict:
    """A notify descriptor that blocks and is never read, of a reader that takes all its records, so that its bell goes on."""
    session = Session(path, features=1)
    fd = session.fds[2]
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_NONBLOCK)
    page = mmap.mmap(session.fds[1], os.fstat(session.fds[1]).st_size)
    rings = [session.attach(stream) for stream in ids]
    views = [(slot, mmap.mmap(ring, 4096, prot=mmap.PROT_READ)) for slot, (_, ring) in rings]

    def taken() -> int:
        tails = [(slot, struct.unpack_from("<Q", view, 128)[0]) for slot, view in views]
        for slot, tail in tails:
            page[256 + 8 * slot : 264 + 8 * slot] = struct.pack("<Q", tail)
        return sum(tail for _, tail in tails)

    first = taken()
    for _ in range(300):
        time.sleep(0.01)
        last = taken()
    keep.append(session)
    return {"descriptors": len(session.fds), "went on": last > first + 100}


def cursor(path: str, ids: list[str]) -> dict:
    """Heads that lie: ahead, back, huge, and taken away."""
    ends = []
    for lie in (lambda page: page.__setitem__(slice(256, 264), b"\xff" * 8), None):
        session = Session(path)
        slot, (_, ring) = session.attach(ids[0])
        size = os.fstat(session.fds[1]).st_size
        page = mmap.mmap(session.fds[1], size)
        view = mmap.mmap(ring, os.fstat(ring).st_size, prot=mmap.PROT_READ)
        if lie is None:
            page[256 + 8 * slot : 264 + 8 * slot] = struct.pack("<Q", 1)
            wait_until(lambda: struct.unpack_from("<Q", view, 128)[0] > 8)
            libc.fallocate(session.fds[1], FALLOC_FL_PUNCH_HOLE_KEEP_SIZE, 0, size)
        else:
            page[256:] = b"\xff" * (size - 256)
        wait_until(lambda: struct.unpack_from("<I", view, 192)[0] != 0)
        ends.append(list(struct.unpack_from("<II", view, 192)))
        keep.append(session)
    # And noise, for as long as this process lives: nothing may come of it.
    session = Session(path)
    session.attach(ids[0])
    page = mmap.mmap(session.fds[1], os.fstat(session.fds[1]).st_size)
    for _ in range(20_000):
        at = random.randrange(0, len(page) - 8)
        page[at : at + 8] = random.randbytes(8)
    keep.append(session)
    return {"ends": ends}


def wait_until(condition) -> None:
    for _ in range(2_000):
        if condition():
            return
        time.sleep(0.01)
    raise SystemExit("the daemon did not do it")


def handshake(path: str, ids: list[str]) -> dict:
    """Packets that are no messages, too many, too early, with descriptors, and answers that nobody reads."""
    answers = {}
    cases = {
        "nothing known": message(99, b""),
        "too short": b"\x01\x00\x00\x00",
        "lying length": struct.pack("<IIII", 1, 4096, 1, 0) + bytes(320),
        "attach first": attach(ids[0]),
        "another major": message(1, struct.pack("<HHHHQIIII32s256s", 2, 0, 0, 0, 0, 8, 0, 0, 0, b"", b"")),
        "long name": message(1, struct.pack("<HHHHQIIII32s256s", 1, 0, 0, 0, 0, 8, 0, 99, 0, b"", b"")),
        "no text": message(1, struct.pack("<HHHHQIIII32s256s", 1, 0, 0, 0, 0, 8, 0, 4, 0, b"\xff" * 32, b"")),
        "a producer's": message(2, bytes(32)),
    }
    for name, packet in cases.items():
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
            peer.settimeout(10)
            peer.connect(path)
            peer.send(packet)
            kinds = []
            while len(kinds) < 2 and (data := peer.recv(4096)):
                kind, _, request, _ = struct.unpack_from("<IIII", data)
                kinds.append(kind)
                # What has a request's number is answered by it, so that its sender sees why it was refused.
                if request != (struct.unpack_from("<I", packet, 8)[0] if len(packet) >= 16 else 0):
                    kinds.append("another request")
                if name == "nothing known":
                    break
            answers[name] = kinds
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
        peer.connect(path)
        socket.send_fds(peer, [hello()], [0, 1, 2, peer.fileno()])
        answers["with descriptors"] = [struct.unpack_from("<I", peer.recv(4096))[0]]
    deaf = Session(path)
    deaf.socket.setblocking(False)
    sent = 0
    try:
        while sent < 100_000:
            deaf.socket.send(attach(ids[0], request=sent + 2))
            sent += 1
    except OSError as error:
        answers["deaf"] = errno.errorcode[error.errno]
    keep.append(deaf)
    return answers


def hoard(path: str, ids: list[str]) -> dict:
    """Attaches each stream as soon as it is there, says so, and never lets go; until it is refused."""
    session = Session(path)
    keep.append(session)
    for request, stream in enumerate(ids, 2):
        while True:
            session.socket.send(attach(stream, request))
            data, fds, _, _ = socket.recv_fds(session.socket, 4096, 4)
            kind, code = struct.unpack_from("<I", data)[0], struct.unpack_from("<I", data, 16)[0]
            if kind == 4:
                hoarded.append(fds)
                print(f"holds {stream}", flush=True)
                break
            if code != 1:  # anything but "unknown stream"
                return {"held": len(hoarded), "code": code}
            time.sleep(0.01)
    return {"held": len(hoarded)}


def keep_mapping(path: str, ids: list[str]) -> dict:
    """Attaches, keeps the stream's memory, detaches, and goes on looking at it: a line with `last_seq` every 50 ms."""
    session = Session(path)
    slot, (stream, _) = session.attach(ids[0])
    view = mmap.mmap(stream, os.fstat(stream).st_size, prot=mmap.PROT_READ)
    session.socket.send(message(6, struct.pack("<II", slot, 0), 3))
    assert struct.unpack_from("<I", session.socket.recv(4096))[0] == 7
    session.socket.close()
    while True:
        print(json.dumps({"last_seq": struct.unpack_from("<Q", view, 144)[0]}), flush=True)
        time.sleep(0.05)


def flood(path: str, ids: list[str]) -> dict:
    """Connects as fast as many threads can, and never says a word."""

    def connect() -> None:
        while True:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
                try:
                    peer.settimeout(1)
                    peer.connect(path)
                    peer.recv(1)
                except OSError:
                    pass

    for _ in range(100):
        threading.Thread(target=connect, daemon=True).start()
    return {"flooding": True}


def ask(path: str, ids: list[str]) -> dict:
    """Asks for what it may not read, with large rings, more often than it may be given rings; then for what it may read."""
    session = Session(path)
    codes = set()
    for request in range(2, 2_502):
        session.socket.send(attach(ids[0] + "-not", request, slots=1024))
        answer = session.socket.recv(4096)
        codes.add(struct.unpack_from("<I", answer)[0] * 100 + struct.unpack_from("<I", answer, 16)[0])
    keep.append(session)
    session.attach(ids[0])
    return {"codes": sorted(codes)}


def linger(path: str, ids: list[str]) -> dict:
    """Gives away TCP sockets whose last holder waits, when it closes them, for bytes that nobody ever reads."""
    listener = socket.create_server(("127.0.0.1", 0))

    def lingering() -> socket.socket:
        giver = socket.create_connection(listener.getsockname())
        deaf.append(listener.accept()[0])
        giver.setblocking(False)
        try:
            while True:
                giver.send(bytes(65_536))
        except BlockingIOError:
            pass
        giver.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 120))
        return giver

    def give(peer: socket.socket, packet: bytes, gifts: list[socket.socket]) -> int:
        try:
            socket.send_fds(peer, [packet], [gift.fileno() for gift in gifts])
        except OSError:
            return 0
        finally:
            # Where these are the last, it is a thread of this process that waits.
            threading.Thread(target=lambda: [gift.close() for gift in gifts], daemon=True).start()
        return len(gifts)

    given = 0
    for packet, count in [(hello(), 1), (b"", 1), (bytes(5_000), 1), (hello(), 8)] * 3:
        gifts = [lingering() for _ in range(count)]
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
            peer.connect(path)
            given += give(peer, packet, gifts)
    try:
        session = Session(path, features=1)
        session.attach(ids[0])
        given += give(socket.socket(fileno=session.fds[2]), b"x", [lingering()])
        session.socket.close()
    except (OSError, AssertionError, struct.error):
        pass  # a stranger has no session
    return {"given": given}


deaf: list[socket.socket] = []
hoarded: list[list[int]] = []
keep: list[Session] = []

if __name__ == "__main__":
    role, ring_socket, *streams = sys.argv[1:]
    print(json.dumps({"seals": seals, "notify": notify, "cursor": cursor, "handshake": handshake,
                      "hoard": hoard, "keep": keep_mapping, "flood": flood, "linger": linger, "ask": ask}[role](ring_socket, streams)))
    sys.stdout.flush()
    sys.stdin.read()
