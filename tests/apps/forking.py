"""Views that start processes, in every way that Python has; each answers with what it saw of its children.

`/NAME` calls the function of that name. It is an application of its own, and the views of others.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

SHOWS_SIGNALS = "grep -E '^Sig(Ign|Blk)' /proc/self/status"
AT_IMPORT = subprocess.run(["sh", "-c", SHOWS_SIGNALS], capture_output=True, text=True, check=False).stdout
KINDS = ("fork", "forkserver", "spawn")


def _context(kind: str) -> Any:
    return multiprocessing.get_context(kind)


def square(number: int) -> int:
    return number * number


def sleep_for_ever() -> None:
    while True:
        time.sleep(60)


def report(pipe: int) -> None:
    os.write(pipe, json.dumps({"pid": os.getpid(), "files": files()}).encode())


def files() -> dict[str, str]:
    """The descriptors of this process, and what they are of."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[number] = os.readlink(f"/proc/self/fd/{number}")
    return found


# -- multiprocessing and concurrent.futures -------------------------------------------------------------------------


def terminate(kind: str) -> dict[str, object]:
    """A child that sleeps is ended by its parent."""
    child = _context(kind).Process(target=sleep_for_ever)
    child.start()
    child.terminate()
    child.join(10)
    code = child.exitcode
    if code is None:
        child.kill()
    return {"exitcode": code}


def pools(kind: str) -> dict[str, object]:
    """Pools that are ended while their processes start: TERM finds them at every stage."""
    sums = []
    for _ in range(5):
        with _context(kind).Pool(3) as pool:
            sums.append(sum(pool.map(square, range(10))))
    return {"sums": sums}


def executor(kind: str) -> dict[str, object]:
    with ProcessPoolExecutor(2, _context(kind)) as pool:
        return {"sum": sum(pool.map(square, range(10)))}


# -- os.fork --------------------------------------------------------------------------------------------------------


def _leave(way: str) -> None:
    if way == "exit":
        sys.exit(3)
    if way == "raise":
        raise RuntimeError("the child failed")
    if way == "message":
        sys.exit("the child has a message")


def forked(way: str) -> dict[str, object]:
    """The child leaves this function in the way that is asked for."""
    pid = os.fork()
    if pid == 0:
        print(f"child {way}")
        _leave(way)
        return {"child": True}
    return {"code": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}


def streamed() -> Iterator[bytes]:
    """The child is forked in the middle of a response, and goes on with it."""
    yield b"before "
    pid = os.fork()
    if pid == 0:
        yield b"child "
        return
    yield f"code {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}".encode()


def at_once(count: str) -> dict[str, object]:
    """Several children that are forked and signalled before they can do anything."""
    pids = [_sleeping_child() for _ in range(int(count))]
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    return {"codes": [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]}


def _sleeping_child() -> int:
    pid = os.fork()
    if pid == 0:
        sleep_for_ever()
    return pid


def child_files() -> dict[str, object]:
    """The descriptors of a forked child, beside those of its parent."""
    read, write = os.pipe()
    child = _context("fork").Process(target=report, args=(write,))
    child.start()
    # Listed after the fork: a thread that watches files may open descriptors at any time, also just before the fork.
    parent = files()
    told = json.loads(os.read(read, 1 << 16))
    child.join()
    os.close(read)
    os.close(write)
    return {"parent": parent, "child": told["files"], "pid": told["pid"]}


def daemon() -> dict[str, object]:
    """A child that outlives its request: it writes its pid and sleeps."""
    pid = os.fork()
    if pid == 0:
        Path("daemon.pid").write_text(str(os.getpid()))
        sleep_for_ever()
    return {"pid": pid, "parent": os.getpid()}


def daemon_process() -> dict[str, object]:
    """The same by multiprocessing, which waits at its parent's end for what is no `daemon`."""
    child = _context("fork").Process(target=sleep_for_ever)
    child.start()
    return {"pid": child.pid, "parent": os.getpid()}


# -- other programs -------------------------------------------------------------------------------------------------


def programs() -> dict[str, object]:
    """What a program that a view starts ignores and blocks, however it is started."""
    shown: dict[str, object] = {"import": AT_IMPORT}
    run = subprocess.run(["sh", "-c", SHOWS_SIGNALS], capture_output=True, text=True, check=True)
    shown["subprocess"] = run.stdout
    preexec = subprocess.run(
        ["sh", "-c", SHOWS_SIGNALS], capture_output=True, text=True, check=True, preexec_fn=os.getpid
    )
    shown["preexec"] = preexec.stdout
    os.system(f"({SHOWS_SIGNALS}) > system.txt")
    shown["system"] = Path("system.txt").read_text()
    actions = [(os.POSIX_SPAWN_OPEN, 1, "spawned.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)]
    os.waitpid(
        os.posix_spawn("/bin/sh", ["sh", "-c", SHOWS_SIGNALS], dict(os.environ), file_actions=actions), 0
    )
    shown["posix_spawn"] = Path("spawned.txt").read_text()
    return shown


def variables() -> dict[str, object]:
    """The environment of a program that a view starts."""
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    return dict(json.loads(shown))


def open_files() -> dict[str, object]:
    """The descriptors that any program gets, started without closing them."""
    os.system("ls -l /proc/self/fd > fds.txt")
    return {"ls": Path("fds.txt").read_text()}


def pid() -> dict[str, object]:
    return {"pid": os.getpid()}


VIEWS: dict[str, Callable[..., dict[str, object]]] = {
    view.__name__: view
    for view in (
        *(terminate, pools, executor, forked, at_once, child_files, daemon, daemon_process, programs, variables),
        *(open_files, pid),
    )
}


def answer(path: str, query: str) -> str:
    arguments = {name: values[0] for name, values in parse_qs(query).items()}
    return json.dumps(VIEWS[path.strip("/")](**arguments))


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path == "/streamed":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return streamed()
    body = answer(path, environ["QUERY_STRING"]).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
