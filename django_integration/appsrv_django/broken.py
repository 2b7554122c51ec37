"""A Django that cannot be loaded, after a change: say why, keep the address, and wait for the next change."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, NoReturn

import django

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
    """Offer the error instead of an application; who has caught it has printed it."""
    from appsrv import development
    from appsrv_django.autoreload import Watch

    def load() -> NoReturn:
        raise error

    error.__traceback__ = _application_frames(error.__traceback__)
    sys.stdout.flush()
    development.serve(load, banner=lambda urls: None, watch=Watch(error))


def _application_frames(frames: TracebackType | None) -> TracebackType | None:
    """Without the frames of Django and of this package above the application's, where it has any."""
    here = frames
    while here is not None and _is_machinery(here.tb_frame.f_code.co_filename):
        here = here.tb_next
    return here or frames


def _is_machinery(file: str) -> bool:
    return file.startswith((os.path.dirname(django.__file__), os.path.dirname(__file__), "<frozen "))
