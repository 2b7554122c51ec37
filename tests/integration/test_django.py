"""The Django example through `manage.py runserver` and `appsrv start`: as its users and developers meet it."""

from __future__ import annotations

import re
import signal
import sys

import pytest

from integration.conftest import Launch
from support.browser import Visitor
from support.reports import reported
from support.server import COMMAND, Server, Site, free_port
from support.shared_servers import SharedServers
from support.waiting import wait_for

MANAGE = [sys.executable, "manage.py"]


@pytest.fixture
def project(site: Site) -> Site:
    site.add_project("django")
    return site


def run_server(launch: Launch, *options: str, **environment: str) -> Server:
    port = free_port()
    return launch([*MANAGE, "runserver", *options, str(port)], ("127.0.0.1", port), environment)


COMMANDS = {"runserver": [*MANAGE, "runserver"], "start": [COMMAND, "start", "--port"]}


def start(kind: str, site: Site) -> Server:
    site.add_project("django")
    done = site.run_command([*MANAGE, "demo"])
    assert done.returncode == 0, done.stderr
    port = free_port()
    return Server(site, [*COMMANDS[kind], str(port)], ("127.0.0.1", port))


@pytest.fixture(params=COMMANDS)
def served(request: pytest.FixtureRequest, shared_servers: SharedServers) -> Server:
    """Shared: what visitors leave behind is in its database only."""
    return reported(request, shared_servers.get(request.param, lambda site: start(request.param, site)))


@pytest.fixture
def runserver(request: pytest.FixtureRequest, shared_servers: SharedServers) -> Server:
    return reported(request, shared_servers.get("runserver", lambda site: start("runserver", site)))


def log_in(visitor: Visitor) -> None:
    form = visitor.token("/admin/login/")
    reply = visitor.post("/admin/login/?next=/admin/", {**form, "username": "demo", "password": "demo"})
    assert (reply.status, reply.headers["Location"]) == (302, "/admin/")


def test_admin_login(served: Server) -> None:
    visitor = Visitor(served.address)
    assert visitor.get("/admin/").status == 302
    log_in(visitor)
    page = visitor.get("/admin/")
    assert page.status == 200
    assert "Log out" in page.text


def test_upload_and_download(served: Server) -> None:
    visitor = Visitor(served.address)
    content = bytes(range(256)) * 8192
    reply = visitor.upload("/", {**visitor.token("/"), "title": "Two MiB", "note": ""}, "two.bin", content)
    assert reply.status == 302, reply.text
    link = re.search(r'href="(/files/\d+/)">Two MiB', visitor.get("/").text)
    assert link
    download = visitor.get(link.group(1))
    assert download.body == content
    assert 'filename="two.bin"' in download.headers["Content-Disposition"]
    served.wait_log("stdout: received two.bin, 2097152 bytes$")


def test_static_files_and_stream(served: Server) -> None:
    css = served.get("/static/uploads/drawer.css")
    assert (css.status, css.headers["Content-Type"].partition(";")[0]) == (200, "text/css")
    assert served.get("/static/admin/css/base.css").status == 200
    assert served.get("/numbers/").text.split() == [str(number) for number in range(1, 11)]


def test_collected_static_files(project: Site, launch: Launch) -> None:
    done = project.run_command([*MANAGE, "collectstatic", "--noinput"])
    assert done.returncode == 0, done.stderr
    port = free_port()
    argv = [COMMAND, "start", "--port", str(port)]
    server = launch(argv, ("127.0.0.1", port), {"DJANGO_DEBUG": "0"}).wait_ready()
    css = server.get("/static/uploads/drawer.css", {"Range": "bytes=0-3"})
    assert (css.status, len(css.body), css.headers["Cache-Control"]) == (206, 4, "max-age=60, public")
    assert server.get("/static/admin/css/base.css", {"If-None-Match": css.headers["ETag"]}).status == 200
    assert server.get("/static/uploads/drawer.css", {"If-None-Match": css.headers["ETag"]}).status == 304
    assert (server.get("/static/").status, server.get("/static/../manage.py").status) == (404, 404)


def test_runserver_is_one_process_with_threads(runserver: Server) -> None:
    assert [worker["threads"] for worker in runserver.workers()] == [8]


def test_runserver_twice(runserver: Server) -> None:
    assert isinstance(runserver.address, tuple)
    again = runserver.site.run_command([*MANAGE, "runserver", str(runserver.address[1])])
    assert again.returncode == 1
    assert "Error: That port is already in use." in again.stdout + again.stderr
    assert runserver.get("/pid/").status == 200


def test_runserver_takes_lines_as_long_as_the_original(runserver: Server, project: Site, launch: Launch) -> None:
    long = "x" * 60_000
    fields = {"Cookie": f"a={long}", "Authorization": f"Bearer {long}"}
    original = run_server(launch, APPSRV_RUNSERVER="0").wait_listening()
    for server in (runserver, original):
        assert server.get(f"/pid/?q={long}", fields).status == 200
        assert server.request("GET", f"/pid/?q={long}", body=b"y" * 30_000, headers=fields).status == 200
        beyond = server.get(f"/pid/?q={'x' * 70_000}")
        assert beyond.status == 414
        assert ("the setting max_request_line_size of appsrv is 65536" in beyond.text) is (server is runserver)


def test_runserver_reloads_and_outlives_broken_code(project: Site, launch: Launch) -> None:
    server = run_server(launch).wait_ready()
    urls, views = (project.directory / "uploads" / name for name in ("urls.py", "views.py"))
    assert server.get("/added/").status == 404
    added = 'path("added/", views.pid, name="added"),\n]'
    project.save("uploads/urls.py", urls.read_text().replace("]\n", f"    {added}\n"))
    wait_for(lambda: server.get("/added/").status == 200, "the new page", 30)
    good = views.read_text()
    project.save("uploads/views.py", "this is no Python\n" + good)
    wait_for(lambda: server.get("/pid/").status == 500, "the error page", 30)
    assert "SyntaxError" in server.get("/pid/").text
    project.save("uploads/views.py", good)
    wait_for(lambda: server.get("/pid/").status == 200, "the page, again", 30)
    assert server.stop(signal.SIGTERM) == 0


def test_a_restart_with_broken_views_leaves_the_old_ones_serving(project: Site, launch: Launch) -> None:
    """Django imports the views of a project with the first request only."""
    port = free_port()
    server = launch([COMMAND, "start", "--port", str(port)], ("127.0.0.1", port)).wait_ready()
    views = project.directory / "uploads" / "views.py"
    views.write_text("this is no Python\n" + views.read_text())
    done = project.command("restart-app", ".")
    assert done.returncode == 1
    assert "the URLconf cannot be imported: SyntaxError" in done.stderr
    assert "this is no Python" in done.stderr
    assert server.get("/pid/").status == 200


def test_runserver_of_django_itself(project: Site, launch: Launch) -> None:
    """Switched off, and in a project that does not name appsrv, nothing of appsrv is there."""
    off = run_server(launch, "--noreload", APPSRV_RUNSERVER="0").wait_listening()
    assert [text for text in off.titles().values() if "appsrv watchdog" in text] == []
    off.stop(signal.SIGINT)
    project.write("pyproject.toml", '[project]\nname = "without"\ndependencies = ["django"]\n')
    without = run_server(launch, "--noreload").wait_listening()
    assert [text for text in without.titles().values() if "appsrv watchdog" in text] == []
    assert without.get("/pid/").status == 200
    without.stop(signal.SIGINT)
