"""The server process: joins front end, application groups and admin socket, listens to the watchdog. Decides nothing.

gevent's loop runs here and nowhere else. Nothing is monkey-patched.
"""

from __future__ import annotations

import contextlib
import json
import linecache
import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import gevent
import gevent.event
import setproctitle
from gevent import get_hub

from appsrv import lanes, listener, message, probe, root_watch, trace
from appsrv.access_log import AccessLog, destination
from appsrv.app_group import AppGroup
from appsrv.apps_directory import AppsDirectory, changes
from appsrv.arrivals import ProxyHeaders, in_order
from appsrv.channel import Channel, ChannelClosed, DescriptorsLost, Outbox
from appsrv.config import environment
from appsrv.connection_limits import ConnectionLimits, most_connections
from appsrv.frontend import SWEEP, FrontEnd, nobody_here
from appsrv.groups import Groups
from appsrv.handles import Outcome, send_signal, send_signals_through
from appsrv.http_response import Response
from appsrv.http_syntax import RequestHead
from appsrv.kernel_stamps import stamp_connections_of
from appsrv.log import AccessLines, to_watchdog
from appsrv.manager import Manager
from appsrv.parking import READABLE
from appsrv.privileges import give_up
from appsrv.request_limits import limits_of
from appsrv.restart_file import NAME, RestartFile
from appsrv.settings import Settings
from appsrv.spool import Spool
from appsrv.trusted_proxies import TrustedProxies

if TYPE_CHECKING:
    from appsrv.admin_routes import AdminRoutes
    from appsrv.tls import Tls

log = logging.getLogger("appsrv.server")

QUICK = 3.0
STEP = 0.02
SHORTEST_SWEEP = 0.25
KILLED = 2.0
# What ends within this time, when the instance stops, nobody is told to wait for.
AT_ONCE = 1.0
STACKS_WITHIN = 1.0


class Server:
    """The composition. `run` returns when the instance has been told to end."""

    def __init__(
        self, channel: Channel, configure: message.Configure, sockets: list[socket.socket],
        admin: socket.socket | None, answers: int,
    ) -> None:
        self._answers = answers
        self._settings = Settings.from_json(configure.settings)
        self._configure = configure
        listening = len(sockets) - configure.metrics_sockets
        self._sockets, self._metrics_sockets = sockets[:listening], sockets[listening:]
        self._admin = admin
        self._admin_routes: AdminRoutes | None = None
        self._orders = [_next_group(channel) for _ in range(configure.groups)]
        channel.sock.setblocking(False)
        self._watchdog = Outbox(channel)
        self._watcher = get_hub().loop.io(channel.fileno(), READABLE)
        self._stopping: gevent.Greenlet[..., None] | None = None
        self._over = gevent.event.Event()
        self._orphaned = False
        send_signals_through(lambda pid, number: self._watchdog.send(message.SendSignal(pid, number)))
        self._tls: Tls | None = None
        self.frontend = self._front_end()
        self.groups = Groups(
            self._settings, self.frontend, self._watchdog.send, self._stacks_of, development=configure.development
        )
        self.groups.add_all(self._orders, configure.problems)
        self._access_log = _access_log(self._settings, framework=configure.development)

    def _front_end(self) -> FrontEnd:
        settings = self._settings
        timeouts = lanes.Timeouts(
            settings.header_timeout, settings.body_timeout, settings.body_timeout, settings.min_data_rate
        )
        frontend = FrontEnd(
            limits_of(settings), timeouts, settings.keepalive_timeout, _request_spools(settings),
            _connection_limits(settings),
            development=self._configure.development or settings.environment == "development",
        )
        self._prepare_arrivals(frontend, timeouts)
        if settings.probe_path is not None:
            frontend.unserved = self._unserved
        return frontend

    def _unserved(self, head: RequestHead) -> Response:
        """Where no application is, a probe asks for the instance."""
        if probe.is_probe(head.variables, self._settings.probe_path):
            return probe.answer(head.method, probe.STOPPING if self._stopping is not None else "")
        return nobody_here(head)

    def _prepare_arrivals(self, frontend: FrontEnd, timeouts: lanes.Timeouts) -> None:
        """What comes before the first request of a connection, on each listener: PROXY protocol, then TLS."""
        settings, headers = self._settings, None
        if settings.proxy_protocol:
            headers = ProxyHeaders(TrustedProxies(settings.forwarded_allow_ips), settings.header_timeout)
        if settings.ssl_certificate is not None:
            # Imported here: OpenSSL is large, and most instances have a proxy in front that speaks TLS.
            from appsrv.tls import Tls

            self._tls = Tls(settings.ssl_certificate, settings.ssl_certificate_key, timeouts)
            self._tls.too_slow = frontend.tell_limit
        for number, made in enumerate(self._configure.listeners):
            steps = [step for step in (headers, self._tls if made["tls"] else None) if step is not None]
            if steps:
                frontend.arrivals[number] = in_order(steps)

    def run(self) -> None:
        """Serve until the watchdog says otherwise or is gone."""
        self._watcher.start(self._from_watchdog)
        configure = self._configure
        self.groups.boot(self._orders)
        if self._access_log is not None:
            self.frontend.log_refused = self._access_log.refused
            for sock in self._sockets:
                stamp_connections_of(sock)
        self.frontend.acceptor.listen([(number, sock) for number, sock in self._numbered()])
        gevent.spawn(self._start_admin)
        gevent.spawn(self._sweep)
        for group in self.groups.values():
            gevent.spawn(self._watch_restart_file, group)
            gevent.spawn(self._watch_root, group)
        if self._settings.apps_directory is not None:
            directory = AppsDirectory(self._settings, environment())
            gevent.spawn(directory.watch, self._apps_directory_looked)
        if self._tls is not None:
            gevent.spawn(self._tls.watch)
        if configure.pulse:
            gevent.spawn(self._pulse, configure.pulse)
        self._over.wait()

    def _numbered(self) -> list[tuple[int, socket.socket]]:
        numbers = [n for n, made in enumerate(self._configure.listeners) for _ in range(made["sockets"])]
        return list(zip(numbers, self._sockets, strict=True))

    def _sweep(self) -> None:
        while True:
            gevent.sleep(min(SWEEP, max(SHORTEST_SWEEP, self._settings.keepalive_timeout)))
            self.frontend.sweep()

    def _apps_directory_looked(self, looked: Mapping[str, AppGroup | str]) -> None:
        """Serve what has come to the directory of applications, drop what has gone."""
        if self._stopping is not None:
            return
        where = self._settings.apps_directory or ""
        served = {name: manager.group for name, manager in self.groups.items()}
        found = {name: group for name, group in served.items() if os.path.dirname(name) == where}
        others = [group for name, group in served.items() if name not in found]
        what = changes(found, looked, others)
        for name in what.gone:
            self.groups.drop(name)
        for group in what.new:
            log.info("%s is served from now on", group.name)
            manager = self.groups.add(group)
            gevent.spawn(self._watch_restart_file, manager)
            gevent.spawn(self._watch_root, manager)
        self.groups.say_problems({name: why for name, why in what.problems.items() if name not in self.groups})

    def _watch_restart_file(self, group: Manager) -> None:
        file = RestartFile(group.settings.restart_file or os.path.join(group.group.spec.root, NAME))
        always = os.path.join(os.path.dirname(file.path), "always_restart.txt")
        if os.path.exists(always):
            log.warning("%s is not heeded: touch %s to restart", always, file.path)
        file.watch(lambda: self._restart_for(file.path, group), until=lambda: group not in self.groups.all())

    def _watch_root(self, group: Manager) -> None:
        """Tell when the directory of an application has gone or was replaced, before a restart finds that out."""
        watch = root_watch.RootWatch(group.group.spec.root)
        while group in self.groups.all():
            gevent.sleep(root_watch.SECONDS)
            # In a thread: a network file system that hangs must not hold up the server.
            line = get_hub().threadpool.apply(watch.look, (group.preloaders.loaded_from,))
            if line is not None:
                log.warning("%s", line)

    def _restart_for(self, touched: str, group: Manager) -> None:
        log.info("%s was touched", touched)
        self._restart_with_certificate(group)

    def _restart_all(self) -> None:
        """Restart every application. The certificate belongs to the whole instance: it is read once."""
        self._reload_certificate()
        # One after the other: all at once would load all applications at once.
        for group in list(self.groups.values()):
            self._restart_application(group)

    def _restart_with_certificate(
        self, group: Manager, parallel: int | None = None, *, stop_first: bool = False
    ) -> Outcome:
        """Restart one application because a person or a deployment asks for it.

        The certificate is read again at once, although `Tls.watch` would notice new files some seconds later: a
        deployment that renews the certificate and restarts the application expects both to be in use afterwards.
        """
        self._reload_certificate()
        return self._restart_application(group, parallel, stop_first=stop_first)

    def _reload_certificate(self) -> None:
        if self._tls is not None:
            self._tls.load()

    def _restart_application(self, group: Manager, parallel: int | None = None, *, stop_first: bool = False) -> Outcome:
        # Between two pulses a quick restart would begin and end unseen.
        gevent.spawn(self._say_state)
        outcome = group.restart(parallel, stop_first=stop_first)
        self._say_state()
        return outcome

    def _pulse(self, seconds: float) -> None:
        while True:
            self._say_state()
            gevent.sleep(seconds)

    def _say_state(self) -> None:
        if self._configure.pulse:
            self._watchdog.send(message.Pulse(self.groups.state, self.groups.one_line()))

    # -- the watchdog -------------------------------------------------------------------------------------------------

    def _from_watchdog(self) -> None:
        try:
            while True:
                self._obey(*self._watchdog.channel.receive())
        except BlockingIOError:
            return
        except DescriptorsLost as error:
            self._refuse_preloader(message.unpack(error.data))
        except ChannelClosed:
            self._watcher.stop()
            log.error("the watchdog has gone")
            self._orphaned = True
            self._stop(graceful=False)
            # Nobody else holds them now: a new instance must be able to listen at once.
            for sock in [*self._sockets, *self._metrics_sockets]:
                sock.close()

    def _refuse_preloader(self, order: message.Message) -> None:
        if isinstance(order, message.AdminSocket):
            return
        # Its channel is lost: nobody could tell it anything.
        assert isinstance(order, message.PreloaderStarted)
        send_signal(order.pid, signal.SIGTERM)
        reason = "the server is out of descriptors"
        refused = message.PreloaderNotStarted(order.group, order.generation, order.serial, reason)
        self._not_started(refused)

    def _not_started(self, order: message.PreloaderNotStarted) -> None:
        group = self.groups.who_asked(order)
        if group is not None:
            group.preloader_not_started(order)

    def _obey(self, order: message.Message, fds: list[int]) -> None:
        if isinstance(order, message.PreloaderStarted):
            group = self.groups.who_asked(order)
            if group is not None:
                group.preloader_started(order, fds[0])
            else:
                # Of a server before this one.
                os.close(fds[0])
                send_signal(order.pid, signal.SIGTERM)
        elif isinstance(order, message.PreloaderNotStarted):
            self._not_started(order)
        elif isinstance(order, message.ProcessExited):
            self.groups.process_exited(order.pid, order.status)
        elif isinstance(order, message.ResizePool):
            for group in self.groups.values():
                group.resize(order.change)
        elif isinstance(order, message.LastWords):
            self.groups.last_words(order.pid, order.lines)
        elif isinstance(order, message.RestartRequested):
            gevent.spawn(self._restart_all)
        elif isinstance(order, message.ReopenLogs):
            self._reopen_access_log()
        elif isinstance(order, message.AdminSocket):
            self._answer_commands(listener.adopt(fds[0]))
        elif isinstance(order, message.StopRequested):
            self._stop(graceful=order.graceful)
        else:
            log.error("the watchdog sent what a server cannot do: %s", order)

    def _stop(self, *, graceful: bool) -> None:
        if self._stopping is not None:
            self._stopping.kill(block=False)
        for group in self.groups.values():
            group.announce_stop()
        settings = self._settings
        if not graceful:
            self._take_no_more(QUICK)
        elif not settings.stop_delay:
            self._take_no_more(settings.stop_timeout)
        else:
            log.info("stopping in %g s (stop_delay): until then requests are taken", settings.stop_delay)
            self._stopping = gevent.spawn_later(settings.stop_delay, self._take_no_more, settings.stop_timeout)

    def _take_no_more(self, seconds: float) -> None:
        self.frontend.acceptor.stop()
        self._stopping = gevent.spawn(self._wind_down, time.monotonic() + seconds)

    def _wind_down(self, deadline: float) -> None:
        """Let what has been asked be answered, within the time; then end."""
        # A developer's streams end with their workers: what waits for one of these is not waited for.
        _until(self._all_taken, time.monotonic() + AT_ONCE if self._configure.development else deadline - KILLED)
        for group in self.groups.values():
            group.close()
        _until(self._all_ended, min(deadline, time.monotonic() + AT_ONCE))
        if self.groups.busy():
            # On a terminal this is what somebody waits for who has pressed Ctrl-C.
            log.warning("waiting for requests that are being served; Ctrl-C again ends them now")
        _until(self._all_ended, deadline)
        if self._workers_left():
            for group in self.groups.values():
                group.kill_all("it did not end in the time that a stop has")
        _until(lambda: not self._in_lanes() and (self._tls is None or self._tls.has_said_all()), deadline)
        _until(lambda: not self._workers_left(), time.monotonic() + KILLED)
        self._over.set()

    def _all_taken(self) -> bool:
        """Whether no request waits for a worker; closes what is idle on the way."""
        self.frontend.close_idle()
        return not self.groups.look() and not self._in_lanes()

    def _all_ended(self) -> bool:
        """Whether the workers have; closes what they have answered on the way, for nobody takes another request."""
        self.frontend.close_idle()
        return not self._workers_left()

    def _workers_left(self) -> bool:
        # Without the watchdog nobody tells of their ends; that they let go of their channels has to do.
        return self.groups.workers_left(lambda worker: not (self._orphaned and worker.hung_up))

    def _in_lanes(self) -> bool:
        return any(connection.lane for connection in self.frontend.connections.values())

    # -- the admin socket ---------------------------------------------------------------------------------------------

    def _start_admin(self) -> None:
        # Imported here: the first request need not wait for it.
        from appsrv.admin_routes import AdminRoutes
        from appsrv.report import Report

        configure = self._configure
        instance = json.loads(configure.instance)
        report = Report(instance, configure.restarts, self._settings, self.frontend)
        routes = AdminRoutes(
            self.groups, report, self._restart_with_certificate, self._reopen_access_log, self._watchdog.send
        )
        self._admin_routes = routes
        if self._admin is not None:
            self._answer_commands(self._admin)
        if self._metrics_sockets:
            own = self._settings.prometheus_multiproc
            routes.monitor(self._metrics_sockets, own_metrics=own, several=self.groups.routed)

    def _answer_commands(self, admin: socket.socket) -> None:
        """On this socket from now on, or as soon as there is somebody who answers."""
        if self._admin_routes is not None:
            self._admin_routes.serve(admin)
        else:
            self._admin = admin

    def _stacks_of(self, model: str, pid: int) -> list[str]:
        if model == "gevent" and trace.shows_greenlets(pid):
            send_signal(pid, trace.GREENLETS_SIGNAL)
        threads = trace.of_application(trace.ask(self._answers, pid, sleep=gevent.sleep, patience=STACKS_WITHIN))
        return [line for line in trace.as_text(threads, linecache.getline) if line]

    def _reopen_access_log(self) -> None:
        # By the time this is answered nobody writes into the old file any more, so that it may be compressed.
        for group in self.groups.values():
            for worker in group.workers.values():
                worker.slot.reopen_logs()
        if self._access_log is not None:
            self._access_log.reopen()


def _next_group(channel: Channel) -> message.ServeGroup:
    order, _ = channel.receive()
    assert isinstance(order, message.ServeGroup)
    return order


def _access_log(settings: Settings, *, framework: bool) -> AccessLog | None:
    to = settings.access_log_path(framework=framework)
    if to is None:
        return None
    lines = AccessLines() if to == "-" else destination(to, log.error)
    return AccessLog(settings.access_format, lines, log.error)


def _request_spools(settings: Settings) -> Callable[[], Spool]:
    """Makes the spool in which the body of a request waits until it is complete."""
    memory, directory = settings.request_buffer_memory, settings.data_buffer_dir
    return lambda: Spool(memory, directory)


def _connection_limits(settings: Settings) -> ConnectionLimits:
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Behind TLS: the client's, and both ends of what the relay speaks to.
    most = most_connections(settings.max_connections, descriptors, 3 if settings.ssl_certificate is not None else 1)
    if most < settings.max_connections:
        log.warning(
            "max_connections is %d, not %d: the system gives this process %d descriptors (ulimit -n)",
            most, settings.max_connections, descriptors,
        )
    proxies = TrustedProxies(settings.forwarded_allow_ips, carried=settings.proxy_protocol)
    return ConnectionLimits(most, settings.max_connections_per_address, proxies)


def _until(condition: Any, deadline: float) -> None:
    while not condition() and time.monotonic() < deadline:
        gevent.sleep(STEP)


def _allow_descriptors() -> None:
    """As many connections as the system lets this process have; the application's own limit stays as it is."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _listen_for_commands(run_directory: str) -> socket.socket | None:
    """The admin socket; None as long as the run directory is missing, of which the watchdog tells."""
    try:
        return listener.listen_privately(os.path.join(run_directory, "admin.sock"))
    except OSError as error:
        log.error("there is no admin socket in %s: %s", run_directory, error.strerror)
        return None


def main(channel_fd: int) -> None:
    """A server started by the watchdog."""
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(ignored, signal.SIG_IGN)
    setproctitle.setproctitle("appsrv server")
    _allow_descriptors()
    channel = Channel.from_fd(channel_fd)
    configure, fds = channel.receive()
    assert isinstance(configure, message.Configure)
    trace.listen(configure.run_directory)
    settings = Settings.from_json(configure.settings)
    to_watchdog(settings.log_level)
    # The run directory stays out of the reach of the user that this process is about to become.
    admin_socket = _listen_for_commands(configure.run_directory)
    answers = trace.open_answers(configure.run_directory)
    give_up(settings.user, settings.group)
    try:
        Server(channel, configure, [listener.adopt(fd) for fd in fds], admin_socket, answers).run()
    except Exception:
        log.exception("the server failed")
        sys.exit(1)
