"""Makes the front end as the settings ask for it: limits, timeouts, PROXY protocol and TLS on each listener.

Joins names of settings to the parts of the front end. It decides nothing, and it serves nothing.
"""

from __future__ import annotations

import logging
import resource
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from appsrv.http.connection_limits import DESCRIPTORS_WITH_TLS, ConnectionLimits, connection_limit
from appsrv.http.response import Response
from appsrv.http.syntax import RequestHead
from appsrv.http.trusted_proxies import TrustedProxies
from appsrv.server.frontend import lanes
from appsrv.server.frontend.frontend import FrontEnd, not_served
from appsrv.server.frontend.preamble import ProxyHeaders, in_order
from appsrv.settings.request_limits import limits_of
from appsrv.settings.table import Settings
from appsrv.system.spool import Spool
from appsrv.wsgi import probe

if TYPE_CHECKING:
    from appsrv.server.frontend.tls import Tls

log = logging.getLogger("appsrv.server")


def frontend_of(
    settings: Settings, listeners: Sequence[Mapping[str, Any]], *, development: bool,
    clock: Callable[[], float],
) -> tuple[FrontEnd, Tls | None]:
    """The front end, and TLS where there is a certificate. `listeners`: those of `messages.Configure`."""
    timeouts = lanes.Timeouts(
        settings.header_timeout, settings.body_timeout, settings.body_timeout, settings.min_data_rate
    )
    frontend = FrontEnd(
        limits_of(settings), timeouts, settings.keepalive_timeout, _request_spools(settings),
        connection_limits_of(settings), development=development or settings.environment == "development",
        clock=clock,
    )
    tls = _tls(settings, timeouts)
    if tls is not None:
        tls.too_slow = frontend.report_limit
    _set_preambles(frontend, settings, listeners, tls)
    return frontend, tls


def _request_spools(settings: Settings) -> Callable[[], Spool]:
    """Makes the spool in which the body of a request waits until it is complete."""
    memory, directory = settings.request_buffer_memory, settings.data_buffer_dir
    return lambda: Spool(memory, directory)


def _tls(settings: Settings, timeouts: lanes.Timeouts) -> Tls | None:
    if settings.ssl_certificate is None:
        return None
    # Imported here: OpenSSL is large, and most instances have a proxy in front that speaks TLS.
    from appsrv.server.frontend.tls import Tls

    return Tls(settings.ssl_certificate, settings.ssl_certificate_key, timeouts)


def _set_preambles(
    frontend: FrontEnd, settings: Settings, listeners: Sequence[Mapping[str, Any]], tls: Tls | None
) -> None:
    """On each listener, what comes before the first request of a connection: PROXY protocol, then TLS."""
    headers = None
    if settings.proxy_protocol:
        headers = ProxyHeaders(TrustedProxies(settings.forwarded_allow_ips), settings.header_timeout)
    for number, listener in enumerate(listeners):
        steps = [step for step in (headers, tls if listener["tls"] else None) if step is not None]
        if steps:
            frontend.preambles[number] = in_order(steps)


def answer_unserved(probe_path: str | None, stopping: Callable[[], bool]) -> Callable[[RequestHead], Response]:
    """Answers requests that are for no application: a probe with the state of the instance, all others with 404."""

    def respond(head: RequestHead) -> Response:
        if probe.is_probe(head.variables, probe_path):
            return probe.answer(head.method, probe.STOPPING if stopping() else "")
        return not_served(head)

    return not_served if probe_path is None else respond


def connection_limits_of(settings: Settings) -> ConnectionLimits:
    """How many connections there may be, which the descriptors of this process limit as well."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    each = DESCRIPTORS_WITH_TLS if settings.ssl_certificate is not None else 1
    most = connection_limit(settings.max_connections, descriptors, each)
    if most < settings.max_connections:
        log.warning(
            "max_connections is %d, not %d: the system gives this process %d descriptors (ulimit -n)",
            most, settings.max_connections, descriptors,
        )
    proxies = TrustedProxies(settings.forwarded_allow_ips, carried=settings.proxy_protocol)
    return ConnectionLimits(most, settings.max_connections_per_address, proxies)
