"""Deployments that turn a link, `current`, to the next release: started by the link, and started in a release."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from integration.conftest import Launch
from support.server import COMMAND, Server, Site, free_port

APP = """
import os, sys
def application(environ, start_response):
    if environ["PATH_INFO"] == "/later":
        import later
        body = later.TEXT.encode()
    else:
        body = b"release {release}"
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


@pytest.fixture
def current(site: Site) -> Path:
    """`current`, which stands for the first of two releases."""
    for release in ("1", "2"):
        site.write(f"releases/{release}/wsgi.py", APP.format(release=release))
        site.write(f"releases/{release}/later.py", f"TEXT = 'later {release}'\n")
    turn(site, "1")
    return site.directory / "current"


def turn(site: Site, release: str) -> None:
    draft = site.directory / "draft"
    draft.symlink_to(f"releases/{release}")
    draft.replace(site.directory / "current")


def start(site: Site, launch: Launch, place: Path, *words: str, logical: str | None = None) -> Server:
    """`appsrv start WORDS`, executed in that directory; PWD as a shell sets it, or not at all, as systemd does."""
    port = free_port()
    site.environment.pop("PWD", None)
    site.environment |= {"PWD": logical} if logical else {}
    command = [COMMAND, "start", *words, "--port", str(port), "--log-file", str(site.run / "log")]
    variable = f"PWD={logical}" if logical else "-u PWD"
    argv = ["sh", "-c", f"cd -P '{place}' && exec env {variable} \"$@\"", "sh", *command]
    return launch(argv, ("127.0.0.1", port)).wait_ready()


@pytest.mark.parametrize("by", ["path", "PWD"])
def test_an_instance_started_by_the_link_follows_it(site: Site, launch: Launch, current: Path, by: str) -> None:
    if by == "path":
        server = start(site, launch, Path("/"), str(current))
    else:
        server = start(site, launch, current, logical=str(current))
    assert server.group()["root"] == str(current)
    turn(site, "2")
    # The workers of the old release import the rest of the old release.
    assert (server.get("/").text, server.get("/later").text) == ("release 1", "later 1")
    assert site.command("restart-app", str(current)).returncode == 0
    assert server.get("/").text == "release 2"
    turn(site, "1")
    server.wait_log("is not the directory that the running code was loaded from")
    # The shell is still where the link has led before.
    done = site.run_command(
        ["sh", "-c", f"cd -P '{current.resolve().with_name('2')}' && exec env PWD='{current}' {COMMAND} restart-app ."]
    )
    assert done.returncode == 0, done.stderr
    assert server.get("/").text == "release 1"


def test_an_instance_started_in_a_release_tells_how_to_follow(site: Site, launch: Launch, current: Path) -> None:
    server = start(site, launch, current)
    release = str(current.resolve())
    assert server.group()["root"] == release
    assert site.command("restart-app", str(current)).returncode == 0
    turn(site, "2")
    refused = site.command("restart-app", str(current))
    assert refused.returncode == 1
    assert f"{current} stands for {current.resolve()} now; {release}, which is served" in refused.stderr
    assert f"appsrv start {current}" in refused.stderr
    shutil.rmtree(release)
    server.wait_log(f"{release}, the directory of the application, has been removed.*appsrv start")
    assert server.get("/").text == "release 1"


def test_the_unit_of_systemd_names_the_link(site: Site, launch: Launch, current: Path) -> None:
    printed = site.run_command(["sh", "-c", f"cd '{current}' && {COMMAND} config systemd"]).stdout.splitlines()
    assert f"WorkingDirectory={current}" in printed
    (line,) = [line for line in printed if line.startswith("ExecStart=")]
    assert line.split()[1:3] == ["start", str(current)]
    server = start(site, launch, current, *line.split()[2:])
    assert server.group()["root"] == str(current)
    assert os.path.realpath(server.group()["root"]) == str(current.resolve())
