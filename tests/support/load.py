"""Steady load from a few keep-alive connections; every answer that is not the expected one is kept."""

from __future__ import annotations

import threading
import time
from collections import Counter

from support.http import Address, Connection

PAUSE = 0.002


class Load:
    """`with Load(address, 4) as load:` asks for `target` on 4 connections until the block ends.

    Each client waits `pause` seconds after an answer, so that what the test waits for has its share of the processors.
    """

    def __init__(
        self, address: Address, connections: int, target: str = "/", *, keep_alive: bool = True,
        most_failures: int = 50, pause: float = PAUSE,
    ) -> None:
        self.address = address
        self.target = target
        self.keep_alive = keep_alive
        self.most_failures = most_failures
        self.pause = pause
        self.failures: list[str] = []
        self.answers: Counter[str] = Counter()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run) for _ in range(connections)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30.0)

    @property
    def served(self) -> int:
        return self.answers.total()

    def _run(self) -> None:
        connection: Connection | None = None
        while not self._stop.is_set():
            connection = self._once(connection)
            time.sleep(self.pause)
        if connection is not None:
            connection.close()

    def _once(self, connection: Connection | None) -> Connection | None:
        """One request; the connection to go on with, if it can be used again."""
        try:
            connection = connection or Connection(self.address)
            reply = connection.exchange("GET", self.target)
        except Exception as error:  # whatever a client can run into is a dropped request
            self._note_failure(repr(error))
            self._close(connection)
            return None
        if reply.status != 200:
            self._note_failure(f"{reply.status} {reply.text[:200]}")
            self._close(connection)
            return None
        with self._lock:
            self.answers[reply.text] += 1
        if self.keep_alive and reply.headers.get("Connection", "").lower() != "close":
            return connection
        self._close(connection)
        return None

    def _note_failure(self, why: str) -> None:
        with self._lock:
            self.failures.append(why)
        if len(self.failures) > self.most_failures:
            self._stop.set()

    @staticmethod
    def _close(connection: Connection | None) -> None:
        if connection is not None:
            connection.close()
