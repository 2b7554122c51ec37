"""Reading requests from bytes as a worker does (whole) and as the slow lane does (in pieces), and writing them again.

`check` holds whatever bytes come: both ways agree, what was read means the same when it is written again, and a second
reader that shares no code (`support.oracle`) comes to the same result.
"""

from __future__ import annotations

from typing import Any

from appsrv.errors import RequestError
from appsrv.http.body import body_reader
from appsrv.http.head import HeadReader, parse_head
from appsrv.http.syntax import Limits, RequestHead
from support import oracle

LIMITS = Limits()
STATUSES = frozenset({400, 413, 414, 417, 431, 501, 505})

Read = tuple[RequestHead, bytes]


def read_pieces(pieces: list[bytes], limits: Limits = LIMITS) -> tuple[list[Read], int | None, bytes]:
    """The way of the slow lane: (requests, status of the refusal, bytes left over)."""
    requests: list[Read] = []
    rest = b""
    source = iter(pieces)
    try:
        while True:
            reader = HeadReader(limits)
            while (found := reader.feed(rest)) is None:
                rest = next(source)
            head, _, rest = found
            body = body_reader(head, limits)
            content, rest = body.feed(rest)
            while not body.complete:
                more, rest = body.feed(next(source))
                content += more
            requests.append((head, content))
            rest = rest or next(source)
    except StopIteration:
        return requests, None, b""
    except RequestError as error:
        return requests, error.status, rest


def read_whole(data: bytes, limits: Limits = LIMITS) -> tuple[list[Read], int | None]:
    """The way of a worker, which has everything in one piece."""
    requests: list[Read] = []
    try:
        while data:
            parsed = parse_head(data, limits)
            if parsed is None:
                break
            head, offset = parsed
            body = body_reader(head, limits)
            content, data = body.feed(data[offset:])
            if not body.complete:
                break
            requests.append((head, content))
    except RequestError as error:
        return requests, error.status
    return requests, None


def plain(requests: list[Read]) -> list[Any]:
    """The requests without their types, to compare."""
    return [(*head, body) for head, body in requests]


def meaning(request: Read) -> tuple[Any, ...]:
    """A request without the bytes that it was spelt with."""
    head, body = request
    return (*head._replace(raw=b""), body)


def serialized(head: RequestHead, body: bytes) -> bytes:
    """The request again, in the plainest spelling."""
    lines = [b"%b %b HTTP/%b" % (head.method.encode(), head.target, head.version.encode())]
    lines += [name + b": " + value for name, value in head.headers]
    content = body
    if head.chunked:
        content = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
    return b"\r\n".join(lines) + b"\r\n\r\n" + content


def check(data: bytes, pieces: list[bytes]) -> None:
    """What must hold for any bytes; `pieces` are the same, cut somehow."""
    whole, status = read_whole(data)
    assert status is None or status in STATUSES, status
    assert read_whole(data) == (whole, status), "what was remembered differs from what was read"
    for way in (pieces, [data[i : i + 1] for i in range(len(data))]):
        requests, cut_status, _ = read_pieces(way)
        assert (plain(requests), cut_status) == (plain(whole), status), "cuts change the result"
    for head, body in whole:
        again, status_again = read_whole(serialized(head, body))
        assert status_again is None
        assert [meaning(request) for request in again] == [meaning((head, body))], "written again it means another"
    _agree(data, whole, status)


def _agree(data: bytes, whole: list[Read], status: int | None) -> None:
    """The oracle judges whole requests only; bytes that may still become one can be refused early."""
    requests, verdict = oracle.read(data)
    ours = [(head.method.encode(), head.target, head.version, head.headers, body) for head, body in whole]
    assert ours == requests, "the oracle reads other requests"
    if verdict == oracle.REFUSED:
        assert status is not None, "taken, but the oracle refuses it"
    elif verdict == oracle.DONE:
        assert status is None, f"refused with {status}, but the oracle takes it"
