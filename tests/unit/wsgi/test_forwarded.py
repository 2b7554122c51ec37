"""forwarded.py: whom an application takes for its client, behind proxies that tell the truth and clients that lie."""

from __future__ import annotations

import io
from typing import Any

import pytest

from appsrv.errors import RequestError
from appsrv.http.head import parse_head
from appsrv.http.syntax import FORWARDING, Limits
from appsrv.http.trusted_proxies import TrustedProxies
from appsrv.wsgi import forwarded
from appsrv.wsgi.environ import Environ, build_environ, environ_base

# One proxy beside us, a network of them in front, as `--forwarded-allow-ips 127.0.0.1,10.0.0.0/8,fd00::/8,unix`.
OURS = TrustedProxies(["127.0.0.1", "10.0.0.0/8", "fd00::/8", "unix"])


def seen(
    *lines: str, peer: str = "127.0.0.1", target: str = "/", host: str = "in.example", proxies: TrustedProxies = OURS
) -> Environ:
    """The environ of a request with these header lines, as the worker makes it."""
    text = f"GET {target} HTTP/1.1\r\nHost: {host}\r\n" + "".join(f"{line}\r\n" for line in lines) + "\r\n"
    parsed = parse_head(text.encode("latin-1"), Limits())
    assert parsed is not None
    head = parsed[0]
    assert head.forwarded
    base = environ_base(
        server_name="127.0.0.1", server_port=8000, multithread=False, multiprocess=True, errors=io.StringIO()
    )
    environ = build_environ(base, head, io.BytesIO(), None, peer, "4711")
    forwarded.apply(environ, proxies)
    return environ


def client(*lines: str, **how: Any) -> tuple[str, str]:
    environ = seen(*lines, **how)
    return environ["REMOTE_ADDR"], environ["REMOTE_PORT"]


# -- whose headers ---------------------------------------------------------------------------------------------------


def test_a_strangers_headers_are_removed() -> None:
    lines = [f"{name.removeprefix('HTTP_').replace('_', '-')}: 192.0.2.66" for name in sorted(FORWARDING)]
    environ = seen(*lines, "X-Other: 1", peer="203.0.113.5")
    assert FORWARDING.isdisjoint(environ)
    assert environ["HTTP_X_OTHER"] == "1"
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == ("203.0.113.5", "4711")
    assert (environ["wsgi.url_scheme"], environ["SERVER_PORT"], environ["HTTP_HOST"]) == ("http", "8000", "in.example")


def test_a_trusted_proxys_headers_stay_visible() -> None:
    environ = seen("X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https", "X-Real-IP: 192.0.2.1")
    assert environ["HTTP_X_FORWARDED_FOR"] == environ["HTTP_X_REAL_IP"] == "192.0.2.1"
    assert environ["HTTP_X_FORWARDED_PROTO"] == "https"


@pytest.mark.parametrize(
    ("entries", "peer", "trusted"),
    [
        (["127.0.0.0/8"], "127.3.2.1", True),
        (["127.0.0.0/8"], "128.0.0.1", False),
        (["127.0.0.0/8"], "::ffff:127.0.0.1", True),
        (["::1"], "::1", True),
        (["::1"], "::2", False),
        (["fd00::/9"], "fd7f::1", True),
        (["fd00::/9"], "fd80::1", False),
        (["0.0.0.0/0"], "8.8.8.8", True),
        (["0.0.0.0/0"], "::1", False),
        (["0.0.0.0/0"], "", False),
        (["unix"], "", True),
        (["127.0.0.1"], "", False),
        (["*"], "", True),
        (["*"], "2001:db8::1", True),
        ([], "127.0.0.1", False),
    ],
)
def test_who_is_trusted(entries: list[str], peer: str, trusted: bool) -> None:
    assert TrustedProxies(entries).peer(peer) is trusted


def test_everybody_is_no_network() -> None:
    everybody = TrustedProxies(["*"])
    assert not everybody.hop("192.0.2.1")
    assert not TrustedProxies(["*"], carried=True).peer("192.0.2.1")
    assert not TrustedProxies(["*", "unix"], carried=True).peer("")
    # A client in front of one proxy cannot choose its address by sending the header itself.
    assert client("X-Forwarded-For: 6.6.6.6, 192.0.2.1", peer="172.16.0.1", proxies=everybody)[0] == "192.0.2.1"


# -- X-Forwarded-For -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("192.0.2.1", ("192.0.2.1", "")),
        ("192.0.2.1:50123", ("192.0.2.1", "50123")),
        ("2001:DB8::1", ("2001:db8::1", "")),
        ("[2001:db8::1]", ("2001:db8::1", "")),
        ("[2001:db8::1]:443", ("2001:db8::1", "443")),
        ('"[2001:db8::1]:443"', ("2001:db8::1", "443")),
        ("::ffff:192.0.2.1", ("192.0.2.1", "")),
        # Lists: the rightmost address that is not ours.
        ("6.6.6.6, 192.0.2.1", ("192.0.2.1", "")),
        ("6.6.6.6, 192.0.2.1, 10.1.2.3", ("192.0.2.1", "")),
        ("192.0.2.1, 10.1.2.3, fd00::5, 127.0.0.1", ("192.0.2.1", "")),
        ("6.6.6.6,192.0.2.1:9,::ffff:10.0.0.1", ("192.0.2.1", "9")),
        ("10.9.9.9, 10.1.2.3", ("10.9.9.9", "")),
        (", 192.0.2.1 ,, ,10.1.2.3,", ("192.0.2.1", "")),
        ("\t192.0.2.1\t", ("192.0.2.1", "")),
        # What a trusted proxy knows no address of.
        ("192.0.2.1, unknown, 10.1.2.3", ("", "")),
        ("192.0.2.1, _hidden", ("", "")),
        ("unknown", ("", "")),
        ("unknown, 192.0.2.1", ("192.0.2.1", "")),
        # What is no address is never shown to the application as one.
        ("<script>", ("", "")),
        ("127.0.0.1, localhost", ("", "")),
        ("127.1", ("", "")),
        ("010.0.0.1", ("", "")),
        ("2130706433", ("", "")),
        ("1.2.3.4.5", ("", "")),
        ("192.0.2.1:99999", ("", "")),
        ("192.0.2.1:", ("", "")),
        ("192.0.2.1:-1", ("", "")),
        ("[192.0.2.1", ("", "")),
        ("[192.0.2.1]", ("192.0.2.1", "")),
        ("fe80::1%eth0", ("", "")),
        ("[::1", ("", "")),
        ("::1]:80", ("", "")),
        ("1::2::3", ("", "")),
        ("192.0.2.1 10.1.2.3", ("", "")),
        ("192.0.2.1;10.1.2.3", ("", "")),
        ('"', ("", "")),
        ('"192.0.2.1', ("", "")),
        ("\xb9\xb2.0.2.1", ("", "")),
        # Nothing is said: it is the proxy itself.
        (" , ,", ("127.0.0.1", "4711")),
    ],
)
def test_the_client(value: str, expected: tuple[str, str]) -> None:
    assert client(f"X-Forwarded-For: {value}") == expected


def test_several_lines_are_one_list() -> None:
    lines = [f"X-Forwarded-For: {address}" for address in ("6.6.6.6", "192.0.2.1", "10.0.0.1")]
    assert client(*lines)[0] == "192.0.2.1"


def test_a_long_list_is_read_from_its_right_end() -> None:
    assert client("X-Forwarded-For: " + "1," * 7000 + "192.0.2.1")[0] == "192.0.2.1"


def test_on_a_unix_socket() -> None:
    assert client("X-Forwarded-For: 192.0.2.1", peer="") == ("192.0.2.1", "")
    assert client("X-Forwarded-Proto: https", peer="") == ("", "4711")


# -- scheme, host, port ----------------------------------------------------------------------------------------------


def place(*lines: str, **how: Any) -> tuple[str, str | None, str, str, str]:
    environ = seen(*lines, **how)
    names = ("HTTP_HOST", "SERVER_NAME", "SERVER_PORT")
    return (environ["wsgi.url_scheme"], environ.get("HTTPS"), *(environ[name] for name in names))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["X-Forwarded-For: 192.0.2.1"], ("http", None, "in.example", "127.0.0.1", "8000")),
        (["X-Forwarded-Proto: https"], ("https", "on", "in.example", "in.example", "443")),
        (["X-Forwarded-Proto: HTTPS"], ("https", "on", "in.example", "in.example", "443")),
        (["X-Forwarded-Proto: wss"], ("https", "on", "in.example", "in.example", "443")),
        (["X-Forwarded-Proto: http"], ("http", None, "in.example", "in.example", "80")),
        (["X-Forwarded-Proto: , ,"], ("http", None, "in.example", "127.0.0.1", "8000")),
        (["X-Forwarded-Proto:"], ("http", None, "in.example", "127.0.0.1", "8000")),
        (["X-Forwarded-Ssl: on"], ("https", "on", "in.example", "in.example", "443")),
        (["X-Forwarded-Protocol: ssl"], ("https", "on", "in.example", "in.example", "443")),
        (["X-Forwarded-Scheme: https", "X-Scheme: https"], ("https", "on", "in.example", "in.example", "443")),
        (["Front-End-Https: on"], ("https", "on", "in.example", "in.example", "443")),
        (["X-Forwarded-Host: shop.example"], ("http", None, "shop.example", "shop.example", "80")),
        (["X-Forwarded-Host: shop.example:81"], ("http", None, "shop.example:81", "shop.example", "81")),
        (["X-Forwarded-Host: [2001:db8::1]"], ("http", None, "[2001:db8::1]", "[2001:db8::1]", "80")),
        (["X-Forwarded-Port: 8443"], ("http", None, "in.example", "127.0.0.1", "8443")),
        (
            ["X-Forwarded-Proto: https", "X-Forwarded-Host: shop.example", "X-Forwarded-Port: 8443"],
            ("https", "on", "shop.example", "shop.example", "8443"),
        ),
        # Counted from the right, as many as X-Forwarded-For has proxies of ours.
        (
            ["X-Forwarded-For: 6.6.6.6, 192.0.2.1", "X-Forwarded-Proto: https, http"],
            ("http", None, "in.example", "in.example", "80"),
        ),
        (
            ["X-Forwarded-For: 192.0.2.1, 10.0.0.1", "X-Forwarded-Proto: https, http"],
            ("https", "on", "in.example", "in.example", "443"),
        ),
        (
            ["X-Forwarded-For: 192.0.2.1, 10.0.0.1", "X-Forwarded-Proto: https"],
            ("https", "on", "in.example", "in.example", "443"),
        ),
        (
            ["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Host: evil.example, shop.example"],
            ("http", None, "shop.example", "shop.example", "80"),
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_where_the_client_asked(lines: list[str], expected: tuple[str, ...]) -> None:
    assert place(*lines) == expected


@pytest.mark.parametrize(
    "lines",
    [
        ["X-Forwarded-Proto: http", "X-Forwarded-Ssl: on"],
        ["X-Forwarded-Proto: https", "X-Forwarded-Ssl: off"],
        ["X-Forwarded-Proto: https", "X-Forwarded-Protocol: http"],
        ["X-Forwarded-Proto: https", "X-Forwarded-Scheme: http"],
        ["X-Forwarded-Proto: https", "X-Scheme: http"],
        ["X-Forwarded-Proto: http", "Front-End-Https: on"],
        ["X-Forwarded-Proto: https", "Forwarded: proto=http"],
        ["X-Forwarded-Proto: http", "Forwarded: for=192.0.2.1;proto=https", "X-Forwarded-For: 192.0.2.1"],
        # One of the two is the client's own: what it adds to the truth is refused, too.
        ["X-Forwarded-For: 192.0.2.1", "Forwarded: for=6.6.6.6"],
        ["X-Forwarded-Proto: https", "Forwarded: for=6.6.6.6;proto=https"],
        ["X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.1;host=evil.example"],
        ["X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.1;proto=https"],
        ["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Host: evil.example", "Forwarded: for=192.0.2.1"],
        ["X-Forwarded-Host: a.example", "Forwarded: host=b.example"],
    ],
    ids=" ".join,
)
def test_contradictions_are_refused(lines: list[str]) -> None:
    with pytest.raises(RequestError) as caught:
        seen(*lines)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "line",
    [
        *("X-Forwarded-Proto: ftp", "X-Forwarded-Proto: https http", "X-Forwarded-Ssl: maybe", "Forwarded: proto=ftp"),
        *("X-Forwarded-Host: a b", "X-Forwarded-Host: user@a.example", "X-Forwarded-Host: a.example:99999"),
        *("X-Forwarded-Host: [::1", "X-Forwarded-Host: a.example/x", 'Forwarded: host="a b"'),
        *("X-Forwarded-Port: 0", "X-Forwarded-Port: 65536", "X-Forwarded-Port: x", "X-Forwarded-Port: -1"),
        *("X-Forwarded-Port: +80", "X-Forwarded-Port: \xb2", "X-Forwarded-Port: 000080"),
        *("X-Forwarded-Prefix: shop", "X-Forwarded-Prefix: //evil.example", "X-Forwarded-Prefix: /a//b"),
        *("X-Forwarded-Prefix: /%2Fevil.example", "X-Forwarded-Prefix: /\\evil.example", "X-Forwarded-Prefix: /a?b"),
        *("X-Forwarded-Prefix: /a%0d%0ab", "X-Forwarded-Prefix: /a#b", "X-Forwarded-Prefix: http://evil.example/"),
    ],
)
def test_malformed_ones_are_refused(line: str) -> None:
    with pytest.raises(RequestError) as caught:
        seen(line)
    assert caught.value.status == 400


def test_a_stranger_cannot_cause_a_refusal_by_what_is_removed() -> None:
    assert seen("X-Forwarded-Proto: ftp", "Forwarded: ;=;", peer="203.0.113.5")["wsgi.url_scheme"] == "http"


# -- prefix ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "target", "expected"),
    [
        ("/shop", "/a", ("/shop", "/a")),
        ("/shop", "/shop/a", ("/shop", "/a")),
        ("/shop", "/shop", ("/shop", "")),
        ("/shop", "/shopping", ("/shop", "/shopping")),
        ("/shop/", "/shop/a", ("/shop", "/a")),
        ("/", "/a", ("", "/a")),
        ("/a/b", "/a/b/c?d", ("/a/b", "/c")),
        ("/caf%C3%A9", "/caf%c3%a9/x", ("/caf\xc3\xa9", "/x")),
        ("/evil, /shop", "/shop/a", ("/shop", "/a")),
    ],
)
def test_the_prefix_is_the_mount_point(prefix: str, target: str, expected: tuple[str, str]) -> None:
    environ = seen(f"X-Forwarded-Prefix: {prefix}", target=target)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == expected
    assert environ["REQUEST_URI"] == target


# -- Forwarded -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("for=192.0.2.1", ("192.0.2.1", "", "http", "in.example")),
        ("For=192.0.2.1;Proto=HTTPS;Host=shop.example", ("192.0.2.1", "", "https", "shop.example")),
        ('for="[2001:db8::1]:4711"', ("2001:db8::1", "4711", "http", "in.example")),
        ('for="192.0.2.1:4711"', ("192.0.2.1", "4711", "http", "in.example")),
        ("for=192.0.2.1:4711", ("192.0.2.1", "4711", "http", "in.example")),
        ('for="192.0.2.1:_port"', ("192.0.2.1", "", "http", "in.example")),
        ('for="19\\2.0.2.1"', ("192.0.2.1", "", "http", "in.example")),
        ("for=unknown", ("", "", "http", "in.example")),
        ("for=_SEVKISEK", ("", "", "http", "in.example")),
        ("by=203.0.113.43", ("127.0.0.1", "4711", "http", "in.example")),
        ("secret=x, for=192.0.2.1 ; by=10.0.0.1 ;proto=https", ("192.0.2.1", "", "https", "in.example")),
        (";; , for=192.0.2.1;, ,", ("192.0.2.1", "", "http", "in.example")),
        ('for=192.0.2.1;host="shop.example:81"', ("192.0.2.1", "", "http", "shop.example:81")),
        # The element that names the client tells of the client's request.
        ("for=6.6.6.6;host=evil.example, for=192.0.2.1;proto=https", ("192.0.2.1", "", "https", "in.example")),
        ("for=192.0.2.1;proto=https;host=a.example, for=10.0.0.1;proto=http", ("192.0.2.1", "", "https", "a.example")),
        ('for="10.0.0.9", for=10.0.0.1', ("10.0.0.9", "", "http", "in.example")),
        ("for=6.6.6.6, by=10.0.0.1", ("127.0.0.1", "4711", "http", "in.example")),
        ("", ("127.0.0.1", "4711", "http", "in.example")),
    ],
)
def test_the_standard_header(value: str, expected: tuple[str, ...]) -> None:
    environ = seen(f"Forwarded: {value}")
    assert tuple(environ[n] for n in ("REMOTE_ADDR", "REMOTE_PORT", "wsgi.url_scheme", "HTTP_HOST")) == expected


@pytest.mark.parametrize(
    "value",
    [
        *("for", "for=", "=192.0.2.1", "for=a b", "for=a=b", 'for="a', 'for=a"b"', 'for="a"b', 'for="a\\"'),
        *("for=1.1.1.1;for=2.2.2.2", "for=1.1.1.1;FOR=2.2.2.2", "f r=x", "for =x", "for= x", "(c)for=x"),
        # An open quote of the client would swallow what the proxy appends.
        *('for=", for=192.0.2.1', 'for="x, for="[2001:db8::1]:80"'),
    ],
)
def test_a_malformed_standard_header_is_refused(value: str) -> None:
    with pytest.raises(RequestError, match="Malformed Forwarded"):
        seen(f"Forwarded: {value}")


def test_both_kinds_may_be_there_when_they_agree() -> None:
    lines = ("X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https", "X-Forwarded-Port: 444")
    environ = seen(*lines, 'Forwarded: for="192.0.2.1:5";proto=https;host=IN.example')
    assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"], environ["SERVER_PORT"]) == ("192.0.2.1", "https", "444")
    # Nothing is said twice here: the prefix is no part of the standard.
    environ = seen("X-Forwarded-Prefix: /shop", "Forwarded: for=192.0.2.1;proto=https")
    assert (environ["REMOTE_ADDR"], environ["SCRIPT_NAME"]) == ("192.0.2.1", "/shop")


# -- what applications do with them ----------------------------------------------------------------------------------


def test_werkzeugs_proxyfix_finds_the_same() -> None:
    from werkzeug.middleware.proxy_fix import ProxyFix

    lines = ["For: 192.0.2.1", "Proto: https", "Host: shop.example", "Prefix: /shop"]
    environ = seen(*(f"X-Forwarded-{line}" for line in lines), target="/a")
    fixed = dict(environ)
    ProxyFix(lambda e, s: [], x_for=1, x_proto=1, x_host=1, x_prefix=1)(fixed, lambda *_: None)  # type: ignore[arg-type]
    del fixed["werkzeug.proxy_fix.orig"]
    assert fixed == environ


def test_django_reads_the_same_with_and_without_its_settings() -> None:
    from django.conf import settings
    from django.core.handlers.wsgi import WSGIRequest
    from django.test.utils import override_settings

    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"])
    environ = seen("X-Forwarded-Proto: https", "X-Forwarded-Host: shop.example", target="/a")
    told = {"SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https"), "USE_X_FORWARDED_HOST": True}
    for chosen in ({}, told):
        with override_settings(ALLOWED_HOSTS=["*"], **chosen):
            request = WSGIRequest(environ)
            assert (request.is_secure(), request.build_absolute_uri()) == (True, "https://shop.example/a")
