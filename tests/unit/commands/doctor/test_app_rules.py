"""The rules about an application: its import, memory, modules and proxies."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appsrv.commands.doctor import app_rules
from appsrv.commands.doctor.facts import Application, Finding, RunningApp, Trial
from appsrv.settings.table import Settings

MEGA, GIGA = 1 << 20, 1 << 30
GOOD = Trial(seconds=0.5, memory=100 * MEGA)
APP = Application("/srv/shop", "wsgi", Settings(), trial=GOOD)


def found(app: Application, memory: int = GIGA) -> list[Finding]:
    return list(app_rules.findings(app, memory))


def after(**changes: object) -> Finding:
    (finding,) = found(replace(APP, trial=replace(GOOD, **changes)))  # type: ignore[arg-type]
    return finding


def test_nothing_to_find() -> None:
    assert found(APP) == []
    assert found(replace(APP, trial=None, no_trial="--no-import")) == []


def test_missing_extras() -> None:
    (finding,) = found(replace(APP, missing={"metrics": "metrics_port"}))
    assert finding.remedy.startswith("pip install 'appsrv[metrics]'")


def test_an_import_that_fails_is_the_only_finding_about_it() -> None:
    finding = after(error="wsgi cannot be imported: KeyError: 'X'", traceback="Traceback ...", threads=["a"])
    assert (finding.check, finding.details) == ("import", "Traceback ...")


def test_an_import_that_hangs() -> None:
    finding = after(timed_out=True, hangs_at="/srv/shop/wsgi.py:3 in connect")
    assert (finding.check, finding.where) == ("import-timeout", "/srv/shop/wsgi.py:3 in connect")
    assert "90 s" in finding.what


@pytest.mark.parametrize(("seconds", "limit", "slow"), [(9.0, 90.0, False), (11.0, 90.0, True), (3.0, 5.0, True)])
def test_a_slow_import(seconds: float, limit: float, slow: bool) -> None:
    app = replace(APP, settings=replace(Settings(), start_timeout=limit), trial=replace(GOOD, seconds=seconds))
    assert [finding.check for finding in found(app)] == (["slow-import"] if slow else [])


def test_threads_and_connections_before_the_fork() -> None:
    assert "2 threads while it is imported (poller and ticker)" in after(threads=["poller", "ticker"]).what
    assert "a thread while it is imported (poller)" in after(threads=["poller"]).what
    assert after(shared=["10.0.0.5:5432 (psycopg)"]).where == "10.0.0.5:5432 (psycopg)"


def test_notes_for_production() -> None:
    finding = after(notes=["DEBUG is on: error pages show settings; set DEBUG = False in production"])
    assert (finding.what, finding.remedy) == (
        "DEBUG is on: error pages show settings", "set DEBUG = False in production"
    )
    assert after(notes=["no static files in /x: run manage.py collectstatic"]).remedy == "run manage.py collectstatic"


def test_memory_after_the_import() -> None:
    assert found(APP, memory=600 * MEGA) == []
    (finding,) = found(APP, memory=500 * MEGA)
    assert "6 workers of 100M, which the process has after the import, need 600M; there are 500M" in finding.what
    assert finding.remedy.startswith("max_pool_size = 5,")
    assert found(APP, memory=0) == []


def test_memory_of_a_running_instance_counts_before_the_import() -> None:
    running = RunningApp([50 * MEGA, 300 * MEGA], max_pool_size=4)
    (finding,) = found(replace(APP, running=running))
    assert "4 workers of 300M, which the largest worker has, need 1200M" in finding.what
    assert found(replace(APP, running=replace(running, workers=[60 * MEGA])), memory=500 * MEGA) == []


def test_proxies_that_are_not_trusted() -> None:
    running = RunningApp([], 1, {"10.0.0.2": ["X-Forwarded-For", "X-Forwarded-Proto"], "": ["Forwarded"]})
    tcp, unix = found(replace(APP, running=running))
    assert "10.0.0.2 sends X-Forwarded-For and X-Forwarded-Proto" in tcp.what
    assert 'forwarded_allow_ips = "127.0.0.0/8,::1,unix,10.0.0.2"' in tcp.remedy
    assert "the unix socket sends Forwarded" in unix.what
