"""On a terminal in development, what the application prints is seen as it comes, also lines without an end."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from support.on_terminal import OnTerminal
from support.server import BIN, Site, free_port
from support.waiting import wait_for

DJANGO = """
import sys
from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpResponse
from django.urls import re_path
from shown import answer

urlpatterns = [re_path("(.*)", lambda request, path: HttpResponse(answer(path)))]
if __name__ == "__main__":
    settings.configure(DEBUG=True, ROOT_URLCONF="manage", INSTALLED_APPS=["appsrv_django"], ALLOWED_HOSTS=["*"])
    sys.modules["manage"] = sys.modules["__main__"]
    execute_from_command_line(sys.argv)
"""
FLASK = """
from flask import Flask
from shown import answer

app = Flask(__name__)
app.add_url_rule("/<path>", "any", answer)
"""
# Each view goes on when a file of the name appears that it waits for.
SHOWN = """
import os
import sys
import time


def wait(name):
    deadline = time.monotonic() + 20
    while not os.path.exists(name) and time.monotonic() < deadline:
        time.sleep(0.01)


def answer(path):
    if path == "bar":
        for state in ("10", "50"):
            sys.stderr.write(f"\\r{state}%|###   |")
            sys.stderr.flush()
            wait(state)
        sys.stderr.write("\\r100%|######|\\n")
    elif path == "dots":
        print("load", end="", flush=True)
        wait("dots")
        print("ed", flush=True)
    elif path == "returns":
        # Python flushes a terminal at a carriage return.
        print("state one", end="\\r")
        wait("returns")
        print("state two")
    else:
        print(f"line {path}")
    return path
"""


class OnTerminalOfDevelopment(OnTerminal):
    def go_on(self, name: str) -> None:
        (self.site.directory / name).touch()

    def sees(self, text: str) -> None:
        wait_for(lambda: text in self.terminal, f"{text!r} on the terminal:\n{self.screen!r}")


@pytest.fixture(params=["django", "flask"])
def server(request: pytest.FixtureRequest, site: Site) -> Iterator[OnTerminalOfDevelopment]:
    pytest.importorskip(request.param)
    site.write("shown.py", SHOWN)
    port = free_port()
    if request.param == "django":
        site.write("manage.py", DJANGO)
        argv = [sys.executable, "manage.py", "runserver", "--noreload", str(port)]
    else:
        site.write("app.py", FLASK)
        site.write("requirements.txt", "flask\nappsrv\n")
        argv = [str(BIN / "flask"), "run", "--port", str(port)]
    environment = {"APPSRV_MAX_POOL_SIZE": "2", "APPSRV_MIN_INSTANCES": "2"}
    server = OnTerminalOfDevelopment(site, argv, ("127.0.0.1", port), environment)
    server.wait_ready()
    yield server
    left = server.reap()
    os.close(server.keyboard)
    assert left == []


def in_background(ask: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=ask)
    thread.start()
    return thread


def test_what_is_printed_is_seen_at_once(server: OnTerminalOfDevelopment) -> None:
    visitor = in_background(lambda: server.get("/bar"))
    server.sees("10%|###   |")
    server.go_on("10")
    server.sees("50%|###   |")
    assert "100%" not in server.screen
    assert server.get("/other").status == 200
    server.sees("line other")
    wait_for(lambda: "50%" in server.terminal.rpartition("line other")[2], "the bar again, below the line")
    server.go_on("50")
    visitor.join()
    server.sees("100%|######|")
    server.wait_log(r"stderr: 100%\|######\|$")
    assert "10%|###" not in server.log().replace("100%", ""), "the log has the last state alone"
    visitor = in_background(lambda: server.get("/dots"))
    server.sees("load")
    assert "loaded" not in server.screen
    server.go_on("dots")
    visitor.join()
    server.sees("loaded")
    server.wait_log("stdout: loaded$")
    visitor = in_background(lambda: server.get("/returns"))
    server.sees("state one")
    server.go_on("returns")
    visitor.join()
    server.sees("state two")
    server.wait_log("stdout: state two$")
