"""Colours on the terminal, which only the watchdog has open: the preloader and the workers write to its pipes."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from django.core.management.color import color_style, supports_color
from django.utils.log import ServerFormatter


def are_wanted(environ: Mapping[str, str]) -> bool:
    """Whether the terminal of the typed command shows colours, and NO_COLOR is not set."""
    return supports_color() and not environ.get("NO_COLOR")


def force_on_loggers() -> None:
    """Turn on the colours of Django's access lines. Their formatter found a pipe instead of a terminal."""
    for handler in logging.getLogger("django.server").handlers:
        if isinstance(handler.formatter, ServerFormatter):
            handler.formatter.style = color_style(force_color=True)
