"""Mapped segments, and why reading them from Python is sound on CPython, x86-64, and nowhere else.

The protocol (SPEC.md §7) needs four things of a reader. Pure Python has no fence to ask for them with; here they hold anyway:

1. *Words are loaded and stored whole.* `memoryview.cast("Q")[i]` and `.cast("I")[i]` reach `unpack_single` and `pack_single` of
   CPython, a `memcpy` of exactly 8 or 4 bytes, which is one `mov`; aligned (`Mapping` checks), it is atomic on x86-64.
   `struct.unpack_from` would not do: its little-endian formats go byte by byte, so it only ever sees private copies here.
2. *The compiler keeps the order.* Each access is a C call of its own, made by the interpreter for a bytecode of its own through a type's
   slot. The C compiler cannot move one across another, join two, or repeat one: it does not know what the next bytecode is.
   CPython's JIT copies such calls, it does not look into them. (PyPy's compiler does look into them: refused.)
3. *The processor keeps the order.* x86-64 is TSO: loads are not reordered with loads, stores not with stores, a store not with earlier
   loads. So each load is an acquire, each store a release, and the acquire fence between the copy of a payload and the look at
   `reclaim_pos` is no instruction, as it is none in the Rust and C readers on this machine.
   (AArch64 reorders loads: a torn unit could be accepted there. Refused.)
4. *A store before a later load* is what TSO does not keep, and only the futex protocol (§8.1) needs it: `parked`, then `bell`. A Python
   reader never parks. It waits on the notify descriptor (§8.2), where system calls on both sides give the order.

Copies are `mmap` slices: one `memcpy` into a new `bytes` object, read from shared memory once.
"""

from __future__ import annotations

import mmap
import os
import sys

from ._errors import Unsupported


def require_supported() -> None:
    """Raises `Unsupported` where the reasons above do not hold."""
    machine = os.uname().machine if hasattr(os, "uname") else sys.platform
    found = f"{sys.implementation.name} on {sys.platform} {machine}, {sys.maxsize.bit_length() + 1} bits"
    if found != "cpython on linux x86_64, 64 bits":
        raise Unsupported(
            f"pure Python can read rings only with cpython on linux x86_64, 64 bits; this is {found}. It has no memory fences: "
            "elsewhere a unit that is being overwritten could be taken for whole. Use the C header vms_ring.h (ring-abi/include)."
        )


class Mapping:
    """A mapped file. The caller has checked its seals, so no access faults."""

    __slots__ = ("length", "map", "words32", "words64")

    def __init__(self, fd: int, length: int, writable: bool) -> None:
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        if sys.version_info >= (3, 13):
            self.map = mmap.mmap(fd, length, mmap.MAP_SHARED, protection, trackfd=False)
        else:
            # Older ones keep a duplicate of the descriptor as long as the mapping.
            self.map = mmap.mmap(fd, length, mmap.MAP_SHARED, protection)
        self.length = length
        with memoryview(self.map) as view, view[: length // 8 * 8] as whole:
            self.words32 = whole.cast("I")
            self.words64 = whole.cast("Q")

    def inside(self, offset: int, length: int, align: int) -> bool:
        """Whether `length` bytes at `offset`, a multiple of `align`, are mapped."""
        return offset >= 0 and offset % align == 0 and offset + length <= self.length

    def copy(self, offset: int, length: int) -> bytes:
        """A private copy. It may be torn when the other side writes at the same time."""
        return self.map[offset : offset + length]

    def close(self) -> None:
        """Unmaps."""
        self.words32.release()
        self.words64.release()
        self.map.close()
