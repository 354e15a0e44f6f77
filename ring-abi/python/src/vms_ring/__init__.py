"""Reads the shared-memory rings of vms-media (`ring-abi/SPEC.md`), on CPython and x86-64.

    for unit in vms_ring.attach("/run/vms-media/ring.sock", "cam1"):
        print(unit.seq, unit.pts_ns, unit.key, len(unit.payload))

`attach` reads one stream, a `Session` any number of them (`for`, `async for`, `next(timeout=…)`), `reconnecting` reads on across
restarts. What is given out is a private copy that was validated: it never changes, and keeping it holds nobody up.

    _layout       where everything is, generated        _session    a connection; attach, wait, rotate
    _memory       why this is sound here; mappings      _stream     what the user holds of a stream
    _segments     seals, headers, tables                _units      one stream as an iterator
    _attachment   take a record, copy, validate         _reconnect  across restarts
    _counting     what became of every unit             _waiting    the same steps by poll, or by _asyncio
    _handshake    messages                              _link       session segments; _client: the socket
"""

from ._errors import (
    BadMessage,
    Evicted,
    ProducerGone,
    ProtocolError,
    Refused,
    RequestTimeout,
    RingError,
    SegmentError,
    Unsupported,
)
from ._layout import ClockSource, Codec, EndReason, Filter, Flag, From, Record, Refusal, RingState, StreamState
from ._layout import Class as ReaderClass
from ._reconnect import Reconnecting, reconnecting
from ._session import Session
from ._stream import Stream
from ._units import Units, attach
from ._values import (
    KEYFRAME,
    LIVE,
    OLDEST,
    Configuration,
    Counts,
    Ended,
    Event,
    Reconnected,
    Restarted,
    Rotated,
    Status,
    Unit,
    Where,
    after,
    preroll,
)

__all__ = [
    "KEYFRAME", "LIVE", "OLDEST", "BadMessage", "ClockSource", "Codec", "Configuration", "Counts", "EndReason", "Ended", "Event",
    "Evicted", "Filter", "Flag", "From", "ProducerGone", "ProtocolError", "ReaderClass", "Reconnected", "Reconnecting", "Record",
    "Refusal", "Refused", "RequestTimeout", "Restarted", "RingError", "RingState", "Rotated", "SegmentError", "Session", "Status",
    "Stream", "StreamState", "Unit", "Units", "Unsupported", "Where", "after", "attach", "preroll", "reconnecting",
]
