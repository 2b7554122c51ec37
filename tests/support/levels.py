"""The levels of the folders of the package: `unit/test_import_arrows.py` checks them, docs/design.md shows them."""

from __future__ import annotations

# A row imports from the rows above it. A name is a folder, or a module that lies in no folder.
LEVELS: tuple[frozenset[str], ...] = tuple(
    frozenset(line.split())
    for line in (
        "__init__ errors",
        "http system",
        "app_process ipc logs metrics net",
        "hooks instance server/frontend settings wsgi",
        "apps generic",
        "commands/config commands/importing server/pool watchdog worker",
        "commands/doctor",
        "commands preloader server/admin",
        "cli development server",
        "__main__",
    )
)
