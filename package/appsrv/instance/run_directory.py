"""A running appsrv as commands find it: its run directory, its lock, and what it tells about itself.

The lock is held for the life of the watchdog, so an instance is alive exactly while its lock is taken; a
process id alone proves nothing. This module talks to no instance (see `client`) and knows no settings.

    BASE/                 0700, ours
        shop-8000-1f0c9a3e/
            lock          flock: held by the watchdog; contains its pid
            instance.json InstanceInfo
            admin.sock    the admin socket
            stacks        see `trace`
            prometheus-*/ the applications' own metrics (`prometheus_multiproc`)
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import re
import shutil
import signal
import sys
import time
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from appsrv.errors import AlreadyRunning, NotRunning, RunDirectoryError, SeveralInstances
from appsrv.instance import pid_file as pids
from appsrv.system.directories import directories_in, private_directory

# A command that looks whether an instance lives holds its lock for a moment, which is no reason to
# refuse a start.
LOCK_WAIT_SECONDS = 0.5
POLL_INTERVAL_SECONDS = 0.01

# The path of a unix socket: sun_path without its closing NUL.
MAX_SOCKET_PATH_BYTES = 107 if sys.platform == "linux" else 103


@dataclass(frozen=True)
class InstanceInfo:
    """What instance.json says. `bind` are URLs (`http://[::1]:8000/`, `unix:/run/shop.sock`), `started` is
    wall time, `pid` the watchdog's, `app` the target within `root`, `metrics` the URL of the metrics port, if any.
    Where there may be several applications, `apps` are those of the start: name, hosts, base_uri. `stops_within` are
    the seconds that a graceful stop may take. `settings_module` is that of a single Django application that has booted.
    """

    name: str
    pid: int
    version: str
    root: str
    app: str
    environment: str
    bind: tuple[str, ...]
    pid_file: str | None
    log_file: str | None
    started: float
    daemonized: bool = False
    metrics: str = ""
    apps: tuple[tuple[str, Sequence[str], str], ...] = ()
    apps_directory: str = ""
    stops_within: float = 0.0
    settings_module: str = ""

    @property
    def ports(self) -> frozenset[int]:
        return frozenset(port for url in self.bind if (port := urlsplit(url).port) is not None)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, for a file or another process: `from_json` makes an equal object of it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, found: Any) -> InstanceInfo:
        """Raises ValueError. Fields of a newer version are ignored."""
        try:
            names = {field.name for field in dataclasses.fields(cls)}
            known = {name: value for name, value in found.items() if name in names}
            apps = tuple(tuple(app) for app in known.get("apps", ()))
            return cls(**{**known, "bind": tuple(known["bind"]), "apps": apps})
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not an instance: {error}") from None


@dataclass(frozen=True)
class Instance:
    """A living instance and where its run directory is."""

    directory: Path
    info: InstanceInfo

    @property
    def admin_socket(self) -> Path:
        return self.directory / "admin.sock"

    def is_alive(self) -> bool:
        return is_alive(self.directory)

    def send_signal(self, number: int) -> None:
        """To the watchdog; to no process that has its number now, or has it in another container."""
        pid, lock = self.info.pid, self.directory / "lock"
        with contextlib.suppress(ProcessLookupError):
            if not hasattr(os, "pidfd_open"):
                if self.is_alive() and pids.read(lock) == pid:
                    os.kill(pid, number)
                return
            # Opened before the check: the descriptor stays that of the process which the check was about.
            process = os.pidfd_open(pid)
            try:
                if _has_open(pid, lock) or _holds_lock(pid, lock):
                    signal.pidfd_send_signal(process, number)
            finally:
                os.close(process)


# -- the name -----------------------------------------------------------------------------------------------


def instance_name(root: str, bind: str) -> str:
    """`shop-8000-1f0c9a3e`. `bind` is `host:port` or the path of a unix socket; same pair, same name."""
    # Against accidents only; hashlib would load OpenSSL into the watchdog.
    digest = f"{zlib.crc32(f'{root}{chr(0)}{bind}'.encode(errors='surrogateescape')):08x}"
    listening = Path(bind).stem if "/" in bind else bind.rpartition(":")[2]
    parts = (re.sub(r"[^A-Za-z0-9_.]+", "_", part)[:20].strip("._") for part in (Path(root).name, listening))
    return "-".join([*(part for part in parts if part), digest])


# -- the run directory of this process ---------------------------------------------------------------------


class InstanceDirectory:
    """The run directory of the watchdog that calls `create`; its lock lives as long as `lock_fd`."""

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self.lock_fd = lock_fd

    @classmethod
    def create_in_first(cls, bases: Iterable[Path], root: str, bind: str) -> tuple[InstanceDirectory, list[str]]:
        """As `create`, in the first of these that can be used; with it, why those before it cannot."""
        reasons: list[str] = []
        for base in bases:
            try:
                return cls.create(base, root, bind), reasons
            except RunDirectoryError as error:
                reasons.append(str(error))
            except OSError as error:
                # A file system without locks, or without room.
                reasons.append(f"{base} cannot be used as run directory: {error.strerror}")
        why = "; ".join(reasons) or "this user owns no directory for it"
        raise RunDirectoryError(f"there is no place for a run directory: {why}. Name one with XDG_RUNTIME_DIR")

    @classmethod
    def create(cls, base: Path, root: str, bind: str) -> InstanceDirectory:
        """Takes the place of `instance_name(root, bind)`. What a killed instance left there is removed.

        Raises AlreadyRunning (with the pid) and RunDirectoryError.
        """
        path = private_directory(base) / instance_name(root, bind)
        if len(os.fsencode(path / "admin.sock")) > MAX_SOCKET_PATH_BYTES:
            raise RunDirectoryError(f"{path} is too long for a socket: set XDG_RUNTIME_DIR to a shorter one")
        directory = cls(path, _take(path))
        directory._clear()
        os.ftruncate(directory.lock_fd, 0)
        os.pwrite(directory.lock_fd, str(os.getpid()).encode(), 0)
        return directory

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def admin_socket(self) -> Path:
        return self.path / "admin.sock"

    @property
    def pid_file(self) -> Path:
        """The place of a pid file that no setting names, if it cannot or should not be among the project's files."""
        return self.path / "appsrv.pid"

    @property
    def log_file(self) -> Path:
        """The server log of an instance that has no other place for it; it goes with the instance."""
        return self.path / "server.log"

    def write(self, info: InstanceInfo) -> None:
        """Publishes it, all at once; may be called again."""
        draft = self.path / "instance.json.new"
        draft.write_text(json.dumps(info.to_json(), indent=2), encoding="utf-8")
        draft.replace(self.path / "instance.json")

    def is_in_place(self) -> bool:
        """Whether commands find the instance: the lock is the one of that name, and the instance is described."""
        return self._has_lock() and (self.path / "instance.json").exists()

    def restore(self, info: InstanceInfo) -> None:
        """Make again what was removed by another program; AlreadyRunning, RunDirectoryError or OSError."""
        private_directory(self.path.parent)
        if not self._has_lock():
            lock = _take(self.path)
            self.close()
            self.lock_fd = lock
            os.pwrite(lock, str(info.pid).encode(), 0)
        self.write(info)
        if info.pid_file == str(self.pid_file) and not self.pid_file.exists():
            self.pid_file.write_text(f"{info.pid}\n")

    def touch(self) -> None:
        """Make everything in it new for programs that remove old files."""
        for path in (self.path, *self.path.iterdir()):
            os.utime(path, follow_symlinks=False)

    def _has_lock(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self.lock_fd), os.stat(self.path / "lock"))
        except OSError:
            return False

    def remove(self) -> None:
        """The end of the instance: directory and lock go, in this order, so that nobody sees half of it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """In a process that is not the watchdog: lets go of the lock without removing anything."""
        if self.lock_fd >= 0:
            os.close(self.lock_fd)
            self.lock_fd = -1

    def _clear(self) -> None:
        for leftover in self.path.iterdir():
            if leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover, ignore_errors=True)
            elif leftover.name != "lock":
                leftover.unlink(missing_ok=True)


def _take(path: Path) -> int:
    """The file descriptor of the lock of a directory that is certainly still there."""
    deadline = time.monotonic() + LOCK_WAIT_SECONDS
    while True:
        private_directory(path)
        lock = _try_lock(path, create=True)
        if lock is not None:
            return lock
        if time.monotonic() > deadline:
            pid = pids.read(path / "lock")
            raise AlreadyRunning(f"appsrv is already running on PID {pid or '(unknown)'}.", pid)
        time.sleep(POLL_INTERVAL_SECONDS)


def _try_lock(path: Path, *, create: bool = False) -> int | None:
    """The locked file, or None when another process has it. Raises FileNotFoundError unless `create`."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
    try:
        lock = os.open(path / "lock", flags, 0o600)
    except FileNotFoundError:
        if create:  # a command has just cleaned up the directory
            return None
        raise
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever cleaned up before us removed the file we have opened: then the lock locks nothing.
        if os.path.samestat(os.fstat(lock), os.stat(path / "lock")):
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(lock)
    return None


# -- the instances there are -------------------------------------------------------------------------------


def is_alive(directory: Path) -> bool:
    """Whether a process holds the lock of that run directory."""
    try:
        lock = _try_lock(directory)
    except OSError:
        return False
    if lock is None:
        return (directory / "lock").exists()
    os.close(lock)
    return False


def _has_open(pid: int, file: Path) -> bool:
    """Whether that process has opened the file, as only a watchdog has its lock (proc(5))."""
    with contextlib.suppress(OSError):
        wanted = file.stat()
        for descriptor in os.scandir(f"/proc/{pid}/fd"):
            # Sockets and pipes of a process that ends disappear meanwhile.
            with contextlib.suppress(OSError):
                if os.path.samestat(os.stat(descriptor.path), wanted):
                    return True
    return False


def _holds_lock(pid: int, file: Path) -> bool:
    """Whether that process has locked the file, as /proc/locks has it for every reader (proc(5)).

    The descriptors of a process with rights that this one lacks (AmbientCapabilities) are hidden from its own user. A
    process of another pid namespace is not listed, or with its number in this one.
    """
    with contextlib.suppress(OSError):
        holder, inode = b"%d" % pid, b"%d" % file.stat().st_ino
        for line in Path("/proc/locks").read_bytes().splitlines():
            words = line.split()
            # A process that waits for a lock has "->" in the second place.
            if words[1] == b"FLOCK" and words[4] == holder and words[5].rpartition(b":")[2] == inode:
                return True
    return False


def list_instances(places: Iterable[Path]) -> list[Instance]:
    """Those that are alive, by name. What dead ones left behind is removed on the way."""
    found = (_instance(directory) for base in places for directory in directories_in(base))
    return sorted((one for one in found if one is not None), key=lambda one: one.info.name)


def _instance(directory: Path) -> Instance | None:
    _clean_up_if_dead(directory)
    try:
        text = (directory / "instance.json").read_text(encoding="utf-8")
        return Instance(directory, InstanceInfo.from_json(json.loads(text)))
    except (OSError, ValueError):  # gone meanwhile, or just starting
        return None


def _clean_up_if_dead(directory: Path) -> None:
    try:
        lock = _try_lock(directory)
    except OSError:
        return
    if lock is not None:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def select(
    instances: Sequence[Instance],
    cwd: Path,
    *,
    name: str | None = None,
    port: int | None = None,
    pid_file: Path | None = None,
) -> Instance:
    """The one that is meant: by pid file, port, prefix of its name, else by the directory the user is in.

    Never another directory's, be it the only one: `appsrv status || appsrv start` has to start this one.
    Raises NotRunning or SeveralInstances.
    """
    matching = _matching(instances, name, port, pid_file)
    if name is None and port is None and pid_file is None:
        matching = _around(instances, cwd)
    if len(matching) > 1:
        raise SeveralInstances(_several(matching))
    if not matching:
        raise NotRunning(_not_running(instances, cwd, name, port, pid_file))
    return matching[0]


def _matching(
    instances: Sequence[Instance], name: str | None, port: int | None, pid_file: Path | None
) -> list[Instance]:
    exact = [one for one in instances if one.info.name == name]
    return exact or [
        one
        for one in instances
        if (name is None or one.info.name.startswith(name))
        and (port is None or port in one.info.ports)
        and (pid_file is None or one.info.pid_file == os.path.abspath(pid_file))
    ]


def _around(instances: Sequence[Instance], cwd: Path) -> list[Instance]:
    """Of the directory itself, else of the nearest ones above or below it."""
    here = cwd.resolve()
    roots = [(one, Path(one.info.root).resolve()) for one in instances]
    return [one for one, root in roots if root == here] or [
        one for one, root in roots if root in here.parents or here in root.parents
    ]


def _several(matching: Sequence[Instance]) -> str:
    return "several instances are running. Name one of them:\n" + _table(matching)


def _table(instances: Sequence[Instance]) -> str:
    rows = [f"{'Name':<25}  {'PID':<7}  Description", "-" * 74]
    rows += [f"{one.info.name:<25}  {one.info.pid:<7}  {describe(one.info)}" for one in instances]
    return "\n".join(rows)


def describe(info: InstanceInfo) -> str:
    """`/srv/shop (production) on http://127.0.0.1:8000/`."""
    return f"{info.root} ({info.environment}) on {', '.join(info.bind)}"


def _not_running(
    instances: Sequence[Instance], cwd: Path, name: str | None, port: int | None, pid_file: Path | None
) -> str:
    if pid_file is not None:
        what = f"with the pid file {pid_file}"
    elif port is not None:
        what = f"on port {port}"
    else:
        what = f"named {name}" if name is not None else f"in {cwd}"
    others = f" Running elsewhere:\n{_table(instances)}" if instances else ""
    return f"appsrv is not running {what}.{others}"


# -- pid and log files -------------------------------------------------------------------------------------


def default_pid_file(root: Path, port: int | None) -> Path:
    """`tmp/pids/appsrv.PORT.pid` where `tmp/pids` exists, else `appsrv.PORT.pid`; no PORT for a socket."""
    return _beside(root, "tmp/pids", _numbered(port, "pid"))


def default_log_file(root: Path, port: int | None) -> Path:
    """`log/appsrv.PORT.log` where `log` exists, else `appsrv.PORT.log`; no PORT for a unix socket."""
    return _beside(root, "log", _numbered(port, "log"))


def _numbered(port: int | None, suffix: str) -> str:
    return f"appsrv.{suffix}" if port is None else f"appsrv.{port}.{suffix}"


def _beside(root: Path, directory: str, name: str) -> Path:
    return (root / directory if (root / directory).is_dir() else root) / name
