r"""Labels of printed lines: with them a worker marks, in the pipe that the watchdog reads, the request of a line. Pure.

A mark stands between two NULs in front of its line; the watchdog removes it:

    \0@LABEL\0   the label of this line
    \0#LABEL\0   the label of the first of several lines that were printed with one call
    \0=\0        the same label as the line before
    \0-\0        no label
    \0\6\0       a line of the access log (6 is ACK)

A mark in the middle of a line starts a new line. C code and child processes write to the descriptor directly: their
lines have no label.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# A terminal shows neither NUL nor ACK: a worker with a debugger session writes access lines to the terminal itself.
SAME, NONE, ACCESS = "\0=\0", "\0-\0", "\0\6\0"
MAX_PATH_CHARACTERS = 120

_MARK = re.compile(r"\0(?:([@#])([^\0]*)|([=\6-]))\0")

_BYTE_MARK = re.compile(_MARK.pattern.encode("ascii"))
# At the end of the bytes that have been read: possibly the first part of a mark.
_UNFINISHED = re.compile(rb"\0(?:[@#][^\0]*|[=\6-])?\Z")


def last_mark(data: bytes) -> int:
    """The offset of the last label in this line; 0 if there is none after the first byte."""
    return max((found.start() for found in _BYTE_MARK.finditer(data)), default=0)


def unfinished_mark(data: bytes) -> int:
    """The offset of an incomplete label at the end of the data; the length of the data if there is none."""
    found = _UNFINISHED.search(_BYTE_MARK.sub(lambda mark: b"x" * len(mark[0]), data)) if b"\0" in data else None
    return len(data) if found is None else found.start()


def label_of(request_id: str, method: str, target: str) -> str:
    """`ID METHOD PATH`, printable ASCII. `target` is the request target; its query may hold secrets and is left out."""
    path = target.partition("?")[0]
    if len(path) > MAX_PATH_CHARACTERS:
        path = f"{path[: MAX_PATH_CHARACTERS - 3]}..."
    plain = f"{request_id} {method} {path}".encode("unicode_escape").decode("ascii")
    return plain.replace("[", "%5B").replace("]", "%5D")


def labelled(label: str, text: str, *, breaks: bool = False) -> str:
    """`text`, which begins a line, with a label mark on each of its lines. `breaks`: the line before is unfinished."""
    if not label and "\n" not in text[:-1]:
        return NONE + text if breaks else text
    sign = "#" if "\n" in text[:-1] else "@"
    return f"\0{sign}{label}\0{going_on(text)}"


def going_on(text: str) -> str:
    """`text`, which continues a line that has its mark already, with a mark on all further lines."""
    return text[:-1].replace("\n", f"\n{SAME}") + text[-1:]


def harmless(text: str) -> str:
    r"""The application's text without anything that reads as a mark: a NUL that could start one is shown as `\x00`."""
    return re.sub(r"\0(?=[@#=\6-])", r"\\x00", text) if "\0" in text else text


def harmless_behind_nul(text: str) -> str:
    r"""As `harmless`, for text after a NUL: a first character that would make that NUL a mark is escaped (`\x06`)."""
    shown = harmless(text)
    return f"\\x{ord(shown[0]):02x}{shown[1:]}" if re.match(r"[@#=\6-]", shown) else shown


class LabelledLine(NamedTuple):
    """A line and its label, which may be empty.

    `more`: the first of several lines that were printed with one call; `continues`: one of the others, or the rest of a
    line whose beginning has been read already; `access`: a line of the access log.
    """

    label: str
    text: str
    more: bool = False
    continues: bool = False
    access: bool = False


class LabelReader:
    """Removes the labels from the lines of one pipe, which come without their ends."""

    def __init__(self) -> None:
        self._last = ""

    def begin(self, text: str) -> LabelledLine:
        """The unfinished line that begins with `text`."""
        mark = _MARK.match(text)
        if mark is None:
            return LabelledLine("", text)
        sign, label, other = mark.groups()
        return LabelledLine(label if sign else self._last if other == "=" else "", text[mark.end() :])

    def read(self, line: str) -> list[LabelledLine]:
        """The lines that the marks in `line` divide it into; at least one."""
        if "\0" not in line:
            return [LabelledLine("", line)]
        first, *rest = _MARK.split(line)
        lines = [LabelledLine("", first)] if first or not rest else []
        for sign, label, other, text in zip(rest[::4], rest[1::4], rest[2::4], rest[3::4], strict=True):
            if sign:
                self._last = label
            known = "" if other in ("-", ACCESS[1]) else self._last
            lines.append(LabelledLine(known, text, sign == "#", other == "=", other == ACCESS[1]))
        return lines
