"""Settings: the table, one row per setting.

Each field of `Settings` defines the flag, the `APPSRV_*` variable, the key of appsrv.toml and `[tool.appsrv]`, and the
paragraph in docs/settings.md (module `settings_page`). This module knows neither the sources of the values (`sources`)
nor the code that uses them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from appsrv.logs import access_format, log_format
from appsrv.settings import parsers
from appsrv.settings.kinds import FILE_OR_NONE, LOG_TARGET, MOUNTS, PATH, PATHS
from appsrv.settings.row import SettingRow, setting

_LISTEN, _PROCESS, _POOL, _HTTP = "Listening", "The running server", "The pool of workers", "Requests"
_FILES, _HOSTING = "Files", "Several applications"


@dataclass(frozen=True)
class Settings:
    """The settings of one instance, all valid and consistent. Paths are absolute, times in seconds, sizes in bytes."""

    app: str | None = setting(
        None, parsers.text, group=_PROCESS, per_app=True, inherited=False, metavar="APP", key_only=True,
        sample="shop.wsgi:application",
        shown_default="found in the directory",
        help="The application: `module:callable`, `module:factory()`, a file or a directory. "
        "On the command line it is the argument of `appsrv start`.",
    )
    start_command: str | None = setting(
        None, parsers.text, metavar="COMMAND", group=_PROCESS, per_app=True, inherited=False,
        sample="node server.js",
        help="The command of an application that is not WSGI: Node.js, Ruby, ASGI or any other program that serves "
        "HTTP. A shell runs it in the application's directory, once for each worker; it listens on the port `$PORT` of "
        "127.0.0.1, or on the unix socket `$SOCKET` if the command mentions that. See docs/generic.md.",
    )
    address: str = setting(
        "127.0.0.1", parsers.host, flag="-a", metavar="HOST", group=_LISTEN,
        shown_default="127.0.0.1, or 0.0.0.0 when $PORT is set",
        help="Address to listen on. `::` is every address, of IPv6 and of IPv4; `*` is the same, or 0.0.0.0 on a "
        "machine without IPv6.",
    )
    port: int = setting(
        8000, parsers.integer(0, 65535), flag="-p", metavar="NUMBER", group=_LISTEN,
        shown_default="8000, or $PORT", help="Port to listen on; 0 lets the system choose one.",
    )
    socket: str | None = setting(
        None, PATH, flag="-S", metavar="PATH", group=_LISTEN,
        sample="run/appsrv.sock",
        help="Listen on a unix socket instead of an address and port.",
    )
    socket_mode: str | None = setting(
        None, parsers.file_mode, metavar="MODE", group=_LISTEN, shown_default="666; 660 with socket_group",
        sample="660",
        help="Permissions of the unix socket, as octal digits: the users that may connect. The umask has no effect.",
    )
    socket_group: str | None = setting(
        None, parsers.text, metavar="NAME", group=_LISTEN, shown_default="that of the server",
        sample="www-data",
        help="The group of the unix socket, such as the web server's. The server's user has to be in it, or root.",
    )
    socket_user: str | None = setting(
        None, parsers.text, metavar="NAME", group=_LISTEN, shown_default="that of the server",
        sample="www-data",
        help="The owner of the unix socket; only root can name another user.",
    )
    ssl_certificate: str | None = setting(
        None, PATH, metavar="PATH", group=_LISTEN,
        sample="/etc/ssl/shop.pem",
        help="Speak HTTPS with this certificate (PEM, followed by those between it and its root): on `port`, or, where "
        "`ssl_port` is given, there, and HTTP on `port`. Read again when the file changes.",
    )
    ssl_certificate_key: str | None = setting(
        None, PATH, metavar="PATH", group=_LISTEN, shown_default="in the file of the certificate",
        sample="/etc/ssl/shop.key",
        help="The certificate's private key (PEM, without a passphrase).",
    )
    ssl_port: int | None = setting(
        None, parsers.integer(0, 65535), metavar="NUMBER", group=_LISTEN,
        sample=8443,
        help="Port to speak HTTPS on, beside HTTP on `port` or `socket`; 0 lets the system choose one.",
    )
    ssl_address: str | None = setting(
        None, parsers.host, metavar="HOST", group=_LISTEN, shown_default="that of `address`",
        sample="0.0.0.0",
        help="Address for `ssl_port`.",
    )
    metrics_port: int | None = setting(
        None, parsers.integer(0, 65535), metavar="NUMBER", group=_LISTEN,
        sample=9180,
        help="A second port, for monitoring: `/metrics` for Prometheus and a page with charts. Turns `request_metrics` "
        "on; 0 lets the system choose the port. Needs `appsrv[metrics]`. See docs/monitoring.md.",
    )
    metrics_address: str = setting(
        "127.0.0.1", parsers.host, metavar="HOST", group=_LISTEN,
        help="Address of that port. Every client that can connect to it can read the metrics.",
    )
    request_metrics: bool = setting(
        False, parsers.boolean, group=_PROCESS, shown_default="no; yes with metrics_port",
        help="Count requests by class of status and by how long the application took, for `/metrics`.",
    )
    prometheus_multiproc: bool = setting(
        False, parsers.boolean, group=_PROCESS,
        help="For applications that use prometheus_client themselves: a directory for their workers' metrics is made, "
        "named in `PROMETHEUS_MULTIPROC_DIR`, and kept clean of what dead workers leave.",
    )
    environment: str = setting(
        "production", parsers.text, flag="-e", metavar="NAME", group=_PROCESS, per_app=True,
        shown_default="production; development for runserver and flask run",
        help="Name of the environment. In `development`, error pages show the traceback.",
    )
    daemonize: bool = setting(
        False, parsers.boolean, flag="-d", group=_PROCESS, help="Serve in the background."
    )
    user: str | None = setting(
        None, parsers.text, metavar="NAME", group=_PROCESS, per_app=True, operator_only=True,
        sample="www-data",
        help="Started as root: the server and the application run as this user (a name or a number), and the logs are "
        "that user's. The watchdog stays root.",
    )
    group: str | None = setting(
        None, parsers.text, metavar="NAME", group=_PROCESS, per_app=True, operator_only=True,
        sample="www-data",
        shown_default="the user's own",
        help="The group of that user's processes; the user's other groups are kept.",
    )
    pid_file: str | None = setting(
        None, FILE_OR_NONE, metavar="PATH", group=_PROCESS,
        sample="tmp/pids/appsrv.pid",
        shown_default="tmp/pids/appsrv.PORT.pid if tmp/pids exists, else appsrv.PORT.pid; where that is not writable, "
        "in the run directory",
        help="Where the process id of the watchdog is kept while the server runs; `none` for nowhere.",
    )
    log_file: str | None = setting(
        None, FILE_OR_NONE, metavar="PATH", group=_PROCESS, per_app=True, inherited=False,
        sample="log/appsrv.log",
        shown_default="log/appsrv.PORT.log if log exists, else appsrv.PORT.log; where that cannot be written, see "
        "docs/operations.md",
        help="The server log: appsrv's own lines and the output of the application; `none` for no file: a server "
        "in the foreground prints its lines anyway.",
    )
    log_format: str | None = setting(
        None, parsers.choice(*log_format.FORMS), metavar="FORM", group=_PROCESS,
        sample="json",
        shown_default="text; plain on the terminal of runserver and flask run",
        help="How lines look in the server log and in the foreground. `text`: time, level, request, process and stream "
        "in front of each; `json`: an object a line with the same; `plain`: what the application prints as it was, "
        "stdout on stdout and stderr on stderr, and appsrv's own lines on stderr. See docs/operations.md.",
    )
    log_level: str = setting(
        "info", parsers.choice("debug", "info", "warning", "error", "critical"), metavar="LEVEL",
        group=_PROCESS,
        help="Lowest level of appsrv's own lines in the server log: debug, info, warning, error or critical. "
        "The output of the application is always written.",
    )
    label_output: bool = setting(
        True, parsers.boolean, group=_PROCESS, per_app=True,
        help="Lines that the application prints while it answers a request carry the request's id, method and path: in "
        "the server log, and on a terminal that shows colours.",
    )
    standby_preloader: bool = setting(
        True, parsers.boolean, group=_PROCESS, key_only=True,
        help="In runserver and flask run, start the next preloader ahead, with the framework loaded, so that a save is "
        "answered sooner. Costs the memory of one more process.",
    )
    access_log: str | None = setting(
        None, LOG_TARGET, metavar="PATH", group=_PROCESS, per_app=True,
        sample="log/access.log",
        shown_default="off; `-` in development, where no framework prints such lines",
        help="A line for each request: the file they are appended to, `-` for the server log, or `off`.",
    )
    access_log_format: str | None = setting(
        None, access_format.check_format, metavar="FORMAT", group=_PROCESS, per_app=True,
        sample="combined",
        shown_default="combined; json in a server log with log_format json",
        help="How these lines look: `combined`, `json`, or a text with fields, see docs/operations.md.",
    )
    stop_delay: float = setting(
        0.0, parsers.seconds(), metavar="SECONDS", group=_PROCESS,
        help="After a stop was requested (TERM, `appsrv stop`), requests are still accepted for this time, while "
        "`probe_path` answers 503, so that a load balancer can send them elsewhere. Then stop_timeout begins.",
    )
    max_pool_size: int = setting(
        6, parsers.automatic(parsers.integer(1, 1024)), metavar="NUMBER", group=_POOL, per_app=True,
        shown_default="6, or $WEB_CONCURRENCY",
        help="Most workers that run at a time. `auto`: two for each processor and one more, or one for each where a "
        "worker serves several requests at a time; of the processors, those count that the process may run on, as far "
        "as the CPU quota of its cgroup goes. Memory is not looked at: see memory_limit.",
    )
    min_instances: int = setting(
        1, parsers.integer(0, 1024), metavar="NUMBER", group=_POOL, per_app=True,
        help="Workers that are started at once and kept even when idle.",
    )
    concurrency_model: str | None = setting(
        None, parsers.choice("process", "thread", "gevent"), metavar="MODEL", group=_POOL, per_app=True,
        sample="process",
        python_only=True, shown_default="thread when threads is above 1, else process",
        help="How a worker serves several requests at a time: not at all (`process`), each in a thread (`thread`), or "
        "each in a greenlet (`gevent`: then the standard library is monkey-patched before the application is "
        "imported, and gevent has to be importable there; not for development servers).",
    )
    threads: int = setting(
        1, parsers.integer(1, 1024), metavar="NUMBER", group=_POOL, per_app=True, python_only=True,
        help="Requests a worker serves at a time, each in a thread of its own.",
    )
    max_greenlets: int = setting(
        100, parsers.integer(1, 1024), metavar="NUMBER", group=_POOL, per_app=True,
        help="Requests a worker of the concurrency model gevent serves at a time, and connections that a process of "
        "`start_command` has, WebSockets among them.",
    )
    pool_idle_time: float = setting(
        300.0, parsers.seconds(), metavar="SECONDS", group=_POOL, per_app=True,
        help="A worker without a request for this long leaves, down to the minimum; 0 keeps it.",
    )
    max_preloader_idle_time: float = setting(
        300.0, parsers.seconds(), metavar="SECONDS", group=_POOL, per_app=True,
        help="With min_instances 0: an application that has had no worker for this long is unloaded completely, and "
        "loaded again for the next request; 0 keeps its preloader.",
    )
    max_requests: int = setting(
        0, parsers.integer(0), metavar="NUMBER", group=_POOL, per_app=True,
        help="A worker is replaced after about this many requests (up to 10 % more, so that they do not all "
        "leave together); 0 means never.",
    )
    memory_limit: int = setting(
        0, parsers.size, metavar="BYTES", group=_POOL, per_app=True,
        help="A worker that uses more memory than this (PSS: shared pages are divided by the processes that share "
        "them, as in `appsrv status`) is replaced: the new worker is ready before the old one ends, and no request is "
        "interrupted. 0 means any amount.",
    )
    hard_memory_limit: int = setting(
        0, parsers.size, metavar="BYTES", group=_POOL, per_app=True,
        help="A worker that uses more memory than this is killed at once; its requests are answered 502. "
        "0 means any amount.",
    )
    start_timeout: float = setting(
        90.0, parsers.seconds(0.1), metavar="SECONDS", group=_POOL, per_app=True,
        help="The application has to be imported within this time.",
    )
    stop_timeout: float = setting(
        30.0, parsers.seconds(), metavar="SECONDS", group=_POOL, per_app=True,
        help="How long a worker that has to end may take to finish its requests before it is killed. A preloader whose "
        "last worker has ended has the same time, and at least 2 s, for the application's exit functions.",
    )
    busy_threads: str = setting(
        "cut", parsers.choice("cut", "wait"), metavar="WHAT", group=_POOL, per_app=True,
        help="How to treat threads of the application (an executor's, say) that are running when their worker has to "
        "end: at a restart, in a smaller pool, after max_requests and the like. `cut`: ordinary ones have until "
        "stop_timeout, daemon threads are dropped. `wait`: the worker ends once all of them have ended, within "
        "busy_threads_timeout. Both name them in the log. When the whole instance stops, stop_timeout applies.",
    )
    busy_threads_timeout: float = setting(
        300.0, parsers.seconds(0.1), metavar="SECONDS", group=_POOL, per_app=True,
        help="How long a worker waits for its threads with `busy_threads wait` before it is killed.",
    )
    restart_parallel: int = setting(
        1, parsers.integer(1, 1024), metavar="NUMBER", group=_POOL, per_app=True,
        help="How many workers a restart replaces at a time; as many may run beyond max_pool_size while it lasts.",
    )
    restart_file: str | None = setting(
        None, PATH, metavar="PATH", group=_POOL, per_app=True, inherited=False,
        sample="tmp/restart.txt",
        shown_default="tmp/restart.txt beside the application",
        help="Touching this file restarts the application, as `appsrv restart-app` does.",
    )
    health_path: str | None = setting(
        None, parsers.url_path, metavar="PATH", group=_POOL, per_app=True,
        sample="/health",
        help="In a restart, the first workers of the new generation answer a request for this path before they serve "
        "clients. If the status is not 2xx or 3xx, the restart fails and the previous code keeps serving. This is a "
        "path of the application; the path for load balancers is `probe_path`.",
    )
    health_host: str | None = setting(
        None, parsers.host_header, metavar="HOST", group=_POOL, per_app=True,
        sample="shop.example",
        shown_default="the address that is listened on",
        help="The Host header of that request: one that the application accepts (Django's `ALLOWED_HOSTS`).",
    )
    spawn_method: str = setting(
        "smart", parsers.choice("smart", "direct"), metavar="METHOD", group=_POOL, per_app=True, python_only=True,
        help="`smart` imports the application once and forks the workers from there, `direct` imports it in "
        "each worker.",
    )
    warm_up_path: str | None = setting(
        None, parsers.url_path, metavar="PATH", group=_POOL, per_app=True, python_only=True,
        sample="/",
        help="Before workers are forked, the application answers one request for this path. Saves memory, "
        "but a first request may start threads, which a fork does not keep.",
    )
    max_request_queue_size: int = setting(
        parsers.AUTO, parsers.automatic(parsers.integer(0)), metavar="NUMBER", group=_HTTP, per_app=True,
        sample="auto",
        shown_default="auto; 0 in runserver and flask run",
        help="Requests that may wait for a free worker; further ones are answered 503. 0 means any number; `auto`: "
        "100, or as many as the workers presently serve within a second, whichever is more.",
    )
    max_request_queue_time: float = setting(
        0.0, parsers.seconds(), metavar="SECONDS", group=_HTTP, per_app=True,
        help="A request that has waited this long for a free worker is answered 504; 0 lets it wait.",
    )
    max_request_time: float = setting(
        0.0, parsers.seconds(), metavar="SECONDS", group=_HTTP, per_app=True,
        help="A request that takes longer than this is answered 504, and its worker is replaced; the worker's stacks "
        "are logged. 0 means no limit.",
    )
    slow_request_time: float = setting(
        0.0, parsers.seconds(), metavar="SECONDS", group=_HTTP, per_app=True,
        help="A request that takes longer than this is logged once, with the stacks of its worker, and continues; "
        "0 means never.",
    )
    max_connections: int = setting(
        parsers.AUTO, parsers.automatic(parsers.integer(1)), metavar="NUMBER", group=_HTTP, shown_default="auto",
        sample="auto",
        help="Connections there may be at a time. Beyond it those idle longest are closed, and where none is idle, new "
        "clients wait. `auto`: as many as the limit of descriptors allows (ulimit -n, less an eighth).",
    )
    max_connections_per_address: int = setting(
        0, parsers.integer(0), metavar="NUMBER", group=_HTTP,
        help="Connections there may be of one address (of one /64 network of IPv6); a further one is answered 429. Not "
        "for unix sockets and the proxies in forwarded_allow_ips; 0 means any number.",
    )
    keepalive_timeout: float = setting(
        65.0, parsers.seconds(), metavar="SECONDS", group=_HTTP,
        help="How long an idle connection stays open for its next request; 0 closes it after each response.",
    )
    header_timeout: float = setting(
        10.0, parsers.seconds(0.1), metavar="SECONDS", group=_HTTP,
        shown_default="10; an hour in runserver and flask run",
        help="A request's line and headers have to arrive within this time (408 otherwise).",
    )
    body_timeout: float = setting(
        60.0, parsers.seconds(0.1), metavar="SECONDS", group=_HTTP,
        shown_default="60; an hour in runserver and flask run",
        help="Longest pause of a client while it sends a body (408) or reads a response (the connection is reset).",
    )
    min_data_rate: int = setting(
        240, parsers.integer(0), metavar="BYTES", group=_HTTP, shown_default="240; 0 in runserver and flask run",
        help="Least rate, in bytes a second, at which a client has to send a body and to read a response. A slower "
        "client uses up its body_timeout as if it paused; 0 allows any rate.",
    )
    max_request_line_size: int = setting(
        8190, parsers.size_between(64, 64 << 10), metavar="BYTES", group=_HTTP,
        shown_default="8190; 64K in runserver and flask run",
        help="Longest request line, method, target and version together (414 otherwise). At most 64K.",
    )
    max_header_field_size: int = setting(
        16 << 10, parsers.size_between(64, 64 << 10), metavar="BYTES", group=_HTTP,
        shown_default="16K; 64K in runserver and flask run",
        help="Longest header field of a request, name and value together (431 otherwise). At most 64K.",
    )
    max_header_fields: int = setting(
        100, parsers.integer(1, 10_000), metavar="NUMBER", group=_HTTP,
        help="Most header fields of a request (431 otherwise).",
    )
    max_header_size: int = setting(
        64 << 10, parsers.size_between(128, 256 << 10), metavar="BYTES", group=_HTTP,
        shown_default="64K; 256K in runserver and flask run",
        help="Largest head of a request, its line and all header fields together (431 otherwise). At most 256K.",
    )
    max_trailer_size: int = setting(
        8 << 10, parsers.size_between(2, 64 << 10), metavar="BYTES", group=_HTTP, shown_default="8K",
        help="Most bytes of fields after a chunked body (431 otherwise). They are checked and dropped. At most 64K.",
    )
    max_body_size: int = setting(
        1 << 30, parsers.size, metavar="BYTES", group=_HTTP, shown_default="1G; any size in runserver and flask run",
        help="Largest body of a request (413 otherwise): bytes, or 512K, 64M, 1G.",
    )
    request_buffering: bool = setting(
        True, parsers.boolean, group=_HTTP, per_app=True,
        help="Bodies are complete before a worker has them. Off, the process of `start_command` gets them as they "
        "come, and a slow client keeps its place in a worker; other applications always get whole bodies.",
    )
    request_buffer_memory: int = setting(
        128 << 10, parsers.size, metavar="BYTES", group=_HTTP, shown_default="128K",
        help="How much of a body that arrives slowly is kept in memory; a larger one waits in a file.",
    )
    response_buffer_memory: int = setting(
        1 << 20, parsers.size, metavar="BYTES", group=_HTTP, per_app=True, shown_default="1M",
        help="How much of a response is kept in memory for a client that reads it slowly; the rest waits in a file.",
    )
    response_buffer_size: int = setting(
        128 << 20, parsers.size, metavar="BYTES", group=_HTTP, per_app=True, shown_default="128M",
        help="How much of a response is kept at all, so that its worker need not wait for the client.",
    )
    data_buffer_dir: str | None = setting(
        None, PATH, metavar="PATH", group=_HTTP, shown_default="the system's, $TMPDIR or /tmp",
        sample="/var/tmp",
        help="Directory for the files of bodies and responses that wait. They have no names.",
    )
    ready_queue: str = setting(
        "auto", parsers.choice("auto", "portable", "epoll"), metavar="KIND", group=_HTTP,
        help="How idle connections wait: `epoll` is shared by all processes (Linux), `portable` works "
        "everywhere, `auto` takes the best one there is.",
    )

    forwarded_allow_ips: tuple[str, ...] = setting(
        ("127.0.0.0/8", "::1", "unix"), parsers.proxies, metavar="LIST", group=_HTTP, several=True,
        shown_default="127.0.0.0/8,::1,unix (this machine), or $FORWARDED_ALLOW_IPS",
        help="Proxies whose X-Forwarded-* and Forwarded fields about the client are trusted: addresses, networks, "
        "`unix` for unix sockets, `*` for every peer, `off` for none. These fields of all other peers are removed.",
    )
    underscores_in_headers: str = setting(
        "drop", parsers.choice("drop", "trusted"), metavar="WHICH", group=_HTTP,
        help="Header fields with an underscore in their names, such as `X_Token`: `drop` keeps them from the "
        "application, `trusted` lets the proxies in `forwarded_allow_ips` send them. `X-Token` always wins over "
        "`X_Token`.",
    )
    proxy_protocol: bool = setting(
        False, parsers.boolean, group=_LISTEN,
        help="Every connection has to begin with a PROXY protocol header (version 1 or 2) that names the client, and "
        "come from a proxy in `forwarded_allow_ips`; others are closed.",
    )
    request_id: bool = setting(
        True, parsers.boolean, group=_HTTP, per_app=True,
        help="Give each request an id, in the environ as `HTTP_X_REQUEST_ID`: that of a "
        "trusted proxy, else one of our own.",
    )
    probe_path: str | None = setting(
        None, parsers.probe_path, metavar="PATH", group=_HTTP,
        sample="/up",
        help="For load balancers: requests for this path, such as `/-/healthy`, are answered by appsrv, not by the "
        "application: 200 while it serves, 503 while it cannot or is about to stop (`stop_delay`). Not to be confused "
        "with `health_path`, a path of the application that appsrv requests.",
    )
    static: tuple[str, ...] | None = setting(
        None, MOUNTS, metavar="/PREFIX/=DIR", group=_FILES, per_app=True, several=True,
        sample=["/static/=static"],
        shown_default="Django's STATIC_URL and STATIC_ROOT, if files were collected there",
        help="Directories of static files to serve at these places, by WhiteNoise (`appsrv[static]`). `off`: none.",
    )

    sendfile_root: tuple[str, ...] = setting(
        (), PATHS, metavar="DIR", group=_FILES, per_app=True, several=True,
        help="Directories below which the application may name files for appsrv to send, by `X-Sendfile`. Without one "
        "the field goes through to the proxy in front.",
    )
    accel_redirect: tuple[str, ...] = setting(
        (), MOUNTS, metavar="/PREFIX/=DIR", group=_FILES, per_app=True, several=True,
        help="The same for `X-Accel-Redirect`: the directory in which a URI with this prefix is a file.",
    )

    hosts: tuple[str, ...] = setting(
        (), parsers.hosts, metavar="HOST", group=_HOSTING, per_app=True, inherited=False, several=True,
        shown_default="any",
        help="The hosts that the application is for, such as `shop.example` or `*.shop.example`; requests to others "
        "are answered 404, or go to another application.",
    )
    base_uri: str = setting(
        "", parsers.base_uri, metavar="PATH", group=_HOSTING, per_app=True, inherited=False, shown_default="/",
        sample="/shop",
        help="The path below which the application is, such as `/shop`. It gets it as SCRIPT_NAME.",
    )
    apps_directory: str | None = setting(
        None, PATH, metavar="DIR", group=_HOSTING,
        sample="/srv/apps",
        help="Serve each application found in a directory of this one, now and as they come and go. "
        "See docs/hosting.md.",
    )

    @property
    def concurrency(self) -> int:
        """The number of requests that a worker serves at a time."""
        return self.max_greenlets if self.model == "gevent" else self.threads

    @property
    def access_format(self) -> str:
        """The format of the access log."""
        in_json = self.log_format == "json" and self.access_log in (None, "-")
        return self.access_log_format or ("json" if in_json else "combined")

    def access_log_path(self, *, framework: bool) -> str | None:
        """The destination of the access log: a path, `-` for the server log, None for no access log.

        In development it is written by default, unless a framework's own command (`framework`) prints such lines.
        """
        if self.access_log is None:
            return "-" if self.environment == "development" and not framework else None
        return None if self.access_log == "off" else self.access_log

    @property
    def buffers_bodies(self) -> bool:
        """Whether a worker gets a request only when its body is complete."""
        return self.request_buffering or self.start_command is None

    @property
    def counts_requests(self) -> bool:
        """Whether workers count requests one by one."""
        return self.request_metrics or self.metrics_port is not None

    @property
    def model(self) -> str:
        """The concurrency model: as set, or `thread` if `threads` is above 1, else `process`.

        The proxy of a `start_command` uses greenlets, because it spends its time waiting for the upstream.
        """
        if self.start_command:
            return "gevent"
        return self.concurrency_model or ("thread" if self.threads > 1 else "process")

    def to_json(self) -> dict[str, Any]:
        """A JSON object for another process of this instance; `from_json` makes an equal object of it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Settings:
        lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        return cls(**{**fields, **lists})


ROWS: tuple[SettingRow, ...] = tuple(
    SettingRow(name=column.name, default=column.default, **column.metadata)
    for column in dataclasses.fields(Settings)
)
