"""A while of load in which everything happens at random: no request fails without a reason, nothing is left behind.

`tests/run tests/integration/test_soak.py --soak 3600` goes on for an hour; the seed is printed with the figures, and
`--soak-seed` plays the same events again.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

from integration.conftest import Figures, Serve
from support.load import Load
from support.server import Server, Site
from support.waiting import wait_for

WORKERS = 3
KEPT, CLOSING = 4, 2
CALM = 20.0


class Fate:
    """What may happen, and how many requests may fail because of it."""

    def __init__(self, server: Server, site: Site, seed: int) -> None:
        self.server = server
        self.site = site
        self.random = random.Random(seed)
        self.happened: Counter[str] = Counter()
        self.excused = 0

    def strike(self) -> None:
        name, excuses, deed = self.random.choice(self._deeds())
        self.happened[name] += 1
        self.excused += excuses
        deed()

    def _deeds(self) -> list[tuple[str, int, Callable[[], None]]]:
        return [
            # The one request that it was serving.
            ("worker killed", 1, lambda: self._kill("appsrv worker")),
            ("worker terminated", 0, lambda: self._kill("appsrv worker", signal.SIGTERM)),
            ("preloader killed", 0, lambda: self._kill("appsrv preloader")),
            # Connections that were kept open end with it, and what its workers were in the middle of.
            ("server killed", KEPT + CLOSING, lambda: self._kill("appsrv server")),
            ("restarted", 0, lambda: self._command("restart-app", "/")),
            ("SIGHUP", 0, lambda: os.kill(self.server.pid, signal.SIGHUP)),
            ("logs reopened", 0, lambda: self._command("reopen-logs")),
            ("status asked", 0, lambda: self._command("status", "--json")),
        ]

    def _kill(self, title: str, number: signal.Signals = signal.SIGKILL) -> None:
        pids = [pid for pid, text in self.server.titles().items() if text.startswith(title)]
        if pids:
            # It may be one on its way out, and have ended by now.
            with suppress(ProcessLookupError):
                os.kill(self.random.choice(pids), number)

    def _command(self, *words: str) -> None:
        # A restart may lawfully fail when the server is killed meanwhile: then the command says so.
        self.site.command(*words, "--port", str(self.server.address[1]), seconds=60)


class Belongings:
    """What a long life must not pile up: of processes, descriptors and shared memory."""

    def __init__(self, server: Server) -> None:
        titles = sorted(text.split("/")[0] for text in server.titles().values())
        self.processes = titles
        self.descriptors = {}
        self.shared = {}
        for title in ("appsrv watchdog", "appsrv preloader"):
            pid = server.pid_of(title)
            self.descriptors[title] = psutil.Process(pid).num_fds()
            self.shared[title] = sum("memfd:" in line for line in Path(f"/proc/{pid}/maps").read_text().splitlines())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Belongings) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(vars(self))


@pytest.mark.both_queues
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks at /proc")
def test_soak(serve: Serve, site: Site, figures: Figures, request: pytest.FixtureRequest, ready_queue: str) -> None:
    seconds: float = request.config.getoption("--soak") / 2
    seed: int = request.config.getoption("--soak-seed") or random.SystemRandom().randrange(1 << 32)
    server = serve("crashing", "--min-instances", str(WORKERS), "--max-pool-size", str(WORKERS))
    server.wait_workers(WORKERS)
    before = Belongings(server)
    fate = Fate(server, site, seed)
    with ExitStack() as stack:
        loads = [
            stack.enter_context(Load(server.address, count, keep_alive=kept, most_failures=1 << 20))
            for count, kept in ((KEPT, True), (CLOSING, False))
        ]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            fate.strike()
            _wait_for_answers(loads, 50)
    failures = [failure for load in loads for failure in load.failures]
    figures(
        f"soak of {seconds:g} s, seed {seed}: {sum(load.served for load in loads)} requests, {len(failures)} failed "
        f"of {fate.excused} that might; {dict(fate.happened)}"
    )
    assert len(failures) <= fate.excused, (seed, Counter(failures))
    wait_for(lambda: _calm(server) == before, f"the state of the beginning, {before} (seed {seed})", CALM)


def _wait_for_answers(loads: list[Load], count: int) -> None:
    enough = sum(load.served for load in loads) + count
    wait_for(lambda: sum(load.served for load in loads) > enough, "answers go on", CALM)


def _calm(server: Server) -> Belongings | str:
    try:
        return Belongings(server)
    except (AssertionError, psutil.Error, OSError) as error:
        return repr(error)
