"""Collects the facts about a project for the configuration of another program, and calls that program's module.

It reads the project's settings and files and imports nothing of the project. The texts are in `nginx`, `apache`,
`systemd`, `logrotate` and `docker`.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from appsrv.apps import finder, hosting
from appsrv.apps.app_spec import AppSpec
from appsrv.commands.config import apache, django_static, docker, logrotate, nginx, systemd
from appsrv.commands.config.deployment import Deployment, FrontServer, Mount
from appsrv.errors import SettingsError
from appsrv.instance import run_directory
from appsrv.settings import files, parsers, sources
from appsrv.settings.kinds import NO_FILE
from appsrv.settings.row import SettingRow
from appsrv.settings.table import ROWS, Settings

PROGRAMS: dict[str, Callable[[Deployment], str]] = {
    "nginx": nginx.render,
    "apache": apache.render,
    "systemd": systemd.render,
    "logrotate": logrotate.render,
    "docker": docker.render,
}
# The variables by which the application is found. A service has no shell that would set them, so they are written out.
_FINDING_VARIABLES = ("DJANGO_SETTINGS_MODULE", "FLASK_APP")
_PLATFORM_VARIABLES = {
    "PORT": ("address", "port"), "WEB_CONCURRENCY": ("max_pool_size",), "FORWARDED_ALLOW_IPS": ("forwarded_allow_ips",)
}  # fmt: skip
FRONT_OPTIONS = (
    "server_name", "base_uri", "listen", "tls_listen", "certificate", "certificate_key", "web_log_dir"
)  # fmt: skip
_PATH_UNKNOWN = "/path/to/collected/static/files"


def render(
    program: str, app: str | None, flags: Mapping[str, object], environ: Mapping[str, str], here: Path,
    front: FrontServer, name: str | None = None,
) -> str:
    """The configuration of `program` (a key of PROGRAMS) for the project of `appsrv start APP` with these flags.

    Raises `SettingsError` and `AppNotFound`.
    """
    return PROGRAMS[program](survey(app, flags, environ, here, front, name))


def survey(
    app: str | None, flags: Mapping[str, object], environ: Mapping[str, str], here: Path, front: FrontServer,
    name: str | None = None,
) -> Deployment:
    """The facts about the project that `app` names (None: the one in `here`). Raises as `render`."""
    directory = finder.project_directory(app, here)
    settings = replace(sources.load(flags, environ, directory, cwd=here), daemonize=False)
    several = hosting.hosted_apps(settings, directory, environ) if hosting.is_hosting(settings, directory) else None
    if several is not None:
        spec = AppSpec(str(directory))
    else:
        spec = finder.find(app, here, environ, settings.app, settings.start_command)
    executable = _executable()
    is_named = app is not None and directory == here
    given = _given(flags, environ, settings)
    port = None if settings.socket else settings.port
    owner, group = _owner(spec.root)
    log_file = settings.log_file or str(run_directory.default_log_file(Path(spec.root), port))
    pid_file = settings.pid_file or str(run_directory.default_pid_file(Path(spec.root), port))
    if several is not None and not front.names:
        front = replace(front, names=_hosts(several))
    return Deployment(
        name=_name(name or os.path.basename(directory)),
        root=spec.root,
        directory=str(directory),
        settings=settings,
        executable=executable,
        command=(*executable, "start", *([app] if is_named and app else []), *given),
        variables={key: environ[key].strip() for key in _FINDING_VARIABLES if environ.get(key, "").strip()},
        log_file=log_file,
        owner=owner,
        group=group,
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        requirements=_requirements(directory),
        is_django=spec.django_settings is not None,
        user_in_file=sources.load({}, {}, directory, cwd=here).user is not None,
        statics=statics_of(settings, spec, front.base_uri),
        front=front,
        reload=(spec.root,) if several is None else ("/", *(["--pid-file", pid_file] if pid_file != NO_FILE else [])),
        app_logs=_logs(several) if several is not None else (),
    )


def _hosts(several: hosting.HostedApps) -> tuple[str, ...]:
    """The hosts of all applications; empty, for any host, if one application has none or more may be added later."""
    hosts = [group.settings.hosts for group in several.groups]
    if not all(hosts) or any(group.settings.apps_directory for group in several.groups):
        return ()
    return tuple(dict.fromkeys(host for names in hosts for host in names))


def _logs(several: hosting.HostedApps) -> tuple[str, ...]:
    return tuple(dict.fromkeys(group.settings.log_file for group in several.groups if group.settings.log_file))


# -- the web server --------------------------------------------------------------------------------------------


def front_server(
    *, server_name: Sequence[str] = (), base_uri: str | None = None, listen: str | None = None,
    tls_listen: str | None = None, certificate: str | None = None, certificate_key: str | None = None,
    web_log_dir: str | None = None,
) -> FrontServer:
    """The checked options about the web server. Raises `SettingsError`."""
    if bool(certificate) != bool(certificate_key):
        raise SettingsError("--certificate and --certificate-key go together: give both")
    return FrontServer(
        names=tuple(_host_pattern(name) for name in server_name),
        base_uri=_base_uri(base_uri or ""),
        listen=_listen("--listen", listen or "80"),
        tls_listen=_listen("--tls-listen", tls_listen or "443"),
        certificate=certificate and os.path.abspath(certificate),
        certificate_key=certificate_key and os.path.abspath(certificate_key),
        log_directory=web_log_dir and os.path.abspath(web_log_dir),
    )


def _host_pattern(name: str) -> str:
    try:
        return parsers.host_pattern(name)
    except ValueError as error:
        raise SettingsError(f"--server-name: {error}, not {name!r}") from None


def _base_uri(path: str) -> str:
    try:
        return parsers.base_uri(path or "/")
    except ValueError as error:
        raise SettingsError(f"--base-uri: {error}, not {path!r}") from None


def _listen(option: str, listen: str) -> str:
    host, _, port = listen.rpartition(":")
    is_port = re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) and 0 < int(port) < 65536
    if not is_port or not re.fullmatch(r"|\*|[0-9.]+|\[[0-9A-Fa-f:.]+\]", host):
        raise SettingsError(f"{option}: expected PORT or ADDRESS:PORT, not {listen!r}")
    return listen


# -- the service -----------------------------------------------------------------------------------------------


def _executable() -> tuple[str, ...]:
    """The command beside this interpreter, by its path: a service has no activated virtual environment."""
    beside = Path(sys.executable).with_name("appsrv")
    return (str(beside),) if beside.is_file() else (sys.executable, "-m", "appsrv")


def _name(text: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")
    if not plain:
        raise SettingsError(f"{text!r} is not a valid name for a service: give --name")
    return plain


def _given(flags: Mapping[str, object], environ: Mapping[str, str], settings: Settings) -> list[str]:
    """The command line of the service: flags for settings from this command line and from variables.

    Settings from the project's files are left out, because the service reads these files itself.
    """
    raw: dict[str, object] = {}
    for variable, names in _PLATFORM_VARIABLES.items():
        if environ.get(variable, "").strip() and not (variable == "PORT" and settings.socket):
            raw |= dict.fromkeys(names)
    raw |= sources.own_variables(environ)
    raw |= {name: value for name, value in flags.items() if value is not None and value != ()}
    # A service does not daemonize, and the service manager sets user and group itself.
    wanted = [row for row in ROWS if row.name in raw and row.name not in ("daemonize", "user", "group")]
    return [word for row in wanted if not row.key_only for word in _flag(row, raw[row.name], settings)]


def _flag(row: SettingRow, raw: object, settings: Settings) -> list[str]:
    value = getattr(settings, row.name)
    if isinstance(raw, str) and raw.strip().lower() == "auto":
        return [f"{row.long_flag}=auto"]
    if row.is_boolean:
        return [row.long_flag if value else f"--no-{row.long_flag[2:]}"]
    if isinstance(value, tuple):
        return [f"{row.long_flag}={one}" for one in value or ("off",)]
    if value is None:
        return []
    if value == NO_FILE:
        return [f"{row.long_flag}=none"]
    return [f"{row.long_flag}={value:g}" if isinstance(value, float) else f"{row.long_flag}={value}"]


def _owner(directory: str) -> tuple[str, str]:
    """The user and the group of a directory; a number where there is no name."""
    found = os.stat(directory)
    try:
        user = pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        user = str(found.st_uid)
    try:
        return user, grp.getgrgid(found.st_gid).gr_name
    except KeyError:
        return user, str(found.st_gid)


def _requirements(directory: Path) -> str | tuple[str, ...] | None:
    if (directory / "requirements.txt").is_file():
        return "requirements.txt"
    project = files.read_toml(directory / "pyproject.toml").get("project", {})
    named = project.get("dependencies", []) if isinstance(project, dict) else []
    return tuple(str(name) for name in named) or None if isinstance(named, list) else None


# -- static files --------------------------------------------------------------------------------------------


def statics_of(settings: Settings, spec: AppSpec, base: str) -> tuple[Mount, ...]:
    """The static files of an application below `base`, for a web server to serve."""
    if settings.static is not None:
        pairs = (mount.partition("=") for mount in settings.static)
        return tuple(Mount(base + prefix, directory) for prefix, _, directory in pairs)
    if spec.django_settings is None:
        return ()
    return _django_static(spec.root, spec.django_settings, base)


def _django_static(root: str, module: str, base: str) -> tuple[Mount, ...]:
    url, directory = django_static.static_settings(root, module)
    if url is not None and ("//" in url or url == "/"):
        # STATIC_URL names another host, or the root, which cannot be a prefix of files.
        return ()
    place = _static_url(url or "static/", base)
    return (Mount(place, directory or _PATH_UNKNOWN, known=url is not None and directory is not None),)


def _static_url(url: str, base: str) -> str:
    """The URL of static files. Django puts the script prefix in front of a relative STATIC_URL, not of `/static/`."""
    return (url if url.startswith("/") else f"{base}/{url}").rstrip("/") + "/"
