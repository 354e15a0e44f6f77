"""A stream that is attached in a session: what its user holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from ._attachment import Attachment, TakenEnd
from ._layout import Attached, AttachedFlag
from ._values import Configuration, Counts, Join, Status

if TYPE_CHECKING:
    from ._session import Session


class Stream:
    """A stream attached in a session. It stays the same object across rotations."""

    def __init__(self, session: Session, id: str, join: Join, attached: Attached, attachment: Attachment) -> None:
        self._session = session
        self._join = join
        self._wanted = True
        """Its user has not detached it."""
        self.id = id
        """The producer's name of it."""
        self._adopt(attached, attachment)

    def _adopt(self, attached: Attached, attachment: Attachment) -> None:
        """Goes on in another ring."""
        self.attached = True
        """It has neither ended nor been detached."""
        self._final_status: Optional[Status] = None
        self._attachment = attachment
        self._tail_index = self._session._link.tail_index(attached.slot)
        self._look = True
        """The ring's end must be looked at although its tail has not moved."""
        self._rotated: Optional[TakenEnd] = None
        self.slot = attached.slot
        """Slot in the session."""
        self.uid = attached.stream_uid
        """The producer's number of it."""
        self.epoch = attached.epoch
        """Its incarnation: seq begins anew only with another."""
        self.resumed = attached.flags & AttachedFlag.RESUMED != 0
        """It goes on right behind the unit that `after` named."""
        self.first_seq = attached.first_seq
        """First unit that can come."""
        self.last_seq = attached.last_seq
        """Newest unit when it was attached."""

    def __repr__(self) -> str:
        return f"<Stream {self.id} slot={self.slot} epoch={self.epoch}>"

    def counts(self) -> Counts:
        """What became of its units so far."""
        return self._attachment.counting.counts()

    def status(self) -> Status:
        """What it says of itself; of an ended or detached one: what it said last."""
        return self._attachment.status() if self._final_status is None else self._final_status

    def configuration(self, track: int = 0) -> Optional[Configuration]:
        """The parameter sets that the newest unit of a track referred to."""
        return self._attachment.configuration(track)

    def detach(self) -> Counts:
        """Detaches it; what became of its units."""
        return self._session.detach(self)

    def _release(self) -> None:
        """Its mappings go; what was last known stays."""
        if self.attached:
            self.attached = False
            self._final_status = self._attachment.status()
            self._attachment.close()
