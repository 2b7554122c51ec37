"""`appsrv start`: where it listens, what it prints, what it refuses, and which processes it makes."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import psutil
import pytest

from integration.conftest import Launch, Serve, Share
from support.http import send
from support.server import COMMAND, Site, free_port
from support.waiting import wait_for

WSGI = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "{length}")])
    return [b"{text}"]
"""


def wsgi(text: str) -> str:
    return WSGI.format(text=text, length=len(text))


# -- the banner and the processes --------------------------------------------------------------------------


def test_banner_names_what_one_needs(share: Share) -> None:
    server = share("hello")
    assert isinstance(server.address, tuple)
    wait_for(lambda: "Ctrl-C" in server.terminal, "the end of the banner")
    terminal = server.terminal
    for words in (
        f"http://127.0.0.1:{server.address[1]}/",
        f"appsrv.{server.address[1]}.pid",
        f"appsrv.{server.address[1]}.log",
        "production",
        "Ctrl-C",
    ):
        assert words in terminal


def test_titles_tell_the_processes_apart(serve: Serve) -> None:
    server = serve("hello", "--min-instances", "2")
    server.wait_workers(2)
    titles = sorted(text.partition(" (")[0] for text in server.titles().values())
    root = str(server.site.directory)
    assert titles == [
        f"appsrv preloader {root}",
        "appsrv server",
        "appsrv watchdog",
        f"appsrv worker {root}",
        f"appsrv worker {root}",
    ]


def test_server_process_has_no_application_and_workers_no_gevent(share: Share) -> None:
    server = share("hello")
    worker = min(server.worker_pids())
    maps = Path(f"/proc/{worker}/maps")
    if not maps.exists():
        pytest.skip("no /proc here")
    assert "gevent" not in maps.read_text()
    assert "gevent" in Path(f"/proc/{server.status()['server']['pid']}/maps").read_text()


def test_ctrl_c_and_term_stop_it(serve: Serve, site: Site) -> None:
    for signum in (signal.SIGINT, signal.SIGTERM):
        server = serve("hello")
        pid_file = server.status()["instance"]["pid_file"]
        assert Path(pid_file).read_text().strip() == str(server.pid)
        server.stop(signum)
        assert not Path(pid_file).exists()
        assert list(site.run.glob("appsrv/*/admin.sock")) == []


# -- where it listens --------------------------------------------------------------------------------------


def test_unix_socket(serve: Serve, site: Site) -> None:
    path = site.run / "web.sock"
    server = serve("echo", "--socket", str(path))
    environ = server.get("/").json["environ"]
    assert environ["REMOTE_ADDR"] == ""
    assert environ["SERVER_NAME"] == "localhost"
    server.stop()
    assert not path.exists()


def test_port_variable_means_every_address(launch: Launch, site: Site) -> None:
    site.add_app("hello")
    port = free_port()
    server = launch([COMMAND, "start", "hello:application"], ("127.0.0.1", port), {"PORT": str(port)})
    server.wait_ready()
    assert server.status()["instance"]["bind"] == [f"http://0.0.0.0:{port}/"]
    assert server.get("/").status == 200


# -- what it serves ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("passenger_wsgi.py", wsgi("found")),
        ("wsgi.py", wsgi("found").replace("application", "made") + "\ndef create_app():\n    return made\n"),
    ],
    ids=["passenger_wsgi", "factory"],
)
def test_application_is_found(launch: Launch, site: Site, file: str, text: str) -> None:
    """Where else one is found, tests/unit/apps/test_finder.py shows."""
    site.write(file, text)
    port = free_port()
    server = launch([COMMAND, "start", "--port", str(port)], ("127.0.0.1", port)).wait_ready()
    assert server.get("/").text == "found"


@pytest.mark.parametrize("named", ["shop.web:make()", "shop/web.py", "./shop"])
def test_application_can_be_named(launch: Launch, site: Site, named: str) -> None:
    site.write("shop/__init__.py", "")
    site.write("shop/web.py", wsgi("named") + "\ndef make():\n    return application\n")
    site.write("shop/wsgi.py", wsgi("named"))
    port = free_port()
    server = launch([COMMAND, "start", named, "--port", str(port)], ("127.0.0.1", port)).wait_ready()
    assert server.get("/").text == "named"


def test_dotenv_reaches_the_application(serve: Serve, site: Site) -> None:
    site.write(".env", "FROM_FILE=file\nFROM_BOTH=file\n")
    site.write(
        "env.py",
        "import os\n"
        "def application(environ, start_response):\n"
        "    body = f\"{os.environ.get('FROM_FILE')} {os.environ.get('FROM_BOTH')}\".encode()\n"
        "    start_response('200 OK', [('Content-Length', str(len(body)))])\n"
        "    return [body]\n",
    )
    assert serve("env:application", environment={"FROM_BOTH": "outside"}).get("/").text == "file outside"


# -- what it refuses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("app", "says"),
    [
        ("broken_import", "No module named 'module_that_is_not_there'"),
        ("broken_syntax", "SyntaxError"),
        ("broken_exit", "settings are missing"),
        ("broken_not_callable", "callable"),
    ],
)
def test_application_that_cannot_be_loaded(site: Site, app: str, says: str) -> None:
    site.add_app(app)
    done = site.command("start", f"{app}:application", "--port", str(free_port()))
    assert done.returncode == 4, done.stdout + done.stderr
    assert says in done.stderr + done.stdout
    for internal in ("package/appsrv/", "site-packages/appsrv/", "importlib"):
        assert internal not in done.stderr, "frames of appsrv are of no use to the author of the application"


def test_no_application(site: Site) -> None:
    done = site.command("start")
    assert done.returncode == 4
    assert "wsgi.py" in done.stderr


def test_port_in_use(site: Site) -> None:
    site.add_app("hello")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = site.command("start", "hello:application", "--port", str(port))
    assert done.returncode == 1
    assert str(port) in done.stderr
    assert "in use" in done.stderr


def test_second_start_of_the_same(share: Share) -> None:
    server = share("hello")
    assert isinstance(server.address, tuple)
    done = server.site.command("start", "hello:application", "--port", str(server.address[1]))
    assert done.returncode == 1
    assert f"already running on PID {server.pid}" in done.stderr
    assert server.get("/").status == 200


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["start", "--max-pool-szie", "3"], 2, "--max-pool-size"),
        (["start", "hello:application", "--max-pool-size", "many"], 2, "max-pool-size"),
        (["start", "hello:application", "--min-instances", "9"], 2, "max_pool_size"),
        (["start", "no/such/directory"], 4, "no/such/directory"),
        (["start", "hello:application", "--port", "0", "--log-file", "no/such/dir/x.log"], 1, "no/such/dir"),
        (["start", "hello:application", "--port", "0", "--pid-file", "no/such/dir/x.pid"], 1, "no/such/dir"),
    ],
)
def test_bad_command_line(site: Site, words: list[str], code: int, says: str) -> None:
    site.add_app("hello")
    done = site.command(*words)
    assert done.returncode == code, done.stdout + done.stderr
    assert says in done.stderr


def test_unknown_key_names_key_file_and_nearest(site: Site) -> None:
    site.add_app("hello")
    site.write("appsrv.toml", "max_pool_siez = 3\n")
    done = site.command("start", "hello:application")
    assert done.returncode == 2
    for words in ("max_pool_siez", "appsrv.toml", "max_pool_size"):
        assert words in done.stderr


# -- daemonized --------------------------------------------------------------------------------------------


def test_daemonize(site: Site) -> None:
    site.add_app("hello")
    port = free_port()
    done = site.command("start", "hello:application", "--port", str(port), "--daemonize")
    assert done.returncode == 0, done.stderr
    pid = int((site.directory / f"appsrv.{port}.pid").read_text())
    tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    try:
        assert send(("127.0.0.1", port), "GET", "/").status == 200
        assert os.getsid(pid) != os.getsid(0)
        stopped = site.command("stop", "--port", str(port))
        assert stopped.returncode == 0, stopped.stderr
        wait_for(lambda: not any(process.is_running() for process in tree), "the end of the daemon")
    finally:
        for process in tree:
            if process.is_running():
                process.kill()


def test_a_file_beside_a_package_of_its_name(launch: Launch, site: Site) -> None:
    """Whether it is found or given, as for `python app.py`."""
    site.write("app/__init__.py", "from hello import application\n\ndef create_app():\n    return application\n")
    site.write("app.py", "from app import create_app\napplication = create_app()\n")
    site.add_app("hello")
    for words in ([], ["app.py:application"]):
        port = free_port()
        server = launch([COMMAND, "start", *words, "--port", str(port)], ("127.0.0.1", port)).wait_ready()
        assert server.get("/").text == "Hello, world!\n"
        assert server.stop() == 0
