"""The dispatcher: calls the handler for each message that a process receives from one direction.

A message without a handler is an error when the dispatcher is made, which is when the process starts, and not only when
the message is received for the first time. Knows which messages a direction has, not what they mean.
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
    """A message was received from a direction that is not among its `ways`."""


class MessageHandler(Generic[P]):
    """The function that handles the messages of one kind; made by `on`."""

    __slots__ = ("call", "kind")

    def __init__(self, kind: type[Message], call: Callable[Concatenate[Any, P], None]) -> None:
        self.kind = kind
        self.call = call


def on(kind: type[M], call: Callable[Concatenate[M, P], None]) -> MessageHandler[P]:
    """Have `call` handle messages of this kind. With a dict of them, mypy could not compare kind and function."""
    return MessageHandler(kind, call)


class Dispatcher(Generic[P]):
    """The handlers of all messages of one direction; `P` is what each of them gets beside the message."""

    def __init__(self, way: Direction, *handlers: MessageHandler[P]) -> None:
        """Raises TypeError if a message of this direction has no handler or several, or a handler's message is of
        another direction.
        """
        self._way = way
        self._handlers = {handler.kind: handler.call for handler in handlers}
        _check(way, [handler.kind for handler in handlers])

    def handle_message(self, msg: Message, *args: P.args, **kwargs: P.kwargs) -> None:
        """Call the handler of this message. Raises UnexpectedMessage if it is of another direction."""
        handler = self._handlers.get(type(msg))
        if handler is None:
            # Only the name: the message may be as long as a datagram.
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
