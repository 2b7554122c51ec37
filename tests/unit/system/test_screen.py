"""screen.py: a terminal, looked at as a person sees it, while several processes write unfinished lines."""

from __future__ import annotations

import re

import pytest

from appsrv.system.screen import OutputScreen, present


class Looked:
    """A screen and what stands on it."""

    def __init__(self) -> None:
        self.screen = OutputScreen(lambda origin: f"[{origin}] " if origin != "me" else "")
        self.written = ""
        self.before: dict[str, str] = {}

    def extend(self, origin: str, new: str) -> None:
        self.written += self.screen.extend(origin, self.before.get(origin, ""), new)
        self.before[origin] = self.before.get(origin, "") + new

    def end(self, origin: str, rest: str = "") -> None:
        before = self.before.pop(origin, "")
        self.written += self.screen.line(origin, before + rest, before)

    @property
    def lines(self) -> list[str]:
        """As a terminal shows what was written."""
        lines, column = [""], 0
        for piece in re.findall(r"\x1b\[K|[\r\n]|[^\r\n\x1b]+", self.written):
            if piece == "\n":
                lines.append("")
                column = 0
            elif piece == "\r":
                column = 0
            elif piece == "\x1b[K":
                lines[-1] = lines[-1][:column]
            else:
                lines[-1] = lines[-1][:column] + piece + lines[-1][column + len(piece) :]
                column += len(piece)
        return lines


@pytest.fixture
def looked() -> Looked:
    return Looked()


def test_a_bar_is_seen_as_it_grows(looked: Looked) -> None:
    for state in (" 10%", " 50%"):
        looked.extend("me", f"\r{state}")
        assert looked.lines == [state]
    looked.end("me", "\r100% done")
    assert looked.lines == ["100% done", ""]


def test_dots_and_a_prompt(looked: Looked) -> None:
    for _ in range(3):
        looked.extend("a", ".")
    assert looked.lines == ["[a] ..."]
    looked.end("a", " done")
    looked.extend("b", "name? ")
    assert looked.lines == ["[a] ... done", "[b] name? "]


def test_a_bar_makes_room_for_the_lines_of_others(looked: Looked) -> None:
    looked.extend("a", "\r 10%|##        |")
    looked.end("b", "GET / 200")
    assert looked.lines == ["[b] GET / 200", " 10%|##        |"]
    looked.written += looked.screen.other("WARNING\n")
    looked.extend("a", "\r 20%|####")
    assert looked.lines == ["[b] GET / 200", "WARNING", " 20%|####      |"]
    looked.end("a")
    looked.end("b", "x")
    assert looked.lines[2:] == [" 20%|####      |", "[b] x", ""]


def test_dots_are_broken_off_and_appear_again(looked: Looked) -> None:
    looked.extend("a", "load")
    looked.end("b", "GET / 200")
    looked.extend("a", "ing.")
    looked.extend("c", "name? ")
    assert looked.lines == ["[a] load", "[b] GET / 200", "[a] loading.", "[c] name? "]
    looked.end("a", " done")
    assert looked.lines[3:] == ["[c] name? ", "[a] loading. done", ""]


def test_two_bars(looked: Looked) -> None:
    looked.extend("a", "\r 1%")
    looked.extend("b", "\r 2%")
    looked.extend("a", "\r 3%")
    assert looked.lines == [" 3%"]
    looked.end("b", "\r100%")
    looked.end("a", "\r100%")
    assert looked.lines == ["100%", "100%", ""]


def test_a_bar_that_begins_without_a_return_loses_its_label(looked: Looked) -> None:
    looked.extend("a", " 10%")
    assert looked.lines == ["[a]  10%"]
    looked.extend("a", "\r 20%")
    assert looked.lines == [" 20%"]


@pytest.mark.parametrize(("text", "shown"), [("a", "a"), ("\ra\rb", "b"), ("a\rb\r", "b\r"), ("\r", "\r"), ("", "")])
def test_what_a_line_shows(text: str, shown: str) -> None:
    assert present(text) == shown
