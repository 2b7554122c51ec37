"""A connection to the process behind the proxy, for one request after the other.

h11 reads what comes and refuses what breaks HTTP/1.1, but for plain answers to plain requests, of which it is not told;
the head that is sent is `upstream_request`'s, byte for byte.
Knows no client and no process. Waits in greenlets: its socket is gevent's.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import gevent
import h11
from gevent.event import Event

from appsrv.generic.request import UpstreamRequest
from appsrv.generic.response import ResponseHead, quick_head
from appsrv.http.syntax import is_field_value
from appsrv.net.tcp_reset import reset_when_closed
from appsrv.system.readiness import has_input

READ = 64 * 1024
# Once it is known that there is more than one read of a body.
READ_ON = 256 * 1024
# A response head may be as large as a request's.
LARGEST_HEAD = 64 * 1024
# A body up to this size is sent with its head, before anything is read: it fits into the kernel's buffers.
AT_ONCE = 16 * 1024
# How long 100 (Continue) is waited for; an old server does not know it (RFC 9110 section 10.1.1).
EXPECT_WAIT = 1.0
# Seconds without a byte from the upstream after which it is looked whether the client is still there.
LOOK = 2.0

Look = Callable[[], None]
Inform = Callable[[h11.InformationalResponse], None]


class ConnectionLost(Exception):
    """The connection has ended too early.

    `silent`: nothing of a response has come; `untouched`: nothing of the request was sent.
    """

    def __init__(self, why: str, *, silent: bool, untouched: bool = False) -> None:
        super().__init__(why)
        self.silent = silent
        self.untouched = untouched


class BrokenResponse(Exception):
    """What has come is no HTTP/1.1; says what is wrong with it."""


class UpstreamConnection:
    """One connection. `ask`, then `available` and `pieces`; again once `done` has said so.

    `sock` is a gevent socket, whose timeout is how often `look` is called while nothing comes.
    """

    def __init__(self, sock: Any) -> None:
        self.sock = sock
        sock.settimeout(LOOK)
        self.used = False
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=LARGEST_HEAD)
        self._silent = self._untouched = True
        self._reads = 0
        # What is left of a plain answer; None while h11 is asked.
        self._left: int | None = None
        self._first = b""
        self._sender: Any = None
        self._may_send = Event()
        self._failure: BaseException | None = None

    # -- the request --------------------------------------------------------------------------------------------------

    def ask(
        self, request: UpstreamRequest, body: Iterable[bytes], inform: Inform, look: Look
    ) -> ResponseHead | h11.InformationalResponse:
        """Send the request; returns the head of the response, or of a 101. Raises ConnectionLost, BrokenResponse.

        What `body` and `look` raise comes through. `inform` is told of interim responses, and of 100 if it is expected.
        """
        self._silent, self._reads = True, 0
        if request.length is not None and request.length <= AT_ONCE and not request.expects:
            self._begin(request.head + b"".join(body))
            plain = self._plain_response(request, look)
            if plain is not None:
                return plain
        else:
            self._announce(request)
            self._begin(request.head)
            self._may_send.clear()
            if not request.expects:
                self._may_send.set()
            self._sender = gevent.spawn(self._send_body, body, inform)
        response = self._head_of_response(inform, look)
        if self._sender is not None and not self._may_send.is_set():
            # It answers without the body, which the client has not been asked to send.
            self._sender.kill(block=False)
        return response

    def _announce(self, request: UpstreamRequest) -> None:
        self._http.send(_announcement(request.method, request.length, bool(request.upgrade)))

    def _begin(self, data: bytes) -> None:
        self._untouched = True
        try:
            self._send(data)
        except OSError as error:
            # It may have answered, and then closed without reading on.
            if self._untouched or not has_input(self.sock.fileno()):
                raise ConnectionLost(str(error), silent=True, untouched=self._untouched) from error

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            with contextlib.suppress(TimeoutError):
                view = view[self.sock.send(view) :]
                self._untouched = False

    def _send_body(self, body: Iterable[bytes], inform: Inform) -> None:
        if not self._may_send.wait(EXPECT_WAIT):
            self._may_send.set()
            inform(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue"))
        try:
            for piece in body:
                self._send(self._http.send(h11.Data(data=piece)) or b"")
                # A process that reads as fast as it gets would keep all other requests waiting.
                gevent.sleep(0)
            self._send(self._http.send(h11.EndOfMessage()) or b"")
        except OSError:
            return  # Whoever reads the response sees why.
        except Exception as error:
            self._failure = error
            # Half a body must not look like a whole one; and whoever reads wakes up.
            with contextlib.suppress(OSError):
                self.sock.shutdown(2)

    # -- the response -------------------------------------------------------------------------------------------------

    def _plain_response(self, request: UpstreamRequest, look: Look) -> ResponseHead | None:
        """None where h11 has been given what has come."""
        data = self._receive(look)
        self._reads += 1
        quick = quick_head(data, request.method)
        if quick is None:
            self._announce(request)
            self._http.send(h11.Data(data=bytes(request.length or 0)))
            self._http.send(h11.EndOfMessage())
            self._http.receive_data(data)
            return None
        head, start, length = quick
        self._first = data[start:]
        self._left = length - len(self._first)
        return head

    def _head_of_response(self, inform: Inform, look: Look) -> ResponseHead | h11.InformationalResponse:
        while True:
            event = self._event(look)
            if isinstance(event, h11.Response):
                _check(event)
                return _head_of(event)
            if not isinstance(event, h11.InformationalResponse):
                raise self._lost("the connection was closed before a response")
            _check_interim(event)
            if event.status_code == 101:
                self._finish_request()
                return event
            if event.status_code != 100:
                inform(event)
            elif self._sender is not None and not self._may_send.is_set():
                # At once: after a final response it would stand in the middle of that.
                inform(event)
                self._may_send.set()

    def _finish_request(self) -> None:
        """What another protocol says comes behind the request, however early the answer (RFC 9110 section 7.8)."""
        if self._sender is not None:
            self._may_send.set()
            self._sender.join()
            if self._failure is not None:
                raise self._failure

    def available(self) -> tuple[bytes, bool]:
        """(what has come of the body already, whether that is all of it). Raises BrokenResponse."""
        if self._left is not None:
            return self._first, not self._left
        pieces = []
        while True:
            event = self._next()
            if isinstance(event, h11.Data):
                pieces.append(bytes(event.data))
            else:
                return b"".join(pieces), isinstance(event, h11.EndOfMessage)

    def pieces(self, look: Look) -> Iterator[bytes]:
        """The rest of the body as it comes. Raises ConnectionLost, BrokenResponse."""
        while self._left:
            gevent.sleep(0)
            data = self._receive(look, min(READ_ON, self._left))
            if not data:
                raise BrokenResponse(f"it ended {self._left} bytes before what its Content-Length says")
            self._left -= len(data)
            yield data
        if self._left is not None:
            return
        while True:
            event = self._event(look)
            if isinstance(event, h11.EndOfMessage):
                return
            if not isinstance(event, h11.Data):
                raise self._lost("the connection was closed in the middle of a response")
            yield bytes(event.data)

    def left_over(self) -> bytes:
        """What has come behind a 101: it belongs to the other protocol."""
        data: bytes = self._http.trailing_data[0]
        return data

    def _event(self, look: Look) -> Any:
        """The next event, waited for; h11.ConnectionClosed at the end."""
        while True:
            event = self._next()
            if event is not h11.NEED_DATA:
                return event
            if self._reads:
                # The same for one that is always ready with more: recv(2) then never waits.
                gevent.sleep(0)
            self._http.receive_data(self._receive(look, READ_ON if self._reads else READ))
            self._reads += 1

    def _next(self) -> Any:
        try:
            return self._http.next_event()
        except h11.RemoteProtocolError as error:
            if self._failure is not None:
                raise self._failure from error
            if self._silent:
                raise self._lost("the connection was closed before a response") from error
            raise BrokenResponse(str(error)) from error

    def _receive(self, look: Look, size: int = READ) -> bytes:
        while True:
            try:
                data: bytes = self.sock.recv(size)
            except TimeoutError:
                look()
                continue
            except OSError as error:
                raise self._lost(str(error)) from error
            self._silent = self._silent and not data
            return data

    def _lost(self, why: str) -> BaseException:
        return self._failure or ConnectionLost(why, silent=self._silent)

    # -- the end ------------------------------------------------------------------------------------------------------

    def done(self) -> bool:
        """The response is over: whether the connection can be used again. If not, it is to be closed."""
        if self._left is not None:
            left, self._left, self._first, self.used = self._left, None, b"", True
            return not left
        sending = self._sender is not None and not self._sender.dead
        if sending or self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        if self._http.trailing_data[0]:
            return False  # Nobody has asked for that.
        self._http.start_next_cycle()
        self._sender, self.used = None, True
        return True

    def close(self, *, reset: bool = False) -> None:
        """Of no use any more; `reset`: the other side is to see that it was cut."""
        if self._sender is not None:
            self._sender.kill(block=False)
        if reset:
            reset_when_closed(self.sock)
        self.sock.close()

    def stale(self) -> bool:
        """Whether something has come on a connection on which nothing was asked: its end, most likely."""
        return has_input(self.sock.fileno())


@functools.lru_cache(maxsize=256)
def _announcement(method: str, length: int | None, upgrade: bool) -> h11.Request:
    """What h11 has to know of a request to read its response; it is not what is sent."""
    headers = [(b"Host", b"-")]
    if length is None:
        headers.append((b"Transfer-Encoding", b"chunked"))
    else:
        headers.append((b"Content-Length", b"%d" % length))
    if upgrade:
        headers += [(b"Connection", b"upgrade"), (b"Upgrade", b"-")]
    return h11.Request(method=method, target=b"/", headers=headers)


def _head_of(response: h11.Response) -> ResponseHead:
    fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers.raw_items()]
    return ResponseHead(response.status_code, response.reason.decode("latin-1"), fields)


def _check(response: h11.Response) -> None:
    """What h11 lets pass, and others read in another way."""
    names = [name for name, _ in response.headers]
    if b"content-length" in names and b"transfer-encoding" in names:
        raise BrokenResponse("it has Content-Length and Transfer-Encoding (RFC 9112 section 6.3)")
    if not response.http_version.startswith(b"1."):
        raise BrokenResponse(f"it is of HTTP/{response.http_version.decode('latin-1')}")


def _check_interim(response: h11.InformationalResponse) -> None:
    """What h11 lets pass in a 1xx, which goes to the client as it is (RFC 9110 section 5.5)."""
    values = [response.reason, *(value for _, value in response.headers)]
    if not all(map(is_field_value, values)):
        raise BrokenResponse(f"there are control characters in the head of its {response.status_code}")
