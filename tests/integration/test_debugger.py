"""breakpoint() and pdb in a view, on a real terminal, in each of the three ways to develop."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from integration.conftest import Serve
from support.http import Reply
from support.on_terminal import OnTerminal
from support.reports import reported
from support.server import BIN, COMMAND, Server, Site, free_port
from support.shared_servers import SharedServers
from support.waiting import wait_for

VIEW = """
import pdb

def view(path):
    if path == "/break":
        answer = 40
        breakpoint()
        answer += 2
        return f"answer {answer}"
    if path == "/input":
        return "Hello " + input("Your name? ")
    if path == "/set_trace":
        pdb.set_trace()
    print("printed meanwhile")
    return "no debugger"
"""
PROJECTS = {
    "start": {"wsgi.py": VIEW + """
def application(environ, start_response):
    body = view(environ["PATH_INFO"]).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""},
    "flask": {"requirements.txt": "appsrv\n", "app.py": VIEW + """
from flask import Flask
app = Flask(__name__)
app.add_url_rule("/<name>", view_func=lambda name: view(f"/{name}"))
"""},
    "django": {"requirements.txt": "appsrv\n", "manage.py": VIEW + """
import sys
from django.conf import settings
from django.http import HttpResponse
from django.urls import path
settings.configure(
    DEBUG=True, SECRET_KEY="x", ROOT_URLCONF=sys.modules[__name__], ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["appsrv_django"])
urlpatterns = [path("<name>", lambda request, name: HttpResponse(view(f"/{name}")))]
if __name__ == "__main__":
    from django.core.management import execute_from_command_line
    execute_from_command_line(sys.argv)
"""},
}
LIMIT = 2
COMMANDS: dict[str, Callable[[int], list[str]]] = {
    "start": lambda port: [COMMAND, "start", "-e", "development", "--threads", "4", "-p", str(port),
                           "--max-request-time", str(LIMIT)],
    "flask": lambda port: [str(BIN / "flask"), "run", "-p", str(port)],
    "django": lambda port: [sys.executable, "manage.py", "runserver", "--noreload", str(port)],
}


class AtKeyboard(OnTerminal):
    """A server in the foreground of its terminal, as a shell would start it."""

    def _start(self) -> subprocess.Popen[bytes]:
        self.keyboard, theirs = pty.openpty()
        self.screen = ""
        child = subprocess.Popen(
            self.argv, cwd=self.site.directory, env=self.environment, stdin=theirs, stdout=theirs, stderr=theirs,
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        return child

    def reap(self) -> list[str]:
        left = super().reap()
        os.close(self.keyboard)
        return left

    def type(self, text: str) -> None:
        self.screen = self.terminal and ""
        os.write(self.keyboard, text.encode())

    def wait_shown(self, text: str) -> None:
        wait_for(lambda: text in self.terminal, f"{text!r} on the terminal")


def start(kind: str, site: Site) -> AtKeyboard:
    for name, text in PROJECTS[kind].items():
        site.write(name, text)
    port = free_port()
    return AtKeyboard(site, COMMANDS[kind](port), ("127.0.0.1", port))


@pytest.fixture(params=["start", "flask", "django"])
def server(request: pytest.FixtureRequest, shared_servers: SharedServers) -> AtKeyboard:
    """One for all tests in this order, whose screen is empty; the last test ends it."""
    server = shared_servers.get(request.param, lambda site: start(request.param, site))
    assert isinstance(server, AtKeyboard)
    server.type("")
    reported(request, server)
    return server


@pytest.fixture
def visitor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def stopped_at(server: AtKeyboard, visitor: ThreadPoolExecutor, path: str) -> Future[Reply]:
    """A request that waits in the debugger."""
    reply = visitor.submit(server.get, path)
    server.wait_shown("(Pdb) ")
    return reply


def test_a_session(server: AtKeyboard, visitor: ThreadPoolExecutor) -> None:
    reply = stopped_at(server, visitor, "/break")
    assert "-> answer += 2" in server.terminal
    if server.argv[0] == COMMAND:
        wait_for(lambda: server.oldest_request() > LIMIT + 1, "the time of a request that nobody sits in front of")
    server.type("p answer + 1000\n")
    server.wait_shown("1040")
    server.wait_shown("(Pdb) ")
    assert server.get("/other").text == "no debugger", "other requests go on"
    assert "printed meanwhile" not in server.terminal, "and disturb nobody"
    server.type("answer = 100\n")
    server.wait_shown("(Pdb) ")
    server.type("c\n")
    assert reply.result(20).text == "answer 102"
    server.wait_shown("printed meanwhile")


def test_input(server: AtKeyboard, visitor: ThreadPoolExecutor) -> None:
    reply = visitor.submit(server.get, "/input")
    server.wait_shown("Your name? ")
    server.type("Anx\x7fna\n")
    assert reply.result(20).text == "Hello Anna"


def test_ctrl_c_ends_one_request_only(server: AtKeyboard, visitor: ThreadPoolExecutor) -> None:
    """Not the one that waits for the terminal and has it a moment later."""
    first = stopped_at(server, visitor, "/break")
    second = visitor.submit(server.get, "/break")
    wait_for(lambda: server.workers()[0]["sessions"] == 2, "both requests in the worker")
    server.type("\x03")
    assert first.result(20).status == 500
    server.wait_shown("(Pdb) ")
    server.type("p answer + 1000\n")
    server.wait_shown("1040")
    server.type("c\n")
    assert second.result(20).text == "answer 42"


def test_the_end_of_its_worker(server: AtKeyboard, visitor: ThreadPoolExecutor) -> None:
    reply = stopped_at(server, visitor, "/break")
    os.kill(min(server.worker_pids()), signal.SIGKILL)
    assert reply.result(20).status == 502
    wait_for(lambda: os.tcgetpgrp(server.keyboard) == server.pid, "the terminal")
    wait_for(lambda: server.get("/other").status == 200, "another worker")


def test_its_end(server: AtKeyboard, visitor: ThreadPoolExecutor) -> None:
    for path, keys in (("/break", "q\n"), ("/set_trace", "\x04"), ("/set_trace", "\x03")) * 2:
        reply = stopped_at(server, visitor, path)
        server.type(keys)
        assert reply.result(20).status == 500, (path, keys)
        server.wait_shown("BdbQuit")
        server.type("")
    assert os.tcgetpgrp(server.keyboard) == server.pid
    os.write(server.keyboard, b"\x03")
    assert server.child.wait(20) in (0, 130), "now Ctrl-C is the server's again"


def test_without_a_terminal(serve: Serve, site: Site) -> None:
    site.write("wsgi.py", PROJECTS["start"]["wsgi.py"])
    server: Server = serve("wsgi:application", "-e", "development")
    assert server.get("/break").status == 500
    server.wait_log("appsrv: there is no terminal to read from")
    server.wait_log("BdbQuit")
