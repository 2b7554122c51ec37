"""What the application starts from a worker: children by fork, in every way of Python's, and other programs."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from integration.conftest import Launch, Serve, app_command
from support.processes import alive_pid
from support.reports import reported
from support.server import BIN, COMMAND, Server, Site, free_port
from support.shared_servers import SharedServers
from support.waiting import wait_for

MODELS = {
    "process": ("--max-pool-size", "1"),
    "thread": ("--max-pool-size", "1", "--threads", "4"),
    "gevent": ("--max-pool-size", "1", "--concurrency-model", "gevent"),
}
FLASK = """
import forking
from flask import Flask, request
app = Flask(__name__)

@app.get("/<view>")
def view(view):
    return forking.answer(view, request.query_string.decode())
"""
DJANGO = """
import forking
from django.http import HttpResponse
from django.urls import path

def view(request, view):
    return HttpResponse(forking.answer(view, request.META["QUERY_STRING"]))

urlpatterns += [path("<str:view>", view)]
"""
# Beside what an interpreter ignores (PIPE and XFSZ, which `subprocess` restores) and what the C library blocks of them.
OURS = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM, signal.SIGTTIN, signal.SIGTTOU, signal.SIGTSTP)
MASK = re.compile(r"^Sig(?:Ign|Blk):\s*([0-9a-f]{16})$", re.MULTILINE)


def start(kind: str, site: Site) -> Server:
    """The application `forking` in one of the ways to serve it."""
    if kind in MODELS:
        return Server(site, *app_command(site, "forking", "auto", MODELS[kind]))
    site.add_app("forking")
    port = free_port()
    if kind == "flask run":
        site.write("requirements.txt", "appsrv\n")
        site.write("app.py", FLASK)
        command = [str(BIN / "flask"), "run", "--port", str(port)]
    else:
        site.add_project("django")
        urls = site.directory / "uploads" / "urls.py"
        urls.write_text(urls.read_text() + DJANGO)
        command = [sys.executable, "manage.py", "runserver", str(port)]
    return Server(site, command, ("127.0.0.1", port))


@pytest.fixture(params=[*MODELS, "flask run", "runserver"])
def served(request: pytest.FixtureRequest, shared_servers: SharedServers) -> Server:
    """Shared, since the children that come and go are no state of the server."""
    return reported(request, shared_servers.get(request.param, lambda site: start(request.param, site)))


@pytest.fixture
def model(request: pytest.FixtureRequest) -> str:
    """The parameter of `served`."""
    return str(request.node.callspec.params["served"])


def test_children_end_as_those_of_any_program(served: Server, model: str) -> None:
    """By a signal, by their own end, and by returning from the view; never by going on as a worker."""
    workers = served.worker_pids()
    # gevent has its own fork, and loses the ends of all others (its libev waits for all children).
    kinds = ("fork",) if model == "gevent" else ("fork", "forkserver", "spawn")
    for kind in kinds:
        assert served.get(f"/terminate?kind={kind}").json == {"exitcode": -signal.SIGTERM}
        assert served.get(f"/executor?kind={kind}").json == {"sum": 285}
    if model != "gevent":
        # It reads from pipes in threads, which are greenlets there: no pool of multiprocessing works with gevent.
        assert served.get("/pools?kind=fork").json == {"sums": [285] * 5}
    assert served.get("/at_once?count=5").json == {"codes": [-signal.SIGTERM] * 5}
    ends = {way: served.get(f"/forked?way={way}") for way in ("exit", "raise", "message", "return")}
    assert {way: reply.json for way, reply in ends.items()} == {
        "exit": {"code": 3}, "raise": {"code": 1}, "message": {"code": 1}, "return": {"code": 0}
    }
    log = served.wait_log("RuntimeError: the child failed$").string
    assert re.search("stderr: the child has a message$", log, re.MULTILINE)
    for way in ends:
        assert len(re.findall(rf"stdout: child {way}$", log, re.MULTILINE)) == 1
    assert served.worker_pids() == workers
    assert [title for title in served.titles().values() if title.startswith("appsrv child")] == []


def test_a_child_that_is_forked_in_the_middle_of_a_response(serve: Serve) -> None:
    server = serve("forking", *MODELS["thread"])
    assert server.get("/streamed").text == "before code 0"


AT_IMPORT = """
import os, sys

def forked(way):
    pid = os.fork()
    if pid == 0:
        if way == "exit":
            sys.exit(3)
        if way == "raise":
            raise RuntimeError("the child failed at import")
        return "child"
    return str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

CODES = []
for way in ("exit", "raise", "return"):
    CODES.append(forked(way))
    if CODES[-1] == "child":
        break

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [" ".join(CODES).encode()]
"""


def test_children_that_are_forked_at_import_are_no_preloaders(serve: Serve, site: Site) -> None:
    site.write("importing.py", AT_IMPORT)
    server = serve("importing:application")
    assert server.get("/").text == "3 1 0"
    server.wait_log("RuntimeError: the child failed at import$")


def test_programs_ignore_and_block_no_signal(served: Server) -> None:
    shown = served.get("/programs").json
    assert sorted(shown) == ["import", "posix_spawn", "preexec", "subprocess", "system"]
    before = masks(Path("/proc/self/status").read_text())
    for way, text in shown.items():
        for mask, inherited in zip(masks(text), before, strict=True):
            assert [number for number in OURS if mask & ~inherited & 1 << number - 1] == [], way
    told = served.get("/variables").json
    assert {name for name in told if name.startswith("APPSRV_")} - set(served.environment) == {"APPSRV_ENV"}
    # Neither do any of these end or stop the worker itself.
    for number in set(OURS) - {signal.SIGTERM, signal.SIGTSTP}:
        os.kill(next(iter(served.worker_pids())), number)
    assert served.get("/pid").json == {"pid": next(iter(served.worker_pids()))}


def masks(status: str) -> tuple[int, int]:
    """(blocked, ignored), as proc(5) shows it."""
    blocked, ignored = MASK.findall(status)
    return int(blocked, 16), int(ignored, 16)


def test_a_child_holds_nothing_of_its_parents(served: Server) -> None:
    """Neither its connections nor what leads to the server."""
    with closing(served.keep_alive()) as connection:
        # Kept by the worker for its next request.
        assert connection.exchange("GET", "/pid").status == 200
        files = served.get("/child_files").json
    parents, childs = (list(files[name].values()) for name in ("parent", "child"))
    assert [target for target in childs if target.startswith("socket:")] == []
    # The event loop of gevent, and what watches files, may have one.
    assert childs.count("anon_inode:[eventpoll]") < parents.count("anon_inode:[eventpoll]")


def test_a_child_that_lives_on_holds_nothing_up(served: Server) -> None:
    workers = served.worker_pids()
    child = served.get("/daemon").json
    process = psutil.Process(child["pid"])
    wait_for(lambda: (served.site.directory / "daemon.pid").exists(), "the child")
    try:
        assert served.titles()[child["pid"]].startswith("appsrv child ")
        assert served.get("/pid").json["pid"] in workers
        assert served.worker_pids() == workers
        assert served.stop(seconds=8) == 0
        # It is the application's: who stops a server that is no part of it leaves it alone, as the originals do.
        assert alive_pid(child["pid"])
    finally:
        process.terminate()
        wait_for(lambda: not alive_pid(child["pid"]), "the end of the child by TERM")

COMMANDS = """
import subprocess, sys
from django.http import JsonResponse
from django.urls import path

def command(request, arguments):
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments.split(",")], capture_output=True, text=True, timeout=30
    )
    return JsonResponse([done.returncode, done.stdout, done.stderr], safe=False)

urlpatterns += [path("command/<str:arguments>", command)]
"""


@pytest.mark.parametrize("command", [[sys.executable, "manage.py", "runserver"], [COMMAND, "start", "--port"]])
def test_management_commands_that_a_view_runs_are_those_of_django(
    site: Site, launch: Launch, command: list[str]
) -> None:
    site.add_project("django")
    urls = site.directory / "uploads" / "urls.py"
    urls.write_text(urls.read_text() + COMMANDS)
    port = free_port()
    server = launch([*command, str(port)], ("127.0.0.1", port)).wait_ready()
    code, out, error = json.loads(server.get("/command/check").body)
    assert (code, out, error) == (0, "System check identified no issues (0 silenced).\n", "")
    code, out, error = json.loads(server.get("/command/shell,-c,print(40+2)").body)
    assert (code, out.splitlines()[-1], error) == (0, "42", "")
