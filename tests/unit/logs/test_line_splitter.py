"""line_splitter.py: whole lines, in order, none lost, from real pipes."""

from __future__ import annotations

import os
import random
import select
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appsrv.logs import line_splitter
from appsrv.logs.line_splitter import LineSplitter, OutputPipe
from appsrv.logs.log_format import as_written, readable


class Pipe:
    """A pipe with a writer, and the lines that were said."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        read, self.writer = os.pipe()
        self.pipe = OutputPipe(read, self.lines.append)

    def write(self, data: bytes) -> None:
        os.write(self.writer, data)

    def hang_up(self) -> None:
        """The writing process has ended."""
        os.close(self.writer)
        self.writer = -1


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """An open pipe."""
    made = Pipe()
    yield made
    made.pipe.close()
    if made.writer >= 0:
        os.close(made.writer)


def test_a_line_is_said_when_it_is_whole(pipe: Pipe) -> None:
    pipe.write(b"one\ntw")
    assert pipe.pipe.read()
    assert pipe.lines == ["one"]
    pipe.write(b"o\n\nthree\n")
    assert pipe.pipe.read()
    assert pipe.lines == ["one", "two", "", "three"]


def test_nothing_there_is_not_the_end(pipe: Pipe) -> None:
    assert pipe.pipe.read()
    assert pipe.lines == []


def test_the_last_line_needs_no_end(pipe: Pipe) -> None:
    pipe.write(b"one\nFatal Python error")
    pipe.hang_up()
    while pipe.pipe.read():
        pass
    assert pipe.lines == ["one", "Fatal Python error"]
    assert not pipe.pipe.read()
    assert pipe.lines == ["one", "Fatal Python error"]


@pytest.mark.parametrize("ended", [False, True])
def test_all_that_is_there_is_taken_at_once(pipe: Pipe, ended: bool) -> None:
    pipe.write(b"".join(b"line %d\n" % number for number in range(3000)) + b"half")
    if ended:
        pipe.hang_up()
    pipe.pipe.read_all()
    assert pipe.lines == [*(f"line {number}" for number in range(3000)), "half"]


def test_the_pipe_can_be_waited_for(pipe: Pipe) -> None:
    pipe.write(b"x")
    assert select.select([pipe.pipe], [], [], 0)[0] == [pipe.pipe]


@given(lines=st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))), seed=st.integers())
def test_lines_do_not_depend_on_how_they_arrive(lines: list[str], seed: int) -> None:
    chance, splitter, got = random.Random(seed), LineSplitter(), list[str]()
    data = "".join(f"{line}\n" for line in lines).encode()
    while data:
        size = chance.randint(1, 5)
        got += splitter.feed(data[:size])
        data = data[size:]
    assert got + splitter.finish() == lines


def test_a_line_without_end_is_given_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_splitter, "MAX_LINE_BYTES", 10)
    splitter = LineSplitter()
    parts = [part for _ in range(10) for part in splitter.feed(b"12345")]
    parts += splitter.feed(b"!\nnext\n")
    assert parts[-1] == "next"
    assert "".join(parts[:-1]) == "12345" * 10 + "!"
    assert max(map(len, parts)) <= 15


def test_parts_do_not_break_a_character(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_splitter, "MAX_LINE_BYTES", 10)
    splitter = LineSplitter()
    text = "aé€😀" * 30
    data = text.encode()
    parts = [part for at in range(0, len(data), 3) for part in splitter.feed(data[at : at + 3])]
    assert "".join(parts + splitter.finish()) == text


def test_bytes_that_are_no_text_stay_readable() -> None:
    (line,) = LineSplitter().feed(b"caf\xe9 \xff\r\n")
    assert readable(line) == r"caf\xe9 \xff"
    assert as_written(line) == b"caf\xe9 \xff"


@given(text=st.text(st.sampled_from("a\u00e9\u20ac\r \0=@#-")), seed=st.integers())
def test_an_unfinished_line_is_shown_once_and_in_order(text: str, seed: int) -> None:
    chance, splitter, said, shown = random.Random(seed), LineSplitter(labelled=True), "", ""
    data = text.encode()
    while data:
        size = chance.randint(1, 3)
        for line in splitter.feed(data[:size]):
            assert line.startswith(shown), "a line is what has been shown of it, and more"
            said, shown = said + line, ""
        shown += splitter.unshown()
        data = data[size:]
    (last, *_) = [*splitter.finish(), ""]
    assert last.startswith(shown)
    assert said + last == text
