"""Where each value comes from, and the place of each error."""

from __future__ import annotations

from pathlib import Path

import pytest

from appsrv.errors import SettingsError
from appsrv.settings import files, sources
from appsrv.settings.origins import COMMAND, SettingOrigin
from appsrv.settings.sources import LoadedSettings


def read(
    directory: Path, flags: dict[str, object] | None = None, environ: dict[str, str] | None = None, **kw: object
) -> LoadedSettings:
    return sources.read(flags or {}, environ or {}, directory, cwd=directory, defaults=kw)


def shown(loaded: LoadedSettings, directory: Path) -> dict[str, str]:
    located = {name: str(files.located(origin)) for name, origin in loaded.origins.items()}
    return {name: text.removeprefix(f"{directory}/") for name, text in located.items()}


def test_each_value_has_its_origin(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\nthreads = 1\n\n[tool.appsrv]\nthreads = 3\nmax-requests = 1\n")
    (tmp_path / "appsrv.toml").write_text('# ours\nhosts = [\n  "a",\n]\nmin_instances = 2\n')
    environ = {"APPSRV_MIN_INSTANCES": "1", "PORT": "5000", "WEB_CONCURRENCY": "3", "FORWARDED_ALLOW_IPS": "*"}
    loaded = read(tmp_path, {"max_pool_size": "4", "static": ()}, environ, body_timeout=3.0, threads=9)
    assert shown(loaded, tmp_path) == {
        "threads": "pyproject.toml:5",
        "max_requests": "pyproject.toml:6",
        "hosts": "appsrv.toml:2",
        "min_instances": "$APPSRV_MIN_INSTANCES",
        "max_pool_size": "--max-pool-size",
        "port": "$PORT",
        "address": "$PORT",
        "forwarded_allow_ips": "$FORWARDED_ALLOW_IPS",
        "body_timeout": "default of the command",
    }
    assert loaded.settings is not None
    assert loaded.settings.port == 5000
    assert loaded.origins["body_timeout"] == COMMAND


def test_an_overruled_address_has_no_origin(tmp_path: Path) -> None:
    (tmp_path / "appsrv.toml").write_text("port = 7000\n")
    loaded = read(tmp_path, {"socket": "s"}, {"PORT": "5000"})
    assert shown(loaded, tmp_path) == {"socket": "--socket"}


def test_all_errors_are_found_with_their_places(tmp_path: Path) -> None:
    project, own = tmp_path / "pyproject.toml", tmp_path / "appsrv.toml"
    project.write_text("[tool.appsrv]\nxyzzy = 1\nthreads = 0\n")
    own.write_text("socket = 's'\nport = 1\n[table]\n")
    loaded = read(tmp_path, {"port": "http"}, {"APPSRV_THREADS": "many"})
    assert loaded.settings is None
    assert [(error.names, error.file, error.line) for error in loaded.errors] == [
        (("xyzzy",), str(project), 2),
        (("threads",), str(project), 3),
        (("table",), str(own), 3),
        (("socket", "port"), str(own), 1),
        (("threads",), "", 0),
        (("port",), "", 0),
    ]
    with pytest.raises(SettingsError, match="unknown setting 'xyzzy'"):
        sources.load({"port": "http"}, {}, tmp_path)


def test_a_file_that_is_no_toml_does_not_hide_the_others(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("x = 1\ny = = 2\n")
    (tmp_path / "appsrv.toml").write_text("threads = 0\n")
    errors = read(tmp_path).errors
    assert [(Path(error.file).name, error.line) for error in errors] == [("pyproject.toml", 2), ("appsrv.toml", 1)]


def test_a_contradiction_names_both_places(tmp_path: Path) -> None:
    (tmp_path / "appsrv.toml").write_text("\nmin_instances = 8\n")
    (error,) = read(tmp_path, {"max_pool_size": "2"}).errors
    assert str(error).endswith(f"(min_instances: {tmp_path}/appsrv.toml:2, max_pool_size: --max-pool-size)")
    assert (error.names, error.line) == (("min_instances", "max_pool_size"), 2)


def test_a_file_that_has_changed_meanwhile_has_no_lines(tmp_path: Path) -> None:
    origin = SettingOrigin("file", "port", str(tmp_path / "appsrv.toml"), ("port",))
    (tmp_path / "appsrv.toml").write_text("port = = 1\n")
    assert str(files.located(origin)) == str(tmp_path / "appsrv.toml")
