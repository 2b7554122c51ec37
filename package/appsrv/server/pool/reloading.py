"""The reloads of one application group in development: a change of its files makes the code be loaded again.

Decides whether a change counts and when the reload begins. Does not know how a generation is loaded (`lifecycle`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from appsrv.server.pool.availability import Availability
from appsrv.server.pool.group_context import GroupContext
from appsrv.server.pool.handles import RestartOutcome, WorkerHandle
from appsrv.server.pool.pool import Pool
from appsrv.server.pool.reload_brake import ReloadBrake
from appsrv.server.pool.restarts import Restarts

log = logging.getLogger("appsrv.manager")


class Reloading:
    """`load(reason)` ends all processes of the group, loads a new generation, and returns its number."""

    def __init__(
        self, context: GroupContext, pool: Pool, availability: Availability, restarts: Restarts, *,
        load: Callable[[str], int],
    ) -> None:
        self._name = context.group.name
        self._pool = pool
        self._availability = availability
        self._restarts = restarts
        self._load = load
        self._brake = ReloadBrake(self._name, self._reload, later=context.later, now=context.now)

    def code_changed(self, paths: list[str]) -> None:
        """Files of the application have changed."""
        self._brake.changed(paths)

    def worker_saw_change(self, handle: WorkerHandle, paths: list[str]) -> None:
        """This worker has seen that files of the application have changed."""
        # A worker that retires may report a change that its successor has loaded already. A worker that boots reports
        # changes before it is ready.
        if self._pool.stays(handle.serial):
            self.code_changed(paths)

    def loaded(self) -> None:
        """The application was loaded or cannot be loaded."""
        self._brake.loaded()

    def stop(self) -> None:
        """Forget a reload that waits."""
        self._brake.stop()

    def _reload(self, paths: list[str]) -> None:
        """All requests from now on are served by the new code."""
        if self._pool.closed:
            return
        log.info("%s changed, reloading %s", ", ".join(sorted(paths)[:3]) or "a file", self._name)
        self._availability.clear_failure()
        self._restarts.set_resisting(None)
        self._load_anew("the code has changed")

    def load_again(self) -> None:
        """Load code again that could not be loaded while the old processes lived."""
        log.info(
            "loading %s again: the processes of the old code, which may have held a port or a lock, have ended",
            self._name,
        )
        self._load_anew("it is loaded again")

    def _load_anew(self, reason: str) -> None:
        self._availability.end_outage()
        generation = self._load(reason)
        # A restart may be running. Its generation is older than this one and will never serve: it ends here.
        reason = "the code changed meanwhile and is loaded again"
        self._restarts.over(RestartOutcome(False, generation, reason, superseded=True))
