"""All messages between appsrv's processes, and how each is written as bytes. Nothing here sends anything.

A message is a dataclass. Those that travel once per connection are packed with `struct`; the rare ones
are JSON, so that a person with strace can read them. File descriptors travel beside a message (`channel`),
in the order the docstring of the message names them. Both ends are always of one version of appsrv. Which process sends
a message to which one is part of its class: its `ways`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from appsrv.errors import ProtocolError

if TYPE_CHECKING:
    from typing_extensions import Self

MAX_DATAGRAM = 384 * 1024
"""The longest message in bytes."""
LONG_MESSAGE, LONG_TEXT, LONG_LIST = 128 * 1024, 4000, 100
"""Texts (in characters) and lists that are longer are shortened in a message that is longer (in bytes)."""

_BY_TAG: dict[int, type[Message]] = {}


class MessageTooLong(ProtocolError):
    """A message that cannot be shortened does not fit into a datagram."""


class Direction(NamedTuple):
    """Which process sends to which one; `path`: how, where it is not the channel that joins the two."""

    sender: str
    receiver: str
    path: str = ""


WATCHDOG_TO_SERVER = Direction("watchdog", "server")
CONFIGURES_SERVER = Direction("watchdog", "server", "before anything else")
SERVER_TO_WATCHDOG = Direction("server", "watchdog")
WATCHDOG_TO_PRELOADER = Direction("watchdog", "preloader")
PRELOADER_TO_WATCHDOG = Direction("preloader", "watchdog")
SERVER_TO_PRELOADER = Direction("server", "preloader")
PRELOADER_TO_SERVER = Direction("preloader", "server")
SERVER_TO_WORKER = Direction("server", "worker")
HANDED_OFF = Direction("server", "worker", "hand-off socket, which all workers share")
FILES_TO_WORKER = Direction("server", "worker", "channel of its own")
WORKER_TO_SERVER = Direction("worker", "server")
WORKER_TO_BACKEND = Direction("worker", "server", "of a connection, for the back end")


class Message:
    """Base of all: one tag byte, then the fields as JSON. A message has one direction at least."""

    TAG: ClassVar[int]
    WAYS: ClassVar[tuple[Direction, ...]]
    WHOLE: ClassVar[tuple[str, ...]]
    """The fields of which the receiver needs all: they are never shortened."""

    # Generated for every message anew, these would take a third of a process's start.

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({fields})"

    def __init_subclass__(
        cls, *, tag: int = 0, ways: tuple[Direction, ...] = (), whole: tuple[str, ...] = ()
    ) -> None:
        if tag in _BY_TAG:
            raise TypeError(f"tag {tag} is {_BY_TAG[tag].__name__}'s already")
        if tag:
            if not ways:
                raise TypeError(f"the message {cls.__name__} has no direction (ways=)")
            cls.TAG, cls.WAYS, cls.WHOLE = tag, ways, whole
            _BY_TAG[tag] = cls

    def pack(self) -> bytes:
        """The message as bytes: one datagram. A long one loses the middle of its long texts.

        MessageTooLong when it does not fit even so, because of fields that have to be whole.
        """
        body = _json(vars(self))
        if len(body) > LONG_MESSAGE:
            fields = vars(self).items()
            body = _json({name: value if name in self.WHOLE else _shortened(value) for name, value in fields})
        if len(body) >= MAX_DATAGRAM:
            raise MessageTooLong(f"a {type(self).__name__} of {len(body)} bytes is longer than {MAX_DATAGRAM} bytes")
        return bytes([self.TAG]) + body

    @classmethod
    def unpack(cls, datagram: bytes) -> Self:
        """The message of this kind that a datagram holds."""
        return cls(**json.loads(datagram[1:]))


class Packed(Message):
    """Base of the frequent ones: the tag, the fields as `layout` says, then, where there is one, `data`.

    Nothing is frozen: one or two of these are made for each connection, and freezing makes that four times slower.
    """

    LAYOUT: ClassVar[struct.Struct]
    NAMES: ClassVar[tuple[str, ...]]

    def __init_subclass__(cls, *, tag: int = 0, ways: tuple[Direction, ...] = (), layout: str = "") -> None:
        super().__init_subclass__(tag=tag, ways=ways)
        cls.LAYOUT = struct.Struct(f"<B{layout}")
        cls.NAMES = tuple(name for name in cls.__annotations__ if name != "data")

    def pack(self) -> bytes:
        fields = vars(self)
        fixed = self.LAYOUT.pack(self.TAG, *[fields[name] for name in self.NAMES])
        return fixed + fields["data"] if "data" in fields else fixed

    @classmethod
    def unpack(cls, datagram: bytes) -> Self:
        make: Callable[..., Self] = cls
        fields = cls.LAYOUT.unpack_from(datagram)[1:]
        return make(*fields, datagram[cls.LAYOUT.size :]) if "data" in cls.__annotations__ else make(*fields)


def _json(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def _shortened(value: Any) -> Any:
    if isinstance(value, str) and len(value) > LONG_TEXT:
        return f"{value[: LONG_TEXT // 2]}\n[...]\n{value[-LONG_TEXT // 2 :]}"
    if isinstance(value, dict):
        return {name: _shortened(value[name]) for name in list(value)[:LONG_LIST]}
    return value[:LONG_LIST] if isinstance(value, list) else value


def messages_of(way: Direction) -> set[type[Message]]:
    """The kinds of message that are sent in this direction."""
    return {kind for kind in _BY_TAG.values() if way in kind.WAYS}


def unpack(datagram: bytes) -> Message:
    """The message a datagram holds; ProtocolError when it holds none."""
    kind = _BY_TAG.get(datagram[0]) if datagram else None
    if kind is None:
        raise ProtocolError(f"no message starts like {datagram[:16]!r}")
    try:
        return kind.unpack(datagram)
    except (ValueError, TypeError, struct.error) as error:
        raise ProtocolError(f"no {kind.__name__} reads like {datagram[:16]!r}: {error}") from error


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

# No message of a channel but the only thing written into the release pipe (portable queue), by all workers: the id of a
# connection whose request is answered, and which is to be watched. So short a write is never torn or mixed (pipe(7)).
RELEASED = struct.Struct("<Q")


@dataclass(eq=False, repr=False)
class HandOff(Packed, tag=40, ways=(HANDED_OFF,), layout="QHBQB"):
    """A connection with something to read, for whoever takes it. fds: the connection[, the spooled body].

    `peer` bytes of `data` are the client's address; what follows is what has been read already: nothing, or a
    complete request head, `body` bytes of body (in the second fd when there is one), and what came after it.
    """

    cid: int
    port: int
    listener: int
    body: int
    peer: int
    data: bytes


@dataclass(eq=False, repr=False)
class Lent(Packed, tag=41, ways=(SERVER_TO_WORKER,), layout="QHBB"):
    """The answer to Wanted. fds: the connection. `peer` bytes of `data` are the client's address."""

    cid: int
    port: int
    listener: int
    peer: int
    data: bytes


@dataclass(eq=False, repr=False)
class Gone(Packed, tag=42, ways=(SERVER_TO_WORKER,), layout="Q"):
    """The connection is closed: drop your descriptor of it. Also the answer to Wanted when it is too late."""

    cid: int


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


@dataclass(eq=False, repr=False)
class Holding(Packed, tag=44, ways=(WORKER_TO_BACKEND,), layout="Q"):
    """The worker has parked this connection for the first time and keeps a descriptor of it."""

    cid: int


@dataclass(eq=False, repr=False)
class Readable(Packed, tag=45, ways=(HANDED_OFF,), layout="Q"):
    """A connection that every worker holds has something to read, for whoever takes it (portable queue)."""

    cid: int


@dataclass(eq=False, repr=False)
class Closed(Packed, tag=46, ways=(WORKER_TO_BACKEND,), layout="QBB"):
    """The worker is done with the connection; `linger` asks to read what the client still sends before closing.

    `reset`: the response is not whole, and the client is to see a reset.
    """

    cid: int
    linger: int
    reset: int = 0


@dataclass(eq=False, repr=False)
class ClosedAll(Packed, tag=50, ways=(WORKER_TO_BACKEND,), layout="H"):
    """The worker has ended so many connections in order: `data` is their ids, 8 bytes each."""

    count: int
    data: bytes


@dataclass(eq=False, repr=False)
class Wanted(Packed, tag=47, ways=(WORKER_TO_BACKEND,), layout="Q"):
    """The worker got an event for a connection whose descriptor it does not hold."""

    cid: int


@dataclass(eq=False, repr=False)
class GivenBack(Packed, tag=48, ways=(WORKER_TO_BACKEND,), layout="Q"):
    """The request is not complete yet: `data` is what has been read. fds: where it is long, a file with it."""

    cid: int
    data: bytes


@dataclass(eq=False, repr=False)
class Undelivered(Packed, tag=49, ways=(WORKER_TO_BACKEND,), layout="QBB"):
    """The client takes the response too slowly: the rest, to be sent by the drain lane.

    `data` is `files` pairs of (offset, length), 16 bytes each, then bytes to send first; fds: the files, in order.
    """

    cid: int
    keep_alive: int
    files: int
    data: bytes


@dataclass(eq=False, repr=False)
class LimitReached(Message, tag=59, ways=(WORKER_TO_BACKEND,)):
    """A limit was reached on this connection, of the setting so called with this value: `what` came of that."""

    cid: int
    setting: str
    value: str
    what: str
