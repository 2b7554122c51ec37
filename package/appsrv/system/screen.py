r"""Shows lines on a terminal while they are still being written: progress bars, dots, prompts. Pure.

A terminal can show one unfinished line at a time, but several processes may each have one. When another line is shown,
a progress bar (a line with carriage returns) is erased and shown again below it. Any other unfinished line is ended,
and is shown again from its beginning when its process continues it. Text in, text for the terminal out. Knows neither
streams nor processes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

# To the first column, and erase the line.
_ERASE = "\r\x1b[K"


class OutputScreen:
    """`label` returns the prefix of a line of this origin. A progress bar has none: it would overwrite the prefix."""

    def __init__(self, label: Callable[[Hashable], str]) -> None:
        self._label = label
        self._open: Hashable = None
        self._text = ""
        self._labelled = self._is_bar = False

    def extend(self, origin: Hashable, before: str, new: str) -> str:
        """Continue an unfinished line with `new`. `before` is the part that has been shown."""
        if before and self._open == origin:
            out = self._over_label(new)
        else:
            self._labelled = False
            out = self._leave() + self._front(origin, before + new) + (present(before + new) if before else new)
        self._open, self._text = origin, present(before + new)
        self._is_bar = "\r" in before + new
        return out

    def line(self, origin: Hashable, text: str, before: str = "") -> str:
        """Show a complete line. `before` is the part that has been shown."""
        if before and self._open == origin and text.startswith(before):
            self._open = None
            return self._over_label(text[len(before) :]) + "\n"
        front = "" if before and "\r" in text else self._label(origin)
        return self.other(f"{front}{present(text) if before else text}\n")

    def other(self, lines: str) -> str:
        """Show whole lines of any origin."""
        if self._open is not None and self._is_bar:
            return f"{_ERASE}{lines}{self._text}"
        return self._leave() + lines

    def _leave(self) -> str:
        """End or erase the unfinished line."""
        if self._open is None:
            return ""
        self._open = None
        return _ERASE if self._is_bar else "\n"

    def _front(self, origin: Hashable, text: str) -> str:
        label = "" if "\r" in text else self._label(origin)
        self._labelled = bool(label)
        return label

    def _over_label(self, new: str) -> str:
        if self._labelled and "\r" in new:
            self._labelled = False
            return new.replace("\r", _ERASE, 1)
        return new


def present(text: str) -> str:
    """The visible part of a line: the text after the last carriage return that text follows."""
    ended = text.rstrip("\r")
    return text[ended.rfind("\r") + 1 :]
