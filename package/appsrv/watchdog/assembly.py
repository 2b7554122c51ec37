"""One instance, from its resources to its end: takes them, makes the parts of the watchdog, runs it, gives all back.

Only this module changes the watchdog's process itself: its title, its signal handlers, its role as a subreaper. How to
serve, and when to stop, is decided in the parts.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TextIO

import setproctitle

from appsrv.apps.app_group import AppGroup
from appsrv.instance.kept_directory import KeptDirectory
from appsrv.instance.run_directory import InstanceInfo
from appsrv.settings import sources
from appsrv.settings.table import Settings
from appsrv.system import stack_dump
from appsrv.system.hangup import Hangup
from appsrv.system.nonblocking_terminal import Terminal
from appsrv.system.oom_kills import OutOfMemoryKills
from appsrv.system.process_tree import become_subreaper
from appsrv.system.service_manager import SERVICE_VARIABLES, Notifier, watchdog_interval
from appsrv.system.signals import Signals
from appsrv.system.users import Identity, identity_of
from appsrv.system.words import listed
from appsrv.watchdog.children import Children
from appsrv.watchdog.configuration import Configuration
from appsrv.watchdog.output_collector import Collector
from appsrv.watchdog.preloader_children import PreloaderChildren
from appsrv.watchdog.process import Watchdog
from appsrv.watchdog.process_table import ProcessTable
from appsrv.watchdog.resources import Resources
from appsrv.watchdog.served_groups import ServedGroups, identity_of_group
from appsrv.watchdog.server_child import ServerChild
from appsrv.watchdog.service_reports import ServiceReports
from appsrv.watchdog.spawner import Development, PreloaderSpawner, Spawner
from appsrv.watchdog.stop_sequence import StopSequence
from appsrv.watchdog.terminal_lender import TerminalLender, can_lend

Clock = Callable[[], float]


@dataclass(frozen=True)
class Plan:
    """What an instance is to serve.

    `root` is its directory. `development` is set for a development server. `problems` tells, by name, why other
    applications are not served. `environ` is the environment of the command that was typed.
    """

    settings: Settings
    root: str
    groups: Sequence[AppGroup]
    environ: Mapping[str, str]
    development: Development | None = None
    problems: Mapping[str, str] = field(default_factory=dict)

    @property
    def child_environ(self) -> dict[str, str]:
        """The environment of all processes that the watchdog starts."""
        return {name: value for name, value in self.environ.items() if name not in SERVICE_VARIABLES}

    @property
    def graceful_seconds(self) -> float:
        """How long a graceful stop may take."""
        return self.settings.stop_delay + self.settings.stop_timeout


class WatchedInstance:
    """One instance. `open` takes its resources, `run` serves and gives them back."""

    def __init__(self, plan: Plan) -> None:
        """Raises an AppsrvError when a user of the settings does not exist or cannot be used."""
        self._plan = plan
        self._identity = identity_of(plan.settings.user, plan.settings.group)
        self._identities = identities_of(plan)
        self._selector = selectors.DefaultSelector()
        self.resources = resources_of(plan, self._identities)

    def open(self, terminal: TextIO | None) -> InstanceInfo:
        """Take the resources. `terminal` is where all lines of the log are shown, too.

        The signals are handled before that: a SIGTERM in between ends the process by an exception, so that a pid file
        or a run directory that is there already is removed.
        """
        self._hangup = Hangup.of_this_process()
        self._signals = Signals(self._selector)
        try:
            return self.resources.open(terminal, may_wait=self._signals.ending_interrupts)
        except BaseException:
            self._signals.ignore()
            raise

    def run(self, *, on_booted: Callable[[], None], terminal: Terminal | None = None) -> int:
        """Serve until told to stop; returns the exit code. Raises the error of a first generation that cannot boot.

        `on_booted` is called when the first worker is ready. `terminal` may be lent to debuggers in workers.
        """
        setproctitle.setproctitle("appsrv watchdog")
        stack_dump.listen(self.resources.directory.path)
        # Before the first child: a worker whose preloader dies becomes a child of this process, not of init.
        become_subreaper()
        clock, log = time.monotonic, self.resources.log
        output = Collector(self._selector, log, clock)
        groups = groups_of(self._plan, self.resources, self._identities)
        with contextlib.ExitStack() as at_end:
            at_end.callback(self._close, output, groups)
            for level, notice in notices(self._plan, groups, is_root=os.geteuid() == 0):
                log.event(level, notice)
            lender = self._lend(terminal, output)
            if lender is not None:
                at_end.callback(lender.close)
            watchdog = watchdog_of(
                self._plan, self.resources, groups=groups, output=output, selector=self._selector,
                signals=self._signals, hangup=self._hangup, spawner=Spawner(self._plan.child_environ, output),
                processes=ProcessTable(), clock=clock, on_booted=on_booted,
            )
            return watchdog.run()

    def _lend(self, terminal: Terminal | None, output: Collector) -> TerminalLender | None:
        """Let debuggers in workers use the terminal, where there is one and the application is developed."""
        plan = self._plan
        development = plan.development is not None or plan.settings.environment == "development"
        if terminal is None or not development or self._identity is not None or not can_lend():
            return None
        return TerminalLender(self._selector, self.resources.directory.path, terminal, output.catch_up)

    def _close(self, output: Collector, groups: ServedGroups) -> None:
        # From here on no signal may keep the files of the instance from being removed.
        self._signals.ignore()
        output.finish()
        self._selector.close()
        self.resources.close()
        for log in groups.logs():
            log.close()


def identities_of(plan: Plan) -> dict[str, Identity | None]:
    """The user of each group by its name. Raises an AppsrvError."""
    return {group.name: identity_of_group(group) for group in plan.groups}


def resources_of(plan: Plan, identities: Mapping[str, Identity | None]) -> Resources:
    """The resources of the instance, not taken yet."""
    return Resources(
        plan.settings, plan.root, plan.groups, plan.environ, identities, development=plan.development is not None
    )


def groups_of(plan: Plan, resources: Resources, identities: Mapping[str, Identity | None]) -> ServedGroups:
    """The records of the groups that are served from the start."""
    return ServedGroups(plan.groups, identities=identities, settings=plan.settings, resources=resources)


def notices(plan: Plan, groups: ServedGroups, *, is_root: bool) -> Iterator[tuple[int, str]]:
    """(level, line for the log): what the operator should know about this start."""
    if is_root and plan.development is None:
        names = [group.name for group in groups if group.identity is None]
        if names:
            what = "the application runs" if len(groups) == 1 else f"{listed(names)} run"
            yield logging.WARNING, f"{what} as root: name another user with --user"
    for notice in sources.variable_notices(plan.child_environ):
        yield logging.WARNING, notice
    for name, problem in plan.problems.items():
        yield logging.ERROR, f"{name} is not served: {problem}"


def watchdog_of(
    plan: Plan, resources: Resources, *, groups: ServedGroups, output: Collector, selector: selectors.BaseSelector,
    signals: Signals, hangup: Hangup, spawner: Spawner, processes: ProcessTable, clock: Clock,
    on_booted: Callable[[], None],
) -> Watchdog:
    """Make the parts of a watchdog and join them. `resources` are open."""
    development, log, oom_kills = plan.development is not None, resources.log, OutOfMemoryKills()
    service = ServiceReports(Notifier(plan.environ), watchdog_interval(plan.environ, os.getpid()))
    configuration = Configuration(
        settings=plan.settings, resources=resources, problems=plan.problems, development=development,
        pulse_seconds=service.pulse_seconds,
    )
    # Two parts call parts that are made after them, so they get functions that look those up when they are called.
    server = ServerChild(
        spawner=spawner, selector=selector, on_readable=lambda: watchdog.receive_from_server(), log=log,
        oom_kills=oom_kills, clock=clock,
    )
    preloaders = PreloaderChildren(
        groups=groups, spawner=PreloaderSpawner(spawner, plan.development), configuration=configuration, output=output,
        selector=selector, send=server.send, kill=lambda pid: processes.send_signal(pid, signal.SIGKILL), clock=clock,
        development=development,
    )
    children = Children(
        server=server, preloaders=preloaders, groups=groups, processes=processes, configuration=configuration,
        output=output, clock=clock, development=development,
        on_startup_failure=lambda exit_code: stop.end_with(exit_code),
    )
    stop = StopSequence(
        children=children, processes=processes, service=service, log=log, graceful_seconds=plan.graceful_seconds,
        clock=clock,
    )
    watchdog = Watchdog(
        selector=selector, signals=signals, hangup=hangup, children=children, stop=stop, groups=groups,
        resources=resources, output=output, service=service,
        kept_directory=KeptDirectory(resources.directory, lambda: resources.info, log.event, clock),
        processes=processes, oom_kills=oom_kills, clock=clock, development=development, on_booted=on_booted,
    )
    return watchdog
