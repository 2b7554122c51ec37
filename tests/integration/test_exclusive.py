"""Code that holds what only one process can have, a port or a lock, from its import to its end: saves and restarts."""

from __future__ import annotations

import subprocess
import sys
import threading
from functools import partial

import pytest

from integration.conftest import Launch, Serve
from support.http import send
from support.load import Load
from support.server import BIN, Server, Site, free_port
from support.waiting import wait_for

PORT = """
import socket
held = socket.socket()
held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
held.bind(("127.0.0.1", PORT))
held.listen()
"""
LOCK = """
import fcntl
held = open("lock", "a")
fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
"""
PID_FILE = """
import atexit, os
os.close(os.open("one.pid", os.O_CREAT | os.O_EXCL))
atexit.register(os.unlink, os.path.abspath("one.pid"))
"""
# Each import leaves a line in `imports`. The end of a process takes a while, as with exit functions, or until the next
# import: what is loaded beside it always finds it there.
SLOW_END = """
import atexit, os, time
IMPORTS = os.path.abspath("imports")
MINE = os.path.getsize(IMPORTS)
WORD = "WORD-HERE"

def end():
    deadline = time.monotonic() + 0.5
    while os.path.getsize(IMPORTS) == MINE and time.monotonic() < deadline:
        time.sleep(0.02)

atexit.register(end)
"""
FLASK = """
import os, time
from flask import Flask
import words
app = Flask(__name__)

@app.get("/word")
def word():
    return words.WORD

@app.get("/slow")
def slow():
    open("slow", "w").close()
    while not os.path.exists("go"):
        time.sleep(0.02)
    return words.WORD
"""
DJANGO = """
from django.http import HttpResponse
import words

def word(request):
    return HttpResponse(words.WORD)
"""
ROUTES = "\nfrom uploads import word\nurlpatterns += [path('word', word.word)]\n"


class Saved:
    """The module `words`, which takes something while it is imported."""

    def __init__(self, site: Site, takes: str) -> None:
        self._site = site
        begin = "with open('imports', 'a') as file:\n    file.write('-')\n"
        self._source = begin + takes.replace("PORT", str(free_port())) + SLOW_END

    def save(self, word: str) -> None:
        # Python takes a compiled file for current if size and whole second of its source are the same.
        self._source += "#"
        self._site.save("words.py", self._source.replace("WORD-HERE", word))


def develop(site: Site, launch: Launch, framework: str, workers: str) -> Server:
    if framework == "django":
        site.add_project("django")
        urls = site.directory / "uploads" / "urls.py"
        urls.write_text(urls.read_text() + ROUTES)
        site.write("uploads/word.py", DJANGO)
        argv = [sys.executable, "manage.py", "runserver"]
    else:
        site.write("requirements.txt", "appsrv\n")
        site.write("app.py", FLASK)
        argv = [str(BIN / "flask"), "--debug", "run", "--port"]
    port = free_port()
    environment = {"APPSRV_MAX_POOL_SIZE": workers}
    return launch([*argv, str(port)], ("127.0.0.1", port), environment).wait_ready()


@pytest.mark.parametrize(
    ("framework", "workers", "takes"),
    [("django", "1", PORT), ("flask", "1", LOCK), ("flask", "2", PORT), ("django", "2", PID_FILE)],
    ids=["runserver port", "flask run lock", "flask run with two workers port", "runserver with two workers pid file"],
)
def test_each_save_is_served(site: Site, launch: Launch, framework: str, workers: str, takes: str) -> None:
    words = Saved(site, takes)
    words.save("one")
    server = develop(site, launch, framework, workers)
    with Load(server.address, 2, "/word") as load:
        for word in ("two", "three"):
            words.save(word)
            wait_for(lambda: load.answers[word] or load.failures, f"the saved {word!r}", 30)  # noqa: B023
    assert load.failures == [], "every request waits for the new code"


def test_a_load_that_a_long_request_stood_in_the_way_of_is_tried_again(site: Site, launch: Launch) -> None:
    words = Saved(site, PORT)
    words.save("one")
    server = develop(site, launch, "flask", "1")
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(server.get("/slow").text))
    asking.start()
    wait_for(lambda: (site.directory / "slow").exists(), "the long request", 15)
    words.save("two")
    wait_for(lambda: "Address already in use" in server.get("/word").text, "the page about the failure", 30)
    site.write("go", "")
    wait_for(lambda: server.get("/word").text == "two", "the saved code", 30)
    asking.join(15)
    assert answers == ["one"]


WSGI = """
import words

def application(environ, start_response):
    start_response("200 OK", [("Content-Length", str(len(words.WORD)))])
    return [words.WORD.encode()]
"""


@pytest.mark.parametrize("method", ["smart", "direct"])
def test_a_restart_in_production_names_the_address_and_the_way_out(serve: Serve, site: Site, method: str) -> None:
    port = free_port()
    words = Saved(site, PORT.replace("PORT", str(port)))
    words.save("one")
    site.write("app.py", WSGI)
    server = serve("app:application", "--max-pool-size", "1", "--spawn-method", method)
    words.save("two")
    done = site.command("restart-app", ".")
    assert (done.returncode, server.get("/").text) == (1, "one")
    assert f"the code that serves listens on 127.0.0.1:{port}" in done.stderr
    assert "--stop-first" in done.stderr
    server.wait_log(f"cannot be loaded: .*listens on 127.0.0.1:{port}: .*--stop-first")
    with Load(server.address, 3) as load:
        wait_for(lambda: load.answers["one"], "the code before", 15)
        restarted = site.command("restart-app", ".", "--stop-first")
        wait_for(lambda: load.answers["two"], "the new code", 15)
    assert (restarted.returncode, restarted.stderr) == (0, "")
    assert load.failures == [], "requests wait in the queue"
    assert not server.group()["resisting"]
    assert server.group()["state"] == "running"


@pytest.mark.parametrize("method", ["smart", "direct"])
def test_new_code_that_fails_once_the_code_before_was_stopped(serve: Serve, site: Site, method: str) -> None:
    words = Saved(site, LOCK)
    words.save("one")
    site.write("app.py", WSGI)
    server = serve("app:application", "--max-pool-size", "1", "--spawn-method", method)
    words.save("two")
    locked = site.command("restart-app", ".")
    assert "Resource temporarily unavailable" in locked.stderr
    assert "--stop-first" in locked.stderr
    site.save("words.py", "import module_that_is_not_there\n")
    done: subprocess.CompletedProcess[str] = site.command("restart-app", ".", "--stop-first")
    assert done.returncode == 1
    assert "its previous code was stopped, its requests are answered 503, and it is tried again" in done.stderr
    assert "module_that_is_not_there" in done.stderr
    assert server.get("/").status == 503
    assert not server.group()["resisting"], "no code serves"
    assert "module_that_is_not_there" in server.group()["last_error"]["message"]
    words.save("three")
    wait_for(lambda: server.get("/").text == "three", "the next try", 30)
    bad = send(server.admin_socket(), "POST", "/restart", b'{"prefix": "/", "stop_first": 1}')
    assert bad.status == 400


def new_worker(server: Server, before: set[int]) -> set[int]:
    return server.worker_pids() - before


def test_an_idle_worker_lets_go_before_a_save_is_loaded(site: Site, launch: Launch) -> None:
    """Its threads wait for requests, and a signal reaches one of them only."""
    site.add_project("flask")
    file = site.directory / "app.py"
    source = file.read_text() + PORT.replace("PORT", str(free_port()))
    file.write_text(source)
    port = free_port()
    server = launch([str(BIN / "flask"), "run", "--debug", "--port", str(port)], ("127.0.0.1", port)).wait_ready()
    for number in range(3):
        before = server.worker_pids()
        file.write_text(f"{source}\n# {number}\n")
        wait_for(partial(new_worker, server, before), "a worker of the new code")
    assert "Address already in use" not in server.log()
    assert "again" not in server.log()
