"""Starts an instance, in the foreground or as a daemon. What then runs is made by `assembly`."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, BinaryIO

from appsrv.apps.app_group import AppGroup
from appsrv.apps.app_spec import load_dotenv
from appsrv.errors import AppsrvError, failure_of
from appsrv.instance.run_directory import InstanceInfo
from appsrv.logs.log_format import JSON, PLAIN
from appsrv.settings.table import Settings
from appsrv.system import fifo
from appsrv.system.nonblocking_terminal import nonblocking_output, occupy_standard_descriptors
from appsrv.system.users import acting_as, identity_of
from appsrv.watchdog.assembly import Plan, WatchedInstance
from appsrv.watchdog.spawner import Development

Announce = Callable[[InstanceInfo], None]


def run(
    settings: Settings, root: str, groups: Sequence[AppGroup], *, announce: Announce, environ: Mapping[str, str],
    development: Development | None = None, problems: Mapping[str, str] | None = None,
) -> int:
    """Serve these until stopped; returns the exit code. With `daemonize`, returns 0 in the caller once they serve.

    `root` is the directory of the instance: the application's, or the one of the file which names the applications.
    `problems` tells, by name, why other applications are not served. Raises an AppsrvError when the instance cannot
    start.
    """
    occupy_standard_descriptors()
    groups = [_with_secrets(group, environ) for group in groups]
    # Before a daemon is forked: the service manager passes listening sockets to the pid of this process.
    instance = WatchedInstance(Plan(settings, root, groups, environ, development, problems or {}))
    if settings.daemonize:
        return _run_in_background(instance, announce)
    with nonblocking_output() as terminal:
        resources = instance.resources
        instance.open(sys.stdout)

        def on_booted() -> None:
            if settings.log_format in (PLAIN, JSON) and development is None:
                # Standard output has the application's lines as they are, or nothing but JSON objects.
                resources.log.event(logging.INFO, _served(resources.info))
            else:
                announce(resources.info)

        return instance.run(on_booted=on_booted, terminal=terminal)


def _served(info: InstanceInfo) -> str:
    files = f"pid file {info.pid_file or 'none'}, log file {info.log_file or 'none'}"
    return f"serving {info.app} at {', '.join(info.bind)} ({files})"


def _with_secrets(group: AppGroup, environ: Mapping[str, str]) -> AppGroup:
    """The group with the variables of `.env`, where that is a FIFO.

    The process that writes to a FIFO may do so only once. So it is read here, once for all generations of the
    application. It is read as the application's user: otherwise that user could make `.env` a link to the FIFO of
    another application.
    """
    if group.spec.kind == "command" or not fifo.is_fifo(os.path.join(group.spec.root, ".env")):
        return group
    with acting_as(identity_of(group.settings.user, group.settings.group)):
        variables = {**load_dotenv(group.spec.root, environ), **group.variables}
    return replace(group, spec=replace(group.spec, reads_dotenv=False), variables=variables)


def _run_in_background(instance: WatchedInstance, announce: Announce) -> int:
    """Fork a daemon and wait until its application has booted, or for the reason why it cannot.

    The daemon writes one JSON object into a pipe: the description of the instance, or the error. A daemon that dies
    before that closes the pipe by its end, so the caller never waits for ever.
    """
    read_end, write_end = os.pipe()
    reader, writer = os.fdopen(read_end, "rb"), os.fdopen(write_end, "wb", buffering=0)
    if os.fork():
        writer.close()
        announce(_receive_outcome(reader))
        return 0
    reader.close()
    os.setsid()
    code = 0
    try:
        instance.open(None)
        _leave_terminal()
        code = instance.run(on_booted=lambda: _send_outcome(writer, {"info": instance.resources.info.to_json()}))
    except AppsrvError as error:
        code = error.exit_code
        traceback = getattr(error, "traceback", "")
        _send_outcome(writer, {"exit_code": code, "message": str(error), "traceback": traceback})
    except BaseException as error:
        code = 1
        _send_outcome(writer, {"exit_code": code, "message": repr(error), "traceback": ""})
    # Not by an exception or `return`: the frames of the command above would go on in the daemon, too.
    os._exit(code)


def _send_outcome(pipe: BinaryIO, outcome: Mapping[str, object]) -> None:
    # After the first outcome the pipe is closed (ValueError). An error that comes later is in the log.
    with contextlib.suppress(OSError, ValueError), pipe:
        pipe.write(json.dumps(outcome).encode())


def _receive_outcome(pipe: BinaryIO) -> InstanceInfo:
    """The instance that has booted. Raises the error that kept it from booting."""
    with pipe:
        received = pipe.read()
    silent: dict[str, Any] = {"message": "appsrv exited without an error message", "exit_code": 1}
    outcome: dict[str, Any] = json.loads(received) if received else silent
    if "info" in outcome:
        return InstanceInfo.from_json(outcome["info"])
    raise failure_of(outcome["exit_code"], outcome["message"], outcome.get("traceback", ""))


def _leave_terminal() -> None:
    """Replace standard input, output and error by /dev/null."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.close(null)
