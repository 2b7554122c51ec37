"""Colours on a terminal that only the watchdog sees: the preloader and the workers write to its pipes."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from django.core.management.color import color_style, supports_color
from django.utils.log import ServerFormatter


def wanted(environ: Mapping[str, str]) -> bool:
    """True when the command that was typed has a terminal that shows colours, and nobody declined them."""
    return supports_color() and not environ.get("NO_COLOR")


def force_on_loggers() -> None:
    """Have Django's access lines coloured; their formatter has looked at a pipe and found no terminal."""
    for handler in logging.getLogger("django.server").handlers:
        if isinstance(handler.formatter, ServerFormatter):
            handler.formatter.style = color_style(force_color=True)
