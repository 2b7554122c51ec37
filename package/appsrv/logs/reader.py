"""Reading the server log back: what a line says, which lines are wanted, and following the file through rotations.

Knows the forms of the lines (`log_format`) and files; which file it is, and how lines are shown, is the
command's business.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO

from appsrv.errors import OperatorError
from appsrv.logs.log_format import ACCESS, OWN

STEP = 0.2
TIME = "%Y-%m-%d %H:%M:%S.%f"

_LINE = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}) (?P<level>[A-Z]+) +"
    r"(?:\[(?P<request>\S+) (?P<method>\S+) (?P<path>\S+)\] )?"
    r"(?:App (?P<pid>\d+) (?P<stream>stdout|stderr): )?(?P<text>.*)"
)
_AGO = re.compile(r"(\d+)\s*([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the log. `raw` is as written; the rest is None where the line does not say it."""

    raw: str
    time: str | None = None
    level: str | None = None
    request: str | None = None
    method: str | None = None
    path: str | None = None
    pid: int | None = None
    stream: str | None = None
    text: str

    def to_json(self) -> dict[str, object]:
        """Everything but `raw`."""
        return {name: value for name, value in vars(self).items() if name != "raw"}


def parse(raw: str) -> Line:
    """What a line of the log says; one of another shape is all `text`."""
    raw = raw.rstrip("\n")
    if raw.startswith("{") and (found := _object(raw)) is not None:
        return found
    match = _LINE.fullmatch(raw)
    if match is None:
        return Line(raw=raw, text=raw)
    when, level, request, method, target, pid, stream, text = match.groups()
    return Line(
        raw=raw, text=text, time=when, level=level, request=request, method=method, path=target,
        pid=int(pid) if pid else None, stream=stream,
    )


def _object(raw: str) -> Line | None:
    """A line in the form `json`; `raw` is then how it looks in the form `text`, in several lines where it has them."""
    try:
        said = json.loads(raw)
        when = datetime.fromisoformat(said["time"]).astimezone().strftime(TIME)[:-3]
        stream = said["stream"]
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
    pid, level = said.get("pid"), str(said.get("level") or "INFO")
    if stream == ACCESS and "text" not in said:
        shown = json.dumps({name: value for name, value in said.items() if name not in ("level", "stream")})
    else:
        shown = str(said.get("text", ""))
    request, method, path = (str(said[name]) if said.get(name) else None for name in ("request_id", "method", "path"))
    pid = pid if isinstance(pid, int) else None
    label = f"[{request} {method} {path}] " if request and method and path else ""
    # As `log_format` puts it in front of a line.
    source = f"App {pid} {'stdout' if stream == ACCESS else stream}: " if pid is not None else ""
    text = "\n".join(f"{when} {level:<8} {label}{source}{line}" for line in shown.split("\n"))
    return Line(
        raw=text, text=shown, time=when, level=level, request=request, method=method, path=path, pid=pid,
        stream=None if stream == OWN else str(stream),
    )


@dataclass(frozen=True)
class Wanted:
    """Which lines: of a request (or that name its id), of a worker (or that speak of it), not older than `since`."""

    request: str | None = None
    worker: int | None = None
    since: str | None = None

    def takes(self, line: Line, time: str | None = None) -> bool:
        """Whether the line is one of them; `time` is its time where it does not name it itself."""
        when = line.time or time
        if self.since is not None and (when is None or when < self.since):
            return False
        if self.request is not None and line.request != self.request and not _names(line.text, self.request):
            return False
        if self.worker is None or line.pid == self.worker:
            return True
        return line.pid is None and _names(line.text, f"worker {self.worker}")


class _Filter:
    """Takes the wanted ones of the lines of a file, in order; a line without a time is as old as the one before."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._time: str | None = None

    def takes(self, line: Line) -> bool:
        self._time = line.time or self._time
        return self._wanted.takes(line, self._time)


def _names(text: str, word: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text) is not None


def since(text: str, now: datetime) -> str:
    """The time that `10m`, `2h`, `2026-11-24` or `2026-11-24 10:30` names, as lines have it. Raises ValueError.

    `now` is local, as the times of lines are, and what is named is unless it says where: `2026-11-24T10:30+00:00`.
    """
    ago = _AGO.fullmatch(text.strip())
    try:
        moment = now - timedelta(**{_UNITS[ago[2]]: int(ago[1])}) if ago else datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo is None else moment.astimezone()).strftime(TIME)[:-3]
    except OverflowError as error:
        raise ValueError(f"there was no such time: {text}") from error


def last(path: Path, wanted: Wanted, most: int | None) -> list[Line]:
    """The last `most` of the wanted lines that there are; None: all."""
    with _open(path) as file:
        return _last(file, _Filter(wanted), most)


def _last(file: IO[bytes], wanted: _Filter, most: int | None) -> list[Line]:
    return list(deque((line for line in map(_line, file) if wanted.takes(line)), most))


def follow(
    path: Path, wanted: Wanted, most: int | None, sleep: Callable[[float], object] = time.sleep
) -> Iterator[Line]:
    """The same, and then every wanted line as it comes, for ever: also when the file is renamed or emptied."""
    file, chosen = _open(path), _Filter(wanted)
    try:
        yield from _last(file, chosen, most)
        begun, moved = b"", False
        while True:
            piece = file.readline()
            begun += piece
            if begun.endswith(b"\n"):
                line, begun = _line(begun), b""
                if chosen.takes(line):
                    yield line
            elif piece:
                continue
            elif moved:
                # Read to its end after it had lost its name: nobody writes into it any more.
                file.close()
                file, begun, moved = _open(path), b"", False
            elif os.fstat(file.fileno()).st_size < file.tell():
                # Emptied: what comes now stands at its beginning.
                file.seek(0)
                begun = b""
            else:
                moved = _has_moved(path, file)
                sleep(STEP)
    finally:
        file.close()


def _has_moved(path: Path, file: IO[bytes]) -> bool:
    """Whether another file has the name now."""
    try:
        return not os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except OSError:
        # Between two steps of a rotation.
        return False


def _line(raw: bytes) -> Line:
    # A line ends where the log ends it, not at what the application has printed into it.
    return parse(raw.decode("utf-8", "backslashreplace"))


def _open(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise OperatorError(f"the log {path} cannot be read: {error.strerror}") from None
