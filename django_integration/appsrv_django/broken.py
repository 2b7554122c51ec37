"""A Django that cannot be loaded, after a change: say why, keep the address, and wait for the next change."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, NoReturn

ExceptHook = Callable[[type[BaseException], BaseException, "TracebackType | None"], Any]


def excepthook(previous: ExceptHook) -> ExceptHook:
    """sys.excepthook for a preloader: settings that cannot be imported end Django before any command runs."""

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        previous(kind, error, traceback)
        from appsrv import development

        if isinstance(error, Exception) and development.inside_preloader():
            serve(error)

    return hook


def serve(error: BaseException) -> NoReturn:
    """Offer the error instead of an application; it was printed already."""
    from appsrv import development
    from appsrv_django.autoreload import Watch

    def load() -> NoReturn:
        raise error

    sys.stdout.flush()
    development.serve(load, banner=lambda urls: None, watch=Watch(error))
