"""Responses in steps, each taken when the file `step` has so many bytes; an application that is told of the end of its
client leaves the file `NAME.closed`.

`/NAME?KIND`: `events` sends a piece at each step, `empty` an empty one, `late` nothing before the first step, `write`
calls `write` with nothing, `deaf` never comes to a step, `plain` answers whole after the first one. Without a kind the
answer is the pid.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

STEPS = 3


def wait_for_step(number: int) -> None:
    while not (os.path.exists("step") and os.path.getsize("step") >= number):
        time.sleep(0.005)


def steps(name: str, kind: str) -> Iterator[bytes]:
    try:
        if kind != "late":
            yield b"begun\n"
        for number in range(1, STEPS + 1):
            wait_for_step(number if kind != "deaf" else 1 << 30)
            yield b"" if kind in ("empty", "late") else b"step\n"
        yield b"end\n"
    except GeneratorExit:
        Path(f"{name}.closed").touch()
        raise


def write_steps(name: str, write: Callable[[bytes], object]) -> Iterable[bytes]:
    write(b"begun\n")
    for number in range(1, STEPS + 1):
        wait_for_step(number)
        try:
            write(b"")
        except Exception:
            Path(f"{name}.closed").touch()
            raise
    return [b"end\n"]


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    name, kind = environ["PATH_INFO"][1:], environ["QUERY_STRING"]
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    if kind == "write":
        return write_steps(name, write)
    if kind == "plain":
        wait_for_step(1)
        return [b"whole"]
    return steps(name, kind) if kind else [str(os.getpid()).encode()]
