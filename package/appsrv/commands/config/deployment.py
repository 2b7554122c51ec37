"""The facts for the configurations of `appsrv config`: a project, its settings, and the web server in front of it.

Pure: the facts, and helpers to write them. It does not know the programs that read the configurations.
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
    """A URL prefix and its directory of files. `url` begins and ends with a slash.

    `known`: false if the user has to fill in the directory.
    """

    url: str
    directory: str
    known: bool = True


@dataclass(frozen=True)
class FrontServer:
    """The settings of the web server in front. `listen` and `tls_listen` are `PORT` or `ADDRESS:PORT`."""

    names: tuple[str, ...] = ()
    base_uri: str = ""
    listen: str = "80"
    tls_listen: str = "443"
    certificate: str | None = None
    certificate_key: str | None = None
    log_directory: str | None = None


@dataclass(frozen=True)
class Deployment:
    """A project and the settings that it is served with. Paths are absolute.

    `command`: `appsrv start ...` with the settings that are in no file of the project. `directory`: the working
    directory of that command. `root`: the root of the application. `requirements`: a file in `directory`, or the
    dependencies of its pyproject.toml. `reload`: the arguments of `appsrv restart-app`. `app_logs`: the logs of several
    applications. `owner` and `group`: those of the project's files. `user_in_file`: the project's settings name a
    `user`.
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
        """`name` with the characters that are not allowed in variables of nginx replaced."""
        return re.sub(r"\W", "_", self.name)

    @property
    def connect_host(self) -> str:
        """The address to which a proxy on this machine connects; an IPv6 address is in brackets."""
        anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1", "*": "127.0.0.1", "": "127.0.0.1"}
        host = anywhere.get(self.settings.address, self.settings.address)
        return f"[{host}]" if ":" in host else host

    @property
    def is_trusted(self) -> bool:
        """Whether appsrv trusts the X-Forwarded-* fields of such a proxy.

        A host name may have any address, so for a name this is true if any proxy is trusted.
        """
        proxies = TrustedProxies(self.settings.forwarded_allow_ips)
        if self.settings.socket:
            return proxies.peer("")
        host = self.connect_host.strip("[]")
        # A connection to an address of this machine comes from the same address.
        return proxies.peer(host) if _is_address(host) else bool(self.settings.forwarded_allow_ips)

    @property
    def reuse_seconds(self) -> int:
        """The seconds that a proxy may keep an idle connection; 0: it must not keep one.

        The proxy has to close it before appsrv does: otherwise a request could cross appsrv's close on its way.
        """
        ours = self.settings.keepalive_timeout
        return int(max(ours - 5, ours / 2))

    @property
    def answer_seconds(self) -> int:
        """The seconds that a proxy waits for a response: longer than appsrv, so that the client gets appsrv's 504."""
        limit = self.settings.max_request_time
        return math.ceil(limit + self.settings.max_request_queue_time) + 30 if limit else 3600


def fields_to_remove(set_by_us: Sequence[str]) -> list[str]:
    """The header fields that appsrv accepts from a proxy and that the proxy has to remove from clients' requests."""
    names = sorted(name.removeprefix("HTTP_").replace("_", "-").title() for name in FORWARDING)
    ours = {name.lower() for name in set_by_us}
    return [name for name in names if name.lower() not in ours]


def untrusted_notice(deployment: Deployment) -> str:
    """A comment for a web server's configuration: the setting by which appsrv trusts that server."""
    peer = "unix" if deployment.settings.socket else deployment.connect_host.strip("[]")
    return f"# CHANGE: appsrv does not believe this proxy. Let forwarded_allow_ips have {peer}."


def check_served(deployment: Deployment) -> None:
    """Raise `SettingsError` if a web server could not reach the application with these settings."""
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
    """`template` with each `{{name}}` replaced by its value.

    A line with a value that is None is left out. A line that consists of `{{name}}` alone becomes all lines of the
    value, with the same indentation. Several blank lines become one; blank lines before the end of a block are removed.
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
    """`text`, in double quotes if necessary. Raises `SettingsError` for line breaks, NUL and the parts in `refused`.

    `refused`: the sequences, separated by spaces, that the program would interpret.
    """
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
