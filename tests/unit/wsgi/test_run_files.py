"""run.py and file_wrapper.py: files sent by their descriptor, or read."""

from __future__ import annotations

import gzip
import io
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

import pytest

from appsrv.wsgi.file_wrapper import FileWrapper, plain_file
from appsrv.wsgi.run import Environ
from support.served import TEXT, App, Served, length


@pytest.fixture(params=[1000, 100_000], ids=["small", "large"])
def content(request: pytest.FixtureRequest) -> bytes:
    return (b"0123456789" * 10_000)[: request.param]


def file_app(file: Any, *headers: tuple[str, str], status: str = "200 OK") -> App:
    def app(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response(status, [TEXT, *headers])
        return environ["wsgi.file_wrapper"](file, 4096)  # type: ignore[no-any-return]

    return app


@pytest.mark.parametrize("buffering", [0, -1])
def test_a_file_is_sent_with_its_length_and_closed(tmp_path: Path, content: bytes, buffering: int) -> None:
    (tmp_path / "file").write_bytes(content)
    file = open(tmp_path / "file", "rb", buffering)  # noqa: SIM115 - closed by what is tested
    served = Served(file_app(file))
    assert (served.body, served.rest, served.headers["content-length"]) == (content, b"", str(len(content)))
    assert served.outcome.body_bytes == len(content)
    assert served.writer.files == ([len(content)] if len(content) > 50_000 else [])
    assert file.closed


def test_a_file_from_its_position_up_to_the_announced_length(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    for headers, end in (((), None), ((length(500),), 600)):
        file = (tmp_path / "file").open("rb")
        file.read(100)
        served = Served(file_app(file, *headers))
        assert (served.body, served.outcome.error, served.rest) == (content[100:end], None, b"")


def test_a_file_to_head_and_304(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    served = Served(file_app((tmp_path / "file").open("rb")), "HEAD")
    assert (served.rest, served.headers["content-length"]) == (b"", str(len(content)))
    served = Served(file_app((tmp_path / "file").open("rb"), status="304 Not Modified"))
    assert served.rest == b""


def test_a_file_shorter_than_announced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    served = Served(file_app((tmp_path / "file").open("rb"), length(len(content) + 1)))
    assert (served.status, served.rest) == (500, b"")


def test_what_is_like_a_file_is_read(content: bytes) -> None:
    class Reader:
        def __init__(self) -> None:
            self.stream = io.BytesIO(content)
            self.read = self.stream.read

    for file in (io.BytesIO(content), Reader()):
        served = Served(file_app(file))
        assert (served.body, served.rest, served.headers["transfer-encoding"]) == (content, b"", "chunked")
    served = Served(file_app(io.BytesIO(content), length(10)))
    assert (served.body, served.rest, served.outcome.error) == (content[:10], b"", None)


def opened(path: Path) -> list[IO[bytes]]:
    return [path.open("rb"), path.open("r+b"), path.open("rb", buffering=0)]


def test_plain_files_only_are_sent_by_their_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    for file in opened(path):
        with file:
            file.read(1)
            part = plain_file(file)
            assert part is not None
            assert part[1:] == (1, 2)
    with tempfile.NamedTemporaryFile() as temporary:
        temporary.write(b"abc")
        part = plain_file(temporary)
        assert part is not None
        assert part[1:] == (3, 0)
    with gzip.open(tmp_path / "file.gz", "wb") as packed:
        packed.write(b"abc")
    with gzip.open(tmp_path / "file.gz") as unpacked, path.open() as text:
        assert plain_file(unpacked) is None
        assert plain_file(text) is None
    reading, writing = os.pipe()
    with open(reading, "rb") as pipe, open(writing, "wb"):
        assert plain_file(pipe) is None


def test_a_file_without_close() -> None:
    FileWrapper(io.BytesIO()).close()

    class Reader:
        def read(self, size: int, /) -> bytes:
            return b""

    FileWrapper(Reader()).close()


def test_a_file_that_cannot_be_read_is_a_500(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    descriptor = os.open(tmp_path / "file", os.O_WRONLY)
    with io.FileIO(descriptor, "w") as writing:
        served = Served(file_app(writing, length(3)))
    assert (served.status, served.rest, served.outcome.cut) == (500, b"", False)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no /proc here")
def test_a_file_of_the_kernel_is_read() -> None:
    with open("/proc/self/status", "rb") as status:
        served = Served(file_app(status))
    assert b"Pid:" in served.body
