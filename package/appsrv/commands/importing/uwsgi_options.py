"""The options of uWSGI that sites commonly use, and what becomes of each. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from appsrv.commands.importing import counterparts as c
from appsrv.commands.importing.counterparts import Rule, no, to, to_number, to_text
from appsrv.commands.importing.directives import ByProcessors, Context, Directive
from appsrv.commands.importing.outcome import Assigned, Item, Items, Remark

# Other names of an option.
ALIASES: Mapping[str, str] = {
    "workers": "processes", "wsgi": "module", "virtualenv": "home", "venv": "home", "pyhome": "home",
    "chmod": "chmod-socket", "python-path": "pythonpath", "pp": "pythonpath", "uwsgi-socket": "socket",
    "py-auto-reload": "py-autoreload", "python-auto-reload": "py-autoreload", "python-autoreload": "py-autoreload",
    "fileserve-mode": "file-serve-mode", "file": "wsgi-file", "lazy": "lazy-apps", "plugin": "plugins",
    "stats-server": "stats", "socket-protocol": "protocol", "offload-thread": "offload-threads",
    "logformat": "log-format", "logger-req": "req-logger", "mules": "mule", "worker-reload-mercy": "reload-mercy",
    "threads-stack-size": "thread-stacksize", "smart-attach-daemon2": "attach-daemon",
    "smart-attach-daemon": "attach-daemon", "attach-daemon2": "attach-daemon", "cron2": "cron",
    "unique-cron": "cron", "touch-workers-reload": "touch-reload", "touch-chain-reload": "touch-reload",
    "subscribe": "subscribe-to", "subscribe2": "subscribe-to", "cache": "cache2", "python-import": "import",
    "pyimport": "import", "py-import": "import", "shared-import": "import", "static-check": "check-static",
    "logto2": "logto", "daemonize2": "daemonize", "safe-pidfile": "pidfile", "pidfile2": "pidfile",
    "xmlconfig": "xml", "ns": "namespace", "socket-write-timeout": "so-send-timeout",
    "socket-send-timeout": "so-send-timeout", "tcp-fastopen": "tcp-fast-open", "paste": "ini-paste",
    "ini-paste-logged": "ini-paste", "https2": "https", "wsgi-lite": "web3",
    "inherit": "include", "config": "include", "ini": "include",
}  # fmt: skip

SHORT: Mapping[str, str] = {
    "-s": "socket", "-p": "processes", "-t": "harakiri", "-x": "xml", "-S": "set", "-d": "daemonize", "-l": "listen",
    "-v": "max-vars", "-b": "buffer-size", "-m": "memory-report", "-C": "chmod-socket", "-T": "enable-threads",
    "-i": "single-interpreter", "-M": "master", "-R": "max-requests", "-z": "socket-timeout", "-Q": "spooler",
    "-L": "disable-logging", "-y": "yaml", "-j": "json", "-w": "module", "-H": "home", "-O": "optimize",
}  # fmt: skip

# On the command line these take no value.
_SWITCH_NAMES = """
    master enable-threads vacuum single-interpreter lazy-apps need-app die-on-term thunder-lock disable-logging
    memory-report strict auto-procname no-orphans manage-script-name no-default-app log-master log-4xx log-5xx log-zero
    log-date log-x-forwarded-for enable-metrics http-keepalive http-auto-chunked http-chunked-input http-websockets
    http-raw-body enable-proxy-protocol http-enable-proxy-protocol reuse-port so-keepalive tcp-nodelay abstract-socket
    harakiri-verbose ignore-sigpipe ignore-write-errors disable-write-exception wsgi-disable-file-wrapper
    gevent-monkey-patch gevent-early-monkey-patch cheap die-on-idle catch-exceptions py-call-osafterfork
    no-threads-wait skip-atexit master-as-root honour-stdin log-reopen tcp-fast-open-client vhost threaded-logger
    ksm close-on-exec never-swap no-defer-accept wsgi-manage-chunked-input
    show-config freebind ugreen http-auto-gzip static-gzip-all log-micros exit-on-reload stats-http emperor-tyrant
"""
SWITCHES = frozenset(_SWITCH_NAMES.split())

_PROXY = "appsrv speaks HTTP: nginx needs proxy_pass in place of uwsgi_pass; appsrv config nginx prints it."
_ROUTING = "Routing, headers and access rules belong into the web server (appsrv config nginx) or the application."
_TASKS = "appsrv runs no tasks: use a task queue, cron or a timer of systemd, and a program of their own."
_DAEMONS = "appsrv starts no other programs: give each a unit of systemd."
_CACHE = "appsrv has no cache for applications: use Django's or Flask's with Redis, Memcached or files."
_EMPEROR = "appsrv serves several applications by [[apps]] or apps_directory: see docs/hosting.md."
_NOTHING = "Nothing is needed"
_STATSD = "metrics_port has the figures for Prometheus (docs/monitoring.md)."
_CGROUP = "Set it in the unit of systemd, or in the container."
_ROTATION = "`appsrv config logrotate` prints a configuration for logrotate."
_FORMAT = "appsrv has gunicorn's fields, such as %(h)s, and the formats combined and json: see access_log_format."


def _socket(directive: Directive, context: Context) -> Items:
    items: list[Item] = [c.listen(directive.text)]
    if str(context.get("protocol", "uwsgi")) != "http":
        items.append(Remark(f"uWSGI speaks its own protocol there. {_PROXY}"))
    return items


def _http(directive: Directive, _: Context) -> Items:
    return (c.listen(directive.text),)


def _https(directive: Directive, context: Context) -> Items:
    address, *files = directive.text.split(",")
    parsed = c.parse_address(address)
    if isinstance(parsed, str) or not files:
        return (Remark(f"The counterparts are ssl_port, ssl_certificate and ssl_certificate_key: {parsed}"),)
    plain = any(context.has(name) for name in ("http", "http-socket", "socket"))
    renamed = {"address": "ssl_address", "port": "ssl_port"} if plain else {}
    items: list[Item] = [Assigned(renamed.get(one.key, one.key), one.value) for one in parsed]
    names = ("ssl_certificate", "ssl_certificate_key")
    items += [Assigned(name, file) for name, file in zip(names, files, strict=False) if file]
    if files[2:]:
        items.append(Remark("Ciphers and certificates of clients: let a web server speak TLS where they are needed."))
    return items


def _module(directive: Directive, context: Context) -> Items:
    target, name = directive.text, str(context.get("callable", "")).strip()
    return (Assigned("app", target if ":" in target or not name else f"{target}:{name}"),)


def _callable(directive: Directive, context: Context) -> Items:
    named = any(context.has(name) for name in ("module", "wsgi-file", "mount"))
    return (Remark("Part of app." if named else f"Write app = \"MODULE:{directive.text}\"."),)


def _mount(directive: Directive, context: Context) -> Items:
    path, __, target = directive.text.partition("=")
    name = str(context.get("callable", "")).strip()
    target = target if ":" in target or not name else f"{target}:{name}"
    items: list[Item] = [Assigned("app", target)]
    if path.strip("/"):
        items.append(Assigned("base_uri", path))
    others = [one for one in context.directives if one.name == "mount"]
    if len(others) > 1:
        return (Remark(f"One of {len(others)} applications: give each an entry of [[apps]] with base_uri = "
                       f'"{path or "/"}", see docs/hosting.md.'),)  # fmt: skip
    return items


def _processes(directive: Directive, context: Context) -> Items:
    if not isinstance(directive.value, ByProcessors) and context.has("cheaper"):
        return (Assigned("max_pool_size", c.number(directive.value)),)
    return c.fixed_workers(directive, context)


def _gevent(directive: Directive, _: Context) -> Items:
    return (Assigned("concurrency_model", "gevent"), Assigned("max_greenlets", c.number(directive.value)))


def _threads(directive: Directive, context: Context) -> Items:
    if context.has("gevent"):
        return (Remark("With gevent the workers use greenlets, not threads."),)
    return (Assigned("threads", c.number(directive.value)),)


def _static_map(directive: Directive, _: Context) -> Items:
    prefix, __, place = directive.text.partition("=")
    if directive.name == "check-static":
        prefix, place = "", directive.text
    elif directive.name == "static-map2":
        # The prefix is part of the path below the directory.
        place = f"{place.rstrip('/')}/{prefix.strip('/')}"
    return (
        Assigned("static", [f"{prefix.rstrip('/')}/={place}"]),
        Remark("It needs `pip install 'appsrv[static]'`; Django's collected static files need no setting."),
    )


def _chmod(directive: Directive, _: Context) -> Items:
    plain = directive.text
    return (Assigned("socket_mode", plain if plain and plain.lower() != "true" else "666"),)


def _chown(directive: Directive, _: Context) -> Items:
    user, __, group = directive.text.partition(":")
    return tuple(Assigned(key, value) for key, value in (("socket_user", user), ("socket_group", group)) if value)


def _log(directive: Directive, _: Context) -> Items:
    daemon = [Assigned("daemonize", True)] if directive.name == "daemonize" else []
    target = directive.text.removeprefix("file:")
    if not target or target.lower() == "true" or ":" in target or target == "/dev/stdout":
        return (*daemon, Remark("The server log is a file (log_file), and in the foreground the output, too."))
    return (*daemon, Assigned("log_file", target.partition(",")[0].removeprefix("logfile=")))


def _request_log(directive: Directive, _: Context) -> Items:
    target = directive.text.removeprefix("file:").partition(",")[0].removeprefix("logfile=")
    return (Assigned("access_log", "-" if ":" in target or target.startswith(("/dev/std", "stdio")) else target),)


def _no_log(directive: Directive, _: Context) -> Items:
    return (Assigned("access_log", "off" if c.truth(directive.value) else "-"),)


def _buffer_size(directive: Directive, _: Context) -> Items:
    size = c.number(directive.value)
    if size <= 65536:
        return (Remark("Nothing is needed: appsrv takes a request's head of up to 64 KiB (max_header_size)."),)
    return (Assigned("max_header_size", size),)


def _environment(directive: Directive, _: Context) -> Items:
    return c.environment(c.pairs_of(directive.value), directive.place or "the command line")


def _http_keepalive(directive: Directive, _: Context) -> Items:
    if directive.text.isdigit() and int(directive.text) > 1:
        return (Assigned("keepalive_timeout", int(directive.text)),)
    return (Remark("Nothing is needed: appsrv keeps connections open, see keepalive_timeout."),)


def _chdir(directive: Directive, _: Context) -> Items:
    return (Remark(f"appsrv.toml belongs into that directory, {directive.text}: paths in it are relative to it."),)


def _include(directive: Directive, _: Context) -> Items:
    return (Remark(f"Not read: it includes {directive.text}; give that file to appsrv import, too."),)


_USER = "appsrv has to be started as root for it, or as that user. In a systemd unit use User= and Group=."

RULES: dict[str, Rule] = {
    # where to listen
    "http": Rule(_http, ("address", "port")),
    "http-socket": Rule(_http, ("address", "port")),
    "http11-socket": Rule(_http, ("address", "port")),
    "https": Rule(_https, ("ssl_port", "ssl_certificate")),
    "https-socket": Rule(_https, ("ssl_port", "ssl_certificate")),
    "socket": Rule(_socket, ("socket",)),
    "protocol": no("appsrv speaks HTTP."),
    "fastcgi-socket": no(f"appsrv speaks no FastCGI. {_PROXY}"),
    "scgi-socket": no(f"appsrv speaks no SCGI. {_PROXY}"),
    "shared-socket": no("For ports below 1024 start appsrv as root with user, or let systemd hold the socket."),
    "chmod-socket": Rule(_chmod, ("socket_mode",)),
    "chown-socket": Rule(_chown, ("socket_user", "socket_group")),
    "listen": no("appsrv asks for 2048; the kernel's limit, net.core.somaxconn, decides."),
    "enable-proxy-protocol": to("proxy_protocol", "", c.truth),
    "http-enable-proxy-protocol": to("proxy_protocol", "", c.truth),
    "abstract-socket": no("appsrv has no abstract unix sockets: name a path."),
    **dict.fromkeys(
        ("reuse-port", "so-keepalive", "tcp-nodelay", "tcp-fast-open", "freebind", "no-defer-accept", "map-socket"),
        no("appsrv sets the options of its sockets by itself."),
    ),
    # the application
    "module": Rule(_module, ("app",)),
    "wsgi-file": Rule(_module, ("app",)),
    "callable": Rule(_callable, ("app",)),
    "mount": Rule(_mount, ("base_uri", "app")),
    "manage-script-name": no(f"{_NOTHING}: with base_uri the application gets SCRIPT_NAME."),
    "no-default-app": no("With hosts and base_uri, requests for other places are answered 404."),
    "chdir": Rule(_chdir),
    "chdir2": Rule(_chdir),
    "home": no("Install appsrv into that virtual environment, and start the appsrv of its bin directory."),
    "pythonpath": no("Start appsrv with PYTHONPATH in its environment; the application's directory is on the path."),
    "env": Rule(_environment),
    "envdir": no("appsrv reads the file .env beside the application: write the variables there (mode 600)."),
    "ini-paste": no("Write a wsgi.py with paste.deploy's loadapp, and name it as app."),
    "need-app": no(f"{_NOTHING}: without an application that can be imported appsrv does not start."),
    "import": no("Import that module in the application. appsrv.hooks.after_fork runs code in each worker."),
    "pyargv": no("appsrv sets no sys.argv: use a variable in .env."),
    "py-autoreload": no("For development: flask run or manage.py runserver. In production: appsrv restart-app."),
    "lazy-apps": to("spawn_method", "Each worker imports the application, which costs memory.",
                    lambda value: "direct" if c.truth(value) else "smart"),
    "single-interpreter": no(f"{_NOTHING}: each worker has one interpreter."),
    "enable-threads": no(f"{_NOTHING}: threads of the application run."),
    "web3": no("appsrv serves WSGI applications."),
    "optimize": no("Start appsrv with python -O -m appsrv start."),
    "catch-exceptions": no('environment = "development" shows tracebacks in the browser. Never do so in production.'),
    "py-call-osafterfork": no(f"{_NOTHING}: appsrv forks with os.fork."),
    # workers
    "processes": Rule(c.numeric(_processes), ("max_pool_size",)),
    "cheaper": to_number("min_instances"),
    "cheaper-initial": no("appsrv starts min_instances workers, and more as requests wait for them."),
    "cheaper-step": no("appsrv starts one worker for each request that waits, up to max_pool_size."),
    "cheaper-algo": no("appsrv's pool grows as requests wait and shrinks after pool_idle_time."),
    "cheaper-overload": no("appsrv's pool grows as requests wait and shrinks after pool_idle_time."),
    "cheaper-idle": to_number("pool_idle_time"),
    "cheaper-rss-limit-soft": no("See memory_limit for each worker, and max_pool_size."),
    "cheap": no("With min_instances = 0 there is no worker until a request comes."),
    "idle": no("With min_instances = 0 and max_preloader_idle_time an idle application has no process."),
    "die-on-idle": no("With min_instances = 0 an idle application has no process; appsrv itself stays."),
    "threads": Rule(c.numeric(_threads), ("threads",)),
    "thread-stacksize": no("Call threading.stack_size() where the application starts threads."),
    "gevent": Rule(c.numeric(_gevent), ("concurrency_model", "max_greenlets")),
    "gevent-monkey-patch": no(f'{_NOTHING}: concurrency_model = "gevent" patches before the application is imported.'),
    "gevent-early-monkey-patch": no(f'{_NOTHING}: concurrency_model = "gevent" patches before the import.'),
    "async": no('appsrv has threads, and greenlets with concurrency_model = "gevent".'),
    "asyncio": no("An ASGI application: start_command, see docs/generic.md."),
    "ugreen": no('appsrv has greenlets with concurrency_model = "gevent".'),
    "max-requests": to_number("max_requests"),
    "max-requests-delta": no("appsrv adds up to 10 % to max_requests by itself."),
    "max-worker-lifetime": no("appsrv replaces workers by max_requests or memory_limit, not by age."),
    "min-worker-lifetime": no(f"{_NOTHING}: appsrv slows down by itself where workers end at once."),
    "reload-on-rss": to("memory_limit", "", c.megabytes),
    "evil-reload-on-rss": to("hard_memory_limit", "The worker is killed, and its requests are answered 502.",
                             c.megabytes),
    "reload-on-as": no("appsrv counts a worker's own share of memory, not its address space: see memory_limit."),
    "limit-as": no(f"{_CGROUP} See hard_memory_limit, too."),
    "harakiri": to("max_request_time", "uWSGI kills the worker; appsrv answers 504, logs where it was, and replaces "
                   "the worker.", c.number),
    "harakiri-verbose": no(f"{_NOTHING}: the log has the stacks of the worker."),
    "reload-mercy": to_number("stop_timeout"),
    "no-threads-wait": no('That is busy_threads = "cut", the default.'),
    "cpu-affinity": no(_CGROUP),
    "prio": no("Nice= in the unit of systemd."),
    "thunder-lock": no(f"{_NOTHING}: the kernel gives each request to one worker."),
    "worker-exec": no("appsrv.hooks.after_fork runs code in each worker."),
    # requests
    "buffer-size": Rule(c.numeric(_buffer_size), ("max_header_size",)),
    "max-vars": to_number("max_header_fields"),
    "limit-post": to_number("max_body_size"),
    "post-buffering": no(f"{_NOTHING}: bodies are complete before a worker has them, large ones in a file."),
    "post-buffering-bufsize": no("See request_buffer_memory."),
    "socket-timeout": to_number("body_timeout"),
    "so-send-timeout": to_number("body_timeout"),
    "http-timeout": no("Limits are body_timeout (for clients) and max_request_time (for the application)."),
    "http-headers-timeout": to_number("header_timeout"),
    "http-connect-timeout": no(f"{_NOTHING}: there is no connection to the workers."),
    "http-keepalive": Rule(_http_keepalive, ("keepalive_timeout",)),
    "http-processes": no("appsrv's front end is one process, which hands connections to the workers."),
    "http-auto-chunked": no(f"{_NOTHING}: responses without a length are chunked."),
    "http-auto-gzip": no("appsrv compresses nothing: let nginx or a middleware do it."),
    "http-chunked-input": no(f"{_NOTHING}: chunked bodies are read, and the application gets them whole."),
    "wsgi-manage-chunked-input": no(f"{_NOTHING}: chunked bodies are read."),
    "http-raw-body": no(f"{_NOTHING}: chunked bodies are read, and the application gets them whole."),
    "http-websockets": no("A WSGI application has no WebSockets; with start_command appsrv relays them."),
    "http-to": no("appsrv's front end serves its own workers only."),
    "http-to-https": no("Redirect in the application (Django: SECURE_SSL_REDIRECT), or in the web server."),
    "http-buffer-size": no("See response_buffer_memory and max_header_size."),
    "offload-threads": no(f"{_NOTHING}: files and slow clients never hold a worker."),
    "file-serve-mode": no("See sendfile_root and accel_redirect: appsrv sends files that the application names."),
    "wsgi-disable-file-wrapper": no("An application that returns no file_wrapper needs no setting."),
    "ignore-sigpipe": no(f"{_NOTHING}: a client that leaves raises no error in the application."),
    "ignore-write-errors": no(f"{_NOTHING}: a client that leaves raises no error in the application."),
    "disable-write-exception": no(f"{_NOTHING}: a client that leaves raises no error in the application."),
    # files
    "static-map": Rule(_static_map, ("static",)),
    "static-map2": Rule(_static_map, ("static",)),
    "check-static": Rule(_static_map, ("static",)),
    "static-index": no("appsrv serves no index.html for a directory."),
    "static-expires": no("appsrv sends Cache-Control by itself: ten years for names with a hash, else 60 s."),
    "static-expires-uri": no("appsrv sends Cache-Control by itself: ten years for names with a hash, else 60 s."),
    "static-gzip-all": no(f"{_NOTHING}: FILE.gz and FILE.br beside a file are sent to clients that accept them."),
    "static-safe": no(f"{_NOTHING}: links are followed."),
    # processes, logs
    "master": no(f"{_NOTHING}: the watchdog supervises the other processes."),
    "daemonize": Rule(_log, ("daemonize", "log_file")),
    "logto": Rule(_log, ("log_file",)),
    "logger": Rule(_log, ("log_file",)),
    "req-logger": Rule(_request_log, ("access_log",)),
    "disable-logging": Rule(_no_log, ("access_log",)),
    "log-format": no(f"Not converted. {_FORMAT}"),
    "log-encoder": no('See log_format = "json" and access_log_format.'),
    "log-maxsize": no(_ROTATION),
    "log-backupname": no(_ROTATION),
    "log-reopen": no(f"appsrv reopen-logs does it. {_ROTATION}"),
    "touch-logreopen": no(f"appsrv reopen-logs does it. {_ROTATION}"),
    "log-date": no(f"{_NOTHING}: each line has its time."),
    **dict.fromkeys(
        ("log-4xx", "log-5xx", "log-slow", "log-zero", "log-big", "log-x-forwarded-for", "log-micros"),
        no("The access log has all requests (access_log); slow_request_time logs slow ones with their stacks."),
    ),
    "log-master": no(f"{_NOTHING}: the watchdog writes the log."),
    "log-syslog": no("Under systemd the journal has the server log (log_file = none); syslog can read it there."),
    "logfile-chown": no(f"{_NOTHING}: with user, the logs are that user's."),
    "threaded-logger": no(f"{_NOTHING}: the watchdog writes the log."),
    "pidfile": to_text("pid_file", "It holds the watchdog's pid. appsrv stop and status find the server without it."),
    "uid": to_text("user", _USER),
    "gid": to_text("group", _USER),
    "umask": no("Set it where appsrv is started (UMask= in the unit). socket_mode is the mode of a unix socket."),
    "vacuum": no(f"{_NOTHING}: appsrv removes its socket and pid file when it ends."),
    "die-on-term": no(f"{_NOTHING}: TERM stops appsrv."),
    "no-orphans": no(f"{_NOTHING}: workers end when the server does."),
    "exit-on-reload": no(f"{_NOTHING}: appsrv restart-app renews the workers."),
    "touch-reload": to_text("restart_file"),
    "auto-procname": no("ps shows appsrv's processes with the directory of the application."),
    "procname": no("ps shows appsrv's processes with the directory of the application."),
    "procname-prefix": no("ps shows appsrv's processes with the directory of the application."),
    "procname-prefix-spaced": no("ps shows appsrv's processes with the directory of the application."),
    "stats": no(f"appsrv status --json tells the same. {_STATSD}"),
    "stats-http": no(f"appsrv status --json tells the same. {_STATSD}"),
    "memory-report": no("appsrv status shows the memory of each worker."),
    **dict.fromkeys(("enable-metrics", "metric", "carbon", "stats-push", "metrics-dir"), no(_STATSD)),
    "max-fd": no("LimitNOFILE= in the unit, or ulimit -n."),
    "show-config": no("appsrv check prints all settings, each with its origin."),
    "strict": no(f"{_NOTHING}: an unknown setting is an error."),
    "plugins": no(f"{_NOTHING}: appsrv has no plugins."),
    "plugins-dir": no(f"{_NOTHING}: appsrv has no plugins."),
    "master-fifo": no("appsrv stop, restart-app, status and reopen-logs are commands."),
    "skip-atexit": no("appsrv runs the application's exit functions; os._exit skips them."),
    "locks": no("Use multiprocessing.Lock, made at import, or a lock of the database."),
    "master-as-root": no(f"{_NOTHING}: with user, the watchdog stays root."),
    # other features
    **dict.fromkeys(("mule", "spooler", "cron", "timer", "signal", "spooler-processes", "mule-harakiri"), no(_TASKS)),
    **dict.fromkeys(("attach-daemon", "zerg", "legion", "farm"), no(_DAEMONS)),
    **dict.fromkeys(("cache2", "queue", "sharedarea"), no(_CACHE)),
    **dict.fromkeys(("emperor", "vassal-set", "vhost", "subscribe-to", "fastrouter", "emperor-tyrant"), no(_EMPEROR)),
    **dict.fromkeys(("add-header", "route", "route-uri", "route-if", "route-host", "route-run", "del-header"),
                    no(_ROUTING)),
    **dict.fromkeys(("error-page-403", "error-page-404", "error-page-500"), no(_ROUTING)),
    **dict.fromkeys(
        ("hook-asap", "exec-asap", "exec-pre-app", "exec-post-app", "hook-pre-app", "hook-post-app"),
        no("Run it before appsrv start (ExecStartPre= in the unit), or in appsrv.hooks.before_fork."),
    ),
    "hook-post-fork": no("The counterpart is appsrv.hooks.after_fork in the application."),
    "hook-as-user-atexit": no("ExecStopPost= in the unit, or appsrv.hooks.worker_exit."),
    **dict.fromkeys(("cgroup", "namespace", "chroot", "limit-nproc", "unshare", "cap", "pivot-root"), no(_CGROUP)),
    **dict.fromkeys(("include",), Rule(_include)),
    **dict.fromkeys(("xml", "yaml", "json"), no("Not read: turn that file into an .ini, and import that.")),
}  # fmt: skip


def defaults(context: Context) -> list[str]:
    """Defaults of uWSGI that appsrv does not share, for what the source leaves open."""
    found = []
    if not context.has("processes"):
        found.append(
            "processes: uWSGI has 1. appsrv has 1 to 6, as many as requests need. For one only: max_pool_size = 1."
        )
    if not any(context.has(name) for name in ("disable-logging", "req-logger")):
        found.append('disable-logging: uWSGI logs each request. appsrv does with access_log = "-".')
    return found
