"""Clients that leave in the middle: `status` names their requests, and the application is told at its next step.

A client that has only closed its sending side gets its answer whole.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from integration.conftest import Serve
from support.certificates import make, trusting
from support.http import connect, send
from support.server import Server, Site, free_port
from support.waiting import wait_for

TOLD = ("events", "empty", "late", "write")
MODELS = {"threads": ("--threads", "8"), "greenlets": ("--concurrency-model", "gevent")}


def begin(server: Server, name: str, kind: str, version: str = "1.1") -> socket.socket:
    """A client whose request is being served and which has read what there is to read."""
    client = connect(server.address)
    client.sendall(f"GET /{name}?{kind} HTTP/{version}\r\nHost: a\r\n\r\n".encode())
    if kind not in ("late", "plain"):
        received = b""
        while b"begun\n" not in received or (version == "1.1" and not received.endswith(b"\r\n")):
            received += client.recv(1000)
    wait_for(lambda: state(server, name), f"the request for /{name}")
    return client


def state(server: Server, name: str) -> str:
    requests = send(server.admin_socket(), "GET", "/requests").json["requests"]
    return next((str(r.get("client_state")) for r in requests if r["path"] == f"/{name}"), "")


def step(site: Site) -> None:
    with open(site.directory / "step", "ab") as file:
        file.write(b"x")


def rest_of(client: socket.socket) -> bytes:
    received = b""
    while not received.endswith(b"0\r\n\r\n") and (data := client.recv(1000)):
        received += data
    return received


def closed(site: Site, name: str) -> Path:
    return site.directory / f"{name}.closed"


@pytest.mark.parametrize("model", MODELS)
def test_the_application_is_told_at_its_next_step(serve: Serve, site: Site, model: str) -> None:
    server = serve("departing", "--max-pool-size", "1", *MODELS[model])
    for kind in TOLD:
        begin(server, kind, kind).close()
    stays = begin(server, "stays", "events")
    for kind in TOLD:
        wait_for(lambda kind=kind: state(server, kind) == "gone", f"{kind} to be named")  # type: ignore[misc]
    assert site.command("status", "--show", "requests").stdout.count("client gone") == len(TOLD)
    assert not any(closed(site, kind).exists() for kind in TOLD)
    step(site)
    for kind in TOLD:
        wait_for(lambda kind=kind: closed(site, kind).exists(), f"{kind} to be told")  # type: ignore[misc]
    wait_for(lambda: server.workers()[0]["sessions"] == 1, "one request to be left")
    assert state(server, "stays") == "connected"
    step(site)
    step(site)
    assert rest_of(stays).endswith(b"5\r\nstep\n\r\n4\r\nend\n\r\n0\r\n\r\n")
    assert not closed(site, "stays").exists()
    stays.close()


def test_behind_tls(serve: Serve, site: Site, tmp_path: Path) -> None:
    certificate, key = make(tmp_path / "tls")
    port = free_port()
    server = serve(
        "departing", "--max-pool-size", "1", "--threads", "4",
        "--ssl-certificate", certificate, "--ssl-certificate-key", key, "--ssl-port", str(port),
    )
    for kind in ("empty", "late"):
        with connect(("127.0.0.1", port)) as plain:
            client = trusting(certificate).wrap_socket(plain, server_hostname="localhost")
            client.sendall(f"GET /{kind}?{kind} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            wait_for(lambda kind=kind: state(server, kind), f"the request for /{kind}")  # type: ignore[misc]
            # With anything unread, tickets of TLS among it, its system would send a reset.
            client.setblocking(False)
            with contextlib.suppress(ssl.SSLWantReadError):
                while True:
                    client.recv(1000)
            client.close()
    for kind in ("empty", "late"):
        wait_for(lambda kind=kind: state(server, kind) == "gone", f"{kind} to be named")  # type: ignore[misc]
    step(site)
    for kind in ("empty", "late"):
        wait_for(closed(site, kind).exists, f"{kind} to be told")


@pytest.mark.both_queues
def test_a_worker_with_one_thread_is_free_again(serve: Serve, site: Site) -> None:
    server = serve("departing", "--max-pool-size", "1")
    begin(server, "first", "empty").close()
    wait_for(lambda: state(server, "first") == "gone", "the departure")
    step(site)
    assert server.get("/").body.isdigit()
    assert closed(site, "first").exists()
    # A client that speaks HTTP/1.0 cannot be asked: the first piece it is sent tells.
    (site.directory / "step").unlink()
    begin(server, "old", "events", "1.0").close()
    wait_for(lambda: state(server, "old") == "half-closed", "the departure")
    step(site)
    wait_for(closed(site, "old").exists, "the application to be told")
    # A broken connection needs no question.
    (site.directory / "step").unlink()
    client = begin(server, "broken", "late", "1.0")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    wait_for(lambda: state(server, "broken") == "gone", "the departure")
    step(site)
    wait_for(closed(site, "broken").exists, "the application to be told")


@pytest.mark.parametrize("model", MODELS)
def test_who_only_sends_nothing_more_gets_the_whole_answer(serve: Serve, site: Site, model: str) -> None:
    server = serve("departing", "--max-pool-size", "1", *MODELS[model])
    kinds = ("events", "empty", "late", "write", "plain")
    clients = {kind: begin(server, kind, kind) for kind in kinds}
    for client in clients.values():
        client.shutdown(socket.SHUT_WR)
    for kind in kinds:
        wait_for(lambda kind=kind: state(server, kind) == "half-closed", f"the half-close of {kind}")  # type: ignore[misc]
    step(site)
    # What tells a client that has gone from one that waits is legal in a response: any client reads past it.
    plain = clients["plain"].recv(1000)
    while not plain.endswith(b"whole"):
        plain += clients["plain"].recv(1000)
    assert plain.startswith((b"HTTP/1.1 200 OK", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK"))
    step(site)
    step(site)
    for kind in kinds[:-1]:
        body = b"".join(line for line in rest_of(clients[kind]).split(b"\r\n") if line in (b"step\n", b"end\n"))
        assert body == (b"step\n" * 3 if kind == "events" else b"") + b"end\n", kind
        assert not closed(site, kind).exists()
    for client in clients.values():
        client.close()


def test_curl_that_is_killed_and_curl_that_reads_on(serve: Serve, site: Site) -> None:
    server = serve("departing", "--max-pool-size", "1", "--threads", "4")
    url = f"http://127.0.0.1:{server.address[1]}"
    curls = [
        subprocess.Popen(["curl", "-sN", f"{url}/{name}?{kind}"], stdout=subprocess.PIPE)
        for name, kind in (("killed", "events"), ("polls", "late"), ("reads", "events"))
    ]
    wait_for(lambda: all(state(server, name) for name in ("killed", "polls", "reads")), "the requests")
    for curl in curls[:2]:
        curl.kill()
        curl.communicate()
    wait_for(lambda: state(server, "killed") == "gone" and state(server, "polls") == "gone", "the departures")
    for _ in range(3):
        step(site)
    assert curls[2].communicate()[0] == b"begun\nstep\nstep\nstep\nend\n"
    for name in ("killed", "polls"):
        wait_for(closed(site, name).exists, f"{name} to be told")


def test_a_thread_that_comes_to_no_step_is_named_when_its_worker_ends(serve: Serve, site: Site) -> None:
    server = serve("departing", "--max-pool-size", "1", "--stop-timeout", "1")
    begin(server, "deaf", "deaf").close()
    wait_for(lambda: state(server, "deaf") == "gone", "the departure")
    server.stop(signal.SIGTERM)
    assert "still serves GET /deaf, whose client has disconnected" in server.log()
    assert "was serving GET /deaf, whose client had disconnected, for" in server.log()
