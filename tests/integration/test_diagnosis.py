"""`appsrv check`, as a user types it, and as `manage.py appsrv` and `flask appsrv`."""

from __future__ import annotations

import json
import sys

import pytest

from support.server import BIN, Site

# -- check -------------------------------------------------------------------------------------------------


def test_check_shows_origins_and_ends_with_2_on_errors(site: Site) -> None:
    site.add_app("hello")
    site.write("appsrv.toml", 'app = "hello"\nmax_pool_size = 2\n')
    done = site.command("check", "--threads", "3", environment={"APPSRV_TREADS": "3"})
    assert done.returncode == 0, done.stderr
    assert "did you mean 'APPSRV_THREADS'?" in done.stderr
    rows = [line.split() for line in done.stdout.splitlines()[2:]]
    file = site.directory / "appsrv.toml"
    assert ["max_pool_size", "2", f"{file}:2"] in rows
    assert ["threads", "3", "--threads"] in rows
    site.write("appsrv.toml", 'app = "hello"\nmax_pol_size = 2\nthreads = "x"\n')
    done = site.command("check")
    assert (done.returncode, done.stdout) == (2, "")
    assert [line.partition(": error: ")[2] for line in done.stderr.splitlines()] == [
        f"{file}:2: unknown setting 'max_pol_size' (did you mean 'max_pool_size'?)",
        f'{file}:3: threads: expected a whole number, 1 to 1024, not "x"',
    ]
    # Of `start` the same, but only the first.
    assert site.command("start").stderr.splitlines() == done.stderr.splitlines()[:1]
    done = site.command("check", "--json")
    assert (done.returncode, [error["line"] for error in json.loads(done.stdout)["errors"]]) == (2, [2, 3])


@pytest.mark.parametrize(
    ("example", "command"), [("django", [sys.executable, "manage.py"]), ("flask", [str(BIN / "flask")])]
)
def test_check_as_a_command_of_the_framework(site: Site, example: str, command: list[str]) -> None:
    site.add_project(example)
    site.environment["APPSRV_MIN_INSTANCES"] = "2"
    done = site.run_command([*command, "appsrv", "check", "--json"])
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["directory"] == str(site.directory)
    assert found["settings"]["min_instances"]["origin"]["name"] == "APPSRV_MIN_INSTANCES"
