"""Collecting the facts: users, ways to files, modules, and the answers of a running instance."""

from __future__ import annotations

import os
import pwd
from dataclasses import replace
from pathlib import Path

import pytest

from appsrv.apps.app_group import AppGroup
from appsrv.apps.app_spec import AppSpec
from appsrv.commands.doctor import running, survey, trial
from appsrv.commands.doctor.facts import RunningApp
from appsrv.errors import SettingsError
from appsrv.settings.table import Settings
from appsrv.system.service_manager import SERVICE_VARIABLES


def test_the_user_of_the_web_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf = tmp_path / "nginx.conf"
    monkeypatch.setattr(survey, "NGINX_CONF", str(conf))
    conf.write_text("# user root;\nuser  nobody;\nhttp {}\n")
    account = survey.web_account(None)
    assert account is not None
    assert (account.name, account.uid) == ("nobody", pwd.getpwnam("nobody").pw_uid)
    conf.write_text("http {}\n")
    monkeypatch.setattr(survey, "WEB_USERS", ("no-such-user", "root"))
    account = survey.web_account(None)
    assert account is not None
    assert account.uid == 0
    monkeypatch.setattr(survey, "WEB_USERS", ("no-such-user",))
    assert survey.web_account(None) is None
    with pytest.raises(SettingsError, match="--web-user: there is no user no-such-user"):
        survey.web_account("no-such-user")


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        (Settings(), {}),
        (replace(Settings(), static=()), {}),
        (replace(Settings(), static=("/s/=/srv",)), {"static": "static"}),
        (replace(Settings(), metrics_port=0), {"metrics": "metrics_port"}),
        (replace(Settings(), prometheus_multiproc=True), {"metrics": "prometheus_multiproc"}),
        (replace(Settings(), environment="development"), {"reload": "environment = development"}),
    ],
)
def test_extras(settings: Settings, missing: dict[str, str]) -> None:
    assert survey.missing_extras(settings, lambda _module: False) == missing
    assert survey.missing_extras(settings, lambda _module: True) == {}


def test_the_files_of_a_project(tmp_path: Path) -> None:
    (tmp_path / "wsgi.py").write_text("def application(environ, start_response): ...\n")
    flags = {"socket": str(tmp_path / "s"), "socket_mode": "600", "log_file": str(tmp_path / "no" / "log")}
    environ = {"XDG_RUNTIME_DIR": str(tmp_path / "run")}
    facts = survey.collect(None, flags, environ, tmp_path, web_user="nobody", imports=False)
    (way,) = facts.machine.ways
    assert [step.path for step in way.directories][-1] == os.path.realpath(tmp_path)
    assert way.file is not None
    assert (way.file.mode, way.file.uid) == (0o600, os.geteuid())
    places = {place.setting: place.problem for place in facts.machine.places}
    assert places == {"log_file": "there is no such directory", "pid_file": ""}
    (app,) = facts.apps
    assert (app.trial, app.no_trial) == (None, "it was not imported: --no-import")


def test_what_is_not_imported(tmp_path: Path) -> None:
    group = AppGroup.alone(AppSpec(str(tmp_path), "wsgi"), Settings())
    assert trial.reason_against(group) == ""
    os.mkfifo(tmp_path / ".env")
    assert ".env is a FIFO" in trial.reason_against(group)
    node = AppGroup.alone(AppSpec(str(tmp_path), kind="generic", start_command="node x.js"), Settings())
    assert "start_command" in trial.reason_against(node)


def test_the_environment_of_the_trial() -> None:
    group = AppGroup(AppSpec("/srv", "wsgi"), replace(Settings(), environment="staging"), "shop", {"A": "group"})
    given = {"A": "shell", "B": "shell", **dict.fromkeys(SERVICE_VARIABLES, "1")}
    assert trial.environment_of(group, given) == {
        "A": "group", "B": "shell", "PYTHONUNBUFFERED": "1", "APPSRV_ENV": "staging",
    }


def test_the_report_of_a_running_instance() -> None:
    workers = [{"state": "idle", "memory": 5}, {"state": "booting", "memory": 0}, {"state": "busy", "memory": 7}]
    proxies = [{"address": "10.0.0.2", "fields": ["Forwarded"]}]
    groups = [
        {"name": "shop", "workers": workers, "max_pool_size": 3, "untrusted_proxies": proxies},
        # As another version answers.
        {"name": "old"},
    ]
    found = running.of_status("shop-8000-1", {"server": {"pid": 12}, "app_groups": groups})
    assert (found.name, found.pid) == ("shop-8000-1", 12)
    assert found.apps["shop"] == RunningApp([5, 7], 3, {"10.0.0.2": ["Forwarded"]})
    assert found.apps["old"] == RunningApp([], 1, {})
    assert running.of_status("x", {}) == running.RunningInstance("x", 0, {})


def test_the_limit_of_descriptors_of_a_process() -> None:
    assert (running.descriptors(os.getpid()) or 1) > 0
    assert running.descriptors(0) is None
