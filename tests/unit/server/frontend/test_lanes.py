"""lanes.py: clients that are slow, silent or gone, over real sockets in gevent's event loop."""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from types import SimpleNamespace

import gevent
import pytest

from appsrv.errors import ClientDisconnected, RequestError
from appsrv.http.syntax import Limits
from appsrv.net.min_rate import DeliveredBytes
from appsrv.server.frontend import lanes
from appsrv.server.frontend.lanes import CompleteRequest, Timeouts
from appsrv.system.spool import Spool

HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
PATIENT = Timeouts(header=5.0, body=5.0, drain=5.0)
BRIEF = Timeouts(header=0.03, body=0.03, drain=0.03)
STRICT = Timeouts(header=0.2, body=0.2, drain=0.2, rate=1_000_000.0)


class Client:
    """A client's side, and the server's."""

    def __init__(self) -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        self.sock = socket.create_connection(listening.getsockname())
        self.ours, _ = listening.accept()
        listening.close()
        self.ours.setblocking(False)
        self.sock.setblocking(False)
        self.got = b""

    def dribbles(self, data: bytes, size: int = 1) -> gevent.Greenlet[..., None]:
        """Send in small pieces, with other greenlets in between."""

        def send() -> None:
            for at in range(0, len(data), size):
                self.sock.send(data[at : at + size])
                gevent.sleep(0)

        return gevent.spawn(send)

    def reads(self, wanted: int) -> bytes:
        """So many bytes, or all until the end."""
        deadline = time.monotonic() + 5
        while len(self.got) < wanted:
            try:
                data = self.sock.recv(1 << 20)
            except BlockingIOError:
                assert time.monotonic() < deadline, f"only {len(self.got)} bytes came"
                gevent.sleep(0.001)
                continue
            if not data:
                break
            self.got += data
        return self.got

    def request(self, already: bytes = b"", limits: Limits | None = None, timeouts: Timeouts = PATIENT) -> bytes:
        """What the slow lane makes of it: the body, and what follows it."""
        found = lanes.read_request(self.ours, already, limits or Limits(), timeouts)
        self.last: CompleteRequest = found
        body = found.body.read_all()
        found.body.close()
        return body

    def status(self, already: bytes = b"", limits: Limits | None = None, timeouts: Timeouts = BRIEF) -> int:
        """The status of the error that the request is answered with."""
        with pytest.raises(RequestError) as caught:
            self.request(already, limits, timeouts)
        return caught.value.status


@pytest.fixture
def client() -> Iterator[Client]:
    """A connected client."""
    made = Client()
    yield made
    made.ours.close()
    made.sock.close()


# -- the slow lane


def test_a_head_byte_by_byte(client: Client) -> None:
    client.dribbles(HEAD)
    assert client.request() == b""
    assert (client.last.raw_head, client.last.rest, client.last.head.method) == (HEAD, b"", "GET")


def test_it_goes_on_where_the_worker_stopped(client: Client) -> None:
    client.dribbles(HEAD[9:])
    client.request(HEAD[:9])
    assert client.last.raw_head == HEAD


def test_what_follows_is_kept(client: Client) -> None:
    assert client.request(HEAD + b"GET /next") == b""
    assert client.last.rest == b"GET /next"
    client.dribbles(b"89GET", 5)
    assert client.request(POST + b"01234567") == b"0123456789"
    assert client.last.rest == b"GET"


def test_a_body_byte_by_byte(client: Client) -> None:
    client.dribbles(POST + b"0123456789")
    assert client.request() == b"0123456789"


def test_a_chunked_body_loses_its_framing(client: Client) -> None:
    client.dribbles(b"3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nT: t\r\n\r\nGET", 2)
    assert client.request(CHUNKED) == b"abcdefg"
    assert client.last.rest in (b"", b"G", b"GE", b"GET")


def test_a_large_body_goes_to_disk(client: Client) -> None:
    body = b"x" * 300_000
    head = POST.replace(b"10", b"300000")
    writer = gevent.spawn(lanes.send_all, client.sock, body, PATIENT)
    found = lanes.read_request(client.ours, head, Limits(), PATIENT, lambda: Spool(1000))
    writer.join()
    assert found.body._file is not None
    assert found.body.read_all() == body
    found.body.close()


def test_continue_is_sent_only_when_nothing_has_come_yet(client: Client) -> None:
    head = POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")

    def answer() -> None:
        assert client.reads(len(lanes.CONTINUE)) == lanes.CONTINUE
        client.sock.send(b"0123456789")

    asked = gevent.spawn(answer)
    assert client.request(head) == b"0123456789"
    asked.get()
    client.sock.send(b"89")
    assert client.request(head + b"01234567") == b"0123456789"
    with pytest.raises(BlockingIOError):
        client.sock.recv(100)


@pytest.mark.parametrize("already", [b"", b"GET / HT", POST + b"0123", CHUNKED + b"3\r\nab"])
def test_a_silent_client_is_told_408(client: Client, already: bytes) -> None:
    assert client.status(already) == 408


def test_a_head_has_one_deadline_however_lively_it_is(client: Client) -> None:
    def drip() -> None:
        while True:
            client.sock.send(b"x")
            gevent.sleep(0.005)

    dripping = gevent.spawn(drip)
    assert client.status(b"GET /") == 408
    dripping.kill()


def test_a_body_that_dribbles_is_told_408_though_it_never_pauses(client: Client) -> None:
    def drip() -> None:
        while True:
            client.sock.send(b"x")
            gevent.sleep(0.005)

    dripping = gevent.spawn(drip)
    head = POST.replace(b"10", b"1000000")
    assert client.status(head, timeouts=STRICT) == 408
    dripping.kill()


@pytest.mark.parametrize("already", [b"", b"GET / HT", POST + b"0123"])
@pytest.mark.parametrize("reset", [False, True])
def test_a_client_that_goes_is_told_from_a_silent_one(client: Client, already: bytes, reset: bool) -> None:
    if reset:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.sock.close()
    with pytest.raises(ClientDisconnected):
        client.request(already)


@pytest.mark.parametrize(
    ("already", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (POST.replace(b"10", b"11"), 413),
        (CHUNKED + b"6\r\nabcdef\r\n5\r\nabcde\r\n", 413),
        (CHUNKED + b"zz\r\n", 400),
    ],
)
def test_broken_rules_and_limits(client: Client, already: bytes, status: int) -> None:
    assert client.status(already, Limits(body=10)) == status


def test_no_room_for_the_body_is_told_507(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_spool: Spool, _data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Spool, "write", full)
    assert client.status(POST + b"0123456789") == 507


# -- the drain lane


def test_a_slow_client_gets_all_of_it(client: Client) -> None:
    data = bytes(range(256)) * 40_000
    sending = gevent.spawn(lanes.send_all, client.ours, data, PATIENT)
    gevent.sleep(0.005)
    assert client.reads(len(data)) == data
    sending.get()


def test_files_follow_each_other(client: Client) -> None:
    data = os.urandom(6_000_000)
    with tempfile.TemporaryFile() as one, tempfile.TemporaryFile() as two:
        one.write(data)
        two.write(b"0123456789")
        one.flush()
        two.flush()
        files = [(one.fileno(), 100, len(data) - 100), (two.fileno(), 2, 3)]
        sending = gevent.spawn(lanes.send_files, client.ours, files, PATIENT)
        assert client.reads(len(data) - 97) == data[100:] + b"234"
        sending.get()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux sends into a file")
def test_a_client_that_takes_everything_at_once_does_not_hold_the_others() -> None:
    """A file stands for it: the system never says that this one must be waited for."""
    turns = 0

    def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            gevent.sleep(0)

    with tempfile.TemporaryFile() as taker, tempfile.TemporaryFile() as file:
        file.truncate(3_000_000)
        other = gevent.spawn(take_turns)
        lanes.send_files(taker, [(file.fileno(), 0, 3_000_000)], PATIENT)  # type: ignore[arg-type]
        assert os.fstat(taker.fileno()).st_size == 3_000_000
        other.kill()
    assert turns > 5


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="this system cannot")
def test_little_of_a_file_waits_unsent_in_the_system(client: Client) -> None:
    def limit() -> int:
        return client.ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)

    before = limit()
    with tempfile.TemporaryFile() as file:
        file.truncate(20_000_000)
        sending = gevent.spawn(lanes.send_files, client.ours, [(file.fileno(), 0, 20_000_000)], PATIENT)
        gevent.sleep(0.001)
        assert limit() == lanes.MOST_UNSENT_BYTES != before
        client.reads(20_000_000)
        sending.get()
    assert limit() == before


def test_a_file_that_became_shorter_ends_the_connection(client: Client) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"abc")
        file.flush()
        with pytest.raises(ClientDisconnected, match="shorter"):
            lanes.send_files(client.ours, [(file.fileno(), 0, 5)], PATIENT)


def test_a_client_that_takes_nothing_is_given_up(client: Client) -> None:
    with pytest.raises(ClientDisconnected, match="too slowly"):
        lanes.send_all(client.ours, b"x" * 20_000_000, BRIEF)
    with tempfile.TemporaryFile() as file:
        file.truncate(20_000_000)
        with pytest.raises(ClientDisconnected, match="too slowly"):
            lanes.send_files(client.ours, [(file.fileno(), 0, 20_000_000)], BRIEF)


def test_a_client_that_takes_a_byte_now_and_then_is_given_up(client: Client) -> None:
    def sip() -> None:
        while True:
            client.sock.recv(1)
            gevent.sleep(0.005)

    client.sock.setblocking(True)
    sipping = gevent.spawn(sip)
    with pytest.raises(ClientDisconnected, match="too slowly"):
        lanes.send_all(client.ours, b"x" * 20_000_000, STRICT)
    sipping.kill()


def test_what_a_client_takes_counts_before_the_socket_is_writable_again(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket with a buffer of megabytes becomes writable when a third of it is free: for a steady client that is
    longer than the pause it may make."""
    now, looks, new = 0.0, 0, DeliveredBytes.new

    def look(delivered: DeliveredBytes) -> int:
        nonlocal looks
        looks += 1
        return new(delivered)

    monkeypatch.setattr(lanes, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(DeliveredBytes, "new", look)
    client.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    data = b"x" * (16 << 20)
    sending = gevent.spawn(lanes.send_all, client.ours, data, Timeouts(1.0, 1.0, drain=0.04, rate=1000.0))
    gevent.sleep(0.01)
    got = 0
    for _ in range(8):
        # Less would not always reach the other side: a window opens in steps.
        got += len(client.sock.recv(1 << 18))
        now, before = now + 0.02, looks
        while looks == before and not sending.ready():
            gevent.sleep(0.001)
    assert not sending.ready(), sending.exception
    client.reads(len(data) - got)
    sending.get()


def test_a_client_that_has_gone_ends_the_drain(client: Client) -> None:
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.sock.close()
    with pytest.raises(ClientDisconnected):
        lanes.send_all(client.ours, b"x" * 20_000_000, PATIENT)


# -- lingering


def test_the_client_reads_the_answer_though_it_goes_on_sending(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "LINGER_SECONDS", 60.0)
    client.sock.send(b"x" * 50_000)
    client.ours.send(b"HTTP/1.1 413 too large\r\n\r\n")
    lingering = gevent.spawn(lanes.linger, client.ours)
    assert client.reads(1000) == b"HTTP/1.1 413 too large\r\n\r\n"
    assert not lingering.ready()
    client.sock.close()
    lingering.join(5)
    assert lingering.ready()


def test_lingering_has_an_end_in_time_and_in_bytes(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "LINGER_SECONDS", 0.02)
    with gevent.Timeout(20):
        lanes.linger(client.ours)
    monkeypatch.setattr(lanes, "LINGER_SECONDS", 60.0)
    monkeypatch.setattr(lanes, "LINGER_BYTES", 10)
    client.sock.send(b"x" * 100)
    lanes.linger(client.ours)


def test_lingering_on_a_dead_connection_is_over_at_once(client: Client) -> None:
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.sock.close()
    lanes.linger(client.ours)
