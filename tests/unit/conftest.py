"""Unit tests are pure: one that starts a process has the marker `process`, or fails."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

# Audit events of the standard library (https://docs.python.org/3/library/audit_events.html).
PROCESS_EVENTS = frozenset(
    {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system", "pty.spawn"}
)
_guarded: list[str] = []


def _audit(event: str, _arguments: object) -> None:
    if _guarded and event in PROCESS_EVENTS:
        raise RuntimeError(f"{event} in {_guarded[-1]}: mark the test with pytest.mark.process")


sys.addaudithook(_audit)


@pytest.fixture(autouse=True)
def no_processes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Guards the test, unless it is marked."""
    if request.node.get_closest_marker("process"):
        yield
        return
    _guarded.append(request.node.nodeid)
    yield
    _guarded.clear()
