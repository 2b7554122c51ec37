"""Recognizes variables with the prefix `APPSRV_` that Kubernetes or a container link sets for a service.

For a service named appsrv, Kubernetes sets APPSRV_PORT=tcp://10.0.0.1:80, APPSRV_SERVICE_HOST and five more variables
in every container of the namespace. A container link sets nearly the same ones. Pure; it knows no setting.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

# The service's name, then the attribute of the service. No setting has such a name.
_SERVICE_VARIABLE = re.compile(
    r"(?P<service>[A-Z0-9_]+?)_(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?"
    r"|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
# APPSRV_PORT and APPSRV_METRICS_PORT are settings as well, so here the value decides: Kubernetes sets a URL.
_PORT = re.compile(r"(?P<service>[A-Z0-9_]+)_PORT")
_URL = re.compile(r"(?:tcp|udp|sctp)://", re.IGNORECASE)


def service_of(name: str, value: str) -> str | None:
    """The service that this variable describes, in capitals as in the variable's name; None if it describes none."""
    found = _SERVICE_VARIABLE.fullmatch(name)
    if found is None and _URL.match(value.strip()):
        found = _PORT.fullmatch(name)
    return found["service"] if found is not None else None


def services(environ: Mapping[str, str], prefix: str) -> dict[str, list[str]]:
    """For each service, its variables among those that begin with `prefix`, sorted."""
    found: dict[str, list[str]] = {}
    for name in sorted(name for name in environ if name.startswith(prefix)):
        service = service_of(name, environ[name])
        if service is not None:
            found.setdefault(service, []).append(name)
    return found
