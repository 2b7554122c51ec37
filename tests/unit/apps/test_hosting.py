"""hosting.py: which applications the files say there are, and why others are not served."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from appsrv.apps import hosting
from appsrv.errors import SettingsError
from appsrv.settings import sources
from appsrv.settings.row import SettingRow
from appsrv.settings.table import ROWS, Settings

APP = "application = print\n"


def project(directory: Path, **files: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in {"app.py": APP, **files}.items():
        (directory / name.replace("_toml", ".toml")).write_text(text)
    return directory


def served(directory: Path, toml: str, environ: dict[str, str] | None = None) -> hosting.HostedApps:
    (directory / "appsrv.toml").write_text(toml)
    settings = sources.load({}, environ or {}, directory, cwd=directory)
    assert hosting.is_hosting(settings, directory)
    return hosting.hosted_apps(settings, directory, environ or {})


def test_one_application_is_no_hosting(tmp_path: Path) -> None:
    (tmp_path / "appsrv.toml").write_text("port = 8001\n")
    assert not hosting.is_hosting(sources.load({}, {}, tmp_path), tmp_path)


def test_an_application_that_does_not_fit_into_a_message_is_not_served(tmp_path: Path) -> None:
    project(tmp_path / "blog")
    project(tmp_path / "shop")
    found = served(
        tmp_path,
        f"""
        [[apps]]
        root = "blog"
        base_uri = "/blog"
        variables = {{LIST = "{"x" * hosting.MAX_GROUP_BYTES}"}}
        [[apps]]
        root = "shop"
        """,
    )
    assert [group.spec.root for group in found.groups] == [str(tmp_path / "shop")]
    assert "bytes long as JSON, more than 131072: make" in found.problems[str(tmp_path / "blog")]


def test_each_entry_is_an_application_with_settings_of_its_own(tmp_path: Path) -> None:
    project(tmp_path / "blog")
    project(tmp_path / "shop", appsrv_toml="port = 1\nthreads = 2\nmax_requests = 5\nuser = 'nobody'\n")
    found = served(
        tmp_path,
        """
        max_pool_size = 9
        log_file = "instance.log"
        [[apps]]
        root = "blog"
        hosts = ["Blog.example", "*.blog.example"]
        variables = {KEY = "value"}
        environment = "staging"
        [[apps]]
        root = "shop"
        name = "the shop"
        base_uri = "/shop/"
        max_requests = 7
        """,
    )
    assert found.problems == {}
    blog, shop = found.groups
    assert (blog.name, blog.spec.root) == (str(tmp_path / "blog"), str(tmp_path / "blog"))
    assert blog.settings.hosts == ("blog.example", "*.blog.example")
    assert (blog.settings.environment, blog.settings.max_pool_size) == ("staging", 9)
    assert blog.variables == {"KEY": "value"}
    assert blog.settings.log_file == str(tmp_path / "blog" / "appsrv.log"), "not the instance's"
    assert (shop.name, shop.settings.base_uri) == ("the shop", "/shop")
    assert (shop.settings.threads, shop.settings.max_requests) == (2, 7), "the entry wins over the project's own file"
    assert shop.settings.port == sources.load({}, {}, tmp_path).port, "where to listen is the instance's"
    assert shop.settings.user is None, "whose it is, is not for the project to say"
    assert found.routes.find("blog.example", "/") == blog.name


def test_no_application_has_more_workers_than_all(tmp_path: Path) -> None:
    project(tmp_path / "apps" / "greedy", appsrv_toml="max_pool_size = 1000\n")
    project(tmp_path / "apps" / "modest", appsrv_toml="max_pool_size = 2\n")
    project(tmp_path / "apps" / "wrong", appsrv_toml="max_pool_size = 1000\nmin_instances = 9\n")
    found = served(tmp_path, "apps_directory = 'apps'\nmax_pool_size = 8\n")
    assert [group.settings.max_pool_size for group in found.groups] == [8, 2]
    (problem,) = found.problems.values()
    assert "min_instances (9) is above max_pool_size (8)" in problem


def test_pyproject_can_say_it_too(tmp_path: Path) -> None:
    project(tmp_path / "blog")
    (tmp_path / "pyproject.toml").write_text("[[tool.appsrv.apps]]\nroot = 'blog'\n")
    assert [group.name for group in served(tmp_path, "").groups] == [str(tmp_path / "blog")]


def test_what_cannot_be_served_is_told_and_harms_no_other(tmp_path: Path) -> None:
    project(tmp_path / "good")
    (tmp_path / "empty").mkdir()
    project(tmp_path / "wrong", appsrv_toml="threads = 'many'\n")
    found = served(
        tmp_path,
        "".join(f"[[apps]]\nroot = '{name}'\nbase_uri = '/{name}'\n" for name in ("empty", "wrong", "missing", "good"))
        + "[[apps]]\nroot = 'good'\nname = 'again'\nbase_uri = '/good'\n"
        + "[[apps]]\nroot = 'good'\nbase_uri = '/elsewhere'\n",
    )
    assert [group.name for group in found.groups] == [str(tmp_path / "good")]
    said = {os.path.basename(name): problem for name, problem in found.problems.items()}
    assert "no application found" in said["empty"]
    assert "threads" in said["wrong"]
    place = f"{tmp_path / 'appsrv.toml'}:7"
    assert said["missing"] == f"no such directory, though {place}: [[apps]] number 3 has it as root"
    assert said["again"].startswith(f"any host/good is {tmp_path / 'good'}'s already: give one of them other hosts")
    assert said["good"].startswith("another application has the name")


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("apps = 3\n", "apps has to be a list of tables"),
        ("[[apps]]\nhosts = ['a']\n", r"\[\[apps\]\] number 1: root is missing"),
        ("[[apps]]\nroot = 'x'\nhosts = ['a:80']\n", r"\[\[apps\]\] number 1: hosts: expected a host such as"),
        ("[[apps]]\nroot = 'x'\nbase_uri = 'shop'\n", "expected a path such as /shop"),
        ("[[apps]]\nroot = 'x'\nport = 80\n", "port is a setting of the whole instance: write it above"),
        ("[[apps]]\nroot = 'x'\nhost = 'a'\n", r"\[\[apps\]\] number 1: unknown setting 'host'.*did you mean 'hosts'"),
        ("[[apps]]\nroot = 'x'\nname = 3\n", "name has to be some text"),
        ("[[apps]]\nroot = 'x'\nvariables = {A = 1}\n", "variables has to be a table of texts"),
        ("app = 'shop:app'\n[[apps]]\nroot = 'x'\n", "app stands beside"),
    ],
)
def test_what_is_wrong_with_the_file_itself(tmp_path: Path, toml: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        served(tmp_path, toml)


def test_how_one_application_is_found_is_not_how_all_are(tmp_path: Path) -> None:
    project(tmp_path / "blog", **{"other.py": APP})
    found = served(tmp_path, "[[apps]]\nroot = 'blog'\n", {"FLASK_APP": "other"})
    assert found.groups[0].spec.target.startswith("app")
    own = served(tmp_path, "[[apps]]\nroot = 'blog'\nvariables = {FLASK_APP = 'other'}\n")
    assert own.groups[0].spec.target == "other"


def test_a_directory_of_applications(tmp_path: Path) -> None:
    apps = tmp_path / "apps"
    project(apps / "blog")
    project(apps / "shop.example")
    project(apps / "named", appsrv_toml="hosts = ['x.example']\nbase_uri = '/y'\n")
    project(apps / "über")
    project(apps / ".hidden")
    (apps / "file").write_text("")
    found = served(tmp_path, "apps_directory = 'apps'\n")
    places = {os.path.basename(group.name): (group.settings.hosts, group.settings.base_uri) for group in found.groups}
    assert places == {"blog": ((), "/blog"), "shop.example": (("shop.example",), ""), "named": (("x.example",), "/y")}
    assert [os.path.basename(name) for name in found.problems] == ["über"]
    assert "its name does not say where it is" in found.problems[str(apps / "über")]


def test_a_directory_of_applications_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"apps_directory .*No such file"):
        served(tmp_path, "apps_directory = 'nowhere'\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_found_application_is_its_owner_s(tmp_path: Path) -> None:
    place = project(tmp_path / "apps" / "blog")
    os.chown(place, 12345, 12345)
    found = served(tmp_path, "apps_directory = 'apps'\n")
    assert found.groups[0].settings.user == "12345"
    os.chown(place, 0, 0)
    assert served(tmp_path, "apps_directory = 'apps'\n").groups[0].settings.user is None


# An application may set these for itself: each addition lets the author of an application change one more thing.
PER_APP = [
    "accel_redirect", "access_log", "access_log_format", "app", "base_uri", "busy_threads", "busy_threads_timeout",
    "concurrency_model", "environment", "group", "hard_memory_limit", "health_host", "health_path", "hosts",
    "label_output", "log_file", "max_greenlets", "max_pool_size", "max_preloader_idle_time", "max_request_queue_size",
    "max_request_queue_time", "max_request_time", "max_requests", "memory_limit", "min_instances", "pool_idle_time",
    "request_buffering", "request_id", "response_buffer_memory", "response_buffer_size", "restart_file",
    "restart_parallel", "sendfile_root", "slow_request_time", "spawn_method", "start_command", "start_timeout",
    "static", "stop_timeout", "threads", "user", "warm_up_path",
]
NOT_INHERITED = ["app", "base_uri", "hosts", "log_file", "restart_file", "start_command"]


def test_which_settings_an_application_may_have_for_itself() -> None:
    assert sorted(row.name for row in ROWS if row.per_app) == PER_APP, "a row's per_app and PER_APP above differ"
    assert sorted(row.name for row in ROWS if row.operator_only) == ["group", "user"]
    assert sorted(row.name for row in ROWS if not row.inherited) == NOT_INHERITED
    assert all(row.per_app for row in ROWS if row.operator_only or not row.inherited)


SAMPLES = {"NUMBER": 0, "MODE": "660", "FORM": "json", "MODEL": "gevent", "FORMAT": "combined", "HOST": "shop.example"}


def _toml(row: SettingRow) -> str:
    """A valid value of a setting."""
    sample = SAMPLES.get(row.metavar, "/sample") if row.default is None else row.default
    return json.dumps([] if isinstance(sample, tuple) else sample)


@pytest.mark.parametrize("row", [row for row in ROWS if not row.per_app], ids=lambda row: row.name)
def test_an_entry_refuses_a_setting_of_the_whole_instance(tmp_path: Path, row: SettingRow) -> None:
    with pytest.raises(SettingsError, match=f"{row.name} is a setting of the whole instance"):
        served(tmp_path, f"[[apps]]\nroot = 'shop'\n{row.name} = {_toml(row)}\n")


def test_needs_routes(tmp_path: Path) -> None:
    project(tmp_path / "blog")
    (alone,) = served(tmp_path, "[[apps]]\nroot = 'blog'\n").groups
    (placed,) = served(tmp_path, "[[apps]]\nroot = 'blog'\nhosts = ['a']\n").groups
    assert not hosting.needs_routes([alone], Settings())
    assert hosting.needs_routes([placed], Settings())
    assert hosting.needs_routes([alone, placed], Settings())
    assert hosting.needs_routes([alone], Settings(apps_directory="/srv"))


def test_what_is_said_to_all_harms_no_application_in_another_language(tmp_path: Path) -> None:
    project(tmp_path / "shop")
    project(tmp_path / "api", appsrv_toml="start_command = 'node server.js'\n")
    entries = "[[apps]]\nroot = 'shop'\n[[apps]]\nroot = 'api'\nbase_uri = '/api'\n"
    found = served(tmp_path, "threads = 4\nwarm_up_path = '/'\nmax_requests = 5\n" + entries)
    shop, api = found.groups
    assert (found.problems, shop.settings.threads, shop.settings.model) == ({}, 4, "thread")
    assert (api.spec.start_command, api.app) == ("node server.js", "node server.js")
    assert (api.settings.threads, api.settings.model, api.settings.max_requests) == (1, "gevent", 5)


def test_a_found_application_has_its_code_in_its_directory(tmp_path: Path) -> None:
    """But it may be a package, whose root is the directory above."""
    project(tmp_path / "elsewhere")
    project(tmp_path / "apps" / "outside", appsrv_toml="app = '../../elsewhere/app.py'\n")
    project(tmp_path / "apps" / "package", **{"__init__.py": ""})
    found = served(tmp_path, "apps_directory = 'apps'\n")
    assert [group.name for group in found.groups] == [str(tmp_path / "apps" / "package")]
    assert "is not in" in found.problems[str(tmp_path / "apps" / "outside")]
