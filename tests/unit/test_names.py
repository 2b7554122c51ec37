"""The names in the code: retired words do not come back, and the glossary has the words that the code uses."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "package" / "appsrv"
FOLDERS = ("package", "django_integration", "flask_integration")

RETIRED = {
    "anybody": "the client, the peer, the process",
    "bench": "standby",
    "beneath": "below",
    "books": "records",
    "borrow": "request, receive",
    "companion": "helper",
    "crowded": "at the limit",
    "deputies": "privileged senders",
    "door": "listening socket",
    "duty": "role",
    "everybody": "all clients, all processes",
    "farewell": "stream cutter",
    "fed": "has workers",
    "fleet": "shared capacity",
    "healing": "self-reloading page",
    "hear": "receive, handle_message",
    "heard": "received, sent",
    "heed": "handle_message, forget",
    "house": "connections",
    "hungry": "wants workers",
    "impatient": "nonblocking",
    "lookout": "load monitor",
    "nobody": "no process, no client",
    "nudge": "wake",
    "obey": "handle_message",
    "pace": "rate, throughput",
    "patience": "timeout",
    "patient": "without a timeout",
    "said": "sent, logged",
    "say": "send, log",
    "sayer": "handler",
    "says": "sends, logs",
    "shed": "refuse",
    "sink": "response writer",
    "slumber": "idle unload",
    "somebody": "the operator, a client, a process",
    "soon": "within a time that has a name",
    "station": "context",
    "stillborn": "never started",
    "tell": "send, log, report",
    "told": "sent, logged, reported",
    "unborn": "not started",
    "weed": "prune",
    "whatever": "the thing by its name",
    "who": "the process, client or user by its name",
    "whoever": "the process, client or user by its name",
    "whose": "owner",
    "young": "early",
}
"""Words that are in no identifier, and the terms that replace them."""

ALLOWED = {
    "tell": "the method of file objects (io.IOBase.tell), which `wsgi.file_wrapper` calls",
}
"""Retired words that a name of another library has, and the reason."""

WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def parts(name: str) -> list[str]:
    """The words of an identifier, lower case: `_MAX_SIZE`, `maxSize` and `MaxSize` have the same."""
    return [word.lower() for word in WORD.findall(name)]


def names_in(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Each identifier of a module with its line."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, node.lineno
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield name, node.lineno
            case ast.keyword(arg=str(name)):
                yield name, node.lineno
            case ast.alias(name=name, asname=asname):
                yield from ((part, node.lineno) for part in (name.rpartition(".")[2], asname) if part)


@cache
def modules() -> dict[Path, str]:
    """The source of each module of the package and the integrations, by its path in the repository."""
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    return {path.relative_to(ROOT): path.read_text(encoding="utf-8") for path in paths}


def retired_names() -> Iterator[tuple[str, str]]:
    """(place, retired word) of each identifier with such a word, module names included."""
    for path, source in modules().items():
        found = [(path.stem, 1), *names_in(ast.parse(source))]
        for name, line in found:
            yield from ((f"{path}:{line} {name}", word) for word in parts(name) if word in RETIRED)


def test_no_identifier_has_a_retired_word() -> None:
    found = [f"{place}: {word} (use: {RETIRED[word]})" for place, word in retired_names() if word not in ALLOWED]
    assert found == []


def test_each_exception_is_needed() -> None:
    assert set(ALLOWED) <= {word for _, word in retired_names()}


@pytest.mark.parametrize(
    ("name", "words"),
    [("_tell_server", ["tell", "server"]), ("LastWordsWanted", ["last", "words", "wanted"]), ("IP6", ["ip"])],
)
def test_words_of_a_name(name: str, words: list[str]) -> None:
    assert parts(name) == words


# -- the glossary -----------------------------------------------------------------------------------------------------

ROW = re.compile(r"^\| ([^|]+) \| ([^|]+) \| `([^`|]+)` \|$", re.MULTILINE)
SENTENCE_END = re.compile(r"\.(?= |$)")


@cache
def glossary() -> list[tuple[str, str, str]]:
    """(word, meaning, module) of each row."""
    return ROW.findall((ROOT / "docs" / "glossary.md").read_text(encoding="utf-8"))


@cache
def package_text() -> str:
    """All modules of the package, lower case, with every run of other characters as one space."""
    texts = (source for path, source in modules().items() if PACKAGE in (ROOT / path).parents)
    return " ".join(re.sub(r"[\W_]+", " ", text.lower()) for text in texts)


def test_each_word_of_the_glossary_is_used_in_the_package() -> None:
    assert len(glossary()) >= 25
    unused = [word for word, _, _ in glossary() if f" {word.replace('-', ' ')}" not in package_text()]
    assert unused == []


def test_each_word_of_the_glossary_has_two_sentences_and_an_existing_module() -> None:
    assert [word for word, meaning, _ in glossary() if len(SENTENCE_END.findall(meaning.strip())) != 2] == []
    assert [module for _, _, module in glossary() if not (PACKAGE / module).is_file()] == []


def test_no_word_of_the_glossary_is_retired() -> None:
    assert {part for word, _, _ in glossary() for part in re.findall(r"\w+", word)} & set(RETIRED) == set()
