"""The directions in which messages are sent: from which process to which one, and on which path."""

from __future__ import annotations

from typing import NamedTuple


class Direction(NamedTuple):
    """The process that sends and the one that receives. `path`: what else tells this direction from others."""

    sender: str
    receiver: str
    path: str = ""


WATCHDOG_TO_SERVER = Direction("watchdog", "server")
CONFIGURES_SERVER = Direction("watchdog", "server", "before it serves")
SERVER_TO_WATCHDOG = Direction("server", "watchdog")
WATCHDOG_TO_PRELOADER = Direction("watchdog", "preloader")
PRELOADER_TO_WATCHDOG = Direction("preloader", "watchdog")
SERVER_TO_PRELOADER = Direction("server", "preloader")
PRELOADER_TO_SERVER = Direction("preloader", "server")
SERVER_TO_WORKER = Direction("server", "worker")
HANDED_OFF = Direction("server", "worker", "hand-off socket of all workers")
FILES_TO_WORKER = Direction("server", "worker", "channel for changed files")
WORKER_TO_SERVER = Direction("worker", "server")
WORKER_TO_BACKEND = Direction("worker", "server", "back end")
