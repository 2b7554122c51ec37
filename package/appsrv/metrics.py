"""Metrics: the status report in the text format of Prometheus, with the names and units that it recommends.

Pure, except for prometheus_client, which writes the format. That library is imported only here, and only for a request
of metrics; `check` reports at the start if it is missing.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from appsrv.errors import OperatorError
from appsrv.system.process_tree import exists

if TYPE_CHECKING:
    from prometheus_client.core import Metric

log = logging.getLogger("appsrv.metrics")

STATES = ("booting", "idle", "busy", "retiring")
CAUSES = ("exit", "out_of_memory", "appsrv")
# The file of a gauge in prometheus_client's multiprocess mode: gauge_livesum_4711.db, with the pid of its writer.
_LIVE = re.compile(r"gauge_live[a-z]*_(\d+)\.db")

Json = Mapping[str, Any]
Samples = Iterable[tuple[list[str], float]]


def check(wanted_by: str) -> None:
    """Raises OperatorError if prometheus_client, which the setting `wanted_by` needs, is not installed."""
    try:
        import prometheus_client  # noqa: F401
    except ImportError as error:
        raise OperatorError(
            f"{wanted_by} needs prometheus_client, which cannot be imported ({error}): pip install 'appsrv[metrics]'"
        ) from None


def exposition(status: Json) -> tuple[str, bytes]:
    """(content type, content) of `/metrics`."""
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    return CONTENT_TYPE_LATEST, generate_latest(_Families(families(status)))


def of_application(directory: str) -> tuple[str, bytes]:
    """(content type, content) of the application's own metrics, which its workers have written into `directory`."""
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector

    # If the server was killed, the files of workers that ended meanwhile are still there.
    forget_dead(directory)
    registry = CollectorRegistry()
    MultiProcessCollector(registry, directory)  # type: ignore[no-untyped-call]
    return CONTENT_TYPE_LATEST, generate_latest(registry)


def of_applications(directories: Mapping[str, str]) -> tuple[str, bytes]:
    """The same for several applications, by the names of their groups. Each sample has its group as label `group`."""
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector

    merged: dict[str, Metric] = {}
    for group, directory in directories.items():
        try:
            forget_dead(directory)
            collector = MultiProcessCollector(CollectorRegistry(), directory)  # type: ignore[no-untyped-call]
            found = list(collector.collect())  # type: ignore[no-untyped-call]
        except OSError as error:
            log.error("the metrics of %s cannot be read: %s", group, error)
            continue
        for metric in found:
            family = merged.setdefault(metric.name, type(metric)(metric.name, metric.documentation, metric.type))
            for sample in metric.samples:
                family.samples.append(sample._replace(labels={**sample.labels, "group": group}))
    return CONTENT_TYPE_LATEST, generate_latest(_Families(merged.values()))


class _Families:
    """The part of a registry that `generate_latest` needs."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)


def forget_dead(directory: str) -> None:
    """Remove the files of "live" gauges of processes that have ended: such a gauge counts running processes only."""
    from prometheus_client.multiprocess import mark_process_dead

    for pid in {int(found[1]) for name in os.listdir(directory) if (found := _LIVE.fullmatch(name))}:
        if not exists(pid):
            mark_process_dead(pid, directory)  # type: ignore[no-untyped-call]


def families(status: Json) -> Iterator[Metric]:
    """All metrics of a report."""
    yield _gauge("info", "Version of appsrv; always 1.", ["version"], [([status["version"]], 1)])
    yield from _server(status["server"])
    groups = status["app_groups"]
    yield from _pool(groups)
    yield from _requests(groups)
    yield from _processes(status)


def _gauge(name: str, text: str, labels: list[str], samples: Samples) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(f"appsrv_{name}", text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _counter(name: str, text: str, labels: list[str], samples: Samples) -> Metric:
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(f"appsrv_{name}", text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _server(server: Json) -> Iterator[Metric]:
    yield _gauge("connections", "Connections of clients that are open.", [], [([], server["connections"])])
    yield _gauge("connections_max", "Connections there may be at a time.", [], [([], server["max_connections"])])
    yield _counter("connections_accepted", "Connections accepted.", [], [([], server["accepted"])])
    yield _counter(
        "connections_refused", "Connections answered 429: too many of one address.", [],
        [([], server["refused_per_address"])],
    )
    yield _counter(
        "connections_closed_idle", "Idle connections closed to make room for others.", [], [([], server["closed_idle"])]
    )
    yield _counter(
        "accept_pauses", "Pauses in accepting connections: a limit was reached.", [], [([], server["accept_pauses"])]
    )
    yield _counter(
        "own_answers", "Requests that the front end answered in place of a worker.", ["status"],
        [([code], count) for code, count in sorted(server["answered"].items())],
    )
    yield _gauge("uptime_seconds", "Since the server process was started.", [], [([], server["uptime"])])
    yield _counter("server_restarts", "Times that the server process was replaced.", [], [([], server["restarts"])])


def _pool(groups: list[Json]) -> Iterator[Metric]:
    def each(key: str) -> Samples:
        return [([group["name"]], group[key]) for group in groups]

    yield _gauge("queue_length", "Requests that wait for a free worker.", ["group"], each("queue"))
    yield _gauge("queue_oldest_seconds", "How long the first of those has waited.", ["group"], each("queue_age"))
    yield _counter("queue_refused", "Requests answered 503: the queue was full.", ["group"], each("refused"))
    yield _counter("queue_timed_out", "Requests answered 504: no worker in time.", ["group"], each("timed_out"))
    yield _counter("queue_abandoned", "Requests that waited when their client left.", ["group"], each("abandoned"))
    yield _gauge("workers", "Workers by state.", ["group", "state"], _by_state(groups))
    yield _gauge(
        "workers_max", "Workers there may be (max_pool_size).", ["group"], each("max_pool_size")
    )
    yield _gauge("workers_min", "Workers that are kept.", ["group"], each("min_instances"))
    yield _gauge("workers_spawning", "Workers that boot.", ["group"], each("spawning"))
    yield _gauge("generation", "Generation of the code that serves.", ["group"], each("generation"))
    yield _gauge(
        "up", "1 when a worker can serve.", ["group"], [([group["name"]], _is_up(group)) for group in groups]
    )
    yield _counter(
        "restarts", "Restarts of the application by how they ended.", ["group", "outcome"],
        [([group["name"], outcome], count) for group in groups for outcome, count in group["restarts"].items()],
    )
    yield _counter("worker_deaths", "Workers that ended unexpectedly.", ["group", "cause"], _deaths(groups))
    yield _gauge(
        "last_death_timestamp_seconds", "When the last of them ended.", ["group"],
        [([group["name"]], group["last_death"]["time"]) for group in groups if group["last_death"]],
    )


def _is_up(group: Json) -> float:
    return float(any(worker["state"] in ("idle", "busy") for worker in group["workers"]))


def _by_state(groups: list[Json]) -> Samples:
    for group in groups:
        found = [worker["state"] for worker in group["workers"]]
        yield from (([group["name"], state], found.count(state)) for state in STATES)


def _deaths(groups: list[Json]) -> Samples:
    # The usual causes are reported from the beginning, with 0: Prometheus needs a first value to compute a rate.
    for group in groups:
        deaths = {**dict.fromkeys(CAUSES, 0), **group["deaths_by_cause"]}
        yield from (([group["name"], cause], count) for cause, count in deaths.items())


def _requests(groups: list[Json]) -> Iterator[Metric]:
    served = [(group["name"], group["served"]) for group in groups]
    yield _counter(
        "requests_served", "Requests that workers have served.", ["group"],
        [([name], one["requests"]) for name, one in served],
    )
    yield _counter(
        "workers_busy_seconds", "Time that workers have spent with requests.", ["group"],
        [([name], one["busy_seconds"]) for name, one in served],
    )
    counted = [(name, one) for name, one in served if "classes" in one]
    if counted:
        yield _counter(
            "requests", "Requests that workers have answered, by class of status.", ["group", "class"],
            [([name, group], count) for name, one in counted for group, count in one["classes"].items()],
        )
        yield _service_time(counted)


def _service_time(counted: list[tuple[str, Json]]) -> Metric:
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(
        "appsrv_service_seconds", "Time that the application took for a request.", labels=["group"]
    )
    for name, served in counted:
        bounds = ["+Inf" if bound is None else str(bound) for bound, _ in served["buckets"]]
        sums = accumulate(count for _, count in served["buckets"])
        family.add_metric([name], list(zip(bounds, sums, strict=True)), served["seconds"])
    return family


def _processes(status: Json) -> Iterator[Metric]:
    found = [(role, str(process["pid"]), process) for role, process in _of_each_role(status)]
    labels = ["role", "pid"]
    yield _gauge(
        "process_memory_bytes", "Memory (PSS: shared pages are divided by the processes that share them).", labels,
        [([role, pid], process["memory"]) for role, pid, process in found],
    )
    yield _counter(
        "process_cpu_seconds", "Processor time used.", labels,
        [([role, pid], process["cpu_seconds"]) for role, pid, process in found],
    )


def _of_each_role(status: Json) -> Iterator[tuple[str, Json]]:
    yield "server", status["server"]
    for group in status["app_groups"]:
        yield from (("preloader", preloader) for preloader in group["preloaders"])
        yield from (("worker", worker) for worker in group["workers"] if worker["pid"] > 0)
