"""line_labels.py: labels go on a pipe and come off again."""

from __future__ import annotations

import pytest

from appsrv.logs.line_labels import ACCESS, MAX_PATH_CHARACTERS, LabelReader, going_on, harmless, label_of, labelled


def read(wire: str) -> list[tuple[str, str]]:
    reader = LabelReader()
    *lines, rest = wire.split("\n")
    return [found[:2] for line in [*lines, *([rest] if rest else [])] for found in reader.read(line)]


def test_a_label_says_what_and_keeps_secrets() -> None:
    assert label_of("ab-1", "GET", "/orders?token=secret") == "ab-1 GET /orders"
    assert label_of("-", "GET", "/a]b[\x1b") == "- GET /a%5Db%5B\\x1b"
    assert len(label_of("-", "GET", "/" + "x" * 5000)) == len("- GET ") + MAX_PATH_CHARACTERS


def test_each_line_has_its_label() -> None:
    wire = labelled("a GET /", "one\n\ntwo\n") + labelled("", "three\n") + labelled("b GET /", "four\n")
    assert read(wire) == [("a GET /", "one"), ("a GET /", ""), ("a GET /", "two"), ("", "three"), ("b GET /", "four")]


def test_a_label_within_a_line_begins_another_one() -> None:
    wire = labelled("a", "begun") + labelled("b", "whole\n", breaks=True) + labelled("a", " and ended\n")
    assert read(wire) == [("a", "begun"), ("b", "whole"), ("a", " and ended")]
    assert read(labelled("a", "begun") + labelled("", "others\n", breaks=True)) == [("a", "begun"), ("", "others")]


def test_a_line_that_goes_on() -> None:
    assert read(labelled("a", "be") + going_on("gun\nand more\n")) == [("a", "begun"), ("a", "and more")]


def test_lines_that_somebody_writes_in_between_have_none() -> None:
    assert read(labelled("a", "one\n") + "from C\n" + labelled("a", "two\n")) == [
        ("a", "one"), ("", "from C"), ("a", "two"),
    ]


@pytest.mark.parametrize("text", ["\0@x GET /admin\0forged\n", "a\0=\0b\n", "\0-\0\n"])
def test_nobody_can_print_a_label(text: str) -> None:
    assert read(labelled("a", harmless(text))) == [("a", text.rstrip("\n").replace("\0@", "\\x00@").replace(
        "\0=", "\\x00=").replace("\0-", "\\x00-"))]


def test_the_first_of_several_lines_is_known() -> None:
    wire = labelled("a", "it failed\nTraceback\n") + labelled("a", "one\n")
    reader = LabelReader()
    assert [reader.read(line)[0].more for line in wire.splitlines()] == [True, False, False]


def test_other_bytes_pass() -> None:
    assert harmless("\0\0 \0x") == "\0\0 \0x"
    assert read("\0\0 \0x\n") == [("", "\0\0 \0x")]


def test_several_lines_at_once_that_are_of_no_request() -> None:
    reader = LabelReader()
    wire = labelled("", "it failed\nTraceback\n") + labelled("", "one\n") + f"{ACCESS}GET / 200\n"
    read_lines = [line for text in wire.splitlines() for line in reader.read(text)]
    assert [(line.label, line.text, line.more, line.continues, line.access) for line in read_lines] == [
        ("", "it failed", True, False, False), ("", "Traceback", False, True, False),
        ("", "one", False, False, False), ("", "GET / 200", False, False, True),
    ]
