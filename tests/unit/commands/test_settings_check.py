"""`appsrv check`: the values, their origins, and the errors that `start` would end with."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from appsrv.commands.settings_check import SettingsReport, as_text, examine, size_text, text_of
from appsrv.settings.kinds import NO_FILE
from appsrv.settings.parsers import AUTO
from appsrv.system import fifo

APPLICATION = "def application(environ, start_response): ...\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "wsgi.py").write_text(APPLICATION)
    return tmp_path


def examined(directory: Path, environ: dict[str, str] | None = None, **flags: object) -> SettingsReport:
    return examine(None, flags, environ or {}, directory)


def test_values_that_differ_from_their_defaults(project: Path) -> None:
    (project / "appsrv.toml").write_text('# the shop\nthreads = 4\nmin_instances = 1\npid_file = "none"\n')
    report = examined(project, {"APPSRV_POOL_IDLE_TIME": "1m", "APPSRV_PROT": "1"}, max_pool_size="auto")
    file = project / "appsrv.toml"
    lines = as_text(report, everything=False).splitlines()
    assert lines[0] == f"Application: wsgi in {project}"
    rows = [line.split() for line in lines[2:]]
    assert rows[0] == ["pid_file", "none", f"{file}:4"]
    assert rows[1][0::2] == ["max_pool_size", "--max-pool-size"]
    assert rows[2:] == [["threads", "4", f"{file}:2"], ["pool_idle_time", "60", "$APPSRV_POOL_IDLE_TIME"]]
    everything = {line.split()[0]: line.split()[1:] for line in as_text(report, everything=True).splitlines()[2:]}
    assert everything["port"] == ["8000", "default"]
    # Set, to what is the default.
    assert everything["min_instances"] == ["1", f"{file}:3"]
    assert everything["max_request_queue_size"] == ["auto", "default"]
    assert "did you mean 'APPSRV_PORT'?" in report.warnings[0]
    found = report.to_json()
    assert found["settings"]["threads"] == {
        "value": 4, "text": "4", "default": 1,
        "origin": {"kind": "file", "name": "threads", "file": str(file), "line": 2},
    }
    assert found["settings"]["pid_file"]["value"] is None
    assert "All settings have their default values." in as_text(SettingsReport("/srv"), everything=False)


@pytest.mark.parametrize(
    ("value", "text"),
    [(AUTO, "auto"), (NO_FILE, "none"), (None, "none"), ((), "off"), (("a", "b"), "a, b"), (0.5, "0.5"),
     (True, "true"), ("two\nlines", "two\\nlines")],
)
def test_values_as_text(value: object, text: str) -> None:
    assert text_of(value) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0"), (240, "240"), (8190, "8190"), (16 << 10, "16K"), (300 << 20, "300M"), (1 << 30, "1G")]
)
def test_sizes_as_text(size: int, text: str) -> None:
    assert size_text(size) == text


def test_several_applications(project: Path) -> None:
    shop, file = project / "shop", project / "appsrv.toml"
    shop.mkdir()
    (shop / "wsgi.py").write_text(APPLICATION)
    (shop / "appsrv.toml").write_text("\nmax_requests = 5\nport = 1\n")
    blog = project / "apps" / "blog"
    blog.mkdir(parents=True)
    (blog / "wsgi.py").write_text(APPLICATION)
    (project / "apps" / "empty").mkdir()
    entry = '[[apps]]\nroot = "shop"\nthreads = 3\nhosts = ["a.example"]\n'
    file.write_text(f'threads = 2\napps_directory = "apps"\n{entry}')
    report = examined(project)
    (error,) = report.errors
    assert "empty is not served: no application found" in str(error)
    apps = {one.name: {each.row.name: (each.value, str(each.origin)) for each in one.values} for one in report.apps}
    assert apps[str(shop)] == {
        "max_requests": (5, f"{shop}/appsrv.toml:2"),
        "threads": (3, f"{file}:5"),
        "hosts": (("a.example",), f"{file}:6"),
    }
    assert apps[str(blog)]["base_uri"] == ("/blog", f"name of {blog}")
    assert "2 applications" in as_text(report, everything=False)
    assert {one["name"] for one in report.to_json()["apps"]} == {str(shop), str(blog)}


def test_what_only_the_machine_can_tell(project: Path) -> None:
    file = project / "appsrv.toml"
    file.write_text('user = "no-such-user"\nsocket_group = "no-such-group"\nssl_certificate = "none.pem"\n')
    errors = examined(project).to_json()["errors"]
    assert [error["line"] for error in errors] == [1, 2, 3]
    assert "no-such-user" in errors[0]["message"]
    assert errors[0]["message"].endswith(f"(user: {file}:1)")


def test_errors_of_the_settings_come_alone(project: Path) -> None:
    (project / "appsrv.toml").write_text("threads = 0\n")
    report = examined(project)
    assert (report.values, len(report.errors)) == ((), 1)


def test_a_directory_without_an_application(tmp_path: Path) -> None:
    (error,) = examined(tmp_path).errors
    assert "no application found" in str(error)
    assert os.path.basename(examined(tmp_path).directory) == tmp_path.name


def test_settings_in_the_file_of_the_application_s_variables(project: Path) -> None:
    (project / ".env").write_text("APPSRV_PORT=1\nSECRET=x\nAPPSRV_RUNSERVER=0\n")
    report = examined(project)
    (warning,) = report.warnings
    assert warning.startswith(f"{project}/.env: APPSRV_PORT has no effect there")
    assert report.errors == ()
    (project / ".env").unlink()
    # Reading it would wait for a writer, and take from the application what the writer serves once.
    os.mkfifo(project / ".env")
    # The name of the application is given: finding it reads FLASK_APP from `.env`, as `start` does.
    began = time.monotonic()
    assert examine("wsgi:application", {}, {}, project).warnings == ()
    assert time.monotonic() - began < fifo.WRITER_WAIT_SECONDS
