"""Applications that take the standard streams for their own, and preloaders that end when they are to fork."""

from __future__ import annotations

import contextlib

import pytest

from integration.conftest import Launch, Serve
from support.server import BIN, Site, free_port
from support.waiting import wait_for

REPLACED = """
import os, signal, sys, threading, warnings
class Out:
    def write(self, text): return len(text)
class Broken:
    def write(self, text): raise RuntimeError("cannot write")
    def flush(self): raise RuntimeError("cannot flush")
    writelines = write
kind = {kind!r}
if kind == "no flush":
    sys.stdout = sys.stderr = Out()
elif kind == "none":
    sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = None
elif kind == "closed":
    sys.stdout.close(); sys.stderr.close()
elif kind == "raises":
    sys.stdout = sys.stderr = Broken()
    os.close(0)
def write(*arguments): raise RuntimeError("os.write")
os.write = write
sys.excepthook = threading.excepthook = lambda *arguments: None
signal.signal(signal.SIGTERM, lambda *arguments: None)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
warnings.simplefilter("error")
threading.Thread(target=threading.Event().wait, daemon=True).start()
def application(environ, start_response):
    if environ["PATH_INFO"] == "/fail":
        raise ValueError("on purpose")
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/chld":
        return [signal.getsignal(signal.SIGCHLD).name.encode()]
    return [b"%d" % os.getpid()]
"""


@pytest.mark.parametrize(
    ("kind", "options"),
    [("no flush", []), ("none", ["--threads", "4"]), ("closed", ["--spawn-method", "direct"]), ("raises", [])],
)
def test_what_the_application_makes_of_its_streams(
    serve: Serve, site: Site, kind: str, options: list[str]
) -> None:
    site.write("own.py", REPLACED.format(kind=kind))
    server = serve("own:application", "--access-log", "-", *options)
    first = server.get("/")
    assert first.status == 200
    assert server.get("/fail").status == 500
    assert server.get("/chld").text == "SIG_IGN"
    if kind != "no flush":
        # What cannot be written to the application's stream is in the log all the same.
        server.wait_log("ValueError: on purpose")
    server.wait_log("GET /fail HTTP/1.1")
    assert site.command("restart-app", ".").returncode == 0
    assert server.get("/").text != first.text
    wait_for(lambda: int(first.text) not in server.titles(), "the end of the first worker")
    assert server.stop(seconds=8) == 0
    assert " ended: " not in server.terminal, "those that retire are no deaths"


def test_flask_run_without_streams(site: Site, launch: Launch) -> None:
    site.add_project("flask")
    file = site.directory / "app.py"
    file.write_text(file.read_text() + "\nimport sys\nsys.stdout = sys.stderr = None\n")
    port = free_port()
    server = launch([str(BIN / "flask"), "run", "--debug", "--port", str(port)], ("127.0.0.1", port)).wait_ready()
    assert server.get("/").status == 200
    assert server.stop(seconds=8) == 0


DIES = """
import os, pathlib
os.register_at_fork(before=lambda: os._exit(7))
def application(environ, start_response):
    start_response("200 OK", [])
    return [b"served"]
"""


def test_a_preloader_that_ends_at_each_fork_ends_the_start(site: Site) -> None:
    site.write("dies.py", DIES)
    asked = site.command("start", "dies:application", "--port", str(free_port()))
    assert asked.returncode == 3
    assert "3 preloaders in a row ended before they had forked a worker; the last one: exit code 7" in asked.stderr


def test_a_preloader_that_ends_holds_up_no_stop(serve: Serve, site: Site) -> None:
    site.write("dies.py", DIES)
    server = serve("dies:application", "--min-instances", "0", wait=False).wait_listening()
    with contextlib.closing(server.keep_alive()) as client:
        client.request("GET", "/")
        wait_for(lambda: "ended: exit code 7" in server.terminal, "the end of a preloader")
        server.child.terminate()
        # The request waits for a preloader that forks, and is answered when none does.
        assert client.getresponse().status == 503
    assert server.wait_exit(8) == 0
