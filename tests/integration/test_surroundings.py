"""What surrounds a start: variables of other programs, users without a name, read-only file systems."""

from __future__ import annotations

import socket
import sys

import pytest

from integration.conftest import Launch
from support.http import send
from support.server import BIN, COMMAND, Site, free_port

COMMANDS = {
    "start": [COMMAND, "start", "--port", "{port}"],
    "runserver": [sys.executable, "manage.py", "runserver", "{port}"],
    "flask run": [str(BIN / "flask"), "run", "--port", "{port}"],
}
# What Kubernetes sets for a service named appsrv.
OF_SERVICE = {
    "APPSRV_PORT": "tcp://10.0.0.1:80", "APPSRV_SERVICE_HOST": "10.0.0.1", "APPSRV_SERVICE_PORT": "80",
    "APPSRV_PORT_80_TCP": "tcp://10.0.0.1:80", "APPSRV_PORT_80_TCP_PROTO": "tcp", "APPSRV_PORT_80_TCP_PORT": "80",
    "APPSRV_PORT_80_TCP_ADDR": "10.0.0.1",
}  # fmt: skip


# -- variables of other programs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "example"), [("start", "flask"), ("runserver", "django"), ("flask run", "flask")]
)
def test_variables_of_other_programs_end_no_start(site: Site, launch: Launch, command: str, example: str) -> None:
    site.add_project(example)
    port = free_port()
    argv = [word.format(port=port) for word in COMMANDS[command]]
    server = launch(argv, ("127.0.0.1", port), {**OF_SERVICE, "APPSRV_THREAD": "3"})
    server.wait_ready()
    log = server.log()
    assert log.count("4 more tell of the service appsrv (Kubernetes, or a container link) and are ignored") == 1, log
    assert log.count("$APPSRV_THREAD is no setting and has no effect (did you mean 'APPSRV_THREADS'?)") == 1, log
    assert "$APPSRV_THREAD is no setting" in server.terminal


def test_commands_in_the_background_tell_of_them_too(site: Site, launch: Launch) -> None:
    site.add_app("hello")
    started = site.command(
        "start", "hello:application", "-d", "--port", "0", environment={**OF_SERVICE, "APPSRV_THREAD": "3"}
    )
    try:
        assert (started.returncode, "appsrv: warning: the variable $APPSRV_THREAD" in started.stderr) == (0, True)
    finally:
        site.command("stop")
    printed = site.command("config", "docker", "hello:application", environment=OF_SERVICE)
    assert "tell of the service appsrv" in printed.stderr
    assert '"--port", "8000"' in printed.stdout


# -- every address, of both families -----------------------------------------------------------------------------------


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize(
    ("argv", "example"),
    [
        ([COMMAND, "start", "--address", "[::]", "--port", "{port}"], "flask"),
        ([COMMAND, "start", "--address", "*", "--port", "{port}"], "flask"),
        ([*COMMANDS["runserver"][:-1], "[::]:{port}"], "django"),
        ([*COMMANDS["flask run"], "--host", "::"], "flask"),
    ],
    ids=["start", "start *", "runserver", "flask run"],
)
def test_every_address_answers_both_families(
    site: Site, launch: Launch, argv: list[str], example: str
) -> None:
    site.add_project(example)
    if example == "django":
        assert site.run_command([sys.executable, "manage.py", "demo"]).returncode == 0
    port = free_port()
    server = launch([word.format(port=port) for word in argv], ("127.0.0.1", port)).wait_ready()
    assert [send((host, port), "GET", "/").status for host in ("127.0.0.1", "::1")] == [200, 200]
    assert server.status()["instance"]["bind"] == [f"http://[::]:{port}/"]


@pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")
def test_a_client_of_ipv4_has_its_address_on_every_address(site: Site, launch: Launch) -> None:
    site.add_app("echo")
    port = free_port()
    launch([COMMAND, "start", "echo:application", "-a", "::", "-p", str(port)], ("127.0.0.1", port)).wait_ready()
    seen = [send((host, port), "GET", "/").json["environ"]["REMOTE_ADDR"] for host in ("127.0.0.1", "::1")]
    assert seen == ["127.0.0.1", "::1"]
