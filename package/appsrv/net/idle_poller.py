"""Watching many idle connections by one object of the system: epoll (Linux) or kqueue (macOS, BSD).

The object is itself a descriptor that an event loop can watch: one watcher there, whatever the number of connections,
and all that has become readable in one call. Knows descriptors, not what they stand for.
"""

from __future__ import annotations

import contextlib
import select
from typing import Any

MAX_EVENTS = 256
_ONCE = getattr(select, "EPOLLIN", 0) | getattr(select, "EPOLLRDHUP", 0) | getattr(select, "EPOLLONESHOT", 0)
_ENDED = getattr(select, "EPOLLRDHUP", 0) | getattr(select, "EPOLLHUP", 0) | getattr(select, "EPOLLERR", 0)


class EpollWatch:
    """By epoll(7)."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.fileno = self._epoll.fileno
        self.close = self._epoll.close

    def always(self, fd: int) -> None:
        """Report this one as long as there is something to read."""
        self._epoll.register(fd, select.EPOLLIN)

    def add(self, fd: int) -> None:
        """Report a new one once, as soon as there is something to read or the other side has closed."""
        self._epoll.register(fd, _ONCE)

    def again(self, fd: int) -> None:
        """Report once more one that was reported."""
        self._epoll.modify(fd, _ONCE)

    def drop(self, fd: int) -> None:
        """Forget it, before it is closed: while others hold the file, an entry outlives the descriptor."""
        with contextlib.suppress(OSError):
            self._epoll.unregister(fd)

    def ready(self) -> list[tuple[int, int]]:
        """What is readable now: (descriptor, not 0 when the other side has closed); `MAX_EVENTS` of them at once."""
        return [(fd, events & _ENDED) for fd, events in self._epoll.poll(0, MAX_EVENTS)]


class KqueueWatch:
    """By kqueue(2)."""

    def __init__(self) -> None:
        self._kqueue: Any = select.kqueue()  # type: ignore[attr-defined,unused-ignore]
        self.fileno = self._kqueue.fileno
        self.close = self._kqueue.close

    def always(self, fd: int) -> None:
        """Report this one as long as there is something to read."""
        self._change(fd, select.KQ_EV_ADD)  # type: ignore[attr-defined,unused-ignore]

    def add(self, fd: int) -> None:
        """Report a new one once, as soon as there is something to read or the other side has closed."""
        self._change(fd, select.KQ_EV_ADD | select.KQ_EV_ONESHOT)  # type: ignore[attr-defined,unused-ignore]

    again = add

    def drop(self, fd: int) -> None:
        """Forget it, before it is closed."""
        with contextlib.suppress(OSError):
            self._change(fd, select.KQ_EV_DELETE)  # type: ignore[attr-defined,unused-ignore]

    def ready(self) -> list[tuple[int, int]]:
        """What is readable now: (descriptor, not 0 when the other side has closed); `MAX_EVENTS` of them at once."""
        ended = select.KQ_EV_EOF  # type: ignore[attr-defined,unused-ignore]
        return [(event.ident, event.flags & ended) for event in self._kqueue.control(None, MAX_EVENTS, 0)]

    def _change(self, fd: int, flags: int) -> None:
        event = select.kevent(fd, select.KQ_FILTER_READ, flags)  # type: ignore[attr-defined,unused-ignore]
        self._kqueue.control([event], 0, 0)


IdleWatch = EpollWatch if hasattr(select, "epoll") else KqueueWatch
