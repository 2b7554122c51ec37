"""The running instance of a project: its status, and the limits of its processes."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from appsrv.commands.doctor.facts import RunningApp
from appsrv.errors import AdminError, NotRunning
from appsrv.instance import run_directory
from appsrv.instance.admin_client import AdminClient
from appsrv.system import cgroups, directories

_DESCRIPTORS = re.compile(r"^Max open files\s+\d+\s+(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class RunningInstance:
    """`name` and `pid` (the server's) of an instance; empty and 0 if none runs. `apps`: by name."""

    name: str = ""
    pid: int = 0
    apps: Mapping[str, RunningApp] = field(default_factory=dict)


def find(directory: Path, port: int, environ: Mapping[str, str]) -> RunningInstance:
    """The instance of this directory; of several, the one on the port."""
    root = os.path.realpath(directory)
    living = run_directory.list_instances(directories.bases(environ))
    here = [one for one in living if os.path.realpath(one.info.root) == root]
    here.sort(key=lambda one: port not in one.info.ports)
    if not here:
        return RunningInstance()
    one = here[0]
    try:
        return of_status(one.info.name, AdminClient(one.admin_socket, one.is_alive).status())
    except (NotRunning, AdminError):
        # It has just ended, or its server does not answer, which `appsrv status` reports.
        return RunningInstance()


def of_status(name: str, status: Mapping[str, Any]) -> RunningInstance:
    """The facts in the report of an instance. Fields that another version does not send are left out."""
    apps = {group["name"]: _app(group) for group in status.get("app_groups", [])}
    return RunningInstance(name, int(status.get("server", {}).get("pid", 0)), apps)


def _app(group: Mapping[str, Any]) -> RunningApp:
    served = [worker for worker in group.get("workers", []) if worker.get("state") in ("idle", "busy")]
    untrusted = {one["address"]: one["fields"] for one in group.get("untrusted_proxies", [])}
    return RunningApp([worker["memory"] for worker in served], group.get("max_pool_size", 1), untrusted)


def descriptors(pid: int) -> int | None:
    """The hard limit of descriptors of a process (proc_pid_limits(5)); None if it cannot be read or is unlimited."""
    found = _DESCRIPTORS.search(cgroups.content(f"/proc/{pid}/limits"))
    return int(found[1]) if found else None
