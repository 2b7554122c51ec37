"""proxy_protocol.py and server/frontend/preamble.py: headers cut anywhere, and not a byte too many is read."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import gevent
import pytest

from appsrv.errors import ClientDisconnected, RequestError
from appsrv.http.proxy_protocol import MAX_HEADER_BYTES, MAX_REST_BYTES, SIGNATURE, Header, parse
from appsrv.http.trusted_proxies import TrustedProxies
from appsrv.server.frontend.parking import ClientConnection
from appsrv.server.frontend.preamble import ProxyHeaders


def binary(command: int, kind: int, rest: bytes, length: int | None = None) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, kind, len(rest) if length is None else length) + rest


V4 = socket.inet_aton("192.0.2.1") + socket.inet_aton("203.0.113.9") + struct.pack("!HH", 56324, 443)
V6 = socket.inet_pton(socket.AF_INET6, "2001:db8::1") * 2 + struct.pack("!HH", 1, 443)
MAPPED = socket.inet_pton(socket.AF_INET6, "::ffff:192.0.2.1") * 2 + struct.pack("!HH", 7, 443)
TLVS = b"\x03\x00\x04\xde\xad\xbe\xef" + b"\x20\x00\x05\x01\0\0\0\0" + b"\x02\x00\x04host"

VALID = {
    "v1 tcp4": (b"PROXY TCP4 192.0.2.1 203.0.113.9 56324 443\r\n", "192.0.2.1", 56324),
    "v1 tcp6": (b"PROXY TCP6 2001:DB8::1 2001:db8::2 1 443\r\n", "2001:db8::1", 1),
    "v1 longest": (b"PROXY TCP6 %b %b 65535 65535\r\n" % (b":".join([b"ffff"] * 8), b":".join([b"ffff"] * 8)),
                   ":".join(["ffff"] * 8), 65535),
    "v1 unknown": (b"PROXY UNKNOWN\r\n", "", 0),
    "v1 unknown with more": (b"PROXY UNKNOWN ffff:f...f:ffff x 65535 65535\r\n", "", 0),
    "v2 tcp4": (binary(0x21, 0x11, V4), "192.0.2.1", 56324),
    "v2 tcp4 with TLVs": (binary(0x21, 0x11, V4 + TLVS), "192.0.2.1", 56324),
    "v2 tcp6": (binary(0x21, 0x21, V6), "2001:db8::1", 1),
    "v2 mapped": (binary(0x21, 0x21, MAPPED), "192.0.2.1", 7),
    "v2 local": (binary(0x20, 0x00, b""), None, 0),
    "v2 local with addresses": (binary(0x20, 0x11, V4), None, 0),
    "v2 unspecified": (binary(0x21, 0x00, TLVS), "", 0),
    "v2 unix": (binary(0x21, 0x31, b"/a".ljust(216, b"\0")), "", 0),
    "v2 longest": (binary(0x21, 0x11, V4.ljust(MAX_REST_BYTES, b"\0")), "192.0.2.1", 56324),
}
REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize("name", VALID)
def test_valid_headers(name: str) -> None:
    data, address, port = VALID[name]
    for behind in (b"", b"\r", REQUEST, data, b"\0" * MAX_HEADER_BYTES):
        assert parse(data + behind) == Header(len(data), address, port)


@pytest.mark.parametrize("name", VALID)
def test_every_truncated_prefix_asks_for_more(name: str) -> None:
    data = VALID[name][0]
    for end in range(len(data)):
        assert parse(data[:end]) is None, end


INVALID = [
    *(REQUEST, b"\x16\x03\x01\x02\x00", b"\0", b"proxy TCP4", b"PROXX", b"PROXY\t", b" PROXY", b"\r\nPROXY"),
    *(b"\r\n\r\n\0\r\nQUIT\r", b"\r\n\r\n\r\n"),
    *(b"PROXY \r\n", b"PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n", b"PROXY TCP4\r\n", b"PROXY UNKNOWNS\r\n"),
    *(
        b"PROXY " + line + b"\r\n" + REQUEST
        for line in (
            *(b"TCP4 1.1.1.1 2.2.2.2 1", b"TCP4 1.1.1.1 2.2.2.2 1 2 ", b"TCP4 1.1.1.1 2.2.2.2 1 2 3"),
            *(b"TCP4 1.1.1.1 2.2.2.2 1  2", b"TCP4 1.1.1.1\t2.2.2.2 1 2", b"tcp4 1.1.1.1 2.2.2.2 1 2"),
            *(b"TCP4 1.1.1 2.2.2.2 1 2", b"TCP4 1.1.1.256 2.2.2.2 1 2", b"TCP4 01.1.1.1 2.2.2.2 1 2"),
            *(b"TCP4 1.1.1.1 x 1 2", b"TCP4 ::1 ::2 1 2", b"TCP6 1.1.1.1 2.2.2.2 1 2", b"TCP6 ::1 2.2.2.2 1 2"),
            *(b"TCP6 [::1] [::2] 1 2", b"TCP6 fe80::1%1 ::2 1 2", b"TCP6 1::2::3 ::2 1 2"),
            *(b"TCP4 1.1.1.1 2.2.2.2 65536 2", b"TCP4 1.1.1.1 2.2.2.2 1 65536", b"TCP4 1.1.1.1 2.2.2.2 -1 2"),
            *(b"TCP4 1.1.1.1 2.2.2.2 01 2", b"TCP4 1.1.1.1 2.2.2.2 +1 2", b"TCP4 1.1.1.1 2.2.2.2 1 2\n", b"TCP4 \0"),
        )
    ),
    b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n" + REQUEST,
    b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    b"PROXY " + b"x" * 101,
    *(binary(0x11, 0x11, V4), binary(0x01, 0x11, V4), binary(0x22, 0x11, V4), binary(0x2F, 0x11, V4)),
    *(binary(0x21, kind, V6) for kind in (0x12, 0x22, 0x32, 0x41, 0x10, 0x01, 0xFF)),
    *(binary(0x21, 0x11, V4[:-1]), binary(0x21, 0x21, V4), binary(0x21, 0x11, b"")),
    *(binary(0x21, 0x11, V4, MAX_REST_BYTES + 1), binary(0x20, 0x00, b"", 0xFFFF)),
]


@pytest.mark.parametrize("data", INVALID, ids=lambda data: repr(data[:48]))
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        parse(data)
    assert caught.value.status == 400


# -- from a socket ---------------------------------------------------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, ClientConnection]]:
    theirs, ours = socket.socketpair()
    ours.setblocking(False)
    yield theirs, ClientConnection(1, ours, "10.0.0.1", 99, 0)
    theirs.close()
    ours.close()


def _unread(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


LOAD_BALANCER = TrustedProxies(["10.0.0.1"])


@pytest.mark.parametrize("name", VALID)
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_nothing_behind_the_header_is_taken(name: str, step: int, pair: tuple[socket.socket, ClientConnection]) -> None:
    client, connection = pair
    header, address, port = VALID[name]
    step = max(step, len(header) // 100)
    arriving = gevent.spawn(ProxyHeaders(LOAD_BALANCER, 5.0), connection)
    data = header + REQUEST
    for start in range(0, len(data), step):
        client.sendall(data[start : start + step])
        while _unread(connection.sock) and not arriving.ready():
            gevent.sleep(0.001)
    arriving.get(timeout=5)
    assert (connection.address, connection.port) == (("10.0.0.1", 99) if address is None else (address, port))
    assert connection.sock.recv(1000) == REQUEST


@pytest.mark.parametrize("sent", [b"", b"PROXY TCP4", VALID["v2 tcp6"][0][:-1]])
def test_a_header_that_never_ends(sent: bytes, pair: tuple[socket.socket, ClientConnection]) -> None:
    client, connection = pair
    client.sendall(sent)
    with pytest.raises(ClientDisconnected, match="did not arrive in time"):
        ProxyHeaders(LOAD_BALANCER, 0.02)(connection)
    client.close()
    with pytest.raises(ClientDisconnected, match="closed before"):
        ProxyHeaders(LOAD_BALANCER, 5.0)(connection)


def test_strangers_and_nonsense_are_closed_and_logged_once_in_a_while(
    pair: tuple[socket.socket, ClientConnection], caplog: pytest.LogCaptureFixture
) -> None:
    client, connection = pair
    headers = ProxyHeaders(LOAD_BALANCER, 5.0)
    client.sendall(REQUEST)
    for _ in range(3):
        with pytest.raises(ClientDisconnected, match="does not start with a PROXY protocol header"):
            headers(connection)
    assert len(caplog.records) == 1
    connection.address = "192.0.2.1"
    with pytest.raises(ClientDisconnected, match="not among forwarded_allow_ips"):
        ProxyHeaders(LOAD_BALANCER, 5.0)(connection)
    assert caplog.messages[1].startswith("a connection from 192.0.2.1 was closed: it is not among")
