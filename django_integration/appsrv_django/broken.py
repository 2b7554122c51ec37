"""A Django that cannot be loaded, after a change: say why, keep the address, and wait for the next change."""

from __future__ import annotations

import importlib
import os
from types import TracebackType
from typing import NoReturn

import django


def serve(error: BaseException) -> NoReturn:
    """Offer the error instead of an application; who has caught it has printed it."""
    from appsrv.app_process import own_lines
    from appsrv.development import run
    from appsrv_django.autoreload import DjangoFileWatch

    def load() -> NoReturn:
        raise error

    error.__traceback__ = _application_frames(error.__traceback__)
    own_lines.flush()
    run.serve(load, banner=lambda urls: None, watch=DjangoFileWatch(error))


def _application_frames(frames: TracebackType | None) -> TracebackType | None:
    """Without the frames of Django and of this package above the application's, where it has any."""
    here = frames
    while here is not None and _is_machinery(here.tb_frame.f_code.co_filename):
        here = here.tb_next
    return here or frames


def _is_machinery(file: str) -> bool:
    packages = (django.__file__, importlib.__file__, __file__)
    return file.startswith(("<frozen ", *(os.path.join(os.path.dirname(path), "") for path in packages)))
