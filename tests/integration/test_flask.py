"""The Flask example through `flask run` and `appsrv start`."""

from __future__ import annotations

import re
import signal
import socket

import pytest

from integration.conftest import Launch
from support.browser import Visitor
from support.reports import reported
from support.server import BIN, COMMAND, Server, Site, free_port
from support.shared_servers import SharedServers
from support.waiting import wait_for

FLASK = str(BIN / "flask")


@pytest.fixture
def project(site: Site) -> Site:
    site.add_project("flask")
    return site


def flask_run(launch: Launch, *options: str, **environment: str) -> Server:
    before = [word for word in options if word == "--debug"]
    port = free_port()
    return launch([FLASK, *before, "run", "--port", str(port)], ("127.0.0.1", port), environment)


COMMANDS = {"flask run": [FLASK, "run", "--port"], "start": [COMMAND, "start", "--port"]}


def start(kind: str, site: Site) -> Server:
    site.add_project("flask")
    port = free_port()
    return Server(site, [*COMMANDS[kind], str(port)], ("127.0.0.1", port))


@pytest.fixture(params=COMMANDS)
def served(request: pytest.FixtureRequest, shared_servers: SharedServers) -> Server:
    """Shared: what visitors leave behind is in its files only."""
    return reported(request, shared_servers.get(request.param, lambda site: start(request.param, site)))


@pytest.fixture
def running(request: pytest.FixtureRequest, shared_servers: SharedServers) -> Server:
    return reported(request, shared_servers.get("flask run", lambda site: start("flask run", site)))


def test_session_and_upload(served: Server) -> None:
    visitor = Visitor(served.address)
    assert visitor.get("/").status == 200
    content = b"\x89PNG not really" * 1000
    reply = visitor.upload("/", {"name": "Ada", "text": "was here"}, "picture.png", content)
    assert reply.status == 302, reply.text
    page = visitor.get("/").text
    assert "Thank you, Ada!" in page
    link = re.search(r'"(/files/[^"?]+picture\.png)', page)
    assert link
    assert visitor.get(link.group(1)).body == content
    served.wait_log("stdout: Ada signed the guest book$")


def test_stream(served: Server) -> None:
    assert served.get("/stream?lines=2").text == "2\n1\nlift-off\n"


def test_flask_run_is_one_process_with_threads(running: Server) -> None:
    assert [worker["threads"] for worker in running.workers()] == [8]


def test_flask_run_takes_lines_as_long_as_the_original(running: Server, project: Site, launch: Launch) -> None:
    long = "x" * 60_000
    fields = {"Cookie": f"a={long}", "Authorization": f"Bearer {long}"}
    original = flask_run(launch, APPSRV_RUNSERVER="0").wait_listening()
    for server in (running, original):
        assert server.get(f"/pid?q={long}", fields).status == 200
        assert server.request("GET", f"/pid?q={long}", body=b"y" * 30_000, headers=fields).status == 200
        beyond = server.get(f"/pid?q={'x' * 70_000}")
        assert beyond.status == 414
        assert ("the setting max_request_line_size of appsrv is 65536" in beyond.text) is (server is running)


def test_flask_run_reloads_with_debug(project: Site, launch: Launch) -> None:
    server = flask_run(launch, "--debug").wait_ready()
    assert server.get("/added").status == 404
    app = project.directory / "app.py"
    project.save("app.py", app.read_text() + '\n\n@app.get("/added")\ndef added() -> str:\n    return "added"\n')
    wait_for(lambda: server.get("/added").status == 200, "the new page", 30)


def test_flask_run_when_the_port_is_taken(project: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = project.run_command([FLASK, "run", "--port", str(taken.getsockname()[1])])
    assert done.returncode == 1
    assert "Address already in use" in done.stdout + done.stderr


def test_flask_run_of_flask_itself(project: Site, launch: Launch) -> None:
    off = flask_run(launch, APPSRV_RUNSERVER="0").wait_listening()
    assert [text for text in off.titles().values() if "appsrv watchdog" in text] == []
    off.stop()
    project.write("requirements.txt", "flask\n")
    without = flask_run(launch).wait_listening()
    assert [text for text in without.titles().values() if "appsrv watchdog" in text] == []
    assert without.get("/pid").status == 200


def test_a_stop_just_after_a_reload_has_begun(project: Site, launch: Launch) -> None:
    """The watchdog hears of the stop before it is asked for the process with the new code, which is waited for."""
    server = flask_run(launch, "--debug").wait_ready()
    server.child.send_signal(signal.SIGSTOP)
    project.save("app.py", (project.directory / "app.py").read_text() + "\nwords = 1\n")
    wait_for(lambda: server.workers()[-1]["generation"] == 2, "the reload")
    server.child.send_signal(signal.SIGTERM)
    server.child.send_signal(signal.SIGCONT)
    assert server.wait_exit() == 0
