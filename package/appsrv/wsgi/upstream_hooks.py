"""Extensions to PEP 3333 between a worker's connection handler and the proxy that runs in place of a WSGI application.

The connection handler puts a `Proxied` into the environ. The proxy returns a `StreamedBody` where the head must leave
before the first piece of the body, or raises `SwitchedProtocols` when the connection is no longer HTTP. This module
knows neither sockets nor WSGI.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from appsrv.http.syntax import RequestHead

KEY = "appsrv.proxied"


class Proxied:
    """One request as received, and the operations on its client.

    This base class has no client: appsrv makes such requests itself (`internal_request`). `head`: the request's head as
    the client sent it. `streamed`: the body is read from the client while it is passed on, and its length is the
    head's Content-Length, or unknown. `may_switch`: the client's connection can be upgraded.
    """

    may_switch = False
    streamed = False

    def __init__(self, head: RequestHead) -> None:
        self.head = head

    def send_interim(self, data: bytes) -> None:
        """Send an interim response (RFC 9110 section 15.2); `data`: its bytes, with the final empty line."""

    def gone(self) -> bool:
        """Whether the client has ended its side of the connection."""
        return False

    def switch(self, upstream: object, first: bytes) -> None:
        """Relay the connection to `upstream` once this request is answered; send the client `first` before the rest.

        Only where `may_switch` is true; the caller checks it.
        """
        raise NotImplementedError


class SwitchedProtocols(Exception):
    """No error: the request is answered with 101 (RFC 9110 section 15.2.2); its connection carries no more HTTP."""


class StreamedBody:
    """A body whose head is sent at once, together with `first`, which may be empty; the pieces of `rest` follow."""

    __slots__ = ("_close", "first", "rest")

    def __init__(self, first: bytes, rest: Iterable[bytes], close: Callable[[], None]) -> None:
        self.first = first
        self.rest = rest
        self._close = close

    def __iter__(self) -> Iterator[bytes]:
        """All pieces, for code that treats this as an ordinary iterable body, such as a middleware."""
        if self.first:
            yield self.first
        yield from self.rest

    def close(self) -> None:
        """Release the connection to the upstream: no more pieces will be read (PEP 3333)."""
        self._close()
