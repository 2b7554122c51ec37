"""Reads the server log for `appsrv logs`: parses lines, selects them, and follows the file through rotations.

Knows the forms of the lines (`log_format`) and files. The command chooses the file and shows the lines.
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

POLL_INTERVAL_SECONDS = 0.2
"""How often `follow` reads on at the end of the file."""
TIME = "%Y-%m-%d %H:%M:%S.%f"

_LINE = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}) (?P<level>[A-Z]+) +"
    r"(?:\[(?P<request>\S+) (?P<method>\S+) (?P<path>\S+)\] )?"
    r"(?:App (?P<pid>\d+) (?P<stream>stdout|stderr): )?(?P<text>.*)"
)
_AGO = re.compile(r"(\d+)\s*([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """One line of the log. `raw` is the line as written; fields that the line does not have are None."""

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


def parse(raw: str) -> LogLine:
    """The fields of a log line. A line of an unknown form has only `text`."""
    raw = raw.rstrip("\n")
    if raw.startswith("{") and (found := _object(raw)) is not None:
        return found
    match = _LINE.fullmatch(raw)
    if match is None:
        return LogLine(raw=raw, text=raw)
    when, level, request, method, target, pid, stream, text = match.groups()
    return LogLine(
        raw=raw, text=text, time=when, level=level, request=request, method=method, path=target,
        pid=int(pid) if pid else None, stream=stream,
    )


def _object(raw: str) -> LogLine | None:
    """A line in the form `json`, or None if it is not one. Its `raw` is the same line in the form `text`; a message of
    several lines becomes several lines there.
    """
    try:
        fields = json.loads(raw)
        when = datetime.fromisoformat(fields["time"]).astimezone().strftime(TIME)[:-3]
        stream = fields["stream"]
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
    pid, level = fields.get("pid"), str(fields.get("level") or "INFO")
    if stream == ACCESS and "text" not in fields:
        shown = json.dumps({name: value for name, value in fields.items() if name not in ("level", "stream")})
    else:
        shown = str(fields.get("text", ""))
    about = (str(fields[name]) if fields.get(name) else None for name in ("request_id", "method", "path"))
    request, method, path = about
    pid = pid if isinstance(pid, int) else None
    label = f"[{request} {method} {path}] " if request and method and path else ""
    # As `log_format` puts it in front of a line.
    source = f"App {pid} {'stdout' if stream == ACCESS else stream}: " if pid is not None else ""
    text = "\n".join(f"{when} {level:<8} {label}{source}{line}" for line in shown.split("\n"))
    return LogLine(
        raw=text, text=shown, time=when, level=level, request=request, method=method, path=path, pid=pid,
        stream=None if stream == OWN else str(stream),
    )


@dataclass(frozen=True)
class Criteria:
    """Which lines to select; None selects all.

    `request`: the lines of this request id, or with it in their text. `worker`: the lines of this pid, or with "worker
    PID" in their text. `since`: the lines of this time or later, in the form of the log.
    """

    request: str | None = None
    worker: int | None = None
    since: str | None = None

    def matches(self, line: LogLine, time: str | None = None) -> bool:
        """Whether the line is selected. `time` counts for a line that has no time of its own."""
        when = line.time or time
        if self.since is not None and (when is None or when < self.since):
            return False
        if self.request is not None and line.request != self.request and not _names(line.text, self.request):
            return False
        if self.worker is None or line.pid == self.worker:
            return True
        return line.pid is None and _names(line.text, f"worker {self.worker}")


class _Filter:
    """Applies criteria to the lines of a file in order. A line without a time has that of the line before it."""

    def __init__(self, criteria: Criteria) -> None:
        self._criteria = criteria
        self._time: str | None = None

    def matches(self, line: LogLine) -> bool:
        self._time = line.time or self._time
        return self._criteria.matches(line, self._time)


def _names(text: str, word: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text) is not None


def since(text: str, now: datetime) -> str:
    """The time of `10m` (ago), `2h`, `2026-11-24` or `2026-11-24 10:30`, in the form of the log. Raises ValueError.

    `now` is local time, as the times in the log are. A text is local time, too, unless it has an offset
    (`2026-11-24T10:30+00:00`).
    """
    ago = _AGO.fullmatch(text.strip())
    try:
        moment = now - timedelta(**{_UNITS[ago[2]]: int(ago[1])}) if ago else datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo is None else moment.astimezone()).strftime(TIME)[:-3]
    except OverflowError as error:
        raise ValueError(f"there was no such time: {text}") from error


def last(path: Path, criteria: Criteria, most: int | None) -> list[LogLine]:
    """The last `most` of the lines that match; None: all of them. Raises OperatorError if the file cannot be read."""
    with _open(path) as file:
        return _last(file, _Filter(criteria), most)


def _last(file: IO[bytes], criteria: _Filter, most: int | None) -> list[LogLine]:
    return list(deque((line for line in map(_line, file) if criteria.matches(line)), most))


def follow(
    path: Path, criteria: Criteria, most: int | None, sleep: Callable[[float], object] = time.sleep
) -> Iterator[LogLine]:
    """The same, then every further line that matches, without end. Follows a file that is renamed or truncated."""
    file, chosen = _open(path), _Filter(criteria)
    try:
        yield from _last(file, chosen, most)
        begun, moved = b"", False
        while True:
            piece = file.readline()
            begun += piece
            if begun.endswith(b"\n"):
                line, begun = _line(begun), b""
                if chosen.matches(line):
                    yield line
            elif piece:
                continue
            elif moved:
                # The rotated file was read once more after its path had a new file. appsrv opens the path again for
                # each line, so that no further line comes into the old file.
                file.close()
                file, begun, moved = _open(path), b"", False
            elif os.fstat(file.fileno()).st_size < file.tell():
                # The file was truncated (copytruncate of logrotate(8)): new lines start at offset 0.
                file.seek(0)
                begun = b""
            else:
                moved = _has_moved(path, file)
                sleep(POLL_INTERVAL_SECONDS)
    finally:
        file.close()


def _has_moved(path: Path, file: IO[bytes]) -> bool:
    """Whether the path is another file than the open one."""
    try:
        return not os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except OSError:
        # A rotation has renamed the file and not yet created the new one.
        return False


def _line(raw: bytes) -> LogLine:
    # Only the line feed that the log wrote ends a line: `str.splitlines` would split at other characters, too, which
    # the application may have printed.
    return parse(raw.decode("utf-8", "backslashreplace"))


def _open(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise OperatorError(f"the log {path} cannot be read: {error.strerror}") from None
