"""What the documents say is so: links lead somewhere, commands exist, the settings page is the table."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_settings_page_is_generated() -> None:
    command = [sys.executable, "-m", "appsrv.settings_page"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == done.stdout, (
        "out of date: python -m appsrv.settings_page > docs/settings.md"
    )
