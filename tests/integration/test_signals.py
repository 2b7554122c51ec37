"""Signals to the watchdog, and workers that are detached by hand."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psutil
import pytest

from integration.conftest import Launch, Serve
from support.load import Load
from support.on_terminal import OnTerminal
from support.server import COMMAND, Server, Site, free_port
from support.waiting import wait_for


@contextmanager
def hung(server: Server) -> Iterator[None]:
    """A request that never ends."""
    with closing(server.keep_alive()) as connection:
        connection.request("GET", "/hold?name=hung")
        wait_for((server.site.directory / "hung.begun").exists, "the request in the application")
        yield


def test_term_is_graceful_but_bounded_however_often_it_comes(serve: Serve) -> None:
    server = serve("holding", "--stop-timeout", "1.5")
    with hung(server):
        started = time.monotonic()
        while server.child.poll() is None and time.monotonic() - started < 10:
            server.child.send_signal(signal.SIGTERM)
            time.sleep(0.1)
        assert server.wait_exit() == 0
        assert 1.0 < time.monotonic() - started < 6


def test_a_second_int_ends_everything_now(serve: Serve) -> None:
    server = serve("holding", "--stop-timeout", "600")
    server.log()
    with hung(server):
        server.child.send_signal(signal.SIGINT)
        server.wait_log("Ctrl-C again ends them now")
        server.child.send_signal(signal.SIGINT)
        server.wait_exit()


def test_a_server_that_hangs_does_not_keep_the_watchdog_from_ending(serve: Serve) -> None:
    """Whatever there is to tell the server: more than the system keeps for a process that does not read."""
    server = serve("holding", "--stop-timeout", "0")
    os.kill(server.pid_of("appsrv server"), signal.SIGSTOP)
    watchdog = psutil.Process(server.pid)
    for _ in range(1000):
        switches = watchdog.num_ctx_switches()
        server.child.send_signal(signal.SIGHUP)
        wait_for(lambda: watchdog.num_ctx_switches() != switches, "the watchdog to take the signal")  # noqa: B023
    server.child.send_signal(signal.SIGTERM)
    assert server.wait_exit() == 0


def test_one_worker_more_and_one_fewer(serve: Serve) -> None:
    server = serve("holding", "--max-pool-size", "2")
    server.wait_workers(1)
    os.kill(server.pid, signal.SIGTTIN)
    server.wait_workers(2)
    os.kill(server.pid, signal.SIGTTIN)
    server.wait_log(r"keeps at least 2 workers \(2 before\)$")
    os.kill(server.pid, signal.SIGTTOU)
    server.wait_workers(1)
    assert server.group()["min_instances"] == 1


JOB = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
job = os.fork()
if not job:
    os.setpgid(0, 0)
    os.execv(sys.argv[1], sys.argv[1:])
open("job.pid", "w").write(str(job))
os.waitpid(job, 0)
"""


def test_a_background_job_on_a_terminal_with_tostop(site: Site) -> None:
    """`stty tostop; appsrv start &`: the kernel's TTOU neither stops it nor takes workers away."""
    site.add_app("printing")
    server = BackgroundJob(site)
    try:
        server.wait_ready()
        for number in range(5):
            assert server.get(f"/print?line-{number}").status == 200
        wait_for(lambda: "line-4" in server.terminal, "the lines on the terminal")
        assert psutil.Process(server.pid).status() != psutil.STATUS_STOPPED
        assert server.group()["min_instances"] == 2
    finally:
        left = server.reap()
        os.close(server.keyboard)
    assert left == []


class BackgroundJob(OnTerminal):
    """In a process group that is not the terminal's foreground one, as a shell starts `command &`."""

    new_session = False

    def __init__(self, site: Site) -> None:
        port = free_port()
        argv = [COMMAND, "start", "printing:application", "--port", str(port), "--min-instances", "2"]
        super().__init__(site, [sys.executable, "-c", JOB, *argv], ("127.0.0.1", port))
        job = site.directory / "job.pid"
        self.job: int = int(wait_for(lambda: job.read_text() if job.exists() else "", "the job"))

    def prepare(self, terminal: int) -> None:
        attributes = termios.tcgetattr(terminal)
        attributes[3] |= termios.TOSTOP
        termios.tcsetattr(terminal, termios.TCSANOW, attributes)

    @property
    def pid(self) -> int:
        return self.job

    def stop(self, signum: signal.Signals = signal.SIGTERM, seconds: float = 20.0) -> int:
        if self.child.poll() is None:
            os.kill(self.job, signum)
        return self.wait_exit(seconds)


def test_a_detached_worker_leaves_without_a_gap(serve: Serve, site: Site) -> None:
    server = serve("holding", "--max-pool-size", "1")
    pid = min(server.worker_pids())
    with Load(server.address, 3) as load:
        wait_for(lambda: load.served > 50, "load")
        done = site.command("detach-process", str(pid))
        assert (done.returncode, done.stdout) == (0, f"Process {pid} detached.\n"), done.stderr
        assert pid not in server.titles()
    assert load.failures == []
    assert len(server.worker_pids()) == 1
    no_worker, no_instance = "is not a worker of", "no running appsrv"
    for stranger, says in ((server.pid_of("appsrv preloader"), no_worker), (os.getpid(), no_instance)):
        done = site.command("detach-process", str(stranger))
        assert done.returncode == 1
        assert says in done.stderr


def test_a_detached_worker_finishes_its_request(serve: Serve, site: Site) -> None:
    server = serve("holding", "--max-pool-size", "2")
    pid = min(server.worker_pids())
    connection = server.keep_alive()
    connection.request("GET", "/hold?name=long")
    wait_for((site.directory / "long.begun").exists, "the request in the application")
    command = subprocess.Popen([COMMAND, "detach-process", str(pid)], cwd=site.directory, env=site.environment)
    server.wait_log(rf"worker {pid} .* retires: it is detached by hand$")
    assert command.poll() is None, "it waits for the outcome"
    site.write("long.release", "")
    assert int(connection.getresponse().read()) == pid
    assert command.wait(10) == 0
    assert server.get("/").text != str(pid)
    connection.close()


# A signal that comes as soon as the instance owns everything, just before it starts its processes.
AS_SOON_AS_OPEN = """
import os, signal, sys
from appsrv.cli import main
from appsrv.watchdog.resources import Resources

publish = Resources._publish

def publish_and_end(self):
    info = publish(self)
    os.kill(os.getpid(), {number})
    return info

Resources._publish = publish_and_end
sys.argv[0] = "appsrv"
main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_end_before_the_first_process_leaves_nothing(site: Site, number: signal.Signals) -> None:
    site.add_app("hello")
    code = AS_SOON_AS_OPEN.format(number=int(number))
    command = [sys.executable, "-c", code, "start", "hello:application", "--port", str(free_port())]
    assert site.run_command(command).returncode == 0
    assert list(site.directory.glob("*.pid")) == []
    assert [path for path in site.run.glob("appsrv/*") if path.is_dir()] == []


def test_term_while_the_start_waits_for_a_reader_of_the_log(site: Site, launch: Launch) -> None:
    site.add_app("hello")
    os.mkfifo(site.directory / "log")
    address = ("127.0.0.1", free_port())
    server = launch([COMMAND, "start", "hello:application", "--port", str(address[1]), "--log-file", "log"], address)
    wait_for(lambda: list(site.directory.glob("*.pid")), "the pid file")
    server.child.send_signal(signal.SIGTERM)
    assert server.wait_exit() == 143
    assert list(site.directory.glob("*.pid")) == []
