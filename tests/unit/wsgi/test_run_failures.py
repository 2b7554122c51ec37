"""run.py: what an application can do wrong, and that no connection falls out of step."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from appsrv.errors import ApplicationError
from appsrv.wsgi.run import Environ, respond
from support.served import DATE, TEXT, App, Body, RecordingWriter, Served, app_of, head_of, length


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
    assert "appsrv/wsgi/run.py" not in served.log
    assert 'raise ValueError("<b>no</b>")' in served.log
    assert b"&lt;b&gt;no&lt;/b&gt;" in served.body
    assert b"<b>no" not in served.body


def test_500_to_head_has_no_body() -> None:
    served = Served(app_of(None), "HEAD")
    assert (served.status, served.rest) == (500, b"")


def test_an_exception_after_the_head_cuts() -> None:
    for body in (Body(b"a", error=ValueError("late")), Body(b"a", error=SystemExit())):
        served = Served(app_of(body))
        assert (served.writer.was_cut, served.outcome.cut, served.outcome.keep_alive) == (1, True, False)
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
    "two lengths": app_of([b"a"], length(1), length(2)),
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
    "text header": app_of([b"a"], "ab"),  # type: ignore[arg-type]
    "list of three": app_of([b"a"], ["X-A", "c", "d"]),  # type: ignore[arg-type]
    "injection in a list": app_of([b"a"], ["X-A", "c\r\nSet-Cookie: x=y"]),  # type: ignore[arg-type]
    "injection in a hop": app_of([b"a"], ("Connection", "close\r\nSet-Cookie: x=y")),
    "triple header": app_of([b"a"], ("X-A", "c", "d")),  # type: ignore[arg-type]
    "injected status": app_of([b"a"], status="200 OK\r\nX-A: b"),
    "status 100": app_of([b"a"], status="100 Continue"),
    "status 101": app_of([b"a"], status="101 Switching Protocols"),
    "status of letters": app_of([b"a"], status="OK"),
    "long status": app_of([b"a"], status="2000 OK"),
    "number status": app_of([b"a"], status=200),  # type: ignore[arg-type]
    "bytes status": app_of([b"a"], status=b"200 OK"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", BREACHES)
def test_a_breach_of_pep_3333_is_a_500_and_the_connection_stays(name: str) -> None:
    served = Served(BREACHES[name])
    assert (served.status, served.rest, served.complete) == (500, b"", True)
    assert (served.outcome.keep_alive, served.outcome.cut, served.writer.was_cut) == (True, False, 0)
    assert served.outcome.error_id in served.log  # type: ignore[operator]
    assert b"Set-Cookie" not in served.writer.wire


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
    assert (served.complete, served.outcome.cut, served.writer.was_cut) == (False, True, 1)


def test_a_log_that_fails_changes_nothing() -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError("disk full")

    head = head_of("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    writer = RecordingWriter()
    outcome = respond(app_of(None), {"wsgi.errors": Broken(), "REQUEST_METHOD": "GET"}, head, writer, date=DATE)
    assert (outcome.status, outcome.keep_alive) == (500, True)


def test_a_client_that_left_before_the_500() -> None:
    assert Served(app_of(None), writer=RecordingWriter(breaks_after=0)).outcome.cut


def test_write_kept_beyond_the_response_sends_nothing() -> None:
    """Whatever way it ended: the writer is at another response by then."""
    kept: list[Callable[[bytes], None]] = []

    def keeping(body: Any) -> App:
        def app(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
            kept.append(start_response("200 OK", [TEXT]))
            return body  # type: ignore[no-any-return]

        return app

    failing = [Body(error=ValueError()), Body(b"a", error=ValueError()), None]
    ways: list[Any] = [[b"a"], [b"a", b"b"], Body(b"a"), Body(), *failing]
    for body in ways:
        served = Served(keeping(body))
        sent = served.writer.wire
        with pytest.raises(ApplicationError, match="after the response had ended"):
            kept.pop()(b"late")
        assert served.writer.wire == sent
    gone = Served(keeping(Body(b"a", b"b")), writer=RecordingWriter(breaks_after=1))
    with pytest.raises(ApplicationError):
        kept.pop()(b"late")
    assert gone.outcome.cut


def test_write_in_close_keeps_the_connection_in_step() -> None:
    class Talkative(Body):
        write: Callable[[bytes], None]

        def close(self) -> None:
            self.write(b"more")

    def app(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = Talkative(b"whole")
        body.write = start_response("200 OK", [TEXT])
        return body

    served = Served(app)
    assert (served.body, served.rest, served.complete, served.outcome.keep_alive) == (b"whole", b"", True, True)
    assert "after the response had ended" in served.log


def test_a_line_of_the_log_holds_no_query_and_no_commands_of_terminals() -> None:
    served = Served(raises, target="/a\x9b31m?token=secret")
    assert served.log.startswith("Error ")
    assert served.log.splitlines()[0].endswith(r" in GET /a\x9b31m")
    assert "secret" not in served.log


def raises(environ: object, start_response: object) -> list[bytes]:
    raise ValueError("on purpose")
