"""Formats the lines of the access log. Pure.

All text from a client is escaped: none of its control characters, quotes and line ends reaches the log, and no space in
fields that spaces separate. Formats: `combined` (that of Apache and nginx, with four more fields), `json`, or a text
with gunicorn's %-fields, of which `combined` is one.
"""

from __future__ import annotations

import binascii
import json
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

COMBINED = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s" %(id)s %(pid)s %(queue)s %(L)s'
NAMES = {"combined": COMBINED}
JSON = "json"


class Entry(NamedTuple):
    """One answered request.

    `environ` is the WSGI environ, or a part of it if the request could not be parsed; `line` is the request line.
    `size` is the length of the response body in bytes, `started` in seconds since the epoch. `service` (seconds in the
    application) and `queue` (seconds until a worker read the request) are None if not known.
    """

    environ: Mapping[str, Any]
    line: str
    status: int
    size: int
    started: float
    service: float | None
    queue: float | None
    request_id: str


Formatter = Callable[[Entry], str]
_Field = Callable[[Entry], object]


def check_format(value: object) -> str:
    """The value of the setting: `combined`, `json`, or a text with %-fields. Raises ValueError with the reason."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("expected combined, json or a text with fields such as %(h)s")
    if value.strip().lower() in (*NAMES, JSON):
        return value.strip().lower()
    if "%" not in value:
        raise ValueError("expected combined, json or a text with fields such as %(h)s")
    _compile(value, 0)
    return value


def formatter(text: str, pid: int) -> Formatter:
    """The function that formats an entry as a line without its end.

    `text` is a format that `check_format` has accepted; `pid` is the process that answers the requests.
    """
    return _json(pid) if text == JSON else _compile(NAMES.get(text, text), pid)


# -- escaping ---------------------------------------------------------------------------------------------------------

_PLAIN = re.compile(r"[ !#-\[\]-~]+").fullmatch
_PLAIN_WORD = re.compile(r"[!#-\[\]-~]+").fullmatch
_UNSAFE = re.compile(r'["\\]|[^ -~]')
_UNSAFE_IN_WORD = re.compile(r'["\\]|[^!-~]')


def escaped(text: str) -> str:
    r"""The text for a field in quotes: quotes, backslashes and all but printable ASCII are \xHH, as in nginx."""
    if _PLAIN(text):
        return text
    return _UNSAFE.sub(_as_hex, text) or "-"


def _word(text: str) -> str:
    """The text for a field without quotes: as `escaped`, and spaces are escaped, too."""
    if _PLAIN_WORD(text):
        return text
    return _UNSAFE_IN_WORD.sub(_as_hex, text) or "-"


def _as_hex(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02X}" if code < 256 else f"\\u{code:04X}" if code < 65536 else f"\\U{code:08X}"


# -- values -----------------------------------------------------------------------------------------------------------

# The names that strftime(3) gives depend on the locale, which an application may set.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class _Clock:
    """Formats the time, once per second: further calls within the same second return the same text."""

    def __init__(self, write: Callable[[time.struct_time, str], str]) -> None:
        self._write = write
        self._last = (-1, "")

    def text(self, seconds: int) -> str:
        known, text = self._last
        if known != seconds:
            local = time.localtime(seconds)
            text = self._write(local, _offset(local.tm_gmtoff))
            self._last = (seconds, text)
        return text


def _offset(east: int) -> str:
    minutes = abs(east) // 60
    return f"{'-' if east < 0 else '+'}{minutes // 60:02d}{minutes % 60:02d}"


def _common_time(t: time.struct_time, offset: str) -> str:
    clock = f"{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d}"
    return f"[{t.tm_mday:02d}/{_MONTHS[t.tm_mon - 1]}/{t.tm_year}:{clock} {offset}]"


def _iso_time(t: time.struct_time, offset: str) -> str:
    date = f"{t.tm_year}-{t.tm_mon:02d}-{t.tm_mday:02d}T{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d}"
    return f"{date}.%03d{offset[:3]}:{offset[3:]}"


def user_of(environ: Mapping[str, Any]) -> str:
    """The user: REMOTE_USER as the application has set it, else the user-id of Basic authentication (RFC 7617).

    Empty if there is neither.
    """
    user = environ.get("REMOTE_USER")
    if user:
        return str(user)
    scheme, _, credentials = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        user, colon, _ = binascii.a2b_base64(credentials.strip()).partition(b":")
    except ValueError:
        return ""
    # RFC 7617 section 2: user-id and password are separated by a colon. Without one the text is no user-id; it may be a
    # token, which must not be logged.
    return user.decode("latin-1") if colon else ""


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.6f}"


# -- %-fields ---------------------------------------------------------------------------------------------------------

_FIELD = re.compile(r"%(?:%|\((?:\{([^{}]+)\}([ioe])|([A-Za-z]+))\)s)")


def _of_environ(name: str) -> _Field:
    return lambda entry: escaped(str(entry.environ.get(name, "")))


def _fields(pid: int) -> dict[str, _Field]:
    clock = _Clock(_common_time)
    return {
        "h": lambda entry: _word(str(entry.environ.get("REMOTE_ADDR", ""))),
        "l": lambda entry: "-",
        "u": lambda entry: _word(user_of(entry.environ)),
        "t": lambda entry: clock.text(int(entry.started)),
        "r": lambda entry: escaped(entry.line),
        "m": lambda entry: _word(entry.line.partition(" ")[0]),
        "U": lambda entry: _word(_target(entry).partition("?")[0]),
        "q": lambda entry: _word(_target(entry).partition("?")[2]),
        "H": lambda entry: _word(entry.line.rpartition(" ")[2]),
        "s": lambda entry: entry.status,
        "b": lambda entry: entry.size or "-",
        "B": lambda entry: entry.size,
        "f": _of_environ("HTTP_REFERER"),
        "a": _of_environ("HTTP_USER_AGENT"),
        "T": lambda entry: "-" if entry.service is None else int(entry.service),
        "M": lambda entry: "-" if entry.service is None else int(entry.service * 1e3),
        "D": lambda entry: "-" if entry.service is None else int(entry.service * 1e6),
        "L": lambda entry: _seconds(entry.service),
        "p": lambda entry: f"<{pid}>",
        "pid": lambda entry: pid,
        "id": lambda entry: _word(entry.request_id),
        "queue": lambda entry: _seconds(entry.queue),
    }


def _target(entry: Entry) -> str:
    return entry.line.partition(" ")[2].rpartition(" ")[0]


def _compile(text: str, pid: int) -> Formatter:
    """A formatter that applies one %-template to the values of the fields in `text`. Raises ValueError."""
    known, getters = _fields(pid), []

    def place(found: re.Match[str]) -> str:
        header, kind, name = found.groups()
        if found[0] == "%%":
            return "%%"
        if kind == "o" or (name is not None and name not in known):
            raise ValueError(f"expected a known field: {found[0]} is none")
        getters.append(known[name] if name else _named(header, kind))
        return "%s"

    rest = _FIELD.sub("", text)
    if "%" in rest or not text.isprintable():
        raise ValueError("expected fields like %(h)s or %({Host}i)s, and %% for a percent sign, in one line")
    template, values = _FIELD.sub(place, text), tuple(getters)
    return lambda entry: template % tuple([value(entry) for value in values])


def _named(name: str, kind: str) -> _Field:
    """The field `{name}i`, a header field of the request, or `{name}e`, a variable of its environ."""
    return _of_environ(name if kind == "e" else f"HTTP_{name.upper().replace('-', '_')}")


# -- JSON -------------------------------------------------------------------------------------------------------------


def _json(pid: int) -> Formatter:
    clock = _Clock(_iso_time)

    def line(entry: Entry) -> str:
        environ = entry.environ
        return json.dumps(
            {
                "time": clock.text(int(entry.started)) % (entry.started % 1 * 1000),
                "remote_addr": _text(environ.get("REMOTE_ADDR")),
                "user": _text(user_of(environ)),
                "host": _text(environ.get("HTTP_HOST")),
                "request": _text(entry.line),
                "status": entry.status,
                "bytes": entry.size,
                "referer": _text(environ.get("HTTP_REFERER")),
                "user_agent": _text(environ.get("HTTP_USER_AGENT")),
                "request_id": entry.request_id or None,
                "pid": pid,
                "queue_time": _rounded(entry.queue),
                "service_time": _rounded(entry.service),
            }
        )

    return line


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


def _text(value: object) -> str | None:
    """A native string of PEP 3333, whose characters stand for bytes, decoded as UTF-8; `json.dumps` escapes it."""
    text = str(value) if value else None
    if text is None or text.isascii():
        return text
    try:
        return text.encode("latin-1").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return text
