"""Figures to tables: medians, and how many times better appsrv was, round by round. Nothing is measured here.

A ratio above 1 is in favour of appsrv, whichever way round the metric counts.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.workloads import Metric, Workload

OURS = "appsrv"


@dataclass
class Series:
    """What one peer did in one workload: figures per round (None where it failed), and why it failed."""

    rounds: list[Mapping[str, float] | None] = field(default_factory=list)
    missing: str | None = None

    def values(self, metric: str) -> list[float | None]:
        return [None if figures is None else figures.get(metric) for figures in self.rounds]

    def median(self, metric: str) -> float | None:
        seen = [value for value in self.values(metric) if value is not None]
        return statistics.median(seen) if seen else None


Results = Mapping[str, Mapping[str, Series]]


def ratios(metric: Metric, ours: Series, theirs: Series) -> list[float]:
    """One ratio per round in which both have a figure."""
    pairs = zip(ours.values(metric.name), theirs.values(metric.name), strict=False)
    both = [(a, b) for a, b in pairs if a is not None and b is not None and a > 0 and b > 0]
    return [a / b if metric.more_is_better else b / a for a, b in both]


def number(value: float | None) -> str:
    if value is None:
        return "missing"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def spread(found: Sequence[float]) -> str:
    if not found:
        return f"{'missing':>7} {'':>7} {'':>7}"
    return " ".join(f"{value:7.2f}" for value in (min(found), statistics.median(found), max(found)))


def metric_lines(metric: Metric, peers: Mapping[str, Series]) -> list[str]:
    ours = peers.get(OURS, Series())
    lines = [f"  {metric.name + ', ' + metric.unit:<26}{'median':>10}   appsrv/peer: min  median     max"]
    for name, series in peers.items():
        found = ratios(metric, ours, series)
        figure = number(series.median(metric.name))
        compared = "" if name == OURS else f"           {spread(found)}"
        why = f"   ({series.missing})" if series.missing and series.median(metric.name) is None else ""
        lines.append(f"    {name:<24}{figure:>10}{compared}{why}")
    return lines


def table(workload: Workload, peers: Mapping[str, Series]) -> str:
    lines = [f"{workload.name}: {workload.title}"]
    for metric in workload.metrics:
        lines += metric_lines(metric, peers)
    return "\n".join(lines) + "\n"


def as_json(
    results: Results, workloads: Sequence[Workload], about: Mapping[str, object]
) -> dict[str, object]:
    """Everything measured, and the ratios, for programs."""
    return {
        "about": dict(about),
        "workloads": {
            workload.name: {
                "title": workload.title,
                "metrics": {metric.name: metric.unit for metric in workload.metrics},
                "peers": {
                    name: _peer_json(workload, series, results[workload.name].get(OURS, Series()))
                    for name, series in results[workload.name].items()
                },
            }
            for workload in workloads
        },
    }


def _peer_json(workload: Workload, series: Series, ours: Series) -> dict[str, object]:
    return {
        "missing": series.missing,
        "rounds": series.rounds,
        "median": {metric.name: series.median(metric.name) for metric in workload.metrics},
        "ratios": {metric.name: ratios(metric, ours, series) for metric in workload.metrics},
    }
