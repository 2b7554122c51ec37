"""What the configurations that `appsrv config` prints are about: a project, how it is served, and what is in front.

Pure: facts and helpers to write them down. Knows none of the programs that read a configuration.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from appsrv.errors import SettingsError
from appsrv.http.syntax import FORWARDING
from appsrv.http.trusted_proxies import TrustedProxies
from appsrv.settings.table import Settings

_FIELD = re.compile(r"\{\{(\w+)\}\}")
Value = str | None


@dataclass(frozen=True)
class Mount:
    """The files of a directory at a place: `url` begins and ends with a slash. Not `known`: to be filled in."""

    url: str
    directory: str
    known: bool = True


@dataclass(frozen=True)
class FrontServer:
    """What only the web server in front has. `listen` and `tls_listen` are `PORT` or `ADDRESS:PORT`."""

    names: tuple[str, ...] = ()
    base_uri: str = ""
    listen: str = "80"
    tls_listen: str = "443"
    certificate: str | None = None
    certificate_key: str | None = None
    log_directory: str | None = None


@dataclass(frozen=True)
class Deployment:
    """A project and how it is served. `command` is `appsrv start ...` with what no file of the project says.

    `directory` is where that command runs, `root` where the application is, `requirements` a file in `directory` or
    what its pyproject.toml depends on. `reload` is what `appsrv restart-app` is told; of several applications,
    `app_logs` are their own logs. `owner` and `group` are those of the files; `user_in_file`: the project's
    settings name a `user`. Paths are absolute.
    """

    name: str
    root: str
    directory: str
    settings: Settings
    executable: tuple[str, ...]
    command: tuple[str, ...]
    variables: Mapping[str, str]
    log_file: str
    owner: str
    group: str
    python: str
    requirements: str | tuple[str, ...] | None = None
    is_django: bool = False
    user_in_file: bool = False
    statics: tuple[Mount, ...] = ()
    reload: tuple[str, ...] = ()
    app_logs: tuple[str, ...] = ()
    front: FrontServer = FrontServer()

    @property
    def variable(self) -> str:
        """`name`, as far as variables of nginx may be called so."""
        return re.sub(r"\W", "_", self.name)

    @property
    def connect_host(self) -> str:
        """The address a proxy on this machine connects to, in brackets if it is an IPv6 one."""
        anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1", "*": "127.0.0.1", "": "127.0.0.1"}
        host = anywhere.get(self.settings.address, self.settings.address)
        return f"[{host}]" if ":" in host else host

    @property
    def is_believed(self) -> bool:
        """Whether appsrv believes what such a proxy says of the client; a name may be any address."""
        proxies = TrustedProxies(self.settings.forwarded_allow_ips)
        if self.settings.socket:
            return proxies.peer("")
        host = self.connect_host.strip("[]")
        # To an address of its own, a machine connects from that address.
        return proxies.peer(host) if _is_address(host) else bool(self.settings.forwarded_allow_ips)

    @property
    def reuse_seconds(self) -> int:
        """How long a proxy may keep a connection idle: it has to be the first to close it; 0: not at all."""
        ours = self.settings.keepalive_timeout
        return int(max(ours - 5, ours / 2))

    @property
    def answer_seconds(self) -> int:
        """How long a proxy waits for an answer: longer than appsrv does, so that its own answer comes through."""
        limit = self.settings.max_request_time
        return math.ceil(limit + self.settings.max_request_queue_time) + 30 if limit else 3600


def fields_to_remove(set_by_us: Sequence[str]) -> list[str]:
    """Header fields that appsrv takes from a proxy and that clients must not send through it."""
    names = sorted(name.removeprefix("HTTP_").replace("_", "-").title() for name in FORWARDING)
    ours = {name.lower() for name in set_by_us}
    return [name for name in names if name.lower() not in ours]


def untrusted_notice(deployment: Deployment) -> str:
    """A comment for a web server's configuration: what to set so that appsrv believes what that server says."""
    peer = "unix" if deployment.settings.socket else deployment.connect_host.strip("[]")
    return f"# CHANGE: appsrv does not believe this proxy. Let forwarded_allow_ips have {peer}."


def check_served(deployment: Deployment) -> None:
    """Raises SettingsError where a web server could not reach the application."""
    if deployment.settings.proxy_protocol:
        raise SettingsError(
            "proxy_protocol: web servers speak HTTP to appsrv, without a PROXY protocol header; turn it off, they name "
            "the client by X-Forwarded-For"
        )
    if deployment.settings.ssl_certificate and deployment.settings.ssl_port is None:
        raise SettingsError(
            "ssl_certificate: appsrv speaks HTTPS alone on its port, the web server HTTP to it; give --ssl-port, too, "
            "or only the web server the certificate (--certificate, --certificate-key)"
        )
    if not deployment.settings.port and not deployment.settings.socket:
        raise SettingsError("port 0 is another one at each start: give --port or --socket")


def fill(template: str, values: Mapping[str, Value]) -> str:
    """`template` with `{{name}}` replaced.

    A line with a value that is None is left out, one that is nothing but `{{name}}` becomes as many as the value has,
    indented alike. Blank lines in a row become one, those before the end of a block none.
    """
    lines: list[str] = []
    for line in template.strip("\n").split("\n"):
        lines.extend(_filled(line, values))
    text = "\n".join(line.rstrip() for line in lines)
    text = re.sub(r"\n{2,}( *(?:\}|</))", r"\n\1", text)
    return re.sub(r"\n{3,}", "\n\n", text) + "\n"


def _filled(line: str, values: Mapping[str, Value]) -> list[str]:
    if any(values[name] is None for name in _FIELD.findall(line)):
        return []
    filled = _FIELD.sub(lambda found: values[found[1]] or "", line)
    if not _FIELD.fullmatch(line.strip()):
        return [filled]
    indent = line[: len(line) - len(line.lstrip())]
    return [indent + one for one in filled.strip().split("\n")] if filled.strip() else []


def quoted(text: str, refused: str = "") -> str:
    """`text` in double quotes if it needs them. Raises SettingsError for what the program would take for its own."""
    bad = next((part for part in ("\n", "\r", "\0", *refused.split()) if part in text), None)
    if bad is not None:
        raise SettingsError(f"{text!r} cannot be written into this configuration: it has {bad!r} in it")
    if re.fullmatch(r"[\w./:@%+,=~-]+", text, re.ASCII):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
