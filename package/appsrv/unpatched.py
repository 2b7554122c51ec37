"""Functions of the standard library as they are before the concurrency model gevent replaces them.

appsrv's own code in an application's process waits for its server, forks and reaps with these: it must not hand the
processor to the application's greenlets in the middle of that. To be imported before anything is patched.
"""

from __future__ import annotations

import os
import select as _select
import signal as _signal
import socket as _socket

Socket = _socket.socket
fork = os.fork
waitpid = os.waitpid
write = os.write
select = _select.select
poll = _select.poll
on_signal = _signal.signal
