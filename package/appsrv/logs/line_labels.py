r"""Labels of printed lines: how a worker tells, on the pipe that the watchdog reads, which request a line came from.

A label stands between two NULs in front of its line, and never reaches the log as such: `\0@LABEL\0` is a label,
`\0#LABEL\0` that of the first of several lines printed at once, `\0=\0` says "as before", `\0-\0` "none"; an ACK (6)
between NULs marks a line of the access log. One in the middle of a line begins a new one. Whoever writes to the
descriptor without all this, as C code and children do, has lines without a label. Pure.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# Neither character of ACCESS is shown by a terminal: a worker to which one is lent writes there itself.
SAME, NONE, ACCESS = "\0=\0", "\0-\0", "\0\6\0"
LONGEST_PATH = 120

_MARK = re.compile(r"\0(?:([@#])([^\0]*)|([=\6-]))\0")

_BYTE_MARK = re.compile(_MARK.pattern.encode("ascii"))
# At the end of what has been read: the beginning of a mark, perhaps.
_UNFINISHED = re.compile(rb"\0(?:[@#][^\0]*|[=\6-])?\Z")


def last_mark(data: bytes) -> int:
    """Where in this line the last label begins; 0 where none begins behind its first byte."""
    return max((found.start() for found in _BYTE_MARK.finditer(data)), default=0)


def unfinished_mark(data: bytes) -> int:
    """Where the label that is not here whole begins; the length of the data where there is none."""
    found = _UNFINISHED.search(_BYTE_MARK.sub(lambda mark: b"x" * len(mark[0]), data)) if b"\0" in data else None
    return len(data) if found is None else found.start()


def label_of(request_id: str, method: str, target: str) -> str:
    """`ID METHOD PATH`, printable ASCII. `target` is the request's; secrets stand in its query, which is left out."""
    path = target.partition("?")[0]
    if len(path) > LONGEST_PATH:
        path = f"{path[: LONGEST_PATH - 3]}..."
    plain = f"{request_id} {method} {path}".encode("unicode_escape").decode("ascii")
    return plain.replace("[", "%5B").replace("]", "%5D")


def labelled(label: str, text: str, *, breaks: bool = False) -> str:
    """`text`, which begins a line, with the label on each of its lines. `breaks`: another line stands unfinished."""
    if not label and "\n" not in text[:-1]:
        return NONE + text if breaks else text
    sign = "#" if "\n" in text[:-1] else "@"
    return f"\0{sign}{label}\0{going_on(text)}"


def going_on(text: str) -> str:
    """`text`, which goes on with a line that has its label, with the label on all further ones."""
    return text[:-1].replace("\n", f"\n{SAME}") + text[-1:]


def harmless(text: str) -> str:
    r"""What the application prints cannot be taken for a label: of a NUL that might, `\x00` is shown."""
    return re.sub(r"\0(?=[@#=\6-])", r"\\x00", text) if "\0" in text else text


def harmless_behind_nul(text: str) -> str:
    r"""As `harmless`, where a NUL has been written already: of the character that would make it a label, `\x06`."""
    shown = harmless(text)
    return f"\\x{ord(shown[0]):02x}{shown[1:]}" if re.match(r"[@#=\6-]", shown) else shown


class Line(NamedTuple):
    """A line and its label, empty where it has none.

    `more`: it is the first of several that were printed at once, `continues`: one of the others, or the rest of a line
    that has been read already; `access`: it is of the access log.
    """

    label: str
    text: str
    more: bool = False
    continues: bool = False
    access: bool = False


class LabelReader:
    """Reads the lines of one pipe, without their ends, and takes the labels off."""

    def __init__(self) -> None:
        self._last = ""

    def begin(self, text: str) -> Line:
        """The line that begins like this, while it is unfinished."""
        mark = _MARK.match(text)
        if mark is None:
            return Line("", text)
        sign, label, other = mark.groups()
        return Line(label if sign else self._last if other == "=" else "", text[mark.end() :])

    def read(self, line: str) -> list[Line]:
        """The lines that are in `line`."""
        if "\0" not in line:
            return [Line("", line)]
        first, *rest = _MARK.split(line)
        lines = [Line("", first)] if first or not rest else []
        for sign, label, other, text in zip(rest[::4], rest[1::4], rest[2::4], rest[3::4], strict=True):
            if sign:
                self._last = label
            known = "" if other in ("-", ACCESS[1]) else self._last
            lines.append(Line(known, text, sign == "#", other == "=", other == ACCESS[1]))
        return lines
