"""What the system and the application's own timers do to the processes while they run."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal

from integration.conftest import Serve
from support.server import Server, Site
from support.waiting import wait_for

ALARMING = """
import os, signal

def strike(*_):
    raise TimeoutError("too late")

def application(environ, start_response):
    body = str(os.getpid()).encode()
    if environ["PATH_INFO"] == "/close-all":
        os.closerange(3, 4096)
    if environ["PATH_INFO"] == "/alarm":
        signal.signal(signal.SIGALRM, strike)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


def test_the_log_has_the_traceback_of_what_ends_an_idle_worker(site: Site, serve: Serve) -> None:
    """A timer that a view has left behind raises outside of any request, and so do descriptors that it has closed."""
    site.write("alarming.py", ALARMING)
    server = serve("alarming:application", "--min-instances", "1")
    assert server.get("/alarm").status == 200
    server.wait_log(r"raise TimeoutError\(\"too late\"\)")
    server.wait_log(r"^.*App \d+ stderr: TimeoutError: too late$")
    assert server.get("/").status == 200
    with contextlib.suppress(OSError):
        server.get("/close-all")
    server.wait_log(r"OSError: \[Errno 9\] Bad file descriptor")
    assert server.get("/").status == 200
    assert "lost sys.stderr" not in server.log()


def test_a_run_directory_that_is_removed_is_made_again(site: Site, serve: Serve) -> None:
    """systemd-tmpfiles removes it as old, logind with the last session of its user."""
    log = site.run / "server.log"
    server = serve("hello", "--min-instances", "1", "--log-file", str(log))
    base = site.run / "appsrv"
    shutil.rmtree(base)
    server.child.send_signal(signal.SIGHUP)
    # The next generation needs no run directory.
    wait_for(lambda: "is at generation 2" in server.log(), "the restart without a run directory")
    wait_until_found(server)
    assert site.command("status").returncode == 0
    assert site.command("restart-app", ".").returncode == 0
    assert site.command("start", "--port", str(server.address[1])).returncode != 0, "the lock is held again"

    # As after the logout of its user: it cannot be made. A server that starts then does without.
    shutil.rmtree(base)
    base.write_text("no directory")
    server.wait_log("cannot be made again")
    os.kill(server.pid_of("appsrv server"), signal.SIGKILL)
    server.wait_log("there is no admin socket")
    assert server.get("/").status == 200
    base.unlink()
    wait_until_found(server)
    assert site.command("status").returncode == 0


def wait_until_found(server: Server) -> None:
    def found() -> bool:
        try:
            return bool(server.status())
        except OSError:
            return False

    wait_for(found, "the run directory with the admin socket")
