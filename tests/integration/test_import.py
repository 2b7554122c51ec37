"""`appsrv import`: a Flask application of gunicorn answers under appsrv as it did before; how the command ends."""

from __future__ import annotations

import sys

from integration.conftest import Launch
from support.server import COMMAND, Server, Site, free_port
from support.waiting import wait_for

APP = """
import os
from flask import Flask, jsonify, redirect, request

def create_app(title):
    app = Flask(__name__)

    @app.get("/")
    def index():
        return title

    @app.post("/echo/<name>")
    def echo(name):
        return jsonify(name=name, body=request.get_data(as_text=True), scheme=request.scheme)

    @app.get("/away")
    def away():
        return redirect("/", 303)

    @app.get("/variable")
    def variable():
        return os.environ["NOTES_TITLE"]

    return app
"""
CONFIG = """
import os

wsgi_app = "notes:create_app('Notes')"
bind = "127.0.0.1:" + os.environ.get("NOTES_PORT", "{port}")
worker_class = "gthread"
workers = max(2, int(os.getenv("NOTES_WORKERS", "2")))
threads = int("3")
timeout = 40
max_requests = 1000
accesslog = "-"
forwarded_allow_ips = "127.0.0.1"
raw_env = ["NOTES_TITLE=from the environment"]

def when_ready(server):
    server.log.info("ready")
"""
REQUESTS = (
    ("GET", "/", None),
    ("POST", "/echo/caf%C3%A9", b"to be or not"),
    ("GET", "/away", None),
    ("GET", "/variable", None),
    ("HEAD", "/", None),
    ("GET", "/nowhere", None),
)
FORWARDED = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.9"}


def answers(server: Server) -> list[tuple[int, str | None, str | None, bytes]]:
    replies = [server.request(method, path, body, headers=FORWARDED) for method, path, body in REQUESTS]
    return [(one.status, one.headers["Content-Type"], one.headers["Location"], one.body) for one in replies]


def is_serving(server: Server) -> bool:
    try:
        return server.get("/").status == 200
    except OSError:
        return False


def test_an_application_of_gunicorn_answers_the_same(site: Site, launch: Launch) -> None:
    port = free_port()
    site.write("notes.py", APP)
    site.write("gunicorn.conf.py", CONFIG.format(port=port))
    before = launch([sys.executable, "-m", "gunicorn"], ("127.0.0.1", port))
    wait_for(lambda: is_serving(before), "gunicorn to answer")
    expected = answers(before)
    assert [status for status, *_ in expected] == [200, 200, 303, 200, 200, 404]
    before.stop()

    done = site.run_command([COMMAND, "import", "gunicorn.conf.py", "-o", "appsrv.toml"])
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    printed = (site.directory / "appsrv.toml").read_text()
    assert "Write there: NOTES_TITLE=from the environment" in printed.replace("\n#   ", " ")
    site.write(".env", "NOTES_TITLE=from the environment\n")
    after = launch([COMMAND, "start"], ("127.0.0.1", port)).wait_ready()
    assert answers(after) == expected
    assert after.workers()[0]["threads"] == 3
    assert b'"scheme":"https"' in expected[1][3]


def test_the_command(site: Site) -> None:
    site.write("Procfile", "web: gunicorn -w 2 -b :$PORT shop:app\n")
    shown = site.run_command([COMMAND, "import", "Procfile"])
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "max_pool_size = 2" in shown.stdout
    assert not (site.directory / "appsrv.toml").exists()

    into = [COMMAND, "import", "Procfile", "-o", "appsrv.toml"]
    assert "appsrv.toml is written. Read its comments" in site.run_command(into).stderr
    (site.directory / "appsrv.toml").write_text("port = 1\n")
    refused = site.run_command(into)
    assert (refused.returncode, "--force writes over it" in refused.stderr) == (2, True)
    assert (site.directory / "appsrv.toml").read_text() == "port = 1\n"
    assert site.run_command([*into, "--force"]).returncode == 0
    assert (site.directory / "appsrv.toml").read_text() == shown.stdout

    away = site.run_command([COMMAND, "import", "Procfile", "-o", "../other.toml"])
    assert f"It belongs into {site.directory}: move it there." in away.stderr
    line = [COMMAND, "import", "--gunicorn", "gunicorn --threads 4 shop:app"]
    assert "threads = 4" in site.run_command(line).stdout


def test_what_ends_the_command_with_2(site: Site) -> None:
    site.write("notes.txt", "buy milk\n")
    (site.directory / "binary").write_bytes(b"\xff\xfe\x00")
    for arguments, message in (
        (["gone.ini"], "gone.ini cannot be read: No such file"),
        (["."], "cannot be read: it is no file"),
        (["binary"], "cannot be read: it is no text in UTF-8"),
        (["notes.txt"], "--from gunicorn|uwsgi|passenger|procfile|supervisord|systemd"),
        ([], "give a FILE, or --gunicorn"),
        (["notes.txt", "--gunicorn", "gunicorn a"], "give a FILE, or --gunicorn"),
        (["--gunicorn", "gunicorn a", "--program", "web"], "are for a FILE"),
        (["notes.txt", "--from", "apache"], "'apache' is not one of"),
        (["--gunicorn", "ls"], "starts no gunicorn"),
    ):
        done = site.run_command([COMMAND, "import", *arguments])
        assert (done.returncode, done.stdout) == (2, "")
        assert message in done.stderr


def test_where_a_file_cannot_be_written(site: Site) -> None:
    site.write("gunicorn.conf.py", "workers = 2\n")
    done = site.run_command([COMMAND, "import", "gunicorn.conf.py", "-o", "no/such/place.toml"])
    assert (done.returncode, "no/such/place.toml cannot be written" in done.stderr) == (1, True)
