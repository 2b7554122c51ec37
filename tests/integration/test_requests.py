"""HTTP and PEP 3333 through the real server, on each ready queue."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from integration.conftest import Serve, Share
from support.http import exchange_bytes
from support.server import Server
from support.waiting import wait_for

pytestmark = pytest.mark.both_queues
MIB = 2**20


@pytest.fixture
def validated(share: Share) -> Server:
    return share("validated")


@pytest.fixture
def echo(share: Share) -> Server:
    return share("echo")


@pytest.fixture
def narrow(share: Share) -> Server:
    """With one worker, for small bodies."""
    return share("echo", "--max-pool-size", "1", "--max-body-size", "1000")


@pytest.fixture
def streaming(share: Share) -> Server:
    server = share("streaming")
    if not (download := server.site.directory / "download.bin").exists():
        download.write_text("x" * (3 * MIB))
    return server


# -- the validator is content ------------------------------------------------------------------------------


def test_validator_accepts_every_kind_of_request(validated: Server) -> None:
    assert validated.get("/").text == "GET 0"
    assert validated.get("/a%20path?with=query&empty=").text == "GET 0"
    head = validated.request("HEAD", "/")
    assert (head.status, head.body) == (200, b"")
    assert validated.request("POST", "/", b"x" * 1000).text == "POST 1000"
    assert validated.request("PUT", "/", b"x" * (2 * MIB)).text == f"PUT {2 * MIB}"
    assert validated.request("DELETE", "/").text == "DELETE 0"


def test_validator_accepts_streams_write_and_lines(validated: Server) -> None:
    assert validated.get("/stream").text == "one two three"
    assert validated.get("/write").text == "written returned"
    assert validated.request("POST", "/lines", b"a\nb\nc").text == "3"


# -- requests ----------------------------------------------------------------------------------------------


def pieces(count: int) -> Iterator[bytes]:
    for number in range(count):
        yield b"%06d" % number


def test_chunked_body_has_a_content_length_once_spooled(echo: Server) -> None:
    reply = echo.request("POST", "/", pieces(1000))
    assert reply.status == 200, reply.text
    assert reply.json["size"] == 6000
    assert reply.json["sha256"] == hashlib.sha256(b"".join(pieces(1000))).hexdigest()
    assert reply.json["environ"]["CONTENT_LENGTH"] == "6000"
    assert "HTTP_TRANSFER_ENCODING" not in reply.json["environ"]


def test_upload_arrives_whole(echo: Server) -> None:
    body = bytes(range(256)) * (20 * MIB // 256)
    reply = echo.request("POST", "/", body)
    assert (reply.json["size"], reply.json["sha256"]) == (len(body), hashlib.sha256(body).hexdigest())


def test_environ(echo: Server) -> None:
    headers = {"X-Several": "words", "Cookie": "a=b"}
    environ = echo.get("/caf%C3%A9/%2F?a=1%202", headers).json["environ"]
    assert environ["REQUEST_METHOD"] == "GET"
    assert environ["PATH_INFO"].encode("latin-1").decode() == "/café//"
    assert environ["QUERY_STRING"] == "a=1%202"
    assert environ["RAW_URI"] == environ["REQUEST_URI"] == "/caf%C3%A9/%2F?a=1%202"
    assert environ["SCRIPT_NAME"] == ""
    assert environ["HTTP_X_SEVERAL"] == "words"
    assert environ["REMOTE_ADDR"] == "127.0.0.1"
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert isinstance(echo.address, tuple)
    assert environ["SERVER_PORT"] == str(echo.address[1])
    assert environ["wsgi.multiprocess"] is True
    assert environ["wsgi.multithread"] is False
    assert environ["wsgi.input_terminated"] is True


def test_header_with_underscore_is_dropped(echo: Server) -> None:
    request = b"GET / HTTP/1.1\r\nHost: x\r\nX_Spoofed: 1\r\nX-Real: 2\r\nConnection: close\r\n\r\n"
    answer = exchange_bytes(echo.address, request).data
    assert b"HTTP_X_SPOOFED" not in answer
    assert b"HTTP_X_REAL" in answer


def test_request_in_single_bytes(echo: Server) -> None:
    with echo.raw() as connection:
        for byte in b"POST /slowly HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc":
            connection.send(bytes([byte]))
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'"size": 3' in answer


def test_slow_client_does_not_hold_the_only_worker(narrow: Server) -> None:
    with narrow.raw() as slow:
        slow.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
        assert narrow.get("/").status == 200
        slow.sendall(b" whole")
        assert slow.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_pipelined_requests_are_answered_in_order(echo: Server) -> None:
    first = b"GET /first HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = exchange_bytes(echo.address, first + first + last).data
    assert answer.count(b"HTTP/1.1 200 ") == 3
    assert answer.index(b'"/first"') < answer.index(b'"/last"')


def test_expect_100_continue(echo: Server) -> None:
    with echo.raw() as connection:
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n"
        connection.sendall(head + b"Connection: close\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.sendall(b"body")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert b'"size": 4' in answer


BAD = {
    "nonsense": (b"nonsense\r\n\r\n", 400),
    "no-host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "both-lengths": (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "negative": (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
    "version": (b"GET / HTTP/3.7\r\nHost: x\r\n\r\n", 505),
    "long-target": (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    "many-headers": (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-Many: 1\r\n" * 2000 + b"\r\n", 431),
}


def test_bad_request_is_refused_and_closed(echo: Server) -> None:
    answers = {name: exchange_bytes(echo.address, request).data for name, (request, _) in BAD.items()}
    wrong = {name: answers[name][:200] for name, (_, status) in BAD.items() if not is_of(status, answers[name])}
    assert wrong == {}
    assert echo.get("/").status == 200


def is_of(status: int, answer: bytes) -> bool:
    return answer.startswith(b"HTTP/1.1 %d " % status)


def test_body_over_the_limit_is_refused(narrow: Server) -> None:
    request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n"
    assert exchange_bytes(narrow.address, request).data.startswith(b"HTTP/1.1 413 ")


# -- responses ---------------------------------------------------------------------------------------------


def test_streamed_and_written_bodies(streaming: Server) -> None:
    generated = streaming.get("/generated")
    assert generated.text == "".join(f"part {number}\n" for number in range(10))
    assert generated.headers["Transfer-Encoding"] == "chunked"
    assert streaming.get("/written").text == "written twice and returned"


def test_stream_to_http_1_0_ends_with_the_connection(streaming: Server) -> None:
    answer = exchange_bytes(streaming.address, b"GET /generated HTTP/1.0\r\n\r\n").data
    assert b"chunked" not in answer.lower()
    assert answer.endswith(b"part 9\n")


def test_files(streaming: Server) -> None:
    reply = streaming.get("/file")
    assert (len(reply.body), set(reply.body)) == (3 * MIB, {ord("x")})
    assert streaming.get("/memory").text == "in memory"


def test_response_without_body(streaming: Server) -> None:
    with_body = streaming.keep_alive()
    assert with_body.exchange("GET", "/empty").status == 204
    head = with_body.exchange("HEAD", "/file")
    assert (head.headers["Content-Length"], head.body) == (str(3 * MIB), b"")
    assert with_body.exchange("GET", "/memory").text == "in memory"
    with_body.close()


def test_close_is_called_once(streaming: Server) -> None:
    assert streaming.get("/closed").text == "closed"
    mark = streaming.site.directory / "closed"
    wait_for(lambda: mark.exists() and mark.stat().st_size, "close()")
    assert streaming.get("/").status == 200
    assert mark.read_text() == "closed\n"


def test_failure_before_start_response_is_a_500(share: Share) -> None:
    server = share("crashing")
    connection = server.keep_alive()
    for target in ("/raise", "/system-exit"):
        reply = connection.exchange("GET", target)
        assert reply.status == 500
        assert "raised before" not in reply.text, "no traceback in production"
    assert connection.exchange("GET", "/").status == 200
    connection.close()
    server.wait_log("ValueError: raised before start_response")


def test_failure_midway_never_looks_complete(streaming: Server) -> None:
    chunked = exchange_bytes(streaming.address, b"GET /fails HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"the first half" in chunked.data
    assert not chunked.data.endswith(b"0\r\n\r\n")
    until_close = exchange_bytes(streaming.address, b"GET /fails HTTP/1.0\r\n\r\n")
    assert b"the first half" in until_close.data
    assert until_close.reset, "to an HTTP/1.0 client a plain close means: that was all"
    streaming.wait_log("ValueError: raised after the first half")


def test_body_shorter_than_announced(streaming: Server) -> None:
    reply = streaming.get("/short")
    assert reply.status == 500, "nothing was sent yet when it showed"
    begun = exchange_bytes(streaming.address, b"GET /short-stream HTTP/1.1\r\nHost: x\r\n\r\n")
    assert begun.data.endswith(b"short, in parts")
    streaming.wait_log("15 of 100 bytes")


def test_body_longer_than_announced(streaming: Server) -> None:
    both = (
        b"GET /long HTTP/1.1\r\nHost: x\r\n\r\nGET /memory HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    answer = exchange_bytes(streaming.address, both).data
    assert b"\r\n\r\nexactHTTP/1.1 200 OK" in answer
    assert b"more" not in answer


def test_header_cannot_be_split(streaming: Server) -> None:
    reply = streaming.get("/split")
    assert reply.status == 500
    assert reply.headers["Set-Cookie"] is None


# -- connections -------------------------------------------------------------------------------------------


def test_keep_alive_over_many_requests(echo: Server) -> None:
    connection = echo.keep_alive()
    for number in range(100):
        assert connection.exchange("GET", f"/{number}").json["environ"]["PATH_INFO"] == f"/{number}"
    connection.close()


def test_connection_close_is_honoured(echo: Server) -> None:
    request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert b"connection: close" in exchange_bytes(echo.address, request).data.lower()


def test_client_that_leaves_does_no_harm(echo: Server) -> None:
    for cut in (b"", b"GET / HT", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"):
        with echo.raw() as connection:
            connection.sendall(cut)
    assert echo.get("/").status == 200


def test_requests_go_to_all_workers(serve: Serve) -> None:
    server = serve("holding", "--max-pool-size", "3", "--min-instances", "3")
    pids = server.wait_workers(3)
    connections = [server.keep_alive() for _ in range(3)]
    for number, connection in enumerate(connections):
        connection.request("GET", f"/hold?name=h{number}")
    begun = [server.site.directory / f"h{number}.begun" for number in range(3)]
    for mark in begun:
        wait_for(mark.exists, f"{mark.name}: three requests at once in three workers")
    for number in range(3):
        server.site.write(f"h{number}.release", "")
    assert {int(connection.getresponse().read()) for connection in connections} == pids
    for connection in connections:
        connection.close()
