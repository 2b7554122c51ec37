"""The control groups of a process: its own and all above it, since the limits of all of them apply (cgroups(7)).

Pure except `content`. Knows no controller's files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

Read = Callable[[str], str]
"""Returns the content of a file, "" if it does not exist."""

ROOT = "/sys/fs/cgroup"


class ControlGroup(NamedTuple):
    """A directory with the files of a controller; they differ between version 1 and 2."""

    version: int
    directory: str


def of_process(process: str, controller: str, read: Read) -> Iterator[ControlGroup]:
    """The groups of a process (its pid, or `self`) for this controller, its own first."""
    for line in read(f"/proc/{process}/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            yield from (ControlGroup(2, f"{ROOT}{group}") for group in _upwards(path))
        elif controller in controllers.split(","):
            yield from (ControlGroup(1, f"{ROOT}/{controllers}{group}") for group in _upwards(path))


def _upwards(path: str) -> Iterator[str]:
    """`/a/b`, `/a` and the root, which is ""."""
    here = PurePosixPath("/") / path.lstrip("/")
    for group in (here, *here.parents):
        yield "" if str(group) == "/" else str(group)


def content(path: str) -> str:
    """The content of a file of the system; "" if it cannot be read."""
    try:
        return Path(path).read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
