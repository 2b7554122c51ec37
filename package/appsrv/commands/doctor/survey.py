"""Collects the facts about a project and its machine. Decides nothing.

Of the application nothing is imported in this process; see `trial`.
"""

from __future__ import annotations

import contextlib
import grp
import importlib.util
import os
import pwd
import re
import resource
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from appsrv.apps import finder, hosting
from appsrv.apps.app_group import AppGroup
from appsrv.commands.config import survey as project_survey
from appsrv.commands.doctor import running, trial
from appsrv.commands.doctor.facts import (
    STATIC_ROOT,
    Account,
    Application,
    Facts,
    Machine,
    Permissions,
    Way,
    WritablePlace,
)
from appsrv.errors import SettingsError
from appsrv.http.connection_limits import DESCRIPTORS_WITH_TLS
from appsrv.instance import run_directory
from appsrv.net.listening_sockets import BACKLOG
from appsrv.settings import sources
from appsrv.settings.kinds import NO_FILE
from appsrv.settings.table import Settings
from appsrv.system import cgroups, directories, usable_memory
from appsrv.system.users import Identity, acting_as, identity_of
from appsrv.watchdog.socket_access import SocketAccess

WEB_USERS = ("nginx", "www-data", "apache", "http")
"""The usual users of nginx and Apache, on Debian, Fedora, Alpine and Arch."""

NGINX_CONF = "/etc/nginx/nginx.conf"
_USER = re.compile(r"^\s*user\s+([A-Za-z0-9_.-]+)", re.MULTILINE)
_WEB_SERVERS = ("nginx", "apache2", "httpd")
_LOG_ELSEWHERE = "the log is kept in another place, see docs/operations.md"
_NO_START = "the instance cannot start"


def collect(
    app: str | None, flags: Mapping[str, object], environ: Mapping[str, str], here: Path, *, web_user: str | None,
    imports: bool,
) -> Facts:
    """The facts about `appsrv start APP` with these flags.

    `imports`: make the trial import. Raises SettingsError and AppNotFound, as `start` does.
    """
    directory = finder.project_directory(app, here)
    settings = sources.load(flags, environ, directory, cwd=here)
    hosted = _hosted(app, settings, directory, environ, here)
    instance = running.find(directory, settings.port, environ)
    web = web_account(web_user)
    machine = _machine(settings, hosted.groups, instance, web, environ, directory)
    apps = [_application(group, instance, environ, imports=imports) for group in hosted.groups]
    return Facts(str(directory), machine, apps, instance.name, instance.pid, hosted.problems)


def _hosted(
    app: str | None, settings: Settings, directory: Path, environ: Mapping[str, str], here: Path
) -> hosting.HostedApps:
    if hosting.is_hosting(settings, directory):
        return hosting.hosted_apps(settings, directory, environ)
    spec = finder.find(app, here, environ, settings.app, settings.start_command)
    return hosting.HostedApps((AppGroup.alone(spec, settings),))


# -- users -------------------------------------------------------------------------------------------------


def web_account(name: str | None) -> Account | None:
    """The account of the web server: the one of this name, or that of nginx or Apache; None if there is none."""
    if name is not None:
        found = _account_of(name)
        if found is None:
            raise SettingsError(f"--web-user: there is no user {name}")
        return found
    configured = _USER.search(cgroups.content(NGINX_CONF))
    names = [configured[1], *WEB_USERS] if configured else WEB_USERS
    return next((account for account in map(_account_of, names) if account is not None), None)


def _account_of(name: str) -> Account | None:
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(name, user.pw_uid, frozenset(os.getgrouplist(name, user.pw_gid)))


def _own_account(identity: Identity | None) -> Account:
    if identity is not None:
        return Account(identity.name, identity.uid, frozenset(identity.groups), _is_known(identity.uid))
    uid = os.geteuid()
    return Account(_user_name(uid), uid, frozenset({os.getegid(), *os.getgroups()}), _is_known(uid))


def _is_known(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _user_name(uid: int) -> str:
    return pwd.getpwuid(uid).pw_name if _is_known(uid) else str(uid)


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


# -- the machine -------------------------------------------------------------------------------------------


def _machine(
    settings: Settings, groups: tuple[AppGroup, ...], instance: running.RunningInstance, web: Account | None,
    environ: Mapping[str, str], directory: Path,
) -> Machine:
    identity = identity_of(settings.user, settings.group)
    account = _own_account(identity)
    limit = running.descriptors(instance.pid) if instance.pid else None
    somaxconn = cgroups.content("/proc/sys/net/core/somaxconn").strip()
    return Machine(
        settings=settings,
        account=account,
        app_users={
            group.name: _own_account(identity_of(group.settings.user, group.settings.group)) for group in groups
        },
        web=web,
        descriptors=limit if limit is not None else _own_descriptors(),
        limits_of="this shell" if limit is None else f"the running server (PID {instance.pid})",
        descriptors_per_connection=DESCRIPTORS_WITH_TLS if settings.ssl_certificate is not None else 1,
        somaxconn=int(somaxconn) if somaxconn.isdigit() else None,
        backlog=BACKLOG,
        memory=usable_memory.of_process(str(instance.pid) if instance.pid else "self"),
        ways=[*_way_to_socket(settings, account), *_ways_to_files(groups)],
        places=list(_places(settings, groups, identity, directory)),
        run_problem=_run_problem(environ),
    )


def _own_descriptors() -> int:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 1 << 30 if hard == resource.RLIM_INFINITY else hard


def _way_to_socket(settings: Settings, account: Account) -> Iterator[Way]:
    path = settings.socket
    if path is None:
        return
    access = SocketAccess.of(settings)
    try:
        socket = _permissions(path)
    except OSError:
        # It is not there before the start, which makes it so.
        uid = account.uid if access.uid is None else access.uid
        gid = os.getegid() if access.gid is None else access.gid
        socket = Permissions(path, access.mode, uid, gid, f"{_user_name(uid)}:{_group_name(gid)}")
    yield _way("the socket", path, "socket", os.path.dirname(path), socket)


def _ways_to_files(groups: tuple[AppGroup, ...]) -> Iterator[Way]:
    """The static files that a web server on this machine would serve itself.

    Without a web server only the directories of the setting `static` that do not exist: start ends with an error then.
    """
    has_web_server = any(shutil.which(name, path=f"{os.defpath}:/usr/sbin:/usr/local/sbin") for name in _WEB_SERVERS)
    for group in groups:
        setting = STATIC_ROOT if group.settings.static is None else "static"
        for mount in project_survey.statics_of(group.settings, group.spec, group.settings.base_uri):
            way = _way(f"the files of {mount.url}", mount.directory, setting, mount.directory)
            if mount.known and (has_web_server or (way.missing and setting == "static")):
                yield way


def _way(what: str, path: str, setting: str, directory: str, file: Permissions | None = None) -> Way:
    passed: list[Permissions] = []
    real = os.path.realpath(directory)
    parts = real.split(os.sep)
    for count in range(1, len(parts) + 1):
        step = os.sep.join(parts[:count]) or os.sep
        try:
            passed.append(_permissions(step))
        except FileNotFoundError:
            return Way(what, path, setting, passed, file, missing=directory)
        except OSError:
            # This user may not look at what is below.
            break
    return Way(what, path, setting, passed, file)


def _permissions(path: str) -> Permissions:
    found = os.stat(path)
    owner = f"{_user_name(found.st_uid)}:{_group_name(found.st_gid)}"
    return Permissions(path, stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, owner, _has_acl(path))


def _has_acl(path: str) -> bool:
    if hasattr(os, "getxattr"):
        with contextlib.suppress(OSError):
            return bool(os.getxattr(path, "system.posix_acl_access"))
    return False


# -- places to write ---------------------------------------------------------------------------------------


def _places(
    settings: Settings, groups: tuple[AppGroup, ...], identity: Identity | None, directory: Path
) -> Iterator[WritablePlace]:
    port = None if settings.socket else settings.port
    root = Path(groups[0].spec.root) if len(groups) == 1 else directory
    log_file = settings.log_file or str(run_directory.default_log_file(root, port))
    pid_file = settings.pid_file or str(run_directory.default_pid_file(root, port))
    access_log = settings.access_log_path(framework=False)
    effect = _NO_START if settings.log_file else _LOG_ELSEWHERE
    for what, file, setting, consequence in (
        ("the server log", log_file, "log_file", effect),
        ("the pid file", pid_file, "pid_file", _NO_START if settings.pid_file else "it is in the run directory"),
        ("the access log", access_log, "access_log", _NO_START),
    ):
        if file not in (None, NO_FILE, "-"):
            yield _place(what, file, setting, consequence, identity)
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        effect = "bodies and responses cannot be buffered"
        yield WritablePlace(
            what="the directory for buffered data", directory="/tmp", setting="data_buffer_dir", effect=effect,
            exists=True, writable=False, read_only=_is_read_only("/tmp"),
        )


def _place(what: str, file: str, setting: str, effect: str, identity: Identity | None) -> WritablePlace:
    directory = os.path.dirname(file)
    with acting_as(identity):
        writable = os.access(directory, os.W_OK | os.X_OK, effective_ids=True)
        if os.path.exists(file):
            writable = os.access(file, os.W_OK, effective_ids=True)
        exists = os.path.isdir(directory)
    return WritablePlace(
        what=what, directory=directory, setting=setting, effect=effect, exists=exists, writable=writable,
        read_only=exists and _is_read_only(directory),
    )


def _is_read_only(directory: str) -> bool:
    try:
        return bool(os.statvfs(directory).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _run_problem(environ: Mapping[str, str]) -> str:
    """Why no directory can be the run directory; empty if there is one."""
    bases = directories.bases(environ)
    for base in bases:
        place = base
        while not place.exists() and place != place.parent:
            place = place.parent
        if os.access(place, os.W_OK | os.X_OK):
            return ""
    names = ", ".join(str(base.parent) for base in bases)
    return f"{names} cannot be written to" if names else "this user owns no directory for it"


# -- the applications --------------------------------------------------------------------------------------


def _application(
    group: AppGroup, instance: running.RunningInstance, environ: Mapping[str, str], *, imports: bool
) -> Application:
    against = trial.reason_against(group) if imports else "it was not imported: --no-import"
    return Application(
        name=group.name,
        app=group.app,
        settings=group.settings,
        missing=missing_extras(group.settings, _is_installed),
        trial=None if against else trial.run(group, environ),
        no_trial=against,
        running=instance.apps.get(group.name),
    )


def missing_extras(settings: Settings, is_installed: Callable[[str], bool]) -> dict[str, str]:
    """The extras of appsrv that the settings need and that are not installed, each with the setting."""
    wanted = {
        "static": ("whitenoise", "static" if settings.static else ""),
        "metrics": (
            "prometheus_client",
            "metrics_port" if settings.metrics_port is not None
            else "prometheus_multiproc" if settings.prometheus_multiproc else "",
        ),
        "reload": ("watchfiles", "environment = development" if settings.environment == "development" else ""),
    }
    return {
        extra: setting for extra, (module, setting) in wanted.items() if setting and not is_installed(module)
    }


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
