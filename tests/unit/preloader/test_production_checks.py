"""What is said about an application that is not fit for the public."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import flask
import pytest

from appsrv.preloader import production_checks


def django_with(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
    conf = ModuleType("django.conf")
    fit = {"DEBUG": False, "INSTALLED_APPS": ["django.contrib.staticfiles"], "STATIC_URL": "/static/"}
    conf.settings = SimpleNamespace(configured=True, STATIC_ROOT=None, **{**fit, **settings})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "django.conf", conf)


def said(application: object = None) -> str:
    return " | ".join(production_checks.notes(application))


def test_django_with_debug(monkeypatch: pytest.MonkeyPatch) -> None:
    django_with(monkeypatch, DEBUG=True)
    assert said().startswith("DEBUG is on")


def test_static_files_of_django(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    django_with(monkeypatch)
    assert "STATIC_ROOT is not set" in said()
    monkeypatch.setattr(sys.modules["django.conf"].settings, "STATIC_ROOT", tmp_path / "collected")
    assert said() == f"no static files in {tmp_path / 'collected'}: run manage.py collectstatic"
    (tmp_path / "collected" / "css").mkdir(parents=True)
    assert said() == ""


@pytest.mark.parametrize(
    "settings", [{"STATIC_URL": "https://cdn.example/"}, {"INSTALLED_APPS": []}, {"STATIC_URL": None}]
)
def test_static_files_that_somebody_else_serves(monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]) -> None:
    django_with(monkeypatch, **settings)
    assert said() == ""


def test_flask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "django.conf", raising=False)
    application = flask.Flask("shop")
    assert said(application) == ""
    application.debug = True
    assert "debug" in said(application)


def test_any_other_application(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "django.conf", raising=False)
    assert said(lambda environ, start_response: [b""]) == ""
