"""The first steps of a preloader process: output, signals, its configuration, and the user that it becomes.

The same for a preloader that appsrv starts and for the command of a framework that becomes one. Loads no application.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import signal

from appsrv.app_process import forked_child, own_lines, own_signals
from appsrv.apps.app_group import AppGroup
from appsrv.errors import AppLoadError
from appsrv.ipc import messages
from appsrv.ipc.channel import Channel
from appsrv.settings.table import Settings
from appsrv.system import stack_dump
from appsrv.system.nonblocking_terminal import SOCKET as TERMINAL
from appsrv.system.users import drop_privileges
from appsrv.worker.access_log import LogRequest
from appsrv.worker.role import FileWatch, WorkerRole

_IOLBF = 1


def prepare_process() -> None:
    """Set up output and signals of the process, which its workers inherit.

    Output is written line by line, that of C code, too: lines of several processes must not mix. A crash writes its
    stack to stderr. The terminal's signals have no effect: the watchdog gets them, too, and stops its processes.
    """
    for stream in own_lines.pipes():
        stream.reconfigure(line_buffering=True, write_through=False)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.setvbuf(ctypes.c_void_p.in_dll(libc, "stdout"), None, _IOLBF, 0)
    faulthandler.enable(file=2)
    forked_child.watch()
    own_signals.neutralize(signal.SIGINT)
    own_signals.neutralize(signal.SIGHUP)


def configuration(channel: Channel) -> messages.Configure:
    """Receive the first message of the watchdog, and become the user that it names."""
    first, _ = channel.receive_one(messages.Configure)
    # Before the process becomes another user: the run directory, where the socket for stacks is made, belongs to the
    # watchdog's user.
    stack_dump.listen(first.run_directory)
    settings = Settings.from_json(first.settings)
    drop_privileges(settings.user, settings.group)
    return first


def role_of(
    configure: messages.Configure, *, watch: FileWatch | None = None, log_request: LogRequest | None = None
) -> WorkerRole:
    """The role of the workers as the configuration has it. Its application is set once it is loaded."""
    group = AppGroup.from_json(configure.group)
    return WorkerRole(
        name=group.name, application=_not_loaded, settings=group.settings, listeners=configure.listeners,
        development=configure.development, log_request=log_request, watch=watch,
        terminal=os.path.join(configure.run_directory, TERMINAL),
    )


def _not_loaded(environ: object, start_response: object) -> list[bytes]:
    raise AppLoadError("the application has not been loaded")
