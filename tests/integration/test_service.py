"""Under a service manager, as the first process of a container, and as another user than root."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from integration.conftest import Launch, Serve
from support.other_users import LIBRARY, python_of_everybody
from support.processes import alive
from support.server import COMMAND, Server, Site, free_port
from support.waiting import wait_for

PATIENCE = 20.0
HOSTILE = Path(__file__).resolve().parents[1] / "generic" / "hostile.py"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

ORPHANS = '''
import os, subprocess

def application(environ, start_response):
    """The child leaves a grandchild behind, which ends at once."""
    subprocess.run(["sh", "-c", "sleep 0.05 & exec true"])
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
'''
WHO = '''
import os

def application(environ, start_response):
    body = f"{os.getuid()} {os.getgid()} {os.environ['HOME']} {os.environ['USER']} {os.environ.get('NOTIFY_SOCKET')}"
    if environ["PATH_INFO"] == "/shared":
        body = os.environ["PROMETHEUS_MULTIPROC_DIR"]
        open(os.path.join(body, "counter_1.db"), "w").close()
    body = body.encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
'''


class ServiceManager:
    """Listens where a service says how it is."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(str(path))
        self.environment = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "400000"}

    def hears(self, *, within: float = PATIENCE) -> str:
        self.sock.settimeout(within)
        return self.sock.recv(500).decode()

    def hears_for_ever(self, *, within: float) -> None:
        """TimeoutError once nothing was said for so long."""
        while True:
            self.hears(within=within)

    def waits_for(self, start: str) -> list[str]:
        """What is said up to the word that starts so."""
        said: list[str] = []
        # Signs of life go on for ever: what is waited for has a time of its own.
        deadline = time.monotonic() + PATIENCE
        while not said or not said[-1].startswith(start):
            assert time.monotonic() < deadline, (start, said)
            said.append(self.hears())
        return said


@pytest.fixture
def manager(site: Site) -> Iterator[ServiceManager]:
    made = ServiceManager(site.run / "notify")
    yield made
    made.sock.close()


def test_a_service_manager_is_told(serve: Serve, manager: ServiceManager, site: Site) -> None:
    server = serve("hello", "--min-instances", "2", environment=manager.environment)
    manager.waits_for("READY=1")
    manager.waits_for("STATUS=running: 2 workers, ")
    manager.waits_for("WATCHDOG=1")
    assert site.command("restart-app", "/", "--port", str(server.address[1])).returncode == 0
    assert not any(word.startswith("READY") for word in manager.waits_for("RELOADING=1\nMONOTONIC_USEC="))
    manager.waits_for("READY=1")
    os.kill(server.pid, signal.SIGTERM)
    manager.waits_for("STOPPING=1")


def test_quick_restarts_are_told_too(serve: Serve, manager: ServiceManager, site: Site) -> None:
    server = serve("hello", environment={"NOTIFY_SOCKET": manager.environment["NOTIFY_SOCKET"]})
    manager.waits_for("READY=1")
    for _ in range(3):
        assert site.command("restart-app", "/", "--port", str(server.address[1])).returncode == 0
        assert not any(word.startswith("READY") for word in manager.waits_for("RELOADING=1\nMONOTONIC_USEC="))
        manager.waits_for("READY=1")


def test_a_server_that_hangs_gives_no_sign_of_life(serve: Serve, manager: ServiceManager) -> None:
    server = serve("hello", environment=manager.environment)
    manager.waits_for("WATCHDOG=1")
    hanging = server.pid_of("appsrv server")
    os.kill(hanging, signal.SIGSTOP)
    try:
        with pytest.raises(TimeoutError):
            manager.hears_for_ever(within=1.0)
    finally:
        os.kill(hanging, signal.SIGCONT)
    manager.waits_for("WATCHDOG=1")


@needs_root
def test_as_process_1_it_reaps_strangers_quietly(launch: Launch, site: Site) -> None:
    apart = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system lets nobody make a namespace of processes")
    site.write("orphans.py", ORPHANS)
    port = free_port()
    server = launch([*apart, COMMAND, "start", "orphans:application", "--port", str(port)], ("127.0.0.1", port))
    # From out here its processes have other numbers than in there: what it prints has to do.
    wait_for(lambda: "Accessible via" in server.terminal, "its banner", PATIENCE)
    for _ in range(5):
        assert server.get("/").status == 200
    wait_for(lambda: not _zombies(server), "no zombies", 10.0)
    assert site.command("stop", "--port", str(port)).returncode == 0
    assert not {"Traceback", "ERROR"} & set(server.terminal.split())


def _zombies(server: Server) -> list[int]:
    return [process.pid for process in psutil.Process(server.pid).children(recursive=True) if not alive(process)]


@needs_root
def test_another_user_serves(open_site: Site) -> None:
    user = pwd.getpwnam("nobody")
    open_site.write("who.py", WHO)
    os.chown(open_site.directory, user.pw_uid, user.pw_gid)
    python = python_of_everybody(user)
    port = free_port()
    server = Server(open_site, [*python, "start", "who:application", "--port", str(port), "--user", "nobody",
                     "--prometheus-multiproc"],
                    ("127.0.0.1", port), {"PYTHONPATH": LIBRARY, "NOTIFY_SOCKET": "/nowhere"})
    try:
        server.wait_ready()
        said = server.get("/").body.decode()
        assert said == f"{user.pw_uid} {user.pw_gid} {user.pw_dir} nobody None"
        owners = {title.split()[1]: psutil.Process(pid).uids().real for pid, title in server.titles().items()}
        assert owners == {"watchdog": 0, "server": user.pw_uid, "preloader": user.pw_uid, "worker": user.pw_uid}
        shared = Path(server.get("/shared").body.decode())
        assert (shared.stat().st_uid, shared.stat().st_mode & 0o777) == (user.pw_uid, 0o700)
        assert server.log_file().stat().st_uid == user.pw_uid
        assert "as root" not in server.log()
        status = subprocess.run([*python, "status", "--port", str(port), "--json"], cwd=open_site.directory,
                                env=server.environment, capture_output=True, text=True, check=False)
        assert (status.returncode, '"memory": null' in status.stdout) == (0, False)
    finally:
        left = server.reap()
    assert left == []
    assert not shared.exists()


@needs_root
def test_root_is_told_once(serve: Serve) -> None:
    server = serve("hello")
    assert server.log().count("name another user with --user") == 1


@needs_root
def test_the_process_of_a_generic_application_is_the_users(open_site: Site) -> None:
    user = pwd.getpwnam("nobody")
    os.chown(open_site.directory, user.pw_uid, user.pw_gid)
    python = python_of_everybody(user)
    port = free_port()
    command = f"{python[0]} {HOSTILE} $SOCKET"
    server = Server(open_site, [*python, "start", "--start-command", command, "--port", str(port), "--user", "nobody"],
                    ("127.0.0.1", port), {"PYTHONPATH": LIBRARY})  # fmt: skip
    try:
        server.wait_ready()
        assert psutil.Process(int(server.get("/").text)).uids().real == user.pw_uid
        found = dict(line.split("=", 1) for line in server.get("/environment").text.splitlines())
        directory = Path(found["SOCKET"]).parent
        assert (directory.stat().st_uid, directory.stat().st_mode & 0o777) == (user.pw_uid, 0o700)
        assert found["HOME"] == user.pw_dir
    finally:
        left = server.reap()
    assert left == []
    assert not directory.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user_connects_to_a_unix_socket(open_site: Site) -> None:
    """As nginx does: by default it may, whatever the umask; a group or a mode of its own narrows that."""
    user = pwd.getpwnam("nobody")
    open_site.add_app("hello")
    closed = open_site.directory / "closed"
    closed.mkdir(mode=0o700)
    path = open_site.directory / "web.sock"
    group = str(user.pw_gid)
    for place, options, served, warned in (
        (path, [], True, False), (path, ["--socket-group", group], True, False),
        (path, ["--socket-mode", "600"], False, False),
        (path, ["--socket-user", "nobody", "--socket-mode", "600"], True, False),
        (closed / "web.sock", [], False, True),
    ):
        argv = ["sh", "-c", 'umask 077; exec "$@"', "sh", COMMAND, "start", "hello", "--socket", str(place), *options]
        server = Server(open_site, argv, str(place))
        try:
            server.wait_ready()
            code = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
            done = subprocess.run(
                ["/usr/bin/python3", "-c", code, str(place)], user=user.pw_uid, group=user.pw_gid, extra_groups=[],
                cwd="/", capture_output=True, check=False,
            )
            assert (done.returncode == 0) is served, (options, done.stderr)
            assert (f"the directory {closed} is closed to them" in server.log()) is warned
        finally:
            left = server.reap()
        assert left == []
