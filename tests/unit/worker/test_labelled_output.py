"""labelled_output.py: what a worker prints says for which request."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from appsrv.logs.line_labels import LabelReader
from appsrv.worker import labelled_output
from support.served import Served


class Stdout:
    """A standard output that writes into a pipe, as a worker's does."""

    def __init__(self, label: Callable[[list[Any]], None] = labelled_output.label_output) -> None:
        self._read, write = os.pipe()
        self.stream = os.fdopen(write, "w", encoding="utf-8", buffering=1)
        label([self.stream])

    def lines(self) -> list[tuple[str, str]]:
        self.stream.close()
        reader = LabelReader()
        with open(self._read, encoding="utf-8") as pipe:
            return [found[:2] for line in pipe.read().splitlines() for found in reader.read(line)]


def in_request(number: int, view: Callable[[], object]) -> None:
    """Call `view` as the application of a request."""

    def application(environ: Any, start_response: Any) -> list[bytes]:
        environ |= {"appsrv.request_id": f"id-{number}", "REQUEST_METHOD": "GET", "REQUEST_URI": f"/{number}?x"}
        view()
        start_response("204 No Content", [])
        return []

    assert Served(application).status == 204


def test_lines_of_requests_and_of_nobody() -> None:
    stdout = Stdout()
    with contextlib.redirect_stdout(stdout.stream):
        print("before")
        in_request(1, lambda: print("a", 2, "c\nand more"))
        print("after")
    assert stdout.lines() == [
        ("", "before"), ("id-1 GET /1", "a 2 c"), ("id-1 GET /1", "and more"), ("", "after"),
    ]


@pytest.mark.parametrize("label", [labelled_output.label_output, labelled_output.guard_output])
def test_what_is_printed_is_never_taken_for_a_label(label: Callable[[list[Any]], None]) -> None:
    stdout = Stdout(label)
    with contextlib.redirect_stdout(stdout.stream):
        print("\0\6\0{}")
        print("in one \0\6\0{}")
        print("in three", "\6\0{}", sep="\0")
        print("flushed \0", end="", flush=True)
        print("@other\0it")
        assert stdout.stream.write("\0@\n") == 3
        print("other", chr(0), "NULs\0")
    lines = stdout.lines()
    assert {label for label, _ in lines} == {""}
    assert [text for _, text in lines[:2] + lines[-2:]] == [
        "\\x00\6\0{}", "in one \\x00\6\0{}", "\\x00@", "other \0 NULs\0"
    ]
    assert len(lines) == 6


def test_without_labels_a_stream_takes_only_text() -> None:
    stdout = Stdout(labelled_output.guard_output)
    with contextlib.redirect_stdout(stdout.stream), pytest.raises(TypeError):
        stdout.stream.write(b"bytes\0")  # type: ignore[arg-type]
    assert stdout.lines() == []


def test_what_the_stream_is_does_not_change() -> None:
    stdout = Stdout()
    with contextlib.redirect_stdout(stdout.stream):
        stream = stdout.stream
        assert sys.stdout is stream
        assert (stream.isatty(), stream.encoding, stream.line_buffering) == (False, "utf-8", True)
        assert stream.write("four") == 4
        with pytest.raises(TypeError):
            stream.write(b"bytes")  # type: ignore[arg-type]
    assert stdout.lines() == [("", "four")]


def test_logging_that_took_the_stream_before_is_heard() -> None:
    pipe = Stdout()
    handler = logging.StreamHandler(pipe.stream)
    in_request(3, lambda: handler.emit(logging.LogRecord("x", 20, "", 0, "logged\nin two", None, None)))
    assert pipe.lines() == [("id-3 GET /3", "logged"), ("id-3 GET /3", "in two")]


def test_lines_of_threads_stay_whole() -> None:
    stdout = Stdout()
    with contextlib.redirect_stdout(stdout.stream):
        begun, other = threading.Event(), threading.Event()

        def slow() -> None:
            print("the first half", end="")
            begun.set()
            assert other.wait(10)
            print(", and the second")

        thread = threading.Thread(target=in_request, args=(1, slow))
        thread.start()
        assert begun.wait(10)
        in_request(2, lambda: print("in between"))
        other.set()
        thread.join()
    assert stdout.lines() == [("id-2 GET /2", "in between"), ("id-1 GET /1", "the first half, and the second")]


def test_what_was_flushed_goes_on_where_nobody_came_between() -> None:
    stdout = Stdout()
    with contextlib.redirect_stdout(stdout.stream):
        def progress() -> None:
            for dot in "...":
                print(dot, end="", flush=True)
            print(" done")

        in_request(1, progress)
    assert stdout.lines() == [("id-1 GET /1", "... done")]


def test_a_flushed_beginning_is_not_taken_for_another_requests() -> None:
    stdout = Stdout()
    with contextlib.redirect_stdout(stdout.stream):
        in_request(1, lambda: print("without an end", end="", flush=True))
        in_request(2, lambda: print("whole"))
        in_request(3, lambda: print("kept back", end=""))
        print("of nobody")
    assert stdout.lines() == [
        ("id-1 GET /1", "without an end"), ("id-2 GET /2", "whole"), ("id-3 GET /3", "kept back"), ("", "of nobody"),
    ]


def test_a_long_line_is_not_kept_back() -> None:
    stdout = Stdout()
    with contextlib.redirect_stdout(stdout.stream):
        in_request(1, lambda: [print("x" * 999, end="") for _ in range(30)])
        in_request(1, print)
        assert [(label, len(text)) for label, text in stdout.lines()] == [("id-1 GET /1", 29970)]


@pytest.mark.process
def test_an_unfinished_line_at_the_end_of_the_process() -> None:
    code = (
        "import sys; from appsrv.worker.labelled_output import label_output; "
        "label_output([sys.stdout]); print('no end', end='')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "no end"


@pytest.mark.process
def test_the_interpreter_itself_prints_a_traceback() -> None:
    code = (
        "import sys; from appsrv.worker.labelled_output import label_output; "
        "label_output([sys.stdout, sys.stderr]); raise ValueError('at the end')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30)
    assert done.stderr.splitlines()[-1] == "ValueError: at the end"
