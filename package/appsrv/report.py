"""What the server says of itself: the JSON behind `appsrv status`. Reads everything, changes nothing."""

from __future__ import annotations

import os
import time
from typing import Any

import psutil

from appsrv import __version__
from appsrv.deaths import Death
from appsrv.handles import Failure, WorkerHandle
from appsrv.manager import Manager


class Report:
    """Builds the report; remembers processes between two, so that CPU is that of the time in between."""

    def __init__(self, instance: dict[str, Any], restarts: int) -> None:
        self._instance = instance
        self._restarts = restarts
        self._started = time.time()
        self._processes: dict[int, psutil.Process] = {}

    def build(self, managers: list[Manager]) -> dict[str, Any]:
        """The whole report."""
        groups = [self._group(manager) for manager in managers]
        return {
            "version": __version__,
            "time": time.time(),
            "instance": self._instance,
            "server": self._server(managers),
            "max_pool_size": sum(manager.settings.max_pool_size for manager in managers),
            "processes": sum(len(group["workers"]) for group in groups),
            "queue": sum(group["queue"] for group in groups),
            "app_groups": groups,
        }

    def _server(self, managers: list[Manager]) -> dict[str, Any]:
        frontends = [manager.frontend for manager in managers]
        return {
            "pid": os.getpid(),
            "uptime": time.time() - self._started,
            "connections": sum(len(frontend.connections) for frontend in frontends),
            "accepted": sum(frontend.accepted for frontend in frontends),
            "ready_queue": frontends[0].parking.kind,
            "restarts": self._restarts,
            **self._usage(os.getpid()),
        }

    def _group(self, manager: Manager) -> dict[str, Any]:
        return {
            "name": manager.name,
            "root": self._instance["root"],
            "app": self._instance["app"],
            "environment": manager.settings.environment,
            "generation": manager.generation,
            "state": manager.state,
            "spawning": manager.spawning,
            "queue": manager.waiting,
            "refused": manager.admission.refused,
            "last_error": _failure(manager.failure or manager.restarts.resisting),
            "resisting": manager.restarts.resisting is not None,
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
            "threads": manager.settings.threads,
            "processed": load.processed,
            "uptime": time.time() - handle.started,
            "last_used": last_used,
            **self._usage(handle.pid),
        }

    def _usage(self, pid: int) -> dict[str, Any]:
        """CPU in percent of one core since the last report, memory as the process's own share (PSS) in bytes."""
        try:
            process = self._processes.setdefault(pid, psutil.Process(pid))
            return {"cpu": process.cpu_percent(), "memory": _memory(process)}
        except psutil.Error:
            self._processes.pop(pid, None)
            return {"cpu": 0.0, "memory": 0}


def _memory(process: psutil.Process) -> int:
    try:
        full = process.memory_full_info()
    except psutil.Error:
        return int(process.memory_info().rss)
    return int(getattr(full, "pss", full.uss))


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
