"""Django's URLconf, imported together with the application.

Django itself imports it, and with it all views, in the first request of each process. That is too late to refuse a
broken generation, and each worker would do it again. Only looks at a Django that is set up already; knows no server.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

_SETTINGS_WITH_PREFIX = ("STATIC_URL", "MEDIA_URL")


def import_urlconf(base_uri: str) -> None:
    """Import the module that ROOT_URLCONF names, if the application is a Django project.

    `base_uri` is the prefix of its URLs, `/shop` or empty. Raises the exceptions of the module.
    """
    if "django.core.handlers.wsgi" not in sys.modules:
        return
    from django.conf import settings

    module = getattr(settings, "ROOT_URLCONF", None) if settings.configured else None
    if isinstance(module, str):
        _import_below(module, settings, base_uri)


def _import_below(module: str, settings: Any, base_uri: str) -> None:
    """Import with the script prefix set, as in a request: `reverse()` at import puts it in front of each path."""
    from django.urls import get_script_prefix, set_script_prefix

    before, kept = get_script_prefix(), set(vars(settings))
    set_script_prefix(settings.FORCE_SCRIPT_NAME or base_uri or "/")
    try:
        importlib.import_module(module)
    finally:
        set_script_prefix(before)
        # Django keeps these settings with the prefix that was set when they were read first. A proxy may name another
        # prefix, which is known only in the first request. So values that were kept just now are dropped.
        for name in _SETTINGS_WITH_PREFIX:
            if name not in kept:
                vars(settings).pop(name, None)
