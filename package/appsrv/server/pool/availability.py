"""Whether one application group can serve: its first boot, the reason of a failure, and the outage that follows.

Reports the progress of the first boot, and has requests answered with an error while no worker can be made. Does not
know how an application is loaded or a worker is made.
"""

from __future__ import annotations

import logging
import time

from appsrv.errors import BootError
from appsrv.server.pool.group_context import GroupContext
from appsrv.server.pool.handles import Failure, PreloaderHandle
from appsrv.server.pool.outage import Outage

log = logging.getLogger("appsrv.manager")

FIRST_BOOT_ATTEMPTS = 3
# After so many workers in a row that ended before they had served a request, requests get an error and do not wait.
CRASH_LOOP_ENDS = 3


class Availability:
    """`failure`: why the application cannot be loaded or its workers cannot start, until a worker is ready.

    `booted`: whether the group has ever served or, where no worker is kept, could have. `loading`: whether the first
    load still runs.
    """

    def __init__(self, context: GroupContext) -> None:
        group, settings = context.group, context.group.settings
        self.failure: Failure | None = None
        self.booted = False
        self.loading = False
        self._name = group.name
        self._development = context.development
        self._events = context.events
        probe_path = settings.probe_path and settings.base_uri + settings.probe_path
        self._outage = Outage(group.name, context.backend, development=context.development, probe_path=probe_path)

    # -- the first boot -----------------------------------------------------------------------------------------------

    @property
    def first_boot(self) -> bool:
        """Whether a failure now fails the boot. In development the server boots with code that is broken."""
        return not (self.booted or self._development)

    def begin_load(self) -> None:
        """The first load begins."""
        self.loading = True

    def end_load(self) -> None:
        """The application is loaded or cannot be loaded."""
        if self.loading:
            self.loading = False
            self._events.load_ended()

    def set_booted(self) -> None:
        """The group can serve."""
        if not self.booted:
            self.booted = True
            self._events.booted()

    def fail_boot(self, failure: Failure) -> None:
        """The first generation cannot boot."""
        self.failure = failure
        self._events.boot_failed(failure)

    def continue_broken(self) -> None:
        """The first generation cannot boot, but other groups serve: requests get 503 until a later load succeeds."""
        self.booted = True
        if self.failure is not None:
            self._outage.begin(self.failure)

    def continue_booted(self) -> None:
        """The group has booted under the server before this one."""
        self.booted = True

    # -- failures -----------------------------------------------------------------------------------------------------

    def set_failure(self, failure: Failure) -> None:
        """Why no worker of the newest code can be made; older workers may serve."""
        self.failure = failure

    def clear_failure(self) -> None:
        """The newest code is loaded again, or a worker of it is ready."""
        self.failure = None

    def begin_outage(self, failure: Failure) -> None:
        """No worker serves: from now on all requests are answered with this failure, those that wait included."""
        self._outage.begin(failure)

    def end_outage(self) -> None:
        """A worker is ready or will be soon: requests wait for it."""
        self._outage.end()

    def set_load_failure(self, generation: int, failure: Failure) -> None:
        """Log and keep why a generation cannot be loaded."""
        # In development, the framework's own command has printed the traceback on the terminal.
        level = logging.INFO if self._development and failure.traceback else logging.ERROR
        log.log(level, "%s (generation %d) cannot be loaded: %s", self._name, generation, failure.message)
        # A later load of the same code fails with the same traceback, which is logged once.
        known = self.failure is not None and self.failure.traceback == failure.traceback
        for line in () if known else failure.traceback.splitlines():
            log.log(level, "  %s", line)
        self.failure = failure

    # -- crash loops --------------------------------------------------------------------------------------------------

    def check_preloader_ends(self, handle: PreloaderHandle, cause: str, count: int) -> None:
        """No worker serves, and `count` preloaders in a row have ended before they had forked one."""
        if count < CRASH_LOOP_ENDS:
            return
        reason = f"{count} preloaders in a row ended before they had forked a worker; the last one: {cause}"
        failure = Failure(time.time(), reason, exit_code=BootError.exit_code, pid=handle.pid)
        if self.first_boot:
            self.fail_boot(failure)
        else:
            self.failure = failure
            self._outage.begin(failure)

    def check_first_workers(self, cause: str, count: int) -> None:
        """A worker has ended, the last of `count` in a row that ended before they had served."""
        if self.first_boot and count >= FIRST_BOOT_ATTEMPTS:
            reason = f"{FIRST_BOOT_ATTEMPTS} workers in a row ended before they were ready; the last one: {cause}"
            self.fail_boot(Failure(time.time(), reason, exit_code=BootError.exit_code))

    def check_worker_ends(self, cause: str, count: int) -> Failure | None:
        """As `check_first_workers`, while no worker serves: begins an outage with the failure that it returns."""
        if count < CRASH_LOOP_ENDS:
            return None
        failure = Failure(time.time(), f"workers end before they have served anything; the last one: {cause}")
        self.failure = failure
        self._outage.begin(failure)
        return failure
