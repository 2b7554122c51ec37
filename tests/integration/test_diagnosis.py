"""`appsrv check` and `appsrv doctor`, as a user types them, and as `manage.py appsrv` and `flask appsrv`."""

from __future__ import annotations

import json
import os
import pwd
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from integration.conftest import Serve
from support import confined, processes
from support.other_users import LIBRARY, python_of_everybody
from support.server import BIN, COMMAND, Site
from support.waiting import wait_for

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
def test_both_as_commands_of_the_framework(site: Site, example: str, command: list[str]) -> None:
    site.add_project(example)
    site.environment["APPSRV_MIN_INSTANCES"] = "2"
    done = site.run_command([*command, "appsrv", "check", "--json"])
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["directory"] == str(site.directory)
    assert found["settings"]["min_instances"]["origin"]["name"] == "APPSRV_MIN_INSTANCES"
    done = site.run_command([*command, "appsrv", "doctor", "--json"])
    assert done.returncode in (0, 1), done.stderr
    (app,) = json.loads(done.stdout)["apps"]
    assert (app["name"], app["import"]["error"]) == (str(site.directory), None)


# -- doctor ------------------------------------------------------------------------------------------------

# What depends on the machine and the user that run the tests.
OF_MACHINE = {"root", "no-passwd-entry", "somaxconn", "descriptors", "memory"}

BAD_IMPORT = """
import sqlite3, threading, time
print("printed while loading")
threading.Thread(target=time.sleep, args=(600,), name="poller", daemon=True).start()
database = sqlite3.connect("shop.db")
database.execute("create table if not exists goods (name)")

def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "0")])
    return []
"""

HANGING = """
import subprocess, threading
child = subprocess.Popen(["sleep", "600"])
open("child", "w").write(str(child.pid))

def connect():
    threading.Event().wait()

application = connect()
"""


AS_WHOM = """
import os, pathlib
place = os.environ["PROMETHEUS_MULTIPROC_DIR"]
pathlib.Path(place, "x").touch()
raise RuntimeError(f"{os.getuid()} {os.environ['USER']} {place}")
app = None
"""


def diagnosed(site: Site, *words: str, prefix: tuple[str, ...] = ()) -> dict[str, dict[str, Any]]:
    """The findings of `appsrv doctor WORDS --json` by the name of their rule, without those of the machine."""
    done = site.run_command([*prefix, COMMAND, "doctor", *words, "--json"])
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(done.stdout)["findings"]
    assert (done.returncode == 1) == bool(found)
    assert [one["number"] for one in found] == list(range(1, len(found) + 1))
    return {one["check"]: one for one in found if one["check"] not in OF_MACHINE - set(words)}


def test_doctor_finds_nothing_to_mend(site: Site) -> None:
    site.add_app("hello")
    assert diagnosed(site, "hello", "--pid-file", "none") == {}
    done = site.command("doctor", "hello")
    assert "hello in " in done.stdout
    assert ": imported in " in done.stdout
    assert not [name for name in os.listdir(site.directory) if name.endswith((".log", ".pid"))]


def test_doctor_names_threads_and_connections_of_the_import(site: Site) -> None:
    site.write("wsgi.py", BAD_IMPORT)
    found = diagnosed(site)
    assert set(found) == {"threads-at-import", "shared-connection"}
    assert "(poller)" in found["threads-at-import"]["what"]
    assert found["shared-connection"]["where"] == f"the SQLite database {os.path.realpath(site.directory)}/shop.db"
    # With workers that import the application themselves both are harmless.
    assert diagnosed(site, "--spawn-method", "direct") == {}
    (site.directory / "shop.db").unlink()
    assert diagnosed(site, "--no-import") == {}
    assert not (site.directory / "shop.db").exists()


def test_doctor_ends_an_import_that_hangs_with_all_its_processes(site: Site) -> None:
    site.write("wsgi.py", HANGING)
    found = diagnosed(site, "--start-timeout", "1")
    assert set(found) == {"import-timeout"}
    assert found["import-timeout"]["where"] == f"{os.path.realpath(site.directory)}/wsgi.py:7 in connect"
    child = int((site.directory / "child").read_text())
    wait_for(lambda: not processes.alive_pid(child), "the end of what the import has started")


@pytest.mark.parametrize(
    ("code", "what", "details"),
    [
        ("import nothing_there", "wsgi cannot be imported: ModuleNotFoundError", "line 1, in <module>"),
        ("import os\nos.write(1, b'last words')\nos._exit(3)", "exit code 3", "last words"),
        ("import os\nos.kill(os.getpid(), 9)", "SIGKILL", ""),
    ],
)
def test_doctor_tells_why_an_import_fails(site: Site, code: str, what: str, details: str) -> None:
    site.write("wsgi.py", f"{code}\napplication = None\n")
    found = diagnosed(site)
    assert set(found) == {"import"}
    assert what in found["import"]["what"]
    assert details in found["import"]["details"]


def test_doctor_looks_with_the_eyes_of_the_web_server(site: Site) -> None:
    site.add_app("hello")
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        os.chmod(place, 0o755)
        private = Path(place, "private")
        private.mkdir(mode=0o700)
        words = ("hello", "--no-import", "--web-user", "nobody", "--socket", str(private / "web.sock"))
        found = diagnosed(site, *words)
        assert set(found) == {"web-server-access"}
        assert found["web-server-access"]["where"].startswith(f"the directory {private} (mode 0700, ")
        private.chmod(0o711)
        assert diagnosed(site, *words) == {}
        assert set(diagnosed(site, *words, "--socket-mode", "600")) == {"web-server-access"}
        private.rmdir()
        assert set(diagnosed(site, *words)) == {"missing-directory"}


def test_doctor_knows_the_limit_of_descriptors(site: Site) -> None:
    site.add_app("hello")
    low = ("sh", "-c", 'ulimit -n 300; exec "$0" "$@"')
    done = site.run_command([*low, COMMAND, "doctor", "hello", "--no-import", "--max-connections", "500"])
    assert "there can be 236 connections at a time, not max_connections = 500" in done.stdout
    assert "LimitNOFILE=572" in done.stdout
    # What it suggests is enough.
    enough = ("sh", "-c", 'ulimit -n 572; exec "$0" "$@"')
    done = site.run_command([*enough, COMMAND, "doctor", "hello", "--no-import", "--max-connections", "500"])
    assert "connections at a time" not in done.stdout


def test_doctor_asks_the_running_instance(site: Site, serve: Serve) -> None:
    server = serve("hello", "--forwarded-allow-ips", "off", "--max-connections", "100")
    assert diagnosed(site, "hello", "--no-import") == {}
    server.get("/", headers={"X-Forwarded-For": "203.0.113.9"})

    def proxy() -> dict[str, Any] | None:
        return diagnosed(site, "hello", "--no-import").get("untrusted-proxy")

    found = wait_for(proxy, "the worker's report of the header")
    assert "127.0.0.1 sends X-Forwarded-For" in found["what"]
    (group,) = server.status()["app_groups"]
    assert group["untrusted_proxies"] == [{"address": "127.0.0.1", "fields": ["X-Forwarded-For"]}]
    done = site.command("doctor", "hello", "--no-import", "--max-pool-size", "1")
    assert f"{server.status()['instance']['name']} is running" in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_doctor_imports_as_the_application_s_user(open_site: Site) -> None:
    user = pwd.getpwnam("nobody")
    open_site.write("wsgi.py", AS_WHOM)
    words = ["doctor", "--json", "--user", "nobody", "--prometheus-multiproc"]
    open_site.environment["PYTHONPATH"] = LIBRARY
    done = open_site.run_command([*python_of_everybody(user), *words])
    error = json.loads(done.stdout)["apps"][0]["import"]["error"]
    assert f"RuntimeError: {user.pw_uid} nobody /" in error
    # The directory that it has written to is removed.
    assert not os.path.exists(error.split()[-1])


def test_doctor_in_a_container_without_a_name_and_on_a_read_only_system(open_site: Site) -> None:
    open_site.add_app("hello")
    words = [COMMAND, "doctor", "hello", "--json", "--log-file", str(open_site.directory / "server.log")]
    printed = confined.run('"$@"; true', words, open_site.directory, {"HOME": "/"}, writable="/dev/shm")
    found = json.loads(printed[printed.index("{") :])
    assert found["apps"][0]["import"]["error"] is None
    named = [one["what"] for one in found["findings"] if one["check"] == "no-passwd-entry"]
    assert [what.split(" of the")[0] for what in named] == ["the user id 12345"]
    places = [one["what"] for one in found["findings"] if one["check"] == "read-only"]
    assert [what.partition(" cannot be written: its file system is read-only")[0] for what in places] == [
        "the server log", "the pid file", "the directory for buffered data",
    ]
    assert "the instance cannot start" in places[0]
