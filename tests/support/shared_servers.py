"""Servers that several tests only ask: each is started once for a module, and ended behind its last test."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from pathlib import Path

from support.server import BOOT_SECONDS, Server, Site


class SharedServers:
    """By a key that names how they were started.

    One that has ended is started again: each test fails for itself, and one that ends its server disturbs no other.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._by_key: dict[Hashable, Server] = {}
        self._started: list[Server] = []

    def get(self, key: Hashable, start: Callable[[Site], Server], seconds: float = BOOT_SECONDS) -> Server:
        """The server of this key, ready to answer; `start` starts it in a directory of its own."""
        server = self._by_key.get(key)
        if server is None or server.child.poll() is not None:
            server = start(Site(self._directory / f"site-{len(self._started)}"))
            self._started.append(server)
            self._by_key[key] = server.wait_ready(seconds)
        return server

    def reap(self) -> dict[Server, list[str]]:
        """End all of them; the processes that each has left behind."""
        return {server: server.reap() for server in self._started}

    def remove(self) -> None:
        """Remove their directories."""
        for server in self._started:
            server.site.remove()
