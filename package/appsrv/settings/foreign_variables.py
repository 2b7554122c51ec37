"""Variables that begin as those of appsrv do and belong to another program: what Kubernetes sets for a service.

A service named appsrv gives every container of its namespace APPSRV_PORT=tcp://10.0.0.1:80, APPSRV_SERVICE_HOST and
five more; a container link gives nearly the same. Pure; knows no setting.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

# The service's name, then what is said of it. No setting can have such a name.
_OF_SERVICE = re.compile(
    r"(?P<service>[A-Z0-9_]+?)_(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?"
    r"|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
# APPSRV_PORT and APPSRV_METRICS_PORT are settings as well: there the value decides.
_PORT = re.compile(r"(?P<service>[A-Z0-9_]+)_PORT")
_URL = re.compile(r"(?:tcp|udp|sctp)://", re.IGNORECASE)


def service_of(name: str, value: str) -> str | None:
    """The service that this variable tells of, in capitals as in its name; None when it tells of none."""
    found = _OF_SERVICE.fullmatch(name)
    if found is None and _URL.match(value.strip()):
        found = _PORT.fullmatch(name)
    return found["service"] if found is not None else None


def services(environ: Mapping[str, str], prefix: str) -> dict[str, list[str]]:
    """By service, the variables that tell of it, of those that begin with `prefix`."""
    told: dict[str, list[str]] = {}
    for name in sorted(name for name in environ if name.startswith(prefix)):
        service = service_of(name, environ[name])
        if service is not None:
            told.setdefault(service, []).append(name)
    return told
