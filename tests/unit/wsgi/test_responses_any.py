"""Whatever an application gives: one framing goes out, the connection is in step or ends, nothing is injected."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from appsrv.errors import ApplicationError
from appsrv.wsgi.file_wrapper import FileWrapper
from appsrv.wsgi.response_head import encode_head
from appsrv.wsgi.run import Environ
from support import oracle
from support.served import TEXT, Served

reproducible = settings(derandomize=True, deadline=None, database=None, max_examples=500)

SPACE = " \t"
LETTERS = st.text(st.sampled_from("aZ09-_:;, \t\r\n\0\x7f\x85\xe9\u20ac\u010a"), max_size=6)
HEADERS = st.lists(
    st.tuples(LETTERS | st.sampled_from(["X-A", "Date", "Content-Length", "Connection", "Set-Cookie"]), LETTERS),
    max_size=4,
)


@reproducible
@given(st.sampled_from(["200 OK", "204 No Content", "404"]) | LETTERS, HEADERS)
def test_a_head_has_the_lines_it_was_given_or_is_refused(status: str, headers: list[tuple[str, str]]) -> None:
    try:
        (code, block, _, _), left_out = encode_head(status, headers)
    except ApplicationError:
        return
    first, *lines = block.decode("latin-1").split("\r\n")
    assert first.rstrip() == f"HTTP/1.1 {status}".rstrip()
    kept = [f"{name}: {value.strip(SPACE)}" for name, value in headers if name not in ("Connection", "Content-Length")]
    lengths = {int(value) for name, value in headers if name == "Content-Length"}
    assert len(lengths) <= 1
    assert [line for line in lines if not line.startswith("Content-Length")] == [*kept, ""]
    assert sum(line.startswith("Content-Length") for line in lines) == (len(lengths) if code != 204 else 0)
    assert (left_out is not None) == any(name == "Connection" for name, _ in headers)
    assert all(oracle.FIELD.fullmatch(line.encode("latin-1")) for line in lines[:-1])
    assert encode_head(status, headers) == encode_head(status, tuple(headers)), "what was remembered differs"


class Plan(NamedTuple):
    """What an application does: `shape` is how it gives its pieces, `fails` before which of them it raises."""

    pieces: list[bytes]
    shape: str
    length: int | None
    status: str
    fails: int | None


PLANS = st.builds(
    Plan,
    st.lists(st.binary(max_size=4), max_size=4),
    st.sampled_from(["list", "tuple", "iterator", "write", "write and list", "file"]),
    st.none() | st.integers(0, 12),
    st.sampled_from(["200 OK", "201 Created", "204 No Content", "304 Not Modified", "500 Oops"]),
    st.none() | st.integers(0, 4),
)


def app_of(plan: Plan) -> Callable[..., Any]:
    def pieces() -> Iterator[bytes]:
        for number, piece in enumerate(plan.pieces):
            if number == plan.fails:
                raise ValueError("on purpose")
            yield piece

    def app(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        lengths = [] if plan.length is None else [("Content-Length", str(plan.length))]
        write = start_response(plan.status, [TEXT, *lengths])
        if plan.shape == "iterator":
            return pieces()
        if plan.shape == "file":
            return FileWrapper(io.BytesIO(b"".join(pieces())))
        if plan.shape.startswith("write"):
            for piece in pieces():
                write(piece)
            return plan.pieces if plan.shape == "write and list" else []
        return list(pieces()) if plan.shape == "list" else tuple(pieces())

    return app


@reproducible
@given(
    PLANS,
    st.sampled_from(["GET", "HEAD", "POST"]),
    st.sampled_from(["1.0", "1.1"]),
    st.sampled_from(["", "Connection: close\r\n", "Connection: keep-alive\r\n"]),
)
def test_the_connection_is_in_step_or_ends(plan: Plan, method: str, version: str, fields: str) -> None:
    served = Served(app_of(plan), method, version, fields=fields)
    outcome = served.outcome
    assert outcome.cut == bool(served.writer.was_cut)
    assert served.rest == b"", "bytes that the client would take for the next response"
    if outcome.cut:
        assert not outcome.keep_alive
        assert outcome.error_id is not None
        assert outcome.error_id in served.log
    else:
        assert served.complete, "not whole, and nobody will notice"
        assert outcome.status == served.status
        assert outcome.body_bytes == len(served.body)
        assert outcome.keep_alive == (served.headers.get("connection", "keep-alive") == "keep-alive")
    expected = b"".join(plan.pieces) * (2 if plan.shape == "write and list" else 1)
    if outcome.error is None and served.status == int(plan.status[:3]) and served.body:
        assert served.body == expected[: plan.length]
