"""dispatcher.py: each message reaches its handler, and a table with a mistake is found when it is made."""

from __future__ import annotations

import pytest

from appsrv.ipc import directions, messages
from appsrv.ipc.connection_messages import DescriptorSent, Gone
from appsrv.ipc.dispatcher import Dispatcher, UnexpectedMessage, on


class Calls:
    """Handlers that remember how they were called."""

    def __init__(self) -> None:
        self.made: list[tuple[object, ...]] = []

    def on_gone(self, msg: Gone, fds: list[int]) -> None:
        self.made.append(("gone", msg.cid, fds))

    def on_lent(self, msg: DescriptorSent, fds: list[int]) -> None:
        self.made.append(("lent", msg.cid, fds))

    def on_quit(self, _msg: messages.Quit, fds: list[int]) -> None:
        self.made.append(("quit", fds))


def test_a_message_reaches_the_handler_of_its_kind_with_all_arguments() -> None:
    calls = Calls()
    way = directions.SERVER_TO_WORKER
    dispatcher: Dispatcher[[list[int]]] = Dispatcher(
        way, on(Gone, calls.on_gone), on(DescriptorSent, calls.on_lent)
    )
    dispatcher.handle_message(Gone(3), [])
    dispatcher.handle_message(DescriptorSent(4, 0, 0, 0, b""), [7])
    assert calls.made == [("gone", 3, []), ("lent", 4, [7])]


def test_a_message_of_another_direction_is_refused() -> None:
    calls = Calls()
    way = directions.SERVER_TO_WORKER
    dispatcher = Dispatcher(way, on(Gone, calls.on_gone), on(DescriptorSent, calls.on_lent))
    with pytest.raises(UnexpectedMessage, match=r"a worker does not handle Quit from a server"):
        dispatcher.handle_message(messages.Quit(), [])
    assert calls.made == []


def test_a_message_without_a_handler_is_found_at_once() -> None:
    with pytest.raises(TypeError, match="from server to worker: no handler for DescriptorSent"):
        Dispatcher(directions.SERVER_TO_WORKER, on(Gone, Calls().on_gone))


def test_a_handler_for_a_message_of_another_direction_is_found_at_once() -> None:
    calls = Calls()
    gone, lent = on(Gone, calls.on_gone), on(DescriptorSent, calls.on_lent)
    with pytest.raises(TypeError, match="not sent this way Quit"):
        Dispatcher(directions.SERVER_TO_WORKER, gone, lent, on(messages.Quit, calls.on_quit))


def test_two_handlers_for_one_message_are_found_at_once() -> None:
    calls = Calls()
    gone, lent = on(Gone, calls.on_gone), on(DescriptorSent, calls.on_lent)
    with pytest.raises(TypeError, match="more than one handler for Gone"):
        Dispatcher(directions.SERVER_TO_WORKER, gone, lent, gone)
