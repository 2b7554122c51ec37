"""What surrounds a start: variables of other programs, users without a name, read-only file systems."""

from __future__ import annotations

import json
import socket
import sys

import pytest

from integration.conftest import Launch
from support import confined
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
    assert log.count("4 more describe the service appsrv (Kubernetes, or a container link) and are ignored") == 1, log
    assert log.count("$APPSRV_THREAD is not a setting and has no effect (did you mean 'APPSRV_THREADS'?)") == 1, log
    assert "$APPSRV_THREAD is not a setting" in server.terminal


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
    assert "describe the service appsrv" in printed.stderr
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
        ([COMMAND, "start", "--address", "*", "--port", "{port}"], "flask"),
        ([*COMMANDS["runserver"][:-1], "[::]:{port}"], "django"),
        ([*COMMANDS["flask run"], "--host", "::"], "flask"),
    ],
    ids=["start *", "runserver", "flask run"],
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
    argv = [COMMAND, "start", "echo:application", "-a", "[::]", "-p", str(port)]
    server = launch(argv, ("127.0.0.1", port)).wait_ready()
    assert server.status()["instance"]["bind"] == [f"http://[::]:{port}/"]
    seen = [send((host, port), "GET", "/").json["environ"]["REMOTE_ADDR"] for host in ("127.0.0.1", "::1")]
    assert seen == ["127.0.0.1", "::1"]


# -- users without a name, read-only file systems ----------------------------------------------------------------------

# From start to stop by a user who sees one writable directory; $1 is the port, the others are the command.
FROM_START_TO_STOP = """
port=$1; shift
"$@" start --port "$port" hello:application > "$WRITABLE/out" 2>&1 & server=$!
until grep -q "web server started" "$WRITABLE/out"; do
    kill -0 $server || break
    sleep 0.1
done
"$@" status -p "$port" --show server
"$@" restart-app . && "$@" stop
wait $server; echo "ended with $?"
cat "$WRITABLE/out"
"""


@pytest.mark.parametrize(
    ("home", "writable", "mode", "base"),
    [
        (None, "/tmp", 0o1777, "/tmp/appsrv-12345"),
        ("/", "/dev/shm", 0o1777, "/dev/shm/appsrv-12345"),
        # As an emptyDir of Kubernetes is.
        ("/nonexistent", "/tmp", 0o777, "/tmp/appsrv-12345"),
        ("/tmp", "/tmp", 0o1777, "/tmp/.local/state/appsrv/run"),
    ],
)
def test_a_number_on_a_read_only_root(
    open_site: Site, home: str | None, writable: str, mode: int, base: str
) -> None:
    open_site.add_app("hello")
    words = [str(free_port()), COMMAND]
    environ = {"HOME": home} if home is not None else {}
    printed = confined.run(FROM_START_TO_STOP, words, open_site.directory, environ, writable=writable, mode=mode)
    assert "web server started" in printed, printed
    assert f"PID file        : {base}/" in printed
    assert ("is at generation 2" in printed, "ended with 0" in printed) == (True, True), printed
    assert ("no sticky bit" in printed) == (mode == 0o777), printed


def test_a_daemon_without_a_place_of_its_own_logs_in_the_run_directory(open_site: Site) -> None:
    open_site.add_app("hello")
    script = '"$1" start -d -p $2 hello:application; "$1" logs -p $2; "$1" stop'
    words = [COMMAND, str(free_port())]
    seen = confined.run(script, words, open_site.directory, {"HOME": "/"}, writable="/dev/shm")
    assert "is ready (generation 1)" in seen, seen
    assert "the server log is /dev/shm/appsrv-12345/" in seen
    assert seen.endswith(" done\n")


# The container of `config docker`: its command, which $1 is the first word of, and its health check.
CONTAINER = """
health=$1; shift
"$@" > "$WRITABLE/out" 2>&1 & server=$!
until grep -q " serving " "$WRITABLE/out"; do
    kill -0 $server || break
    sleep 0.1
done
sh -c "$health" && echo healthy
kill -TERM $server; wait $server; echo "ended with $?"
cat "$WRITABLE/out"
"""


@pytest.mark.parametrize("home", [None, "/"])
def test_the_container_of_config_docker(open_site: Site, home: str | None) -> None:
    open_site.add_app("hello")
    port = str(free_port())
    printed = open_site.command("config", "docker", "hello:application", "--port", port)
    assert printed.returncode == 0, printed.stderr
    lines = printed.stdout.replace("\\\n", "").splitlines()
    (command,) = [json.loads(line.partition(" ")[2]) for line in lines if line.startswith("CMD ")]
    (health,) = [json.loads(line.partition("CMD ")[2])[2] for line in lines if line.startswith("HEALTHCHECK ")]
    environ = dict(line.partition(" ")[2].split("=", 1) for line in lines if line.startswith("ENV "))
    assert command[0] == "appsrv"
    words = [health.replace("appsrv ", f"{COMMAND} ", 1), COMMAND, *command[1:]]
    seen = confined.run(CONTAINER, words, open_site.directory, environ if home is None else {**environ, "HOME": home})
    assert ("healthy" in seen, "ended with 0" in seen) == (True, True), seen
    assert "(pid file none, log file none)" in seen


DEVELOPMENT = """
port=$1; shift
"$@" & server=$!
until python3 -c "import urllib.request as r, sys; r.urlopen('http://127.0.0.1:' + sys.argv[1])" $port 2>/dev/null; do
    kill -0 $server || break
    sleep 0.1
done
ps -o args= --ppid $server
kill -TERM $server; wait $server; echo "ended with $?"
"""


@pytest.mark.parametrize(
    ("command", "example"), [("runserver", "django"), ("flask run", "flask")]
)
def test_development_servers_of_a_number_on_a_read_only_root(
    open_site: Site, command: str, example: str
) -> None:
    open_site.add_project(example)
    if example == "django":
        assert open_site.run_command([sys.executable, "manage.py", "demo"]).returncode == 0
    else:
        # The example keeps files beside itself.
        open_site.write("app.py", "import flask\napp = flask.Flask('a')\napp.add_url_rule('/', 'i', lambda: 'i')\n")
    port = str(free_port())
    argv = [port, *(word.format(port=port) for word in COMMANDS[command])]
    seen = confined.run(DEVELOPMENT, argv, open_site.directory, {"HOME": "/"}, writable="/dev/shm")
    assert ("appsrv server" in seen, "ended with 0" in seen, "Traceback" in seen) == (True, True, False), seen
