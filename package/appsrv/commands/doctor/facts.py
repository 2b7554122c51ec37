"""The facts that the rules decide by, and a finding. Data only."""

from __future__ import annotations

import dataclasses
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from appsrv.settings.table import Settings
from appsrv.system.words import in_line

ENTER, WRITE = 1, 2
"""Bits of a mode, for one class of users (inode(7))."""


@dataclass(frozen=True)
class Finding:
    """Something to mend: `what` is wrong, `where`, and the `remedy`, a command or a setting.

    `check`: a short name of the rule, for programs. `details`: further lines, such as a traceback.
    """

    check: str
    what: str
    where: str
    remedy: str
    details: str = ""

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

STATIC_ROOT = "STATIC_ROOT"
"""The setting of Django that names the directory of its collected files."""


# -- users and files ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Account:
    """A user with all groups. `known`: it has an entry in the user database."""

    name: str
    uid: int
    gids: frozenset[int]
    known: bool = True


@dataclass(frozen=True)
class Permissions:
    """The permissions of a file or directory. `owner`: user and group as text. `acl`: it has an access control list."""

    path: str
    mode: int
    uid: int
    gid: int
    owner: str = ""
    acl: bool = False

    @property
    def shown(self) -> str:
        owner = f", {self.owner}" if self.owner else ""
        return f"{self.path} (mode {stat.S_IMODE(self.mode):04o}{owner})"

    def allow(self, account: Account, bits: int) -> bool:
        """Whether the account has these rights.

        An access control list is not read. Its mask shows in the bits of the group (acl(5)), so an account may have
        what these allow.
        """
        if account.uid == 0:
            return True
        if account.uid == self.uid:
            return self.mode >> 6 & bits == bits
        group = self.mode >> 3 & bits == bits
        if self.gid in account.gids:
            return group
        return self.mode & bits == bits or (self.acl and group)


@dataclass(frozen=True)
class Way:
    """The way of the web server's user to a file or directory: the directories from the root on, then the file itself.

    `what`: the socket or the files of a URL. `file` is None for a directory of files. `missing`: the directory that
    does not exist, if any. `setting` names the path.
    """

    what: str
    path: str
    setting: str
    directories: Sequence[Permissions]
    file: Permissions | None = None
    missing: str = ""


@dataclass(frozen=True)
class WritablePlace:
    """A directory that the instance writes to. `effect`: what happens if it cannot."""

    what: str
    directory: str
    setting: str
    effect: str
    exists: bool
    writable: bool
    read_only: bool

    @property
    def problem(self) -> str:
        """Why it cannot be written to; empty if it can."""
        if self.read_only:
            return "its file system is read-only"
        if not self.exists:
            return "there is no such directory"
        return "" if self.writable else "this user may not write there"


# -- the machine -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Machine:
    """What the system allows. `descriptors`: the hard limit of the server process. `memory`: in bytes; 0: not known.

    `somaxconn`: net.core.somaxconn; None: not known. `account`: the user of the instance. `app_users`: by
    name, the user of each application. `run_problem`: why there
    is no place for a run directory. `limits_of`: the process whose limits these are.
    """

    settings: Settings
    account: Account
    app_users: Mapping[str, Account] = field(default_factory=dict)
    web: Account | None = None
    descriptors: int = 1 << 20
    limits_of: str = "this shell"
    descriptors_per_connection: int = 1
    somaxconn: int | None = None
    backlog: int = 0
    memory: int = 0
    ways: Sequence[Way] = ()
    places: Sequence[WritablePlace] = ()
    run_problem: str = ""


# -- the applications --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trial:
    """The outcome of the trial import, see `preloader.trial_import`.

    `timed_out`: it did not end within its time, and `hangs_at` is where it was then.
    """

    error: str = ""
    traceback: str = ""
    seconds: float = 0.0
    memory: int = 0
    threads: Sequence[str] = ()
    shared: Sequence[str] = ()
    notes: Sequence[str] = ()
    timed_out: bool = False
    hangs_at: str = ""


@dataclass(frozen=True)
class RunningApp:
    """An application of the running instance. `workers`: the memory of each, in bytes."""

    workers: Sequence[int]
    max_pool_size: int
    untrusted: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Application:
    """One application. `missing`: the modules that its settings need and that cannot be imported, with the settings.

    `trial` is None if it was not imported; `no_trial` tells why.
    """

    name: str
    app: str
    settings: Settings
    missing: Mapping[str, str] = field(default_factory=dict)
    trial: Trial | None = None
    no_trial: str = ""
    running: RunningApp | None = None

    @property
    def where(self) -> str:
        """The application and its directory or name, for a finding."""
        return f"{in_line(self.app)} in {in_line(self.name)}"


@dataclass(frozen=True)
class Facts:
    """Everything that the rules look at. `instance`: the name of the running one, if there is one, and `pid`.

    `not_served`: by name, why applications cannot be served.
    """

    directory: str
    machine: Machine
    apps: Sequence[Application]
    instance: str = ""
    pid: int = 0
    not_served: Mapping[str, str] = field(default_factory=dict)
