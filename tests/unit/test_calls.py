"""Calls with many arguments: they are given by name, for in a row of seven values a reader cannot check the order."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

from appsrv.logs.access_format import Entry
from appsrv.worker.ready_queue import Connection

ROOT = Path(__file__).resolve().parents[2]
MOST = 6

# Functions of the standard library, and ours that take any number of the same kind.
SEQUENCES = {"TypeVar", "_CELL.pack_into", "logging.LogRecord", "log.error", "log.log", "Dispatcher", "min"}
# Made for every request: names would cost time. The next test compares their order.
BY_POSITION = {"Connection", "Entry"}


def test_a_call_with_seven_arguments_names_them() -> None:
    found: dict[str, list[str]] = {}
    for folder in ("package", "django_integration", "flask_integration"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and len(node.args) > MOST:
                    found.setdefault(ast.unparse(node.func), []).append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert found.keys() >= BY_POSITION, "one that is called by name now needs no exception"
    assert {name: places for name, places in found.items() if name not in SEQUENCES | BY_POSITION} == {}


def test_what_is_made_by_position_keeps_its_order() -> None:
    # A field that is moved has to be moved in `ready_queue` and in the worker's `access_log`, too.
    fields = [field.name for field in dataclasses.fields(Connection)]
    assert fields == ["cid", "sock", "address", "port", "listener", "spooled", "registration"]
    assert Entry._fields == ("environ", "line", "status", "size", "started", "service", "queue", "request_id")
