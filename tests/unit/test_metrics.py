"""metrics.py and server/admin/monitoring.py: the report for Prometheus, read back by prometheus_client."""

from __future__ import annotations

import copy
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from appsrv import metrics
from appsrv.errors import OperatorError
from appsrv.server.admin import monitoring

USAGE = {"cpu": 1.0, "cpu_seconds": 2.5, "memory": 1 << 20}
SECRET = "s3cr3t"
STATUS: dict[str, Any] = {
    "version": "1.2.3",
    "time": 1700000000.0,
    "instance": {"root": "/srv/shop"},
    "server": {
        "pid": 2, "uptime": 60.0, "connections": 3, "max_connections": 100, "closed_idle": 1, "refused_per_address": 4,
        "accept_pauses": 0, "accepted": 50, "ready_queue": "epoll", "restarts": 1, "answered": {"502": 2, "408": 1},
        **USAGE,
    },
    "app_groups": [
        {
            "name": '/srv/a "shop"\\\n', "root": "/srv/shop", "app": "wsgi", "environment": "production",
            "generation": 7, "state": "running", "spawning": 1, "min_instances": 1, "max_pool_size": 6, "queue": 5,
            "queue_age": 0.75, "refused": 1, "timed_out": 2, "abandoned": 3, "restarts": {"ok": 6, "failed": 1},
            "served": {
                "requests": 12, "busy_seconds": 3.5, "classes": {"2xx": 10, "5xx": 2},
                "buckets": [[0.1, 8], [1.0, 3], [None, 1]], "seconds": 4.25,
            },
            "resisting": False, "last_error": {"message": SECRET, "traceback": SECRET},
            "deaths_by_cause": {"SIGSEGV": 2},
            "last_death": {
                "time": 1699999999.0, "pid": 9, "cause": "killed by SIGSEGV", "requests": [f"GET /?token={SECRET}"],
                "last_lines": [SECRET],
            },
            "deaths": [{"requests": [SECRET]}],
            "preloaders": [{"pid": 3, "generation": 7, **USAGE}],
            "workers": [
                {
                    "pid": pid, "state": state, "generation": 7, "sessions": 0, "threads": 1, "processed": 6,
                    "uptime": 5.0, "last_used": None, **USAGE,
                }
                for pid, state in ((4, "idle"), (5, "busy"), (6, "busy"), (0, "booting"))
            ],
        }
    ],
}
GROUP = STATUS["app_groups"][0]["name"]


def samples(status: dict[str, Any]) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """What a Prometheus would have of it."""
    kind, text = metrics.exposition(status)
    assert kind.startswith("text/plain; version=")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("appsrv_queue_length", {"group": GROUP}, 5),
        ("appsrv_queue_oldest_seconds", {"group": GROUP}, 0.75),
        ("appsrv_workers", {"group": GROUP, "state": "busy"}, 2),
        ("appsrv_workers", {"group": GROUP, "state": "retiring"}, 0),
        ("appsrv_generation", {"group": GROUP}, 7),
        ("appsrv_up", {"group": GROUP}, 1),
        ("appsrv_restarts_total", {"group": GROUP, "outcome": "failed"}, 1),
        ("appsrv_worker_deaths_total", {"group": GROUP, "cause": "SIGSEGV"}, 2),
        ("appsrv_worker_deaths_total", {"group": GROUP, "cause": "out_of_memory"}, 0),
        ("appsrv_last_death_timestamp_seconds", {"group": GROUP}, 1699999999.0),
        ("appsrv_requests_total", {"group": GROUP, "class": "2xx"}, 10),
        ("appsrv_service_seconds_bucket", {"group": GROUP, "le": "1.0"}, 11),
        ("appsrv_service_seconds_bucket", {"group": GROUP, "le": "+Inf"}, 12),
        ("appsrv_service_seconds_count", {"group": GROUP}, 12),
        ("appsrv_service_seconds_sum", {"group": GROUP}, 4.25),
        ("appsrv_own_answers_total", {"status": "502"}, 2),
        ("appsrv_process_memory_bytes", {"role": "worker", "pid": "5"}, 1 << 20),
        ("appsrv_process_cpu_seconds_total", {"role": "preloader", "pid": "3"}, 2.5),
    ],
)
def test_what_prometheus_reads(name: str, labels: dict[str, str], value: float) -> None:
    assert samples(STATUS)[name, frozenset(labels.items())] == value


def test_without_counting_there_are_still_requests() -> None:
    status = copy.deepcopy(STATUS)
    for key in ("classes", "buckets", "seconds"):
        del status["app_groups"][0]["served"][key]
    status["app_groups"][0]["last_death"] = None
    found = samples(status)
    assert found["appsrv_requests_served_total", frozenset({("group", GROUP)})] == 12
    assert not any(name.startswith(("appsrv_requests_total", "appsrv_service", "appsrv_last")) for name, _ in found)


def test_nothing_secret_is_for_everybody() -> None:
    assert SECRET not in str(monitoring.figures(STATUS))
    assert SECRET not in metrics.exposition(STATUS)[1].decode()


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(OperatorError, match=r"metrics_port needs .* pip install 'appsrv\[metrics\]'"):
        metrics.check("metrics_port")


@pytest.mark.process
def test_what_the_dead_have_left_goes_and_what_they_have_counted_stays(tmp_path: Path) -> None:
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    kept = {f"counter_{pid}.db", f"gauge_all_{pid}.db", f"gauge_livesum_{os.getpid()}.db", "else"}
    for name in (*kept, f"gauge_livesum_{pid}.db", f"gauge_liveall_{pid}.db"):
        (tmp_path / name).touch()
    metrics.forget_dead(str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == kept


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost:9000", True), ("127.0.0.1:9000", True), ("[::1]:9000", True), ("", True), ("a.localhost", True),
        ("evil.example", False), ("localhost.evil.example:80", False), ("127.0.0.1.evil.example", False),
    ],
)
def test_names_of_this_machine(host: str, allowed: bool) -> None:
    assert monitoring.may_be_called(host, local=True) is allowed
    assert monitoring.may_be_called(host, local=False)
