"""Whether the kernel's out-of-memory killer was here: the counter that it keeps for our control group.

Reads `oom_kill` of `memory.events` (cgroup v2) or `memory.oom_control` (v1); see cgroups(7) and the kernel's
admin-guide/cgroup-v2. Knows numbers in files; which process it was is told by who has died of SIGKILL.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path

PROC, MOUNT = Path("/proc/self"), Path("/sys/fs/cgroup")
CHECK_INTERVAL_SECONDS = 1.0
CLAIM_WITHIN_SECONDS = 10.0


class OutOfMemoryKills:
    """The kills of this process's control group from now on. `known`: whether this system counts them.

    One death can claim a kill, within `CLAIM_WITHIN_SECONDS`. The victim may also be a child of the application, of
    whose death no report comes. Times are `time.monotonic()`.
    """

    def __init__(self, proc: Path = PROC, mount: Path = MOUNT) -> None:
        self.file = next((file for file in _candidates(proc, mount) if _count(file) is not None), None)
        self._seen = self._read()
        self._looked = 0.0
        self._unclaimed: deque[float] = deque()

    @property
    def known(self) -> bool:
        return self.file is not None

    def look(self, now: float) -> None:
        """Called again and again: note kills, and forget those that nobody has claimed. Reads once a second."""
        if now - self._looked >= CHECK_INTERVAL_SECONDS:
            self._note(now)

    def claim(self, now: float) -> bool:
        """Whether there has been a kill that nobody has claimed yet; if so, it is claimed now."""
        self._note(now)
        if not self._unclaimed:
            return False
        self._unclaimed.popleft()
        return True

    def settle(self) -> None:
        """Somebody else has claimed what there was."""
        self._seen = self._read()
        self._unclaimed.clear()

    def _note(self, now: float) -> None:
        count, self._looked = self._read(), now
        while self._unclaimed and now - self._unclaimed[0] > CLAIM_WITHIN_SECONDS:
            self._unclaimed.popleft()
        self._unclaimed.extend([now] * (count - self._seen))
        self._seen = count

    def _read(self) -> int:
        return (_count(self.file) or 0) if self.file is not None else 0


def _candidates(proc: Path, mount: Path) -> Iterator[Path]:
    """Of our own group; in a container that sees the host's path of it, what is mounted is the group itself."""
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
