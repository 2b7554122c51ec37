"""Closing the terminal: a server that was started there ends with it, one that was to go on goes on."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from support import processes
from support.http import send
from support.server import BIN, COMMAND, Site, free_port
from support.waiting import wait_for

FLASK = str(BIN / "flask")


class Window:
    """A terminal window: a session whose leader is `argv`, by default a shell that one types commands into."""

    def __init__(self, site: Site, *argv: str) -> None:
        self.site = site
        self.port = free_port()
        self.screen = ""
        self._master, theirs = pty.openpty()
        shell = ["bash", "--norc", "--noprofile", "-i"]
        self.leader = subprocess.Popen(
            [word.replace("PORT", str(self.port)) for word in argv] or shell, cwd=site.directory, env=site.environment,
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        self.pid = 0
        self.processes: list[psutil.Process] = []

    def start(self, line: str = "") -> None:
        """Type a command with PORT in it and wait until its server answers."""
        if line:
            self.type(line.replace("PORT", str(self.port)))
        wait_for(lambda: self._read() and self._answers(), f"an answer; on the screen:\n{self.screen}", 30)
        self.pid = wait_for(self._watchdog, "the instance")
        below = psutil.Process(self.pid).children(recursive=True)
        self.processes = [psutil.Process(self.pid), *below]

    def type(self, line: str) -> None:
        os.write(self._master, f"{line}\n".encode())

    def close(self) -> None:
        os.close(self._master)
        self._master = -1
        self.leader.wait(20)

    def get(self) -> str:
        return send(("127.0.0.1", self.port), "GET", "/").text

    def left(self) -> list[str]:
        """Processes of the server that live."""
        return [f"{one.pid} {processes.title(one)}" for one in self.processes if processes.alive(one)]

    def remove(self) -> None:
        if self._master >= 0:
            self.close()
        if self.pid and processes.alive_pid(self.pid):
            os.kill(self.pid, signal.SIGTERM)
        try:
            wait_for(lambda: not self.left(), "the end of the server")
        finally:
            for one in self.processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            processes.kill_session(self.leader.pid)

    def _read(self) -> bool:
        while select.select([self._master], [], [], 0)[0]:
            self.screen += os.read(self._master, 1 << 16).decode(errors="replace")
        return True

    def _answers(self) -> bool:
        try:
            return bool(self.get())
        except OSError:
            return False

    def _watchdog(self) -> int:
        for file in self.site.run.glob("appsrv/*/instance.json"):
            described = json.loads(file.read_text())
            if f":{self.port}/" in described["bind"][0]:
                self.log_file = Path(described["log_file"])
                return int(described["pid"])
        return 0


@pytest.fixture
def window(site: Site) -> Iterator[Window]:
    site.add_app("holding")
    opened = Window(site)
    yield opened
    opened.remove()


START = f"{COMMAND} start holding --port PORT"
RUNSERVER = f"{sys.executable} manage.py runserver PORT"


@pytest.mark.parametrize("line", [START, f"{START} > printed.txt 2>&1 < /dev/null &"], ids=["foreground", "background"])
def test_start_ends_gracefully_with_its_terminal(window: Window, line: str) -> None:
    window.start(line)
    connection = send(("127.0.0.1", window.port), "GET", "/")
    assert connection.status == 200
    window.close()
    wait_for(lambda: not window.left(), "the end of the server")
    assert "the terminal was closed" in window.log_file.read_text()
    assert not list(window.site.run.glob("appsrv/*/lock"))


def test_start_ends_with_a_terminal_whose_only_command_it_is(site: Site) -> None:
    """As `tmux new-window 'appsrv start'` and `ssh -t host appsrv start` start it."""
    site.add_app("holding")
    window = Window(site, *START.split())
    try:
        window.start()
        window.close()
        assert window.leader.returncode == 0
        assert not window.left()
    finally:
        window.remove()


@pytest.mark.parametrize("after", ["", " &"], ids=["foreground", "background"])
def test_runserver_ends_with_its_terminal(site: Site, after: str) -> None:
    site.add_project("django")
    assert site.run_command([sys.executable, "manage.py", "demo"]).returncode == 0
    window = Window(site)
    try:
        window.start(RUNSERVER + after)
        window.close()
        wait_for(lambda: not window.left(), "the end of the server")
    finally:
        window.remove()


def test_flask_run_ends_with_its_terminal(site: Site) -> None:
    site.add_project("flask")
    window = Window(site)
    try:
        window.start(f"{FLASK} --debug run --port PORT")
        window.close()
        wait_for(lambda: not window.left(), "the end of the server")
    finally:
        window.remove()


@pytest.mark.parametrize(
    "line",
    [f"nohup {START}", f"nohup {START} &", f"setsid {START}", f"{START} -d", f"{START} & disown"],
    ids=["nohup", "nohup-background", "setsid", "daemon", "disown"],
)
def test_what_is_to_go_on_without_its_terminal_does(window: Window, line: str) -> None:
    """And there SIGHUP asks for a restart."""
    window.start(line)
    worker = window.get()
    window.close()
    # The server has time to begin a restart, if it is to.
    assert window.site.command("status").returncode == 0
    assert (window.get(), "restarting" in window.log_file.read_text()) == (worker, False)
    os.kill(window.pid, signal.SIGHUP)
    wait_for(lambda: window.get() != worker, "the restart")
    assert window.log_file.read_text().count("restarting") == 1


def test_nohup_runserver_goes_on_without_its_terminal(site: Site) -> None:
    site.add_project("django")
    assert site.run_command([sys.executable, "manage.py", "demo"]).returncode == 0
    window = Window(site)
    try:
        window.start(f"nohup {RUNSERVER} &")
        window.close()
        assert window.get()
        assert len(window.left()) == len(window.processes)
    finally:
        window.remove()


def test_hup_by_hand_is_a_restart_on_a_terminal(window: Window) -> None:
    """From another process, and from the very shell that would pass on the terminal's own."""
    window.start(f"{START} &")
    worker = window.get()
    os.kill(window.pid, signal.SIGHUP)
    second = wait_for(lambda: (pid := window.get()) != worker and pid, "the first restart")
    window.type("kill -HUP %1")
    wait_for(lambda: window.get() not in (worker, second), "the second restart")
    assert processes.alive_pid(window.pid)


@pytest.mark.skipif(shutil.which("tmux") is None, reason="no tmux here")
def test_tmux(site: Site) -> None:
    """Detaching changes nothing, killing the window ends the server."""
    site.add_app("holding")
    port = str(free_port())
    tmux = ["tmux", "-L", f"appsrv-{port}", "-f", os.devnull]
    line = START.replace("PORT", port)
    window = Window(site, *tmux, "new-session", "-s", "test")
    window.port = int(port)
    try:
        wait_for(lambda: site.run_command([*tmux, "has-session", "-t", "test"]).returncode == 0, "the session")
        assert site.run_command([*tmux, "send-keys", "-t", "test", line, "Enter"]).returncode == 0
        window.start()
        worker = window.get()
        assert site.run_command([*tmux, "detach-client", "-s", "test"]).returncode == 0
        window.leader.wait(20)
        assert window.get() == worker
        assert site.run_command([*tmux, "kill-window", "-t", "test"]).returncode == 0
        wait_for(lambda: not window.left(), "the end of the server")
    finally:
        site.run_command([*tmux, "kill-server"])
        window.remove()
