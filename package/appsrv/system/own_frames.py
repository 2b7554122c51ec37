"""Recognizes the frames of appsrv's own code in a stack, so that tracebacks show the application's only. Pure.

Knows files by their paths only.
"""

from __future__ import annotations

import os
from types import TracebackType

import appsrv

__all__ = ["CALLS_APPLICATION", "PACKAGE_DIRECTORY", "is_own", "without_own"]

PACKAGE_DIRECTORY = os.path.join(os.path.dirname(appsrv.__file__), "")
"""The directory of this package, with a separator at the end: the prefix of the modules' file names."""

CALLS_APPLICATION = os.path.join(PACKAGE_DIRECTORY, "wsgi", "run.py")
"""The module whose frames call the WSGI application."""


def is_own(file: str) -> bool:
    """Whether a file is one of appsrv's modules. `file` is `co_filename` of a code object."""
    return file.startswith(PACKAGE_DIRECTORY)


def without_own(frames: TracebackType | None) -> TracebackType | None:
    """The traceback without the frames of appsrv at its top; None if there are no others."""
    while frames is not None and is_own(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    return frames
