"""Takes more time or memory than it should: `/sleep?5`, `/spin?5`, `/begin?5` (sends a part first), `/grow?50` (MiB).

`/hold?1` creates the file `1.begun` and answers once `1.release` exists. `/vfork` waits in the kernel, where nothing
stops it, until the FIFO `fifo` has a writer. Anything else answers the pid.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

kept: list[bytearray] = []


def spin(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def hold(name: float) -> None:
    Path(f"{name:g}.begun").touch()
    while not Path(f"{name:g}.release").exists():
        time.sleep(0.01)


def begin(seconds: float) -> Iterator[bytes]:
    yield b"first "
    time.sleep(seconds)
    yield b"second"


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    what, amount = environ["PATH_INFO"], float(environ["QUERY_STRING"] or 0)
    headers = [("Content-Type", "text/plain")]
    if what == "/begin":
        start_response("200 OK", headers)
        return begin(amount)
    if what == "/sleep":
        time.sleep(amount)
    elif what == "/spin":
        spin(amount)
    elif what == "/vfork":
        # vfork(2): the parent waits until its child has opened the file and become another program.
        actions = [(os.POSIX_SPAWN_OPEN, 0, "fifo", os.O_RDONLY, 0)]
        os.waitpid(os.posix_spawn("/bin/true", ["true"], os.environ, file_actions=actions), 0)
    elif what == "/hold":
        hold(amount)
    elif what == "/grow":
        kept.append(bytearray(b"x") * int(amount * (1 << 20)))
    start_response("200 OK", headers)
    return [str(os.getpid()).encode()]
