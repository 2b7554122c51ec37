"""An epoll instance shared by several processes, with event data of our choice (Linux, epoll(7)).

`select.epoll` puts the descriptor's number into the event, which differs from process to process; this one puts the
connection's id. Knows the system calls, not what the ids stand for.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import sys

AVAILABLE = sys.platform == "linux"

ADD, DELETE, MODIFY = 1, 2, 3
_IN, _RDHUP, _ONESHOT = 0x001, 0x2000, 1 << 30
ARMED = _IN | _RDHUP | _ONESHOT


class _Event(ctypes.Structure):
    # The kernel packs this structure on x86-64 alone (sys/epoll.h, __EPOLL_PACKED).
    if os.uname().machine in ("x86_64", "AMD64"):
        _pack_ = 1
        _layout_ = "ms"
    _fields_ = [("events", ctypes.c_uint32), ("data", ctypes.c_uint64)]


_LIBC = ctypes.CDLL(None, use_errno=True) if AVAILABLE else None
# Called for every request: without errno, and for epoll_ctl, which never blocks, without giving up the interpreter
# lock. Arguments that are ready-made (`byref`) spare ctypes their conversion: 0.8 us a request in all.
_QUICK_CTL = ctypes.PyDLL(None) if AVAILABLE else None
_QUICK_WAIT = ctypes.CDLL(None) if AVAILABLE else None


class Registration:
    """One (descriptor, id) of this process in the shared epoll: `arm` makes it fire once."""

    __slots__ = ("_epoll", "_event", "_fd", "_known", "_modify", "_reference")

    def __init__(self, epoll: int, fd: int, ident: int) -> None:
        assert _QUICK_CTL is not None
        self._epoll = epoll
        self._fd = fd
        self._event = _Event(ARMED, ident)
        self._reference = ctypes.byref(self._event)
        self._modify = _QUICK_CTL.epoll_ctl
        self._known = False

    def arm(self) -> None:
        """Fire once as soon as there is something to read or the other side has closed."""
        if not self._known or self._modify(self._epoll, MODIFY, self._fd, self._reference):
            self._arm_first()

    def _arm_first(self) -> None:
        # An entry belongs to (file, number): another process may have made the same one before.
        for operation, expected in ((ADD, errno.EEXIST), (MODIFY, errno.ENOENT), (ADD, 0)):
            failure = self._control(operation)
            if not failure:
                self._known = True
                return
            if failure != expected:
                raise OSError(failure, os.strerror(failure))

    def forget(self) -> None:
        """Take the entry out, where it still is."""
        self._control(DELETE)
        self._known = False

    def _control(self, operation: int) -> int:
        assert _LIBC is not None
        return ctypes.get_errno() if _LIBC.epoll_ctl(self._epoll, operation, self._fd, self._reference) else 0


class SharedEpoll:
    """The epoll instance behind a descriptor that other processes hold too."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def create(cls) -> SharedEpoll:
        """A new instance; hand its `fd` to the other processes."""
        with select.epoll(flags=select.EPOLL_CLOEXEC) as made:
            return cls(os.dup(made.fileno()))

    def fileno(self) -> int:
        """Readable, for poll(2), when at least one entry would fire."""
        return self.fd

    def waiter(self) -> Waiter:
        """What one thread at a time waits with."""
        return Waiter(self.fd)

    def register(self, fd: int, ident: int) -> Registration:
        """An entry of this process, not armed yet."""
        return Registration(self.fd, fd, ident)


class Waiter:
    """A way of waiting: one event at a time, so that no other ones are held back by who takes it."""

    __slots__ = ("_epoll", "_event", "_reference", "_wait")

    def __init__(self, fd: int) -> None:
        assert _QUICK_WAIT is not None
        self._epoll = fd
        self._event = _Event()
        self._reference = ctypes.byref(self._event)
        self._wait = _QUICK_WAIT.epoll_wait

    def next(self, timeout_ms: int) -> int | None:
        """The id of the next entry that fires; None at the timeout or after a signal."""
        if self._wait(self._epoll, self._reference, 1, timeout_ms) == 1:
            ident: int = self._event.data
            return ident
        return None
