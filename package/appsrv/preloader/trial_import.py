"""Imports the application once, as a preloader does before its first fork, and reports what it has met; then ends.

For `appsrv doctor`, which starts it in a child process and gives it a time limit. Serves nothing and forks nothing.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from appsrv import hooks
from appsrv.apps.app_group import AppGroup
from appsrv.apps.app_spec import AppSpec
from appsrv.errors import AppLoadError, SettingsError
from appsrv.preloader import command_line, loader, production_checks, shared_state
from appsrv.preloader.process import load_python
from appsrv.settings import sources
from appsrv.settings.table import Settings
from appsrv.system import cgroups
from appsrv.system.users import drop_privileges


@dataclass
class Imported:
    """`memory`: of the process after the import, in bytes, with its share of what it has in common with others (PSS).

    `threads`: the names of those that the application has started. `shared`: connections and files that forked workers
    would share. `notes`: what should not be so in production.
    """

    error: str = ""
    traceback: str = ""
    seconds: float = 0.0
    memory: int = 0
    threads: list[str] = dataclasses.field(default_factory=list)
    shared: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def main(order_fd: int, result_fd: int, stacks_fd: int, seconds: int) -> None:
    """Read the group from `order_fd`, import its application, and write a line of JSON to `result_fd`.

    After `seconds` the stacks of all threads are written to `stacks_fd`: the parent ends this process then.
    """
    # Programs that the application starts must not keep these open: the parent waits for their end.
    for fd in (order_fd, result_fd, stacks_fd):
        os.set_inheritable(fd, False)
    with open(order_fd, encoding="utf-8") as order:
        group = AppGroup.from_json(json.load(order))
    faulthandler.dump_traceback_later(seconds, file=stacks_fd)
    drop_privileges(group.settings.user, group.settings.group)
    with open(result_fd, "w", encoding="utf-8") as result:
        json.dump(_result(group).to_json(), result)
        result.write("\n")
    faulthandler.cancel_dump_traceback_later()


def _result(group: AppGroup) -> Imported:
    try:
        sources.extend_environment(loader.application_environment(group.spec, sources.environment()))
        command_line.take_over(group.spec, sys.modules["__main__"])
        return _imported(group.spec, group.settings)
    except AppLoadError as error:
        return Imported(str(error), error.traceback)
    except SettingsError as error:
        return Imported(str(error))


def _imported(spec: AppSpec, settings: Settings) -> Imported:
    before = set(threading.enumerate())
    started = time.monotonic()
    application = load_python(spec, settings)
    seconds = time.monotonic() - started
    found = Imported(seconds=seconds, memory=_share(cgroups.content("/proc/self/smaps_rollup")))
    if settings.environment == "production":
        found.notes = list(production_checks.notes(application))
    if settings.spawn_method != "direct":
        hooks.run_before_fork()
        found.threads = [thread.name for thread in threading.enumerate() if thread not in before]
        found.shared = shared_state.findings()
    return found


def _share(smaps: str) -> int:
    """`Pss` of /proc/PID/smaps_rollup (proc(5)) in bytes; 0 on a system without it."""
    fields: Mapping[str, list[str]] = {line.split(":")[0]: line.split() for line in smaps.splitlines()}
    return int(fields["Pss"][1]) << 10 if "Pss" in fields else 0
