"""A server that does by its path what servers should not, or seldom do. Needs nothing but Python.

    python hostile.py        listens on $SOCKET, or $PORT of this machine

HOSTILE=never: does not listen. HOSTILE=stubborn: ignores SIGTERM. HOSTILE=broken: ends with exit code 3.
HOSTILE=impatient: closes a connection that was idle for 0.3 s as soon as the next request comes, without an answer.
HOSTILE=tidy: takes longer than a moment to put away what it has, at SIGTERM, and says so when it has.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable

HOW = os.environ.get("HOSTILE", "")


class Client:
    """One connection, read byte by byte where it matters."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = b""

    def line(self) -> bytes:
        while b"\n" not in self.buffer:
            self.more()
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line + b"\n"

    def more(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError
        self.buffer += data

    def head(self) -> bytes:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.line()
        return head

    def take(self, count: int) -> bytes:
        while len(self.buffer) < count:
            self.more()
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def body(self, head: bytes) -> bytes:
        fields = fields_of(head)
        if "transfer-encoding" not in fields:
            return self.take(int(fields.get("content-length", 0)))
        body = b""
        while size := int(self.line(), 16):
            body += self.take(size)
            self.line()
        self.line()
        return body

    def answer(self, body: bytes, *fields: str, status: str = "200 OK") -> None:
        lines = [f"HTTP/1.1 {status}", *fields, f"Content-Length: {len(body)}"]
        self.sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


def fields_of(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:-2]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


RAW = {
    "/broken/lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabcde",
    "/broken/both": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "/broken/chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
    "/broken/line": b"HTTP/1.1 200 OK\r\nthis is no field\r\n\r\n",
    "/broken/garbage": b"I am not a web server\r\n\r\n",
    "/broken/version": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "/broken/huge": b"HTTP/1.1 200 OK\r\nContent-Length: 1234567890123456789\r\n\r\n",
    "/broken/silent": b"",
    "/broken/half-head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "/broken/status": b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
}


def raw(client: Client, head: bytes, path: str) -> None:
    client.body(head)
    client.sock.sendall(RAW[path])
    raise EOFError


def short(client: Client, _head: bytes, _path: str) -> None:
    client.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 10)
    raise EOFError


def late_chunk(client: Client, _head: bytes, _path: str) -> None:
    client.sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    time.sleep(0.2)
    client.sock.sendall(b"not a size\r\n")
    raise EOFError


def echo_head(client: Client, head: bytes, _path: str) -> None:
    client.body(head)
    own = ("Keep-Alive: timeout=5", "Connection: x-mine", "X-Mine: y")
    client.answer(head, "Set-Cookie: a=1", "Set-Cookie: b=2", "X-oDD-cAse: kept", *own)


def echo_body(client: Client, head: bytes, _path: str) -> None:
    client.answer(client.body(head))


def hints(client: Client, _head: bytes, _path: str) -> None:
    client.sock.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n")
    client.sock.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")
    client.answer(b"done")


def fickle(client: Client, head: bytes, _path: str) -> None:
    """Answers, and closes a moment later what it has said to keep; then it leaves word of it in the file `closed`."""
    client.body(head)
    client.answer(b"%d" % os.getpid())
    client.sock.close()
    with open("closed", "a", encoding="ascii") as file:
        file.write(".")
    raise EOFError


def nap(client: Client, head: bytes, path: str) -> None:
    client.body(head)
    time.sleep(float(path.partition("?")[2]))
    client.answer(b"%d" % os.getpid())


def hold(client: Client, head: bytes, path: str) -> None:
    """Creates a file of the name behind the question mark with `.begun`, and answers once there is one of the name."""
    client.body(head)
    name = path.partition("?")[2]
    with open(f"{name}.begun", "w"):
        pass
    while not os.path.exists(name):
        time.sleep(0.002)
    client.answer(b"%d" % os.getpid())


def die(client: Client, _head: bytes, path: str) -> None:
    print("it is time to go", file=sys.stderr, flush=True)
    os._exit(int(path.partition("?")[2]))


def last_words(client: Client, head: bytes, path: str) -> None:
    """Answers, and is gone as soon as the kernel has the last of it."""
    client.body(head)
    client.answer(bytes(int(path.partition("?")[2])))
    os._exit(0)


def leave(client: Client, head: bytes, _path: str) -> None:
    """Answers, and a moment later the whole program ends as if it had done its work."""
    client.body(head)
    client.answer(b"%d" % os.getpid())
    time.sleep(0.3)
    os._exit(0)


def die_midway(client: Client, _head: bytes, _path: str) -> None:
    client.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 10)
    time.sleep(0.2)
    os._exit(9)


def crash(client: Client, _head: bytes, _path: str) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def stream(client: Client, _head: bytes, path: str) -> None:
    """Sends the head at once and then, now and then, nothing; notes when its reader has left."""
    client.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    try:
        client.more()
    except (EOFError, OSError):
        print("the reader has left", flush=True)
        raise


def upgrade(client: Client, head: bytes, _path: str) -> None:
    """Another protocol: says everything back, and at the end of the other side, goodbye."""
    protocol = fields_of(head).get("upgrade", "")
    if not protocol:
        client.answer(b"ask", "Upgrade: echo", "Connection: Upgrade, close", status="426 Upgrade Required")
        return
    lines = ("HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", f"Upgrade: {protocol}", "", "hello ")
    client.sock.sendall("\r\n".join(lines).encode())
    try:
        while True:
            if client.buffer:
                client.sock.sendall(client.buffer)
            client.buffer = b""
            client.more()
    except EOFError:
        client.sock.sendall(b" goodbye")
        raise


def unasked(client: Client, _head: bytes, _path: str) -> None:
    client.sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
    raise EOFError


def refuse_early(client: Client, _head: bytes, _path: str) -> None:
    """Answers without reading the body."""
    client.answer(b"too large for me", "Connection: close", status="413 Payload Too Large")
    raise EOFError


def duplex(client: Client, head: bytes, _path: str) -> None:
    """Answers each chunk of a request as it comes."""
    if "100-continue" in fields_of(head).get("expect", ""):
        client.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    client.sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while size := int(client.line(), 16):
        data = client.take(size)
        client.line()
        client.sock.sendall(b"%x\r\n%b\r\n" % (len(data), data))
    client.line()
    client.sock.sendall(b"0\r\n\r\n")


def until_close(client: Client, _head: bytes, _path: str) -> None:
    """As HTTP/1.0 did: the end of the body is the end of the connection."""
    client.sock.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nold and whole")
    raise EOFError


def big(client: Client, _head: bytes, path: str) -> None:
    count = int(path.partition("?")[2])
    client.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % count)
    piece = bytes(range(256)) * 256
    while count > 0:
        client.sock.sendall(piece[:count])
        count -= len(piece)


def environment(client: Client, _head: bytes, _path: str) -> None:
    client.answer("\n".join(f"{name}={value}" for name, value in sorted(os.environ.items())).encode())


def pid(client: Client, head: bytes, _path: str) -> None:
    client.body(head)
    client.answer(b"%d" % os.getpid())


Answer = Callable[[Client, bytes, str], None]
ANSWERS: dict[str, Answer] = {
    **dict.fromkeys(RAW, raw), "/broken/short": short, "/broken/late": late_chunk, "/head": echo_head,
    "/body": echo_body, "/hints": hints, "/fickle": fickle, "/sleep": nap, "/hold": hold, "/die": die,
    "/die-midway": die_midway,
    "/leave": leave, "/last-words": last_words, "/crash": crash, "/stream": stream, "/upgrade": upgrade,
    "/unasked": unasked, "/early": refuse_early, "/duplex": duplex, "/old": until_close, "/big": big,
    "/environment": environment,
}  # fmt: skip


def serve(sock: socket.socket) -> None:
    client = Client(sock)
    answered = time.monotonic()
    try:
        while True:
            if not client.buffer:
                client.more()
            if HOW == "impatient" and time.monotonic() - answered > 0.3:
                raise EOFError
            head = client.head()
            path = head.split(b" ")[1].decode("latin-1")
            ANSWERS.get(path.partition("?")[0], pid)(client, head, path)
            answered = time.monotonic()
    except (EOFError, OSError):
        sock.close()


def put_away(_signal: int, _frame: object) -> None:
    time.sleep(1.5)
    print("everything is put away", flush=True)
    os._exit(0)


def main() -> None:
    if HOW == "broken":
        print("there is something wrong with me", file=sys.stderr)
        sys.exit(3)
    if HOW == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if HOW == "tidy":
        signal.signal(signal.SIGTERM, put_away)
    if HOW == "never":
        time.sleep(600)
    if os.environ.get("SOCKET"):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(os.environ["SOCKET"])
    else:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", int(os.environ["PORT"])))
    listener.listen(128)
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=serve, args=(sock,), daemon=True).start()


if __name__ == "__main__":
    main()
