"""An epoll instance that several processes share, with the id of a connection as event data (Linux, epoll(7)).

`select.epoll` always uses the descriptor as event data, but the descriptor of a connection differs from process to
process. Knows the system calls, not the connections.
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
    # The kernel packs this structure on x86-64 only (sys/epoll.h, __EPOLL_PACKED).
    if os.uname().machine in ("x86_64", "AMD64"):
        _pack_ = 1
        _layout_ = "ms"
    _fields_ = [("events", ctypes.c_uint32), ("data", ctypes.c_uint64)]


_LIBC = ctypes.CDLL(None, use_errno=True) if AVAILABLE else None
# These are called for every request. They do not save errno; and epoll_ctl, which never blocks, is called through
# PyDLL, which keeps the interpreter lock. With prepared arguments (`byref`), ctypes converts none. Together this saves
# 0.8 us per request.
_QUICK_CTL = ctypes.PyDLL(None) if AVAILABLE else None
_QUICK_WAIT = ctypes.CDLL(None) if AVAILABLE else None


class Registration:
    """An entry (descriptor, id) of this process in the shared epoll instance. `arm` enables one event."""

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
        """Enable one event, for when the descriptor is readable or the other side has closed. Raises OSError."""
        if not self._known or self._modify(self._epoll, MODIFY, self._fd, self._reference):
            self._arm_first()

    def _arm_first(self) -> None:
        # The key of an entry is (open file description, descriptor number). Another process may have added the same key
        # for the same connection (EEXIST), or may have removed it just now (ENOENT): try the other operation.
        for operation, expected in ((ADD, errno.EEXIST), (MODIFY, errno.ENOENT), (ADD, 0)):
            failure = self._control(operation)
            if not failure:
                self._known = True
                return
            if failure != expected:
                raise OSError(failure, os.strerror(failure))

    def forget(self) -> None:
        """Remove the entry, if it exists."""
        self._control(DELETE)
        self._known = False

    def _control(self, operation: int) -> int:
        assert _LIBC is not None
        return ctypes.get_errno() if _LIBC.epoll_ctl(self._epoll, operation, self._fd, self._reference) else 0


class SharedEpoll:
    """An epoll instance, by a descriptor that other processes have, too."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def create(cls) -> SharedEpoll:
        """A new instance. Its `fd` has to be sent to the other processes."""
        with select.epoll(flags=select.EPOLL_CLOEXEC) as made:
            return cls(os.dup(made.fileno()))

    def fileno(self) -> int:
        """The descriptor. For poll(2), it is readable if at least one entry has an event."""
        return self.fd

    def waiter(self) -> Waiter:
        """A `Waiter` for one thread."""
        return Waiter(self.fd)

    def register(self, fd: int, ident: int) -> Registration:
        """A new entry of this process, which is not armed."""
        return Registration(self.fd, fd, ident)


class Waiter:
    """Waits for one event at a time: if it took several, the other ones would wait until this thread is idle again."""

    __slots__ = ("_epoll", "_event", "_reference", "_wait")

    def __init__(self, fd: int) -> None:
        assert _QUICK_WAIT is not None
        self._epoll = fd
        self._event = _Event()
        self._reference = ctypes.byref(self._event)
        self._wait = _QUICK_WAIT.epoll_wait

    def next(self, timeout_ms: int) -> int | None:
        """The id of the next entry with an event; None after `timeout_ms` milliseconds or a signal."""
        if self._wait(self._epoll, self._reference, 1, timeout_ms) == 1:
            ident: int = self._event.data
            return ident
        return None
