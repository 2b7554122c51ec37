"""The output of `appsrv config systemd`: a project as a service. Pure: makes text from a `Deployment`."""

from __future__ import annotations

import math
import os
import re

from appsrv.commands.config.deployment import Deployment, fill
from appsrv.errors import SettingsError

TEMPLATE = """
# {{name}} as a service, printed by `appsrv config systemd`: /etc/systemd/system/{{name}}.service
#   systemctl daemon-reload && systemctl enable --now {{name}}
#   systemctl reload {{name}}    new code, without losing a request; fails if the new code does not start

[Unit]
Description={{name}} (appsrv)
After=network-online.target
Wants=network-online.target

[Service]
# appsrv says itself when the first worker serves, and gives a sign of life.
Type=notify
WatchdogSec=30
{{user_hint}}
User={{user}}
{{group}}
{{umask}}
WorkingDirectory={{directory}}
# For the instance's run directory, where `appsrv status` and the others look: run them as this user, with
# XDG_RUNTIME_DIR=/run/{{name}}.
RuntimeDirectory={{name}}
RuntimeDirectoryMode={{runtime_mode}}
Environment=XDG_RUNTIME_DIR=/run/{{name}}
{{variables}}
{{socket_hint}}
ExecStart={{start}}
ExecReload={{reload}}
Restart=on-failure
# 2 and 4: a wrong setting, or an application that cannot be imported. Starting again does not mend that.
RestartPreventExitStatus=2 4
# TERM goes to the watchdog alone, which lets requests end; above stop_delay and stop_timeout ({{stop_timeout}} s).
KillMode=mixed
TimeoutStopSec={{stop_seconds}}
# Above start_timeout ({{start_timeout}} s); a reload has as long.
TimeoutStartSec={{start_seconds}}
# A worker that the kernel kills for want of memory is replaced; the service goes on.
OOMPolicy=continue
LimitNOFILE=65536
{{low_port}}
NoNewPrivileges=yes
PrivateTmp={{private_tmp}}
ProtectSystem=full

[Install]
WantedBy=multi-user.target
"""


def render(deployment: Deployment) -> str:
    """The unit. Raises `SettingsError` for settings that cannot be expressed in it."""
    settings = deployment.settings
    stop = settings.stop_delay + settings.stop_timeout
    is_root = settings.user is None and deployment.owner == "root"
    user = settings.user or ("www-data" if is_root else deployment.owner)
    low = (settings.port < 1024 and not settings.socket) or 0 < (settings.ssl_port or 0) < 1024
    return fill(TEMPLATE, {
        "name": deployment.name,
        "user_hint": "# CHANGE: the project's files are root's; name the user that is to serve it (`--user`)."
        if is_root else "",
        "user": _plain(user),
        "group": _group(deployment),
        "umask": "UMask=0007" if settings.socket else "",
        "directory": _plain(deployment.directory),
        "runtime_mode": "0750" if settings.socket else "0700",
        "variables": "\n".join(
            f"Environment={_word(f'{name}={value}')}" for name, value in sorted(deployment.variables.items())
        ),
        "socket_hint": _socket_hint(deployment),
        "start": " ".join(_word(word, "start") for word in _start(deployment)),
        "reload": " ".join(_word(word, "start") for word in _reload(deployment)),
        "stop_timeout": f"{stop:g}",
        "stop_seconds": str(math.ceil(stop) + 10),
        "start_timeout": f"{settings.start_timeout:g}",
        "start_seconds": str(math.ceil(settings.start_timeout + settings.stop_timeout) + 10),
        "low_port": "# For a port below 1024.\nAmbientCapabilities=CAP_NET_BIND_SERVICE" if low else "",
        "private_tmp": "no" if settings.socket and settings.socket.startswith(("/tmp/", "/var/tmp/")) else "yes",
    })  # fmt: skip


def _group(deployment: Deployment) -> str:
    settings = deployment.settings
    if settings.group:
        return f"Group={_plain(settings.group)}"
    if not settings.socket:
        return ""
    if deployment.user_in_file:
        # The project's settings name a user. appsrv would refuse to run with a group that these settings do not name.
        return "# CHANGE: the web server has to write to the socket; set its `group` beside `user`."
    return "# The web server's group: it has to write to the socket.\nGroup=www-data"


def _plain(text: str) -> str:
    """A value that is the rest of its line. systemd.unit(5): `%` begins a specifier, so it is doubled.

    Raises `SettingsError` for control characters.
    """
    if any(ord(letter) < 32 for letter in text):
        raise SettingsError(f"{text!r} cannot be written into a unit: it has a control character in it")
    return text.replace("%", "%%")


def _start(deployment: Deployment) -> tuple[str, ...]:
    """The command with the project's directory as argument.

    The kernel resolves the symbolic links of WorkingDirectory, and a service has no shell that sets PWD to the path
    with its links. Without the argument appsrv could not know that path.
    """
    words = len(deployment.executable) + 1
    before, after = deployment.command[:words], deployment.command[words:]
    names_app = bool(after) and not after[0].startswith("-")
    return deployment.command if names_app else (*before, deployment.directory, *after)


def _reload(deployment: Deployment) -> tuple[str, ...]:
    return (*deployment.executable, "restart-app", *deployment.reload)


def _word(text: str, of: str = "") -> str:
    """One word of a line. systemd.service(5): in a command `$` begins a variable, so it is doubled."""
    plain = _plain(text).replace("$", "$$") if of == "start" else _plain(text)
    if re.fullmatch(r"[^\s\"'\\;]+", plain):
        return plain
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _socket_hint(deployment: Deployment) -> str:
    socket = deployment.settings.socket
    if socket and os.path.dirname(socket) != f"/run/{deployment.name}":
        return f"# {os.path.dirname(socket)} has to be there, and this user has to be able to write to it."
    return ""
