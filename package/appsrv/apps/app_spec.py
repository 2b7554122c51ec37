"""The description of an application (`AppSpec`), and the variables in the file `.env` beside it.

Commands make an `AppSpec`; the watchdog, the server and the preloader pass it on. Finding an application is the task of
`finder`, importing it that of `preloader.loader`.
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

# The usual names of an application in its module, and of a function that returns one. The first existing name is used.
OBJECTS = ("application", "app")
FACTORIES = ("create_app", "make_app")


@dataclass(frozen=True)
class AppSpec:
    """One application.

    `root`: an absolute path, the application's current directory and the first entry of its `sys.path`. `target`:
    `module`, `module:object` or `module:factory(...)` with literal arguments; a bare `module` means its first attribute
    out of OBJECTS and FACTORIES. `startup_file`: the file to run as that module (None: import the module by name).
    `django_settings`: the value for DJANGO_SETTINGS_MODULE where that is not set. `sets_settings`: importing the
    target's module sets it, so appsrv does not. Kind `command`: running the command `argv` again loads the application.
    Kind `generic`: a shell runs `start_command`, which starts a process that serves HTTP. `reads_dotenv`: the preloader
    reads `.env`; otherwise these variables are already among those of the group.
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
        """The application in the words of the command line, for `appsrv status`."""
        return self.start_command or self.target or " ".join(self.argv)

    @property
    def name(self) -> str:
        """The name of this application in commands and in the log."""
        return self.root

    def to_json(self) -> dict[str, Any]:
        """A JSON object for another process of this instance; `from_json` makes an equal object of it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> AppSpec:
        return cls(**{**fields, "argv": tuple(fields["argv"])})


def is_below(name: str, prefix: str) -> bool:
    """Whether the application named `name` is at or below the path `prefix`; `/srv/shop` is not below `/srv/sho`.

    The two paths are compared as given, and again with symbolic links resolved. A name that is not an absolute path is
    below no path: it must not depend on the current directory of a command.
    """
    if not os.path.isabs(name):
        return False
    pairs = ((name, prefix), (os.path.realpath(name), os.path.realpath(prefix)))
    return any(f"{one}/".startswith(f"{other.rstrip('/')}/") for one, other in pairs)


# -- the file .env -----------------------------------------------------------------------------------------------------


def load_dotenv(root: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables in `.env` beside the application that are not in `environ`. Raises `SettingsError`."""
    variables = read_dotenv(os.path.join(root, ".env"))
    return {name: value for name, value in variables.items() if name not in environ}


def read_dotenv(file: str) -> dict[str, str]:
    """The variables of a file or FIFO in the format of `.env`; {} if there is none. Names without `=` are left out.

    Raises `SettingsError` if it cannot be read.
    """
    from_fifo = fifo.is_fifo(file)
    if not (from_fifo or os.path.isfile(file)):  # `.env` may also be the directory of a virtual environment.
        return {}
    # Imported only if there is such a file: this import takes as long as half the start of a small application.
    from dotenv import dotenv_values

    try:
        stream = io.StringIO(fifo.read_once(file).decode()) if from_fifo else None
        found = dotenv_values(stream=stream) if from_fifo else dotenv_values(file)
        return {name: value for name, value in found.items() if value is not None}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} cannot be read: {error}") from None
