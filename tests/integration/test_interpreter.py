"""The application runs with the options that the interpreter of the command was given, as with the original servers."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from integration.conftest import Launch
from support.server import COMMAND, Server, Site, free_port
from support.waiting import wait_for

STRICT = ["-O", "-X", "dev", "-W", "error", "-B", "-X", "no_debug_ranges"]


def is_strict(flags: dict[str, Any]) -> bool:
    assert (flags["optimize"], flags["dont_write_bytecode"], flags["dev_mode"], flags["asserts"]) == (1, 1, True, False)
    assert (flags["xoptions"], "error" in flags["warnoptions"]) == ({"dev": True, "no_debug_ranges": True}, True)
    return True


def python(launch: Launch, *words: str, environment: dict[str, str] | None = None) -> Server:
    port = free_port()
    return launch([sys.executable, *words, "--port", str(port)], ("127.0.0.1", port), environment).wait_ready()


def test_options_of_python_m_appsrv(launch: Launch, site: Site) -> None:
    """Also after a restart, and in what replaces a preloader that was killed."""
    site.add_app("interpreter")
    server = python(launch, *STRICT, "-m", "appsrv", "start", "interpreter")
    preloader = f"appsrv preloader {site.directory}"
    assert is_strict(server.get("/").json)
    assert site.command("restart-app", ".").returncode == 0
    assert is_strict(server.get("/").json)
    # The old preloader ends a moment after the restart is over.
    wait_for(lambda: list(server.titles().values()).count(preloader) == 1, "the end of the old preloader")
    first = server.worker_pids()
    for pid in (server.pid_of(preloader), *first):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: server.worker_pids() - first, "a new worker")
    assert is_strict(server.get("/").json)
    assert not (site.directory / "__pycache__").exists()
    assert server.stop() == 0
    assert "ResourceWarning" not in server.terminal


def test_options_of_manage_py_appsrv(launch: Launch, site: Site) -> None:
    site.add_project("django")
    site.add_app("interpreter")
    options = ["-X", "utf8", "-OO", "-W", "error::FutureWarning"]
    server = python(launch, *options, "manage.py", "appsrv", "start", "interpreter")
    flags = server.get("/").json
    assert (flags["utf8_mode"], flags["optimize"], flags["warnoptions"]) == (1, 2, ["error::FutureWarning"])


@pytest.mark.parametrize("option", ["-E", "-I"])
def test_an_interpreter_that_ignores_its_variables(launch: Launch, site: Site, option: str) -> None:
    """What the application prints is passed on at once there, too."""
    site.add_app("interpreter")
    variables = {"PYTHONOPTIMIZE": "2", "PYTHONPATH": str(Path(__file__).parent)}
    server = python(launch, option, "-m", "appsrv", "start", "interpreter", environment=variables)
    flags = server.get("/").json
    assert (flags["ignore_environment"], flags["optimize"], flags["isolated"]) == (1, 0, int(option == "-I"))
    server.wait_log("stdout: asked$")


FLASK_APP = """
from flask import Flask
import interpreter
app = Flask(__name__)
app.wsgi_app = interpreter.application
"""


def test_options_of_python_m_flask(launch: Launch, site: Site) -> None:
    site.add_app("interpreter")
    site.write("app.py", FLASK_APP)
    site.write("requirements.txt", "appsrv")
    server = python(launch, "-E", "-O", "-X", "utf8", "-m", "flask", "run", environment={"PYTHONOPTIMIZE": "2"})
    flags = server.get("/").json
    assert (flags["optimize"], flags["utf8_mode"], flags["ignore_environment"]) == (1, 1, 1)
    wait_for(lambda: "asked" in server.terminal, "what the application prints")


def test_variables_of_the_interpreter(launch: Launch, site: Site) -> None:
    """They are for all processes, and `error` does not end those that are not the application's."""
    site.add_app("interpreter")
    port = free_port()
    variables = {"PYTHONOPTIMIZE": "1", "PYTHONDEVMODE": "1", "PYTHONWARNINGS": "error", "PYTHONDONTWRITEBYTECODE": "1"}
    server = launch([COMMAND, "start", "interpreter", "--port", str(port)], ("127.0.0.1", port), variables).wait_ready()
    flags = server.get("/").json
    assert (flags["optimize"], flags["dev_mode"], flags["asserts"], flags["xoptions"]) == (1, True, False, {})
    assert "error" in flags["warnoptions"]
    assert server.stop() == 0
