"""Functions of the standard library, saved before gevent or eventlet replace them.

appsrv's own code in an application's process uses these to wait for its server, to fork and to reap: a patched function
would switch to the application's greenlets in the middle of that. Import this module before anything is patched.
"""

from __future__ import annotations

import _thread
import os
import select as _select
import signal as _signal
import socket as _socket
import time as _time

Socket = _socket.socket
default_timeout = _socket.getdefaulttimeout
fork = os.fork
waitpid = os.waitpid
close = os.close
write = os.write
select = _select.select
poll = _select.poll
POLLIN = _select.POLLIN
on_signal = _signal.signal
sleep = _time.sleep
start_thread = _thread.start_new_thread
get_ident = _thread.get_ident
Lock = _thread.allocate_lock


def without_timeout(sock: _socket.socket) -> _socket.socket:
    """A new socket of appsrv's own, without the default timeout of the application (`socket.setdefaulttimeout`).

    With that timeout, a worker that waits for its server would get an exception and end.
    """
    if default_timeout() is not None:
        sock.settimeout(None)
    return sock


def nonblocking(sock: _socket.socket) -> _socket.socket:
    """A socket whose descriptor is non-blocking, likewise without the default timeout, which would make it block."""
    if default_timeout() is not None:
        sock.setblocking(False)
    return sock
