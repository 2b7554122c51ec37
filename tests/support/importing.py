"""What the tests of `appsrv import` share: the example files, and reading what is printed for them."""

from __future__ import annotations

import importlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appsrv.commands.importing import convert
from appsrv.settings import sources
from appsrv.settings.table import Settings

tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

FILES = Path(__file__).resolve().parents[1] / "unit" / "commands" / "importing" / "files"
NAMES = sorted(path.name.removesuffix(".txt") for path in FILES.iterdir())
HOME = Path("/srv/imported")


def nothing(_: Path) -> str | None:
    """There is no other file."""
    return None


def example(name: str) -> str:
    return (FILES / f"{name}.txt").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Printed:
    """What `appsrv import` has printed."""

    text: str

    @property
    def settings(self) -> dict[str, Any]:
        found: dict[str, Any] = tomllib.loads(self.text)
        return found

    def loaded(self) -> Settings:
        """The settings as `appsrv start` gets them."""
        layer = sources.file_layer(HOME / "appsrv.toml", self.settings)
        return sources.overlaid(Settings(), sources.values_of(layer))

    def below(self, head: str) -> str:
        """What stands below the line of the source that contains `head`, with comments in one line each."""
        parts = [paragraph.partition("\n") for paragraph in self.text.split("\n\n")]
        found = [(first, rest) for first, _, rest in parts if first.startswith("# ") and head in first]
        assert found, f"{head} is not in:\n{self.text}"
        # A flag is also in the line of the whole command.
        return re.sub(r"\n#   ", " ", min(found, key=lambda one: len(one[0]))[1]).strip()


def imported(text: str, name: str = "gunicorn.conf.py", kind: str | None = None, **options: Any) -> Printed:
    """What is printed for a file with this name and text, in /srv/imported."""
    options = {"read": nothing, "title": "appsrv import", **options}
    return Printed(convert.from_file(HOME / name, text, kind=kind, **options).text)


def command(text: str, read: Any = nothing) -> Printed:
    """What is printed for a command line, in /srv/imported."""
    return Printed(convert.from_command_line(text, HOME, read, "appsrv import --gunicorn").text)
