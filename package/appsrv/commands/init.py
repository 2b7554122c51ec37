"""`appsrv init`: makes the changed texts of a project's files that add appsrv to it. It does not write the files.

The dependency is added to the project's own dependency file, the settings to pyproject.toml if there is one. A file in
an unknown form stays unchanged, and the error names the line to add by hand.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from appsrv.apps import dependency_files
from appsrv.errors import OperatorError
from appsrv.settings.row import SettingRow
from appsrv.settings.table import ROWS

NAME = "appsrv"
APP = "appsrv_django"
LINE_COLUMNS = 100


@dataclass(frozen=True)
class Change:
    """The text of one file before and after the change; `before` is None for a new file."""

    path: Path
    before: str | None
    after: str

    def diff(self, directory: Path) -> str:
        """The change in the form of `diff -u`, with paths relative to `directory`."""
        name = str(self.path.relative_to(directory))
        lines = difflib.unified_diff(
            (self.before or "").splitlines(keepends=True), self.after.splitlines(keepends=True),
            "/dev/null" if self.before is None else f"a/{name}", f"b/{name}",
        )
        return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def changes(directory: Path, settings_file: Path | None = None) -> list[Change]:
    """The changes that the project in `directory` needs; empty if it needs none.

    `settings_file`: Django's settings, for INSTALLED_APPS. Raises `OperatorError` for a file that cannot be read or
    changed safely.
    """
    texts: dict[Path, str] = {}
    _add_dependency(directory, texts)
    _add_settings(directory, texts)
    if settings_file is not None:
        _add_application(settings_file, texts)
    made = [Change(path, _read(path), after) for path, after in texts.items()]
    return [change for change in made if change.before != change.after]


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorError(f"{path} cannot be read: {error}") from None


# -- the dependency -----------------------------------------------------------------------------------------


def _add_dependency(directory: Path, texts: dict[Path, str]) -> None:
    if dependency_files.names_appsrv(str(directory)):
        return
    for name, edit in EDITS:
        path = directory / name
        before = _read(path)
        after = edit(before) if before is not None else None
        if after is not None:
            texts[path] = _verified(path, after)
            return
    texts[directory / "requirements.txt"] = f"{NAME}\n"


def _verified(path: Path, after: str) -> str:
    """The new text, if its reader finds appsrv in it. Raises `OperatorError` otherwise."""
    reader = dependency_files.DECLARING.get(path.name, dependency_files.requirements_names)
    if NAME not in reader(after, str(path)) or not (reader is dependency_files.requirements_names or _is_toml(after)):
        raise OperatorError(f"{path} has a form that is not understood: add {NAME} to its dependencies by hand")
    return after


def _is_toml(text: str) -> bool:
    tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        tomllib.loads(text)
    except ValueError:
        return False
    return True


def _in_pyproject(text: str) -> str | None:
    found = _table(text, "project")
    if found and re.search(r"^dynamic\s*=\s*\[[^]]*[\"']dependencies[\"']", found[1], re.MULTILINE):
        return None
    if found:
        return _in_array(text, "project", "dependencies")
    if _table(text, "tool.poetry.dependencies"):
        return _at_end_of_table(text, "tool.poetry.dependencies", f'{NAME} = "*"\n')
    return None


def _in_pipfile(text: str) -> str | None:
    return _at_end_of_table(text, "packages", f'{NAME} = "*"\n') if _table(text, "packages") else None


def _in_requirements(text: str) -> str:
    return f"{text}{'' if not text or text.endswith(chr(10)) else chr(10)}{NAME}\n"


EDITS: Sequence[tuple[str, Callable[[str], str | None]]] = (
    ("pyproject.toml", _in_pyproject),
    ("Pipfile", _in_pipfile),
    ("requirements.in", _in_requirements),
    ("requirements/base.in", _in_requirements),
    ("requirements/base.txt", _in_requirements),
    ("requirements.txt", _in_requirements),
)


def _table(text: str, name: str) -> re.Match[str] | None:
    """The match of a table in a TOML file; its group 1 is the body."""
    return re.search(rf"^\[{re.escape(name)}\][ \t]*(?:#.*)?\n((?:(?!^\[).*\n?)*)", text, re.MULTILINE)


def _in_array(text: str, table: str, key: str) -> str:
    found = _table(text, table)
    assert found is not None
    array = re.search(rf"^{key}[ \t]*=[ \t]*\[([ \t]*\n([ \t]*))?", found[1], re.MULTILINE)
    if array is None:
        return _at_end_of_table(text, table, f'{key} = ["{NAME}"]\n')
    at = found.start(1) + array.end()
    rest = text[at:]
    if array[1] is not None:
        indent = array[2] or "    "
        return f'{text[: at - len(array[2])]}{indent}"{NAME}",\n{array[2]}{rest}'
    return f'{text[:at]}"{NAME}"{"" if rest.lstrip().startswith("]") else ", "}{rest}'


def _at_end_of_table(text: str, table: str, line: str) -> str:
    found = _table(text, table)
    assert found is not None
    body = found[1].rstrip()
    end = found.start(1) + len(body)
    return f"{text[:end]}{chr(10) if body else ''}{line}{text[end:].removeprefix(chr(10))}"


# -- the settings -------------------------------------------------------------------------------------------


def _add_settings(directory: Path, texts: dict[Path, str]) -> None:
    pyproject, own = directory / "pyproject.toml", directory / "appsrv.toml"
    before = texts.get(pyproject) or _read(pyproject)
    if _read(own) is not None or (before is not None and _table(before, f"tool.{NAME}")):
        return
    if before is None:
        texts[own] = settings_text()
    else:
        texts[pyproject] = f"{before.rstrip()}\n\n[tool.{NAME}]\n{settings_text()}"


def settings_text() -> str:
    """All settings with their defaults, or a sample where the default is no value, commented out."""
    return "\n".join(_group(name, rows) for name, rows in _groups(ROWS))


def _groups(rows: Iterable[SettingRow]) -> list[tuple[str, list[SettingRow]]]:
    names = list(dict.fromkeys(row.group for row in rows))
    return [(name, [row for row in ROWS if row.group == name]) for name in names]


def _group(name: str, rows: Sequence[SettingRow]) -> str:
    return f"# -- {name} --\n" + "".join(_paragraph(row) for row in rows)


def _paragraph(row: SettingRow) -> str:
    words = textwrap.wrap(f"{row.help} Default: {row.default_text}.", LINE_COLUMNS - 2, break_on_hyphens=False)
    return "".join(f"# {line}\n" for line in words) + f"#{row.name} = {_example(row)}\n"


def _example(row: SettingRow) -> str:
    """A value in TOML that the setting accepts: its default, or the row's sample."""
    value = row.default if row.sample is None else row.sample
    if row.several:
        value = list(value or ())
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)


# -- INSTALLED_APPS -----------------------------------------------------------------------------------------


def _add_application(path: Path, texts: dict[Path, str]) -> None:
    text = _read(path)
    if text is None:
        raise OperatorError(f"{path}: there is no such file")
    place = _installed_apps(path, text)
    if APP in (getattr(item, "value", None) for item in place.elts):
        return
    lines = text.splitlines(keepends=True)
    first = place.elts[0] if place.elts else None
    if first is None or first.lineno == place.lineno:
        row, column = place.lineno - 1, place.col_offset + 1
        lines[row] = f'{lines[row][:column]}"{APP}"{", " if first is not None else ""}{lines[row][column:]}'
    else:
        lines.insert(first.lineno - 1, f'{" " * first.col_offset}"{APP}",\n')
    after = "".join(lines)
    ast.parse(after)
    texts[path] = after


def _installed_apps(path: Path, text: str) -> ast.List:
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise OperatorError(f"{path} cannot be parsed: {error}") from None
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.List):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            if "INSTALLED_APPS" in names:
                return node.value
    raise OperatorError(f'{path} has no plain list INSTALLED_APPS: put "{APP}" at its beginning by hand')
