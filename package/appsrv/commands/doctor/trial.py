"""Runs the trial import of an application in a child process, as the application's user and within `start_timeout`.

The child is `preloader.trial_import`. It leads a process group, which is killed when the trial is over.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from appsrv.apps.app_group import AppGroup
from appsrv.apps.app_spec import is_below
from appsrv.commands.doctor.facts import Trial
from appsrv.errors import OperatorError
from appsrv.settings import internal_variables
from appsrv.system import fifo, interpreter_flags, stack_dump
from appsrv.system.anonymous_memory import anonymous_memory
from appsrv.system.exit_status import cause_of_death
from appsrv.system.service_manager import SERVICE_VARIABLES
from appsrv.system.users import Identity, check_readable, identity_of

EXIT_SECONDS = 2.0
"""For the exit functions of the application, as a preloader has at least."""

WRITE_SECONDS = 1.0
"""After the time of the import, for writing the stacks."""

_POLL_SECONDS = 0.02
_LAST_LINES = 10


def reason_against(group: AppGroup) -> str:
    """Why the application cannot be imported for a trial; empty if it can."""
    if group.spec.start_command is not None:
        return "it is not imported: it has a start_command"
    if fifo.is_fifo(os.path.join(group.spec.root, ".env")):
        return "it was not imported: its .env is a FIFO, whose writer may serve it only once"
    return ""


def run(group: AppGroup, environ: Mapping[str, str]) -> Trial:
    """Import the application of the group in a process with this environment. Raises SettingsError for its user."""
    limit = math.ceil(group.settings.start_timeout)
    identity = identity_of(group.settings.user, group.settings.group)
    try:
        if identity is not None:
            check_readable(identity, group.spec.root)
    except OperatorError as error:
        return Trial(error=str(error))
    with _memory("order") as order, _memory("output") as output, _memory("stacks") as stacks:
        order.write(json.dumps(group.to_json()).encode())
        order.flush()
        order.seek(0)
        reader, writer = os.pipe()
        with os.fdopen(reader, "rb") as results, _multiproc_directory(group, identity) as added:
            fds = (order.fileno(), writer, stacks.fileno())
            try:
                process = _start(fds, limit, {**environment_of(group, environ), **added}, output)
            finally:
                os.close(writer)
            try:
                result = _line(results, time.monotonic() + limit + WRITE_SECONDS)
            except BaseException:
                _end(process, 0.0)
                raise
            status = _end(process, 0.0 if result is None else EXIT_SECONDS)
        return _timed_out(group, _content(stacks)) if result is None else _trial(result, status, _content(output))


def environment_of(group: AppGroup, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of a preloader of this group, for an appsrv that was started with `environ`."""
    own = {name: value for name, value in environ.items() if name not in SERVICE_VARIABLES}
    own |= {"PYTHONUNBUFFERED": "1", internal_variables.ENVIRONMENT: group.settings.environment, **group.variables}
    identity = identity_of(group.settings.user, group.settings.group)
    return own if identity is None else own | identity.variables


@contextlib.contextmanager
def _multiproc_directory(group: AppGroup, identity: Identity | None) -> Iterator[dict[str, str]]:
    """The variable of `prometheus_multiproc`, with a directory that is removed after the trial; {} without the setting.

    An application may end its import with an error where the variable is missing.
    """
    if not group.settings.prometheus_multiproc:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="appsrv-doctor-") as directory:
        if identity is not None:
            os.chown(directory, identity.uid, identity.gid)
        yield {"PROMETHEUS_MULTIPROC_DIR": directory}


def _memory(name: str) -> IO[bytes]:
    """A file without a directory: there may be none that can be written to."""
    return os.fdopen(anonymous_memory(f"appsrv-doctor-{name}"), "w+b")


def _start(
    fds: Sequence[int], limit: int, environ: Mapping[str, str], output: IO[bytes]
) -> subprocess.Popen[bytes]:
    code = interpreter_flags.code_for("appsrv.preloader.trial_import", "*map(int, sys.argv[1:])")
    argv = [sys.executable, *interpreter_flags.for_application(), "-c", code, *map(str, (*fds, limit))]
    return subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environ, pass_fds=fds, start_new_session=True
    )


def _line(results: IO[bytes], deadline: float) -> bytes | None:
    """The line that the child writes; shorter if it has ended before; None if the time is over.

    The pipe is not read to its end: a process that the application has forked may keep it open.
    """
    received = b""
    while not received.endswith(b"\n"):
        rest = deadline - time.monotonic()
        if rest <= 0 or not select.select([results], [], [], rest)[0]:
            return None
        piece = os.read(results.fileno(), 65536)
        if not piece:
            break
        received += piece
    return received


def _end(process: subprocess.Popen[bytes], seconds: float) -> int:
    """Wait so long for the child, then kill it with all processes of its group; returns the wait status.

    The child is reaped last: as long as it is a zombie, its group has no other owner.
    """
    deadline = time.monotonic() + seconds
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() > deadline:
            break
        time.sleep(_POLL_SECONDS)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    code = process.wait()
    return -code if code < 0 else code << 8


def _trial(result: bytes, status: int, output: str) -> Trial:
    try:
        found: dict[str, Any] = json.loads(result)
    except ValueError:
        last = "\n".join(output.rstrip().splitlines()[-_LAST_LINES:])
        return Trial(error=f"the process of the import ended: {cause_of_death(status)}", traceback=last)
    return Trial(**found)


def _timed_out(group: AppGroup, stacks: str) -> Trial:
    threads = stack_dump.parse(stacks)
    frames = threads[0].frames if threads else []
    own = [frame for frame in frames if is_below(frame.file, group.spec.root)] or frames
    where = f"{own[-1].file}:{own[-1].line} in {own[-1].function}" if own else ""
    return Trial(timed_out=True, hangs_at=where)


def _content(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
