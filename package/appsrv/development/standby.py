"""The standby preloader: the next preloader of a development server, started before a save needs it.

It runs the typed command, but stops in the start-up hook, before any code of the project runs. There it imports the
framework's modules that the last preloader had loaded, and waits until the watchdog sends its configuration. Then the
command continues, with all modules imported that a save cannot have changed. It starts again from the beginning if they
have changed after all (an upgrade of the framework, an installed package), or if the project uses other files (a copy
of its own). The integrations name the framework's packages. No module of the project is imported ahead, and no other
library by its own name: their imports may depend on the environment that the project sets up for them.
"""

from __future__ import annotations

import contextlib
import glob
import importlib
import os
import select
import site
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any, NoReturn

from appsrv.development import reloader
from appsrv.ipc import messages
from appsrv.ipc.channel import Channel
from appsrv.settings import sources
from appsrv.settings.internal_variables import PRELOADER, STANDBY
from appsrv.watchdog.standby import WAIT

STARTUP_KINDS = ("*.pth", "*.start", "__editable__*.py")
OWN_PACKAGES = ("appsrv", "appsrv_django", "appsrv_flask")


def wait() -> None:
    """Called by the start-up hook if APPSRV_STANDBY is set; returns when the command has to continue."""
    variables = sources.environment()
    if sources.take_variable(STANDBY) != WAIT or PRELOADER not in variables:
        return
    fds = [int(number) for number in variables[PRELOADER].split(",")]
    path = list(sys.path)
    startup = startup_files(path)
    try:
        as_before = _import_and_wait(Channel.from_fd(fds[1]))
    except BaseException:
        # This process must not load the application before it is needed, so it ends. The watchdog starts an ordinary
        # preloader when it needs one.
        os._exit(1)
    if not as_before or startup != startup_files(path) or reloader.loaded_have_changed():
        _restart(fds)
    # Python's finders cache the content of directories, also that a directory did not exist.
    importlib.invalidate_caches()


def _import_and_wait(watchdog: Channel) -> bool:
    """Import the modules and wait; whether the imported files are those of the last preloader."""
    title = _name_process("appsrv standby")
    order, _ = watchdog.receive_one(messages.Prepare)
    reloader.remember_loaded()
    _customize()
    with _hidden(order.hidden):
        import_ahead(order.modules)
    select.select([watchdog], [], [])
    if not watchdog.sock.recv(1, socket.MSG_PEEK):
        os._exit(0)
    _name_process(title)
    # The descriptor stays open: `run.serve` uses it, by its number in the environment.
    watchdog.sock.detach()
    return not replaced_modules(order.origins, sys.modules)


def startup_files(path: Iterable[str]) -> dict[str, reloader.Stamp | None]:
    """The files that tell Python at its start where modules are (`site`, editable installs), each with its stamp."""
    patterns = [os.path.join(glob.escape(directory), kind) for directory in path for kind in STARTUP_KINDS]
    return {file: reloader.stamp(file) for pattern in patterns for file in glob.glob(pattern)}


def replaced_modules(origins: Mapping[str, str], modules: Mapping[str, ModuleType]) -> list[str]:
    """The top-level modules with another file than in `origins`: a project may contain its own copy of a package."""
    return [name for name, file in origins_of(modules).items() if origins.get(name, file) != file]


def origins_of(modules: Mapping[str, ModuleType]) -> dict[str, str]:
    """The file of each top-level module or package."""
    files = {name: getattr(module, "__file__", None) for name, module in list(modules.items()) if "." not in name}
    return {name: file for name, file in files.items() if isinstance(file, str) and name != "__main__"}


def _name_process(title: str) -> str:
    """Set the process title; returns the previous one."""
    import setproctitle

    before: str = setproctitle.getproctitle()
    setproctitle.setproctitle(title)
    return before


def _customize() -> None:
    """Run `sitecustomize` and `usercustomize`, as Python does after the start-up hooks.

    Tools that observe imports are installed there, so they have to run before the imports.
    """
    customize: Any = site
    customize.execsitecustomize()
    if site.ENABLE_USER_SITE:
        customize.execusercustomize()


@contextlib.contextmanager
def _hidden(names: Iterable[str]) -> Iterator[None]:
    """Remove these environment variables, by which a framework finds the project, for the duration of the block."""
    taken = {name: sources.take_variable(name) for name in names}
    try:
        yield
    finally:
        sources.extend_environment({name: value for name, value in taken.items() if value is not None})


def import_ahead(modules: Iterable[str]) -> None:
    """Import these modules. An import that fails without the project is ignored; it is repeated with the project."""
    for name in modules:
        with contextlib.suppress(Exception, SystemExit):
            importlib.import_module(name)


def _restart(fds: Iterable[int]) -> NoReturn:
    for fd in fds:
        os.set_inheritable(fd, True)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


# -- in a preloader that has loaded the application: the order for the next one ----------------------------------------


def order(
    packages: Iterable[str], excluded: Iterable[str], hidden: Iterable[str], modules: Mapping[str, ModuleType]
) -> messages.Prepare:
    """The order for the standby preloader: the loaded `modules` that are in these `packages` or in appsrv's own.

    `excluded`: packages below them that read the project's settings, but do not fail without them. `hidden`: the
    environment variables by which the framework finds the project.
    """
    wanted = {*packages, *OWN_PACKAGES}
    barred = tuple(f"{name}." for name in (*excluded, __name__))
    # `list` makes a copy, because threads of the application may be importing modules meanwhile.
    loaded = list(modules)
    named = [name for name in loaded if name.partition(".")[0] in wanted and not f"{name}.".startswith(barred)]
    return messages.Prepare(named, list(hidden), origins_of(modules))


def reason_against(
    environ: Mapping[str, str], modules: Mapping[str, ModuleType], *, has_hook: bool, reloads: bool, wanted: bool
) -> str | None:
    """The reason why this command must not have a standby preloader, or None.

    `modules`: the loaded modules. `has_hook`: the start-up hook is installed. `reloads`: changed code is loaded again.
    `wanted`: the setting `standby_preloader`.
    """
    if not (wanted and reloads):
        return "it is not needed"
    if not has_hook:
        return "the start-up hook is not installed: the command would not stop there"
    if _imports_print(environ):
        return "importing prints output, which belongs to the start"
    if _is_patched(modules):
        return "the standard library was monkey-patched, which has to come first"
    return None


def _imports_print(environ: Mapping[str, str]) -> bool:
    traced = "importtime" in sys._xoptions or bool(environ.get("PYTHONPROFILEIMPORTTIME"))
    return bool(sys.warnoptions or sys.flags.verbose or sys.flags.dev_mode or traced)


def _is_patched(modules: Mapping[str, ModuleType]) -> bool:
    gevent: Any = modules.get("gevent.monkey")
    eventlet: Any = modules.get("eventlet.patcher")
    by_gevent = gevent is not None and any(map(gevent.is_module_patched, ("socket", "ssl", "thread", "threading")))
    return by_gevent or bool(getattr(eventlet, "already_patched", None))
