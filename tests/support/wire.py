r"""Wire tests as data: `tests/requests/{valid,invalid}/NAME.http`.

A file has comment lines, the bytes a client sends, a line `=>`, and what must come of them: for a valid one a JSON
list of the requests, for an invalid one the status. Line ends of the file do not count; `\r`, `\n`, `\t`, `\xNN` and
`\\` stand for bytes, and `\(text*N)` for N times the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REQUESTS = Path(__file__).resolve().parents[1] / "requests"

# Up to this size data is cut everywhere.
WHOLE = 2000

_ESCAPE = re.compile(rb"\\(?:x([0-9a-f]{2})|([rnt\\])|\((.*?)\*([0-9]+)\))")
_LETTERS = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"\\": b"\\"}


@dataclass(frozen=True)
class WireCase:
    """One file: its name, the bytes to send, and what is expected of them."""

    name: str
    data: bytes
    expected: Any


def wire_cases(kind: str) -> list[WireCase]:
    """All cases of a directory, `valid` or `invalid`."""
    return [_read(path) for path in sorted((REQUESTS / kind).glob("*.http"))]


def failing_cases(cases: Iterable[WireCase], check: Callable[[WireCase], object]) -> dict[str, str]:
    """Every case that `check` does not pass, by name, with the failure: one test reports a whole directory."""
    failures = {}
    for case in cases:
        try:
            check(case)
        except Exception as error:
            failures[case.name] = f"{type(error).__name__}: {error}"
    return failures


def _read(path: Path) -> WireCase:
    sent, expected = path.read_text(encoding="utf-8").split("\n=>\n")
    lines = [line for line in sent.split("\n") if not line.startswith("#")]
    return WireCase(path.stem, unescape("".join(lines).encode("latin-1")), json.loads(expected))


def unescape(text: bytes) -> bytes:
    """The bytes that `text` stands for."""
    return _ESCAPE.sub(_replacement, text)


def _replacement(match: re.Match[bytes]) -> bytes:
    code, letter, repeated, times = match.groups()
    if code:
        return bytes((int(code, 16),))
    if letter:
        return _LETTERS[letter]
    return unescape(repeated) * int(times)


def cuts_of(data: bytes) -> list[int]:
    """Every place where `data` can be cut in two; of long data those near both ends and a sample between them."""
    places = range(1, len(data))
    if len(data) <= WHOLE:
        return list(places)
    near = 100
    return sorted({*places[:near], *places[-near:], *places[:: len(data) // 60]})


def pieces_of(data: bytes) -> list[list[bytes]]:
    """Ways to cut `data`: whole, byte by byte, and in two at every place (see `cuts_of`)."""
    return [[data], [data[i : i + 1] for i in range(len(data))], *([data[:cut], data[cut:]] for cut in cuts_of(data))]
