"""The commands: words in, calls out, exit codes; against a fake admin server and, for start, a fake watchdog."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import pty
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from appsrv import cli
from appsrv.apps.app_group import AppGroup
from appsrv.apps.app_spec import AppSpec
from appsrv.commands import common
from appsrv.errors import AppLoadError
from appsrv.instance.run_directory import Instance, InstanceDirectory, InstanceInfo
from appsrv.settings.table import ROWS, Settings
from appsrv.system import directories
from support.admin import STATUS, FakeAdmin

INFO = InstanceInfo(
    name="", pid=0, version="0.1.0", root="", app="wsgi:application", environment="production",
    bind=("http://127.0.0.1:8000/",), pid_file=None, log_file=None, started=0.0,
)  # fmt: skip


class Running:
    """An instance as commands see it: run directory, lock, and a fake server behind the admin socket."""

    def __init__(self, base: Path, root: Path, port: int) -> None:
        self.directory = InstanceDirectory.create(base, str(root), f"127.0.0.1:{port}")
        self.pid_file = root / f"appsrv.{port}.pid"
        self.info = replace(
            INFO, name=self.directory.name, pid=os.getpid(), root=str(root),
            bind=(f"http://127.0.0.1:{port}/",), pid_file=str(self.pid_file),
        )  # fmt: skip
        self.directory.write(self.info)
        self.admin = FakeAdmin(self.directory.admin_socket)
        status = copy.deepcopy(STATUS)
        status["app_groups"][0].update(name=str(root), root=str(root))
        self.admin.answers["GET /status"] = (200, status)
        self.title = f"{root} (production)"

    def restart_answers(self, **outcome: Any) -> None:
        answer = {"restarted": [{"name": self.info.root, "generation": 2, **outcome}]}
        self.admin.answers["POST /restart"] = (200, answer)

    @property
    def asked(self) -> list[tuple[str, Any]]:
        return self.admin.asked


@pytest.fixture
def base() -> Iterator[Path]:
    """Not pytest's directory: its name may be too long for a unix socket."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


@pytest.fixture
def place(base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project directory to be in, and an empty home for run directories."""
    for name in ("project", "run", "home"):
        (base / name).mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(base / "run"))
    monkeypatch.setenv("HOME", str(base / "home"))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(directories, "bases", lambda environ: [base / "run" / "appsrv"])
    monkeypatch.chdir(base / "project")
    return base / "project"


@pytest.fixture
def start_one(place: Path) -> Iterator[Callable[..., Running]]:
    with contextlib.ExitStack() as stack:

        def start(root: Path = place, port: int = 8000) -> Running:
            one = Running(place.parent / "run" / "appsrv", root, port)
            stack.callback(one.directory.remove)
            stack.enter_context(one.admin)
            return one

        yield start


@pytest.fixture
def running(start_one: Callable[..., Running]) -> Running:
    return start_one()


def run(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.main(arguments)
    return (code, *capfd.readouterr())


Capture = pytest.CaptureFixture[str]


# -- the frame ---------------------------------------------------------------------------------------------


def test_version(capfd: Capture) -> None:
    assert run(capfd, "--version") == run(capfd, "version") == (0, "appsrv 0.1.0\n", "")


def test_usage_errors_have_the_same_form_as_all_others(capfd: Capture) -> None:
    code, out, err = run(capfd, "start", "--max-pol-size", "3")
    assert (code, out) == (2, "")
    assert err.startswith("appsrv: error: No such option")  # click's words differ from version to version
    assert "--max-pool-size" in err
    assert "Try 'appsrv start --help'." in err


def test_help_names_every_setting(capfd: Capture) -> None:
    code, out, _ = run(capfd, "start", "--help")
    assert code == 0
    for flag in ("-a, --address HOST", "--max-pool-size NUMBER", "-d, --daemonize", "-S, --socket PATH"):
        assert flag in out
    assert "--app " not in out


def test_the_working_directory_is_the_logical_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "release").mkdir()
    (tmp_path / "current").symlink_to("release")
    monkeypatch.chdir(tmp_path / "current")
    assert common.working_directory({"PWD": str(tmp_path / "current")}) == tmp_path / "current"
    assert common.working_directory({"PWD": str(tmp_path)}) == tmp_path / "release"
    assert common.working_directory({}) == tmp_path / "release"


def test_a_working_directory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert run(capfd, "status")[0] == 1


@pytest.mark.process
def test_a_reader_that_has_enough(running: Running) -> None:
    command = f"{sys.executable} -m appsrv status --json | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30, check=False)
    assert done.stderr == ""


@pytest.mark.process
def test_a_command_starts_fast_since_it_imports_little() -> None:
    heavy = [
        "gevent",
        "psutil",
        "httptools",
        "tomllib",
        "colorlog",
        "dotenv",
        "termios",
        "appsrv.apps.finder",
        "appsrv.watchdog.start",
    ]
    code = f"import sys, appsrv.cli; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, timeout=30) == "[]\n"


# -- start -------------------------------------------------------------------------------------------------


class FakeWatchdog(ModuleType):
    """Stands for appsrv.watchdog.start: remembers what it is to run."""

    def __init__(self) -> None:
        super().__init__("appsrv.watchdog.start")
        self.result = 0
        self.error: Exception | None = None
        self.calls: list[tuple[Settings, AppSpec]] = []

    def run(
        self, settings: Settings, root: str, groups: Sequence[AppGroup], *, announce: Callable[[InstanceInfo], None],
        environ: dict[str, str],
    ) -> int:
        assert environ == dict(os.environ)
        (group,) = groups
        assert (group.settings, group.spec.root) == (settings, root)
        spec = group.spec
        self.calls.append((settings, spec))
        if self.error is not None:
            raise self.error
        announce(replace(INFO, name="n", root=spec.root))
        return self.result


@pytest.fixture
def watchdog(place: Path, monkeypatch: pytest.MonkeyPatch) -> FakeWatchdog:
    fake = FakeWatchdog()
    monkeypatch.setitem(sys.modules, "appsrv.watchdog.start", fake)
    (place / "wsgi.py").write_text("application = 1\n")
    return fake


def test_start_finds_the_application_and_prints_the_banner(place: Path, watchdog: FakeWatchdog, capfd: Capture) -> None:
    watchdog.result = 7
    code, out, err = run(capfd, "start", "-p", "9000", "--pool-idle-time", "5m", "-d")
    assert (code, err) == (7, "")
    assert "Accessible via: http://127.0.0.1:8000/\n" in out
    ((settings, spec),) = watchdog.calls
    assert settings == Settings(port=9000, pool_idle_time=300.0, daemonize=True)
    assert spec == AppSpec(str(place), "wsgi", str(place / "wsgi.py"))


def test_start_takes_settings_from_everywhere(
    place: Path, watchdog: FakeWatchdog, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "sub").mkdir()
    (place / "sub" / "appsrv.toml").write_text('app = "shop:make()"\ndaemonize = true\n')
    monkeypatch.setenv("APPSRV_THREADS", "4")
    assert cli.main(["start", "sub", "--no-daemonize"]) == 0
    ((settings, spec),) = watchdog.calls
    assert (settings.threads, settings.daemonize) == (4, False)
    assert spec == AppSpec(str(place / "sub"), "shop:make()")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["-p", "http"], 2, '--port: expected a whole number, 0 to 65535, not "http"'),
        (["-p", "1", "-S", "s"], 2, "the command line: socket and port exclude each other"),
        (["no/such"], 4, "no/such: no such file or directory"),
        (["--pid-file", ""], 2, "--pid-file: expected some text"),
    ],
)
def test_start_refuses(watchdog: FakeWatchdog, capfd: Capture, arguments: list[str], code: int, said: str) -> None:
    got, out, err = run(capfd, "start", *arguments)
    assert (got, out) == (code, "")
    assert err.startswith(f"appsrv: error: {said}")
    assert watchdog.calls == []


def test_start_shows_the_application_s_own_traceback(watchdog: FakeWatchdog, capfd: Capture) -> None:
    watchdog.error = AppLoadError("wsgi cannot be imported: KeyError: 'X'", "Traceback:\n  wsgi.py line 1\n")
    code, _, err = run(capfd, "start")
    assert code == 4
    assert err == "Traceback:\n  wsgi.py line 1\nappsrv: error: wsgi cannot be imported: KeyError: 'X'\n"


def test_no_color_is_passed_on(watchdog: FakeWatchdog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "")
    assert cli.main(["start", "--no-color"]) == 0
    assert os.environ["NO_COLOR"] == "1"


def test_ctrl_c_while_starting(watchdog: FakeWatchdog, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(watchdog, "run", interrupted)
    assert cli.main(["start"]) == 130


# -- status ------------------------------------------------------------------------------------------------


def test_status(running: Running, capfd: Capture) -> None:
    code, out, err = run(capfd, "status")
    assert (code, err) == (0, "")
    assert f"{running.title}:\n  App root: " in out
    assert "\x1b" not in out
    assert "Threads: 1" in run(capfd, "status", "-v")[1]
    assert "Server PID      : 18331" in run(capfd, "status", "--show=server")[1]


def test_status_as_json_has_everything(running: Running, capfd: Capture) -> None:
    assert json.loads(run(capfd, "status", "--json")[1]) == running.admin.answers["GET /status"][1]


def test_status_of_one_of_several(start_one: Callable[..., Running], capfd: Capture) -> None:
    first, second = start_one(port=8000), start_one(port=8001)
    code, _, err = run(capfd, "status")
    assert code == 1
    assert err.startswith("appsrv: error: several instances are running")
    for one in (first, second):
        assert one.info.name in err
    assert run(capfd, "status", "--port", "8001")[0] == 0
    assert run(capfd, "status", first.info.name)[0] == 0
    assert run(capfd, "status", "--pid-file", str(second.pid_file))[0] == 0
    assert (len(first.asked), len(second.asked)) == (1, 2)


def test_status_is_about_this_directory(
    running: Running, base: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    """`appsrv status || appsrv start` must not be content with what runs elsewhere, but says that it does."""
    monkeypatch.chdir(base / "home")
    code, _, err = run(capfd, "status")
    assert code == 3
    assert running.info.name in err
    assert run(capfd, "status", running.info.name)[0] == 0


def test_status_when_nothing_runs(place: Path, capfd: Capture) -> None:
    code, out, err = run(capfd, "status")
    assert (code, out) == (3, "")
    assert err == f"appsrv: error: appsrv is not running in {place}.\n"


@pytest.mark.process
def test_status_of_a_killed_one(place: Path, capfd: Capture) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    file = place / "appsrv.8000.pid"
    file.write_text(f"{dead.pid}\n")
    for arguments in ([], ["--pid-file", "appsrv.8000.pid"]):
        code, _, err = run(capfd, "status", *arguments)
        assert code == 1
        assert "its pid file" in err
    assert run(capfd, "status", "--port", "1")[0] == 3
    assert run(capfd, "status", "--pid-file", "none.pid")[0] == 3


# -- stop and reopen-logs ----------------------------------------------------------------------------------


def test_stop_waits_until_it_is_gone(running: Running, capfd: Capture) -> None:
    def end() -> None:
        running.admin.on_stop.wait(10)
        running.directory.remove()

    ending = threading.Thread(target=end)
    ending.start()
    assert run(capfd, "stop") == (0, "Stopping web server... done\n", "")
    ending.join()
    assert running.asked == [("POST /stop", None)]


def test_stop_gives_up_in_time(running: Running, capfd: Capture) -> None:
    code, out, err = run(capfd, "stop", "--timeout", "0.05")
    assert (code, out) == (1, "Stopping web server...\n")
    assert f"it runs on PID {os.getpid()}" in err


@pytest.mark.parametrize(
    ("allowed", "options", "waits"), [(30.0, (), 60.0), (120.0, (), 130.0), (120.0, ("--timeout", "5"), 5.0)]
)
def test_stop_waits_as_long_as_the_settings_let_it_take(
    running: Running, capfd: Capture, monkeypatch: pytest.MonkeyPatch, allowed: float, options: tuple[str, ...],
    waits: float,
) -> None:
    running.directory.write(replace(running.info, stops_within=allowed))
    waited: list[float] = []
    monkeypatch.setattr("appsrv.commands.control._wait_until_gone", lambda _, seconds: waited.append(seconds))
    assert run(capfd, "stop", *options)[0] == 0
    assert waited == [waits]


def test_stop_does_not_need_the_server_process(
    running: Running, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    running.admin.answers["POST /stop"] = (500, {})
    signals: list[tuple[int, int]] = []

    def send_signal(one: Instance, number: int) -> None:
        signals.append((one.info.pid, number))
        running.directory.remove()

    monkeypatch.setattr(Instance, "send_signal", send_signal)
    assert run(capfd, "stop")[0] == 0
    assert signals == [(os.getpid(), 15)]


def test_stop_when_nothing_runs(place: Path, capfd: Capture) -> None:
    code, out, err = run(capfd, "stop")
    assert (code, out) == (1, "")
    assert f"appsrv is not running in {place}." in err
    assert run(capfd, "stop", "-i") == (0, "", "")


def test_stop_never_takes_one_of_another_directory(
    running: Running, base: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    monkeypatch.chdir(base / "home")
    code, _, err = run(capfd, "stop")
    assert code == 1
    assert running.info.name in err
    assert running.asked == []


def test_reopen_logs(running: Running, capfd: Capture) -> None:
    assert run(capfd, "reopen-logs") == (0, "All done\n", "")
    assert running.asked == [("POST /reopen-logs", None)]
    assert run(capfd, "reopen-logs", "nosuch")[0] == 1


# -- one of several applications ---------------------------------------------------------------------------


@pytest.fixture
def several(running: Running) -> Running:
    """Two of one directory, one below it, and where each writes its log."""
    root = running.info.root
    groups = []
    for name, place in (("shop", root), ("blog", root), (f"{root}/api", f"{root}/api")):
        log = Path(root) / f"{os.path.basename(name)}.log"
        log.write_text(f"{name} says so\n")
        groups.append({"name": name, "root": place, "environment": "production", "log_file": str(log)})
    running.admin.answers["GET /status"] = (200, {"app_groups": groups})
    return running


@pytest.mark.parametrize(("said", "found"), [("shop", "shop"), ("blog", "blog"), ("api", "/api"), ("./api", "/api")])
def test_logs_of_an_application_by_name_and_by_path(several: Running, capfd: Capture, said: str, found: str) -> None:
    code, out, _ = run(capfd, "logs", "--app", said)
    assert (code, out.endswith(f"{found} says so\n")) == (0, True)


def test_logs_of_which_application(several: Running, capfd: Capture) -> None:
    code, _, err = run(capfd, "logs", "--app", ".")
    assert code == 1
    assert err == (
        f"appsrv: error: 3 of the applications are at or below {several.info.root}: name one of shop, blog, "
        f"{several.info.root}/api\n"
    )
    assert "none of the applications" in run(capfd, "logs", "--app", "nosuch")[2]


def test_logs_of_the_one_that_has_another_below_it(several: Running, capfd: Capture) -> None:
    groups = several.admin.answers["GET /status"][1]["app_groups"]
    groups[0]["name"] = several.info.root
    del groups[1]
    assert run(capfd, "logs", "--app", ".")[:2] == (0, "shop says so\n")


def test_a_name_is_no_path_in_the_directory_one_is_in(several: Running, capfd: Capture) -> None:
    groups = several.admin.answers["GET /status"][1]["app_groups"]
    groups[1]["root"] = "/elsewhere"
    several.restart_answers(ok=True)
    assert "blog" not in run(capfd, "restart-app", ".")[1]


def test_restart_app_by_name(several: Running, capfd: Capture) -> None:
    several.admin.answers["POST /restart"] = (200, {"restarted": [{"name": "blog", "generation": 2, "ok": True}]})
    assert run(capfd, "restart-app", "blog") == (0, "Restarting blog (production)\n", "")
    assert several.asked[-1] == ("POST /restart", {"prefix": "blog"})


# -- restart-app -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["/", ".", "..", "../project"])
def test_restart_app_by_path(running: Running, capfd: Capture, prefix: str) -> None:
    running.restart_answers(ok=True)
    assert run(capfd, "restart-app", prefix) == (0, f"Restarting {running.title}\n", "")
    assert running.asked[-1] == ("POST /restart", {"prefix": running.info.root})


def test_restart_app_of_new_code_that_is_broken(running: Running, capfd: Capture) -> None:
    running.restart_answers(ok=False, message="ImportError: x", traceback="Traceback:\n  wsgi.py\n")
    code, out, err = run(capfd, "restart-app", ".")
    assert (code, out) == (1, f"Restarting {running.title}\n")
    reason = "was not restarted, its previous code keeps serving: ImportError: x"
    assert err == f"Traceback:\n  wsgi.py\nappsrv: error: {running.title} {reason}\n"


def test_restart_app_of_all_instances(start_one: Callable[..., Running], capfd: Capture) -> None:
    first, second = start_one(port=8000), start_one(port=8001)
    first.restart_answers(ok=True)
    second.restart_answers(ok=False, message="no")
    assert run(capfd, "restart-app", "/")[0] == 1
    assert run(capfd, "restart-app", "/", "--instance", first.info.name)[0] == 0
    assert (len(first.asked), len(second.asked)) == (4, 2)


def test_restart_app_that_does_not_run(running: Running, capfd: Capture) -> None:
    for prefix in ("/nosuch", running.info.root[:-1]):
        code, _, err = run(capfd, "restart-app", prefix)
        assert code == 1
        assert f"There are no applications running whose paths begin with '{prefix}'." in err
    assert run(capfd, "restart-app", "/nosuch", "--ignore-app-not-running") == (0, "", "")
    assert run(capfd, "restart-app", "/", "--port", "1")[0] == 1


def test_another_instance_that_does_not_answer_is_passed_over(
    start_one: Callable[..., Running], place: Path, capfd: Capture
) -> None:
    ours, other = start_one(), start_one(place.parent, 8001)
    ours.restart_answers(ok=True)
    other.admin.answers["GET /status"] = (500, {"error": "it is ending"})
    code, out, err = run(capfd, "restart-app", "/")
    assert (code, out) == (0, f"Restarting {ours.title}\n")
    assert f"{other.info.name} is passed over: the server refused: it is ending" in err


def test_restart_app_that_goes_meanwhile(running: Running, capfd: Capture) -> None:
    code, _, err = run(capfd, "restart-app", "/")
    assert code == 1
    assert "was removed before it was restarted" in err


def test_restart_app_without_a_path_needs_a_terminal(running: Running, capfd: Capture) -> None:
    code, _, err = run(capfd, "restart-app")
    assert code == 2
    assert "name the path of an application, or / for all" in err


@pytest.fixture
def terminal(place: Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """`appsrv restart-app` on a pseudo-terminal: our side of it, and the process."""
    ours, theirs = pty.openpty()
    base = place.parent / "run" / "appsrv"
    code = (
        "import sys; from pathlib import Path; from appsrv import cli; from appsrv.system import directories\n"
        f"directories.bases = lambda environ: [Path({str(base)!r})]\n"
        "sys.exit(cli.main(['restart-app']))"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdin=theirs, stdout=theirs, stderr=theirs)
    yield ours, child
    child.kill()
    child.wait()
    os.close(ours)
    os.close(theirs)


def read_until(terminal: int, text: str) -> str:
    drawn, deadline = b"", time.monotonic() + 10
    # Of a character the first half may come alone.
    while text not in (screen := drawn.decode(errors="replace")):
        assert time.monotonic() < deadline, screen
        if select.select([terminal], [], [], 0.05)[0]:
            drawn += os.read(terminal, 4096)
    return screen


@pytest.mark.process
def test_restart_app_by_menu(running: Running, terminal: tuple[int, subprocess.Popen[bytes]]) -> None:
    running.restart_answers(ok=True)
    ours, child = terminal
    screen = read_until(ours, "Cancel")
    assert "Please select the application to restart." in screen
    assert f" \u2023   {running.title}" in screen
    os.write(ours, b"\r")
    read_until(ours, f"Restarting {running.title}")
    assert child.wait(10) == 0
    assert running.asked[-1] == ("POST /restart", {"prefix": running.info.root})


@pytest.mark.process
@pytest.mark.parametrize(("key", "code"), [(b"\x03", 130), (b"q", 0)])
def test_restart_app_by_menu_cancelled(
    running: Running, terminal: tuple[int, subprocess.Popen[bytes]], key: bytes, code: int
) -> None:
    ours, child = terminal
    read_until(ours, "Cancel")
    os.write(ours, key)
    assert child.wait(10) == code
    assert running.asked == [("GET /status", None)]


def test_the_help_of_start_has_the_groups_of_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["start", "--help"]) == 0
    shown = capsys.readouterr().out
    headings = [line.rstrip(":") for line in shown.splitlines() if line[:1].isupper() and line.endswith(":")]
    assert headings[-1] == "Other options"
    assert set(headings[:-1]) == {row.group for row in ROWS if not row.key_only}
    assert shown.index("--max-pool-size") > shown.index("The pool of workers:")
