"""The report of the server: the JSON behind `appsrv status`. Reads everything, changes nothing."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any

import psutil

from appsrv import __version__
from appsrv.ipc.request_counts import BUCKET_BOUNDS_SECONDS
from appsrv.ipc.scoreboard import first_line, without_query
from appsrv.server.frontend.frontend import FrontEnd
from appsrv.server.frontend.parking import ClientConnection
from appsrv.server.pool.handles import Failure, WorkerHandle
from appsrv.server.pool.manager import Manager
from appsrv.server.pool.memory_limits import share
from appsrv.server.pool.worker_deaths import Death
from appsrv.settings.kinds import NO_FILE
from appsrv.settings.table import Settings
from appsrv.system.process_tree import descendants

MOST_WAITING = 1000
_PEEK = 8192


class Report:
    """Builds the report. It keeps the processes from one report to the next, so that CPU is that of the time in
    between.
    """

    def __init__(self, instance: dict[str, Any], restarts: int, settings: Settings, frontend: FrontEnd) -> None:
        self._instance = instance
        self._max_pool_size = settings.max_pool_size
        self._frontend = frontend
        self._restarts = restarts
        self._started = time.time()
        self._processes: dict[int, psutil.Process] = {}
        self._before: dict[int, psutil.Process] = {}

    def build(self, managers: list[Manager], problems: Mapping[str, str]) -> dict[str, Any]:
        """The whole report. `problems`: by name, why applications are not served."""
        # Processes that are in no report any more are forgotten.
        self._before, self._processes = self._processes, {}
        groups = [self._group(manager) for manager in managers]
        return {
            "version": __version__,
            "time": time.time(),
            "instance": self._instance,
            "server": self._server(),
            "max_pool_size": self._max_pool_size,
            "processes": sum(len(group["workers"]) for group in groups),
            "queue": sum(group["queue"] for group in groups),
            "app_groups": groups,
            "not_served": [{"name": name, "message": problem} for name, problem in problems.items()],
        }

    def _server(self) -> dict[str, Any]:
        frontend = self._frontend
        return {
            "pid": os.getpid(),
            "uptime": time.time() - self._started,
            "connections": len(frontend.connections),
            "max_connections": frontend.limits.max_connections,
            "closed_idle": frontend.limits.closed_idle,
            "refused_per_address": frontend.limits.refused,
            "accept_pauses": frontend.limits.pauses,
            "accepted": frontend.accepted,
            "ready_queue": self._kind(),
            "restarts": self._restarts,
            "answered": {str(status): count for status, count in frontend.answered.items()},
            **self._usage(os.getpid()),
        }

    def _kind(self) -> str:
        return next((backend.parking.kind for backend in self._frontend.backends), "")

    def _group(self, manager: Manager) -> dict[str, Any]:
        return {
            "name": manager.name,
            "root": manager.group.spec.root,
            "app": manager.group.app,
            "environment": manager.settings.environment,
            "settings_module": manager.preloaders.settings_module,
            "log_file": _log_file(manager.settings) or self._instance["log_file"],
            "hosts": list(manager.settings.hosts),
            "base_uri": manager.settings.base_uri,
            "generation": manager.generation,
            "state": manager.state,
            "spawning": manager.spawning,
            "min_instances": manager.min_instances,
            "max_pool_size": manager.settings.max_pool_size,
            "queue": manager.waiting,
            "queue_age": _oldest(manager),
            "refused": manager.queue.refused,
            "timed_out": manager.queue.timed_out,
            "abandoned": manager.queue.abandoned,
            "untrusted_proxies": [
                {"address": address, "fields": names}
                for address, names in manager.workers.untrusted_proxies().items()
            ],
            "last_error": _failure(manager.failure or manager.restarts.resisting),
            "restarts": {"ok": manager.restarts.succeeded, "failed": manager.restarts.failed},
            "served": _served(manager),
            "resisting": manager.restarts.resisting is not None,
            "deaths_by_cause": dict(manager.deaths.kinds),
            "last_death": _death(manager.deaths.last),
            "deaths": [_death(death) for death in manager.deaths.recent],
            "preloaders": [
                {"pid": preloader.pid, "generation": preloader.generation, **self._usage(preloader.pid)}
                for preloader in manager.preloaders
                if not preloader.serial
            ],
            "workers": [self._worker(manager, handle) for handle in manager.workers.values()],
        }

    def _worker(self, manager: Manager, handle: WorkerHandle) -> dict[str, Any]:
        load = handle.load()
        last_used = time.monotonic() - load.last_used if load.last_used else None
        return {
            "pid": handle.pid,
            "generation": handle.generation,
            "state": manager.worker_state(handle),
            "sessions": load.sessions,
            "threads": manager.preloaders.concurrency or manager.settings.concurrency,
            "busy_threads": load.threads,
            "processed": load.processed,
            "uptime": time.time() - handle.started,
            "last_used": last_used,
            **self._usage(handle.pid, family=manager.settings.start_command is not None),
        }

    def _usage(self, pid: int, *, family: bool = False) -> dict[str, Any]:
        """CPU in percent of one core since the last report and in seconds since its start, and memory in bytes (PSS).

        `family`: with its descendants.
        """
        used = {"cpu": 0.0, "cpu_seconds": 0.0, "memory": 0}
        for one in (pid, *(descendants(pid) if family else ())):
            with contextlib.suppress(psutil.Error):
                for name, value in self._usage_of_one(one).items():
                    used[name] += value
        return used

    def _usage_of_one(self, pid: int) -> dict[str, Any]:
        try:
            process = self._processes[pid] = self._before.get(pid) or psutil.Process(pid)
            times = process.cpu_times()
            return {"cpu": process.cpu_percent(), "cpu_seconds": times.user + times.system, "memory": share(process)}
        except psutil.Error:
            self._processes.pop(pid, None)
            raise


def _log_file(settings: Settings) -> str | None:
    return settings.log_file if settings.log_file != NO_FILE else None


def _oldest(manager: Manager) -> float:
    """How long the oldest waiting request has waited, in seconds; 0 when none waits."""
    now = time.monotonic()
    return max((now - since for _, since in manager.queue.waiting()), default=0.0)


def _served(manager: Manager) -> dict[str, Any]:
    """The work of the group's workers since this server began.

    Classes and buckets ([upper bound in seconds or None, requests], not cumulative) only where requests are counted.
    """
    counts = manager.workers.counts()
    served: dict[str, Any] = {"requests": counts.requests, "busy_seconds": counts.busy}
    if manager.settings.counts_requests:
        served["classes"] = {f"{n}xx": count for n, count in enumerate(counts.classes) if 1 <= n <= 5 or count}
        bounds = (*BUCKET_BOUNDS_SECONDS, None)
        served["buckets"] = [[bound, n] for bound, n in zip(bounds, counts.buckets, strict=True)]
        served["seconds"] = counts.seconds
    return served


def requests(manager: Manager) -> list[dict[str, Any]]:
    """The requests of a group that are being served, and the first thousand of those that wait; the oldest first.

    Of each: age in seconds, pid (None while it waits), the client's address, method and path as far as they are known,
    and whether the client of a request that is being served is "connected", "half-closed" or "gone". Query strings are
    left out, because they may contain secrets.
    """
    now = time.monotonic()
    found = [*_in_progress(manager, now), *_waiting(manager, now)]
    return sorted(found, key=lambda request: -request["age"])


def _in_progress(manager: Manager, now: float) -> Iterator[dict[str, Any]]:
    for handle in manager.workers.values():
        for cell in handle.slot.read():
            if cell.cid:
                connection = manager.backend.connections.get(cell.cid)
                line = cell.request_line
                request = _request("in progress", now - cell.started, handle.pid, connection, line)
                yield request | {"client_state": cell.client or "connected"}


def _waiting(manager: Manager, now: float) -> Iterator[dict[str, Any]]:
    for connection, since in manager.queue.waiting()[:MOST_WAITING]:
        yield _request("waiting", now - since, None, connection, _peek(connection))


def _request(
    state: str, age: float, pid: int | None, connection: ClientConnection | None, line: str
) -> dict[str, Any]:
    method, _, path = without_query(line).partition(" ")
    client = connection.address if connection is not None else None
    return {
        "state": state, "age": max(0.0, age), "pid": pid, "client": client or None, "method": method or None,
        "path": path or None,
    }


def _peek(connection: ClientConnection) -> str:
    """The request line of a waiting request, without reading it from the socket."""
    try:
        return first_line(connection.sock.recv(_PEEK, socket.MSG_PEEK))
    except OSError:
        return ""


def _failure(failure: Failure | None) -> dict[str, Any] | None:
    if failure is None:
        return None
    return {"time": failure.when, "message": failure.message, "traceback": failure.traceback}


def _death(death: Death | None) -> dict[str, Any] | None:
    if death is None:
        return None
    return {
        "time": death.when,
        "pid": death.pid,
        "generation": death.generation,
        "cause": death.cause,
        "error_id": death.error_id,
        "requests": death.requests,
        "last_lines": death.last_lines,
    }
