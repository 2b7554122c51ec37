"""Threads that go on after the answer: `/executor`, `/thread` and `/daemon` start a job that lasts until the file
`release` exists and then leaves the file `KIND.done`; `/waiting` starts threads that wait for work for ever, one of an
executor and a daemon. Every answer is the pid.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

EXECUTOR = ThreadPoolExecutor(2, thread_name_prefix="exports")
WORK: queue.Queue[object] = queue.Queue()


def job(kind: str) -> None:
    while not os.path.exists("release"):
        time.sleep(0.01)
    Path(f"{kind}.done").touch()


def begin(kind: str) -> None:
    if kind == "executor":
        EXECUTOR.submit(job, kind)
    elif kind == "waiting":
        EXECUTOR.submit(os.getpid).result()
        threading.Thread(target=WORK.get, name="listener", daemon=True).start()
    elif kind:
        threading.Thread(target=job, args=(kind,), name=f"report-{kind}", daemon=kind == "daemon").start()


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    begin(environ["PATH_INFO"][1:])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
