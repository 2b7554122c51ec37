"""Starting an instance, in the foreground or as a daemon. What runs is the watchdog's business."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from appsrv.apps.app_group import AppGroup
from appsrv.apps.app_spec import load_dotenv
from appsrv.errors import AppsrvError, failure_of
from appsrv.instance.run_directory import InstanceInfo
from appsrv.logs.log_format import JSON, PLAIN
from appsrv.settings.table import Settings
from appsrv.system import fifo
from appsrv.system.nonblocking_terminal import never_waiting, occupy_standard_descriptors
from appsrv.system.users import acting_as, identity_of
from appsrv.watchdog.process import Development, Watchdog

Announce = Callable[[InstanceInfo], None]


def run(
    settings: Settings, root: str, groups: Sequence[AppGroup], *, announce: Announce, environ: Mapping[str, str],
    development: Development | None = None, problems: Mapping[str, str] | None = None,
) -> int:
    """Serve these until stopped; returns the exit code. With `daemonize`, returns 0 in the caller once they serve.

    `root` is the directory of the instance: its application's, or that of the file which names them. `problems` says of
    others, by name, why they are not served. Raises an AppsrvError when something keeps it from starting.
    """
    occupy_standard_descriptors()
    groups = [_with_secrets(group, environ) for group in groups]
    watchdog = Watchdog(settings, root, groups, environ, development, problems or {})
    if settings.daemonize:
        return _run_in_background(watchdog, announce)
    with never_waiting() as terminal:
        watchdog.terminal = terminal
        resources = watchdog.resources
        watchdog.open(sys.stdout)
        watchdog.booted = lambda: announce(resources.info)
        if settings.log_format in (PLAIN, JSON) and development is None:
            # Standard output is the application's, or nothing but objects.
            watchdog.booted = lambda: resources.log.event(logging.INFO, _served(resources.info))
        return watchdog.run()


def _served(info: InstanceInfo) -> str:
    files = f"pid file {info.pid_file or 'none'}, log file {info.log_file or 'none'}"
    return f"serving {info.app} at {', '.join(info.bind)} ({files})"


def _with_secrets(group: AppGroup, environ: Mapping[str, str]) -> AppGroup:
    """Where `.env` is a FIFO, its writer may serve it once: it is read here, for all generations of the application.

    As its user, who could otherwise make a link there to the FIFO of another application.
    """
    if group.spec.kind == "command" or not fifo.is_fifo(os.path.join(group.spec.root, ".env")):
        return group
    with acting_as(identity_of(group.settings.user, group.settings.group)):
        variables = {**load_dotenv(group.spec.root, environ), **group.variables}
    return replace(group, spec=replace(group.spec, reads_dotenv=False), variables=variables)


def _run_in_background(watchdog: Watchdog, announce: Announce) -> int:
    """The caller waits until the application has booted, or for the reason why not."""
    news, tell = os.pipe()
    if os.fork():
        os.close(tell)
        announce(_hear(news))
        return 0
    os.close(news)
    os.setsid()
    code = 0
    try:
        watchdog.open(None)
        watchdog.booted = lambda: _say(tell, {"info": watchdog.resources.info.to_json()})
        _leave_terminal()
        code = watchdog.run()
    except AppsrvError as error:
        code = error.exit_code
        _say(tell, {"exit_code": code, "message": str(error), "traceback": getattr(error, "traceback", "")})
    except BaseException as error:
        code = 1
        _say(tell, {"exit_code": code, "message": repr(error), "traceback": ""})
    os._exit(code)


def _say(pipe: int, news: Mapping[str, object]) -> None:
    with contextlib.suppress(OSError):
        os.write(pipe, json.dumps(news).encode())
        os.close(pipe)


def _hear(pipe: int) -> InstanceInfo:
    """The instance that has booted; raises what kept it from booting."""
    with open(pipe, "rb") as reader:
        said = reader.read()
    news: dict[str, Any] = json.loads(said) if said else {"message": "it ended without a word", "exit_code": 1}
    if "info" in news:
        return InstanceInfo.from_json(news["info"])
    raise failure_of(news["exit_code"], news["message"], news.get("traceback", ""))


def _leave_terminal() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.close(null)
