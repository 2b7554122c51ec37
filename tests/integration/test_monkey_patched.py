"""Applications that monkey-patch the standard library themselves, whatever appsrv's concurrency model is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from integration.conftest import Launch, Serve
from support.event_source import EventSource
from support.server import BIN, Server, Site, free_port
from support.waiting import wait_for

APP = """
from gevent import monkey
monkey.patch_all()
import threading, time
from flask import Flask, Response
app = Flask(__name__)
here = threading.Condition()
waiting = 0

@app.get("/")
def index():
    return "VERSION"

@app.get("/together/<int:count>")
def together(count):
    global waiting
    with here:
        waiting += 1
        here.notify_all()
        assert here.wait_for(lambda: waiting >= count, 15)
    time.sleep(0.01)
    return "all"

@app.get("/stream")
def stream():
    def events():
        while True:
            yield "data: x\\n\\n"
            time.sleep(0.05)
    return Response(events(), mimetype="text/event-stream")
"""


def together(server: Server, count: int) -> list[str]:
    """The answers to so many requests of which each waits in a view until all are in theirs."""
    with ThreadPoolExecutor(count) as clients:
        answers = [clients.submit(server.get, f"/together/{count}") for _ in range(count)]
        return [answer.result(30).text for answer in answers]


def test_flask_run_with_debug_and_a_save(site: Site, launch: Launch) -> None:
    site.add_project("flask")
    site.write("app.py", APP)
    port = free_port()
    server = launch([str(BIN / "flask"), "run", "--debug", "--port", str(port)], ("127.0.0.1", port)).wait_ready()
    assert server.workers()[0]["threads"] > 20
    assert together(server, 20) == ["all"] * 20, "more than threads says: the framework's own server has no limit"
    first = EventSource(server.address, "/stream")
    site.save("app.py", APP.replace("VERSION", "saved"))
    wait_for(lambda: server.get("/").text == "saved", "the new code")
    assert together(server, 12) == ["all"] * 12
    assert server.stop(seconds=8) == 0
    first.close()


def test_threads_in_production(serve: Serve, site: Site) -> None:
    site.write("patched.py", APP)
    server = serve("patched:app", "--threads", "4", "--max-pool-size", "1", "--slow-request-time", "0.3")
    server.wait_log("monkey-patched the standard library with gevent: .* 4 at a time")
    assert together(server, 4) == ["all"] * 4
    with closing(server.keep_alive()) as waiting:
        waiting.request("GET", "/together/6")
        server.wait_log(r"patched\.py.*in together")
        assert server.get("/together/6").text == "all"
    assert server.stop(seconds=8) == 0


PARTLY = APP.replace("monkey.patch_all()", "monkey.patch_all(thread=False)")


def test_threads_that_stay_threads(serve: Serve, site: Site) -> None:
    site.write("patched.py", PARTLY)
    server = serve("patched:app", "--threads", "4", "--max-pool-size", "1")
    assert together(server, 4) == ["all"] * 4
    assert "monkey-patched" not in server.log()
    assert server.stop(seconds=8) == 0
