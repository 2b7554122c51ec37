"""The table of settings, its sources and their order, and what a wrong one is told."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from appsrv.commands import settings_page
from appsrv.errors import SettingsError
from appsrv.settings import parsers, sources
from appsrv.settings.kinds import FILE_OR_NONE, LOG_TARGET, MOUNTS, NO_FILE, PATH, PATHS, Kind
from appsrv.settings.table import ROWS, Settings
from appsrv.system import cpus

ROOT = Path(__file__).parents[3]


def load(
    directory: Path,
    flags: dict[str, object] | None = None,
    environ: dict[str, str] | None = None,
    **kw: object,
) -> Settings:
    return sources.load(flags or {}, environ or {}, directory, cwd=directory, defaults=kw)


def test_defaults_are_those_of_the_table(tmp_path: Path) -> None:
    assert load(tmp_path) == Settings()
    assert (Settings().address, Settings().port, Settings().max_pool_size) == ("127.0.0.1", 8000, 6)


def test_each_source_wins_over_those_before(tmp_path: Path) -> None:
    flags: dict[str, object] = {"threads": "6"}
    environ = {"APPSRV_THREADS": "5"}
    own = tmp_path / "appsrv.toml"
    own.write_text("threads = 4\n")
    (tmp_path / "pyproject.toml").write_text("[tool.appsrv]\nthreads = 3\n")
    assert load(tmp_path, flags, environ, threads=2).threads == 6
    assert load(tmp_path, {"threads": None}, environ, threads=2).threads == 5
    assert load(tmp_path, environ={"APPSRV_THREADS": " "}, threads=2).threads == 4
    own.unlink()
    assert load(tmp_path, threads=2).threads == 3
    (tmp_path / "pyproject.toml").unlink()
    assert load(tmp_path, threads=2).threads == 2


def test_keys_may_be_written_with_dashes_and_values_natively(tmp_path: Path) -> None:
    (tmp_path / "appsrv.toml").write_text('max-pool-size = 3\npool_idle_time = "5m"\ndaemonize = true\n')
    settings = load(tmp_path)
    assert (settings.max_pool_size, settings.pool_idle_time, settings.daemonize) == (3, 300.0, True)


def test_lists(tmp_path: Path) -> None:
    here = tmp_path / "here"
    (tmp_path / "appsrv.toml").write_text('static = ["/static/=files", "/a=/srv/a, b"]\n')
    assert sources.load({}, {}, tmp_path, cwd=here).static == (f"/static/={tmp_path}/files", "/a/=/srv/a, b")
    environ = {"APPSRV_STATIC": "/x/=x, /y/=../y"}
    settings = sources.load({"static": ()}, environ, tmp_path, cwd=here)
    assert settings.static == (f"/x/={here}/x", f"/y/={tmp_path}/y")
    assert Settings.from_json(json.loads(json.dumps(settings.to_json()))) == settings
    assert sources.load({"static": ("off",)}, environ, tmp_path, cwd=here).static == ()


@pytest.mark.parametrize("mount", ["/static/", "static/=x", "/static/=", "/a//b=x", "/ä/=x"])
def test_malformed_mounts(tmp_path: Path, mount: str) -> None:
    with pytest.raises(SettingsError, match="expected /PREFIX/=DIRECTORY"):
        load(tmp_path, {"static": (mount,)})


def test_relative_paths_belong_to_the_file_or_to_the_current_directory(tmp_path: Path) -> None:
    project, here = tmp_path / "project", tmp_path / "here"
    project.mkdir()
    (project / "appsrv.toml").write_text('log_file = "log/server.log"\n')
    settings = sources.load({"socket": "web.sock"}, {"APPSRV_PID_FILE": "../pid"}, project, cwd=here)
    assert settings.log_file == str(project / "log/server.log")
    assert settings.socket == str(here / "web.sock")
    assert settings.pid_file == str(tmp_path / "pid")


@pytest.mark.parametrize(
    ("kind", "written", "value"),
    [
        (PATH, "a/../b", "/base/b"),
        (FILE_OR_NONE, "pid", "/base/pid"),
        (FILE_OR_NONE, "None", NO_FILE),
        (LOG_TARGET, "log", "/base/log"),
        (LOG_TARGET, "-", "-"),
        (LOG_TARGET, "OFF", "off"),
        (PATHS, "a,/b", ("/base/a", "/b")),
        (MOUNTS, ["/x=a", "/y/=/b"], ("/x/=/base/a", "/y/=/b")),
        (Kind(parsers.text), "a/b", "a/b"),
    ],
)
def test_kinds_with_paths(kind: Kind, written: object, value: object) -> None:
    assert kind.absolute(kind.parse(written), Path("/base")) == value


def test_which_settings_have_paths() -> None:
    of_kind = {kind: sorted(row.name for row in ROWS if row.kind is kind) for kind in (PATH, PATHS, MOUNTS)}
    assert of_kind == {
        PATH: ["apps_directory", "data_buffer_dir", "restart_file", "socket", "ssl_certificate", "ssl_certificate_key"],
        PATHS: ["sendfile_root"],
        MOUNTS: ["accel_redirect", "static"],
    }
    assert sorted(row.name for row in ROWS if row.kind is FILE_OR_NONE) == ["log_file", "pid_file"]
    assert [row.name for row in ROWS if row.kind is LOG_TARGET] == ["access_log"]


@pytest.mark.parametrize(
    ("flags", "environ", "expected"),
    [
        ({}, {"PORT": "5000"}, ("0.0.0.0", 5000)),
        ({}, {"PORT": ""}, ("127.0.0.1", 8000)),
        ({"port": "9000"}, {"PORT": "5000"}, ("127.0.0.1", 9000)),
        ({"address": "::1"}, {"PORT": "5000"}, ("::1", 5000)),
        ({}, {"PORT": "5000", "APPSRV_PORT": "7000"}, ("127.0.0.1", 7000)),
    ],
)
def test_port_of_the_platform(
    tmp_path: Path, flags: dict[str, object], environ: dict[str, str], expected: tuple[str, int]
) -> None:
    settings = load(tmp_path, flags, environ)
    assert (settings.address, settings.port) == expected


def test_port_of_the_platform_does_not_replace_a_socket(tmp_path: Path) -> None:
    settings = load(tmp_path, {"socket": "s"}, {"PORT": "5000"})
    assert (settings.socket, settings.port) == (str(tmp_path / "s"), 8000)


def test_web_concurrency_is_a_default_of_the_pool_size(tmp_path: Path) -> None:
    assert load(tmp_path, environ={"WEB_CONCURRENCY": "3"}).max_pool_size == 3
    assert load(tmp_path, environ={"WEB_CONCURRENCY": " "}).max_pool_size == 6
    assert load(tmp_path, {"max_pool_size": "2"}, {"WEB_CONCURRENCY": "3"}).max_pool_size == 2
    # A development server has its own default, and $WEB_CONCURRENCY is meant for production.
    assert load(tmp_path, environ={"WEB_CONCURRENCY": "3"}, max_pool_size=1).max_pool_size == 1


def test_an_automatic_pool_size_is_found_out(tmp_path: Path) -> None:
    processors = cpus.of_this_process()
    assert load(tmp_path, {"max_pool_size": "auto"}).max_pool_size == 2 * processors + 1
    assert load(tmp_path, {"threads": "2"}, {"WEB_CONCURRENCY": "auto"}).max_pool_size == processors
    assert load(tmp_path, {"max_pool_size": "auto", "min_instances": "999"}).max_pool_size == 999


@pytest.mark.parametrize(
    ("flags", "model", "at_a_time"),
    [
        ({}, "process", 1),
        ({"threads": "4"}, "thread", 4),
        ({"threads": "4", "concurrency_model": "thread"}, "thread", 4),
        ({"concurrency_model": "gevent", "max_greenlets": "50"}, "gevent", 50),
    ],
)
def test_concurrency_model(tmp_path: Path, flags: dict[str, object], model: str, at_a_time: int) -> None:
    settings = load(tmp_path, flags)
    assert (settings.model, settings.concurrency) == (model, at_a_time)


@pytest.mark.parametrize(("model", "threads"), [("thread", "1"), ("process", "2"), ("gevent", "2")])
def test_a_model_and_threads_that_contradict_each_other(tmp_path: Path, model: str, threads: str) -> None:
    assert f"concurrency_model {model} and threads {threads}" in error(
        tmp_path, {"concurrency_model": model, "threads": threads}
    )


def test_memory_limits_that_contradict_each_other(tmp_path: Path) -> None:
    assert "hard_memory_limit" in error(tmp_path, {"memory_limit": "2M", "hard_memory_limit": "1M"})


def test_a_probe_path_that_the_application_has_to_answer(tmp_path: Path) -> None:
    for health in ("/-/healthy", "/-/healthy?full=1"):
        said = error(tmp_path, {"probe_path": "/-/healthy", "health_path": health})
        assert "probe_path and health_path are both /-/healthy: appsrv itself answers the first" in said
    assert load(tmp_path, {"probe_path": "/-/healthy", "health_path": "/health"}).probe_path == "/-/healthy"


def test_a_later_way_to_listen_replaces_an_earlier_one(tmp_path: Path) -> None:
    (tmp_path / "appsrv.toml").write_text("port = 7000\n")
    assert load(tmp_path, {"socket": "s"}).socket == str(tmp_path / "s")
    (tmp_path / "appsrv.toml").write_text('socket = "s"\n')
    settings = load(tmp_path, {"port": "7001"})
    assert (settings.socket, settings.port) == (None, 7001)


def error(
    tmp_path: Path, flags: dict[str, object] | None = None, environ: dict[str, str] | None = None
) -> str:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, flags, environ)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_an_unknown_key_is_named_with_its_file_and_its_neighbour(tmp_path: Path) -> None:
    file = tmp_path / "appsrv.toml"
    file.write_text("max_pol_size = 3\n")
    assert error(tmp_path) == f"{file}:1: unknown setting 'max_pol_size' (did you mean 'max_pool_size'?)"


def test_an_unknown_key_of_pyproject(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.appsrv]\nxyzzy = 3\n")
    assert "pyproject.toml:2: unknown setting 'xyzzy': appsrv start --help shows them all" in error(tmp_path)


KUBERNETES = {
    "APPSRV_PORT": "tcp://10.0.0.1:80", "APPSRV_SERVICE_HOST": "10.0.0.1", "APPSRV_SERVICE_PORT": "80",
    "APPSRV_PORT_80_TCP": "tcp://10.0.0.1:80", "APPSRV_PORT_80_TCP_PROTO": "tcp", "APPSRV_PORT_80_TCP_PORT": "80",
    "APPSRV_PORT_80_TCP_ADDR": "10.0.0.1",
}  # fmt: skip


def test_a_misspelled_variable_is_named_and_ends_nothing(tmp_path: Path) -> None:
    environ = {"APPSRV_THREAD": "3", "APPSRV_RUNSERVER": "0", "APPSRV_MIN_INSTANCES": "2"}
    assert load(tmp_path, environ=environ).min_instances == 2
    assert sources.variable_notices(environ) == [
        "the variable $APPSRV_THREAD is not a setting and has no effect (did you mean 'APPSRV_THREADS'?)"
    ]
    # What all variables begin with makes none of them alike.
    (notice,) = sources.variable_notices({"APPSRV_QQ": "1"})
    assert notice.endswith("$APPSRV_QQ is not a setting and has no effect: appsrv start --help shows them all")


def test_the_variables_of_a_service_of_kubernetes_are_ignored(tmp_path: Path) -> None:
    environ = {**KUBERNETES, "APPSRV_METRICS_PORT": "TCP://10.0.0.2:9100", "APPSRV_METRICS_SERVICE_PORT_HTTP": "9100"}
    settings = load(tmp_path, environ=environ)
    assert (settings.port, settings.metrics_port) == (8000, None)
    assert [notice.partition(" (")[0] for notice in sources.variable_notices(environ)] == [
        "$APPSRV_METRICS_PORT and $APPSRV_METRICS_SERVICE_PORT_HTTP describe the service appsrv-metrics",
        "$APPSRV_PORT, $APPSRV_PORT_80_TCP, $APPSRV_PORT_80_TCP_ADDR and 4 more describe the service appsrv",
    ]
    # Neither a port of ours nor what only looks like one is swallowed.
    assert load(tmp_path, environ={**KUBERNETES, "APPSRV_PORT": "9000"}).port == 9000
    assert error(tmp_path, environ={"APPSRV_PORT": "http"}).startswith("$APPSRV_PORT: expected a whole number")
    assert error(tmp_path, environ={"APPSRV_THREADS": "tcp://x"}).startswith("$APPSRV_THREADS: expected")


def test_no_file_at_all(tmp_path: Path) -> None:
    (tmp_path / "appsrv.toml").write_text('pid_file = "none"\nlog_file = "NONE"\n')
    settings = load(tmp_path)
    assert (settings.pid_file, settings.log_file) == (os.devnull, os.devnull)
    assert load(tmp_path, {"pid_file": "./none"}).pid_file == str(tmp_path / "none")


def test_two_applications_in_single_brackets(tmp_path: Path) -> None:
    (tmp_path / "appsrv.toml").write_text("[apps]\nroot = 'shop'\n\n[apps]\nroot = 'blog'\n")
    assert "each application begins with [[apps]], in double brackets" in error(tmp_path)


def test_the_application_is_no_variable(tmp_path: Path) -> None:
    assert load(tmp_path, environ={"APPSRV_APP": "x:y"}).app is None
    assert "$APPSRV_APP is not a setting" in sources.variable_notices({"APPSRV_APP": "x:y"})[0]


def test_an_unknown_flag_is_a_defect_that_is_told(tmp_path: Path) -> None:
    assert "unknown setting 'workers'" in error(tmp_path, {"workers": 3})


def test_bad_values_name_where_they_stand(tmp_path: Path) -> None:
    assert error(tmp_path, {"port": "http"}) == '--port: expected a whole number, 0 to 65535, not "http"'
    assert error(tmp_path, environ={"PORT": "x"}).startswith("$PORT: expected a whole number")
    assert error(tmp_path, environ={"WEB_CONCURRENCY": "0"}).startswith("$WEB_CONCURRENCY: expected")
    assert error(tmp_path, environ={"APPSRV_LOG_LEVEL": "loud"}).startswith(
        "$APPSRV_LOG_LEVEL: expected debug,"
    )
    file = tmp_path / "appsrv.toml"
    file.write_text("threads = [1]\n")
    assert error(tmp_path) == f"{file}:1: threads: expected a whole number, 1 to 1024, not [1]"


@pytest.mark.parametrize("content", [b"threads = = 1", b"\xff\xfe"])
def test_a_file_that_is_no_toml(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "appsrv.toml").write_bytes(content)
    assert str(tmp_path / "appsrv.toml") in error(tmp_path)


def test_a_table_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("tool.appsrv = 3\n")
    assert "has to be a table" in error(tmp_path)


def test_a_pyproject_without_our_table(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("tool = 3\n")
    assert load(tmp_path) == Settings()


def test_settings_that_contradict_each_other(tmp_path: Path) -> None:
    assert "min_instances (7) is above max_pool_size (6)" in error(tmp_path, {"min_instances": "7"})
    assert "socket and port exclude" in error(tmp_path, {"socket": "s", "port": "1"})
    assert "APPSRV_* variables: socket and address" in error(
        tmp_path, environ={"APPSRV_SOCKET": "s", "APPSRV_ADDRESS": "::1"}
    )
    assert "too long for a unix socket" in error(tmp_path, {"socket": "s" * 200})


def test_settings_travel_as_json(tmp_path: Path) -> None:
    settings = load(tmp_path, {"socket": "s", "daemonize": True, "max_body_size": "2M"})
    assert Settings.from_json(json.loads(json.dumps(settings.to_json()))) == settings


def test_flags_and_variables_are_unique_and_follow_the_names() -> None:
    short = [row.flag for row in ROWS if row.flag]
    assert len(short) == len(set(short))
    row = next(row for row in ROWS if row.name == "max_pool_size")
    assert (row.long_flag, row.variable) == ("--max-pool-size", "APPSRV_MAX_POOL_SIZE")


def test_every_default_is_a_value_its_own_parser_takes() -> None:
    for row in ROWS:
        if row.default is not None:
            assert row.kind.parse(row.default) == row.default, row.name


def test_the_environment_is_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPSRV_TEST", "1")
    copy = sources.environment()
    assert copy.pop("APPSRV_TEST") == "1"
    assert "APPSRV_TEST" in sources.environment()


def test_the_settings_page_is_the_table() -> None:
    stored = (ROOT / "docs" / "settings.md").read_text()
    assert stored == settings_page.page(), "run: python -m appsrv.commands.settings_page > docs/settings.md"
    for row in ROWS:
        assert f"### {row.name}\n" in stored


def test_the_variable_that_gunicorn_and_uvicorn_read(tmp_path: Path) -> None:
    environ = {"FORWARDED_ALLOW_IPS": "10.0.0.1, unix"}
    assert load(tmp_path).forwarded_allow_ips == ("127.0.0.0/8", "::1", "unix")
    assert load(tmp_path, environ={"FORWARDED_ALLOW_IPS": " "}).forwarded_allow_ips == ("127.0.0.0/8", "::1", "unix")
    assert load(tmp_path, environ=environ).forwarded_allow_ips == ("10.0.0.1", "unix")
    ours = {**environ, "APPSRV_FORWARDED_ALLOW_IPS": "*"}
    assert load(tmp_path, environ=ours).forwarded_allow_ips == ("*",)
    assert load(tmp_path, {"forwarded_allow_ips": ("off",)}, ours).forwarded_allow_ips == ()
    with pytest.raises(SettingsError, match=r"\$FORWARDED_ALLOW_IPS: expected addresses, networks"):
        load(tmp_path, environ={"FORWARDED_ALLOW_IPS": "proxy.example"})


def test_a_command_has_the_concurrency_model_gevent(tmp_path: Path) -> None:
    settings = sources.load({"start_command": "node server.js"}, {}, tmp_path)
    assert (settings.model, settings.concurrency, settings.buffers_bodies) == ("gevent", 100, True)
    unbuffered = sources.load({"start_command": "node server.js", "request_buffering": False}, {}, tmp_path)
    assert not unbuffered.buffers_bodies
    assert sources.load({"request_buffering": False}, {}, tmp_path).buffers_bodies, "WSGI applications get whole bodies"
    assert sources.load({}, {"APPSRV_START_COMMAND": "a"}, tmp_path, without=("start_command",)).start_command is None


PYTHON_ONLY = {"threads": 4, "concurrency_model": "process", "spawn_method": "direct", "warm_up_path": "/"}


def test_settings_for_python_only_are_refused_with_a_command(tmp_path: Path) -> None:
    assert {row.name for row in ROWS if row.python_only} == PYTHON_ONLY.keys()
    for name, value in PYTHON_ONLY.items():
        with pytest.raises(SettingsError, match=f"{name} .* is of no use with a start_command"):
            sources.load({"start_command": "node server.js", name: value}, {}, tmp_path)
    settings = sources.load({"start_command": "node server.js", "concurrency_model": "gevent"}, {}, tmp_path)
    assert settings.model == "gevent", "the model of its proxy is no contradiction"


@pytest.mark.parametrize(
    ("given", "environment", "framework", "path"),
    [
        *((None, "production", False, None), (None, "development", False, "-"), (None, "development", True, None)),
        *(("off", "development", False, None), ("-", "production", False, "-"), ("/a", "development", True, "/a")),
    ],
)
def test_where_the_access_log_goes(given: str | None, environment: str, framework: bool, path: str | None) -> None:
    assert Settings(access_log=given, environment=environment).access_log_path(framework=framework) == path
