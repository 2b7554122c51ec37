"""access_format.py: the fields of a line, and that no client can write lines of its own."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from appsrv.logs.access_format import COMBINED, Entry, check_format, escaped, formatter

ENVIRON: dict[str, Any] = {
    "REMOTE_ADDR": "192.0.2.7",
    "HTTP_HOST": "shop.example",
    "HTTP_REFERER": "http://shop.example/",
    "HTTP_USER_AGENT": "Browser/1.0 (X)",
    "HTTP_X_COLOUR": "blue",
    "wsgi.url_scheme": "https",
}
BEGAN = 1795363200.25  # Sun, 22 Nov 2026 16:00:00 GMT
ENTRY = Entry(ENVIRON, "GET /a/b?c=d HTTP/1.1", 200, 1402, BEGAN, 1.25, 0.0005, "7f-1")


@pytest.fixture(autouse=True)
def nepal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A time zone whose offset is no whole hour."""
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def line(text: str, entry: Entry = ENTRY, /, **environ: object) -> str:
    return formatter(check_format(text), 4711)(entry._replace(environ={**entry.environ, **environ}))


def test_combined() -> None:
    assert line("combined") == line(COMBINED) == (
        '192.0.2.7 - - [22/Nov/2026:21:45:00 +0545] "GET /a/b?c=d HTTP/1.1" 200 1402 "http://shop.example/" '
        '"Browser/1.0 (X)" 7f-1 4711 0.000500 1.250000'
    )


def test_combined_of_a_request_that_could_not_be_read() -> None:
    entry = Entry({"REMOTE_ADDR": ""}, "", 400, 0, BEGAN, None, None, "")
    assert line("combined", entry) == '- - - [22/Nov/2026:21:45:00 +0545] "-" 400 - "-" "-" - 4711 - -'


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("m", "GET"), ("U", "/a/b"), ("q", "c=d"), ("H", "HTTP/1.1"), ("B", "1402"), ("T", "1"), ("M", "1250")),
        *(("D", "1250000"), ("L", "1.250000"), ("p", "<4711>"), ("{X-Colour}i", "blue"), ("{None}i", "-")),
        *(("{wsgi.url_scheme}e", "https"), ("{x-colour}i", "blue"), ("l", "-")),
    ],
)
def test_the_fields_of_gunicorn(field: str, value: str) -> None:
    assert line(f"100%% %({field})s") == f"100% {value}"


@pytest.mark.parametrize(
    "text", ["%(nosuch)s", "%h", "plain", "", "%(h)d", "%({a}o)s", "50% %(h)s", "%(h)s\n", 5, "%({}i)s"]
)
def test_formats_that_are_none(text: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        check_format(text)


def test_names_of_formats_in_any_case() -> None:
    assert (check_format(" JSON "), check_format("Combined")) == ("json", "combined")


HOSTILE = 'a"b\\c\r\n127.0.0.1 - - x\x00\x1b[31m\x7f\x85\xa0é\u2028\U0001f600'


@pytest.mark.parametrize(
    "name", ["HTTP_REFERER", "HTTP_USER_AGENT", "REMOTE_ADDR", "REMOTE_USER", "HTTP_X_COLOUR"]
)
def test_nothing_a_client_sends_leaves_its_field(name: str) -> None:
    text = COMBINED + ' "%({x-colour}i)s"'
    plain, hostile = line(text), line(text, ENTRY, **{name: HOSTILE})
    assert hostile.isascii()
    assert hostile.isprintable()
    assert hostile.count('"') == plain.count('"')
    assert "\\x0D\\x0A" in hostile
    # Outside quotes a space would start the next field.
    assert len(hostile.split('"')[0].split(" ")) == len(plain.split('"')[0].split(" "))


def test_the_line_and_the_id_are_escaped_too() -> None:
    hostile = line("combined", ENTRY._replace(line=HOSTILE, request_id=HOSTILE))
    assert hostile.isascii()
    assert hostile.isprintable()
    assert hostile.count('"') == 6


def test_escapes() -> None:
    assert escaped(HOSTILE) == (
        "a\\x22b\\x5Cc\\x0D\\x0A127.0.0.1 - - x\\x00\\x1B[31m\\x7F\\x85\\xA0\\xE9\\u2028\\U0001F600"
    )
    assert escaped("") == "-"
    assert escaped("plain text") == "plain text"


def test_users() -> None:
    basic = "Basic " + base64.b64encode(b"anna:se:cret").decode()
    assert line("%(u)s", HTTP_AUTHORIZATION=basic) == "anna"
    assert line("%(u)s", HTTP_AUTHORIZATION=basic.replace("Basic", "basic ")) == "anna"
    assert line("%(u)s", HTTP_AUTHORIZATION=basic, REMOTE_USER="of the application") == "of\\x20the\\x20application"
    for none in ("Basic", "Basic !", "Basic a", "Bearer abc", "", "Basic " + base64.b64encode(b":x").decode()):
        assert line("%(u)s", HTTP_AUTHORIZATION=none) == "-"
    assert "se:cret" not in line("json", HTTP_AUTHORIZATION=basic)
    token = "Basic " + base64.b64encode(b"a-key-in-place-of-a-name").decode()
    assert "a-key" not in line("%(u)s", HTTP_AUTHORIZATION=token) + line("json", HTTP_AUTHORIZATION=token)


def test_json() -> None:
    written = line("json", REMOTE_USER="Zoë".encode().decode("latin-1"), HTTP_USER_AGENT=HOSTILE)
    assert written.isascii()
    assert written.isprintable()
    assert json.loads(written) == {
        "time": "2026-11-22T21:45:00.250+05:45",
        "remote_addr": "192.0.2.7",
        "user": "Zoë",
        "host": "shop.example",
        "request": "GET /a/b?c=d HTTP/1.1",
        "status": 200,
        "bytes": 1402,
        "referer": "http://shop.example/",
        "user_agent": HOSTILE,
        "request_id": "7f-1",
        "pid": 4711,
        "queue_time": 0.0005,
        "service_time": 1.25,
    }


def test_json_of_a_request_that_could_not_be_read() -> None:
    entry = Entry({"REMOTE_ADDR": "::1"}, "\x16\x03\x01\xff", 400, 584, BEGAN, None, None, "")
    read = json.loads(line("json", entry))
    assert read["request"] == "\x16\x03\x01\\xff"
    assert read["request_id"] is read["queue_time"] is read["service_time"] is read["user"] is None


def test_the_second_changes() -> None:
    write = formatter("%(t)s", 1)
    times = [write(ENTRY._replace(started=BEGAN + more)) for more in (0, 0.7, 0.8, 86400)]
    assert times == [
        *("[22/Nov/2026:21:45:00 +0545]", "[22/Nov/2026:21:45:00 +0545]", "[22/Nov/2026:21:45:01 +0545]"),
        "[23/Nov/2026:21:45:00 +0545]",
    ]


def test_west_of_greenwich(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/St_Johns")
    time.tzset()
    assert line("%(t)s") == "[22/Nov/2026:12:30:00 -0330]"
