"""What a proxy in the application's place may give to `wsgi.respond` beside what PEP 3333 knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from appsrv.errors import RequestError, UpstreamError
from appsrv.wsgi.upstream_hooks import StreamedBody, SwitchedProtocols
from support.served import TEXT, App, RecordingWriter, Served


def streamed(first: bytes, *rest: bytes, error: BaseException | None = None, closed: list[str] | None = None) -> App:
    def pieces() -> Iterator[bytes]:
        yield from rest
        if error is not None:
            raise error

    def app(environ: Any, start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", [TEXT])
        return StreamedBody(first, pieces(), lambda: (closed if closed is not None else []).append("closed"))

    return app


def raising(error: BaseException) -> App:
    def app(environ: Any, start_response: Callable[..., Any]) -> Iterable[bytes]:
        raise error

    return app


def test_the_head_does_not_wait_for_the_body() -> None:
    closed: list[str] = []
    served = Served(streamed(b"", b"one", b"two", closed=closed))
    assert served.writer.sent[0].endswith(b"\r\n\r\n"), "the head alone"
    assert served.writer.sent[1] == b"3\r\none\r\n"
    assert (served.body, served.complete, closed) == (b"onetwo", True, ["closed"])


def test_what_has_come_with_it_goes_with_it() -> None:
    served = Served(streamed(b"one", b"two"))
    assert served.writer.sent[0].endswith(b"\r\n\r\n3\r\none\r\n")
    assert (served.body, served.complete) == (b"onetwo", True)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_stream_without_a_body(method: str) -> None:
    served = Served(streamed(b""), method)
    assert (served.body, served.complete, served.rest) == (b"", True, b"")


def test_an_answer_that_cannot_be_passed_on() -> None:
    served = Served(raising(UpstreamError("node server.js said nonsense", "The application said nonsense.")))
    assert (served.status, served.complete, served.outcome.keep_alive) == (502, True, True)
    assert b"The application said nonsense." in served.body
    assert b"node server.js" not in served.body, "that is for the log"
    assert "node server.js said nonsense\n" in served.log
    assert "Traceback" not in served.log
    assert served.outcome.error_id is not None
    assert served.outcome.error_id.encode() in served.body


def test_one_that_breaks_off_is_cut() -> None:
    writer = RecordingWriter()
    served = Served(streamed(b"x", error=UpstreamError("it broke off", "")), writer=writer)
    assert (served.outcome.cut, writer.was_cut, served.complete) == (True, 1, False)


def test_a_body_that_breaks_the_rules_while_it_is_passed_on() -> None:
    served = Served(raising(RequestError(408, "Too slow")))
    assert (served.status, served.outcome.keep_alive, served.log) == (408, False, "")


def test_a_switch_of_protocols_leaves_the_connection_alone() -> None:
    served = Served(raising(SwitchedProtocols()))
    assert (served.outcome.status, served.outcome.keep_alive, served.outcome.cut) == (101, False, False)
    assert (served.writer.sent, served.log, served.outcome.error) == ([], "", None)
