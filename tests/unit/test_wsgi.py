"""wsgi.py: every shape of response into a recording sink, read back by a small client of its own."""

from __future__ import annotations

import gzip
import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any
from wsgiref.validate import validator

import pytest

from appsrv.environ import build_environ, environ_base
from appsrv.errors import ApplicationError, ClientDisconnected
from appsrv.file_wrapper import FileWrapper, plain_file
from appsrv.http1 import Limits, parse_head
from appsrv.http_syntax import RequestHead
from appsrv.wsgi import Environ, Outcome, respond

DATE = b"Sun, 22 Nov 2026 16:00:00 GMT"
TEXT = ("Content-Type", "text/plain")
App = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class RecordingSink:
    """Keeps each call; reads files, as the kernel would."""

    def __init__(self, breaks_after: int = 1000) -> None:
        self.sent: list[bytes] = []
        self.files: list[int] = []
        self.was_cut = 0
        self._left = breaks_after

    def send(self, data: bytes) -> None:
        self._left -= 1
        if self._left < 0:
            raise ClientDisconnected("gone")
        assert type(data) is bytes
        assert data
        self.sent.append(data)

    def sendfile(self, fd: int, offset: int, count: int) -> None:
        data = os.pread(fd, count, offset)
        if len(data) < count:
            raise EOFError("the file became shorter")
        self.files.append(count)
        self.sent.append(data)

    def cut(self) -> None:
        self.was_cut += 1

    @property
    def wire(self) -> bytes:
        return b"".join(self.sent)


class Served:
    """One request served: the outcome, what went over the wire, and what a client makes of it."""

    def __init__(
        self,
        app: App,
        method: str = "GET",
        version: str = "1.1",
        *,
        fields: str = "",
        sink: RecordingSink | None = None,
        development: bool = False,
    ) -> None:
        self.sink = sink or RecordingSink()
        self.errors = io.StringIO()
        head = head_of(f"{method} /path HTTP/{version}\r\nHost: a.example\r\n{fields}\r\n")
        base = environ_base(
            server_name="a.example", server_port=80, multithread=False, multiprocess=True, errors=self.errors
        )
        environ = build_environ(base, head, input=io.BytesIO(), remote_addr="127.0.0.1", remote_port="9")
        self.outcome: Outcome = respond(app, environ, head, self.sink, date=DATE, development=development)
        self.log = self.errors.getvalue()
        self._read(method)

    def _read(self, method: str) -> None:
        """Read the response as RFC 9112 section 6.3 says; `rest` must be empty for a connection in step."""
        if not self.sink.sent:
            return
        top, _, rest = self.sink.wire.partition(b"\r\n\r\n")
        self.status_line, *lines = top.decode("latin-1").split("\r\n")
        self.status = int(self.status_line.split(" ")[1])
        self.fields = [tuple(line.split(": ", 1)) for line in lines]
        self.headers = {name.lower(): value for name, value in self.fields}
        names = [name.lower() for name, _ in self.fields]
        for name in ("content-length", "transfer-encoding", "connection", "date"):
            assert names.count(name) <= 1
        self.body, self.rest, self.complete = self._framed(rest, method)

    def _framed(self, data: bytes, method: str) -> tuple[bytes, bytes, bool]:
        length = self.headers.get("content-length")
        assert length is None or "transfer-encoding" not in self.headers
        if method == "HEAD" or self.status in (204, 304):
            return b"", data, True
        if self.headers.get("transfer-encoding") == "chunked":
            return unchunk(data)
        if length is None:
            assert self.headers["connection"] == "close"
            return data, b"", True
        return data[: int(length)], data[int(length) :], len(data) >= int(length)


def unchunk(data: bytes) -> tuple[bytes, bytes, bool]:
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        count = int(size, 16)
        body, end, data = body + data[:count], data[count : count + 2], data[count + 2 :]
        assert end == b"\r\n"
        if count == 0:
            return body, data, True
    return body, b"", False


def head_of(text: str) -> RequestHead:
    parsed = parse_head(text.encode("latin-1"), Limits())
    assert parsed is not None
    return parsed[0]


def app_of(body: Any, *headers: tuple[str, str], status: str = "200 OK") -> App:
    """An application that returns `body`, made anew for each call when it is a function."""

    def app(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response(status, [TEXT, *headers])
        return body() if callable(body) else body  # type: ignore[no-any-return]

    return app


class Body:
    """An iterable that counts how often it was closed."""

    def __init__(self, *pieces: bytes, error: BaseException | None = None) -> None:
        self._pieces = pieces
        self._error = error
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        self.closed += 1


def length(count: int) -> tuple[str, str]:
    return ("Content-Length", str(count))


# -- shapes that are right ---------------------------------------------------------------------------------


def test_hello_leaves_in_one_piece() -> None:
    served = Served(app_of([b"Hello"], length(5)))
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nDate: %b\r\n\r\n" % DATE
    assert served.sink.sent == [head + b"Hello"]
    assert served.outcome == Outcome(200, 5, True, True, False, None, None)


@pytest.mark.parametrize("body", [[b"Hello"], (b"Hello",), [b"Hel", b"lo"], (b"Hel", b"", b"lo")])
def test_a_known_body_gets_its_length(body: Any) -> None:
    served = Served(app_of(body))
    assert (served.headers["content-length"], served.body, served.rest) == ("5", b"Hello", b"")
    assert len(served.sink.sent) == 1


@pytest.mark.parametrize("body", [[], [b""], (), list])
def test_an_empty_body(body: Any) -> None:
    served = Served(app_of(body))
    assert (served.headers["content-length"], served.body, served.outcome.keep_alive) == ("0", b"", True)


def test_a_stream_is_chunked_and_each_piece_leaves_at_once() -> None:
    sink = RecordingSink()
    seen = []

    def stream() -> Iterator[bytes]:
        for piece in (b"one", b"", b"two"):
            yield piece
            seen.append(len(sink.sent))

    served = Served(app_of(stream), sink=sink)
    assert (served.headers["transfer-encoding"], served.body, served.complete) == ("chunked", b"onetwo", True)
    assert seen == [1, 1, 2]
    assert served.outcome.body_bytes == 6


def test_a_stream_to_http10_ends_with_the_connection() -> None:
    served = Served(app_of(lambda: iter([b"a", b"b"])), version="1.0", fields="Connection: keep-alive\r\n")
    assert (served.headers["connection"], served.body, served.outcome.keep_alive) == ("close", b"ab", False)
    assert "transfer-encoding" not in served.headers


def test_http10_is_told_that_the_connection_stays() -> None:
    served = Served(app_of([b"a"]), version="1.0", fields="Connection: keep-alive\r\n")
    assert (served.headers["connection"], served.outcome.keep_alive) == ("keep-alive", True)
    assert Served(app_of([b"a"]), version="1.0").headers["connection"] == "close"


def test_close_is_answered_by_close() -> None:
    served = Served(app_of([b"a"]), fields="Connection: close\r\n")
    assert (served.headers["connection"], served.outcome.keep_alive) == ("close", False)


def test_a_stream_of_announced_length() -> None:
    served = Served(app_of(lambda: iter([b"a", b"b"]), length(2)))
    assert (served.body, served.rest, served.complete) == (b"ab", b"", True)
    assert "transfer-encoding" not in served.headers


@pytest.mark.parametrize("body", [[b"Hello"], lambda: iter([b"Hel", b"lo"]), []])
@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 Not Modified")]
)
def test_no_body_where_there_must_be_none(method: str, status: str, body: Any) -> None:
    served = Served(app_of(body, status=status), method)
    assert (served.rest, served.outcome.body_bytes, served.outcome.keep_alive) == (b"", 0, True)
    assert "transfer-encoding" not in served.headers
    assert served.outcome.error is None


def test_head_says_the_length_of_get() -> None:
    assert Served(app_of([b"Hello"]), "HEAD").headers["content-length"] == "5"
    assert Served(app_of([], length(7)), "HEAD").headers["content-length"] == "7"
    assert "content-length" not in Served(app_of([]), "HEAD").headers


def test_head_of_an_endless_stream_ends() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x"

    assert Served(app_of(endless), "HEAD").rest == b""


def test_204_loses_its_length() -> None:
    assert "content-length" not in Served(app_of([], length(0), status="204 No Content")).headers
    assert Served(app_of([], length(9), status="304 Not Modified")).headers["content-length"] == "9"


def test_the_applications_date_stands() -> None:
    served = Served(app_of([b"a"], ("Date", "x")))
    assert [value for name, value in served.fields if name.lower() == "date"] == ["x"]


def test_repeated_headers_stay_apart() -> None:
    served = Served(app_of([b"a"], ("X-A", "1"), ("X-A", "2")))
    assert [pair for pair in served.fields if pair[0] == "X-A"] == [("X-A", "1"), ("X-A", "2")]


def test_write() -> None:
    def app(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        write = start_response("200 OK", [TEXT])
        write(b"one")
        write(b"")
        write(b"two")
        return [b"three"]

    served = Served(app)
    assert (served.body, served.complete) == (b"onetwothree", True)
    assert Served(app, "HEAD").rest == b""


def test_start_response_as_late_as_the_first_piece() -> None:
    def app(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        yield b""
        start_response("201 Created", [TEXT])
        yield b"a"

    assert Served(app).status == 201


def test_a_large_body_is_not_copied_behind_its_head() -> None:
    body = bytes(1024 * 1024)
    served = Served(app_of([body]))
    assert served.sink.sent[1] is body


def test_status_without_reason_and_other_latin1() -> None:
    assert Served(app_of([b"a"], status="200")).status_line == "HTTP/1.1 200 "
    served = Served(app_of([b"a"], ("X-A", "caf\u00e9"), status="299 caf\u00e9"))
    assert (served.status_line, served.headers["x-a"]) == ("HTTP/1.1 299 caf\u00e9", "caf\u00e9")


# -- close -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "body",
    [Body(), Body(b"a"), Body(b"a", b"b"), Body(error=ValueError()), Body(b"a", error=ValueError()), Body("x")],  # type: ignore[arg-type]
)
def test_close_is_called_once(body: Body, method: str) -> None:
    body.closed = 0
    Served(app_of(body), method)
    assert body.closed == 1


def test_close_is_called_when_the_client_has_gone() -> None:
    body = Body(b"a", b"b")
    served = Served(app_of(body), sink=RecordingSink(breaks_after=1))
    assert (body.closed, served.outcome.cut, served.log) == (1, True, "")
    assert isinstance(served.outcome.error, ClientDisconnected)


def test_close_comes_after_the_last_byte_and_its_failure_harms_nobody() -> None:
    class FailingBody(Body):
        def close(self) -> None:
            raise ValueError("in close")

    served = Served(app_of(FailingBody(b"a")))
    assert (served.body, served.complete, served.outcome.keep_alive, served.outcome.cut) == (b"a", True, True, False)
    assert "in close" in served.log


# -- failures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [ValueError("no"), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), RecursionError(), MemoryError()]
)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_an_exception_is_answered_with_500(error: BaseException, version: str) -> None:
    def app(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        raise error

    served = Served(app, version=version)
    outcome = served.outcome
    assert (served.status, served.rest, served.complete, outcome.cut) == (500, b"", True, False)
    assert outcome.keep_alive is (version == "1.1")
    assert outcome.error is error
    assert outcome.error_id is not None
    assert outcome.error_id in served.log
    assert outcome.error_id.encode() in served.body
    assert type(error).__name__ in served.log
    assert type(error).__name__.encode() not in served.body
    assert "GET /path" in served.log


def test_the_traceback_has_the_applications_frames_only() -> None:
    def app(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        raise ValueError("<b>no</b>")

    served = Served(app, development=True)
    assert "appsrv/wsgi.py" not in served.log
    assert 'raise ValueError("<b>no</b>")' in served.log
    assert b"&lt;b&gt;no&lt;/b&gt;" in served.body
    assert b"<b>no" not in served.body


def test_500_to_head_has_no_body() -> None:
    served = Served(app_of(None), "HEAD")
    assert (served.status, served.rest) == (500, b"")


def test_an_exception_after_the_head_cuts() -> None:
    for body in (Body(b"a", error=ValueError("late")), Body(b"a", error=SystemExit())):
        served = Served(app_of(body))
        assert (served.sink.was_cut, served.outcome.cut, served.outcome.keep_alive) == (1, True, False)
        assert not served.complete
        assert served.outcome.error_id is not None


def test_exc_info_replaces_the_response_before_the_head() -> None:
    def app(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", [TEXT, length(99)])
        try:
            raise ValueError
        except ValueError:
            start_response("500 Oops", [TEXT], sys.exc_info())
        return [b"sorry"]

    served = Served(app)
    assert (served.status_line, served.body) == ("HTTP/1.1 500 Oops", b"sorry")


def test_exc_info_after_the_head_raises_it_again() -> None:
    def app(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", [TEXT])(b"begun")
        try:
            raise ValueError("again")
        except ValueError:
            start_response("500 Oops", [TEXT], sys.exc_info())
        return [b"never"]

    served = Served(app)
    assert (served.outcome.cut, str(served.outcome.error), served.complete) == (True, "again", False)


BREACHES: dict[str, App] = {
    "no start_response": lambda environ, start_response: [b"a"],
    "no start_response, stream": lambda environ, start_response: iter([b"a"]),
    "no start_response, nothing": lambda environ, start_response: iter([]),
    "none": app_of(None),
    "text": app_of("text"),
    "list of text": app_of(["text"]),
    "list of texts": app_of(["a", "b"]),
    "bytes": app_of(b"bytes"),
    "stream of text": app_of(lambda: iter(["a"])),
    "number": app_of([5]),
    "short": app_of([b"abc"], length(5)),
    "empty": app_of([], length(5)),
    "empty stream": app_of(lambda: iter([]), length(5)),
    "two lengths": app_of([b"a"], length(1), length(1)),
    "signed length": app_of([b"a"], ("Content-Length", "+1")),
    "negative length": app_of([b"a"], ("Content-Length", "-1")),
    "list length": app_of([b"a"], ("Content-Length", "1, 1")),
    "empty length": app_of([b"a"], ("Content-Length", "")),
    "injected value": app_of([b"a"], ("X-A", "b\r\nSet-Cookie: x=y")),
    "line feed": app_of([b"a"], ("X-A", "b\nc")),
    "nul": app_of([b"a"], ("X-A", "b\x00")),
    "delete": app_of([b"a"], ("X-A", "b\x7f")),
    "not latin-1": app_of([b"a"], ("X-A", "\u20ac")),
    "injected name": app_of([b"a"], ("X-A: b\r\nX-B", "c")),
    "name with space": app_of([b"a"], ("X A", "c")),
    "name with colon": app_of([b"a"], ("X-A:", "c")),
    "empty name": app_of([b"a"], ("", "c")),
    "bytes name": app_of([b"a"], (b"X-A", "c")),  # type: ignore[arg-type]
    "bytes value": app_of([b"a"], ("X-A", b"c")),  # type: ignore[arg-type]
    "number value": app_of([b"a"], ("X-A", 1)),  # type: ignore[arg-type]
    "list header": app_of([b"a"], ["X-A", "c"]),  # type: ignore[arg-type]
    "triple header": app_of([b"a"], ("X-A", "c", "d")),  # type: ignore[arg-type]
    "injected status": app_of([b"a"], status="200 OK\r\nX-A: b"),
    "status 100": app_of([b"a"], status="100 Continue"),
    "status 101": app_of([b"a"], status="101 Switching Protocols"),
    "status of letters": app_of([b"a"], status="OK"),
    "long status": app_of([b"a"], status="2000 OK"),
    "number status": app_of([b"a"], status=200),  # type: ignore[arg-type]
    "bytes status": app_of([b"a"], status=b"200 OK"),  # type: ignore[arg-type]
    **{
        name: app_of([b"a"], (name, "x"))
        for name in ("Connection", "Keep-Alive", "Transfer-Encoding", "TE", "Trailer", "Upgrade", "Proxy-Connection")
    },
}


@pytest.mark.parametrize("name", BREACHES)
def test_a_breach_of_pep_3333_is_a_500_and_the_connection_stays(name: str) -> None:
    served = Served(BREACHES[name])
    assert (served.status, served.rest, served.complete) == (500, b"", True)
    assert (served.outcome.keep_alive, served.outcome.cut, served.sink.was_cut) == (True, False, 0)
    assert served.outcome.error_id in served.log  # type: ignore[operator]
    assert b"Set-Cookie" not in served.sink.wire


def test_start_response_twice() -> None:
    def app(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", [TEXT])
        start_response("200 OK", [TEXT])
        return [b"a"]

    assert Served(app).status == 500


@pytest.mark.parametrize("body", [[b"abcdef"], lambda: iter([b"ab", b"cd", b"ef"]), lambda: iter([b"abc", b"def"])])
def test_a_body_longer_than_announced_is_cut_off_there(body: Any) -> None:
    served = Served(app_of(body, length(3)))
    assert (served.body, served.rest, served.outcome.keep_alive, served.outcome.cut) == (b"abc", b"", True, False)
    assert isinstance(served.outcome.error, ApplicationError)
    assert "longer than its Content-Length of 3" in served.log


def test_a_stream_shorter_than_announced_is_cut() -> None:
    served = Served(app_of(lambda: iter([b"a"]), length(3)))
    assert (served.complete, served.outcome.cut, served.sink.was_cut) == (False, True, 1)


def test_a_log_that_fails_changes_nothing() -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError("disk full")

    head = head_of("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    sink = RecordingSink()
    outcome = respond(app_of(None), {"wsgi.errors": Broken(), "REQUEST_METHOD": "GET"}, head, sink, date=DATE)
    assert (outcome.status, outcome.keep_alive) == (500, True)


def test_a_client_that_left_before_the_500() -> None:
    assert Served(app_of(None), sink=RecordingSink(breaks_after=0)).outcome.cut


# -- files -------------------------------------------------------------------------------------------------


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
    assert served.sink.files == ([len(content)] if len(content) > 50_000 else [])
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


# -- PEP 3333 as wsgiref.validate sees it ------------------------------------------------------------------

SHAPES: dict[str, App] = {
    "whole": app_of([b"Hello"], length(5)),
    "list": app_of([b"a", b"b"]),
    "tuple": app_of((b"a",)),
    "stream": app_of(lambda: iter([b"a", b"b"])),
    "closing": app_of(lambda: Body(b"a", b"b")),
    "empty": app_of([]),
    "file": app_of(lambda: FileWrapper(io.BytesIO(b"abc"))),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_validated(shape: str, method: str, version: str) -> None:
    served = Served(validator(SHAPES[shape]), method, version)
    assert (served.status, served.log, served.outcome.error) == (200, "", None)


def test_validated_write_and_input() -> None:
    def app(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        assert environ["wsgi.input"].read(10) == b""
        start_response("200 OK", [TEXT])(b"written")
        return [b"returned"]

    served = Served(validator(app), "PUT")
    assert (served.body, served.outcome.error) == (b"writtenreturned", None)
