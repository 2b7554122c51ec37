"""response_writer.py: a client that takes everything, one that takes little, one that goes away."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from appsrv.errors import ClientDisconnected, NoRoomForResponse
from appsrv.ipc.scoreboard import Scoreboard
from appsrv.worker.response_writer import ResponseBuffer, ResponseWriter

BIG = bytes(range(256)) * 8192  # 2 MiB: more than a socket takes at once


class Pair:
    """A writer with its client at the other end."""

    def __init__(self, buffer: ResponseBuffer | None = None) -> None:
        self.client, self.ours = socket.socketpair()
        self.ours.setblocking(False)
        self.client.settimeout(10)
        self.board = Scoreboard.create(1, 1)
        self.cell = self.board.slot(0).cell(0)
        self.writer = ResponseWriter(self.cell, buffer or ResponseBuffer())
        self.writer.sock = self.ours

    def received(self) -> bytes:
        """What the client can read now."""
        self.client.setblocking(False)
        got = b""
        try:
            while data := self.client.recv(1 << 20):
                got += data
        except BlockingIOError:
            pass
        return got

    def rest(self, inline: int = 1 << 16) -> bytes:
        """What is left for the drain lane, as the client would get it."""
        first, files = self.writer.rest(inline)
        return first + b"".join(os.pread(fd, length, offset) for fd, offset, length in files)

    def close(self) -> None:
        """Give everything back."""
        self.writer.forget()
        self.ours.close()
        self.client.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A writer and its client."""
    made = Pair()
    yield made
    made.close()


def test_a_quick_client_leaves_nothing_behind(pair: Pair) -> None:
    pair.writer.send(b"HTTP/1.1 200 OK\r\n\r\n")
    pair.writer.send(b"body")
    assert not pair.writer.pending
    assert pair.received() == b"HTTP/1.1 200 OK\r\n\r\nbody"


def test_the_first_byte_is_noted_before_it_leaves(pair: Pair) -> None:
    pair.cell.begin(7, 1.0)
    assert not pair.cell.read().response_begun
    pair.writer.send(b"x")
    assert pair.cell.read().response_begun
    pair.cell.begin(8, 1.0)
    pair.writer.sock = pair.ours
    assert not pair.cell.read().response_begun
    pair.writer.send(b"x")
    assert pair.cell.read().response_begun


@pytest.mark.parametrize("inline", [0, 1 << 22])
def test_a_slow_client_does_not_hold_the_worker(pair: Pair, inline: int) -> None:
    pair.writer.send(b"head")
    pair.writer.send(BIG)
    pair.writer.send(b"tail")
    assert pair.writer.pending
    rest = pair.rest(inline)
    assert pair.received() + rest == b"head" + BIG + b"tail"


def test_the_backlog_goes_on_as_the_client_takes_it(pair: Pair) -> None:
    pair.writer.send(BIG)
    got = pair.received()
    pair.writer.send(b"more")
    got += pair.received()
    assert got + pair.rest() == BIG + b"more"


def test_a_file_is_sent_without_reading_it(pair: Pair) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"0123456789")
        file.flush()
        pair.writer.sendfile(file.fileno(), 3, 4)
    assert not pair.writer.pending
    assert pair.received() == b"3456"


def test_the_rest_of_a_file_outlives_its_descriptor(pair: Pair) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(BIG)
        file.flush()
        pair.writer.sendfile(file.fileno(), 0, len(BIG))
    assert pair.writer.pending
    rest = pair.rest()
    assert pair.received() + rest == BIG


def test_a_file_after_a_backlog_waits_its_turn(pair: Pair) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"file")
        file.flush()
        pair.writer.send(BIG)
        pair.writer.sendfile(file.fileno(), 1, 3)
    rest = pair.rest()
    assert pair.received() + rest == BIG + b"ile"


def test_a_file_that_becomes_shorter_is_told(pair: Pair) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"abc")
        file.flush()
        with pytest.raises(EOFError):
            pair.writer.sendfile(file.fileno(), 0, 10)


def test_a_file_that_cannot_be_read_is_not_the_clients_fault(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    descriptor = os.open(tmp_path / "file", os.O_WRONLY)
    try:
        with pytest.raises(OSError, match="Bad file descriptor"):
            pair.writer.sendfile(descriptor, 0, 3)
    finally:
        os.close(descriptor)


def test_a_client_that_has_gone_is_told(pair: Pair) -> None:
    pair.client.close()
    with pytest.raises(ClientDisconnected):
        pair.writer.send(b"x")
    with tempfile.TemporaryFile() as file:
        file.write(b"abc")
        file.flush()
        with pytest.raises(ClientDisconnected):
            pair.writer.sendfile(file.fileno(), 0, 3)


def test_a_client_that_goes_with_a_backlog_is_told(pair: Pair) -> None:
    pair.writer.send(BIG)
    pair.client.close()
    with pytest.raises(ClientDisconnected):
        pair.writer.send(b"x")


def test_a_cut_drops_what_is_left(pair: Pair) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(BIG)
        file.flush()
        pair.writer.send(BIG)
        pair.writer.sendfile(file.fileno(), 0, len(BIG))
    _, files = pair.writer.rest(0)
    pair.writer.cut()
    assert not pair.writer.pending
    for fd, _, _ in files:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_a_response_larger_than_the_buffer_waits_for_its_client() -> None:
    pair = Pair(ResponseBuffer(size=64 * 1024))
    got = bytearray()

    def read() -> None:
        while data := pair.client.recv(1 << 16):
            got.extend(data)

    client = threading.Thread(target=read)
    client.start()
    for _ in range(3):
        pair.writer.send(BIG)
    first, files = pair.writer.rest(0)
    assert first == b""
    rest = b"".join(os.pread(fd, length, offset) for fd, offset, length in files)
    assert len(rest) <= 64 * 1024
    pair.ours.close()
    client.join(10)
    assert bytes(got) + rest == BIG * 3
    pair.close()


@pytest.mark.parametrize("sips", [0, 1])
def test_a_worker_does_not_wait_for_a_client_that_takes_nothing_or_next_to_nothing(sips: int) -> None:
    pair = Pair(ResponseBuffer(size=1024, pause=0.05, rate=1e9))
    over = threading.Event()

    def sip() -> None:
        while not over.wait(0.005):
            pair.client.recv(sips)

    client = threading.Thread(target=sip)
    client.start()
    with pytest.raises(ClientDisconnected, match="too slowly"):
        pair.writer.send(BIG)
    over.set()
    client.join(10)
    pair.close()


@contextlib.contextmanager
def small_files() -> Iterator[None]:
    """No file of this process may have more than 100,000 bytes: what a full disk does, too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, ignored)


def test_a_full_disk_ends_the_response_and_says_where_there_is_no_room(tmp_path: Path) -> None:
    pair = Pair(ResponseBuffer(memory=1000, directory=str(tmp_path)))
    with small_files(), pytest.raises(NoRoomForResponse, match=f"no room in {tmp_path} .* data_buffer_dir"):
        pair.writer.send(BIG)
    # An application that goes on all the same must not send what does not follow.
    with pytest.raises(NoRoomForResponse):
        pair.writer.send(b"x")
    pair.close()


def test_after_an_interim_response_a_crash_may_still_be_answered(pair: Pair) -> None:
    pair.writer.send_interim(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    assert pair.received() == b"HTTP/1.1 103 Early Hints\r\n\r\n"
    assert not pair.cell.read().response_begun
    pair.writer.send(b"HTTP/1.1 200 OK\r\n\r\n")
    assert pair.cell.read().response_begun


PATCHED = "import appsrv.system.unpatched\nfrom gevent import monkey\nmonkey.patch_all()\n"
_DEPARTED = """
import socket, time
from appsrv.errors import ClientDisconnected
from appsrv.ipc.scoreboard import Scoreboard
from appsrv.worker.response_writer import ResponseBuffer, ResponseWriter

listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
ours, _ = listener.accept()
ours.setblocking(False)
cell = Scoreboard.create(1, 1).slot(0).cell(0)
cell.begin(7, time.monotonic())
cell.mark_departed(7, gone=False)
writer = ResponseWriter(cell, ResponseBuffer())
writer.sock = ours
client.close()
try:
    writer.send_piece(b"5\\r\\nhello\\r\\n", True)
except ClientDisconnected as error:
    print(error)
"""


@pytest.mark.process
@pytest.mark.parametrize("patch", ["", PATCHED])
def test_the_reset_of_a_client_that_has_gone_ends_the_step_that_was_sent_to_it(patch: str) -> None:
    done = subprocess.run([sys.executable, "-c", patch + _DEPARTED], capture_output=True, text=True, check=True)
    assert done.stdout == "the client has disconnected\n"
