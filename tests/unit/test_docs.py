"""The documents are true: links lead to files, commands and modules exist, the settings page is the table."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from appsrv.http.syntax import Limits
from appsrv.ipc import connection_messages, messages
from appsrv.settings.table import ROWS
from support.design_tables import PAGE, with_tables

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "package" / "appsrv"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")])
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")
COMMAND = re.compile(r"^(?:`|\| `)?((?:tests|example_projects|\.ci)/[\w/.-]*run)\b", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    targets = LINK.findall(page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_can_be_run(page: Path) -> None:
    commands = COMMAND.findall(page.read_text(encoding="utf-8"))
    assert [command for command in commands if not os.access(ROOT / command, os.X_OK)] == []


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_modules_are_named_by_their_path(page: Path) -> None:
    named = set(re.findall(r"`([a-z_0-9]+(?:/[a-z_0-9]+)+\.py)`", page.read_text(encoding="utf-8")))
    assert {path for path in named if not (PACKAGE / path).exists() and not (ROOT / path).exists()} == set()


ARROW = re.compile(r"^ +(\w+)-(-?)>>(\w+): ([A-Z]\w+)", re.MULTILINE)
PARTICIPANT = re.compile(r"^ +participant (\w+) as (\w+)", re.MULTILINE)


def test_the_messages_in_the_diagrams_are_sent_in_that_direction() -> None:
    kinds = {**vars(messages), **vars(connection_messages)}
    diagrams = re.findall(r"```mermaid\n(.*?)```", (ROOT / "docs" / "design.md").read_text(encoding="utf-8"), re.DOTALL)
    arrows = [
        (names[sender], names[receiver], message, bool(on_behalf))
        for diagram in diagrams
        for names in [dict(PARTICIPANT.findall(diagram))]
        for sender, on_behalf, receiver, message in ARROW.findall(diagram)
    ]
    wrong = [
        (sender, receiver, name)
        for sender, receiver, name, on_behalf in arrows
        # A dashed arrow starts at the parent of the worker that sends; the ready queue is no process.
        if not any(
            on_behalf or (sender in (way.sender, "ready") and receiver in (way.receiver, "ready"))
            for way in kinds[name].WAYS
        )
    ]
    assert len(diagrams) == 2
    assert len(arrows) > 10
    assert wrong == []


@pytest.mark.process
def test_settings_page_is_generated() -> None:
    command = [sys.executable, "-m", "appsrv.commands.settings_page"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == done.stdout, (
        "out of date: python -m appsrv.commands.settings_page > docs/settings.md"
    )


def test_the_tables_of_the_design_page_are_made_from_the_code() -> None:
    assert with_tables(PAGE.read_text(encoding="utf-8")) == PAGE.read_text(encoding="utf-8"), (
        "out of date: run tests/design_tables"
    )


# What the settings of requests are about, but no limit of anything.
NO_LIMITS = {"min_data_rate", "request_buffering", "request_id"}
UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def test_the_tables_of_limits_and_timeouts_are_in_step_with_the_settings() -> None:
    page = (ROOT / "docs" / "http.md").read_text(encoding="utf-8")
    named = re.findall(
        r"^\|[^|\n]+\| (?:off|as many[^|]*|(\d+)(?: ([KMG]iB))?[^|]*) \|[^|\n]+\| `(\w+)` \|$", page, re.MULTILINE
    )
    said = {(name, int(number or 0) * UNITS[unit]) for number, unit, name in named}
    limits = [row for row in ROWS if row.group == "Requests" and row.name not in NO_LIMITS]
    expected = {(row.name, max(row.default, 0)) for row in limits if isinstance(row.default, int | float)}
    assert said == expected, "the tables of limits in docs/http.md and the settings of requests differ"


def test_limits_without_a_setting_are_as_the_table_says() -> None:
    page = (ROOT / "docs" / "http.md").read_text(encoding="utf-8")
    fixed = re.findall(r"^\| ([^|\n]+) \| (\d+)(?: ([KMG]iB))? \| 400 \| +\|$", page, re.MULTILINE)
    limits = Limits()
    assert {what: int(number) * UNITS[unit] for what, number, unit in fixed} == {
        "empty lines before a request": limits.leading_blank_lines,
        "a chunk's size line": limits.chunk_line,
        "all chunk extensions of a body": limits.chunk_extensions,
    }
