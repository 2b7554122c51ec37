"""Inside a standby preloader: the next preloader of a development server, started before a save needs it.

It runs the very command that was typed, but stops in the start-up hook, before a line of the project is run. There it
imports what the framework had loaded the last time and waits until the watchdog sends it its configuration; then the
command goes on, with everything imported already that no save can have changed. What has changed all the same (an
upgrade of the framework, an installed package), or is not what the project uses (a copy of its own), makes it begin
anew. Which packages are the framework's is for the integrations to say; nothing of the project is imported ahead, nor
any other library by its own name: what they do may depend on the environment that the project makes for them.
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
    """Called by the start-up hook where APPSRV_STANDBY is set; returns when the command is to go on."""
    variables = sources.environment()
    if sources.take_variable(STANDBY) != WAIT or PRELOADER not in variables:
        return
    fds = [int(number) for number in variables[PRELOADER].split(",")]
    path = list(sys.path)
    startup = startup_files(path)
    try:
        as_before = _be_ready(Channel.from_fd(fds[1]))
    except BaseException:
        # The watchdog starts another one when it needs it; this one must not load the application before.
        os._exit(1)
    if not as_before or startup != startup_files(path) or reloader.loaded_have_changed():
        _begin_anew(fds)
    # Directories that were not there are remembered as such.
    importlib.invalidate_caches()


def _be_ready(watchdog: Channel) -> bool:
    """Import and wait; whether what was imported is what the last preloader had."""
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
    # The number stays open: it is in the environment for `development.serve`.
    watchdog.sock.detach()
    return not others(order.origins, sys.modules)


def startup_files(path: Iterable[str]) -> dict[str, reloader.Stamp | None]:
    """The files by which Python learns at its start where modules are (`site`, editable installs), with their state."""
    patterns = [os.path.join(glob.escape(directory), kind) for directory in path for kind in STARTUP_KINDS]
    return {file: reloader.stamp(file) for pattern in patterns for file in glob.glob(pattern)}


def others(origins: Mapping[str, str], modules: Mapping[str, ModuleType]) -> list[str]:
    """The names at the top that mean another file here than in `origins`: a project may bring its own of a package."""
    return [name for name, file in origins_of(modules).items() if origins.get(name, file) != file]


def origins_of(modules: Mapping[str, ModuleType]) -> dict[str, str]:
    """The files of the packages and modules at the top."""
    files = {name: getattr(module, "__file__", None) for name, module in list(modules.items()) if "." not in name}
    return {name: file for name, file in files.items() if isinstance(file, str) and name != "__main__"}


def _name_process(title: str) -> str:
    """Give this process a title; returns the one it had."""
    import setproctitle

    before: str = setproctitle.getproctitle()
    setproctitle.setproctitle(title)
    return before


def _customize() -> None:
    """What Python does after the start-up hooks: tools that watch imports get into place there."""
    customize: Any = site
    customize.execsitecustomize()
    if site.ENABLE_USER_SITE:
        customize.execusercustomize()


@contextlib.contextmanager
def _hidden(names: Iterable[str]) -> Iterator[None]:
    """Without these variables of the environment, by which a framework finds the project."""
    taken = {name: sources.take_variable(name) for name in names}
    try:
        yield
    finally:
        sources.extend_environment({name: value for name, value in taken.items() if value is not None})


def import_ahead(modules: Iterable[str]) -> None:
    """Import what can be imported now; what needs the project is imported when the project is."""
    for name in modules:
        with contextlib.suppress(Exception, SystemExit):
            importlib.import_module(name)


def _begin_anew(fds: Iterable[int]) -> NoReturn:
    for fd in fds:
        os.set_inheritable(fd, True)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


# -- what a preloader that has loaded the application says of the next one ---------------------------------------------


def order(
    packages: Iterable[str], excluded: Iterable[str], hidden: Iterable[str], modules: Mapping[str, ModuleType]
) -> messages.Prepare:
    """What the next preloader may import ahead: of the loaded `modules` those in these `packages` and in appsrv's own.

    `excluded` are packages below them that ask for the project's settings, and go on without. `hidden` are variables of
    the environment by which the framework finds the project.
    """
    wanted = {*packages, *OWN_PACKAGES}
    barred = tuple(f"{name}." for name in (*excluded, __name__))
    # A copy: threads that the application has started may be importing.
    loaded = list(modules)
    named = [name for name in loaded if name.partition(".")[0] in wanted and not f"{name}.".startswith(barred)]
    return messages.Prepare(named, list(hidden), origins_of(modules))


def reason_against(
    environ: Mapping[str, str], modules: Mapping[str, ModuleType], *, has_hook: bool, reloads: bool, wanted: bool
) -> str | None:
    """Why the next preloader of this command must not be started ahead, or None.

    `modules` are those that are loaded, `reloads` is whether the code is loaded anew when it has changed.
    """
    if not (wanted and reloads):
        return "nobody wants it"
    if not has_hook:
        return "the start-up hook is not installed: the command would not stop there"
    if _says_something(environ):
        return "importing says something, which belongs to the start"
    if _is_patched(modules):
        return "the standard library was monkey-patched, which has to come first"
    return None


def _says_something(environ: Mapping[str, str]) -> bool:
    traced = "importtime" in sys._xoptions or bool(environ.get("PYTHONPROFILEIMPORTTIME"))
    return bool(sys.warnoptions or sys.flags.verbose or sys.flags.dev_mode or traced)


def _is_patched(modules: Mapping[str, ModuleType]) -> bool:
    gevent: Any = modules.get("gevent.monkey")
    eventlet: Any = modules.get("eventlet.patcher")
    by_gevent = gevent is not None and any(map(gevent.is_module_patched, ("socket", "ssl", "thread", "threading")))
    return by_gevent or bool(getattr(eventlet, "already_patched", None))
