"""Restores the run directory of a running instance after a cleanup program has removed it.

Examples are systemd-tmpfiles and tmpwatch, and logind, which removes /run/user/UID after the last session of a user.
Without the directory requests are still served, but no command finds the instance. Knows the directory, not the
protocol of the admin socket.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable

from appsrv.errors import AppsrvError
from appsrv.instance.run_directory import InstanceDirectory, InstanceInfo
from appsrv.net import listening_sockets
from appsrv.system import stack_dump

CHECK_INTERVAL_SECONDS = 5.0

TOUCH_INTERVAL_SECONDS = 3600.0
"""How often the files get a new modification time. Cleanup programs remove files that have not changed for some days.
"""

Log = Callable[[int, str], None]


class KeptDirectory:
    """Watches the run directory: `check` has to be called at `due`, or before. `info` returns the description of the
    instance; `log` writes a line with a level to the log.
    """

    def __init__(
        self, directory: InstanceDirectory, info: Callable[[], InstanceInfo], log: Log,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._info = info
        self._log = log
        self._touch_due = clock() + TOUCH_INTERVAL_SECONDS
        self._had_socket = self._missed_socket = False
        self._failed = False
        self.due = clock() + CHECK_INTERVAL_SECONDS

    def check(self) -> socket.socket | None:
        """Restore the directory if it is incomplete. Returns the new admin socket, which listens, or None."""
        now = self._clock()
        self.due = now + CHECK_INTERVAL_SECONDS
        if self._directory.is_in_place() and not self._lacks_socket():
            self._touch(now)
            return None
        try:
            return self._restore()
        except (OSError, AppsrvError) as error:
            if not self._failed:
                self._failed = True
                self._log(logging.ERROR, _lost(self._directory, error))
            return None

    def _lacks_socket(self) -> bool:
        """Whether two checks in succession miss a socket that existed before.

        One check is not enough: a server that starts removes the socket and binds a new one.
        """
        missed_before, self._missed_socket = self._missed_socket, False
        if self._directory.admin_socket.exists():
            self._had_socket = True
        else:
            self._missed_socket = self._had_socket
        return missed_before and self._missed_socket

    def _restore(self) -> socket.socket:
        self._directory.restore(self._info())
        made = listening_sockets.listen_privately(str(self._directory.admin_socket))
        stack_dump.listen(self._directory.path)
        self._had_socket, self._failed = True, False
        self._log(
            logging.WARNING,
            f"the run directory {self._directory.path} was removed by another program and made again: keep it from "
            "programs that clean up, or set XDG_RUNTIME_DIR to another place",
        )
        return made

    def _touch(self, now: float) -> None:
        if now >= self._touch_due:
            self._touch_due = now + TOUCH_INTERVAL_SECONDS
            try:
                self._directory.touch()
            except OSError:
                # The directory is being removed just now: the next check finds that.
                return


def _lost(directory: InstanceDirectory, error: Exception) -> str:
    return (
        f"the run directory {directory.path} was removed by another program and cannot be made again: {error}; "
        "requests are served, but no command finds this instance; it is tried again"
    )
