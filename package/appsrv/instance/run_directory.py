"""The run directory of an instance, in which commands find it: its lock and its description.

The watchdog holds the lock until it ends, so that an instance is running exactly as long as its lock is held; a process
id alone proves nothing. Sends no requests to an instance (see `admin_client`) and knows no settings.

    BASE/                 mode 0700, owned by this user
        shop-8000-1f0c9a3e/
            lock          flock: held by the watchdog; contains its pid
            instance.json InstanceInfo
            admin.sock    the admin socket
            stacks        see `stack_dump`
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

# How long to retry. A command that checks whether an instance is running locks its directory briefly; that must not
# fail a start.
LOCK_WAIT_SECONDS = 0.5
POLL_INTERVAL_SECONDS = 0.01

# The longest path of a unix socket: sun_path without the terminating NUL (unix(7)).
MAX_SOCKET_PATH_BYTES = 107 if sys.platform == "linux" else 103


@dataclass(frozen=True)
class InstanceInfo:
    """The content of instance.json.

    `bind` are URLs (`http://[::1]:8000/`, `unix:/run/shop.sock`), `started` is in seconds since the epoch, `pid` is the
    watchdog's, `app` the target within `root`, `metrics` the URL of the metrics port, if there is one. If the instance
    may serve several applications, `apps` are those at the start: name, hosts, base_uri. `stops_within` is the time in
    seconds that a graceful stop may take. `settings_module` is that of the only, Django, application after its boot.
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
        """As a JSON object, for a file or another process; the inverse of `from_json`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, found: Any) -> InstanceInfo:
        """The inverse of `to_json`. Fields of a newer version are ignored. Raises ValueError."""
        try:
            names = {field.name for field in dataclasses.fields(cls)}
            known = {name: value for name, value in found.items() if name in names}
            apps = tuple(tuple(app) for app in known.get("apps", ()))
            return cls(**{**known, "bind": tuple(known["bind"]), "apps": apps})
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not an instance: {error}") from None


@dataclass(frozen=True)
class Instance:
    """A running instance and its run directory."""

    directory: Path
    info: InstanceInfo

    @property
    def admin_socket(self) -> Path:
        return self.directory / "admin.sock"

    def is_alive(self) -> bool:
        return is_alive(self.directory)

    def send_signal(self, number: int) -> None:
        """Send a signal to the watchdog, but never to another process that has its pid now, or has it in another pid
        namespace (container).
        """
        pid, lock = self.info.pid, self.directory / "lock"
        with contextlib.suppress(ProcessLookupError):
            if not hasattr(os, "pidfd_open"):
                if self.is_alive() and pids.read(lock) == pid:
                    os.kill(pid, number)
                return
            # The pidfd is opened before the check. If the watchdog ends after the check and its pid is used again, the
            # pidfd still refers to the watchdog, and the signal reaches no other process (pidfd_open(2)).
            process = os.pidfd_open(pid)
            try:
                if _has_open(pid, lock) or _holds_lock(pid, lock):
                    signal.pidfd_send_signal(process, number)
            finally:
                os.close(process)


# -- the name -----------------------------------------------------------------------------------------------


def instance_name(root: str, bind: str) -> str:
    """The name of an instance, such as `shop-8000-1f0c9a3e`, which depends only on `root` and `bind`.

    `bind` is `host:port` or the path of a unix socket.
    """
    # The checksum only has to avoid accidental collisions; hashlib would load OpenSSL into the watchdog.
    digest = f"{zlib.crc32(f'{root}{chr(0)}{bind}'.encode(errors='surrogateescape')):08x}"
    listening = Path(bind).stem if "/" in bind else bind.rpartition(":")[2]
    parts = (re.sub(r"[^A-Za-z0-9_.]+", "_", part)[:20].strip("._") for part in (Path(root).name, listening))
    return "-".join([*(part for part in parts if part), digest])


# -- the run directory of this process ---------------------------------------------------------------------


class InstanceDirectory:
    """The run directory of this watchdog. It is locked as long as `lock_fd` is open."""

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self.lock_fd = lock_fd

    @classmethod
    def create_in_first(cls, bases: Iterable[Path], root: str, bind: str) -> tuple[InstanceDirectory, list[str]]:
        """As `create`, in the first usable of the directories `bases`. Also returns the reasons against those before
        it.

        Raises RunDirectoryError if none can be used, and AlreadyRunning.
        """
        reasons: list[str] = []
        for base in bases:
            try:
                return cls.create(base, root, bind), reasons
            except RunDirectoryError as error:
                reasons.append(str(error))
            except OSError as error:
                # For example, the file system has no locks, or the disk is full.
                reasons.append(f"{base} cannot be used as run directory: {error.strerror}")
        why = "; ".join(reasons) or "this user owns no directory for it"
        raise RunDirectoryError(f"there is no place for a run directory: {why}. Name one with XDG_RUNTIME_DIR")

    @classmethod
    def create(cls, base: Path, root: str, bind: str) -> InstanceDirectory:
        """Create and lock the directory `instance_name(root, bind)`. The files of a killed instance in it are removed.

        Raises AlreadyRunning (with the pid), RunDirectoryError and other OSErrors.
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
        """The default pid file, if it cannot or should not be in the project's directory."""
        return self.path / "appsrv.pid"

    @property
    def log_file(self) -> Path:
        """The server log of an instance without another place for it. It is removed with the instance."""
        return self.path / "server.log"

    def write(self, info: InstanceInfo) -> None:
        """Write instance.json atomically (rename(2)), so that no command reads a part of it."""
        draft = self.path / "instance.json.new"
        draft.write_text(json.dumps(info.to_json(), indent=2), encoding="utf-8")
        draft.replace(self.path / "instance.json")

    def is_in_place(self) -> bool:
        """Whether commands find the instance: the lock file is the one that this process has locked, and instance.json
        exists.
        """
        return self._has_lock() and (self.path / "instance.json").exists()

    def restore(self, info: InstanceInfo) -> None:
        """Restore files that another program has removed. Raises AlreadyRunning, RunDirectoryError and OSError."""
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
        """Set the modification times to now, for programs that remove old files. Raises OSError."""
        for path in (self.path, *self.path.iterdir()):
            os.utime(path, follow_symlinks=False)

    def _has_lock(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self.lock_fd), os.stat(self.path / "lock"))
        except OSError:
            return False

    def remove(self) -> None:
        """Remove the directory and then release the lock.

        In this order, because a process that gets the lock of a directory may use it: it must not find files that are
        being removed.
        """
        shutil.rmtree(self.path, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Release the lock without removing anything, in a process that is not the watchdog."""
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
    """Create and lock the directory. Returns the descriptor of the lock.

    Another process may remove the directory between its creation and the lock; then both are repeated. Raises
    AlreadyRunning.
    """
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
    """A descriptor of the locked file; None if another process has the lock. Raises FileNotFoundError unless `create`.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
    try:
        lock = os.open(path / "lock", flags, 0o600)
    except FileNotFoundError:
        if create:  # a command has just cleaned up the directory
            return None
        raise
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between open(2) and flock(2), a command that cleans up may have removed the file. Then this lock is on a file
        # that no other process can open, and protects nothing.
        if os.path.samestat(os.fstat(lock), os.stat(path / "lock")):
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(lock)
    return None


# -- the running instances ---------------------------------------------------------------------------------


def is_alive(directory: Path) -> bool:
    """Whether a process holds the lock of this run directory."""
    try:
        lock = _try_lock(directory)
    except OSError:
        return False
    if lock is None:
        return (directory / "lock").exists()
    os.close(lock)
    return False


def _has_open(pid: int, file: Path) -> bool:
    """Whether the process has the file open (/proc/PID/fd, proc(5)). Only the watchdog has its lock file open."""
    with contextlib.suppress(OSError):
        wanted = file.stat()
        for descriptor in os.scandir(f"/proc/{pid}/fd"):
            # Descriptors may be closed while the directory is read.
            with contextlib.suppress(OSError):
                if os.path.samestat(os.stat(descriptor.path), wanted):
                    return True
    return False


def _holds_lock(pid: int, file: Path) -> bool:
    """Whether the process has locked the file, according to /proc/locks, which every user can read (proc(5)).

    For a process with capabilities (AmbientCapabilities=), /proc/PID/fd is not readable by its own user. /proc/locks
    does not list a process of another pid namespace, or lists it with its pid in this one.
    """
    with contextlib.suppress(OSError):
        holder, inode = b"%d" % pid, b"%d" % file.stat().st_ino
        for line in Path("/proc/locks").read_bytes().splitlines():
            words = line.split()
            # For a process that waits for a lock, the second word is "->".
            if words[1] == b"FLOCK" and words[4] == holder and words[5].rpartition(b":")[2] == inode:
                return True
    return False


def list_instances(places: Iterable[Path]) -> list[Instance]:
    """The running instances in these base directories, by name. Removes the directories of instances that have ended.
    """
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
    """The instance that a command means: by pid file, port or a prefix of its name, otherwise by the current directory.

    An instance of another directory is never chosen, even if it is the only one: `appsrv status || appsrv start` has to
    start that of this directory. Raises NotRunning or SeveralInstances.
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
    """The instances of this directory, or, if there are none, of its parents and subdirectories."""
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
    """A line about an instance: `/srv/shop (production) on http://127.0.0.1:8000/`."""
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
    """`tmp/pids/appsrv.PORT.pid` if `tmp/pids` exists, else `appsrv.PORT.pid`. Without PORT for a unix socket."""
    return _beside(root, "tmp/pids", _numbered(port, "pid"))


def default_log_file(root: Path, port: int | None) -> Path:
    """`log/appsrv.PORT.log` if `log` exists, else `appsrv.PORT.log`. Without PORT for a unix socket."""
    return _beside(root, "log", _numbered(port, "log"))


def _numbered(port: int | None, suffix: str) -> str:
    return f"appsrv.{suffix}" if port is None else f"appsrv.{port}.{suffix}"


def _beside(root: Path, directory: str, name: str) -> Path:
    return (root / directory if (root / directory).is_dir() else root) / name
