"""Django's URLconf, imported together with the application.

Django itself imports it, and with it all views, in the first request of each process: too late to be refused as broken,
and once for each worker. Only looks at a Django that is set up already; knows no server.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

_BELOW_THE_PREFIX = ("STATIC_URL", "MEDIA_URL")


def import_urlconf(base_uri: str) -> None:
    """If Django serves: import the module that ROOT_URLCONF names, below `base_uri` (`/shop` or empty).

    Raises what the module raises.
    """
    if "django.core.handlers.wsgi" not in sys.modules:
        return
    from django.conf import settings

    module = getattr(settings, "ROOT_URLCONF", None) if settings.configured else None
    if isinstance(module, str):
        _import_below(module, settings, base_uri)


def _import_below(module: str, settings: Any, base_uri: str) -> None:
    """As the first request would, whose path tells Django what to put before relative URLs."""
    from django.urls import get_script_prefix, set_script_prefix

    before, remembered = get_script_prefix(), set(vars(settings))
    set_script_prefix(settings.FORCE_SCRIPT_NAME or base_uri or "/")
    try:
        importlib.import_module(module)
    finally:
        set_script_prefix(before)
        # The prefix that a proxy names is known in the first request only.
        for name in _BELOW_THE_PREFIX:
            if name not in remembered:
                vars(settings).pop(name, None)
