"""Which application a directory holds: by files alone, with nothing imported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appsrv.apps import finder
from appsrv.apps.app_spec import AppSpec
from appsrv.errors import AppNotFound, SettingsError

MANAGE = """\
import os, sys
def main():
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
raise SystemExit("manage.py must not be run")
"""


def write(directory: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(content)
    return directory


def find(directory: Path, app: str | None = None, configured: str | None = None, **environ: str) -> AppSpec:
    return finder.find(app, directory, environ, configured)


def refused(directory: Path, app: str | None = None, configured: str | None = None) -> str:
    with pytest.raises(AppNotFound) as caught:
        find(directory, app, configured)
    assert caught.value.exit_code == 4
    return str(caught.value)


# -- Django ------------------------------------------------------------------------------------------------


def test_manage_py_leads_to_wsgi_application(tmp_path: Path) -> None:
    settings = 'WSGI_APPLICATION = "shop.wsgi.application"\nraise SystemExit\n'
    write(tmp_path, {"manage.py": MANAGE, "shop/settings.py": settings, "wsgi.py": "app = 1"})
    expected = AppSpec(str(tmp_path), "shop.wsgi:application", django_settings="shop.settings")
    assert find(tmp_path) == expected


def test_settings_may_inherit_from_others(tmp_path: Path) -> None:
    files = {
        "manage.py": MANAGE.replace("shop.settings", "shop.settings.production"),
        "shop/settings/__init__.py": "",
        "shop/settings/production.py": "from .base import *\nfrom shop.settings.production import *\n",
        "shop/settings/base.py": 'WSGI_APPLICATION: str = "shop.wsgi.application"\n',
    }
    assert find(write(tmp_path, files)).target == "shop.wsgi:application"


def test_settings_that_are_a_package(tmp_path: Path) -> None:
    files = {
        "manage.py": MANAGE,
        "shop/settings/__init__.py": "from .base import *",
        "shop/settings/base.py": 'WSGI_APPLICATION = "shop.wsgi.application"',
    }
    assert find(write(tmp_path, files)).target == "shop.wsgi:application"


@pytest.mark.parametrize(
    "settings",
    [
        "",
        "WSGI_APPLICATION = make()",
        'WSGI_APPLICATION = "a.b"\nWSGI_APPLICATION = "c.d"',
        "no python",
        None,
    ],
)
def test_unclear_settings_are_left_to_django_itself(tmp_path: Path, settings: str | None) -> None:
    write(tmp_path, {"manage.py": MANAGE})
    if settings is not None:
        write(tmp_path, {"shop/settings.py": settings})
    assert find(tmp_path).target == finder.DJANGO_TARGET


def test_the_environment_and_dotenv_name_other_settings(tmp_path: Path) -> None:
    write(tmp_path, {"manage.py": MANAGE, "other.py": 'WSGI_APPLICATION = "other.wsgi"'})
    assert find(tmp_path, DJANGO_SETTINGS_MODULE="other").django_settings == "other"
    write(tmp_path, {".env": "DJANGO_SETTINGS_MODULE=other\n"})
    assert find(tmp_path).target == "other:wsgi"


def test_settings_assigned_to_the_environment(tmp_path: Path) -> None:
    write(tmp_path, {"manage.py": 'import os\nos.environ["DJANGO_SETTINGS_MODULE"] = "site.conf"\n'})
    assert find(tmp_path).django_settings == "site.conf"


def test_a_manage_py_that_is_not_django_s(tmp_path: Path) -> None:
    write(tmp_path, {"manage.py": "import os\n", "app.py": "app = 1\n"})
    assert find(tmp_path).target == "app"


# -- named -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("app", ["shop.web:application", "shop:create_app()", "shop:make('a, b')", "shop"])
def test_a_module_is_taken_as_it_is_written(tmp_path: Path, app: str) -> None:
    assert find(tmp_path, app) == AppSpec(str(tmp_path), app)


def test_the_order_of_sources(tmp_path: Path) -> None:
    write(tmp_path, {"app.py": "app = 1"})
    assert find(tmp_path).target == "app"
    assert find(tmp_path, FLASK_APP="flaskr:site").target == "flaskr:site"
    write(tmp_path, {"manage.py": MANAGE})
    assert find(tmp_path, FLASK_APP="flaskr:site").target == finder.DJANGO_TARGET
    assert find(tmp_path, configured="conf:app").target == "conf:app"
    assert find(tmp_path, "named:app", configured="conf:app").target == "named:app"


def test_a_directory(tmp_path: Path) -> None:
    write(tmp_path, {"sub/app.py": "def create_app(): ..."})
    expected = AppSpec(str(tmp_path / "sub"), "app", str(tmp_path / "sub/app.py"))
    assert (
        find(tmp_path, "sub") == find(tmp_path, "./sub/") == find(tmp_path, str(tmp_path / "sub")) == expected
    )
    assert finder.project_directory("sub", tmp_path) == tmp_path / "sub"
    assert find(tmp_path, "sub", configured="x:y") == AppSpec(str(tmp_path / "sub"), "x:y")
    assert find(tmp_path, configured="sub") == expected


def test_a_file(tmp_path: Path) -> None:
    write(tmp_path, {"sub/my-site.py": ""})
    file = str(tmp_path / "sub/my-site.py")
    assert find(tmp_path, "sub/my-site.py:web") == AppSpec(str(tmp_path / "sub"), "my-site:web", file)


def test_a_file_of_a_package_is_imported_from_above_it(tmp_path: Path) -> None:
    write(tmp_path, {"shop/__init__.py": "", "shop/web/__init__.py": "", "shop/web/wsgi.py": "app = 1"})
    assert find(tmp_path, "shop/web/wsgi.py").target == "shop.web.wsgi"
    assert find(tmp_path, "shop/web/__init__.py:app").target == "shop.web:app"
    assert find(tmp_path / "shop/web").root == str(tmp_path)


def test_a_package_that_is_a_project_directory_too(tmp_path: Path) -> None:
    write(tmp_path, {"shop/__init__.py": "", "shop/wsgi.py": "app = 1"})
    assert "a package and a project directory" in refused(tmp_path, "shop")
    assert find(tmp_path, "./shop").target == "shop.wsgi"
    assert find(tmp_path, "shop:app").target == "shop:app"


def test_links_are_not_resolved(tmp_path: Path) -> None:
    """`current` is another release after the next deployment, and a restart has to see it."""
    write(tmp_path, {"releases/1/app.py": "app = 1"})
    (tmp_path / "current").symlink_to("releases/1")
    assert find(tmp_path, "current").root == str(tmp_path / "current")


def test_what_cannot_be_meant(tmp_path: Path) -> None:
    assert "no such file or directory" in refused(tmp_path, "no/such")
    assert "no such file or directory" in refused(tmp_path, "nosuch.py")
    assert "nor module:callable" in refused(tmp_path, "my-site")
    assert "no such directory" in refused(tmp_path / "nowhere")


# -- found -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", finder.STARTUP_FILES)
@pytest.mark.parametrize(
    "content",
    [
        "application = 1",
        "def create_app(): ...",
        "from shop import web as app",
        "try:\n    from a import app\nexcept ImportError:\n    app = None",
        "from shop import *",
        "syntax error here",
    ],
)
def test_startup_files(tmp_path: Path, file: str, content: str) -> None:
    write(tmp_path, {file: content})
    assert find(tmp_path) == AppSpec(str(tmp_path), file[:-3], str(tmp_path / file))


def test_a_startup_file_without_an_application_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, {"wsgi.py": "def f():\n    app = 1\n", "app.py": "app = 1"})
    assert find(tmp_path).target == "app"


def test_flask_app_from_flaskenv(tmp_path: Path) -> None:
    write(tmp_path, {".flaskenv": "FLASK_APP=site.py\n", "site.py": ""})
    assert find(tmp_path) == AppSpec(str(tmp_path), "site", str(tmp_path / "site.py"))


def test_nothing_found_says_what_was_looked_for_and_what_to_type(tmp_path: Path) -> None:
    write(tmp_path, {"wsgi.py": "x = 1"})
    message = refused(tmp_path)
    for part in (
        str(tmp_path),
        "manage.py",
        "FLASK_APP",
        "wsgi.py [there, but names none]",
        "app.py",
        "make_app",
        "appsrv start",
        "start_command",
    ):
        assert part in message


# -- an application that is a command ------------------------------------------------------------------------


def test_a_command_is_the_application_whatever_else_there_is(tmp_path: Path) -> None:
    write(tmp_path, {"manage.py": MANAGE, "sub/app.py": "app = 1\n"})
    for app, root in ((None, tmp_path), (".", tmp_path), ("sub", tmp_path / "sub")):
        spec = finder.find(app, tmp_path, {}, None, "node server.js")
        assert (spec.kind, spec.start_command, spec.root) == ("generic", "node server.js", str(root))
        assert spec.shown == "node server.js"
        assert AppSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize(("app", "configured"), [("wsgi:app", None), (None, "wsgi:app"), ("a.py", None)])
def test_two_applications_are_one_too_many(tmp_path: Path, app: str | None, configured: str | None) -> None:
    with pytest.raises(SettingsError, match=r"app \(.*\) and start_command \(node server.js\) are two applications"):
        finder.find(app, tmp_path, {}, configured, "node server.js")
