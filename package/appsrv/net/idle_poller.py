"""Watches many idle connections with one kernel object: epoll(7) on Linux, kqueue(2) on macOS and BSD.

The object is itself a descriptor. The event loop needs only one watcher, for any number of connections, and one call
returns all connections that have become readable. Knows only descriptors.
"""

from __future__ import annotations

import contextlib
import select
from typing import Any

MAX_EVENTS = 256
_ONCE = getattr(select, "EPOLLIN", 0) | getattr(select, "EPOLLRDHUP", 0) | getattr(select, "EPOLLONESHOT", 0)
_ENDED = getattr(select, "EPOLLRDHUP", 0) | getattr(select, "EPOLLHUP", 0) | getattr(select, "EPOLLERR", 0)


class EpollPoller:
    """By epoll(7)."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.fileno = self._epoll.fileno
        self.close = self._epoll.close

    def add_permanent(self, fd: int) -> None:
        """Report this descriptor whenever it is readable."""
        self._epoll.register(fd, select.EPOLLIN)

    def add(self, fd: int) -> None:
        """Report a new descriptor once, when it is readable or the other side has closed."""
        self._epoll.register(fd, _ONCE)

    def rearm(self, fd: int) -> None:
        """Report a descriptor once more after it was reported."""
        self._epoll.modify(fd, _ONCE)

    def remove(self, fd: int) -> None:
        """Remove a descriptor before it is closed.

        Closing does not remove the entry while other processes have the file open (epoll(7), "Questions and answers").
        """
        with contextlib.suppress(OSError):
            self._epoll.unregister(fd)

    def ready(self) -> list[tuple[int, int]]:
        """At most `MAX_EVENTS` readable ones: (descriptor, flags), with flags not 0 if the other side has closed."""
        return [(fd, events & _ENDED) for fd, events in self._epoll.poll(0, MAX_EVENTS)]


class KqueuePoller:
    """By kqueue(2)."""

    def __init__(self) -> None:
        self._kqueue: Any = select.kqueue()  # type: ignore[attr-defined,unused-ignore]
        self.fileno = self._kqueue.fileno
        self.close = self._kqueue.close

    def add_permanent(self, fd: int) -> None:
        """Report this descriptor whenever it is readable."""
        self._change(fd, select.KQ_EV_ADD)  # type: ignore[attr-defined,unused-ignore]

    def add(self, fd: int) -> None:
        """Report a new descriptor once, when it is readable or the other side has closed."""
        self._change(fd, select.KQ_EV_ADD | select.KQ_EV_ONESHOT)  # type: ignore[attr-defined,unused-ignore]

    rearm = add

    def remove(self, fd: int) -> None:
        """Remove a descriptor before it is closed."""
        with contextlib.suppress(OSError):
            self._change(fd, select.KQ_EV_DELETE)  # type: ignore[attr-defined,unused-ignore]

    def ready(self) -> list[tuple[int, int]]:
        """At most `MAX_EVENTS` readable ones: (descriptor, flags), with flags not 0 if the other side has closed."""
        ended = select.KQ_EV_EOF  # type: ignore[attr-defined,unused-ignore]
        return [(event.ident, event.flags & ended) for event in self._kqueue.control(None, MAX_EVENTS, 0)]

    def _change(self, fd: int, flags: int) -> None:
        event = select.kevent(fd, select.KQ_FILTER_READ, flags)  # type: ignore[attr-defined,unused-ignore]
        self._kqueue.control([event], 0, 0)


IdlePoller = EpollPoller if hasattr(select, "epoll") else KqueuePoller
