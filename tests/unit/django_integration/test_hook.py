"""appsrv_django: when `runserver` is taken over, what is asked of appsrv, and what is left to Django."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("django")

from appsrv_django import hook

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "example_projects" / "django"
STARTUP = ROOT / "django_integration" / "appsrv_django.pth"

# Runs a command with appsrv's doors replaced by ones that tell who knocked.
DRIVER = """
import json, os, runpy, sys
from appsrv.development import run as development

def start(**asked):
    print("START", json.dumps(asked, default=str))
    sys.exit(0)

def serve(load, *, banner, watch=None, log_request=None, framework=None):
    os.environ.pop("APPSRV_PRELOADER", None)
    try:
        application = load()
    except Exception as error:
        print("BROKEN", repr(error), watch is not None)
        sys.exit(0)
    if "BIND_ERROR" in os.environ:
        raise OSError(int(os.environ["BIND_ERROR"]), "no")
    banner(["http://127.0.0.1:8123/"])
    environ = {"REQUEST_METHOD": "GET", "RAW_URI": "/a%20b?c", "SERVER_PROTOCOL": "HTTP/1.1"}
    log_request(environ, 404, 12, 0.0)
    print("SERVE", type(application).__name__, watch is not None)
    sys.exit(0)

development.start, development.serve = start, serve
development.inside_preloader = lambda: "APPSRV_PRELOADER" in os.environ
for line in open(sys.argv.pop(1)):
    exec(line)
    exec(line)
sys.argv.pop(0)
sys.path[0] = os.getcwd()
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the example in a directory of its own."""
    copy = tmp_path / "shop"
    shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("*.sqlite3", "media", "__pycache__"))
    (tmp_path / "driver.py").write_text(DRIVER)
    return copy


def manage(project: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`manage.py` in the project, with the start-up file run twice, as a virtual environment does."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("APPSRV", "DJANGO"))}
    return subprocess.run(
        [sys.executable, str(project.parent / "driver.py"), str(STARTUP), "manage.py", *arguments],
        cwd=project,
        env={**inherited, "RUN_MAIN": "", "DJANGO_DEBUG": "1", **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )


def preload(project: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The same as it runs inside the preloader."""
    return manage(project, *arguments, APPSRV_PRELOADER="3,4", **{"RUN_MAIN": "true", **variables})


def asked_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.stdout.startswith("START "), done
    asked: dict[str, Any] = json.loads(done.stdout.removeprefix("START "))
    return asked


# -- the typed command


def test_typed_command_becomes_a_watchdog(project: Path) -> None:
    asked = asked_of(manage(project, "runserver", "8123"))
    assert asked["argv"][0] == sys.executable
    assert asked["argv"][-2:] == ["runserver", "8123"]
    assert (asked["host"], asked["port"]) == ("127.0.0.1", 8123)
    assert asked["root"] == str(project)
    assert asked["defaults"] == {"max_pool_size": 1, "threads": 8}
    assert (asked["flags"], asked["environ"]) == ({}, {"RUN_MAIN": "true"})


def test_options_are_djangos_and_ours(project: Path) -> None:
    asked = asked_of(manage(project, "runserver", "--noreload", "-6", "--max-pool-size", "3", "--threads=2"))
    assert (asked["host"], asked["port"]) == ("::1", 8000)
    assert asked["flags"] == {"max_pool_size": 3, "threads": 2}
    assert asked["environ"] == {}


def test_help_shows_all_options(project: Path) -> None:
    text = manage(project, "help", "runserver").stdout
    for option in ("--noreload", "--nothreading", "--nostatic", "--insecure", "--threads", "--max-pool-size"):
        assert option in text


@pytest.mark.parametrize("address", ["99999", "nonsense"])
def test_impossible_addresses_are_refused_at_once(project: Path, address: str) -> None:
    done = manage(project, "runserver", address)
    assert done.returncode == 1
    assert "is not a valid port number" in done.stderr


def test_a_broken_application_does_not_keep_runserver_from_starting(project: Path) -> None:
    (project / "uploads" / "models.py").write_text("x = (\n")
    assert asked_of(manage(project, "runserver", "--threads", "4", "8123"))["port"] == 8123


# -- inside the preloader


def test_lines_are_djangos_own(project: Path) -> None:
    done = preload(project, "runserver", "8123")
    lines = done.stdout.splitlines()
    assert lines[0] == "Performing system checks..."
    assert "System check identified no issues (0 silenced)." in lines
    assert any("unapplied migration(s)" in line for line in lines)
    assert any(line.startswith("Starting") and line.endswith("http://127.0.0.1:8123/") for line in lines)
    assert lines.index("Quit the server with CONTROL-C.") < lines.index("SERVE StaticFilesHandler True")
    errors = done.stderr.splitlines()
    assert errors[0].startswith("Watching for file changes with ")
    assert errors[-1].endswith('] "GET /a%20b?c HTTP/1.1" 404 12')


def test_a_preloader_is_one_whatever_the_dependency_files_say_by_now(project: Path) -> None:
    (project / "pyproject.toml").write_text("[project\n<<<<<<< HEAD\n")
    assert "SERVE StaticFilesHandler" in preload(project, "runserver", "--threads", "4").stdout


def test_colours_reach_a_terminal_behind_pipes(project: Path) -> None:
    done = preload(project, "runserver", APPSRV_COLOUR="1")
    assert '] \x1b[33m"GET /a%20b?c HTTP/1.1" 404 12\x1b[0m' in done.stderr
    plain = preload(project, "runserver", "--no-color", APPSRV_COLOUR="1")
    assert "\x1b" not in plain.stdout + plain.stderr


def test_nostatic_and_noreload(project: Path) -> None:
    done = preload(project, "runserver", "--noreload", "--nostatic", RUN_MAIN="")
    assert "SERVE WSGIHandler False" in done.stdout
    assert "Watching" not in done.stderr


def test_an_address_in_use_is_djangos_error(project: Path) -> None:
    done = preload(project, "runserver", BIND_ERROR="98")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "Error: That port is already in use."


BREAKAGES = {
    "an application": ("uploads/models.py", "x = (\n", "SyntaxError"),
    "the URLs": ("showcase/urls.py", "import nowhere\n", "ModuleNotFoundError"),
    "a check": (
        "uploads/admin.py",
        (
            "from django.contrib import admin\nfrom .models import Upload\n"
            "admin.site.register(Upload, list_display=['nothing'])\n"
        ),
        "SystemCheckError",
    ),
    "settings, an import": ("showcase/settings.py", "import nowhere\n", "ModuleNotFoundError"),
    "settings, anything else": ("showcase/settings.py", "1 / 0\n", "ZeroDivisionError"),
    "manage.py": ("manage.py", "x = (\n", "SyntaxError"),
}


@pytest.mark.parametrize("case", BREAKAGES)
def test_what_breaks_after_a_change_is_offered_as_an_error(project: Path, case: str) -> None:
    file, text, error = BREAKAGES[case]
    (project / file).write_text(text)
    done = preload(project, "runserver")
    assert f"BROKEN {error}(" in done.stdout, done
    assert done.stdout.rstrip().endswith("True")
    assert error in done.stderr


def test_without_reloading_a_broken_application_ends_the_command(project: Path) -> None:
    (project / "showcase" / "urls.py").write_text("import nowhere\n")
    done = preload(project, "runserver", "--noreload")
    assert done.returncode == 1
    assert "BROKEN" not in done.stdout


# -- stepping aside

STEP_ASIDE = {
    "switch": {"APPSRV_RUNSERVER": "0"},
    "inside Django's reloader": {"RUN_MAIN": "true"},
}


def is_djangos(done: subprocess.CompletedProcess[str]) -> bool:
    """True when Django's own server was at work: it fails here, since the address is nobody's."""
    return "START" not in done.stdout and "That IP address can't be assigned to." in done.stderr


NOBODYS = "192.0.2.1:8123"


@pytest.mark.parametrize("case", STEP_ASIDE)
def test_original_serves(project: Path, case: str) -> None:
    assert is_djangos(manage(project, "runserver", NOBODYS, "--noreload", **STEP_ASIDE[case]))


def test_original_serves_without_threads(project: Path) -> None:
    assert is_djangos(manage(project, "runserver", NOBODYS, "--noreload", "--nothreading"))


def test_original_serves_a_project_that_does_not_name_appsrv(project: Path) -> None:
    (project / "pyproject.toml").write_text('[project]\ndependencies = ["django"]\n')
    assert is_djangos(manage(project, "runserver", NOBODYS, "--noreload"))


def test_installed_apps_is_enough_and_may_be_anywhere_above(project: Path) -> None:
    (project / "pyproject.toml").write_text('[project]\ndependencies = ["django"]\n')
    settings = project / "showcase" / "settings.py"
    settings.write_text(settings.read_text().replace('"uploads",', '"appsrv_django", "uploads",'))
    assert asked_of(manage(project, "runserver"))["port"] == 8000
    assert "SERVE StaticFilesHandler" in preload(project, "runserver").stdout
    assert is_djangos(manage(project, "runserver", NOBODYS, "--noreload", APPSRV_RUNSERVER="off"))


def test_another_applications_runserver_wins_and_it_says_so(project: Path) -> None:
    commands = project / "uploads" / "management" / "commands"
    commands.joinpath("runserver.py").write_text(
        "from django.core.management.commands.runserver import Command as Base\n"
        "class Command(Base):\n"
        "    def inner_run(self, *args, **options):\n"
        "        print('MINE')\n"
    )
    done = manage(project, "runserver", "--noreload")
    assert "MINE" in done.stdout
    assert done.stderr == "appsrv steps aside: runserver is provided by uploads.\n"


def test_call_command_is_left_alone(project: Path) -> None:
    script = project / "call.py"
    script.write_text(
        "import os, django\n"
        "os.environ['DJANGO_SETTINGS_MODULE'] = 'showcase.settings'\n"
        "from django.core.management import call_command\n"
        "django.setup()\n"
        f"call_command('runserver', {NOBODYS!r}, use_reloader=False)\n"
    )
    done = subprocess.run(
        [sys.executable, str(project.parent / "driver.py"), str(STARTUP), "call.py", "runserver"],
        cwd=project, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert is_djangos(done)


# -- the hook itself


def test_start_up_file_is_one_line_and_harmless_without_the_package(tmp_path: Path) -> None:
    lines = STARTUP.read_text().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("import ")
    code = f"import sys; sys.modules['appsrv_django'] = None; exec({lines[0]!r})"
    for argument in ("runserver", "other"):
        subprocess.run([sys.executable, "-c", code, argument], check=True, timeout=60, cwd=tmp_path)


def test_start_entry_names_the_same_function() -> None:
    entry = STARTUP.with_suffix(".start").read_text().strip()
    assert entry == f"{hook.install.__module__}:{hook.install.__name__}"


def test_hook_loads_nothing_but_itself() -> None:
    code = (
        "import sys, os, time; before = set(sys.modules); import appsrv_django.hook;"
        "appsrv_django.hook.install(); print(sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "'appsrv_django', 'appsrv_django.hook'" in done.stdout
    assert "gevent" not in done.stdout
    assert "typing" not in done.stdout
    assert "'django'" not in done.stdout


@pytest.fixture
def quiet_meta_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.delitem(sys.modules, hook.MODULE, raising=False)


def waiting() -> int:
    return sum(isinstance(finder, hook.ImportObserver) for finder in sys.meta_path)


@pytest.mark.usefixtures("quiet_meta_path")
def test_install_waits_once_and_only_for_runserver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["manage.py", "migrate"])
    hook.install()
    assert waiting() == 0
    monkeypatch.setattr(sys, "argv", ["manage.py", "runserver"])
    hook.install()
    hook.install()
    assert waiting() == 1


def test_wrapping_twice_is_wrapping_once() -> None:
    module = ModuleType("management")
    module.load_command_class = lambda app_name, name: (app_name, name)  # type: ignore[attr-defined]
    hook.wrap(module)
    once = module.load_command_class
    hook.wrap(module)
    assert module.load_command_class is once
    assert once("django.core", "migrate") == ("django.core", "migrate")


def test_wrapping_something_else_does_nothing() -> None:
    module = ModuleType("management")
    hook.wrap(module)
    assert not hasattr(module, "load_command_class")
