"""Functions of the standard library as they are before gevent or eventlet replace them.

appsrv's own code in an application's process waits for its server, forks and reaps with these: it must not hand the
processor to the application's greenlets in the middle of that. To be imported before anything is patched.
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


def patient(sock: _socket.socket) -> _socket.socket:
    """A new socket of appsrv's own, without the timeout that the application may have set for all new sockets.

    Otherwise a worker that waits for its server would end after that time (`socket.setdefaulttimeout`).
    """
    if default_timeout() is not None:
        sock.settimeout(None)
    return sock


def impatient(sock: _socket.socket) -> _socket.socket:
    """A socket whose descriptor never waits, likewise: that timeout would make it wait, and then fail otherwise."""
    if default_timeout() is not None:
        sock.setblocking(False)
    return sock
