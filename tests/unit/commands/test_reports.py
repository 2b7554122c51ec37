"""The words and layouts of commands: those of Passenger, to the column."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from appsrv.commands import reports
from appsrv.instance.run_directory import InstanceInfo
from appsrv.system.words import date
from support.admin import STATUS

NOW = 1700003600.0
GROUP = """\
/srv/shop (production):
  App root: /srv/shop
  Requests in queue: 4
  * PID: 18334   Sessions: 0       Processed: 4595    Uptime: 5h 53m 29s
    CPU: 0%      Memory  : 99M     Last used: 4s ago"""
REPORT = f"""\
Version : 0.1.0
Date    : {date(NOW)}
Instance: shop-8000-1f0c9a3e (appsrv/0.1.0)

----------- General information -----------
Max pool size : 6
App groups    : 1
Processes     : 1
Requests in top-level queue : 0

----------- Application groups -----------
{GROUP}"""


def changed(**of_group: Any) -> dict[str, Any]:
    status = copy.deepcopy(STATUS)
    status["app_groups"][0].update(of_group)
    return status


def test_the_report_has_the_layout_of_passenger_status() -> None:
    assert reports.status_report(STATUS, NOW) == REPORT


def test_an_application_with_a_log_of_its_own_has_it_named() -> None:
    status = changed(log_file="/srv/shop/appsrv.log")
    assert "  Log file: /srv/shop/appsrv.log\n" in reports.status_report(status, NOW)
    status["instance"]["log_file"] = "/srv/shop/appsrv.log"
    assert "Log file" not in reports.status_report(status, NOW)


def test_colours_are_on_the_titles_only_when_wanted() -> None:
    coloured = reports.status_report(STATUS, NOW, colour=True)
    assert "\x1b[1;33;44m----------- General information -----------\x1b[0m" in coloured
    assert "\x1b" not in reports.status_report(STATUS, NOW)


def test_more_with_verbose() -> None:
    report = reports.status_report(STATUS, NOW, verbose=True)
    assert "  App: wsgi:application, generation 2\n" in report
    assert "    Threads: 1   Generation: 2" in report


@pytest.mark.parametrize(
    ("of_group", "line"),
    [
        ({"spawning": 1}, "  (spawning 1 new process...)"),
        ({"spawning": 2}, "  (spawning 2 new processes...)"),
        ({"state": "restarting"}, "  (restarting...)"),
        (
            {"last_death": {"time": NOW - 62, "pid": 7, "cause": "killed by SIGKILL"}},
            "  Last death: PID 7, 1m 2s ago: killed by SIGKILL",
        ),
        (
            {"last_error": {"time": NOW - 5, "message": "no module 'x'\nsecond line", "traceback": ""}},
            "  Last error: no module 'x' (5s ago)",
        ),
    ],
)
def test_what_is_out_of_the_ordinary(of_group: dict[str, Any], line: str) -> None:
    assert line in reports.status_report(changed(**of_group), NOW).splitlines()


def test_a_failed_deployment() -> None:
    error = {"time": NOW, "message": "broken", "traceback": "Traceback:\n  line 1\n"}
    status = changed(last_error=error)
    assert "Resisting deployment error" in reports.status_report(status, NOW)
    assert "    Traceback:\n      line 1\n" in reports.status_report(status, NOW, verbose=True)
    status["app_groups"][0]["workers"] = []
    assert "Resisting" not in reports.status_report(status, NOW)


def test_workers_that_come_and_go() -> None:
    status = copy.deepcopy(STATUS)
    worker = status["app_groups"][0]["workers"][0]
    worker.update(state="retiring", last_used=None)
    report = reports.status_report(status, NOW)
    assert report.endswith("Last used: never\n    Shutting down...")


def test_no_applications_and_servers_of_other_versions() -> None:
    report = reports.status_report({}, NOW)
    assert "currently not serving any applications." in report
    assert "Server PID" in reports.server_report({}, NOW)
    assert "/x (?):" in reports.status_report({"app_groups": [{"name": "/x", "workers": [{}]}]}, NOW)


def test_the_server_s_report() -> None:
    report = reports.server_report(STATUS, NOW)
    assert "Server PID      : 18331\n" in report
    assert "Server uptime   : 1h 1m 1s\n" in report
    assert "Listening on    : http://127.0.0.1:8000/\n" in report


def test_an_application_s_words_cannot_drive_the_terminal() -> None:
    error = {"time": NOW, "message": "\x1b]0;owned\x07", "traceback": "a\x1b[2J\n"}
    assert "\x1b" not in reports.status_report(changed(last_error=error), NOW, verbose=True)


def test_nor_can_a_name_be_a_line_of_its_own() -> None:
    name = "/apps/a\n/apps/b (production):\n  * PID: 7\t\x1b[2J"
    status = changed(name=name, root=name)
    status["not_served"] = [{"name": name, "message": "no application"}]
    report = reports.status_report(status, NOW)
    assert "/apps/b (production):" not in [line.strip() for line in report.splitlines()]
    assert "/apps/a\\n/apps/b (production):\\n  * PID: 7\\t[2J: no application" in report.splitlines()


def test_the_banner() -> None:
    info = InstanceInfo(
        name="shop-8000-1f0c9a3e",
        pid=1,
        version="0.1.0",
        root="/app",
        app="wsgi",
        environment="development",
        bind=("http://0.0.0.0:3000/",),
        pid_file="/app/tmp/pids/appsrv.3000.pid",
        log_file="/app/log/appsrv.3000.log",
        started=0.0,
    )
    lines = reports.banner(info).splitlines()
    assert lines[1:] == [
        "PID file: /app/tmp/pids/appsrv.3000.pid",
        "Log file: /app/log/appsrv.3000.log",
        "Environment: development",
        "Accessible via: http://0.0.0.0:3000/",
        "",
        "You can stop appsrv by pressing Ctrl-C.",
        "=" * 79,
    ]
    assert " appsrv web server started " in lines[0]
    assert len(lines[0]) == 79
    daemon = reports.banner(InstanceInfo(**{**vars(info), "daemonized": True}))
    assert "Serving in the background as a daemon.\n" in daemon
    assert "appsrv stop shop-8000-1f0c9a3e" in daemon


def test_requests_one_per_line() -> None:
    requests = [
        {"state": "in progress", "age": 61.25, "pid": 617, "client": "192.0.2.7", "method": "GET", "path": "/orders"},
        {"state": "waiting", "age": 0.5, "pid": None, "client": None, "method": None, "path": "/\x1b[2J"},
    ]
    lines = reports.requests_report(STATUS, requests, NOW).splitlines()
    assert lines[-2].split() == ["61.2s", "in", "progress", "617", "192.0.2.7", "GET", "/orders"]
    assert lines[-1].split() == ["0.5s", "waiting", "-", "-", "-", "/[2J"]
    assert len({line.index(word) for line, word in zip(lines[-3:], ("Path", "/orders", "/["), strict=True)}) == 1


def test_no_requests() -> None:
    assert reports.requests_report(STATUS, [], NOW).endswith("No request is being served, none waits.")
