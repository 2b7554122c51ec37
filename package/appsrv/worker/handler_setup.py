"""Makes the connection handlers of a worker, one per thread or greenlet, as its role asks for them.

Joins settings to the parts of a handler. It serves nothing.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

from appsrv.app_process.own_lines import complain
from appsrv.apps.shared_routes import RouteTable
from appsrv.http.syntax import RequestHead
from appsrv.http.trusted_proxies import TrustedProxies
from appsrv.ipc.scoreboard import Slot
from appsrv.logs.access_log import AccessLog, destination
from appsrv.net.arrival_time import StampedSocket
from appsrv.settings.request_limits import limits_of
from appsrv.settings.table import Settings
from appsrv.worker.access_log import WorkerAccessLog
from appsrv.worker.connection_handler import ConnectionHandler, HandlerOptions
from appsrv.worker.debugger_terminal import DebuggerTerminal, TerminalConnectionHandler
from appsrv.worker.ready_queue import ReadyQueue
from appsrv.worker.response_writer import ResponseBuffer
from appsrv.worker.role import WorkerContext, WorkerRole, environs
from appsrv.wsgi.probe import with_probe
from appsrv.wsgi.removed_fields import Reporter
from appsrv.wsgi.request_id import with_request_id

FieldsRemoved = Callable[[str, str, list[str]], None]


def make_handlers(
    role: WorkerRole, context: WorkerContext, slot: Slot, queue: ReadyQueue, terminal: DebuggerTerminal,
    fields_removed: FieldsRemoved,
) -> list[ConnectionHandler]:
    """As many handlers as the worker serves requests at a time; `fields_removed` reports fields of strangers."""
    access_log = _access_log(role, context, slot)
    if access_log is not None and access_log.needs_arrival_time:
        queue.client_socket = StampedSocket
    options = _options(role, context, access_log, fields_removed)
    make, counted = _maker(role, terminal), role.settings.counts_requests
    return [
        make(options, queue, slot.cell(n), slot.tally(n) if counted else None) for n in range(role.settings.concurrency)
    ]


def _options(
    role: WorkerRole, context: WorkerContext, access_log: WorkerAccessLog | None, fields_removed: FieldsRemoved
) -> HandlerOptions:
    settings = role.settings
    application = with_request_id(role.application) if settings.request_id else role.application
    return HandlerOptions(
        application=with_probe(application, settings.probe_path, context.board.stopping),
        limits=limits_of(settings),
        environs=environs(role),
        development=role.development or settings.environment == "development",
        keep_alive=settings.keepalive_timeout > 0,
        access_log=access_log,
        proxies=TrustedProxies(settings.forwarded_allow_ips, carried=settings.proxy_protocol),
        buffer=_response_buffer(settings),
        is_ours=None if context.routes is None else _only_for(role.name, context.routes),
        underscores=settings.underscores_in_headers == "trusted",
        reporter=Reporter(fields_removed, time.monotonic),
    )


def _maker(role: WorkerRole, terminal: DebuggerTerminal) -> Callable[..., ConnectionHandler]:
    upstream, settings = role.upstream, role.settings
    if upstream is None and terminal.exists:
        return functools.partial(TerminalConnectionHandler, terminal=terminal)
    if upstream is None:
        return ConnectionHandler
    # Imported here: only an application in another language needs what the proxy needs.
    from appsrv.worker.proxied_handler import ProxiedConnectionHandler
    from appsrv.worker.streamed_input import BodyRate

    body_rate = None if settings.buffers_bodies else BodyRate(settings.body_timeout, settings.min_data_rate)
    return functools.partial(ProxiedConnectionHandler, relays=upstream.relays, body_rate=body_rate)


def _access_log(role: WorkerRole, context: WorkerContext, slot: Slot) -> WorkerAccessLog | None:
    """The log of the requests, for appsrv, for the framework or for both; None where neither has one."""
    settings = role.settings
    path, log = settings.access_log_path(framework=role.log_request is not None), None
    if path is not None:
        log = AccessLog(settings.access_format, destination(path, complain), complain)
    if log is None and role.log_request is None:
        return None
    return WorkerAccessLog(log, role.log_request, context.board, slot.reopen_asked)


def _response_buffer(settings: Settings) -> ResponseBuffer:
    """Where a response waits for its client, and for how long a worker waits with it."""
    return ResponseBuffer(
        memory=settings.response_buffer_memory,
        size=settings.response_buffer_size,
        directory=settings.data_buffer_dir,
        pause=settings.body_timeout,
        rate=settings.min_data_rate,
    )


def _only_for(name: str, routes: RouteTable) -> Callable[[RequestHead], bool]:
    """A function that tells whether a request is for the application of this name."""

    def is_ours(head: RequestHead) -> bool:
        variables = head.variables
        return routes.routes().find(variables.get("HTTP_HOST", ""), variables["PATH_INFO"]) == name

    return is_ours
