"""The base classes of all messages, and how a message is written as bytes.

The definitions of the messages are in `messages` and `connection_messages`; `channel` sends them. A message is a
dataclass. Those that are sent for each connection are packed with `struct`; the rare ones are JSON, so that a person
can read them with strace. Both ends are always of one version of appsrv.
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

MAX_DATAGRAM = 384 * 1024
"""The longest message in bytes."""
LONG_MESSAGE, LONG_TEXT, LONG_LIST = 128 * 1024, 4000, 100
"""Texts (in characters) and lists that are longer are shortened in a message that is longer (in bytes)."""

_BY_TAG: dict[int, type[Message]] = {}


class MessageTooLong(ProtocolError):
    """A message that cannot be shortened does not fit into a datagram."""


class Message:
    """Base of all: one tag byte, then the fields as JSON. A message has one direction at least."""

    TAG: ClassVar[int]
    WAYS: ClassVar[tuple[Direction, ...]]
    WHOLE: ClassVar[tuple[str, ...]]
    """The fields of which the receiver needs all: they are never shortened."""

    # Generated for every message anew, these would take a third of a process's start.

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
        """The message as bytes: one datagram. A long one loses the middle of its long texts.

        MessageTooLong when it does not fit even so, because of fields that have to be whole.
        """
        body = _json(vars(self))
        if len(body) > LONG_MESSAGE:
            fields = vars(self).items()
            body = _json({name: value if name in self.WHOLE else _shortened(value) for name, value in fields})
        if len(body) >= MAX_DATAGRAM:
            raise MessageTooLong(f"a {type(self).__name__} of {len(body)} bytes is longer than {MAX_DATAGRAM} bytes")
        return bytes([self.TAG]) + body

    @classmethod
    def unpack(cls, datagram: bytes) -> Self:
        """The message of this kind that a datagram holds."""
        return cls(**json.loads(datagram[1:]))


class Packed(Message):
    """Base of the frequent ones: the tag, the fields as `layout` says, then, where there is one, `data`.

    Nothing is frozen: one or two of these are made for each connection, and freezing makes that four times slower.
    """

    LAYOUT: ClassVar[struct.Struct]
    NAMES: ClassVar[tuple[str, ...]]

    def __init_subclass__(cls, *, tag: int = 0, ways: tuple[Direction, ...] = (), layout: str = "") -> None:
        super().__init_subclass__(tag=tag, ways=ways)
        cls.LAYOUT = struct.Struct(f"<B{layout}")
        cls.NAMES = tuple(name for name in cls.__annotations__ if name != "data")

    def pack(self) -> bytes:
        fields = vars(self)
        fixed = self.LAYOUT.pack(self.TAG, *[fields[name] for name in self.NAMES])
        return fixed + fields["data"] if "data" in fields else fixed

    @classmethod
    def unpack(cls, datagram: bytes) -> Self:
        make: Callable[..., Self] = cls
        fields = cls.LAYOUT.unpack_from(datagram)[1:]
        return make(*fields, datagram[cls.LAYOUT.size :]) if "data" in cls.__annotations__ else make(*fields)


def _json(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def _shortened(value: Any) -> Any:
    if isinstance(value, str) and len(value) > LONG_TEXT:
        return f"{value[: LONG_TEXT // 2]}\n[...]\n{value[-LONG_TEXT // 2 :]}"
    if isinstance(value, dict):
        return {name: _shortened(value[name]) for name in list(value)[:LONG_LIST]}
    return value[:LONG_LIST] if isinstance(value, list) else value


def messages_of(way: Direction) -> set[type[Message]]:
    """The kinds of message that are sent in this direction."""
    return {kind for kind in _BY_TAG.values() if way in kind.WAYS}


def unpack(datagram: bytes) -> Message:
    """The message a datagram holds; ProtocolError when it holds none."""
    kind = _BY_TAG.get(datagram[0]) if datagram else None
    if kind is None:
        raise ProtocolError(f"no message starts like {datagram[:16]!r}")
    try:
        return kind.unpack(datagram)
    except (ValueError, TypeError, struct.error) as error:
        raise ProtocolError(f"no {kind.__name__} reads like {datagram[:16]!r}: {error}") from error
