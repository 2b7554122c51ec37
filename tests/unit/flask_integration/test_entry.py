"""appsrv_flask: when `flask run` is taken over, what is asked of appsrv, and which lines are printed."""

from __future__ import annotations

import errno
import logging
import os
import ssl
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest

pytest.importorskip("flask")

from click.testing import CliRunner, Result
from flask import Flask
from flask.cli import FlaskGroup, run_command
from werkzeug.debug import DebuggedApplication
from werkzeug.test import create_environ

from appsrv.development import reloader, run
from appsrv.errors import ListenError
from appsrv_flask import autoreload, certificate, command, run_on_appsrv
from appsrv_flask.access_log import log_request
from appsrv_flask.broken import raising
from support import certificates


class Stopped(SystemExit):
    """What a door of appsrv that never returns does here instead."""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that names appsrv, as the working directory of a `flask` command."""
    (tmp_path / "requirements.txt").write_text("appsrv[flask]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["/usr/bin/flask", "run"])
    monkeypatch.setattr(sys, "gettrace", lambda: None)
    for name in ("APPSRV_RUNSERVER", "FLASK_DEBUG", "WERKZEUG_RUN_MAIN", "APPSRV_BOOT", "FLASK_RUN_PORT"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What development.start is asked for."""
    calls: list[dict[str, Any]] = []

    def start(**asked: Any) -> None:
        calls.append(asked)
        raise Stopped(0)

    monkeypatch.setattr(run, "start", start)
    monkeypatch.setattr(run, "inside_preloader", lambda: False)
    return calls


@pytest.fixture
def original(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The parameters that the built-in command is called with."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(run_command, "callback", lambda **params: calls.append(params))
    return calls


def flask_run(*arguments: str, create_app: Callable[[], Flask] | None = None, **variables: str) -> Result:
    group = FlaskGroup(create_app=create_app or (lambda: Flask("shop")))
    group.add_command(command.run)
    result = CliRunner().invoke(group, ["run", *arguments], env=variables)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


# -- the typed command


def test_entry_point_of_the_environment_is_this_command() -> None:
    from importlib.metadata import entry_points

    found = [entry.value for entry in entry_points(group="flask.commands") if entry.name == "run"]
    assert found == ["appsrv_flask.command:run"]


def test_options_are_the_built_ins_and_ours() -> None:
    names = [parameter.name for parameter in command.run.params]
    assert names[: len(run_command.params)] == [parameter.name for parameter in run_command.params]
    assert names[len(run_command.params) :] == ["max_pool_size", "threads"]
    assert command.run.help == run_command.help


def test_typed_command_becomes_a_watchdog(started: list[dict[str, Any]], project: Path) -> None:
    flask_run("--debug", "-h", "::1", "--threads", "2", FLASK_RUN_PORT="8124")
    (asked,) = started
    assert (asked["host"], asked["port"]) == ("::1", 8124)
    assert (asked["root"], asked["flags"]) == (str(project), {"threads": 2})
    assert asked["defaults"] == {"max_pool_size": 1, "threads": 8}
    assert asked["environ"] == {"WERKZEUG_RUN_MAIN": "true"}
    assert asked["argv"] == [sys.executable, *sys.orig_argv[1:]]


def test_the_application_is_not_imported_in_the_typed_command(started: list[dict[str, Any]]) -> None:
    def create_app() -> Flask:
        raise AssertionError("imported")

    flask_run("--no-reload", create_app=create_app)
    assert started[0]["environ"] == {}


def test_an_impossible_port_is_a_usage_error(started: list[dict[str, Any]]) -> None:
    result = flask_run("-p", "70000")
    assert result.exit_code == 2
    assert not started


# -- stepping aside


@pytest.mark.parametrize(
    "arguments", [["--without-threads"], ["--host", "unix:///tmp/x"]], ids=lambda a: a[0]
)
def test_original_serves_what_appsrv_cannot(
    started: list[dict[str, Any]], original: list[dict[str, Any]], arguments: list[str]
) -> None:
    flask_run(*arguments)
    assert not started
    assert len(original) == 1


@pytest.mark.parametrize("arguments", [["--cert", "cert.pem", "--key", "key.pem"], ["--cert", "own.context"]])
def test_original_serves_with_what_only_it_can_read(
    started: list[dict[str, Any]], original: list[dict[str, Any]], project: Path, arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    certificates.make(project, passphrase=b"secret")
    monkeypatch.setitem(sys.modules, "own", SimpleNamespace(context=ssl.create_default_context()))
    flask_run(*arguments)
    assert (started, len(original)) == ([], 1)


def test_a_certificate_of_files(started: list[dict[str, Any]], project: Path) -> None:
    pair = certificates.make(project)
    flask_run("--cert", "cert.pem", "--key", "key.pem")
    assert started[0]["flags"] == dict(zip(("ssl_certificate", "ssl_certificate_key"), pair, strict=True))


def test_a_certificate_made_up_is_kept(started: list[dict[str, Any]], tmp_path: Path) -> None:
    state = tmp_path / "state"
    flask_run("--cert", "adhoc", XDG_STATE_HOME=str(state))
    path = state / "appsrv" / "adhoc-certificate.pem"
    assert started[0]["flags"] == {"ssl_certificate": str(path)}
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    first = path.read_bytes()
    flask_run("--cert", "adhoc", XDG_STATE_HOME=str(state))
    assert path.read_bytes() == first
    # Before it expires there is another one.
    old = path.stat().st_mtime - certificate.CERTIFICATE_REUSE_SECONDS - 1
    os.utime(path, (old, old))
    flask_run("--cert", "adhoc", XDG_STATE_HOME=str(state))
    assert path.read_bytes() != first
    assert list(path.parent.iterdir()) == [path]


def test_a_certificate_made_up_is_kept_without_a_state_directory(
    started: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    no_directory = tmp_path / "file"
    no_directory.touch()
    flask_run("--cert", "adhoc", XDG_STATE_HOME=str(no_directory))
    flask_run("--cert", "adhoc", XDG_STATE_HOME=str(no_directory))
    kept = temporary / f"appsrv-{os.geteuid()}"
    assert [*temporary.rglob("*")] == [kept, kept / "adhoc-certificate.pem"]
    assert kept.stat().st_mode & 0o777 == 0o700
    assert started[0]["flags"] == started[1]["flags"] == {"ssl_certificate": str(kept / "adhoc-certificate.pem")}

    # What another may have put there is not used.
    (kept / "adhoc-certificate.pem").unlink()
    kept.rmdir()
    kept.symlink_to(tmp_path)
    flask_run("--cert", "adhoc", XDG_STATE_HOME=str(no_directory))
    assert Path(started[2]["flags"]["ssl_certificate"]).parent not in (kept, tmp_path)


def test_original_serves_a_project_that_does_not_name_appsrv(
    original: list[dict[str, Any]], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "requirements.txt").write_text("flask\n")
    monkeypatch.setattr(run, "inside_preloader", lambda: pytest.fail("it did not even have to ask"))
    flask_run("-p", "8124", "--extra-files", f"a{os.pathsep}b", "--debug")
    (params,) = original
    assert params["port"] == 8124
    assert params["extra_files"] == ["a", "b"]
    assert not {"threads", "max_pool_size"} & set(params)


@pytest.mark.parametrize("value", ["0", "off", "False"])
def test_switch(original: list[dict[str, Any]], value: str) -> None:
    flask_run(APPSRV_RUNSERVER=value)
    assert len(original) == 1


def test_original_serves_under_a_debugger_and_inside_werkzeugs_reloader(
    started: list[dict[str, Any]], original: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    flask_run(WERKZEUG_RUN_MAIN="true")
    monkeypatch.setattr(sys, "gettrace", lambda: len)
    flask_run()
    assert len(original) == 2
    assert not started


def test_a_project_elsewhere_named_by_its_path_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "a" / "b" / "work"
    elsewhere.mkdir(parents=True)
    monkeypatch.chdir(elsewhere)
    assert not command.project_names_appsrv("app")
    assert command.project_names_appsrv(f"{tmp_path}/app.py:create_app()")


@pytest.mark.process
def test_importing_the_entry_point_loads_nothing_of_appsrv() -> None:
    code = "import flask.cli, sys; import appsrv_flask.command; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = done.stdout.split()
    assert not {"gevent", "appsrv", "appsrv.development.run", "watchfiles"} & set(loaded)


@pytest.mark.process
def test_a_flask_it_does_not_understand_keeps_its_own_command() -> None:
    code = (
        "import flask.cli, click; click.IntRange = None\n"
        "import appsrv_flask.command as c; assert c.run is flask.cli.run_command"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# -- inside the preloader


class Served:
    """A preloader whose development.serve has been reached."""

    def __init__(self) -> None:
        self.failure: ListenError | None = None
        self.application: Any = None
        self.watch: Any = None
        self.broken = False

    def serve(
        self, load: Any, *, banner: Any, watch: Any = None, log_request: Any = None, framework: Any = None,
        broken: bool = False,
    ) -> None:
        if self.failure is not None:
            raise self.failure
        self.application = load()
        banner(["http://127.0.0.1:8124/"])
        self.watch = watch
        self.broken = broken
        raise Stopped(0)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    doubled = Served()
    monkeypatch.setattr(run, "inside_preloader", lambda: True)
    monkeypatch.setattr(run, "serve", doubled.serve)
    monkeypatch.setattr(autoreload, "name", lambda: "stat")
    return doubled


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What the logger `werkzeug` has said, without colours."""
    logger = logging.getLogger("werkzeug")
    monkeypatch.setattr(logger, "level", logging.INFO)
    caplog.set_level(logging.INFO, logger="werkzeug")

    def said() -> list[str]:
        return [click.unstyle(line) for record in caplog.records for line in record.getMessage().splitlines()]

    return said


def test_lines_of_the_first_boot_are_the_built_ins(served: Served, lines: Callable[[], list[str]]) -> None:
    result = flask_run("--debug", "-p", "8124", WERKZEUG_RUN_MAIN="true")
    assert " * Debug mode: on" in result.output
    said = lines()
    assert said[0].startswith("WARNING: This is a development server.")
    assert said[1:5] == [
        " * Running on http://127.0.0.1:8124",
        "Press CTRL+C to quit",
        " * Restarting with stat",
        " * Debugger is active!",
    ]
    assert said[5].startswith(" * Debugger PIN: ")
    assert isinstance(served.application, DebuggedApplication)
    assert "127.0.0.1" in served.application.trusted_hosts
    assert served.watch is not None


def test_without_debug_mode_there_is_no_debugger_and_no_reloading(
    served: Served, lines: Callable[[], list[str]]
) -> None:
    flask_run()
    assert isinstance(served.application, Flask)
    assert served.watch is None
    assert lines()[-1] == "Press CTRL+C to quit"


def test_a_preloader_is_one_whatever_the_dependency_files_say_by_now(served: Served, project: Path) -> None:
    (project / "requirements.txt").write_text("flask\n<<<<<<< HEAD\n")
    flask_run("--threads", "4", APPSRV_PRELOADER="3,4")
    assert isinstance(served.application, Flask)


def test_a_save_counts_whose_time_is_that_of_the_tick_before_the_start(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autoreload, "STARTED", 0.0)
    monkeypatch.setattr("appsrv_flask.run_on_appsrv.time.time", lambda: 1000.0)
    flask_run("--debug")
    assert 999.0 < autoreload.STARTED < 999.99


def test_all_addresses_are_named(served: Served, lines: Callable[[], list[str]]) -> None:
    flask_run("--host", "0.0.0.0")
    assert " * Running on all addresses (0.0.0.0)" in lines()
    assert " * Running on http://127.0.0.1:8124" in lines()


def test_lines_of_a_reload_are_the_built_ins(served: Served, lines: Callable[[], list[str]]) -> None:
    result = flask_run("--debug", APPSRV_BOOT="2", WERKZEUG_RUN_MAIN="true")
    assert result.output == ""
    assert lines()[:2] == [" * Restarting with stat", " * Debugger is active!"]


def broken_app() -> Flask:
    raise ZeroDivisionError("on purpose")


@pytest.mark.usefixtures("served")
def test_an_application_that_does_not_import_ends_the_first_boot() -> None:
    with pytest.raises(ZeroDivisionError):
        flask_run("--debug", create_app=broken_app)


def test_after_a_change_it_is_shown_instead(served: Served, capfd: pytest.CaptureFixture[str]) -> None:
    flask_run("--debug", "--no-debugger", create_app=broken_app, APPSRV_BOOT="2")
    answers: list[Any] = []
    body = served.application({"HTTP_ACCEPT": "*/*"}, lambda *answer: answers.append(answer))
    assert answers[0][0] == "500 Internal Server Error"
    assert b"ZeroDivisionError" in b"".join(body)
    assert __file__ in served.watch._extra_files
    assert served.broken
    failure = dict(answers[0][1])["Appsrv-Failure"]
    assert served.watch._on_change is not None
    served.watch._on_change()
    served.application({"HTTP_APPSRV_FAILURE": failure}, lambda *answer: answers.append(answer))
    assert (answers[1][0], "Appsrv-Failure" in dict(answers[1][1])) == ("204 No Content", False)


def test_the_debuggers_page_heals_itself_too(served: Served) -> None:
    flask_run("--debug", create_app=broken_app, APPSRV_BOOT="2")
    answers: list[Any] = []
    environ = {**create_environ("/"), "HTTP_HOST": "localhost"}
    body = b"".join(served.application(environ, lambda *answer: answers.append(answer)))
    fields = dict(answers[0][1])
    assert (answers[0][0][:3], int(fields["Content-Length"])) == ("500", len(body))
    assert f'const failure = "{fields["Appsrv-Failure"]}"'.encode() in body
    assert b"Werkzeug Debugger" in body


def test_an_address_in_use_is_said_in_the_built_ins_words(served: Served) -> None:
    served.failure = ListenError("no", errno.EADDRINUSE)
    result = flask_run("-p", "8124")
    assert result.exit_code == 1
    assert f"{os.strerror(errno.EADDRINUSE)}\nPort 8124 is in use by another program." in result.output


# -- logs and watching


@pytest.mark.parametrize(
    ("status", "line"), [(200, '"GET /a b?c HTTP/1.1" 200 -'), (404, '"\x1b[33mGET /a b?c HTTP/1.1\x1b[0m" 404 -')]
)
def test_access_lines_are_the_built_ins(
    caplog: pytest.LogCaptureFixture, lines: Callable[[], list[str]], status: int, line: str
) -> None:
    environ = {
        "REQUEST_METHOD": "GET",
        "RAW_URI": "/a b?c",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.9",
    }
    log_request(environ, status, 12, 0.0)
    said = caplog.records[-1].getMessage()
    assert said.startswith("127.0.0.9 - - [")
    assert said.endswith(line)


def test_watching_follows_werkzeugs_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("app.py", "cache.py", "extra.toml", "page.html"):
        (tmp_path / name).write_text("x = 1\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    watch = autoreload.FlaskFileWatch([str(tmp_path / "extra.toml")], ["*/cache.py"])
    inside = {Path(path).name for path in watch._files() if Path(path).parent == tmp_path}
    assert inside == {"app.py", "extra.toml"}


def test_a_change_is_reported_with_werkzeugs_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: Callable[[], list[str]]
) -> None:
    reports: list[list[str]] = []

    def watch(files: object, changed: Callable[[list[str]], bool], *, since: float) -> None:
        assert not changed([f"{tmp_path}/app.py"])

    monkeypatch.setattr(reloader, "watch", watch)
    autoreload.FlaskFileWatch([], [])(reports.append, reports.append)
    assert reports == [[f"{tmp_path}/app.py"]]
    assert lines() == [f" * Detected change in '{tmp_path}/app.py', reloading"]


def test_defaults_of_debug_mode() -> None:
    params = {
        "host": "localhost",
        "port": 1,
        "reload": None,
        "debugger": False,
        "extra_files": None,
        "exclude_patterns": ["x"],
        "with_threads": True,
    }
    options = run_on_appsrv.Options.of(params)
    assert options == run_on_appsrv.Options("localhost", 1, False, False, [], ["x"])


def test_what_could_not_be_loaded_has_the_same_traceback_in_each_request() -> None:
    try:
        compile("def home() oops:", "app.py", "exec")
    except SyntaxError as error:
        application = raising(error)
    lengths = set()
    for _ in range(3):
        with pytest.raises(SyntaxError) as caught:
            application({}, None)
        lengths.add(len(traceback.extract_tb(caught.value.__traceback__)))
    assert len(lengths) == 1
