"""Files that the application names and appsrv sends, through the whole server."""

from __future__ import annotations

import pytest

from integration.conftest import Serve
from support.http import connect
from support.server import Site

LARGE = 32 << 20


@pytest.mark.both_queues
def test_a_client_that_reads_slowly_holds_no_worker(serve: Serve, site: Site) -> None:
    (site.directory / "media").mkdir()
    with open(site.directory / "media" / "film.mp4", "wb") as film:
        film.truncate(LARGE)
        film.seek(LARGE - 4)
        film.write(b"end.")
    server = serve("naming_files", "--max-pool-size", "1", "--accel-redirect", "/film/=media")
    with connect(server.address) as slow:
        slow.sendall(b"GET /film/film.mp4 HTTP/1.1\r\nHost: a\r\n\r\nGET /pid HTTP/1.1\r\nHost: a\r\n\r\n")
        assert server.get("/pid").text == str(min(server.worker_pids()))
        received = bytearray()
        while not received.endswith(b"end."):
            received += slow.recv(1 << 20)
    head, _, body = bytes(received).partition(b"\r\n\r\n")
    assert len(body) == LARGE
    assert b"x-accel-redirect" not in head.lower()
    assert b"Content-Type: video/mp4\r\n" in head


def test_ranges_and_refusals(serve: Serve, site: Site) -> None:
    site.write("media/film.mp4", "0123456789")
    server = serve("naming_files", "--max-pool-size", "1", "--sendfile-root", "media")
    film = f"/?path={site.directory}/media/film.mp4"
    part = server.get(film, {"Range": "bytes=-3"})
    assert (part.status, part.text, part.headers["Content-Range"]) == (206, "789", "bytes 7-9/10")
    assert server.get(film, {"If-None-Match": part.headers["ETag"]}).status == 304
    refused = server.get(f"/?path={site.directory}/naming_files.py")
    assert refused.status == 500
    assert "naming_files" not in refused.text
    server.wait_log(r"ApplicationError: X-Sendfile '.*naming_files.py' is not below a directory")
    assert server.get(f"/?path={site.directory}/media/none").status == 404
    # Not configured: for a proxy in front.
    assert server.get("/film/film.mp4").headers["X-Accel-Redirect"] == "/film/film.mp4"
