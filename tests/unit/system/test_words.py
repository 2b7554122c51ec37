"""words.py: durations, sizes, lists of names, and when a terminal gets colours."""

from __future__ import annotations

import pytest

from appsrv.system import words


def test_durations_and_sizes() -> None:
    assert [words.duration(n) for n in (0, 0.9, 59, 61, 3600, 86400, 93784, -1)] == [
        "0s",
        "0s",
        "59s",
        "1m 1s",
        "1h 0m 0s",
        "1d 0h 0m 0s",
        "1d 2h 3m 4s",
        "0s",
    ]
    assert words.memory(99 << 20) == "99M"
    assert words.ago(None) == "never"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["shop"], "shop"),
        (["shop", "blog"], "shop and blog"),
        (["a", "b", "c"], "a, b and c"),
        (["a", "b", "c", "d", "e"], "a, b, c and 2 more"),
        (["two\nlines", "b"], r"two\nlines and b"),
    ],
)
def test_names_are_listed(names: list[str], said: str) -> None:
    assert words.listed(names) == said


def test_colours_are_a_matter_of_terminal_and_variables() -> None:
    assert words.wants_colour({}, True)
    assert not words.wants_colour({}, False)
    assert words.wants_colour({"FORCE_COLOR": "1"}, False)
    assert not words.wants_colour({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True)
    assert not words.wants_colour({"TERM": "dumb"}, True)
    assert words.wants_colour({"NO_COLOR": ""}, True)
