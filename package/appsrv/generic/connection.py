"""A connection to the upstream, the process behind the proxy, which carries one request after another.

h11 parses the responses and refuses those that violate HTTP/1.1. Plain responses to requests with short bodies bypass
h11 (module `response`), because that is faster. The head of a request is sent exactly as `request` has made it. This
module knows neither clients nor processes. Its socket is gevent's, so a wait blocks only the current greenlet.
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

# The size of the first read of a response.
READ_BYTES = 64 * 1024
# The size of the following reads, when the body is known to be longer.
BODY_READ_BYTES = 256 * 1024
# The largest head of a response; the head of a request has the same default limit.
MAX_HEAD_BYTES = 64 * 1024
# A body up to this size is sent together with its head, before the response is read. It fits into the kernel's socket
# buffers, so an upstream that answers before it reads the body cannot cause a deadlock.
MAX_JOINED_BODY_BYTES = 16 * 1024
# After this time without a 100 (Continue) the body is sent all the same: RFC 9110 section 10.1.1 forbids to wait for it
# indefinitely, because servers before HTTP/1.1 do not know it.
CONTINUE_WAIT_SECONDS = 1.0
# The time without data from the upstream after which the proxy checks whether the client is still connected.
CLIENT_CHECK_SECONDS = 2.0

CheckClient = Callable[[], None]
SendInterim = Callable[[h11.InformationalResponse], None]


class ConnectionLost(Exception):
    """The connection has ended before the response was complete.

    `silent`: no byte of a response was received. `untouched`: no byte of the request was sent.
    """

    def __init__(self, why: str, *, silent: bool, untouched: bool = False) -> None:
        super().__init__(why)
        self.silent = silent
        self.untouched = untouched


class BrokenResponse(Exception):
    """The response violates HTTP/1.1; the message names the violation."""


class UpstreamConnection:
    """One connection. Call `request`, then `available` and `pieces`; again if `finish` returns true.

    `sock`: a gevent socket. Its timeout is the interval at which `check_client` is called while no data arrives.
    """

    def __init__(self, sock: Any) -> None:
        self.sock = sock
        sock.settimeout(CLIENT_CHECK_SECONDS)
        self.used = False
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._silent = self._untouched = True
        self._reads = 0
        # The number of missing bytes of a plain response; None if h11 parses the response.
        self._missing_bytes: int | None = None
        self._first = b""
        self._sender: Any = None
        self._may_send = Event()
        self._failure: BaseException | None = None

    # -- the request --------------------------------------------------------------------------------------------------

    def request(
        self, request: UpstreamRequest, body: Iterable[bytes], send_interim: SendInterim, check_client: CheckClient
    ) -> ResponseHead | h11.InformationalResponse:
        """Send the request; returns the head of the response, or the interim response 101.

        `send_interim` is called with each other interim response (RFC 9110 section 15.2), and with 100 if the request
        expects it. Raises `ConnectionLost`, `BrokenResponse`, and the exceptions of `body` and `check_client`.
        """
        self._silent, self._reads = True, 0
        if request.length is not None and request.length <= MAX_JOINED_BODY_BYTES and not request.expects:
            self._begin(request.head + b"".join(body))
            plain = self._plain_response(request, check_client)
            if plain is not None:
                return plain
        else:
            self._prepare_h11(request)
            self._begin(request.head)
            self._may_send.clear()
            if not request.expects:
                self._may_send.set()
            self._sender = gevent.spawn(self._send_body, body, send_interim)
        response = self._head_of_response(send_interim, check_client)
        if self._sender is not None and not self._may_send.is_set():
            # The upstream answers without the body. The client waits for 100 (Continue) and has not sent it.
            self._sender.kill(block=False)
        return response

    def _prepare_h11(self, request: UpstreamRequest) -> None:
        self._http.send(_h11_request(request.method, request.length, bool(request.upgrade)))

    def _begin(self, data: bytes) -> None:
        self._untouched = True
        try:
            self._send(data)
        except OSError as error:
            # The upstream may have answered and closed the connection without reading the rest of the request. Then
            # its response is in the receive buffer.
            if self._untouched or not has_input(self.sock.fileno()):
                raise ConnectionLost(str(error), silent=True, untouched=self._untouched) from error

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            with contextlib.suppress(TimeoutError):
                view = view[self.sock.send(view) :]
                self._untouched = False

    def _send_body(self, body: Iterable[bytes], send_interim: SendInterim) -> None:
        if not self._may_send.wait(CONTINUE_WAIT_SECONDS):
            self._may_send.set()
            send_interim(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue"))
        try:
            for piece in body:
                self._send(self._http.send(h11.Data(data=piece)) or b"")
                # If the upstream reads as fast as this loop sends, no call here waits, so other greenlets would not
                # run.
                gevent.sleep(0)
            self._send(self._http.send(h11.EndOfMessage()) or b"")
        except OSError:
            return  # The greenlet that reads the response gets the error of the connection, too.
        except Exception as error:
            self._failure = error
            # The end of the connection shows the upstream that the body is incomplete. It also wakes the greenlet that
            # reads the response.
            with contextlib.suppress(OSError):
                self.sock.shutdown(2)

    # -- the response -------------------------------------------------------------------------------------------------

    def _plain_response(self, request: UpstreamRequest, check_client: CheckClient) -> ResponseHead | None:
        """The head of a response that bypasses h11; None if h11 has to parse the received data."""
        data = self._receive(check_client)
        self._reads += 1
        quick = quick_head(data, request.method)
        if quick is None:
            self._prepare_h11(request)
            self._http.send(h11.Data(data=bytes(request.length or 0)))
            self._http.send(h11.EndOfMessage())
            self._http.receive_data(data)
            return None
        head, start, length = quick
        self._first = data[start:]
        self._missing_bytes = length - len(self._first)
        return head

    def _head_of_response(
        self, send_interim: SendInterim, check_client: CheckClient
    ) -> ResponseHead | h11.InformationalResponse:
        while True:
            event = self._event(check_client)
            if isinstance(event, h11.Response):
                _check(event)
                return _head_of(event)
            if not isinstance(event, h11.InformationalResponse):
                raise self._loss("the connection was closed before a response")
            _check_interim(event)
            if event.status_code == 101:
                self._finish_request()
                return event
            if event.status_code != 100:
                send_interim(event)
            elif self._sender is not None and not self._may_send.is_set():
                # Passed on before the final response is read: later it would stand in the middle of that response.
                send_interim(event)
                self._may_send.set()

    def _finish_request(self) -> None:
        """Send the rest of the request before the connection is relayed.

        RFC 9110 section 7.8: the new protocol begins after the complete request, even if the 101 comes earlier. Raises
        the exception of the request's body.
        """
        if self._sender is not None:
            self._may_send.set()
            self._sender.join()
            if self._failure is not None:
                raise self._failure

    def available(self) -> tuple[bytes, bool]:
        """(the received part of the body, whether it is the complete body). Raises `BrokenResponse`."""
        if self._missing_bytes is not None:
            return self._first, not self._missing_bytes
        pieces = []
        while True:
            event = self._next()
            if isinstance(event, h11.Data):
                pieces.append(bytes(event.data))
            else:
                return b"".join(pieces), isinstance(event, h11.EndOfMessage)

    def pieces(self, check_client: CheckClient) -> Iterator[bytes]:
        """The rest of the body, piece by piece as it arrives. Raises `ConnectionLost` and `BrokenResponse`."""
        while self._missing_bytes:
            gevent.sleep(0)
            data = self._receive(check_client, min(BODY_READ_BYTES, self._missing_bytes))
            if not data:
                raise BrokenResponse(f"it ended {self._missing_bytes} bytes short of its Content-Length")
            self._missing_bytes -= len(data)
            yield data
        if self._missing_bytes is not None:
            return
        while True:
            event = self._event(check_client)
            if isinstance(event, h11.EndOfMessage):
                return
            if not isinstance(event, h11.Data):
                raise self._loss("the connection was closed in the middle of a response")
            yield bytes(event.data)

    def trailing_data(self) -> bytes:
        """The data received after a 101; it belongs to the new protocol."""
        data: bytes = self._http.trailing_data[0]
        return data

    def _event(self, check_client: CheckClient) -> Any:
        """Wait for the next event; h11.ConnectionClosed at the end of the connection."""
        while True:
            event = self._next()
            if event is not h11.NEED_DATA:
                return event
            if self._reads:
                # If the upstream always has more data, recv(2) never waits, so other greenlets would not run.
                gevent.sleep(0)
            self._http.receive_data(self._receive(check_client, BODY_READ_BYTES if self._reads else READ_BYTES))
            self._reads += 1

    def _next(self) -> Any:
        try:
            return self._http.next_event()
        except h11.RemoteProtocolError as error:
            if self._failure is not None:
                raise self._failure from error
            if self._silent:
                raise self._loss("the connection was closed before a response") from error
            raise BrokenResponse(str(error)) from error

    def _receive(self, check_client: CheckClient, size: int = READ_BYTES) -> bytes:
        while True:
            try:
                data: bytes = self.sock.recv(size)
            except TimeoutError:
                check_client()
                continue
            except OSError as error:
                raise self._loss(str(error)) from error
            self._silent = self._silent and not data
            return data

    def _loss(self, why: str) -> BaseException:
        return self._failure or ConnectionLost(why, silent=self._silent)

    # -- the end ------------------------------------------------------------------------------------------------------

    def finish(self) -> bool:
        """End the current exchange after the response. True: the connection can be used again; else close it."""
        if self._missing_bytes is not None:
            missing, self._missing_bytes, self._first, self.used = self._missing_bytes, None, b"", True
            return not missing
        sending = self._sender is not None and not self._sender.dead
        if sending or self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        if self._http.trailing_data[0]:
            return False  # Data that belongs to no request: the framing of the connection is not reliable.
        self._http.start_next_cycle()
        self._sender, self.used = None, True
        return True

    def close(self, *, reset: bool = False) -> None:
        """Close the connection; `reset`: with a TCP reset, which shows the upstream that it was cut off."""
        if self._sender is not None:
            self._sender.kill(block=False)
        if reset:
            reset_when_closed(self.sock)
        self.sock.close()

    def stale(self) -> bool:
        """Whether an idle connection has input. That is its end, or data that belongs to no request."""
        return has_input(self.sock.fileno())


@functools.lru_cache(maxsize=256)
def _h11_request(method: str, length: int | None, upgrade: bool) -> h11.Request:
    """The properties of a request that h11 needs to parse the response. These bytes are not sent."""
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
    """Refuse responses that h11 accepts and that other HTTP implementations read differently."""
    names = [name for name, _ in response.headers]
    if b"content-length" in names and b"transfer-encoding" in names:
        raise BrokenResponse("it has Content-Length and Transfer-Encoding (RFC 9112 section 6.3)")
    if not response.http_version.startswith(b"1."):
        raise BrokenResponse(f"it is of HTTP/{response.http_version.decode('latin-1')}")


def _check_interim(response: h11.InformationalResponse) -> None:
    """Refuse control characters (RFC 9110 section 5.5), which h11 accepts in a 1xx. The client gets a 1xx unchanged."""
    values = [response.reason, *(value for _, value in response.headers)]
    if not all(map(is_field_value, values)):
        raise BrokenResponse(f"there are control characters in the head of its {response.status_code}")
