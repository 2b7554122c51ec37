"""run.py: responses of every shape that is right."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.validate import validator

import pytest

from appsrv.errors import ClientDisconnected
from appsrv.wsgi import dropped_headers
from appsrv.wsgi.file_wrapper import FileWrapper
from appsrv.wsgi.run import Environ
from support.served import DATE, TEXT, App, Body, RecordingWriter, Served, app_of, length


def test_hello_leaves_in_one_piece() -> None:
    served = Served(app_of([b"Hello"], length(5)))
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nDate: %b\r\n\r\n" % DATE
    assert served.writer.sent == [head + b"Hello"]
    outcome = served.outcome
    assert (outcome.status, outcome.body_bytes, outcome.keep_alive, outcome.started) == (200, 5, True, True)
    assert (outcome.cut, outcome.error, outcome.error_id) == (False, None, None)


@pytest.mark.parametrize("body", [[b"Hello"], (b"Hello",), [b"Hel", b"lo"], (b"Hel", b"", b"lo")])
def test_a_known_body_gets_its_length(body: Any) -> None:
    served = Served(app_of(body))
    assert (served.headers["content-length"], served.body, served.rest) == ("5", b"Hello", b"")
    assert len(served.writer.sent) == 1


@pytest.mark.parametrize("body", [[], [b""], (), list])
def test_an_empty_body(body: Any) -> None:
    served = Served(app_of(body))
    assert (served.headers["content-length"], served.body, served.outcome.keep_alive) == ("0", b"", True)


def test_a_stream_is_chunked_and_each_piece_leaves_at_once() -> None:
    writer = RecordingWriter()
    seen = []

    def stream() -> Iterator[bytes]:
        for piece in (b"one", b"", b"two"):
            yield piece
            seen.append(len(writer.sent))

    served = Served(app_of(stream), writer=writer)
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


HOPS = ("Connection", "Keep-Alive", "Transfer-Encoding", "TE", "Trailer", "Upgrade", "Proxy-Connection")


@pytest.mark.parametrize("name", [*HOPS, "Proxy-Authenticate", "Proxy-Authorization", "tRaNsFeR-eNcOdInG"])
@pytest.mark.parametrize("body", [[b"a"], lambda: iter([b"a"])])
def test_fields_of_the_connection_are_left_out_and_told_once(name: str, body: Any) -> None:
    app = app_of(body, (name, "chunked"), ("X-A", "b"))
    dropped_headers._logged.clear()
    first, second = Served(app), Served(app)
    assert (first.status, first.body, first.rest, first.outcome.keep_alive) == (200, b"a", b"", True)
    assert first.headers["x-a"] == "b"
    ours = "transfer-encoding" if callable(body) else "content-length"
    assert sorted(first.headers) == sorted(["content-type", "date", "x-a", ours])
    assert f"appsrv: {name} in the response to GET /path is left out" in first.log
    assert "support/served.py:" in first.log
    assert second.log == ""


@pytest.mark.parametrize("value", ["close", "Close", "keep-alive, close", " close\t"])
@pytest.mark.parametrize("body", [[b"a"], lambda: iter([b"a"])])
def test_an_application_may_end_the_connection(value: str, body: Any) -> None:
    served = Served(app_of(body, ("Connection", value)))
    assert (served.status, served.body, served.outcome.keep_alive) == (200, b"a", False)
    assert (served.headers["connection"], served.log) == ("close", "")


def test_426_names_what_to_upgrade_to() -> None:
    served = Served(app_of([b"a"], ("Upgrade", "echo"), status="426 Upgrade Required"))
    assert (served.headers["upgrade"], served.headers["connection"], served.log) == ("echo", "upgrade", "")


@pytest.mark.parametrize("turn", [1, -1])
def test_426_may_have_the_connection_field_that_goes_with_it(turn: int) -> None:
    fields = [("Upgrade", "echo"), ("Connection", " Upgrade")][::turn]
    dropped_headers._logged.clear()
    served = Served(app_of([b"a"], *fields, status="426 Upgrade Required"))
    sent = [pair for pair in served.fields if pair[0].lower() in ("connection", "upgrade")]
    assert (sent, served.log) == ([("Upgrade", "echo"), ("Connection", "upgrade")], "")


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        ("426 Upgrade Required", [("Connection", "upgrade")]),
        ("426 Upgrade Required", [("Upgrade", "echo"), ("Connection", "upgrade, x-a")]),
        ("200 OK", [("Upgrade", "echo"), ("Connection", "upgrade")]),
    ],
)
def test_any_other_connection_field_is_told(status: str, fields: list[tuple[str, str]]) -> None:
    dropped_headers._logged.clear()
    assert "Connection" in Served(app_of([b"a"], *fields, status=status)).log


def test_what_every_server_takes() -> None:
    lenient = app_of([b"a"], ["X-A", "b"], ("X-B", "\t c "), ("Content-Length", " 1"), length(1))  # type: ignore[arg-type]
    for _ in range(2):
        served = Served(lenient)
        assert (served.status, served.body, served.rest, served.log) == (200, b"a", b"", "")
        assert b"X-A: b\r\nX-B: c\r\nContent-Length: 1\r\nDate" in served.writer.wire


def test_the_applications_date_stands() -> None:
    served = Served(app_of([b"a"], ("Date", "x")))
    assert [value for name, value in served.fields if name.lower() == "date"] == ["x"]


def test_repeated_headers_stay_apart() -> None:
    served = Served(app_of([b"a"], ("X-A", "1"), ("X-A", "2")))
    assert [pair for pair in served.fields if pair[0] == "X-A"] == [("X-A", "1"), ("X-A", "2")]


def test_headers_that_can_be_read_once_only_are_not_lost() -> None:
    def app(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", (pair for pair in [TEXT, ("X-Once", environ["REMOTE_PORT"])]))
        return [b"a"]

    assert Served(app).headers["x-once"] == "9"


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
    assert served.writer.sent[1] is body


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
    served = Served(app_of(body), writer=RecordingWriter(breaks_after=1))
    assert (body.closed, served.outcome.cut, served.log) == (1, True, "")
    assert isinstance(served.outcome.error, ClientDisconnected)


def test_close_comes_after_the_last_byte_and_its_failure_harms_nobody() -> None:
    class FailingBody(Body):
        def close(self) -> None:
            raise ValueError("in close")

    served = Served(app_of(FailingBody(b"a")))
    assert (served.body, served.complete, served.outcome.keep_alive, served.outcome.cut) == (b"a", True, True, False)
    assert "in close" in served.log


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
