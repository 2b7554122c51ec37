"""`runserver` for projects with "appsrv_django" in INSTALLED_APPS: that of the next application, served by appsrv."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

from django.apps import apps
from django.core.management.base import BaseCommand

from appsrv_django.runserver import subclass

APP = "appsrv_django"


def next_runserver() -> type[BaseCommand]:
    """The runserver that Django would use without this application."""
    for app in _applications_below():
        try:
            command: type[BaseCommand] = import_module(f"{app}.management.commands.runserver").Command
        except (ImportError, AttributeError):
            continue
        return command
    raise ImportError("Django has no runserver")


def _applications_below() -> Iterator[str]:
    names = [config.name for config in apps.get_app_configs()]
    yield from names[names.index(APP) + 1 :] if APP in names else []
    yield "django.core"


Command = subclass(next_runserver())
