"""Serves the error when Django cannot be loaded after a change, keeps the address, and waits for the next change."""

from __future__ import annotations

import importlib
import os
from types import TracebackType
from typing import NoReturn

import django


def serve(error: BaseException) -> NoReturn:
    """Serve the error instead of an application. The caller has printed it already."""
    from appsrv.app_process import own_lines
    from appsrv.development import run
    from appsrv_django.autoreload import DjangoFileWatch

    def load() -> NoReturn:
        raise error

    error.__traceback__ = _application_frames(error.__traceback__)
    own_lines.flush()
    run.serve(load, banner=lambda urls: None, watch=DjangoFileWatch(error))


def _application_frames(frames: TracebackType | None) -> TracebackType | None:
    """The traceback without the frames of Django and of this package before the application's first frame.

    The whole traceback if the application has no frame in it.
    """
    here = frames
    while here is not None and _is_machinery(here.tb_frame.f_code.co_filename):
        here = here.tb_next
    return here or frames


def _is_machinery(file: str) -> bool:
    packages = (django.__file__, importlib.__file__, __file__)
    return file.startswith(("<frozen ", *(os.path.join(os.path.dirname(path), "") for path in packages)))
