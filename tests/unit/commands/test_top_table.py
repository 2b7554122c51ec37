"""top_table.py: the table of workers for a terminal of any size, rates from two readings."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import pytest

from appsrv.commands import top_table

STYLES = re.compile(r"\x1b\[\d+m")


def worker(pid: int, **other: Any) -> dict[str, Any]:
    plain = {"state": "idle", "generation": 1, "cpu_seconds": 0.0, "memory": pid << 20, "processed": 0, "uptime": 61.0}
    return {"pid": pid, **plain, **other}


def reading(time: float, served: int, workers: list[dict[str, Any]], *requests: dict[str, Any]) -> top_table.Reading:
    group = {"name": "/srv/shop", "workers": workers, "served": {"requests": served}}
    return top_table.Reading({"time": time, "queue": 3, "app_groups": [group]}, list(requests))


BEFORE = reading(100.0, 50, [worker(11), worker(12, cpu_seconds=1.0)])
NOW = reading(
    102.0, 90,
    [worker(11, cpu_seconds=0.5, processed=7), worker(12, cpu_seconds=2.5, state="busy"), worker(13, processed=9)],
    {"pid": 12, "age": 4.25, "method": "GET", "path": "/a\x1b[2J"},
    {"pid": 12, "age": 0.5, "method": "PUT", "path": "/b"},
    {"pid": None, "age": 1.0, "method": None, "path": None},
)


def size(columns: int, lines: int) -> os.terminal_size:
    return os.terminal_size((columns, lines))


@pytest.mark.parametrize(
    ("sort", "pids"), [("c", [12, 11, 13]), ("m", [13, 12, 11]), ("r", [13, 11, 12]), ("a", [12, 11, 13])]
)
def test_order(sort: str, pids: list[int]) -> None:
    assert [row.pid for row in top_table.summary(NOW, BEFORE, sort).workers] == pids


def test_rates_are_those_between_the_two_looks() -> None:
    shown = top_table.summary(NOW, BEFORE, "c")
    assert (shown.rate, shown.busy, shown.queue) == (20.0, 1, 3)
    assert [row.cpu for row in shown.workers] == [75.0, 25.0, 0.0]
    assert (shown.workers[0].age, shown.workers[1].age) == (4.25, None), "of several requests the oldest"


def test_the_first_look_and_a_server_that_began_anew_have_no_rate() -> None:
    assert top_table.summary(NOW, None, "c").rate == 0.0
    anew = top_table.summary(BEFORE, NOW, "c")
    assert anew.rate == 0.0
    assert all(row.cpu == 0.0 for row in anew.workers)


def test_the_table() -> None:
    lines = top_table.render(top_table.summary(NOW, BEFORE, "c"), size(120, 24), "c", selected=12, notice="hello")
    assert lines[0] == "3 workers, 1 busy · 3 waiting · 20.0 requests/s · by CPU"
    assert lines[1] == "hello"
    assert lines[3] == ">     12 busy        1   75.0     12M         0        1m 1s    4.2s  GET /a[2J"
    assert lines[4].startswith("      11 idle        1   25.0")


def test_of_several_applications_each_worker_says_whose_it_is() -> None:
    one = NOW.status["app_groups"][0]
    names = ("/srv/blog", "/srv/old/blog", "/srv/" + "x" * 40)
    others = [{**one, "name": name, "workers": [worker(pid)]} for pid, name in enumerate(names, 20)]
    several = top_table.Reading({**NOW.status, "app_groups": [one, *others]}, NOW.requests)
    lines = top_table.render(top_table.summary(several, None, "m"), size(140, 24), "m")
    assert lines[2].endswith("AGE  APPLICATION               REQUEST")
    ends = {line.split()[0]: line[70:].rstrip() for line in lines[3:]}
    assert ends == {
        "20": "/srv/blog", "21": "/srv/old/blog", "22": f"…{'x' * 23}", "11": "shop", "13": "shop",
        "12": "shop                      GET /a[2J",
    }


@pytest.mark.parametrize("columns", [1, 5, 40, 80, 200])
@pytest.mark.parametrize("lines", [1, 3, 4, 24])
@pytest.mark.parametrize("colour", [True, False])
def test_it_fits(columns: int, lines: int, colour: bool) -> None:
    many = reading(103.0, 0, [worker(pid) for pid in range(1, 41)])
    shown = top_table.summary(many, None, "m")
    drawn = top_table.render(shown, size(columns, lines), "m", selected=20, colour=colour)
    assert len(drawn) <= lines
    assert all(len(STYLES.sub("", line)) <= columns for line in drawn)
    assert any("\x1b" in line for line in drawn) is colour
    if columns > 20 and lines > 3:
        assert any(line.startswith(">     20") for line in (STYLES.sub("", line) for line in drawn))


def test_the_mark_moves_and_stays_within() -> None:
    shown = top_table.summary(NOW, BEFORE, "c")
    assert top_table.moved(shown, 12, 1) == 11
    assert top_table.moved(shown, 12, -1) == 12
    assert top_table.moved(shown, 13, 1) == 13
    assert top_table.moved(shown, 999, 1) == 12, "one that has gone"
    assert top_table.moved(top_table.summary(reading(1.0, 0, []), None, "c"), 5, 1) == 0


def test_without_a_terminal_everything_is_printed() -> None:
    printed = top_table.plain(top_table.summary(NOW, BEFORE, "c"), "c").splitlines()
    assert len(printed) == 5
    assert "GET /a" in printed[2]
    line = json.loads(json.dumps(top_table.as_json(top_table.summary(NOW, BEFORE, "c"))))
    assert line["requests_per_second"] == 20.0
    assert line["workers"][0]["request"] == "GET /a\x1b[2J"


def test_one_worker_is_one() -> None:
    alone = reading(1.0, 0, [worker(11)])
    assert top_table.plain(top_table.summary(alone, None, "c"), "c").startswith("1 worker, 0 busy")
