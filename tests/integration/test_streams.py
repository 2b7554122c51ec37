"""Responses that stream, in development servers: cut at a reload and at Ctrl-C, while all others are finished."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from integration.conftest import Launch
from support.event_source import EventSource
from support.http import Reply
from support.server import BIN, Server, Site, free_port
from support.waiting import wait_for

# What makes the events: `ticking` notices at its next piece that nobody listens, the others never do by themselves;
# of `silent` not even the head has left.
EVENTS = """
import os, threading, time

def hold():
    while not os.path.exists("until"):
        time.sleep(0.002)

def _ticking():
    while True:
        yield f"data: {WORD}\\n\\n"
        time.sleep(0.1)

def _waiting():
    try:
        yield f"data: {WORD}\\n\\n"
        threading.Event().wait()
    finally:
        print("a stream has ended", flush=True)

def _silent():
    threading.Event().wait()
    yield ""

KINDS = {"ticking": _ticking, "waiting": _waiting, "silent": _silent}
WORD = "old"
"""
DJANGO = """
from django.http import HttpResponse, StreamingHttpResponse

def events(request, kind):
    return StreamingHttpResponse(KINDS[kind](), content_type="text/event-stream")

def slow(request):
    hold()
    return HttpResponse(WORD)

def pid(request):
    return HttpResponse(WORD)
"""
FLASK = """
from flask import Flask, Response
app = Flask(__name__)

@app.get("/events/<kind>")
def events(kind):
    return Response(KINDS[kind](), mimetype="text/event-stream")

@app.get("/slow")
def slow():
    hold()
    return WORD

@app.get("/pid")
def pid():
    return WORD
"""
ROUTES = '''
from uploads import events
urlpatterns += [
    path("events/<kind>", events.events), path("slow", events.slow), path("pid", events.pid),
]
'''

Save = Callable[[str], None]


class Project:
    """A project with a stream of events, served; `save` gives the events another word."""

    def __init__(self, site: Site, module: str, framework: str) -> None:
        self._site, self._module, self._text = site, module, EVENTS + framework
        self.save("old")

    def save(self, word: str, more: str = "") -> None:
        # Half of a file would be loaded, too: one generation more.
        self._site.save(self._module, self._text.replace('"old"', f'"{word}"') + more)


@pytest.fixture(params=["runserver", "flask run"])
def project(request: pytest.FixtureRequest, site: Site) -> Project:
    if request.param == "runserver":
        site.add_project("django")
        urls = site.directory / "uploads" / "urls.py"
        urls.write_text(urls.read_text() + ROUTES)
        made = Project(site, "uploads/events.py", DJANGO)
    else:
        site.write("requirements.txt", "appsrv\n")
        made = Project(site, "app.py", FLASK)
    return made


@pytest.fixture(params=["8"])
def served(project: Project, site: Site, launch: Launch, request: pytest.FixtureRequest) -> Server:
    port = free_port()
    django = (site.directory / "manage.py").exists()
    command = [sys.executable, "manage.py", "runserver"] if django else [str(BIN / "flask"), "--debug", "run", "--port"]
    return launch([*command, str(port)], ("127.0.0.1", port), {"APPSRV_THREADS": request.param}).wait_ready()


@pytest.fixture
def listen(served: Server) -> Iterator[Callable[[str], EventSource]]:
    made: list[EventSource] = []

    def one(kind: str) -> EventSource:
        made.append(EventSource(served.address, f"/events/{kind}"))
        return made[-1]

    yield one
    for source in made:
        source.close()


Listen = Callable[[str], EventSource]


def test_events_go_on_with_the_new_code(project: Project, served: Server, listen: Listen) -> None:
    """Each kind of stream is cut, also one that has not begun."""
    sources = [listen("ticking"), listen("waiting")]
    silent = listen("silent")
    wait_for(lambda: all(source.events for source in sources), "the first events")
    wait_for(lambda: served.workers()[0]["sessions"] == 3, "three requests in the worker")
    (old,) = served.worker_pids()
    project.save("new")
    for source in sources:
        wait_for(lambda source=source: source.events[-1] == "new", "an event of the new code")  # type: ignore[misc]
        assert source.refused == 0
        assert set(source.events) == {"old", "new"}
    wait_for(lambda: silent.asked == 2, "another request")
    wait_for(lambda: old not in served.titles(), "the end of the old worker")
    assert "killing" not in served.log()
    assert "died" not in served.log()


def test_ordinary_requests_are_finished(project: Project, served: Server, listen: Listen, site: Site) -> None:
    """One that was being served when the file was saved, beside a stream that is cut."""
    source = listen("waiting")
    wait_for(lambda: source.events, "the first event")
    replies: list[Reply] = []
    client = threading.Thread(target=lambda: replies.append(served.get("/slow")))
    client.start()
    try:
        wait_for(lambda: served.workers()[0]["sessions"] == 2, "both requests in the worker")
        (old,) = served.worker_pids()
        project.save("new")
        wait_for(lambda: "new" in source.events, "the stream of the new code")
    finally:
        site.write("until", "")
        client.join(20)
    assert [(reply.status, reply.text) for reply in replies] == [(200, "old")]
    wait_for(lambda: old not in served.titles(), "the end of the old worker")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_end_does_not_wait_for_streams(served: Server, listen: Listen, signum: signal.Signals) -> None:
    sources = [listen(kind) for kind in ("ticking", "waiting", "silent")]
    wait_for(lambda: served.workers()[0]["sessions"] == len(sources), "the requests in the worker")
    # Requests get 3 s after Ctrl-C and stop_timeout, 30 s, after TERM; then their worker is killed.
    assert served.stop(signum) == 0
    assert "killing worker" not in served.log()


@pytest.mark.parametrize("served", ["1"], indirect=True)
def test_the_only_thread_streams(project: Project, served: Server, listen: Listen) -> None:
    source = listen("waiting")
    wait_for(lambda: source.events, "the first event")
    (old,) = served.worker_pids()
    project.save("new")
    wait_for(lambda: source.events[-1] == "new", "an event of the new code")
    wait_for(lambda: old not in served.titles(), "the end of the old worker")
    assert served.stop(signal.SIGINT) == 0
    assert "killing worker" not in served.log()


EXIT = """
import atexit, sys, appsrv.hooks

@appsrv.hooks.worker_exit
def leaving():
    sys.stdout.write("the hook has run, ")

atexit.register(print, "the exit function too")
"""


def test_what_is_to_run_at_the_end_runs(project: Project, served: Server, listen: Listen, site: Site) -> None:
    """Also where a thread that does not notice that its client has gone is left behind."""
    project.save("new", EXIT)
    wait_for(lambda: len(served.worker_pids()) == 1 and served.group()["generation"] == 2, "the new code", 20)
    served.get("/pid")
    source = listen("waiting")
    wait_for(lambda: source.events, "the first event")
    project.save("newer")
    served.wait_log("the hook has run, the exit function too$")


def test_threads_that_are_all_streaming(project: Project, served: Server, listen: Listen) -> None:
    """A request that waits for one of them delays neither the reload nor, for long, the end."""
    sources = [listen("waiting") for _ in range(8)]
    wait_for(lambda: all(source.events for source in sources), "eight streams")
    project.save("new")
    wait_for(lambda: all(source.events[-1] == "new" for source in sources), "eight new streams", 15)
    one_more = listen("waiting")
    wait_for(lambda: one_more.asked == 1, "the ninth request")
    assert served.stop(signal.SIGINT) == 0


HANDLER = """
import signal, appsrv.hooks

@appsrv.hooks.after_fork
def take_term():
    signal.signal(signal.SIGTERM, HANDLED)
"""


@pytest.mark.parametrize(
    ("project", "handled"),
    [("runserver", "signal.SIG_IGN"), ("flask run", "lambda *_: None")],
    indirect=["project"],
)
def test_an_application_that_handles_term_itself(
    project: Project, served: Server, listen: Listen, handled: str
) -> None:
    handler = HANDLER.replace("HANDLED", handled)
    project.save("with a handler", handler)
    wait_for(lambda: served.get("/pid").text == "with a handler", "the handler", 20)
    source = listen("waiting")
    wait_for(lambda: source.events, "the first event")
    project.save("new", handler)
    wait_for(lambda: source.events[-1] == "new", "an event of the new code")
    assert served.stop(signal.SIGTERM) == 0
    assert "killing worker" not in served.log()
