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
    """The first message to a server or a preloader: what it has to know. fds: the listening sockets of a server.

    They are in the order of `listeners`; the last `metrics_sockets` of them are those of the metrics port. `settings`,
    `listeners`, `instance` and `group` are what the `to_json` of `Settings`, `listening_sockets.Listener`,
    `run_directory.InstanceInfo` and `app_group.AppGroup` returns. A preloader gets the settings of its application, and
    its `group`. A server gets the number of the ServeGroup messages that follow (`groups`), and by name why other
    applications are not served (`problems`). A development preloader whose watchdog could not listen gets `bind_errno`
    and `bind_reason`, so that the framework prints its own error. `upstreams` is the directory of a generic
    application's unix sockets. `pulse` is the number of seconds between two Pulse messages of the server; 0: it sends
    none.
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
    """An application group of the instance. To the watchdog: the server has found it in `apps_directory`.

    A server gets as many of these messages as its Configure gives in `groups`. The watchdog gets one before the first
    StartPreloader of that group. `group` is what `app_group.AppGroup.to_json` returns. `generation` is the one that
    serves (0: none yet), `last_generation` the last one that was tried. With `have_preloader` a preloader is alive.
    """

    group: dict[str, Any]
    generation: int = 0
    last_generation: int = 0
    have_preloader: bool = False


@dataclass(eq=False, repr=False)
class DropGroup(Message, tag=19, ways=(SERVER_TO_WATCHDOG,)):
    """The application group is not served any more, and its processes have ended."""

    group: str


@dataclass(eq=False, repr=False)
class StartPreloader(Message, tag=2, ways=(SERVER_TO_WATCHDOG,)):
    """Start a preloader for this generation. The answer is PreloaderStarted or PreloaderNotStarted.

    `serial` is 0, or, where workers are spawned directly, the worker that the process becomes.
    """

    group: str
    generation: int
    serial: int


@dataclass(eq=False, repr=False)
class PreloaderStarted(Message, tag=3, ways=(WATCHDOG_TO_SERVER,)):
    """A preloader has been started. fds: the server's end of its channel. A new server gets one for each preloader.

    `multiproc` is the directory of the application's own metrics, if there is one.
    """

    group: str
    generation: int
    serial: int
    pid: int
    multiproc: str = ""


@dataclass(eq=False, repr=False)
class ProcessExited(Message, tag=4, ways=(WATCHDOG_TO_SERVER,)):
    """A preloader, or a worker that no preloader has forked, has ended. `status` is from waitpid(2)."""

    pid: int
    status: int


@dataclass(eq=False, repr=False)
class RestartRequested(Message, tag=5, ways=(WATCHDOG_TO_SERVER,)):
    """Restart all applications: the watchdog got SIGHUP."""


@dataclass(eq=False, repr=False)
class StopRequested(Message, tag=6, ways=(WATCHDOG_TO_SERVER,)):
    """Take no more connections and end. With `graceful`, requests have `stop_timeout` seconds to finish."""

    graceful: bool


@dataclass(eq=False, repr=False)
class SendSignal(Message, tag=28, ways=(SERVER_TO_WATCHDOG,)):
    """Send this signal to a process of the instance that belongs to another user than the server."""

    pid: int
    number: int


@dataclass(eq=False, repr=False)
class StopInstance(Message, tag=7, ways=(SERVER_TO_WATCHDOG,)):
    """End the whole instance: `appsrv stop` has asked for it over the admin socket."""


@dataclass(eq=False, repr=False)
class ReopenLogs(Message, tag=8, ways=(WATCHDOG_TO_SERVER, SERVER_TO_WATCHDOG)):
    """Open the logs again under their names: the watchdog the server log, the server the access logs."""


@dataclass(eq=False, repr=False)
class AdminSocket(Message, tag=60, ways=(WATCHDOG_TO_SERVER,)):
    """The run directory had to be made again. fds: the listening socket of its admin socket."""


@dataclass(eq=False, repr=False)
class Booted(Message, tag=9, ways=(SERVER_TO_WATCHDOG,)):
    """The first worker of the first generation is ready.

    `settings_module` is that of a Django application that is the only one of the instance.
    """

    settings_module: str = ""


@dataclass(eq=False, repr=False)
class BootFailed(Message, tag=10, ways=(SERVER_TO_WATCHDOG,)):
    """The first generation cannot boot, and there is no other one that could serve.

    `pid` is the worker whose last lines give the reason where there is no traceback; 0: none.
    """

    message: str
    traceback: str
    exit_code: int
    pid: int = 0


@dataclass(eq=False, repr=False)
class Serving(Message, tag=17, ways=(SERVER_TO_WATCHDOG,)):
    """This generation of the group serves from now on. A new server continues with its preloader."""

    group: str
    generation: int


@dataclass(eq=False, repr=False)
class Pulse(Message, tag=15, ways=(SERVER_TO_WATCHDOG,)):
    """The event loop of the server runs. `state` is that of its groups, `text` one line for people."""

    state: str
    text: str


@dataclass(eq=False, repr=False)
class OutputPipes(Message, tag=11, ways=(PRELOADER_TO_WATCHDOG,)):
    """A worker has been forked. fds: the read ends of its stdout and stderr."""

    pid: int


@dataclass(eq=False, repr=False)
class Prepare(Message, tag=30, ways=(PRELOADER_TO_WATCHDOG, WATCHDOG_TO_PRELOADER)):
    """The modules that the standby preloader of a development server may import, in this order.

    A preloader that has loaded the application sends it to the watchdog, which sends it on to the standby preloader.
    Without modules, no standby preloader is started. `hidden` are variables of the environment that the standby
    preloader must not see while it imports. `origins` are the files of the loaded top-level packages and modules, by
    name: those of the standby preloader have to be the same.
    """

    modules: list[str]
    hidden: list[str] = field(default_factory=list)
    origins: dict[str, str] = field(default_factory=dict)


@dataclass(eq=False, repr=False)
class PreloaderNotStarted(Message, tag=12, ways=(WATCHDOG_TO_SERVER,)):
    """The answer to StartPreloader where the system has no room for another process.

    With an empty `reason`, the instance stops and the process was to become a worker, for which the server waits.
    """

    group: str
    generation: int
    serial: int
    reason: str


@dataclass(eq=False, repr=False)
class LastLinesRequested(Message, tag=13, ways=(SERVER_TO_WATCHDOG,)):
    """A worker has died: send the last lines that it wrote. The answer is LastLines."""

    pid: int


@dataclass(eq=False, repr=False)
class LastLines(Message, tag=14, ways=(WATCHDOG_TO_SERVER,)):
    """The last lines that a process wrote to stdout and stderr, oldest first; long ones are cut."""

    pid: int
    lines: list[str]


@dataclass(eq=False, repr=False)
class ResizePool(Message, tag=16, ways=(WATCHDOG_TO_SERVER,)):
    """Keep one worker more or one less (`change`): the watchdog got SIGTTIN or SIGTTOU."""

    change: int


# -- server and preloader ------------------------------------------------------------------------------------------


@dataclass(eq=False, repr=False)
class Attach(Message, tag=20, ways=(SERVER_TO_PRELOADER,)):
    """Work for this server. fds: hand-off socket (workers' end), scoreboard, shared epoll or release pipe, routes.

    It is the first message of a server to a preloader. The third fd is for idle connections: the release pipe belongs
    to the portable queue. The routes are there where a request may be for another application. `server` is the server's
    pid. Messages about workers carry it back, so that a new server can tell its own workers from those of the server
    before.
    """

    server: int
    slots: int
    cells: int
    queue: str


@dataclass(eq=False, repr=False)
class Spawn(Message, tag=21, ways=(SERVER_TO_PRELOADER,)):
    """Fork a worker, or, with `become`, become one. fds: the worker's end of its channel, and of one for FilesChanged.

    The second fd is there only for a worker that does not watch files itself. With `check`, the worker has to pass the
    health check before it sends Ready.
    """

    serial: int
    slot: int
    first: bool
    become: bool
    check: bool = False


@dataclass(eq=False, repr=False)
class Quit(Message, tag=22, ways=(SERVER_TO_PRELOADER,)):
    """End: the preloader is not needed any more. Its workers go on until they are told to end."""


@dataclass(eq=False, repr=False)
class Loaded(Message, tag=23, ways=(PRELOADER_TO_SERVER,)):
    """The application is imported, and workers can be forked.

    With `broken`, what was imported is only a page that shows why the application cannot be. `settings_module` is the
    DJANGO_SETTINGS_MODULE that Django uses, empty for another framework. `loaded_from` is device and inode of the
    application's directory, empty in development. `model` and `concurrency` are the concurrency model in use and the
    number of requests that a worker serves at a time: an application that is monkey-patched changes both.
    """

    broken: bool = False
    settings_module: str = ""
    loaded_from: list[int] = field(default_factory=list)
    model: str = ""
    concurrency: int = 0


@dataclass(eq=False, repr=False)
class LoadFailed(Message, tag=24, ways=(PRELOADER_TO_SERVER,)):
    """The application cannot be imported. The preloader ends, or, where it watches files, waits for a change."""

    message: str
    traceback: str
    exit_code: int


@dataclass(eq=False, repr=False)
class Spawned(Message, tag=25, ways=(PRELOADER_TO_SERVER,)):
    """The answer to Spawn. Where fork(2) failed, `pid` is -1 and `error` is the reason."""

    server: int
    serial: int
    pid: int
    error: str = ""


@dataclass(eq=False, repr=False)
class WorkerExited(Message, tag=26, ways=(PRELOADER_TO_SERVER,)):
    """A worker has ended. `status` is from waitpid(2)."""

    server: int
    serial: int
    pid: int
    status: int


@dataclass(eq=False, repr=False)
class CodeChanged(Message, tag=27, ways=(PRELOADER_TO_SERVER, WORKER_TO_SERVER)):
    """Source files of the application have changed (development), which needs a new generation."""

    paths: list[str]


@dataclass(eq=False, repr=False)
class FilesChanged(Message, tag=29, ways=(WORKER_TO_SERVER, SERVER_TO_PRELOADER, FILES_TO_WORKER)):
    """Files have changed that need no new generation (development): forget what is cached of them.

    The worker that watches files sends it to the server, which sends it on to all other workers and to the preloader.
    """

    paths: list[str]


# -- server and worker ---------------------------------------------------------------------------------------------


@dataclass(eq=False, repr=False)
class Ready(Packed, tag=43, ways=(WORKER_TO_SERVER,), layout="Q"):
    """The worker waits for its first request."""

    pid: int


@dataclass(eq=False, repr=False)
class Unhealthy(Message, tag=51, ways=(WORKER_TO_SERVER,)):
    """The worker has not passed the health check and ends."""

    reason: str


@dataclass(eq=False, repr=False)
class StartFailed(Message, tag=52, ways=(WORKER_TO_SERVER,)):
    """The process of a generic application does not accept connections, and its worker ends.

    With `ended`, that process had ended before.
    """

    reason: str
    ended: bool


@dataclass(eq=False, repr=False)
class FieldsRemoved(Message, tag=58, ways=(WORKER_TO_SERVER,)):
    """The worker has removed header fields from a request that came from `address`. `why`: see `removed_fields`."""

    why: str
    address: str
    names: list[str]


@dataclass(eq=False, repr=False)
class UpstreamEnded(Message, tag=53, ways=(WORKER_TO_SERVER,)):
    """The process of a generic application has ended by itself, and its worker ends in the same way."""
