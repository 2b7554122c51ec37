"""`manage.py appsrv ...`, `flask appsrv ...` and django-prodserver: appsrv's commands where a project's others are."""

from __future__ import annotations

import json
import sys

import pytest

from integration.conftest import Launch
from support.server import BIN, Site, free_port

MANAGE = [sys.executable, "manage.py"]
FLASK = [str(BIN / "flask")]


@pytest.mark.parametrize(("example", "command"), [("django", MANAGE), ("flask", FLASK)])
def test_from_start_to_stop(site: Site, launch: Launch, example: str, command: list[str]) -> None:
    site.add_project(example)
    port = free_port()
    server = launch([*command, "appsrv", "start", "--port", str(port)], ("127.0.0.1", port)).wait_ready()
    assert sorted(title.split()[1] for title in server.titles().values()) == [
        "preloader", "server", "watchdog", "worker",
    ]
    status = site.run_command([*command, "appsrv", "status", "--json"])
    assert json.loads(status.stdout)["app_groups"][0]["name"] == str(site.directory)
    assert site.run_command([*command, "appsrv", "restart-app", "."]).returncode == 0
    assert site.run_command([*command, "appsrv", "stop"]).returncode == 0
    assert site.run_command([*command, "appsrv", "status"]).returncode == 3
    assert "Usage: appsrv" in site.run_command([*command, "appsrv", "--help"]).stdout


def test_django_elsewhere_does_not_know_the_command(site: Site) -> None:
    """Being installed in the environment is not consent."""
    site.add_project("django")
    (site.directory / "requirements.txt").write_text("django\n")
    (site.directory / "pyproject.toml").unlink(missing_ok=True)
    asked = site.run_command([*MANAGE, "appsrv", "status"])
    assert (asked.returncode, "Unknown command: 'appsrv'" in asked.stderr) == (1, True)


def test_django_check(site: Site) -> None:
    site.add_project("django")
    site.environment["APPSRV_THREADS"] = "none"
    asked = site.run_command([*MANAGE, "check", "--deploy"])
    assert (asked.returncode, "appsrv.E001" in asked.stderr) == (1, True), asked.stderr
    assert site.run_command([*MANAGE, "check"]).returncode == 0


def test_prodserver(site: Site, launch: Launch) -> None:
    pytest.importorskip("django_prodserver")
    site.add_project("django")
    port = free_port()
    backend = {"BACKEND": "appsrv_django.prodserver.AppsrvServer", "ARGS": {"port": str(port), "max-pool-size": "2"}}
    site.write("prod.py", f"from showcase.settings import *\nINSTALLED_APPS += ['django_prodserver']\n"
               f"PRODUCTION_PROCESSES = {{'web': {backend!r}}}\n")
    server = launch([*MANAGE, "server", "web", "--settings", "prod"], ("127.0.0.1", port)).wait_ready()
    assert server.status()["app_groups"][0]["name"] == str(site.directory)


def test_init(site: Site) -> None:
    site.add_project("flask")
    (site.directory / "requirements.txt").write_text("flask\n")
    asked = site.command("init")
    assert (asked.returncode, "+appsrv" in asked.stdout, "--yes" in asked.stderr) == (2, True, True)
    assert (site.directory / "requirements.txt").read_text() == "flask\n"
    assert site.command("init", "--yes").returncode == 0
    assert (site.directory / "requirements.txt").read_text() == "flask\nappsrv\n"
    assert site.command("status").returncode == 3, "the settings that were written can be read"
    assert "has everything" in site.command("init").stdout
