"""Which responses of a worker that is to end are cut, and when it ends without their threads."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from appsrv.http.head import parse_head
from appsrv.http.syntax import Limits
from appsrv.ipc.scoreboard import CellReading
from appsrv.worker.connection_handler import ConnectionHandler, HandlerOptions
from appsrv.worker.ready_queue import Connection
from appsrv.worker.stream_cutter import (
    NOTICE_SECONDS,
    STREAM_SECONDS,
    ServedRequest,
    StreamLimits,
    streaming_now,
    threads_frames,
)
from appsrv.wsgi.environ import environ_base
from support.served import RecordingWriter

BASE = environ_base(
    server_name="localhost", server_port=8000, multithread=True, multiprocess=False, errors=io.StringIO(),
    url_scheme="http",
)
ONE, TWO = ServedRequest(1, 10.0), ServedRequest(2, 11.0)


def test_a_response_that_is_over_within_a_moment_is_not_cut() -> None:
    streams = StreamLimits()
    assert streams.due([ONE], 20.0) == []
    assert streams.due([ONE], 20.0 + 1.1 * STREAM_SECONDS / 2) == []
    assert streams.due([], 20.0 + 1.1 * STREAM_SECONDS) == []
    # The next one on the same connection has a moment of its own.
    assert streams.due([ServedRequest(ONE.cid, 20.1)], 20.1 + 1.1 * STREAM_SECONDS) == []


def test_each_stream_is_cut_once() -> None:
    streams = StreamLimits()
    streams.due([ONE], 20.0)
    assert streams.due([ONE, TWO], 20.0 + 1.1 * STREAM_SECONDS) == [ONE]
    assert streams.due([ONE, TWO], 20.0 + 2.2 * STREAM_SECONDS) == [TWO]
    assert streams.due([ONE, TWO], 20.0 + 3 * STREAM_SECONDS) == []


def test_the_worker_ends_when_nothing_but_cut_streams_is_left() -> None:
    streams = StreamLimits()
    streams.due([ONE], 20.0)
    cut = 20.0 + 1.1 * STREAM_SECONDS
    assert streams.due([ONE], cut) == [ONE]
    assert not streams.are_all([ONE], cut + NOTICE_SECONDS / 2), "the application may still notice"
    assert streams.are_all([ONE], cut + 1.1 * NOTICE_SECONDS)
    assert not streams.are_all([ONE, TWO], cut + 10 * NOTICE_SECONDS), "an ordinary request is still being served"
    assert not streams.are_all([], cut + 1.1 * NOTICE_SECONDS), "the worker ends by itself"


class _Writer(RecordingWriter):
    pending = False


class _Handler(ConnectionHandler):
    """A handler in the middle of a request, without a connection, a queue and a scoreboard."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self._options = HandlerOptions(application, Limits(), [BASE], development=True)
        self._environs = self._options.environs
        self._observed = False
        self._date = b""
        self._queue = SimpleNamespace(park=lambda *_: None)  # type: ignore[assignment]
        self.writer = _Writer()
        self._writer = self.writer  # type: ignore[assignment]
        self.answering = threading.Thread(target=self._answer_one)

    def progress(self) -> CellReading:
        return CellReading(7, 1.5, 0, 0.0, bool(self.writer.sent), "GET /")

    def _answer_one(self) -> None:
        parsed = parse_head(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Limits())
        assert parsed is not None
        with socket.socket() as client:
            self._answer(Connection(7, client, "", "", 0, None, None), parsed[0], io.BytesIO(), None, False)


class Held:
    """Applications that stop where they say so, until they are let go."""

    def __init__(self) -> None:
        self.there, self.go_on = threading.Event(), threading.Event()

    def hold(self) -> None:
        self.there.set()
        self.go_on.wait(10)

    def before_the_answer(self, environ: Any, start_response: Any) -> list[bytes]:
        self.hold()
        start_response("200 OK", [])
        return [b"ordinary"]

    def middleware(self, environ: Any, start_response: Any) -> Iterator[bytes]:
        """One that is a generator, as Werkzeug's debugger is: all of the application runs when it is asked."""
        yield from self.before_the_answer(environ, start_response)

    def of_known_length(self, environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "4")])
        self.hold()
        yield b"four"

    def not_begun(self, environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        self.hold()
        yield b"late"

    def begun(self, environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"first"
        self.hold()

    def written(self, environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])(b"first")
        self.hold()
        return []


@pytest.mark.parametrize(
    ("way", "streams"),
    [
        ("before_the_answer", False), ("middleware", False), ("of_known_length", False), ("not_begun", True),
        ("begun", True), ("written", True),
    ],
)
def test_what_streams_is_seen_on_the_stacks(way: str, streams: bool) -> None:
    held = Held()
    handler = _Handler(getattr(held, way))
    handler.answering.start()
    assert held.there.wait(10)
    try:
        assert list(streaming_now(threads_frames())) == ([ServedRequest(7, 1.5)] if streams else [])
    finally:
        held.go_on.set()
        handler.answering.join(10)
    assert streaming_now(threads_frames()) == {}
