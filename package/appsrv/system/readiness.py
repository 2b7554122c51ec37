"""Whether a descriptor has something to read at this moment. Knows neither what it is nor who waits for it."""

from __future__ import annotations

from appsrv.system import unpatched


def has_input(fd: int) -> bool:
    """Whether a read would not wait: there are bytes, a connection to accept, the end, or an error.

    poll(2) instead of select(2), which knows no descriptor above 1023; and the one of the standard library, because
    gevent's would let other greenlets run meanwhile.
    """
    poll = unpatched.poll()
    poll.register(fd, unpatched.POLLIN)
    return bool(poll.poll(0))
