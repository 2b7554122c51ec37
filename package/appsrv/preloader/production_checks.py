"""Warns of framework settings that an application in production should not have, such as DEBUG.

Called in the preloader once the application is loaded. Looks only at modules that are imported already.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any


def notes(application: object) -> Iterator[str]:
    """A line for each problem, with its remedy."""
    if _flask_debugs(application):
        yield "the Flask application has debug on, which shows its source to every client: do not set it in production"
    conf = sys.modules.get("django.conf")
    settings: Any = getattr(conf, "settings", None)
    if settings is not None and settings.configured:
        yield from _of_django(settings)


def settings_module() -> str:
    """The settings module that Django has loaded; empty without Django, or if the settings are not from a module."""
    conf = sys.modules.get("django.conf")
    settings: Any = getattr(conf, "settings", None)
    if settings is None or not settings.configured:
        return ""
    return str(getattr(settings, "SETTINGS_MODULE", None) or "")


def _flask_debugs(application: object) -> bool:
    flask: Any = sys.modules.get("flask")
    return flask is not None and isinstance(application, flask.Flask) and bool(application.debug)


def _of_django(settings: Any) -> Iterator[str]:
    if settings.DEBUG:
        yield "DEBUG is on: error pages show settings and source to every client; set DEBUG = False in production"
    elif "django.contrib.staticfiles" in settings.INSTALLED_APPS and _is_local(static_url(settings)):
        root = settings.STATIC_ROOT
        if not root:
            yield "STATIC_ROOT is not set, so static files cannot be collected and served: set it, then collectstatic"
        elif not _has_entries(str(root)):
            yield f"no static files in {root}: run manage.py collectstatic"


def static_url(settings: Any) -> str:
    """STATIC_URL, with `/` in front of a relative one.

    Django puts the prefix of the current request in front of a relative URL, and keeps the result in the settings
    object. Here there is no request yet, so a value that was kept by reading it here is dropped again.
    """
    was_kept = "STATIC_URL" in vars(settings)
    url: str = settings.STATIC_URL or ""
    if not was_kept:
        vars(settings).pop("STATIC_URL", None)
    return url


def _is_local(url: str | None) -> bool:
    return bool(url) and "//" not in str(url)


def _has_entries(directory: str) -> bool:
    try:
        return bool(os.listdir(directory))
    except OSError:
        return False
