"""Inside a standby preloader: the next preloader of a development server, started before a save needs it.

It runs the very command that was typed, but stops in the start-up hook, before a line of the project is run. There it
imports what the framework had loaded the last time and waits until the watchdog sends it its configuration; then the
command goes on, with everything imported already that no save can have changed. What was imported and has changed all
the same (an upgrade of the framework) makes it begin anew. Which packages are the framework's is for the integrations
to say; nothing of the project, and of no other library, is imported ahead: what they do may depend on the environment
that the project makes for them.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import site
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any, NoReturn

from appsrv import config, message, reloader
from appsrv.channel import Channel
from appsrv.standby_preloader import VARIABLE, WAIT

PRELOADER = "APPSRV_PRELOADER"
OWN_PACKAGES = ("appsrv", "appsrv_django", "appsrv_flask")


def wait() -> None:
    """Called by the start-up hook where VARIABLE is set; returns when the command is to go on."""
    if config.take_variable(VARIABLE) != WAIT:
        return
    fds = [int(number) for number in config.environment()[PRELOADER].split(",")]
    try:
        _be_ready(Channel.from_fd(fds[1]))
    except BaseException:
        # The watchdog starts another one when it needs it; this one must not load the application before.
        os._exit(1)
    if reloader.loaded_have_changed():
        _begin_anew(fds)


def _be_ready(watchdog: Channel) -> None:
    title = _name_process("appsrv standby")
    order, _ = watchdog.receive()
    assert isinstance(order, message.Prepare)
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
    taken = {name: config.take_variable(name) for name in names}
    try:
        yield
    finally:
        config.extend_environment({name: value for name, value in taken.items() if value is not None})


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


def order(packages: Iterable[str], hidden: Iterable[str], modules: Mapping[str, ModuleType]) -> message.Prepare:
    """What the next preloader may import ahead: of the loaded `modules` those in these `packages` and in appsrv's own.

    `hidden` are variables of the environment by which the framework finds the project.
    """
    wanted = {*packages, *OWN_PACKAGES}
    named = [name for name in modules if name.partition(".")[0] in wanted and name != __name__]
    return message.Prepare(named, list(hidden))


def reason_against(modules: Mapping[str, ModuleType]) -> str | None:
    """Why the next preloader of this command must not be started ahead, or None. `modules`: those that are loaded."""
    if sys.warnoptions or sys.flags.verbose or sys.flags.dev_mode or "importtime" in sys._xoptions:
        return "importing says something, which belongs to the start"
    if _is_patched(modules):
        return "the standard library was monkey-patched, which has to come first"
    return None


def _is_patched(modules: Mapping[str, ModuleType]) -> bool:
    gevent: Any = modules.get("gevent.monkey")
    eventlet: Any = modules.get("eventlet.patcher")
    return bool(
        (gevent is not None and gevent.is_module_patched("socket"))
        or (eventlet is not None and getattr(eventlet, "already_patched", None))
    )
