"""Static files in front of an application: what is served, what is not, and who decides."""

from __future__ import annotations

import errno
import gzip
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from appsrv.errors import AppLoadError
from appsrv.preloader import static_files
from appsrv.preloader.static_files import with_static_files
from support.served import App, Served, app_of

STYLE = b"body { color: green }\n" * 100


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    files = tmp_path / "static"
    (files / "css").mkdir(parents=True)
    (files / "css" / "style.css").write_bytes(STYLE)
    (files / "css" / "style.css.gz").write_bytes(gzip.compress(STYLE))
    (files / "app.0123456789ab.js").write_bytes(b"1")
    (files / "report.202401011200.csv").write_bytes(b"1,2")
    (files / ".env").write_text("SECRET=1")
    (files / ".git").mkdir()
    (files / ".git" / "config").write_text("x")
    (files / ".well-known").mkdir()
    (files / ".well-known" / "security.txt").write_text("Contact: nobody")
    (tmp_path / "outside.txt").write_text("outside")
    return files


@pytest.fixture(params=[False, True], ids=["start", "development"])
def server(request: pytest.FixtureRequest, directory: Path) -> App:
    application = app_of([b"the application"])
    served: App = with_static_files(application, [f"/static/={directory}"], development=request.param)
    return served


def test_a_file_with_its_headers(server: App) -> None:
    served = Served(server, target="/static/css/style.css")
    assert (served.outcome.status, served.body, served.headers["vary"]) == (200, STYLE, "Accept-Encoding")
    assert served.headers["content-type"] == 'text/css; charset="utf-8"'
    assert served.headers["etag"]
    assert served.headers["last-modified"]


def test_the_compressed_variant_for_those_who_take_it(server: App) -> None:
    served = Served(server, target="/static/css/style.css", fields="Accept-Encoding: gzip, br\r\n")
    assert served.headers["content-encoding"] == "gzip"
    assert gzip.decompress(served.body) == STYLE


def test_conditional_requests_and_ranges(server: App) -> None:
    etag = Served(server, target="/static/css/style.css").headers["etag"]
    unchanged = Served(server, target="/static/css/style.css", fields=f"If-None-Match: {etag}\r\n")
    assert (unchanged.outcome.status, unchanged.body) == (304, b"")
    part = Served(server, target="/static/css/style.css", fields=f"Range: bytes=5-9\r\nIf-Range: {etag}\r\n")
    assert (part.outcome.status, part.body) == (206, STYLE[5:10])
    other = Served(server, target="/static/css/style.css", fields='Range: bytes=5-9\r\nIf-Range: "old"\r\n')
    assert (other.outcome.status, other.body) == (200, STYLE)


def test_head(server: App) -> None:
    served = Served(server, "HEAD", target="/static/css/style.css")
    assert (served.headers["content-length"], served.body) == (str(len(STYLE)), b"")


@pytest.mark.parametrize(
    "target",
    [
        *("/", "/static/", "/static/css", "/static/css/", "/static/nothing.css", "/static/.env", "/static/.git/config"),
        *("/static/../outside.txt", "/static/%2e%2e/outside.txt", "/static/css/../../outside.txt"),
        *("/static//css/style.css", "/static/css%5cstyle.css", "/staticcss/style.css"),
    ],
)
def test_anything_else_is_the_applications(server: App, target: str) -> None:
    assert Served(server, target=target).body == b"the application"


def test_well_known_is_not_hidden(server: App) -> None:
    assert Served(server, target="/static/.well-known/security.txt").body == b"Contact: nobody"


def test_hashed_names_are_kept_for_ever_and_dates_are_no_hashes(directory: Path) -> None:
    server = with_static_files(app_of([b""]), [f"/s/={directory}"], development=False)
    assert "immutable" in Served(server, target="/s/app.0123456789ab.js").headers["cache-control"]
    assert Served(server, target="/s/report.202401011200.csv").headers["cache-control"] == "max-age=60, public"


def test_only_development_sees_files_that_come_later(directory: Path) -> None:
    mounts, application = [f"/static/={directory}"], app_of([b"the application"])
    started = with_static_files(application, mounts, development=False)
    developing = with_static_files(application, mounts, development=True)
    (directory / "new.txt").write_text("new")
    assert Served(started, target="/static/new.txt").body == b"the application"
    assert Served(developing, target="/static/new.txt").body == b"new"


def test_a_file_removed_after_the_start_is_not_found(directory: Path) -> None:
    server = with_static_files(app_of([b"the application"]), [f"/static/={directory}"], development=False)
    (directory / "css" / "style.css").unlink()
    assert Served(server, target="/static/css/style.css").outcome.status == 404


def test_odd_entries_do_not_keep_the_rest_from_being_served(directory: Path) -> None:
    (directory / "broken").symlink_to("nowhere")
    (directory / "round").symlink_to(directory)
    (directory / "linked.txt").symlink_to(directory.parent / "outside.txt")
    os.mkfifo(directory / "pipe")
    server = with_static_files(app_of([b"the application"]), [f"/static/={directory}"], development=False)
    assert Served(server, target="/static/linked.txt").body == b"outside"
    assert Served(server, target="/static/pipe").body == b"the application"
    assert Served(server, target="/static/round/css/style.css").body == b"the application"


def test_nor_does_a_directory_that_cannot_be_read(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (directory / "lost+found").mkdir()
    scandir = os.scandir

    def guarded(path: str) -> Any:
        if path.endswith("lost+found"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    server = with_static_files(app_of([b"the application"]), [f"/static/={directory}"], development=False)
    assert Served(server, target="/static/css/style.css").body == STYLE
    said = f"appsrv: static files in {directory}/lost+found are not served: Permission denied\n"
    assert capfd.readouterr().err == said


def test_without_mounts_the_application_is_left_alone() -> None:
    application = app_of([b""])
    assert with_static_files(application, (), development=False) is application
    assert with_static_files(application, None, development=False) is application


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(AppLoadError, match=r"/static/=.*gone: there is no such directory"):
        with_static_files(app_of([b""]), [f"/static/={tmp_path / 'gone'}"], development=False)


def test_whitenoise_missing(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "whitenoise", None)
    with pytest.raises(AppLoadError, match=r"pip install 'appsrv\[static\]'"):
        with_static_files(app_of([b""]), [f"/static/={directory}"], development=False)


# -- Django, each in a process of its own: its settings are one per process ------------------------------------------

DJANGO = """
import sys
from django.conf import settings
settings.configure(STATIC_URL={url!r}, STATIC_ROOT={root!r}, MIDDLEWARE={middleware!r}, FORCE_SCRIPT_NAME={forced!r})
{before}
from appsrv.preloader.static_files import with_static_files
def application(environ, start_response): ...
served = with_static_files(application, {mounts!r}, development={development!r}, base_uri={base!r})
print(*sorted(getattr(served, "files", ["unchanged"])))
"""


def served_by_django(root: Path, url: str = "/static/", **given: object) -> tuple[str, str]:
    """What is printed on stdout (the URLs served) and stderr."""
    values = {"middleware": [], "mounts": None, "development": False, "before": "", "base": "", "forced": None, **given}
    code = DJANGO.format(url=url, root=str(root), **values)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.strip(), done.stderr


@pytest.fixture
def collected(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a.css").write_text("a")
    return tmp_path / "root"


@pytest.mark.process
def test_what_django_has_collected(collected: Path) -> None:
    assert served_by_django(collected) == ("/static/a.css", "")


@pytest.mark.process
@pytest.mark.parametrize(
    "given",
    [
        {"url": "/shop/static/", "base": "/shop"},
        {"url": "static/", "base": "/shop"},
        {"url": "static/", "base": "/shop", "forced": "/shop/", "before": "import django; django.setup()"},
        {"url": "/shop/static/", "forced": "/shop"},
        {"url": "/static/", "base": "/sta", "forced": "/"},
    ],
)
def test_requests_below_a_prefix_find_them(collected: Path, given: dict[str, object]) -> None:
    """Whether or not the prefix stands in STATIC_URL: it does not in PATH_INFO."""
    assert served_by_django(collected, **given) == ("/static/a.css", "")  # type: ignore[arg-type]


BELOW_A_PREFIX = """
import django
from django.conf import settings
from django.urls import set_script_prefix
settings.configure(STATIC_URL="static/", STATIC_ROOT={root!r}, INSTALLED_APPS=["django.contrib.staticfiles"])
django.setup()
from appsrv.preloader import production_checks as production; from appsrv.preloader import static_files
application = object()
static_files.with_static_files(application, None, development=False)
list(production.notes(application))
set_script_prefix("/shop/")
print(settings.STATIC_URL)
"""


@pytest.mark.process
def test_django_still_finds_out_below_which_prefix_it_is(collected: Path) -> None:
    code = BELOW_A_PREFIX.format(root=str(collected))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "/shop/static/\n"


@pytest.mark.process
@pytest.mark.parametrize(
    "given",
    [
        {"url": "https://cdn.example/static/"},
        {"url": "/shop/", "base": "/shop"},
        {"url": "//cdn.example/static/"},
        {"url": "/"},
        {"middleware": ["whitenoise.middleware.WhiteNoiseMiddleware"]},
        {"mounts": ()},
        {"development": True},
    ],
    ids=str,
)
def test_when_django_s_files_are_somebody_else_s(collected: Path, given: dict[str, object]) -> None:
    url = str(given.pop("url", "/static/"))
    assert served_by_django(collected, url, **given) == ("unchanged", "")


@pytest.mark.process
def test_nothing_collected(tmp_path: Path) -> None:
    assert served_by_django(tmp_path / "none") == ("unchanged", "")


@pytest.mark.process
def test_without_whitenoise_django_s_files_are_a_matter_of_a_line(collected: Path) -> None:
    printed, said = served_by_django(collected, before="sys.modules['whitenoise'] = None")
    assert printed == "unchanged"
    assert said == (
        f"appsrv: /static/ is not served by appsrv: {static_files.HOW_TO_INSTALL}, or let a proxy serve it\n"
    )


def test_an_application_already_in_whitenoise_is_left_alone(directory: Path) -> None:
    wrapped = with_static_files(app_of([b""]), [f"/static/={directory}"], development=False)
    settings = type("Settings", (), {"MIDDLEWARE": []})
    assert static_files._uses_whitenoise(settings, wrapped)
    assert not static_files._uses_whitenoise(settings, app_of([b""]))
