"""Which process is a running instance: its locks prove that, never a number in a file or a word in a command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from integration.conftest import Serve
from support.server import COMMAND, Server, Site, free_port
from support.waiting import wait_for


@contextmanager
def reading(file: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has our name in its command line: `tail -f appsrv.txt`."""
    with subprocess.Popen(["tail", "-f", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        try:
            yield child
        finally:
            child.kill()


def test_a_pid_file_that_names_another_process_is_taken_over(serve: Serve, site: Site) -> None:
    """The number of a program with our name in its arguments, a worker of another instance, and no number at all."""
    other = serve("hello", "--pid-file", str(site.directory / "other.pid"))
    worker = min(other.worker_pids())
    path = site.directory / "appsrv.pid"
    with reading(site.write("appsrv.txt", "")) as stranger:
        for content in (f"{stranger.pid}\n", f"{worker}\n", "garbage\n"):
            path.write_text(content)
            status = site.command("status", "--pid-file", str(path))
            assert (status.returncode, "it was killed" in status.stderr) == (1, True), status.stderr
            assert site.command("stop", "--pid-file", str(path)).returncode != 0
            server = serve("hello", "--pid-file", str(path))
            assert "is taken over" in server.terminal
            assert path.read_text() == f"{server.pid}\n"
            assert server.stop() == 0
            assert not path.exists()
        assert stranger.poll() is None
    assert other.worker_pids() == {worker}


@pytest.mark.parametrize("exec_", ["", "exec "])
def test_a_shell_that_writes_the_pid_file_before_the_start(site: Site, exec_: str) -> None:
    port = free_port()
    site.add_app("hello")
    script = f"echo $$ > shop.pid; {exec_}{COMMAND} start hello --port {port} --pid-file shop.pid; exit $?"
    server = Server(site, ["/bin/sh", "-c", script], ("127.0.0.1", port))
    try:
        server.wait_listening()
        assert server.get("/").status == 200
        path = site.directory / "shop.pid"
        assert ("is taken over" in server.terminal) is (not exec_)
        watchdog = int(path.read_text())
        assert (watchdog == server.pid) is bool(exec_)
        os.kill(watchdog, signal.SIGTERM)
        assert server.wait_exit() == 0
        assert not path.exists()
    finally:
        left = server.reap()
    assert left == []


def test_of_two_starts_at_the_same_moment_one_wins(site: Site) -> None:
    """Over a file that both may take over: it names a living process that is no instance."""
    site.add_app("hello")
    (site.directory / "shop.pid").write_text(f"{os.getpid()}\n")
    ports = [free_port() for _ in range(3)]
    words = ["start", "hello", "--pid-file", "shop.pid", "--port"]
    servers = [Server(site, [COMMAND, *words, str(port)], ("127.0.0.1", port)) for port in ports]
    try:
        wait_for(lambda: sum(server.child.poll() is None for server in servers) == 1, "all but one to end")
        (winner,) = (server for server in servers if server.child.poll() is None)
        winner.wait_ready()
        for loser in servers:
            if loser is not winner:
                assert (loser.wait_exit(), f"already running on PID {winner.pid}." in loser.terminal) == (1, True)
        assert (site.directory / "shop.pid").read_text() == f"{winner.pid}\n"
    finally:
        left = [line for server in servers for line in server.reap()]
    assert left == []


@pytest.mark.skipif(sys.platform != "linux", reason="a process is known by what it has opened (proc)")
def test_stop_signals_no_process_that_has_the_pid_now(serve: Serve, site: Site) -> None:
    """`stop` falls back to a signal where the server process does not answer."""
    server = serve("hello")
    directory = Path(server.admin_socket()).parent
    described = json.loads((directory / "instance.json").read_text())
    with reading(site.write("appsrv.txt", "")) as stranger:
        (directory / "instance.json").write_text(json.dumps({**described, "pid": stranger.pid}))
        (directory / "lock").write_text(str(stranger.pid))
        os.kill(server.pid_of("appsrv server"), signal.SIGSTOP)
        (directory / "admin.sock").rename(directory / "gone.sock")
        assert site.command("stop", "--timeout", "0.2").returncode == 1
        assert stranger.poll() is None
        (directory / "instance.json").write_text(json.dumps(described))
        os.kill(server.pid_of("appsrv server"), signal.SIGCONT)
        assert site.command("stop").returncode == 0
    assert server.wait_exit() == 0
