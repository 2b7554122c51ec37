"""Counts the kills of the kernel's out-of-memory killer in the cgroup of this process.

Reads `oom_kill` of `memory.events` (cgroup v2) or `memory.oom_control` (v1); see cgroups(7) and the kernel's
admin-guide/cgroup-v2. The counter does not name the process: the caller matches a kill with a death by SIGKILL.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path

PROC, MOUNT = Path("/proc/self"), Path("/sys/fs/cgroup")
CHECK_INTERVAL_SECONDS = 1.0
CLAIM_WITHIN_SECONDS = 10.0


class OutOfMemoryKills:
    """The kills in this process's cgroup from now on. `known`: whether the system counts them.

    Each death can claim one kill, within `CLAIM_WITHIN_SECONDS`. A kill may stay unclaimed: the victim can be a child
    of the application, of whose death appsrv gets no report. Times are `time.monotonic()`.
    """

    def __init__(self, proc: Path = PROC, mount: Path = MOUNT) -> None:
        self.file = next((file for file in _candidates(proc, mount) if _count(file) is not None), None)
        self._seen = self._read()
        self._updated_at = 0.0
        self._unclaimed: deque[float] = deque()

    @property
    def known(self) -> bool:
        return self.file is not None

    def update(self, now: float) -> None:
        """Record new kills and forget old unclaimed ones. Reads the file once per `CHECK_INTERVAL_SECONDS`."""
        if now - self._updated_at >= CHECK_INTERVAL_SECONDS:
            self._note(now)

    def claim(self, now: float) -> bool:
        """Claim a kill. Returns False if there is no unclaimed one."""
        self._note(now)
        if not self._unclaimed:
            return False
        self._unclaimed.popleft()
        return True

    def forget(self) -> None:
        """Forget the kills so far: another process has claimed them."""
        self._seen = self._read()
        self._unclaimed.clear()

    def _note(self, now: float) -> None:
        count, self._updated_at = self._read(), now
        while self._unclaimed and now - self._unclaimed[0] > CLAIM_WITHIN_SECONDS:
            self._unclaimed.popleft()
        self._unclaimed.extend([now] * (count - self._seen))
        self._seen = count

    def _read(self) -> int:
        return (_count(self.file) or 0) if self.file is not None else 0


def _candidates(proc: Path, mount: Path) -> Iterator[Path]:
    """The files that may hold the counter of our own cgroup.

    In a container, /proc/self/cgroup may have the path on the host, while the mounted directory is the cgroup itself.
    """
    try:
        lines = (proc / "cgroup").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        below = path.strip("/")
        if not controllers:
            yield mount / below / "memory.events"
            yield mount / "memory.events"
        elif "memory" in controllers.split(","):
            yield mount / "memory" / below / "memory.oom_control"
            yield mount / "memory" / "memory.oom_control"


def _count(file: Path) -> int | None:
    try:
        content = file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    for line in content.splitlines():
        name, _, number = line.partition(" ")
        if name == "oom_kill" and number.strip().isdigit():
            return int(number)
    return None
