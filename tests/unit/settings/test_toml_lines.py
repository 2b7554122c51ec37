"""The lines of keys in TOML documents, also where one key has many lines or many ways to be written."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from appsrv.settings.toml_lines import Path, line_of, lines_of

parse = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli").loads

DOCUMENT = '''\
# port = 1
port = 8000  # not "threads = 2"

motto = """
threads = 3
[apps]
it's ""quoted""
"""
hosts = [
  "a.example",  # [tool]
  "]",

  "b = 1",
]
"quoted key" = 1
  'literal' = """x"""
tls.certificate = "c"
tls . "key" = { file = "k", deep = { er = 1 } }

[tool . appsrv]
threads = 4
static = ["/a/=a"]

[[apps]]
root = "shop"
variables = { A = "1" }

[[apps]]
root = "blog"
[apps.variables]
B = """
multi
"""
[[apps.parts]]
name = "x"
[[apps.parts]]
name = "y"

[[apps]]
root = "third"
[apps.variables]
C = "2"
'''


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("port",), 2),
        (("motto",), 4),
        (("hosts",), 9),
        (("hosts", 2), 9),
        (("quoted key",), 15),
        (("literal",), 16),
        (("tls",), 17),
        (("tls", "certificate"), 17),
        (("tls", "key"), 18),
        (("tls", "key", "deep", "er"), 18),
        (("tool", "appsrv"), 20),
        (("tool", "appsrv", "threads"), 21),
        (("tool", "appsrv", "static"), 22),
        (("apps", 0), 24),
        (("apps", 0, "root"), 25),
        (("apps", 0, "variables", "A"), 26),
        (("apps", 1, "root"), 29),
        (("apps", 1, "variables"), 30),
        (("apps", 1, "variables", "B"), 31),
        (("apps", 1, "parts", 0, "name"), 35),
        (("apps", 1, "parts", 1, "name"), 37),
        (("apps", 2, "root"), 40),
        (("apps", 2, "variables", "C"), 42),
        # The nearest table around a key that is not there.
        (("apps", 2, "missing"), 39),
        (("missing",), 0),
    ],
)
def test_line_of_a_key(path: Path, line: int, newline: str) -> None:
    assert line_of(lines_of(DOCUMENT.replace("\n", newline), parse), path) == line


def keys_of(value: Any, path: Path = ()) -> Iterator[Path]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in pairs:
        yield (*path, key)
        yield from keys_of(below, (*path, key))


def test_every_key_has_a_line_that_names_it() -> None:
    lines, source = lines_of(DOCUMENT, parse), DOCUMENT.split("\n")
    named = [path for path in keys_of(parse(DOCUMENT)) if isinstance(path[-1], str)]
    assert len(named) > 25
    # An implicit table, such as `tool`, has no line of its own.
    without = [path for path in named if str(path[-1]) not in source[line_of(lines, path) - 1]]
    assert without == [("tool",)]


@pytest.mark.parametrize("document", ["", "\n\n", "# nothing", "\ufeff".strip("\ufeff")])
def test_a_document_without_keys(document: str) -> None:
    assert lines_of(document, parse) == {}


def test_a_last_line_without_an_end() -> None:
    assert lines_of("a = 1\nb = '''\nx'''", parse) == {("a",): 1, ("b",): 2}
