"""What became of every unit, computed by the reader (SPEC.md §10). Pure.

Invariant, from the first accepted unit on: accepted + rejected + skipped + lost + filtered = last_seq − first_seq + 1.
"""

from __future__ import annotations

from typing import Optional

from ._values import Counts

SEQ_MAX = 2**64 - 1
ACCEPTED, REJECTED, SKIPPED = "accepted", "rejected", "skipped"


class Counting:
    """Follows the records of one ring after another."""

    __slots__ = ("first_seq", "last_seq", "accepted", "rejected", "skipped", "lost", "filtered", "_ring_filtered")

    def __init__(self, resumed_after: Optional[int] = None) -> None:
        # No unit has the highest number; who asks for what is behind it gets nothing.
        self.last_seq = min(resumed_after or 0, SEQ_MAX - 1)
        self.first_seq = 0 if resumed_after is None else self.last_seq + 1
        self.accepted = self.rejected = self.skipped = self.lost = self.filtered = 0
        self._ring_filtered = 0

    def counts(self) -> Counts:
        """The counts so far."""
        return Counts(
            self.first_seq, self.last_seq, self.accepted, self.rejected, self.skipped, self.lost, self.filtered
        )

    def lost_before(self, seq: int, filtered: int) -> int:
        """Units missing right before the record `seq`; 0 before the first accepted one, and for a record that goes back."""
        between = seq - self.last_seq - 1
        if between <= 0 or self.first_seq == 0:
            return 0
        return between - min(max(filtered - self._ring_filtered, 0), between)

    def record(self, seq: int, filtered: int, outcome: str) -> None:
        """Counts a record and what is missing before it."""
        if self.first_seq == 0:
            if outcome != ACCEPTED:
                return
            self.first_seq = seq
            self.last_seq = max(seq - 1, 0)
            self._ring_filtered = filtered
        if seq <= self.last_seq:
            return
        self._advance(seq, filtered, 1)
        if outcome == ACCEPTED:
            self.accepted += 1
        elif outcome == REJECTED:
            self.rejected += 1
        else:
            self.skipped += 1

    def end(self, final_seq: int, filtered: int) -> None:
        """Counts what is missing at the ring's end."""
        if self.first_seq and final_seq > self.last_seq:
            self._advance(final_seq, filtered, 0)

    def next_ring(self) -> None:
        """The stream goes on in another ring, whose `filtered` starts from 0."""
        self._ring_filtered = 0

    def _advance(self, seq: int, filtered: int, own: int) -> None:
        between = seq - self.last_seq - own
        if between:
            withheld = min(max(filtered - self._ring_filtered, 0), between)
            self.filtered += withheld
            self.lost += between - withheld
        self.last_seq = seq
        self._ring_filtered = filtered
