"""conditional.py: what a condition or a range asks for, from RFC 9110 sections 13 and 14."""

from __future__ import annotations

import pytest

from appsrv.http.conditional import Part, Representation, part_for

DATE = "Sun, 22 Nov 2026 16:00:00 GMT"
BEFORE, AFTER = "Sun, 22 Nov 2026 15:59:59 GMT", "Sun, 22 Nov 2026 16:00:01 GMT"
WHOLE = Representation('"a-1"', 1795363200, 100)
ALL, UNCHANGED, FAILED, NOTHING = Part(200, 0, 100), Part(304), Part(412), Part(416)


def ask(method: str = "GET", whole: Representation = WHOLE, **fields: str) -> Part:
    return part_for(method, {f"HTTP_{name.upper()}": value for name, value in fields.items()}, whole)


def test_without_conditions() -> None:
    assert ask() == ask("HEAD") == ALL


@pytest.mark.parametrize("tags", ['"a-1"', 'W/"a-1"', '"x", "a-1"', '"x",W/"a-1" ', "*", " *"])
def test_if_none_match(tags: str) -> None:
    assert ask(if_none_match=tags) == UNCHANGED


@pytest.mark.parametrize("tags", ['"x"', "a-1", "", '"A-1"', '"x*"'])
def test_if_none_match_of_another(tags: str) -> None:
    # If-None-Match switches If-Modified-Since off, whatever it says.
    assert ask(if_none_match=tags, if_modified_since=AFTER) == ALL


def test_if_modified_since() -> None:
    assert [ask(if_modified_since=date) for date in (BEFORE, DATE, AFTER)] == [ALL, UNCHANGED, UNCHANGED]


@pytest.mark.parametrize("tags", ['"a-1"', '"x", "a-1"', "*"])
def test_if_match(tags: str) -> None:
    assert ask(if_match=tags) == ALL


@pytest.mark.parametrize("tags", ['"x"', 'W/"a-1"', ""])
def test_if_match_of_another(tags: str) -> None:
    assert ask(if_match=tags, if_none_match='"a-1"') == FAILED


def test_if_unmodified_since() -> None:
    assert [ask(if_unmodified_since=date) for date in (BEFORE, DATE, AFTER)] == [FAILED, ALL, ALL]
    assert ask(if_match="*", if_unmodified_since=BEFORE) == ALL


@pytest.mark.parametrize("date", ["yesterday", "", "Sun, 99 Zzz 2026 99:99:99 GMT", "Sun, 22 Nov 99999 16:00:00 GMT"])
def test_what_is_no_date_counts_as_not_sent(date: str) -> None:
    assert ask(if_modified_since=date, if_unmodified_since=date) == ALL


@pytest.mark.parametrize(
    ("wanted", "start", "length"),
    [
        *(("bytes=0-0", 0, 1), ("bytes=0-99", 0, 100), ("bytes=0-1000", 0, 100), ("bytes=90-", 90, 10)),
        *(("bytes=-10", 90, 10), ("bytes=-1000", 0, 100), ("BYTES= 5-6 ", 5, 2), ("bytes=99-99", 99, 1)),
    ],
)
def test_a_range(wanted: str, start: int, length: int) -> None:
    assert ask(range=wanted) == Part(206, start, length)


@pytest.mark.parametrize("wanted", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_a_range_beyond_the_end(wanted: str) -> None:
    assert ask(range=wanted) == NOTHING


@pytest.mark.parametrize(
    "wanted",
    ["bytes=5-4", "bytes=", "bytes=-", "bytes=a-b", "lines=1-2", "bytes=0-1,5-6", "bytes=+1-2", "bytes=1", "5-6", ""],
)
def test_what_is_no_single_range_gets_the_whole(wanted: str) -> None:
    assert ask(range=wanted) == ALL


def test_an_empty_representation_has_no_range() -> None:
    empty = WHOLE._replace(size=0)
    assert ask(whole=empty, range="bytes=0-") == ask(whole=empty, range="bytes=-5") == NOTHING
    assert ask(whole=empty) == Part(200, 0, 0)


def test_head_has_no_range() -> None:
    assert ask("HEAD", range="bytes=0-0") == ALL


@pytest.mark.parametrize(
    ("validator", "answer"),
    [
        *(('"a-1"', Part(206, 0, 1)), (DATE, Part(206, 0, 1)), ('"x"', ALL), ('W/"a-1"', ALL), (BEFORE, ALL)),
        *((AFTER, ALL), ("", ALL)),
    ],
)
def test_if_range(validator: str, answer: Part) -> None:
    assert ask(range="bytes=0-0", if_range=validator) == answer


def test_order_of_conditions() -> None:
    assert ask(if_none_match='"a-1"', range="bytes=0-0") == UNCHANGED
    assert ask(if_match='"x"', range="bytes=0-0") == FAILED
