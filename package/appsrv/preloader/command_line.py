"""What an application finds of the command that runs it: `sys.argv` and the module `__main__`.

A preloader is started by `python -c`, with the numbers of its descriptors as arguments. An application that parses
`sys.argv` at import finds what `python app.py` gives it: its file, and no argument. `__main__` is appsrv's and has a
name, so that a child that `multiprocessing` spawns leaves it alone (multiprocessing.spawn, `get_preparation_data`).
Knows no process.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from types import ModuleType

from appsrv.apps.app_spec import AppSpec

_MAIN = "appsrv.__main__"


def take_over(spec: AppSpec, main: ModuleType) -> None:
    """Give this process, whose module `__main__` is `main`, the command line of the application."""
    found = importlib.util.find_spec(_MAIN)
    assert found is not None
    assert found.origin is not None
    main.__spec__ = found
    main.__file__ = found.origin
    main.__package__ = found.parent
    main.__loader__ = found.loader
    sys.argv[:] = [application_file(spec) or found.origin]


def application_file(spec: AppSpec) -> str | None:
    """The file of the application, as far as it is known before anything is imported."""
    if spec.startup_file is not None:
        return spec.startup_file
    module = spec.target.partition(":")[0]
    start = os.path.join(spec.root, *module.split("."))
    candidates = (f"{start}.py", os.path.join(start, "__init__.py"))
    return next((path for path in candidates if os.path.isfile(path)), None) if module else None
