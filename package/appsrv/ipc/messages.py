"""All messages between the processes of an instance, but those about client connections (`connection_messages`).

A message is one dataclass; the processes that send and receive it are its `ways`. File descriptors are sent beside a
message (`channel`), in the order that its docstring gives. How it is written as bytes is the business of
`message_format`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from appsrv.ipc.directions import (
    CONFIGURES_SERVER,
    FILES_TO_WORKER,
    PRELOADER_TO_SERVER,
    PRELOADER_TO_WATCHDOG,
    SERVER_TO_PRELOADER,
    SERVER_TO_WATCHDOG,
    WATCHDOG_TO_PRELOADER,
    WATCHDOG_TO_SERVER,
    WORKER_TO_SERVER,
)
from appsrv.ipc.message_format import Message, Packed

# -- the watchdog and its two kinds of children -----------------------------------------------------------------


@dataclass(eq=False, repr=False)
class Configure(
    Message,
    tag=1,
    ways=(CONFIGURES_SERVER, WATCHDOG_TO_PRELOADER),
    whole=("settings", "listeners", "instance", "group"),
):
    """First message to a server or preloader. To a server: fds are the listening sockets, in order of `listeners`.

    `settings`, `listeners`, `instance` and `group` are what the `to_json` of `Settings`, `listener.Listener`,
    `instance.InstanceInfo` and `app_group.AppGroup` returns. To a preloader, `settings` are its application's, and
    `group` is that; to a server, `groups` is how many ServeGroup follow, and
    `problems` says of others, by name, why they are not served.
    `bind_errno` is set, and `bind_reason` its words, for a development preloader whose watchdog could not listen, so
    that the framework's own words are printed. The last `metrics_sockets` of a server's fds are those of the metrics
    port; `upstreams` is the directory of a generic application's unix sockets, if there is one. `pulse` is how often,
    in seconds, a server says how it is; 0: never.
    """

    settings: dict[str, Any]
    listeners: list[dict[str, Any]]
    instance: dict[str, Any]
    run_directory: str
    development: bool
    group: dict[str, Any] = field(default_factory=dict)
    groups: int = 0
    problems: dict[str, str] = field(default_factory=dict)
    restarts: int = 0
    bind_errno: int | None = None
    bind_reason: str = ""
    upstreams: str = ""
    pulse: float = 0.0
    metrics_sockets: int = 0


@dataclass(eq=False, repr=False)
class ServeGroup(Message, tag=18, ways=(CONFIGURES_SERVER, SERVER_TO_WATCHDOG), whole=("group",)):
    """An application group of the instance. To a server, as many as Configure says follow it. To the watchdog: one was
    found in the directory of applications; its StartPreloader will come.

    `group` is what `app_group.AppGroup.to_json` returns. `generation` is the one that serves (0: none yet),
    `last_generation` the last one that was tried, and `have_preloader` says that a preloader lives.
    """

    group: dict[str, Any]
    generation: int = 0
    last_generation: int = 0
    have_preloader: bool = False


@dataclass(eq=False, repr=False)
class DropGroup(Message, tag=19, ways=(SERVER_TO_WATCHDOG,)):
    """This application group is not served any more; its processes have ended."""

    group: str


@dataclass(eq=False, repr=False)
class StartPreloader(Message, tag=2, ways=(SERVER_TO_WATCHDOG,)):
    """The server wants a preloader for this generation; the answer is PreloaderStarted.

    `serial` is 0, or, where workers are spawned directly, the worker that this process is to become.
    """

    group: str
    generation: int
    serial: int


@dataclass(eq=False, repr=False)
class PreloaderStarted(Message, tag=3, ways=(WATCHDOG_TO_SERVER,)):
    """A preloader runs. fds: the server's end of its channel. Sent again for each one to a new server.

    `multiproc` is the directory of the application's own metrics, if there is one.
    """

    group: str
    generation: int
    serial: int
    pid: int
    multiproc: str = ""


@dataclass(eq=False, repr=False)
class ProcessExited(Message, tag=4, ways=(WATCHDOG_TO_SERVER,)):
    """A preloader or a worker without one has ended; `status` is what waitpid(2) gave."""

    pid: int
    status: int


@dataclass(eq=False, repr=False)
class RestartRequested(Message, tag=5, ways=(WATCHDOG_TO_SERVER,)):
    """The watchdog got SIGHUP."""


@dataclass(eq=False, repr=False)
class StopRequested(Message, tag=6, ways=(WATCHDOG_TO_SERVER,)):
    """Stop taking connections and end; `graceful` lets requests finish for `stop_timeout` seconds."""

    graceful: bool


@dataclass(eq=False, repr=False)
class SendSignal(Message, tag=28, ways=(SERVER_TO_WATCHDOG,)):
    """A process of another user than the server's, in this instance, is to get this signal."""

    pid: int
    number: int


@dataclass(eq=False, repr=False)
class StopInstance(Message, tag=7, ways=(SERVER_TO_WATCHDOG,)):
    """Somebody asked the server to end the whole instance."""


@dataclass(eq=False, repr=False)
class ReopenLogs(Message, tag=8, ways=(WATCHDOG_TO_SERVER, SERVER_TO_WATCHDOG)):
    """Logs were moved away: open them again under their names; the watchdog its server log, the server access logs."""


@dataclass(eq=False, repr=False)
class AdminSocket(Message, tag=60, ways=(WATCHDOG_TO_SERVER,)):
    """The run directory was made again: the listening socket that comes along is its admin socket."""


@dataclass(eq=False, repr=False)
class Booted(Message, tag=9, ways=(SERVER_TO_WATCHDOG,)):
    """The first worker of the first generation is ready. `settings_module`: that of a single Django application."""

    settings_module: str = ""


@dataclass(eq=False, repr=False)
class BootFailed(Message, tag=10, ways=(SERVER_TO_WATCHDOG,)):
    """The first generation cannot boot, and nothing is left to serve with.

    `pid`: the worker whose last lines say why, where no traceback does; 0: none.
    """

    message: str
    traceback: str
    exit_code: int
    pid: int = 0


@dataclass(eq=False, repr=False)
class Serving(Message, tag=17, ways=(SERVER_TO_WATCHDOG,)):
    """From now on this generation of the group is the one that serves: a new server goes on with its preloader."""

    group: str
    generation: int


@dataclass(eq=False, repr=False)
class Pulse(Message, tag=15, ways=(SERVER_TO_WATCHDOG,)):
    """The server's event loop turns. `state` is the group's, `text` one line for people."""

    state: str
    text: str


@dataclass(eq=False, repr=False)
class OutputPipes(Message, tag=11, ways=(PRELOADER_TO_WATCHDOG,)):
    """A worker is being made. fds: the read ends of its stdout and stderr."""

    pid: int


@dataclass(eq=False, repr=False)
class Prepare(Message, tag=30, ways=(PRELOADER_TO_WATCHDOG, WATCHDOG_TO_PRELOADER)):
    """What the next preloader of a development server may import before it is needed: names of modules, in order.

    A preloader that has loaded says it to the watchdog, which says it to the standby preloader; no modules: there is to
    be none. `hidden` are variables of the environment that must not be seen meanwhile, `origins` the files of the
    packages and modules at the top that are loaded, by name: what is imported ahead has to be the same.
    """

    modules: list[str]
    hidden: list[str] = field(default_factory=list)
    origins: dict[str, str] = field(default_factory=dict)


@dataclass(eq=False, repr=False)
class PreloaderNotStarted(Message, tag=12, ways=(WATCHDOG_TO_SERVER,)):
    """The answer to StartPreloader when the system has no room for another process.

    An empty `reason`: the instance stops, and the process was to become a worker, which the server waits for.
    """

    group: str
    generation: int
    serial: int
    reason: str


@dataclass(eq=False, repr=False)
class LastWordsWanted(Message, tag=13, ways=(SERVER_TO_WATCHDOG,)):
    """A worker has died: the server wants to know what it wrote last. The answer is LastWords."""

    pid: int


@dataclass(eq=False, repr=False)
class LastWords(Message, tag=14, ways=(WATCHDOG_TO_SERVER,)):
    """The last lines that a process wrote to stdout and stderr, oldest first, cut to a bearable length."""

    pid: int
    lines: list[str]


@dataclass(eq=False, repr=False)
class ResizePool(Message, tag=16, ways=(WATCHDOG_TO_SERVER,)):
    """The watchdog got SIGTTIN or SIGTTOU: keep so many workers more than now."""

    change: int


# -- server and preloader ------------------------------------------------------------------------------------------


@dataclass(eq=False, repr=False)
class Attach(Message, tag=20, ways=(SERVER_TO_PRELOADER,)):
    """First words of a server to a preloader. fds: hand-off socket (workers' end), scoreboard, and what idle
    connections are given to: the shared epoll, or the release pipe (portable queue)[, the routes, where a request may
    be for another application].

    `server` is the server's pid: messages about workers carry it back, so that a new server tells its own
    workers from those of the one that died.
    """

    server: int
    slots: int
    cells: int
    queue: str


@dataclass(eq=False, repr=False)
class Spawn(Message, tag=21, ways=(SERVER_TO_PRELOADER,)):
    """Fork one worker, or, when `become` is set, be it. fds: the worker's end of its channel[, that of FilesChanged].

    `check`: it has to pass the health check before it says Ready.
    """

    serial: int
    slot: int
    first: bool
    become: bool
    check: bool = False


@dataclass(eq=False, repr=False)
class Quit(Message, tag=22, ways=(SERVER_TO_PRELOADER,)):
    """The preloader is not needed any more; its workers go on without it."""


@dataclass(eq=False, repr=False)
class Loaded(Message, tag=23, ways=(PRELOADER_TO_SERVER,)):
    """The application is imported: workers can be forked. `broken`: what was imported only tells why it cannot be.

    `settings_module`: the DJANGO_SETTINGS_MODULE that Django uses, empty for another framework. `loaded_from`: device
    and inode of the application's directory, empty in development. `model` and `concurrency`: the concurrency model in
    use and how many requests a worker serves at a time, which an application that is monkey-patched changes.
    """

    broken: bool = False
    settings_module: str = ""
    loaded_from: list[int] = field(default_factory=list)
    model: str = ""
    concurrency: int = 0


@dataclass(eq=False, repr=False)
class LoadFailed(Message, tag=24, ways=(PRELOADER_TO_SERVER,)):
    """The application cannot be imported. The preloader ends, or waits for a code change where it can see one."""

    message: str
    traceback: str
    exit_code: int


@dataclass(eq=False, repr=False)
class Spawned(Message, tag=25, ways=(PRELOADER_TO_SERVER,)):
    """The answer to Spawn; `pid` is -1 when fork(2) failed, and `error` says why."""

    server: int
    serial: int
    pid: int
    error: str = ""


@dataclass(eq=False, repr=False)
class WorkerExited(Message, tag=26, ways=(PRELOADER_TO_SERVER,)):
    """A worker has ended; `status` is what waitpid(2) gave."""

    server: int
    serial: int
    pid: int
    status: int


@dataclass(eq=False, repr=False)
class CodeChanged(Message, tag=27, ways=(PRELOADER_TO_SERVER, WORKER_TO_SERVER)):
    """Files of the application have changed (development): a new generation is wanted."""

    paths: list[str]


@dataclass(eq=False, repr=False)
class FilesChanged(Message, tag=29, ways=(WORKER_TO_SERVER, SERVER_TO_PRELOADER, FILES_TO_WORKER)):
    """Files have changed that need no new code (development): from the worker that watches, then to all others."""

    paths: list[str]


# -- server and worker ---------------------------------------------------------------------------------------------


@dataclass(eq=False, repr=False)
class Ready(Packed, tag=43, ways=(WORKER_TO_SERVER,), layout="Q"):
    """The worker waits for its first request."""

    pid: int


@dataclass(eq=False, repr=False)
class Unhealthy(Message, tag=51, ways=(WORKER_TO_SERVER,)):
    """The worker has not passed the health check, and ends."""

    reason: str


@dataclass(eq=False, repr=False)
class StartFailed(Message, tag=52, ways=(WORKER_TO_SERVER,)):
    """The worker's application does not take connections, and the worker ends. `ended`: its process has ended first."""

    reason: str
    ended: bool


@dataclass(eq=False, repr=False)
class FieldsRemoved(Message, tag=58, ways=(WORKER_TO_SERVER,)):
    """The worker has removed these header fields of a request from `address`; `why` is one of `removed_fields`."""

    why: str
    address: str
    names: list[str]


@dataclass(eq=False, repr=False)
class UpstreamEnded(Message, tag=53, ways=(WORKER_TO_SERVER,)):
    """The process of the worker's generic application has ended by itself, and the worker ends in the same way."""
