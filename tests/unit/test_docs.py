"""What the documents say is so: links lead somewhere, commands exist, the settings page is the table."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from appsrv.http.syntax import Limits
from appsrv.settings.table import ROWS

ROOT = Path(__file__).resolve().parents[2]
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


@pytest.mark.process
def test_settings_page_is_generated() -> None:
    command = [sys.executable, "-m", "appsrv.commands.settings_page"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == done.stdout, (
        "out of date: python -m appsrv.commands.settings_page > docs/settings.md"
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
    assert said == {(row.name, max(row.default, 0)) for row in limits if isinstance(row.default, int | float)}


def test_limits_without_a_setting_are_as_the_table_says() -> None:
    page = (ROOT / "docs" / "http.md").read_text(encoding="utf-8")
    fixed = re.findall(r"^\| ([^|\n]+) \| (\d+)(?: ([KMG]iB))? \| 400 \| +\|$", page, re.MULTILINE)
    limits = Limits()
    assert {what: int(number) * UNITS[unit] for what, number, unit in fixed} == {
        "empty lines before a request": limits.leading_blank_lines,
        "a chunk's size line": limits.chunk_line,
        "all chunk extensions of a body": limits.chunk_extensions,
    }
