"""environ.py: what PEP 3333 and the applications that rely on more find in the environ."""

from __future__ import annotations

import io
from typing import Any

import pytest

from appsrv.http.head import Limits, parse_head
from appsrv.wsgi.environ import Environ, build_environ, environ_base


def base_of(**changes: Any) -> Environ:
    known: dict[str, Any] = {
        "server_name": "127.0.0.1",
        "server_port": 8000,
        "multithread": False,
        "multiprocess": True,
        "errors": io.StringIO(),
    }
    return environ_base(**(known | changes))


def environ_of(text: str, base: Environ | None = None, content_length: int | None = None) -> Environ:
    parsed = parse_head(text.encode("latin-1"), Limits())
    assert parsed is not None
    stream = io.BytesIO()
    environ = build_environ(
        base or base_of(),
        parsed[0],
        input=stream,
        content_length=content_length,
        remote_addr="192.0.2.1",
        remote_port="4711",
    )
    assert environ["wsgi.input"] is stream
    return environ


def get(target: str, host: str = "a.example", base: Environ | None = None) -> Environ:
    return environ_of(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n", base)


def test_the_whole_environ() -> None:
    environ = environ_of(
        "POST /a%20b?c=%20 HTTP/1.1\r\nHost: a.example\r\nContent-Type: x/y\r\nContent-Length: 3\r\n\r\n",
        base_of(software="appsrv/1"),
        content_length=3,
    )
    for key in ("wsgi.errors", "wsgi.input", "wsgi.file_wrapper"):
        del environ[key]
    assert environ == {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/a b",
        "QUERY_STRING": "c=%20",
        "RAW_URI": "/a%20b?c=%20",
        "REQUEST_URI": "/a%20b?c=%20",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "appsrv/1",
        "REMOTE_ADDR": "192.0.2.1",
        "REMOTE_PORT": "4711",
        "HTTP_HOST": "a.example",
        "CONTENT_TYPE": "x/y",
        "CONTENT_LENGTH": "3",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    }


def test_one_request_leaves_nothing_to_the_next() -> None:
    base = base_of()
    before = dict(base)
    environ_of("GET /x HTTP/1.0\r\nX-A: b\r\n\r\n", base)["mine"] = True
    assert base == before
    environ = get("/", base=base)
    assert (environ["SERVER_PROTOCOL"], environ.get("HTTP_X_A"), environ.get("mine")) == ("HTTP/1.1", None, None)


@pytest.mark.parametrize(
    ("path", "script_name", "path_info"),
    [
        ("/shop/cart", "/shop", "/cart"),
        ("/shop/", "/shop", "/"),
        ("/shop", "/shop", ""),
        ("/sh%6Fp/a%2Fb", "/shop", "/a/b"),
        ("/shopping", "/shop", "/shopping"),
        ("/other", "/shop", "/other"),
        ("http://b.example/shop/x", "/shop", "/x"),
    ],
)
def test_a_mount_point_is_taken_off_the_path(path: str, script_name: str, path_info: str) -> None:
    environ = get(path, base=base_of(script_name=script_name))
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (script_name, path_info)


@pytest.mark.parametrize(
    ("host", "scheme", "name", "port"),
    [
        ("a.example", "http", "a.example", "80"),
        ("a.example", "https", "a.example", "443"),
        ("a.example:8080", "http", "a.example", "8080"),
        ("a.example:", "http", "a.example", "80"),
        ("[::1]", "http", "[::1]", "80"),
        ("[::1]:81", "http", "[::1]", "81"),
    ],
)
def test_on_a_unix_socket_the_host_names_the_server(host: str, scheme: str, name: str, port: str) -> None:
    environ = get("/", host, base_of(server_name=None, server_port=None, url_scheme=scheme))
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == (name, port)


def test_on_a_unix_socket_without_a_host() -> None:
    environ = environ_of("GET / HTTP/1.0\r\n\r\n", base_of(server_name=None, server_port=None))
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("localhost", "80")


def test_https() -> None:
    environ = get("/", base=base_of(url_scheme="https"))
    assert (environ["wsgi.url_scheme"], environ["HTTPS"]) == ("https", "on")


def test_a_chunked_body_is_known_by_its_length_once_it_is_spooled() -> None:
    text = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    environ = environ_of(text, content_length=42)
    assert environ["CONTENT_LENGTH"] == "42"
    assert "HTTP_TRANSFER_ENCODING" not in environ
