r"""The forms that a line of the server log can have: `text`, `plain` and `json`. Pure; knows no files.

    text    2026-11-22 18:33:08.456 INFO     [5c0f2a9b71d3-17 GET /orders] App 4711 stdout: hello
    plain   hello
    json    {"time": "2026-11-22T18:33:08.456+01:00", "level": "INFO", "pid": 4711, "stream": "stdout", ...}

Text comes as `line_splitter` decodes it: an invalid byte of UTF-8 is a lone surrogate (PEP 383), so that `plain` can
write the original bytes. Of a line that a progress bar has overwritten with carriage returns, the last state is logged.
"""

from __future__ import annotations

import codecs
import json
import re
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

TEXT, PLAIN, JSON = "text", "plain", "json"
FORMS = (TEXT, PLAIN, JSON)
# The names of the stream of access log lines, and of appsrv's own lines.
ACCESS, OWN = "access", "appsrv"
# The codecs error handler that encodes text as the bytes it was decoded from.
AS_WRITTEN = "appsrv-as-written"

_CONTROL_SEQUENCE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
# "Erase in line" (EL, ECMA-48): the rest of the line, or all of it.
_ERASES = re.compile(r"\x1b\[[02]?K")


class Origin(NamedTuple):
    """The process and stream that wrote a line. `kind` is App or Server; `label` names the request (`line_labels`)."""

    kind: str
    pid: int
    stream: str
    label: str = ""

    @property
    def error(self) -> bool:
        """Whether the line was written to stderr."""
        return self.stream == "stderr"

    @property
    def named(self) -> str:
        """The prefix of the line in the form `text`. Access log lines have that of stdout."""
        source = f"{self.kind} {self.pid}"
        if self.kind != "Server":
            source += " stdout" if self.stream == ACCESS else f" {self.stream}"
        return f"[{self.label}] {source}" if self.label else source


def last_state(text: str) -> str:
    """The line without control sequences, as a terminal shows it after all of its carriage returns."""
    if "\x1b" not in text and "\r" not in text:
        return text
    if "\r" not in text:
        return _CONTROL_SEQUENCE.sub("", text)
    # Go from the last state to the first. A state shows only the columns right of the wider states after it, so that
    # each character is copied once: the time grows in proportion to the text.
    parts: list[str] = []
    width = 0
    for state in reversed(text.split("\r")):
        bare = _CONTROL_SEQUENCE.sub("", state)
        if len(bare) > width:
            parts.append(bare[width:])
            width = len(bare)
        if _ERASES.search(state):
            break
    return "".join(parts).rstrip(" ")


def readable(text: str) -> str:
    r"""The text with `\xff` in place of each byte that was invalid UTF-8."""
    return text if text.isascii() else as_written(text).decode("utf-8", "backslashreplace")


def as_written(text: str) -> bytes:
    """The bytes that the text was decoded from."""
    return text.encode("utf-8", AS_WRITTEN)


def output_lines(form: str, origin: Origin, lines: Sequence[str]) -> list[str]:
    """The log messages for lines that an application process has written with one call, in this form."""
    if form == PLAIN:
        return [last_state(line) for line in lines]
    shown = [readable(last_state(line)) for line in lines]
    if form == TEXT:
        return [f"{origin.named}: {line}" for line in shown]
    text = "\n".join(shown)
    request_id, method, path = (*origin.label.split(" ", 2), "", "")[:3] if origin.label else ("", "", "")
    about = {"request_id": request_id or None, "method": method or None, "path": path or None}
    # An application can print an object that looks like an access line. `head` comes last and overwrites its keys, so
    # that the application cannot forge time, level, pid and stream.
    head = _head("INFO", origin.pid, origin.stream)
    return [json.dumps({**head, **about, **_body(origin, text), **head})]


def event_line(level: str, text: str) -> str:
    """A line of appsrv's own, in the form `json`."""
    return json.dumps({**_head(level, None, OWN), "request_id": None, "text": readable(text)})


def _head(level: str, pid: int | None, stream: str) -> dict[str, Any]:
    return {"time": _now(), "level": level, "pid": pid, "stream": stream}


def _body(origin: Origin, text: str) -> dict[str, Any]:
    """The text as a field; for an access log line that is a JSON object itself, the fields of that object."""
    if origin.stream == ACCESS and text.startswith("{"):
        try:
            fields = json.loads(text)
        except ValueError:
            fields = None
        if isinstance(fields, dict):
            return fields
    return {"text": text}


def _now() -> str:
    now = time.time()
    here = time.localtime(now)
    zone = time.strftime("%z", here)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', here)}.{int(now % 1 * 1000):03d}{zone[:3]}:{zone[3:]}"


def _is_escaped(text: str) -> bool:
    """Whether all lone surrogates in the text stand for bytes (PEP 383: U+DC80 to U+DCFF)."""
    return all("\udc80" <= character <= "\udcff" for character in text if "\ud800" <= character <= "\udfff")


def _encode_as_written(error: UnicodeError) -> tuple[bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wrong = error.object[error.start : error.end]
    if not _is_escaped(wrong):
        return wrong.encode("ascii", "backslashreplace"), error.end
    return wrong.encode("utf-8", "surrogateescape"), error.end


codecs.register_error(AS_WRITTEN, _encode_as_written)
