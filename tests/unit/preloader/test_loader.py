"""The import of an application: what is found in the module, and how its failures are told."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import appsrv
from appsrv.apps import finder
from appsrv.apps.app_spec import AppSpec
from appsrv.errors import AppLoadError
from appsrv.preloader import loader

APP = "def app(environ, start_response):\n    return [b'']\n"


@pytest.fixture(autouse=True)
def own_interpreter_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def load(root: Path, target: str, source: str | None = None, startup_file: str | None = None) -> object:
    if source is not None:
        (root / "site_.py").write_text(source)
    return loader.load(AppSpec(str(root), target, startup_file))


def failure(root: Path, target: str, source: str | None = None) -> AppLoadError:
    with pytest.raises(AppLoadError) as caught:
        load(root, target, source)
    assert caught.value.exit_code == 4
    return caught.value


def name_of(application: object) -> str:
    return str(getattr(application, "__name__", application))


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("site_:app", "app"),
        ("site_:Holder.inner", "inner"),
        ("site_:make()", "made"),
        ("site_:make('other', depth=1)", "other"),
        ("site_", "app"),
    ],
)
def test_targets(tmp_path: Path, target: str, expected: str) -> None:
    source = APP + (
        "class Holder:\n    @staticmethod\n    def inner(environ, start_response): ...\n"
        "def make(name='made', depth=0):\n"
        "    def application(environ, start_response): ...\n"
        "    application.__name__ = name\n    return application\n"
    )
    assert name_of(load(tmp_path, target, source)) == expected
    assert Path.cwd() == tmp_path
    assert sys.path[0] == str(tmp_path)


def test_a_bare_module_means_the_usual_names_in_their_order(tmp_path: Path) -> None:
    assert (
        name_of(load(tmp_path, "site_", "def app(e, s): ...\ndef application(e, s): ...\n")) == "application"
    )
    sys.modules.pop("site_")
    source = "def create_app():\n    def made(environ, start_response): ...\n    return made\n"
    assert name_of(load(tmp_path, "site_", source)) == "made"


def test_a_startup_file_is_served_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "my-site.py").write_text(APP)
    assert name_of(load(tmp_path, "my-site:app", startup_file=str(tmp_path / "my-site.py"))) == "app"
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").write_text("")
    (tmp_path / "shop.py").write_text(APP)
    assert name_of(load(tmp_path, "shop", startup_file=str(tmp_path / "shop.py"))) == "app"


def test_the_traceback_begins_with_the_application_s_own_frames(tmp_path: Path) -> None:
    (tmp_path / "deeper.py").write_text("def fail():\n    raise RuntimeError('no database')\nfail()\n")
    error = failure(tmp_path, "site_:app", "import deeper\n" + APP)
    assert str(error) == "site_:app cannot be imported: RuntimeError: no database"
    lines = error.traceback.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1] == f'  File "{tmp_path}/site_.py", line 1, in <module>'
    assert lines[-1] == "RuntimeError: no database"
    for machinery in ("importlib", os.path.dirname(appsrv.__file__)):
        assert machinery not in error.traceback


def test_a_syntax_error_is_shown_with_its_line(tmp_path: Path) -> None:
    error = failure(tmp_path, "site_", "def app(:\n")
    assert error.traceback.splitlines()[0] == f'  File "{tmp_path}/site_.py", line 1'
    assert "SyntaxError" in str(error)


def test_the_cause_of_an_error_stays(tmp_path: Path) -> None:
    source = "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise RuntimeError('outer') from e\n"
    error = failure(tmp_path, "site_", source)
    assert "ZeroDivisionError" in error.traceback
    assert "direct cause" in error.traceback


def test_an_application_that_exits(tmp_path: Path) -> None:
    error = failure(tmp_path, "site_", "import sys\nsys.exit('set SECRET_KEY')\n")
    assert str(error) == "site_ cannot be imported: it called sys.exit('set SECRET_KEY')"
    assert "line 2, in <module>" in error.traceback


def test_modules_that_are_not_there(tmp_path: Path) -> None:
    error = failure(tmp_path, "nosuch.wsgi:app")
    assert str(error) == f"there is no module 'nosuch' in {tmp_path} or installed"
    assert error.traceback == ""
    inner = failure(tmp_path, "site_", "import nosuch_dependency\n")
    assert "ModuleNotFoundError: No module named 'nosuch_dependency'" in str(inner)
    assert "import nosuch_dependency" in inner.traceback


@pytest.mark.parametrize(
    ("target", "source", "part"),
    [
        ("site_:missing", "", "site_ has no 'missing'"),
        ("site_:app", "app = 3", "not a WSGI application: int objects cannot be called"),
        ("site_:app", "async def app(scope, receive, send): ...", "is an ASGI application"),
        (
            "site_:app",
            "class A:\n async def __call__(self, s, r, t): ...\napp = A()",
            "is an ASGI application",
        ),
        ("site_", "", "has none of application, app, create_app, make_app"),
        ("site_:make()", "make = 3", "make is not a function"),
        ("site_:make()", "def make(config): ...", "make() failed: TypeError"),
        ("site_:make()", "def make(): return None", "NoneType objects cannot be called"),
        ("site_:make(config)", "", "neither module:object nor module:factory(literal, ...)"),
        ("site_:a b", "", "neither module:object"),
    ],
)
def test_what_is_no_application(tmp_path: Path, target: str, source: str, part: str) -> None:
    assert part in str(failure(tmp_path, target, source))


def test_a_root_that_is_not_there(tmp_path: Path) -> None:
    assert "no such directory to serve from" in str(failure(tmp_path / "gone", "x:y"))


def test_a_factory_s_traceback_begins_in_the_factory(tmp_path: Path) -> None:
    error = failure(tmp_path, "site_:make()", "def make():\n    raise KeyError('DATABASE_URL')\n")
    assert error.traceback.splitlines()[1].endswith("line 2, in make")


# -- the environment ---------------------------------------------------------------------------------------


def test_django_settings_are_the_last_resort(tmp_path: Path) -> None:
    spec = AppSpec(str(tmp_path), "x:y", django_settings="shop.settings")
    assert loader.application_environment(spec, {}) == {"DJANGO_SETTINGS_MODULE": "shop.settings"}
    assert loader.application_environment(spec, {"DJANGO_SETTINGS_MODULE": "other"}) == {}
    (tmp_path / ".env").write_text("DJANGO_SETTINGS_MODULE=dotenv\n")
    assert loader.application_environment(spec, {}) == {"DJANGO_SETTINGS_MODULE": "dotenv"}


# -- names that mean another module ------------------------------------------------------------------------

PACKAGE = "def create_app():\n    def of_package(environ, start_response): return [b'']\n    return of_package\n"


def served_file(root: Path, name: str, source: str) -> object:
    """The application of a file that is given by its path."""
    file = root / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(source)
    return loader.load(finder.find(name, root, {}))


@pytest.mark.parametrize("name", ["app", "wsgi"])
def test_a_file_beside_a_package_of_its_name(tmp_path: Path, name: str) -> None:
    """As for `python app.py` and `flask run`, the name means the package."""
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text(PACKAGE)
    source = f"from {name} import create_app\napp = create_app()\n"
    assert name_of(served_file(tmp_path, f"{name}.py", source)) == "of_package"
    assert sys.modules[name].__file__ == str(tmp_path / name / "__init__.py")
    assert sys.modules[f"{name}_py"].__file__ == str(tmp_path / f"{name}.py")


def test_a_file_in_a_package_beside_one_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "shop/app").mkdir(parents=True)
    (tmp_path / "shop/__init__.py").touch()
    (tmp_path / "shop/app/__init__.py").write_text(PACKAGE)
    source = "from .app import create_app\napp = create_app()\nINNER = True\n"
    assert name_of(served_file(tmp_path, "shop/app.py", source)) == "of_package"
    assert sys.modules["shop.app_py"].INNER


@pytest.mark.parametrize("name", ["json", "code", "click"])
def test_a_file_takes_no_place_of_the_library(tmp_path: Path, name: str) -> None:
    library = importlib.import_module(name)
    assert name_of(served_file(tmp_path, f"{name}.py", APP)) == "app"
    assert sys.modules[name] is library


@pytest.mark.parametrize("name", ["my-site.py", "my.site.py", "2024.py", "shop.wsgi"])
def test_files_whose_names_are_no_module_s(tmp_path: Path, name: str) -> None:
    assert name_of(served_file(tmp_path, name, APP)) == "app"


def test_a_failure_says_that_names_collide(tmp_path: Path) -> None:
    for name in ("shop", "json"):
        (tmp_path / f"{name}.py").write_text(APP)
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/__init__.py").touch()
    package = tmp_path / "shop/__init__.py"
    for target in ("shop", "shop:app"):
        assert f"the module shop is {package}; the file beside it is served as shop.py:NAME" in str(
            failure(tmp_path, target)
        )
    assert "the file beside it is served as json.py:NAME" in str(failure(tmp_path, "json:app"))
    with pytest.raises(AppLoadError, match=r"hides the module 'code' of the standard library .* rename it"):
        served_file(tmp_path, "code.py", "import no_such_thing")
