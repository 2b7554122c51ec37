"""The start-up hook: lets `runserver` be looked up, and then decides whether appsrv serves it. In the same way
`manage.py appsrv` is found, and `manage.py check` knows what appsrv has to say, without a line in INSTALLED_APPS.

Called by appsrv_django.pth (appsrv_django.start from Python 3.15 on) at every start of Python in this
environment, twice in a virtual environment: it must be cheap, idempotent and must never raise. It waits for
django.core.management to be imported and wraps the one function in which Django loads a command.
"""

from __future__ import annotations

import os
import sys
import time

# What type checkers take for typing.TYPE_CHECKING: typing itself would double the cost of this module.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType, TracebackType
    from typing import Any

STARTED = time.time()
"""When this Python started, near enough, or was needed: files saved later may have been imported in their old form."""

COMMAND = "runserver"
OWN_COMMAND = "appsrv"
CONCERNED = (COMMAND, OWN_COMMAND, "check")
"""The commands of manage.py that this is about."""

MODULE = "django.core.management"
PRELOADER = "APPSRV_PRELOADER"
"""In the environment of a preloader, see appsrv.development.run."""


STANDBY = "APPSRV_STANDBY"
"""The same, whatever the framework: whether it is a standby preloader, see appsrv.development.standby."""


def install() -> None:
    """Wait for Django's commands, if this could be one of those concerned at all."""
    if STANDBY in os.environ:
        _stand_by()
    argv = getattr(sys, "argv", ())
    if not any(name in argv for name in CONCERNED) or any(isinstance(item, Waiting) for item in sys.meta_path):
        return
    if PRELOADER in os.environ and "--noreload" not in sys.argv:
        _outlive_errors()
    if MODULE in sys.modules:
        wrap(sys.modules[MODULE])
    else:
        sys.meta_path.insert(0, Waiting())


def _stand_by() -> None:
    """Wait here until this preloader is needed, if it was started ahead."""
    global STARTED
    waits = os.environ[STANDBY] == "wait"
    try:
        from appsrv.development import standby

        standby.wait()
    except BaseException:
        # Half an upgrade: a preloader that was started ahead must not load the application before it is needed.
        if waits:
            os._exit(1)
        raise
    STARTED = time.time()


class Waiting:
    """A finder that finds nothing itself: it only sees django.core.management go by, once."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of django.core.management as others find it, with the wrapping added to its loading."""
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
        # A loader that cannot be changed: INSTALLED_APPS remains as the way.
        return


def wrap(module: Any) -> None:
    """Make django.core.management ask appsrv about the commands concerned."""
    _wrap_loading(module)
    if PRELOADER in os.environ:
        from appsrv.development import reloader

        # Before Django loads the settings, and all that they name.
        reloader.remember_loaded()
    if sys.argv[1:2] == [OWN_COMMAND]:
        _wrap_listing(module)
    elif sys.argv[1:2] == ["check"]:
        from appsrv_django.takeover import concerns_project

        if concerns_project():
            import appsrv_django.checks  # noqa: F401 - registers them


def _wrap_listing(module: Any) -> None:
    """Let `manage.py appsrv` be found where only the dependencies name appsrv."""
    original = getattr(module, "get_commands", None)
    if original is None or getattr(original, "appsrv_wrapped", False):
        return

    def get_commands() -> dict[str, Any]:
        commands: dict[str, Any] = original()
        from appsrv_django.takeover import OURS, concerns_project

        return {OWN_COMMAND: OURS, **commands} if concerns_project() else commands

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


def _outlive_errors() -> None:
    """After a change, manage.py or settings may break Django before its runserver is even looked up."""
    previous = sys.excepthook

    def excepthook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        previous(kind, error, traceback)
        # Once it serves, the variable is gone: then errors are the worker's.
        if isinstance(error, Exception) and PRELOADER in os.environ:
            from appsrv_django import broken

            broken.serve(error)

    sys.excepthook = excepthook
