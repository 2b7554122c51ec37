"""Sets the title of this process, which ps(1) shows."""

from __future__ import annotations

import os

import setproctitle

__all__ = ["set_title"]


def set_title(title: str) -> None:
    """Set the title. It may contain the name of a directory that is invalid text in the locale's encoding; setproctitle
    accepts only UTF-8.
    """
    setproctitle.setproctitle(os.fsencode(title).decode("utf-8", "replace"))
