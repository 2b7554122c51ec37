"""The two tables of docs/design.md that are made from the code: messages and folders.

`tests/design_tables` writes them between their markers; `tests/unit/test_docs.py` compares.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from appsrv.ipc import connection_messages, messages
from appsrv.ipc.directions import Direction
from appsrv.ipc.message_format import Message
from support.levels import LEVELS

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "package" / "appsrv"
PAGE = ROOT / "docs" / "design.md"


def with_tables(page: str) -> str:
    """The page with both tables as the code has them now."""
    for name, rows in (("messages", message_rows()), ("folders", folder_rows())):
        begin, end = f"<!-- {name}: made by tests/design_tables -->\n", f"<!-- end of {name} -->\n"
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        page = "".join([before, begin, "\n", *(f"{row}\n" for row in rows), "\n", end, after])
    return page


# -- messages ---------------------------------------------------------------------------------------------------------


def message_rows() -> Iterator[str]:
    """A row for each message, those with the same first direction one after the other."""
    yield "| message | directions | what it is for |"
    yield "|---|---|---|"
    kinds = _kinds(messages) + _kinds(connection_messages)
    order = list(dict.fromkeys(kind.WAYS[0] for kind in kinds))
    for kind in sorted(kinds, key=lambda kind: order.index(kind.WAYS[0])):
        directions = "<br>".join(map(_arrow, kind.WAYS))
        yield f"| `{kind.__name__}` | {directions} | {_purpose(kind.__doc__)} |"


def _kinds(module: ModuleType) -> list[type[Message]]:
    """The messages that a module defines, in its order."""
    return [
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Message) and kind.__module__ == module.__name__
    ]


def _arrow(way: Direction) -> str:
    return f"{way.sender} → {way.receiver}" + (f" ({way.path})" if way.path else "")


def _purpose(docstring: str | None) -> str:
    """The first paragraph, as one line."""
    return " ".join((docstring or "").partition("\n\n")[0].split())


# -- folders ----------------------------------------------------------------------------------------------------------


def folder_rows() -> Iterator[str]:
    """A row for each folder, and for each module that lies in none, from the lowest level up."""
    yield "| level | folder | what it is for | modules |"
    yield "|---|---|---|---|"
    for level, names in enumerate(LEVELS):
        for name in sorted(names - {"__init__"}):
            yield _folder_row(level, name)


def _folder_row(level: int, name: str) -> str:
    folder = PACKAGE / name
    if not folder.is_dir():
        return f"| {level} | | {_purpose_of_file(PACKAGE / f'{name}.py')} | `{name}` |"
    modules = " ".join(f"`{file.stem}`" for file in sorted(folder.glob("*.py")) if file.stem != "__init__")
    return f"| {level} | `{name}/` | {_purpose_of_file(folder / '__init__.py')} | {modules} |"


def _purpose_of_file(file: Path) -> str:
    return _purpose(ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
