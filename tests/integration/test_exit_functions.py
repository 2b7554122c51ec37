"""Exit functions of an application: which process runs them, and when."""

from __future__ import annotations

import os
import re
import signal
import threading
from pathlib import Path

import pytest

from integration.conftest import Serve
from support.server import Server, Site
from support.waiting import wait_for

APP = """
import atexit, logging, multiprocessing, os, signal, subprocess, tempfile, time
shared = tempfile.TemporaryDirectory(prefix="shared-", dir=os.getcwd())
importer = os.getpid()
def note(what):
    time.sleep(0.2)
    # What an exit function starts can be ended.
    if subprocess.call(["sh", "-c", "kill -TERM $$"]) != -signal.SIGTERM:
        what = f"with SIGTERM ignored: {what}"
    fd = os.open("ends.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{what} {os.getpid()}\\n".encode())
    os.close(fd)
def sleep(sleeps):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sleeps.set()
    time.sleep(600)
atexit.register(note, "import")
manager = multiprocessing.Manager() if MANAGER else None
numbers = manager.list([1]) if MANAGER else [1]
def application(environ, start_response):
    if environ["PATH_INFO"] == "/register":
        global own
        own = tempfile.TemporaryDirectory(prefix="own-", dir=os.getcwd())
        atexit.register(note, "worker")
        atexit.register(multiprocessing.active_children)
        global child
        sleeps = multiprocessing.Event()
        child = multiprocessing.Process(target=sleep, args=(sleeps,), daemon=True)
        child.start()
        sleeps.wait()
    if environ["PATH_INFO"] == "/slow":
        while not os.path.exists("go"):
            time.sleep(0.02)
    start_response("200 OK", [])
    return [f"{os.getpid()} {importer} {list(numbers)} {os.path.isdir(shared.name)}".encode()]
"""


def ends(site: Site) -> list[str]:
    file = site.directory / "ends.txt"
    return file.read_text().splitlines() if file.exists() else []


def left(site: Site, kind: str) -> list[Path]:
    return list(site.directory.glob(f"{kind}-*"))


def numbers_of(server: Server, target: str = "/") -> tuple[int, int]:
    """The pids of the worker and of the process that has imported the application; what all share is there."""
    worker, importer, rest = server.get(target).text.split(" ", 2)
    assert rest == "[1] True"
    return int(worker), int(importer)


@pytest.mark.parametrize("options", [["--threads", "2"], ["--concurrency-model", "gevent"]])
def test_each_runs_once_in_the_process_that_registered_it(serve: Serve, site: Site, options: list[str]) -> None:
    site.write("exits.py", APP.replace("MANAGER", str("gevent" not in options)))
    server = serve("exits:application", "--max-pool-size", "1", *options)
    worker, importer = numbers_of(server, "/register")
    (directory,) = left(site, "shared")
    assert len(left(site, "own")) == 1
    # The first worker retires: what it has registered runs, and the others keep what they use.
    os.kill(worker, signal.SIGTERM)
    wait_for(lambda: ends(site), "the end of the first worker")
    wait_for(lambda: worker not in server.titles(), "its process to be gone")
    assert (ends(site), left(site, "own"), left(site, "shared")) == ([f"worker {worker}"], [], [directory])
    assert numbers_of(server)[1] == importer

    # A restart: the last worker of the generation is busy, and its preloader ends after it.
    answers: list[tuple[int, int]] = []
    client = threading.Thread(target=lambda: answers.append(numbers_of(server, "/slow")))
    client.start()
    wait_for(lambda: server.oldest_request() > 0, "the request")
    assert site.command("restart-app", ".").returncode == 0
    assert importer in server.titles()
    assert directory in left(site, "shared")
    site.write("go", "")
    client.join(20)
    assert answers
    wait_for(lambda: importer not in server.titles(), "the end of the old preloader")
    assert ends(site) == [f"worker {worker}", f"import {importer}"]
    assert directory not in left(site, "shared")

    _, importer = numbers_of(server)
    assert server.stop() == 0
    assert ends(site)[2:] == [f"import {importer}"]
    assert left(site, "shared") == []
    assert " ended: " not in server.terminal


def test_spawned_directly_the_process_is_both(serve: Serve, site: Site) -> None:
    site.write("exits.py", APP.replace("MANAGER", "True"))
    server = serve("exits:application", "--spawn-method", "direct", "--max-pool-size", "1")
    worker, importer = numbers_of(server, "/register")
    assert worker == importer
    assert server.stop() == 0
    assert (ends(site), left(site, "own"), left(site, "shared")) == ([f"worker {worker}", f"import {worker}"], [], [])


HANGS = """
import atexit, os, time
if not os.path.exists("mended"):
    atexit.register(lambda: time.sleep(600))
    if os.path.exists("broken"):
        raise RuntimeError("broken")
def application(environ, start_response):
    start_response("200 OK", [])
    return [f"{os.getpid()} {os.getppid()} [1] True".encode()]
"""


def test_one_that_hangs_does_not_keep_the_preloader_after_a_restart(serve: Serve, site: Site) -> None:
    site.write("hangs.py", HANGS)
    server = serve("hangs:application", "--max-pool-size", "1", "--stop-timeout", "1")
    _, old = numbers_of(server)
    assert site.command("restart-app", ".").returncode == 0
    line = rf"killing the preloader {old} of \S+: .* within 2 s \(stop_timeout\); .*\(atexit\)"
    server.wait_log(line)
    wait_for(lambda: old not in server.titles(), "the end of the old preloader")
    assert len(re.findall(line, server.log())) == 1
    _, importer = numbers_of(server)

    # The same in a process that could not import the application.
    site.write("broken", "")
    assert site.command("restart-app", ".").returncode != 0
    failed = int(server.wait_log(rf"killing the preloader (?!{old} )(\d+) ")[1])
    assert failed != importer
    wait_for(lambda: failed not in server.titles(), "the end of the preloader that has failed")
    assert numbers_of(server)[1] == importer
