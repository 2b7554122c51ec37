"""`.env` as a FIFO whose writer serves it once: it is read once per start and remembered for what is loaded later."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from integration.conftest import Launch
from support.server import BIN, COMMAND, Site, free_port
from support.waiting import wait_for

APP = """
import os
from flask import Flask
app = Flask(__name__)
@app.route("/")
def index():
    return f"{VERSION} {os.environ.get('TOKEN')} {os.environ.get('FLASK_SKIP_DOTENV')}"
VERSION = 1
"""


@pytest.fixture
def served_once(site: Site) -> Iterator[Site]:
    site.write("app.py", APP)
    site.write("requirements.txt", "appsrv")
    path = site.directory / ".env"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=["TOKEN=s3cret\n"], daemon=True)
    writer.start()
    yield site
    writer.join(10)
    assert not writer.is_alive()


def test_start(served_once: Site, launch: Launch) -> None:
    port = free_port()
    server = launch([COMMAND, "start", "--port", str(port)], ("127.0.0.1", port)).wait_ready()
    assert server.get("/").text == "1 s3cret None"
    served_once.save("app.py", APP.replace("VERSION = 1", "VERSION = 2"))
    assert served_once.command("restart-app", ".").returncode == 0
    assert server.get("/").text == "2 s3cret None"
    assert "s3cret" not in server.terminal + str(server.titles())


def test_flask_run(served_once: Site, launch: Launch) -> None:
    port = free_port()
    argv = [str(BIN / "flask"), "--debug", "run", "--port", str(port)]
    server = launch(argv, ("127.0.0.1", port)).wait_ready()
    assert server.get("/").text == "1 s3cret None"
    served_once.save("app.py", APP.replace("VERSION = 1", "VERSION = 2"))
    wait_for(lambda: server.get("/").text == "2 s3cret None", "the reload")
