"""The base classes of all messages, and the encoding of a message as bytes.

The messages are defined in `messages` and `connection_messages`; `channel` sends them. A message is a dataclass.
Messages that are sent for each connection are packed with `struct`; all others are JSON, so that they can be read in
the output of strace(1). Both ends always run the same version of appsrv.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from appsrv.errors import ProtocolError
from appsrv.ipc.directions import Direction

if TYPE_CHECKING:
    from typing_extensions import Self

MAX_DATAGRAM_BYTES = 384 * 1024
"""The limit of a message's length, and the size of a receiver's buffer."""
LONG_MESSAGE_BYTES, LONG_TEXT_CHARACTERS, LONG_LIST_ITEMS = 128 * 1024, 4000, 100
"""In a message longer than the first limit, texts longer than the second and lists longer than the third one are
shortened."""

_BY_TAG: dict[int, type[Message]] = {}


class MessageTooLong(ProtocolError):
    """A message that cannot be shortened does not fit into a datagram."""


class Message:
    """The base of all messages: one tag byte, then the fields as JSON. A message has at least one direction."""

    TAG: ClassVar[int]
    WAYS: ClassVar[tuple[Direction, ...]]
    WHOLE: ClassVar[tuple[str, ...]]
    """The fields that are never shortened, because the receiver needs the whole value."""

    # Written once here: `dataclass` would generate and compile these methods for each message, which takes a third of
    # the time in which a process starts.

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({fields})"

    def __init_subclass__(
        cls, *, tag: int = 0, ways: tuple[Direction, ...] = (), whole: tuple[str, ...] = ()
    ) -> None:
        if tag in _BY_TAG:
            raise TypeError(f"tag {tag} is {_BY_TAG[tag].__name__}'s already")
        if tag:
            if not ways:
                raise TypeError(f"the message {cls.__name__} has no direction (ways=)")
            cls.TAG, cls.WAYS, cls.WHOLE = tag, ways, whole
            _BY_TAG[tag] = cls

    def pack(self) -> bytes:
        """The message as one datagram. In a long message, long texts and lists are shortened (`LONG_MESSAGE_BYTES`).

        Raises MessageTooLong if the fields that must not be shortened do not fit.
        """
        body = _json(vars(self))
        if len(body) > LONG_MESSAGE_BYTES:
            fields = vars(self).items()
            body = _json({name: value if name in self.WHOLE else _shortened(value) for name, value in fields})
        if len(body) >= MAX_DATAGRAM_BYTES:
            name = type(self).__name__
            raise MessageTooLong(f"a {name} of {len(body)} bytes is longer than {MAX_DATAGRAM_BYTES} bytes")
        return bytes([self.TAG]) + body

    @classmethod
    def unpack(cls, datagram: bytes) -> Self:
        """The message of this kind in a datagram.

        Raises ValueError, TypeError, RecursionError or struct.error for a malformed one.
        """
        return cls(**json.loads(datagram[1:]))


class Packed(Message):
    """The base of the frequent messages: the tag, the fields in the given `layout` (struct), then `data`, if it has
    any.

    The dataclasses are not frozen: one or two messages are made for each connection, and that takes four times as long
    for a frozen one.
    """

    LAYOUT: ClassVar[struct.Struct]
    NAMES: ClassVar[tuple[str, ...]]
    HAS_DATA: ClassVar[bool]

    def __init_subclass__(cls, *, tag: int = 0, ways: tuple[Direction, ...] = (), layout: str = "") -> None:
        super().__init_subclass__(tag=tag, ways=ways)
        cls.LAYOUT = struct.Struct(f"<B{layout}")
        cls.NAMES = tuple(name for name in cls.__annotations__ if name != "data")
        cls.HAS_DATA = "data" in cls.__annotations__

    def pack(self) -> bytes:
        fields = vars(self)
        fixed = self.LAYOUT.pack(self.TAG, *[fields[name] for name in self.NAMES])
        return fixed + fields["data"] if "data" in fields else fixed

    @classmethod
    def unpack(cls, datagram: bytes) -> Self:
        make: Callable[..., Self] = cls
        if cls.HAS_DATA:
            return make(*cls.LAYOUT.unpack_from(datagram)[1:], datagram[cls.LAYOUT.size :])
        # Raises struct.error if the datagram is longer, too. The tags are the characters from "(" to "2", with which a
        # text that an application writes into a channel may begin.
        return make(*cls.LAYOUT.unpack(datagram)[1:])


def _json(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def _shortened(value: Any) -> Any:
    if isinstance(value, str) and len(value) > LONG_TEXT_CHARACTERS:
        return f"{value[: LONG_TEXT_CHARACTERS // 2]}\n[...]\n{value[-LONG_TEXT_CHARACTERS // 2 :]}"
    if isinstance(value, dict):
        return {name: _shortened(value[name]) for name in list(value)[:LONG_LIST_ITEMS]}
    return value[:LONG_LIST_ITEMS] if isinstance(value, list) else value


def messages_of(way: Direction) -> set[type[Message]]:
    """The classes of the messages that are sent in this direction."""
    return {kind for kind in _BY_TAG.values() if way in kind.WAYS}


def unpack(datagram: bytes) -> Message:
    """The message in a datagram. Raises ProtocolError if there is none or it is malformed."""
    kind = _BY_TAG.get(datagram[0]) if datagram else None
    if kind is None:
        raise ProtocolError(f"no message starts like {datagram[:16]!r}")
    try:
        return kind.unpack(datagram)
    except (ValueError, TypeError, RecursionError, struct.error) as error:
        # RecursionError: JSON that is nested too deeply.
        raise ProtocolError(f"no {kind.__name__} reads like {datagram[:16]!r}: {error}") from error
