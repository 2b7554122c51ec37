"""What an application is (`AppSpec`), and the variables of the file `.env` beside it.

Commands make an `AppSpec`; the watchdog, the server and the preloader pass it on. Does not know where an application
may be (module `finder`), and does not import it (module `loader`).
"""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from appsrv.errors import SettingsError
from appsrv.system import fifo

# The usual names of an application in its module, and of a function that returns one. The first that exists is used.
OBJECTS = ("application", "app")
FACTORIES = ("create_app", "make_app")


@dataclass(frozen=True)
class AppSpec:
    """One application. `root` is absolute: its current directory and the first entry of its `sys.path`.

    `target` is `module`, `module:object` or `module:factory(...)` with literal arguments; a bare `module` means the
    first of OBJECTS and FACTORIES it has. `startup_file` is the file to run as that module (None: import it by name).
    `django_settings` is the DJANGO_SETTINGS_MODULE to set when nothing else does, unless `sets_settings`: the target's
    module does so when it is imported. Kind `command`: the command `argv`, run again, loads the application. Kind
    `generic`: a shell runs `start_command`, and the process that it starts serves HTTP. Without `reads_dotenv` its
    processes are given the variables of `.env`.
    """

    root: str
    target: str = ""
    startup_file: str | None = None
    kind: Literal["wsgi", "command", "generic"] = "wsgi"
    argv: tuple[str, ...] = ()
    django_settings: str | None = None
    start_command: str | None = None
    sets_settings: bool = False
    reads_dotenv: bool = True

    @property
    def shown(self) -> str:
        """What is served from there, as status shows it."""
        return self.start_command or self.target or " ".join(self.argv)

    @property
    def name(self) -> str:
        """What commands and the log call this application."""
        return self.root

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, for another process of this instance: `from_json` makes an equal object of it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> AppSpec:
        return cls(**{**fields, "argv": tuple(fields["argv"])})


def is_below(name: str, prefix: str) -> bool:
    """Whether the application of that name is at or below a path: `/srv/shop` is not below `/srv/sho`.

    Both as they are written, or both with their links resolved. A name that is no absolute path is below none: it is
    not relative to whatever directory somebody is in.
    """
    if not os.path.isabs(name):
        return False
    pairs = ((name, prefix), (os.path.realpath(name), os.path.realpath(prefix)))
    return any(f"{one}/".startswith(f"{other.rstrip('/')}/") for one, other in pairs)


# -- the file .env -----------------------------------------------------------------------------------------------------


def load_dotenv(root: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of `.env` beside the application that `environ` does not have. Raises SettingsError."""
    variables = read_dotenv(os.path.join(root, ".env"))
    return {name: value for name, value in variables.items() if name not in environ}


def read_dotenv(file: str) -> dict[str, str]:
    """The variables of one file or FIFO of that format, {} without it; names without `=` are left out."""
    from_fifo = fifo.is_fifo(file)
    if not (from_fifo or os.path.isfile(file)):  # `.env` may be a virtual environment
        return {}
    from dotenv import dotenv_values  # only where there is such a file: half of a small application's start

    try:
        stream = io.StringIO(fifo.read_once(file).decode()) if from_fifo else None
        found = dotenv_values(stream=stream) if from_fifo else dotenv_values(file)
        return {name: value for name, value in found.items() if value is not None}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} cannot be read: {error}") from None
