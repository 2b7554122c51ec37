"""`appsrv top` on a real pseudo-terminal and without one."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
from collections.abc import Callable, Iterator

import pytest

from integration.conftest import Serve, Share
from support.server import COMMAND, Server, Site
from support.waiting import wait_for

Start = Callable[..., "TopOnTerminal"]


class TopOnTerminal:
    """`appsrv top` on a terminal of its own. `screen` is everything that was drawn so far."""

    def __init__(self, site: Site, *options: str, environment: dict[str, str] | None = None) -> None:
        self.keyboard, self.theirs = pty.openpty()
        self.resize(24, 100)
        self.before = termios.tcgetattr(self.theirs)
        self.drawn = ""
        variables = {key: value for key, value in site.environment.items() if key != "NO_COLOR"}
        self.child = subprocess.Popen(
            [COMMAND, "top", "--interval", "0.1", *options], cwd=site.directory, stdin=self.theirs, stdout=self.theirs,
            # A process group whose parent is in its session: others cannot be stopped (setpgid(2)).
            stderr=self.theirs, preexec_fn=os.setpgrp, env={**variables, "TERM": "xterm", **(environment or {})},
        )

    def resize(self, lines: int, columns: int) -> None:
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("4H", lines, columns, 0, 0))

    def screen(self) -> str:
        while select.select([self.keyboard], [], [], 0)[0]:
            self.drawn += os.read(self.keyboard, 1 << 16).decode(errors="replace")
        return self.drawn

    def frame(self) -> str:
        """What was drawn last, whole."""
        return self.screen().rpartition("\x1b[H")[0].rpartition("\x1b[H")[2]

    def press(self, keys: str) -> None:
        os.write(self.keyboard, keys.encode())

    def shows(self, words: str) -> str:
        def found() -> str:
            frame = self.frame()
            return frame if re.search(words, frame) else ""

        return wait_for(found, f"{words!r} on the screen")

    def ends(self) -> int:
        return self.child.wait(20)

    def is_restored(self) -> bool:
        return self.screen().rstrip().endswith("\x1b[?25h\x1b[?1049l") and termios.tcgetattr(self.theirs) == self.before

    def wait_restored(self) -> None:
        """What a process has written may reach this side of a terminal only after its end."""
        wait_for(self.is_restored, "the terminal to be given back")

    def close(self) -> None:
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        for end in (self.keyboard, self.theirs):
            os.close(end)


@pytest.fixture
def server(share: Share) -> Server:
    return share("hello", "--min-instances", "2")


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[TopOnTerminal] = []

    def begin(server: Server, *options: str, environment: dict[str, str] | None = None) -> TopOnTerminal:
        started.append(TopOnTerminal(server.site, *options, environment=environment))
        return started[-1]

    yield begin
    for one in started:
        one.close()


def test_keys(server: Server, start: Start) -> None:
    terminal = start(server)
    frame = terminal.shows(r"2 workers")
    assert all(str(pid) in frame for pid in server.worker_pids())
    terminal.press("m")
    terminal.shows("by memory")
    terminal.press("?")
    terminal.shows("Keys of appsrv top")
    terminal.press(" ")
    terminal.shows("by memory")
    terminal.press("\x1b[B")
    terminal.press("t")
    assert "most recent call last" in terminal.shows("appsrv worker")
    terminal.press(" ")
    terminal.resize(5, 30)
    terminal.child.send_signal(signal.SIGWINCH)
    wait_for(lambda: widest(terminal.frame()) <= 30, "30 columns")
    terminal.press("q")
    assert terminal.ends() == 0
    terminal.wait_restored()


def test_detach_and_restart_ask_first(serve: Serve, start: Start) -> None:
    server = serve("hello", "--min-instances", "2")
    server.wait_workers(2)
    terminal = start(server)
    terminal.shows("2 workers")
    pids = server.worker_pids()
    terminal.press("d")
    terminal.shows(r"Detach worker \d+\? \(y/n\)")
    terminal.press("n")
    terminal.shows("q quit")
    assert server.worker_pids() == pids
    terminal.press("d")
    terminal.shows("Detach worker")
    terminal.press("y")
    terminal.shows(r"worker \d+ detached")
    terminal.press("R")
    terminal.shows(r"Restart .*\(y/n\)")
    terminal.press("y")
    terminal.shows("restarted")
    assert server.group()["generation"] == 2


@pytest.mark.parametrize(("how", "code"), [("\x03", 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_the_terminal_is_restored(server: Server, start: Start, how: str | signal.Signals, code: int) -> None:
    terminal = start(server)
    terminal.shows("2 workers")
    if isinstance(how, str):
        terminal.press(how)
    else:
        terminal.child.send_signal(how)
    assert terminal.ends() == code
    terminal.wait_restored()


def test_it_is_restored_while_it_is_stopped(server: Server, start: Start) -> None:
    terminal = start(server)
    terminal.shows("2 workers")
    terminal.press("\x1a")
    terminal.wait_restored()
    wait_for(lambda: stopped(terminal.child.pid), "it to be stopped")
    terminal.child.send_signal(signal.SIGCONT)
    before = len(terminal.screen())
    wait_for(lambda: "2 workers" in terminal.screen()[before:], "it to go on")
    assert not terminal.is_restored()
    terminal.press("q")
    assert terminal.ends() == 0
    terminal.wait_restored()


def widest(frame: str) -> int:
    return max(len(re.sub(r"\x1b\[\??\d*\w", "", line.strip("\r"))) for line in frame.split("\n"))


def stopped(pid: int) -> bool:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "T"


def test_colour_only_where_it_is_wanted(server: Server, start: Start) -> None:
    coloured, plain = start(server), start(server, environment={"NO_COLOR": "1"})
    assert "\x1b[1m" in coloured.shows("2 workers")
    assert "\x1b[1m" not in plain.shows("2 workers")


def test_without_a_terminal(server: Server) -> None:
    said = server.site.command("top", "-n", "2", "--interval", "0.1")
    assert said.returncode == 0, said.stderr
    assert said.stdout.count("2 workers") == 2
    assert "\x1b" not in said.stdout
    lines = server.site.command("top", "--json", "-n", "3", "--interval", "0.1").stdout.splitlines()
    assert {worker["pid"] for worker in json.loads(lines[2])["workers"]} == server.worker_pids()


def test_the_end_of_the_server_is_told(server: Server, start: Start) -> None:
    terminal = start(server)
    terminal.shows("2 workers")
    server.stop()
    assert terminal.ends() == 3
    wait_for(lambda: "appsrv is not running" in terminal.screen(), "the reason")
    assert termios.tcgetattr(terminal.theirs) == terminal.before
