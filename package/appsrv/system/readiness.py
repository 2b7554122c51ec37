"""Whether a read from a descriptor would return at once. Knows nothing else of the descriptor."""

from __future__ import annotations

from appsrv.system import unpatched


def has_input(fd: int) -> bool:
    """Whether a read would not block: there are bytes, a connection to accept, the end of the file, or an error.

    This is poll(2), because select(2) cannot watch a descriptor above 1023, and the unpatched one of the standard
    library, because gevent's would switch to other greenlets.
    """
    poll = unpatched.poll()
    poll.register(fd, unpatched.POLLIN)
    return bool(poll.poll(0))
