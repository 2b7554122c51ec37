"""The table of workers of `appsrv top`, as lines of text for a terminal of a given size or as JSON.

Pure: it is made from two readings of the admin socket, whose difference gives the rates. It knows no terminal.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from appsrv.system.words import duration, in_line, memory, printable

Json = Mapping[str, Any]
BOLD, REVERSE, DIM, RESET = "\x1b[1m", "\x1b[7m", "\x1b[2m", "\x1b[0m"
HEADINGS = "     PID STATE     GEN   CPU%     MEM  REQUESTS       UPTIME     AGE  "
# The maximum width of the column for names of applications.
MAX_NAME_COLUMNS = 24
HELP = """\
Keys of appsrv top

  Up, Down   choose a worker             c   sort by processor time
  t          its stacks (trace)          m   sort by memory
  d          detach it                   r   sort by requests served
  R          restart its application     a   sort by age of the request
  q          quit                        ?   this page

CPU% is of one processor, since the last look. MEM is the worker's share (PSS).
AGE is how long the request beside it has been served. Query strings are not shown.
""".splitlines()


@dataclass(frozen=True)
class Reading:
    """One reading of the admin socket: the status report, and the requests being served."""

    status: Json
    requests: Sequence[Json] = field(default_factory=list)


@dataclass(frozen=True)
class WorkerRow:
    """One worker. `cpu` in percent of one processor, `memory` in bytes, `age` of its oldest request in seconds."""

    pid: int
    group: str
    generation: int
    state: str
    cpu: float
    memory: int
    processed: int
    uptime: float
    age: float | None
    request: str


@dataclass(frozen=True)
class Summary:
    """All workers. `rate`: requests per second since the previous reading. `groups`: the names of all applications."""

    time: float
    rate: float
    queue: int
    busy: int
    workers: list[WorkerRow]
    groups: Sequence[str] = ()


SORTS: Mapping[str, tuple[str, Callable[[WorkerRow], float]]] = {
    "c": ("CPU", lambda row: row.cpu),
    "m": ("memory", lambda row: row.memory),
    "r": ("requests", lambda row: row.processed),
    "a": ("age", lambda row: -1.0 if row.age is None else row.age),
}


def summary(now: Reading, before: Reading | None, sort: str) -> Summary:
    """The summary of a reading; its workers are sorted by `sort` (a key of SORTS), highest first."""
    rows = sorted(_rows(now, before), key=lambda row: (-SORTS[sort][1](row), row.pid))
    return Summary(
        time=now.status["time"], rate=_rate(now, before), queue=now.status["queue"],
        busy=sum(row.state == "busy" for row in rows), workers=rows,
        groups=[group["name"] for group in now.status["app_groups"]],
    )


def as_json(shown: Summary) -> dict[str, Any]:
    """The object of one line of `--json`."""
    return {
        "time": shown.time,
        "requests_per_second": round(shown.rate, 3),
        "queue": shown.queue,
        "busy": shown.busy,
        "workers": [asdict(row) for row in shown.workers],
    }


def render(
    shown: Summary, size: os.terminal_size, sort: str, *, selected: int = 0, colour: bool = False, notice: str = ""
) -> list[str]:
    """The screen: at most `size.lines` lines of at most `size.columns` characters."""
    width, room = size.columns, max(0, size.lines - 3)
    many = "" if len(shown.workers) == 1 else "s"
    rate = f"{shown.rate:.1f} requests/s"
    counts = f"{len(shown.workers)} worker{many}, {shown.busy} busy · {shown.queue} waiting · {rate}"
    names = _names(shown.groups)
    column = max(map(len, ("APPLICATION", *names.values()))) + 2 if names else 0
    lines = [
        _styled(cut(f"{counts} · by {SORTS[sort][0]}", width), BOLD, colour),
        cut(printable(notice) or "? help  q quit", width),
        _styled(cut(f"{HEADINGS}{'APPLICATION' if names else '':<{column}}REQUEST", width), DIM, colour),
    ]
    chosen = next((n for n, row in enumerate(shown.workers) if row.pid == selected), 0)
    start = max(0, min(chosen - room // 2, len(shown.workers) - room))
    for number, row in enumerate(shown.workers[start : start + room], start):
        marked = selected > 0 and number == chosen
        name = f"{names.get(row.group, ''):<{column}}"
        line = cut((">" if marked else " ") + _line(row, name)[1:], width)
        lines.append(_styled(line, REVERSE, colour and marked))
    return lines[: size.lines]


def plain(shown: Summary, sort: str) -> str:
    """The table without a terminal: all workers, in lines of any length."""
    size = os.terminal_size((1 << 12, len(shown.workers) + 3))
    lines = render(shown, size, sort)
    return "\n".join([lines[0], *(line.rstrip() for line in lines[2:])])


def cut(line: str, width: int) -> str:
    """The part of a line that fits into `width` columns; a cut line ends with an ellipsis."""
    return line if len(line) <= width else line[: max(0, width - 1)] + ("…" if width else "")


def moved(shown: Summary, selected: int, step: int) -> int:
    """The pid of the worker `step` rows below the selected one; 0 if there are no workers."""
    pids = [row.pid for row in shown.workers]
    if not pids:
        return 0
    place = pids.index(selected) + step if selected in pids else 0
    return pids[max(0, min(len(pids) - 1, place))]


def _names(groups: Sequence[str]) -> dict[str, str]:
    """The names shown for several applications: the last part of the path if it is unique, else the whole path."""
    if len(groups) < 2:
        return {}
    last = [os.path.basename(group) for group in groups]
    names = {group: end if last.count(end) == 1 else group for group, end in zip(groups, last, strict=True)}
    most = MAX_NAME_COLUMNS
    return {group: f"…{name[1 - most :]}" if len(name) > most else name for group, name in names.items()}


def _line(row: WorkerRow, name: str = "") -> str:
    age = "" if row.age is None else f"{row.age:.1f}s"
    return (
        f"{row.pid:>8} {row.state:<8} {row.generation:>4} {row.cpu:>6.1f} {memory(row.memory):>7} {row.processed:>9} "
        f"{duration(row.uptime):>12} {age:>7}  {in_line(name)}{in_line(row.request)}"
    )


def _styled(line: str, style: str, colour: bool) -> str:
    return f"{style}{line}{RESET}" if colour else line


def _rows(now: Reading, before: Reading | None) -> Iterator[WorkerRow]:
    oldest: dict[int, Json] = {}
    for request in now.requests:
        if request.get("pid"):
            oldest.setdefault(request["pid"], request)
    earlier = {worker["pid"]: worker for _, worker in _workers(before)} if before else {}
    for group, worker in _workers(now):
        current = oldest.get(worker["pid"])
        yield WorkerRow(
            pid=worker["pid"], group=group["name"], generation=worker["generation"], state=worker["state"],
            cpu=_cpu(worker, earlier.get(worker["pid"]), _seconds(now, before)), memory=worker["memory"],
            processed=worker["processed"], uptime=worker["uptime"], age=None if current is None else current["age"],
            request=_words(current),
        )


def _workers(reading: Reading) -> Iterator[tuple[Json, Json]]:
    for group in reading.status["app_groups"]:
        yield from ((group, worker) for worker in group["workers"])


def _words(request: Json | None) -> str:
    return "" if request is None else f"{request.get('method') or '-'} {request.get('path') or ''}".rstrip()


def _cpu(worker: Json, earlier: Json | None, seconds: float) -> float:
    if earlier is None or not seconds:
        return 0.0
    used: float = worker["cpu_seconds"] - earlier["cpu_seconds"]
    return max(0.0, 100 * used / seconds)


def _rate(now: Reading, before: Reading | None) -> float:
    seconds = _seconds(now, before)
    if before is None or not seconds:
        return 0.0
    done = [sum(group["served"]["requests"] for group in one.status["app_groups"]) for one in (now, before)]
    # A restarted server counts from zero again, which would give a negative rate.
    return max(0.0, float(done[0] - done[1]) / seconds)


def _seconds(now: Reading, before: Reading | None) -> float:
    return 0.0 if before is None else max(0.0, float(now.status["time"] - before.status["time"]))
