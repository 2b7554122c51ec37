"""The dispatcher: passes each message that a process receives from one direction to the handler of its kind.

Knows which messages a direction has, not what they mean. A message without a handler is found when the dispatcher is
made, which is when the process starts, and not when the message comes for the first time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from appsrv.errors import ProtocolError
from appsrv.ipc.directions import Direction
from appsrv.ipc.message_format import Message, messages_of

M = TypeVar("M", bound=Message)
P = ParamSpec("P")


class UnexpectedMessage(ProtocolError):
    """A message came from a direction that it does not have."""


class MessageHandler(Generic[P]):
    """The function that handles the messages of one kind; made by `on`."""

    __slots__ = ("call", "kind")

    def __init__(self, kind: type[Message], call: Callable[Concatenate[Any, P], None]) -> None:
        self.kind = kind
        self.call = call


def on(kind: type[M], call: Callable[Concatenate[M, P], None]) -> MessageHandler[P]:
    """Have `call` handle messages of this kind. With a dict instead, mypy could not compare kind and function."""
    return MessageHandler(kind, call)


class Dispatcher(Generic[P]):
    """The handlers of all messages of one direction; `P` is what each of them gets beside the message."""

    def __init__(self, way: Direction, *handlers: MessageHandler[P]) -> None:
        """TypeError when a message of this direction has no handler, or a handler is for a message of another one."""
        self._way = way
        self._handlers = {handler.kind: handler.call for handler in handlers}
        _check(way, [handler.kind for handler in handlers])

    def handle_message(self, msg: Message, *args: P.args, **kwargs: P.kwargs) -> None:
        """Call the handler of this message; UnexpectedMessage when it is of another direction."""
        handler = self._handlers.get(type(msg))
        if handler is None:
            # The name and not the message, which may be as long as a datagram.
            name = type(msg).__name__
            raise UnexpectedMessage(f"a {self._way.receiver} does not handle {name} from a {self._way.sender}")
        handler(msg, *args, **kwargs)


def _check(way: Direction, kinds: list[type[Message]]) -> None:
    expected = messages_of(way)
    wrong = {
        "no handler for": expected.difference(kinds),
        "not sent this way": set(kinds) - expected,
        "more than one handler for": {kind for kind in kinds if kinds.count(kind) > 1},
    }
    problems = [f"{what} {_names(found)}" for what, found in wrong.items() if found]
    if problems:
        raise TypeError(f"messages from {way.sender} to {way.receiver}: {'; '.join(problems)}")


def _names(kinds: set[type[Message]]) -> str:
    return ", ".join(sorted(kind.__name__ for kind in kinds))
