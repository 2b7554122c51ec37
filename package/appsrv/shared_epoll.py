"""An epoll instance shared by several processes, with event data of our choice (Linux, epoll(7)).

`select.epoll` puts the descriptor's number into the event, which differs from process to process; this one puts the
connection's id. Knows the system calls, not what the ids stand for.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import select
import sys

AVAILABLE = sys.platform == "linux"

ADD, DELETE, MODIFY = 1, 2, 3
_IN, _RDHUP, _ONESHOT = 0x001, 0x2000, 1 << 30
ARMED = _IN | _RDHUP | _ONESHOT


class _Event(ctypes.Structure):
    # The kernel packs this structure on x86-64 alone (sys/epoll.h, __EPOLL_PACKED).
    if platform.machine() in ("x86_64", "AMD64"):
        _pack_ = 1
        _layout_ = "ms"
    _fields_ = [("events", ctypes.c_uint32), ("data", ctypes.c_uint64)]


def _system_calls() -> tuple[ctypes._NamedFuncPointer, ctypes._NamedFuncPointer]:
    libc = ctypes.CDLL(None, use_errno=True)
    ctl, wait = libc.epoll_ctl, libc.epoll_wait
    ctl.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
    wait.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
    return ctl, wait


class Registration:
    """One (descriptor, id) of this process in the shared epoll: `arm` makes it fire once."""

    __slots__ = ("_address", "_ctl", "_epoll", "_event", "_fd", "_known")

    def __init__(self, shared: SharedEpoll, fd: int, ident: int) -> None:
        self._epoll = shared.fd
        self._ctl = shared.ctl
        self._fd = fd
        self._event = _Event(ARMED, ident)
        self._address = ctypes.addressof(self._event)
        self._known = False

    def arm(self) -> None:
        """Fire once as soon as there is something to read or the other side has closed."""
        if self._known and self._ctl(self._epoll, MODIFY, self._fd, self._address) == 0:
            return
        self._arm_first()

    def _arm_first(self) -> None:
        # An entry belongs to (file, number): another process may have made the same one before.
        for operation, expected in ((ADD, errno.EEXIST), (MODIFY, errno.ENOENT), (ADD, 0)):
            if self._ctl(self._epoll, operation, self._fd, self._address) == 0:
                self._known = True
                return
            if ctypes.get_errno() != expected:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def forget(self) -> None:
        """Take the entry out, where it still is."""
        self._ctl(self._epoll, DELETE, self._fd, self._address)
        self._known = False


class SharedEpoll:
    """The epoll instance behind a descriptor that other processes hold too."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.ctl, self._wait = _system_calls()

    @classmethod
    def create(cls) -> SharedEpoll:
        """A new instance; hand its `fd` to the other processes."""
        with select.epoll(flags=select.EPOLL_CLOEXEC) as made:
            return cls(os.dup(made.fileno()))

    def fileno(self) -> int:
        """Readable, for poll(2), when at least one entry would fire."""
        return self.fd

    def waiter(self) -> Waiter:
        """What one thread waits with."""
        return Waiter(self.fd, self._wait)

    def register(self, fd: int, ident: int) -> Registration:
        """An entry of this process, not armed yet."""
        return Registration(self, fd, ident)


class Waiter:
    """One thread's way of waiting: one event at a time, so that no other ones are held back by who takes it."""

    __slots__ = ("_address", "_epoll", "_event", "_wait")

    def __init__(self, fd: int, wait: ctypes._NamedFuncPointer) -> None:
        self._epoll = fd
        self._wait = wait
        self._event = _Event()
        self._address = ctypes.addressof(self._event)

    def next(self, timeout_ms: int) -> int | None:
        """The id of the next entry that fires; None at the timeout or after a signal."""
        if self._wait(self._epoll, self._address, 1, timeout_ms) == 1:
            ident: int = self._event.data
            return ident
        return None
