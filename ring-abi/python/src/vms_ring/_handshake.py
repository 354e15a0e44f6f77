"""The messages of the attach socket: fixed little-endian structs, one a packet (SPEC.md §5). Pure."""

from __future__ import annotations

from typing import NamedTuple, Union

from ._errors import BadMessage, ProtocolError
from ._layout import (
    ABI_MAJOR,
    ABI_MINOR,
    ATTACH,
    DETACH,
    BYE,
    HELLO,
    MESSAGE_HEAD,
    MESSAGES,
    NAME_LEN_MAX,
    STREAM_ID_LEN_MAX,
    TOKEN_LEN_MAX,
    Attach,
    Attached,
    Bye,
    Closed,
    Detach,
    Detached,
    Evicted,
    Feature,
    From,
    Hello,
    MessageHead,
    Refused,
    Welcome,
)
from ._values import Join

Message = Union[Hello, Welcome, Attach, Attached, Refused, Detach, Detached, Evicted, Closed, Bye]
HELLO_TYPE, WELCOME_TYPE, ATTACH_TYPE, ATTACHED_TYPE, REFUSED_TYPE = 1, 2, 3, 4, 5
DETACH_TYPE, DETACHED_TYPE, BYE_TYPE = 6, 7, 10
TEXTS = {HELLO_TYPE: ("name", "token"), ATTACH_TYPE: ("id",), REFUSED_TYPE: ("text",)}
"""Texts of a message, each with a field `…_len` of its own."""


class Packet(NamedTuple):
    """A decoded packet."""

    kind: int
    request: int
    message: Message


def decode(packet: bytes) -> Packet:
    """The message in a packet: its first `length` bytes. Those behind the fields that are known are ignored."""
    if len(packet) < MESSAGE_HEAD.size:
        raise BadMessage("short", 0)
    head = MessageHead._make(MESSAGE_HEAD.unpack_from(packet))
    if not MESSAGE_HEAD.size <= head.length <= len(packet):
        raise BadMessage("short", head.type)
    if head.type not in MESSAGES:
        raise BadMessage("unknown", head.type)
    format_, fields = MESSAGES[head.type]
    if head.length < format_.size:
        raise BadMessage("short", head.type)
    message: Message = fields(*format_.unpack_from(packet))
    for name in TEXTS.get(head.type, ()):
        text(message, name)
    if isinstance(message, Attach) and not From.LIVE <= message.from_kind <= From.AFTER:
        raise BadMessage("field", head.type)
    return Packet(head.type, head.request, message)


def text(message: Message, name: str) -> str:
    """A text of a message."""
    place: bytes = getattr(message, name)
    length: int = getattr(message, "id_len" if name == "id" else f"{name}_len")
    kind = next(number for number, (_, fields) in MESSAGES.items() if isinstance(message, fields))
    if length > len(place):
        raise BadMessage("field", kind)
    try:
        return place[:length].decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadMessage("field", kind) from error


def hello(request: int, name: str, slots: int, bell_interval_us: int, token: str) -> bytes:
    """A greeting of this version that asks for a notify descriptor."""
    name_bytes, token_bytes = cut(name, NAME_LEN_MAX), cut(token, TOKEN_LEN_MAX)
    lengths = (len(name_bytes), len(token_bytes))
    fields = Hello(
        ABI_MAJOR, 0, ABI_MINOR, Feature.NOTIFY_FD, slots, bell_interval_us, *lengths, name_bytes, token_bytes
    )
    return with_head(HELLO_TYPE, request, HELLO.pack(*fields))


def attach(request: int, stream: str, join: Join) -> bytes:
    """Asks for a stream."""
    name = stream.encode("utf-8")
    if not 1 <= len(name) <= STREAM_ID_LEN_MAX:
        raise ValueError(f"a stream's id has 1 to {STREAM_ID_LEN_MAX} bytes")
    where = join.where
    fields = Attach(
        len(name), where.kind, where.epoch, where.arg, join.reader_class, join.filters, join.tracks, join.lag_max_ns,
        join.ring_slots, name,
    )
    return with_head(ATTACH_TYPE, request, ATTACH.pack(*fields))


def detach(request: int, slot: int) -> bytes:
    """Gives a slot up."""
    return with_head(DETACH_TYPE, request, DETACH.pack(slot))


def bye() -> bytes:
    """The session ends in order."""
    return with_head(BYE_TYPE, 0, BYE.pack(0))


def with_head(kind: int, request: int, packed: bytes) -> bytes:
    """A packed struct, whose first 16 bytes are reserved for it, with its head."""
    return MESSAGE_HEAD.pack(kind, len(packed), request) + packed[MESSAGE_HEAD.size :]


def cut(value: str, limit: int) -> bytes:
    """As much of a text as fits, cut at a character."""
    return value.encode("utf-8")[:limit].decode("utf-8", "ignore").encode("utf-8")


def check_welcome(welcome: Welcome) -> None:
    """What R MUST refuse (§5)."""
    if (welcome.major, welcome.minor) != (ABI_MAJOR, ABI_MINOR):
        raise ProtocolError(f"the producer speaks ABI {welcome.major}.{welcome.minor}")
    if welcome.features & ~int(Feature.NOTIFY_FD):
        raise ProtocolError("the producer granted features that were not asked for")
