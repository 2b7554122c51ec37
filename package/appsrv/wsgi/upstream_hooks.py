"""What PEP 3333 cannot carry between a connection's exchange and the proxy that answers in a WSGI application's place.

The exchange puts a `Proxied` into the environ; the proxy answers with a `StreamedBody` where the head must not wait for
the first piece, or raises `SwitchedProtocols` when the connection is no longer HTTP. Knows neither sockets nor WSGI.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from appsrv.http.syntax import RequestHead

KEY = "appsrv.proxied"

Relay = Callable[[], bool]


class Proxied:
    """One request as it came, and what its client can be told. This one has no client: appsrv asks itself.

    `head` is the request's as sent. `streamed`: the body is read from the client while it is passed on, and its length
    is that of the head, or unknown. `may_switch`: the client's connection can be taken over.
    """

    may_switch = False
    streamed = False

    def __init__(self, head: RequestHead) -> None:
        self.head = head

    def inform(self, data: bytes) -> None:
        """Send an interim response (RFC 9110 section 15.2), as it goes on the wire."""

    def gone(self) -> bool:
        """Whether the client has ended its side of the connection."""
        return False

    def switch(self, upstream: object, first: bytes) -> None:
        """Have the connection relayed to `upstream` once this request is answered, beginning with `first`."""
        raise NotImplementedError


class SwitchedProtocols(Exception):
    """No error: the request is answered with 101, and what follows on its connection is no HTTP."""


class StreamedBody:
    """A body whose head is sent at once, with `first`, which may be empty; then come the pieces of `rest`."""

    __slots__ = ("_close", "first", "rest")

    def __init__(self, first: bytes, rest: Iterable[bytes], close: Callable[[], None]) -> None:
        self.first = first
        self.rest = rest
        self._close = close

    def __iter__(self) -> Iterator[bytes]:
        """As any other body, for whoever does not know better."""
        if self.first:
            yield self.first
        yield from self.rest

    def close(self) -> None:
        """Nobody reads on."""
        self._close()
