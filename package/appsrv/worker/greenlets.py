"""The concurrency model gevent: a worker that answers each request in a greenlet, up to `greenlets` at a time.

The only module of a worker that knows gevent. It is imported only where that model is asked for. `patch` makes the
standard library cooperative before the application is imported. `Greenlets.run` is the worker's loop. The application's
event loop watches the descriptor of the ready queue: each idle worker wakes for a connection, and of the workers with
the fewest requests in progress the quickest one takes it.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

from appsrv.app_process import own_lines
from appsrv.errors import AppLoadError
from appsrv.ipc.scoreboard import Scoreboard, Slot
from appsrv.system import stack_dump, unpatched
from appsrv.worker.connection_handler import ConnectionHandler
from appsrv.worker.ready_queue import Connection, Orphaned, ReadyQueue

CHECK_SECONDS = 1.0
# For how many seconds a worker leaves a connection to a less busy one; and for how many it does not after it did so in
# vain.
DEFER_SECONDS, NO_DEFER_SECONDS = 0.002, 0.05
_READABLE = 1

ReadMessages = Callable[[Connection | None], Connection | None]


def patch() -> None:
    """Make the standard library cooperative; AppLoadError when gevent cannot be imported."""
    try:
        from gevent import monkey
    except ImportError as error:
        raise AppLoadError(
            f"concurrency_model gevent needs gevent in the application's environment, and it cannot be imported: "
            f"{error}. Install gevent, or choose another --concurrency-model"
        ) from None
    monkey.patch_all()


def renew() -> None:
    """Give this process an event loop of its own, after a fork that gevent has not noticed."""
    import gevent

    gevent.reinit()
    loop: Any = gevent.get_hub().loop
    # The preloader's loop may watch for the preloader's children. This one is to watch for this process's.
    loop.reset_sigchld()
    loop.install_sigchld()


def close_in_child(end: Callable[[], NoReturn]) -> None:
    """In a child of the application: let no greenlet of the parent go on, except the one that has forked.

    The other greenlets wait in the parent's event loop for connections of the parent. In the child they would answer
    the parent's requests, and take further ones, as soon as the forked greenlet waits for something. So that loop is
    given up, and the child gets a new one. `end` is called when no greenlet is left in it.
    """
    import gevent._hub_local
    from gevent import getcurrent
    from gevent.hub import Hub

    of_thread: Any = gevent._hub_local
    old: Any = of_thread.get_hub_if_exists()
    if old is None or not old.loop.default:
        return
    current: Any = getcurrent()
    of_thread.set_hub(None)
    of_thread.set_loop(None)
    old.loop.destroy()
    # The old hub is in the middle of its `run`: it must neither be resumed nor be freed.
    _kept.append(old)
    if current.parent is old:
        new = Hub()
        new.parent = _ender(current, old, end)
        current.parent = new
        of_thread.set_hub(new)


def _ender(back: Any, parent: Any, end: Callable[[], NoReturn]) -> Any:
    """A greenlet that calls `end` when it is resumed, in whatever way."""
    from greenlet import greenlet

    def wait() -> None:
        try:
            back.switch()
        finally:
            end()

    ender = greenlet(wait, parent)
    _kept.append(ender)
    ender.switch()
    return ender


_kept: list[object] = []


class Greenlets:
    """The loop of one worker. `orders`: the channel from the server; `calls` is not zero when there are messages to
    read.

    `read_messages` reads the server's messages and returns the connection, unless this worker is not to serve it.
    `on_retire` is called when this worker takes nothing more.
    """

    def __init__(
        self, queue: ReadyQueue, handlers: list[ConnectionHandler], orders: int, calls: memoryview,
        read_messages: ReadMessages, retiring: Callable[[], bool], slot: Slot, board: Scoreboard,
        on_retire: Callable[[], None] | None = None,
    ) -> None:
        import gevent
        import gevent.event

        self._gevent = gevent
        self._queue = queue
        self._free = list(handlers)
        self._serving: set[Any] = set()
        self._most = len(handlers)
        self._calls = calls
        self._read_messages = read_messages
        self._retiring = retiring
        self._slot = slot
        self._others_in_progress = board.in_progress_beside(slot)
        self._on_retire = on_retire
        self._left = False
        self._defer_from = 0.0
        self._failure: BaseException | None = None
        self._wake = gevent.event.Event()
        loop: Any = gevent.get_hub().loop
        self.wake: Callable[[], object] = self._wake.set
        self._ready: Any = loop.io(queue.fileno(), _READABLE)
        self._ordered: Any = loop.io(orders, _READABLE)
        if stack_dump.GREENLETS_SIGNAL:
            unpatched.on_signal(stack_dump.GREENLETS_SIGNAL, _show_greenlets)

    def run(self) -> None:
        """Serve until this worker is to retire, then finish what has been taken."""
        try:
            self._slot.set_in_progress(0)
            while not self._retiring() and self._failure is None:
                connection = self._take_in_turn() if self._free else None
                if connection is not None:
                    self._start(connection)
                else:
                    self._wait()
        except Orphaned:
            pass
        self._left = True
        self._slot.take_no_more()
        if self._on_retire is not None:
            self._on_retire()
        while len(self._free) < self._most and self._failure is None:
            self._wake.wait()
            self._wake.clear()
        if self._failure is not None and not isinstance(self._failure, Orphaned):
            raise self._failure

    def frames(self) -> list[FrameType]:
        """The frames of all requests in progress except the one that runs now. Other threads may ask."""
        found = (greenlet.gr_frame for greenlet in list(self._serving))
        return [frame for frame in found if frame is not None]

    def _take_in_turn(self) -> Connection | None:
        """As `_take`, but a less busy worker may take the connection first."""
        now = time.monotonic()
        if now < self._defer_from or not self._is_busier():
            return self._take()
        self._gevent.sleep(DEFER_SECONDS)
        connection = self._take()
        if connection is not None:
            # The less busy worker has not taken it. Whatever keeps it may last: do not defer to it for a while.
            self._defer_from = now + NO_DEFER_SECONDS
        return connection

    def _is_busier(self) -> bool:
        """Whether another worker that takes connections has fewer requests in progress."""
        mine = self._most - len(self._free)
        return mine > 0 and any(theirs < mine for theirs in self._others_in_progress())

    def _take(self) -> Connection | None:
        connection = self._queue.take()
        if connection is None or self._calls[0]:
            return self._read_messages(connection)
        return connection

    def _start(self, connection: Connection) -> None:
        greenlet: Any = self._gevent.spawn(self._serve, self._free.pop(), connection)
        self._serving.add(greenlet)
        greenlet.rawlink(self._serving.discard)
        self._slot.set_in_progress(self._most - len(self._free))
        # Let the greenlet begin at once. This worker then takes a further connection only when the first one waits, and
        # does not collect connections that other workers could serve.
        self._gevent.sleep(0)

    def _serve(self, handler: ConnectionHandler, connection: Connection) -> None:
        try:
            handler.serve(connection, time.monotonic())
        except BaseException as error:
            self._failure = error
        self._free.append(handler)
        if not self._left:
            self._slot.set_in_progress(self._most - len(self._free))
        self._wake.set()

    def _wait(self) -> None:
        """Let the greenlets run until a connection, a message or a free handler is there."""
        if self._free:
            self._ready.start(self._wake.set)
        self._ordered.start(self._wake.set)
        self._wake.wait(CHECK_SECONDS)
        self._wake.clear()
        self._ready.stop()
        self._ordered.stop()
        if not self._free and self._calls[0]:
            self._read_messages(None)


def _show_greenlets(_signal: int, _frame: FrameType | None) -> None:
    from gevent.util import print_run_info

    text = io.StringIO()
    print_run_info(file=text)
    own_lines.write(text.getvalue())
