"""x_sendfile.py: the application names a file, the client gets it, and nothing else ever."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from appsrv.wsgi.run import Environ
from appsrv.wsgi.x_sendfile import with_x_sendfile
from support.served import App, Body, Served, app_of

CONTENT = bytes(range(256)) * 1000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "film.mp4").write_bytes(CONTENT)
    (tmp_path / "media" / "50% café.txt").write_bytes(b"small")
    (tmp_path / "media" / "empty").touch()
    os.utime(tmp_path / "media" / "film.mp4", (1795363200, 1795363200))
    (tmp_path / "secret").write_text("secret")
    return tmp_path / "media"


def sending(root: Path, *headers: tuple[str, str], status: str = "200 OK", body: Any = None) -> App:
    """An application that answers with these fields, in front of which X-Sendfile and X-Accel-Redirect are heeded."""
    application = app_of([b"ignored"] if body is None else body, *headers, status=status)
    served: App = with_x_sendfile(application, [str(root)], [f"/protected/={root}", f"/protected/deep/={root}/.."])
    return served


def film(root: Path, *headers: tuple[str, str], **given: Any) -> App:
    return sending(root, ("X-Sendfile", f"{root}/film.mp4"), *headers, **given)


def test_a_file_by_its_path(root: Path) -> None:
    served = Served(film(root, ("Content-Length", "7"), ("Set-Cookie", "a=b"), ("ETag", '"empty"')))
    assert (served.status, served.body, served.rest) == (200, CONTENT, b"")
    assert served.writer.files == [len(CONTENT)]
    assert served.headers["content-type"] == "text/plain"
    assert served.headers["set-cookie"] == "a=b"
    assert served.headers["last-modified"] == "Sun, 22 Nov 2026 16:00:00 GMT"
    assert served.headers["accept-ranges"] == "bytes"
    assert served.headers["etag"] not in ("", '"empty"')
    assert "x-sendfile" not in served.headers


def test_a_file_by_its_uri(root: Path) -> None:
    named = ("X-Accel-Redirect", "/protected/50%25%20caf%C3%A9.txt?v=1")
    served = Served(sending(root, named, ("X-Accel-Expires", "5")))
    assert (served.status, served.body) == (200, b"small")
    assert not [name for name in served.headers if name.startswith("x-accel")]


def test_the_longest_prefix_counts(root: Path) -> None:
    assert Served(sending(root, ("x-accel-redirect", "/protected/deep/secret"))).body == b"secret"


def test_the_type_is_guessed_where_the_application_names_none(root: Path) -> None:
    def application(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", [("X-Sendfile", f"{root}/film.mp4")])
        return []

    assert Served(with_x_sendfile(application, [str(root)], [])).headers["content-type"] == "video/mp4"


@pytest.mark.parametrize(
    ("named", "kind"),
    [
        (("X-Accel-Redirect", "/protected/page.html?v=1"), "text/html"),
        (("X-Accel-Redirect", "/protected/all.tar.gz"), "application/gzip"),
        (("X-Accel-Redirect", "/protected/all.tar.xz?"), "application/x-xz"),
        (("X-Accel-Redirect", "/protected/empty"), "application/octet-stream"),
    ],
)
def test_the_type_is_that_of_the_file_as_it_is_sent(root: Path, named: tuple[str, str], kind: str) -> None:
    """Behind a query, and packed: what is in it is nothing that a client could show."""
    for name in ("page.html", "all.tar.gz", "all.tar.xz"):
        (root / name).write_text("content")

    def application(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", [named])
        return []

    served = Served(with_x_sendfile(application, [], [f"/protected/={root}"]))
    assert (served.headers["content-type"], "content-encoding" in served.headers) == (kind, False)


def test_ranges_and_conditions(root: Path) -> None:
    part = Served(film(root), fields="Range: bytes=1000-40999\r\n")
    assert (part.status, part.body) == (206, CONTENT[1000:41000])
    assert part.headers["content-range"] == f"bytes 1000-40999/{len(CONTENT)}"
    beyond = Served(film(root), fields=f"Range: bytes={len(CONTENT)}-\r\n")
    assert (beyond.status, beyond.body, beyond.headers["content-range"]) == (416, b"", f"bytes */{len(CONTENT)}")
    unchanged = Served(film(root, ("Cache-Control", "private")), fields=f"If-None-Match: {part.headers['etag']}\r\n")
    assert (unchanged.status, unchanged.body, unchanged.headers["cache-control"]) == (304, b"", "private")
    assert not {"content-type", "content-length"} & unchanged.headers.keys()
    assert Served(film(root), fields='If-Match: "other"\r\n').status == 412


def test_head(root: Path) -> None:
    served = Served(film(root), "HEAD")
    assert (served.status, served.headers["content-length"]) == (200, str(len(CONTENT)))
    assert served.writer.wire.endswith(b"\r\n\r\n")


def test_other_methods_and_statuses_get_the_whole(root: Path) -> None:
    assert Served(film(root), "POST", fields="Range: bytes=0-0\r\n").body == CONTENT
    gone = Served(film(root, status="410 Gone"), fields="Range: bytes=0-0\r\n")
    assert (gone.status, gone.body) == (410, CONTENT)


def test_an_empty_file(root: Path) -> None:
    served = Served(sending(root, ("X-Sendfile", f"{root}/empty")))
    assert (served.status, served.headers["content-length"], served.body) == (200, "0", b"")


@pytest.mark.parametrize(
    "named",
    [
        *(("X-Sendfile", "/etc/passwd"), ("X-Sendfile", "{root}/../secret"), ("X-Sendfile", "film.mp4")),
        *(("X-Sendfile", ""), ("X-Accel-Redirect", "/protected/../secret"), ("X-Accel-Redirect", "/other/film.mp4")),
        *(("X-Accel-Redirect", "/protected/%2e%2e/secret"), ("X-Accel-Redirect", "/protected/a%00b")),
        *(("X-Accel-Redirect", "@named"), ("X-Accel-Redirect", "/protected")),
    ],
)
def test_whatever_lies_elsewhere_is_500_and_logged(root: Path, named: tuple[str, str]) -> None:
    served = Served(sending(root, (named[0], named[1].format(root=root))))
    assert (served.status, b"secret" in served.writer.wire) == (500, False)
    assert served.outcome.error_id
    assert served.outcome.error_id in served.log
    assert served.outcome.error_id.encode() in served.body
    assert named[0] in served.log


def test_a_link_that_leads_out(root: Path) -> None:
    (root / "link").symlink_to(root.parent / "secret")
    assert Served(sending(root, ("X-Sendfile", f"{root}/link"))).status == 500


@pytest.mark.parametrize("uri", ["/protected/nothing", "/protected/", "/protected/film.mp4/x"])
def test_a_file_that_is_not_there_is_404_and_logged(root: Path, uri: str) -> None:
    served = Served(sending(root, ("X-Accel-Redirect", uri)))
    assert served.status == 404
    assert "Error id: " in served.body.decode()
    error_id = served.body.decode().partition("Error id: ")[2][:8]
    assert f"Error {error_id} in GET /path\nX-Accel-Redirect '{uri}'" in served.log


def test_two_files_at_once(root: Path) -> None:
    assert Served(film(root, ("X-Accel-Redirect", "/protected/empty"))).status == 500


def test_the_body_is_closed_and_dropped(root: Path) -> None:
    body = Body(b"a", b"b")
    assert Served(film(root, body=lambda: body)).body == CONTENT
    assert body.closed == 1


def test_an_application_that_starts_late(root: Path) -> None:
    def late(environ: Environ, start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", [("X-Sendfile", f"{root}/film.mp4")])
        yield b"ignored"

    def late_and_plain(environ: Environ, start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"one"
        yield b"two"

    assert Served(with_x_sendfile(late, [str(root)], [])).body == CONTENT
    assert Served(with_x_sendfile(late_and_plain, [str(root)], [])).body == b"onetwo"


def test_write_is_dropped(root: Path) -> None:
    def writing(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", [("X-Sendfile", f"{root}/film.mp4")])(b"written")
        return []

    assert Served(with_x_sendfile(writing, [str(root)], [])).body == CONTENT


def test_a_second_start_after_an_error_counts(root: Path) -> None:
    def changing(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", [("X-Sendfile", f"{root}/film.mp4")])
        try:
            raise ValueError("too late")
        except ValueError as error:
            start_response("503 Busy", [("Content-Type", "text/plain")], (type(error), error, error.__traceback__))
        return [b"busy"]

    served = Served(with_x_sendfile(changing, [str(root)], []))
    assert (served.status, served.body) == (503, b"busy")


def test_other_responses_are_untouched(root: Path) -> None:
    body = [b"plain"]
    application = app_of(body)
    given: list[Any] = []
    served: App = with_x_sendfile(application, [str(root)], [])
    assert served({}, lambda *arguments: given.append(arguments)) is body
    assert given == [("200 OK", [("Content-Type", "text/plain")], None)]


def test_each_field_needs_its_setting(root: Path) -> None:
    application = app_of([b"plain"], ("X-Sendfile", "/a"), ("X-Accel-Redirect", "/b"))
    assert with_x_sendfile(application, [], []) is application
    only_accel = Served(with_x_sendfile(app_of([b"plain"], ("X-Sendfile", "/a")), [], [f"/p/={root}"]))
    assert (only_accel.body, only_accel.headers["x-sendfile"]) == (b"plain", "/a")


def test_malformed_headers_are_complained_about_as_ever(root: Path) -> None:
    served = Served(sending(root, ("X-A", 1), ("X-B",)))  # type: ignore[arg-type]
    assert (served.status, "not of native strings" in served.log) == (500, True)


def test_no_descriptor_is_left_open(root: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for fields in ("", "Range: bytes=0-0\r\n", "If-None-Match: *\r\n", "Range: bytes=999999-\r\n"):
        Served(film(root), fields=fields)
    assert len(os.listdir("/proc/self/fd")) == before
