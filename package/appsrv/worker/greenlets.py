"""The concurrency model gevent: a worker that answers each request in a greenlet, at most so many at a time.

The only module of a worker that knows gevent, and imported only where that model is asked for. `patch` makes the
standard library cooperative, before the application is imported; `serve` is the worker's loop. The ready queue's
descriptor is watched by the application's own event loop: all idle workers wake for a connection, and of those that
have the fewest requests in progress the quickest has it.
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
# Seconds that a worker leaves a connection to one with less to do, and for which it does not after that was in vain.
DEFER_SECONDS, NO_DEFER_SECONDS = 0.002, 0.05
_READABLE = 1

ReadMessages = Callable[[Connection | None], Connection | None]


def patch() -> None:
    """Make the standard library cooperative; AppLoadError when gevent is not there."""
    try:
        from gevent import monkey
    except ImportError as error:
        raise AppLoadError(
            f"concurrency_model gevent needs gevent in the application's environment, and it cannot be imported: "
            f"{error}. Install gevent, or choose another --concurrency-model"
        ) from None
    monkey.patch_all()


def renew() -> None:
    """Make the event loop this process's own, after a fork that gevent has not seen."""
    import gevent

    gevent.reinit()
    loop: Any = gevent.get_hub().loop
    # The loop of the preloader may have heard of its children; this one is to hear of its own.
    loop.reset_sigchld()
    loop.install_sigchld()


def close_in_child(end: Callable[[], NoReturn]) -> None:
    """In a child of the application's: no greenlet of its parent goes on here, but for the one that has forked.

    The others wait in the parent's event loop, for what is the parent's: in the child they would answer its requests,
    and take further ones, as soon as the one that has forked waits for something. So that loop is given up, and the
    child gets another. `end` is called when nothing is left that could run in it.
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
    # In the middle of its `run`: it must neither be resumed nor freed.
    _kept.append(old)
    if current.parent is old:
        new = Hub()
        new.parent = _keeper(current, old, end)
        current.parent = new
        of_thread.set_hub(new)


def _keeper(back: Any, parent: Any, end: Callable[[], NoReturn]) -> Any:
    """A greenlet in which `end` is called as soon as it is resumed, in whatever way."""
    from greenlet import greenlet

    def wait() -> None:
        try:
            back.switch()
        finally:
            end()

    keeper = greenlet(wait, parent)
    _kept.append(keeper)
    keeper.switch()
    return keeper


_kept: list[object] = []


class Greenlets:
    """The loop of one worker. `orders` is the channel from the server, `calls` not zero when it wants to be heard.

    `read_messages` reads the server's messages and returns the connection, unless this worker is not to serve it.
    `leave` is called once this worker takes nothing more.
    """

    def __init__(
        self, queue: ReadyQueue, handlers: list[ConnectionHandler], orders: int, calls: memoryview,
        read_messages: ReadMessages, retiring: Callable[[], bool], slot: Slot, board: Scoreboard,
        leave: Callable[[], None] | None = None,
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
        self._rivals = board.in_progress_beside(slot)
        self._leave = leave
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
        if self._leave is not None:
            self._leave()
        while len(self._free) < self._most and self._failure is None:
            self._wake.wait()
            self._wake.clear()
        if self._failure is not None and not isinstance(self._failure, Orphaned):
            raise self._failure

    def frames(self) -> list[FrameType]:
        """Where each request in progress is, but for the one that runs now, as another thread may ask."""
        found = (greenlet.gr_frame for greenlet in list(self._serving))
        return [frame for frame in found if frame is not None]

    def _take_in_turn(self) -> Connection | None:
        """As `_take`; but a worker that has less to do may be quicker."""
        now = time.monotonic()
        if now < self._defer_from or not self._is_busier():
            return self._take()
        self._gevent.sleep(DEFER_SECONDS)
        connection = self._take()
        if connection is not None:
            # The other does not take it: who knows what keeps it.
            self._defer_from = now + NO_DEFER_SECONDS
        return connection

    def _is_busier(self) -> bool:
        """Whether another worker that takes connections has fewer requests in progress."""
        mine = self._most - len(self._free)
        return mine > 0 and any(theirs < mine for theirs in self._rivals())

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
        # It begins at once: this worker takes another one when the first has to wait, and not to hoard them.
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
        """Let the greenlets run until there is something to take, to hear or to give."""
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
