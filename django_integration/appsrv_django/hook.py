"""The start-up hook: adds appsrv to `runserver`, `manage.py appsrv` and `manage.py check` without INSTALLED_APPS.

appsrv_django.pth (appsrv_django.start from Python 3.15 on) calls it at every start of Python in this environment, and
twice in a virtual environment. So it must be cheap and idempotent, and must never raise. It waits for the import of
django.core.management and wraps the function in which Django loads a command: after Django has found its `runserver`,
the wrapper decides whether appsrv serves it.
"""

from __future__ import annotations

import os
import sys
import time

# Type checkers treat this name as typing.TYPE_CHECKING. An import of typing would double the cost of this module.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType, TracebackType
    from typing import Any

STARTED = time.time()
"""The approximate time when this Python started, or when a standby preloader was needed.

A file that was saved later may have been imported before the save.
"""

COMMAND = "runserver"
OWN_COMMAND = "appsrv"
WRAPPED_COMMANDS = (COMMAND, OWN_COMMAND, "check")
"""The commands of manage.py that the hook changes."""

MODULE = "django.core.management"
PRELOADER = "APPSRV_PRELOADER"
"""Set in the environment of a preloader, see appsrv.development.run."""


STANDBY = "APPSRV_STANDBY"
"""Set in the environment of a preloader of any framework: whether it is a standby, see appsrv.development.standby."""


def install() -> None:
    """Wait for the import of Django's commands if this process may run one of WRAPPED_COMMANDS."""
    if STANDBY in os.environ:
        _stand_by()
    argv = getattr(sys, "argv", ())
    if not any(name in argv for name in WRAPPED_COMMANDS):
        return
    if any(isinstance(item, ImportObserver) for item in sys.meta_path):
        return
    if PRELOADER in os.environ and "--noreload" not in sys.argv:
        _serve_errors()
    if MODULE in sys.modules:
        wrap(sys.modules[MODULE])
    else:
        sys.meta_path.insert(0, ImportObserver())


def _stand_by() -> None:
    """In a standby preloader, wait here until it is needed."""
    global STARTED
    waits = os.environ[STANDBY] == "wait"
    try:
        from appsrv.development import standby

        standby.wait()
    except BaseException:
        # appsrv cannot be imported, for example during an upgrade. A standby preloader must not load the application
        # before it is needed, so it ends.
        if waits:
            os._exit(1)
        raise
    STARTED = time.time()


class ImportObserver:
    """A finder in `sys.meta_path` that finds no modules itself; it observes the import of django.core.management."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of django.core.management from the other finders; its loader wraps the module afterwards."""
        if name != MODULE:
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(name, path, target) if find else None
            if spec is not None:
                _wrap_when_loaded(spec.loader)
                return spec
        return None


def _wrap_when_loaded(loader: Any) -> None:
    load = getattr(loader, "exec_module", None)
    if load is None:
        return

    def exec_module(module: ModuleType) -> None:
        load(module)
        wrap(module)

    try:
        loader.exec_module = exec_module
    except AttributeError:
        # This loader does not allow attributes. Such a project can still use INSTALLED_APPS.
        return


def wrap(module: Any) -> None:
    """Wrap the functions of django.core.management that load and list commands."""
    _wrap_loading(module)
    if PRELOADER in os.environ:
        from appsrv.development import reloader

        # This has to happen before Django imports the settings and the modules that they name.
        reloader.remember_loaded()
    if sys.argv[1:2] == [OWN_COMMAND]:
        _wrap_listing(module)
    elif sys.argv[1:2] == ["check"]:
        from appsrv_django.takeover import project_names_appsrv

        if project_names_appsrv():
            import appsrv_django.checks  # noqa: F401 - registers them


def _wrap_listing(module: Any) -> None:
    """Add the command `appsrv` for a project whose dependencies name appsrv, without INSTALLED_APPS."""
    original = getattr(module, "get_commands", None)
    if original is None or getattr(original, "appsrv_wrapped", False):
        return

    def get_commands() -> dict[str, Any]:
        commands: dict[str, Any] = original()
        from appsrv_django.takeover import OURS, project_names_appsrv

        return {OWN_COMMAND: OURS, **commands} if project_names_appsrv() else commands

    get_commands.appsrv_wrapped = True  # type: ignore[attr-defined]
    get_commands.__doc__ = original.__doc__
    module.get_commands = get_commands


def _wrap_loading(module: Any) -> None:
    original = getattr(module, "load_command_class", None)
    if original is None or getattr(original, "appsrv_wrapped", False):
        return

    def load_command_class(app_name: str, name: str) -> Any:
        command = original(app_name, name)
        if name != COMMAND:
            return command
        from appsrv_django.takeover import replacement

        return replacement(app_name, command)

    load_command_class.appsrv_wrapped = True  # type: ignore[attr-defined]
    load_command_class.__doc__ = original.__doc__
    module.load_command_class = load_command_class


def _serve_errors() -> None:
    """Serve errors in manage.py or in the settings after a change: they may occur before Django looks up runserver."""
    previous = sys.excepthook

    def excepthook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        previous(kind, error, traceback)
        # `run.serve` removes the variable. Errors after that are errors of the worker.
        if isinstance(error, Exception) and PRELOADER in os.environ:
            from appsrv_django import broken

            broken.serve(error)

    sys.excepthook = excepthook
