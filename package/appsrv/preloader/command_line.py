"""The command line as the application sees it: `sys.argv` and the module `__main__`.

A preloader is started by `python -c`, with the numbers of its descriptors as arguments. An application that parses
`sys.argv` at import gets the same as from `python app.py`: its file, and no argument. The module `__main__` gets a name
that ends in `.__main__`. A child that `multiprocessing` spawns imports the main module of its parent again, except one
with such a name (`_fixup_main_from_name` in multiprocessing.spawn). Knows no process.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from types import ModuleType

from appsrv.apps.app_spec import AppSpec

_MAIN = "appsrv.__main__"


def take_over(spec: AppSpec, main: ModuleType) -> None:
    """Set the command line of this process, whose module `__main__` is `main`, for the application."""
    found = importlib.util.find_spec(_MAIN)
    assert found is not None
    assert found.origin is not None
    main.__spec__ = found
    main.__file__ = found.origin
    main.__package__ = found.parent
    main.__loader__ = found.loader
    sys.argv[:] = [application_file(spec) or found.origin]


def application_file(spec: AppSpec) -> str | None:
    """The file of the application, found without importing anything; None when that is not possible."""
    if spec.startup_file is not None:
        return spec.startup_file
    module = spec.target.partition(":")[0]
    start = os.path.join(spec.root, *module.split("."))
    candidates = (f"{start}.py", os.path.join(start, "__init__.py"))
    return next((path for path in candidates if os.path.isfile(path)), None) if module else None
