"""The settings of gunicorn, all of them, and what becomes of each. Pure."""

from __future__ import annotations

import shlex

from appsrv.commands.importing import counterparts as c
from appsrv.commands.importing.counterparts import Rule, no, to_number, to_switch, to_text
from appsrv.commands.importing.directives import Context, Directive
from appsrv.commands.importing.outcome import Assigned, Item, Items, Remark

_HOOKS = "Hooks of gunicorn's master have no counterpart in the application"
_HTTP2 = "appsrv speaks HTTP/1.1: for HTTP/2 put a web server in front (appsrv config nginx)."
_ASGI = "An option for ASGI: it belongs to the ASGI server in start_command, see docs/generic.md."
_DIRTY = "appsrv has no such processes: run long tasks in a task queue or a program of their own."
_PARSER = "appsrv parses requests as RFC 9112 says, and cannot be told to accept less strict ones."
_CONTROL = "appsrv's admin socket is in its run directory, for its own user: appsrv status, top, restart-app, stop."
_LOGGING = "The application configures logging itself; appsrv writes whatever it prints into the server log."
_SYSLOG = "Under systemd the journal has the server log (log_file = none); syslog can read it there."
_STATSD = "appsrv sends nothing to StatsD: metrics_port has the figures for Prometheus (docs/monitoring.md)."
_TLS = "appsrv uses the defaults of Python's ssl module. Where that is not enough, let a web server speak TLS."
_CLIENT_CERTIFICATES = "appsrv asks clients for no certificate: let a web server check them (appsrv config nginx)."

# The last part of a worker class, or its short name.
_ASGI_CLASSES = ("asgi", "uvicornworker", "uvicornh11worker", "restartableuvicornworker")


def worker_model(context: Context) -> str:
    """How gunicorn's workers serve requests with these settings: `sync`, `gthread`, `gevent`, `asgi` or another."""
    given = str(context.get("worker_class", "sync")).lower().rsplit(".", 1)[-1]
    if given in _ASGI_CLASSES or "asgi" in given:
        return "asgi"
    if given.startswith(("gevent", "geventpywsgi", "geventworker")):
        return "gevent"
    if given in ("gthread", "threadworker") or (given in ("sync", "syncworker") and _threads(context) > 1):
        return "gthread"
    return "sync" if given in ("sync", "syncworker") else given


def _threads(context: Context) -> int:
    try:
        return c.number(context.get("threads", 1))
    except ValueError:
        return 1


def _application(directive: Directive, context: Context) -> Items:
    target = directive.text
    if worker_model(context) == "asgi":
        return asgi_command(target)
    if target.startswith("paste:") or target.endswith(".ini"):
        return _paste(directive, context)
    return (Assigned("app", target),)


def asgi_command(target: str) -> Items:
    """A `start_command` for an ASGI application."""
    return (
        Assigned("start_command", f"uvicorn {shlex.quote(target)} --uds $SOCKET --forwarded-allow-ips '*'"),
        Remark("An ASGI application: appsrv starts its server as a start_command, one process for each worker."),
    )


def _paste(directive: Directive, _: Context) -> Items:
    return (
        Remark(
            "appsrv reads no PasteDeploy file: write a wsgi.py with `from paste.deploy import loadapp` and "
            f'`application = loadapp("config:{directive.text.removeprefix("paste:")}", relative_to=".")`, and name '
            "it as app."
        ),
    )


def _bind(directive: Directive, _: Context) -> Items:
    given = directive.value if isinstance(directive.value, (list, tuple)) else directive.text.split(",")
    return [c.listen(str(one)) for one in given if str(one).strip()]


def _worker_class(directive: Directive, context: Context) -> Items:
    model = worker_model(context)
    if model == "gevent":
        items: list[Item] = [Assigned("concurrency_model", "gevent")]
        if not context.has("worker_connections"):
            items += [Assigned("max_greenlets", 1000), Remark("gunicorn's default of worker_connections.")]
        return items
    if model == "asgi":
        command = "uvicorn MODULE:APPLICATION --uds $SOCKET --forwarded-allow-ips '*'"
        hint = "see start_command" if context.has("wsgi_app") else f'write start_command = "{command}"'
        return (Remark(f"An ASGI application needs a server for ASGI: {hint} (docs/generic.md)."),)
    if model == "gthread":
        return (Remark("appsrv's workers have threads where threads is above 1; nothing else is needed."),)
    if model == "sync":
        return (Remark("Nothing is needed: one request at a time is appsrv's default."),)
    return (
        Remark(
            f"appsrv has no workers of the class {directive.text}. Threads: threads = 8; greenlets: "
            'concurrency_model = "gevent"; an application that is not WSGI: start_command, see docs/generic.md.'
        ),
    )


def _thread_count(directive: Directive, context: Context) -> Items:
    if worker_model(context) not in ("sync", "gthread"):
        return (Remark("gunicorn's workers of this class do not use it, and neither does appsrv."),)
    return (Assigned("threads", c.number(directive.value)),)


def _connections(directive: Directive, context: Context) -> Items:
    if worker_model(context) in ("gevent", "asgi"):
        return (Assigned("max_greenlets", c.number(directive.value)),)
    return (Remark("appsrv's front end holds the connections, not the workers: see max_connections."),)


def _timeout(directive: Directive, context: Context) -> Items:
    seconds = c.number(directive.value)
    if not seconds:
        return (Remark("Nothing is needed: appsrv has no limit unless max_request_time is set."),)
    if worker_model(context) == "sync":
        return (
            Assigned("max_request_time", seconds),
            Remark("gunicorn kills the worker and drops the client; appsrv answers 504, and logs where it was."),
        )
    return (
        Remark(
            "Workers of this class only have to give a sign of life within that time; requests may take longer. "
            f"appsrv watches its workers without a setting. A limit for requests is max_request_time = {seconds}."
        ),
    )


def _keepalive(directive: Directive, context: Context) -> Items:
    if worker_model(context) == "sync":
        return (Remark("gunicorn's sync workers keep no connection open. appsrv does, see keepalive_timeout."),)
    return (
        Assigned("keepalive_timeout", c.number(directive.value)),
        Remark("An idle connection costs appsrv no worker: its default of 65 s is above that of most proxies."),
    )


def _or_most(most: str) -> c.Make:
    def make(directive: Directive, _: Context) -> Items:
        size = c.number(directive.value)
        key = "max_request_line_size" if directive.name == "limit_request_line" else "max_header_field_size"
        items: list[Item] = [Assigned(key, size or most)]
        return items if size else [*items, Remark(f"gunicorn has no limit with 0; appsrv's highest is {most}.")]

    return make


def _preload(directive: Directive, _: Context) -> Items:
    if c.truth(directive.value):
        return (Remark("Nothing is needed: appsrv imports the application once and forks the workers."),)
    return (Assigned("spawn_method", "direct"),)


def _error_log(directive: Directive, _: Context) -> Items:
    if directive.value in ("-", None, ""):
        return (Remark(
            'In the foreground appsrv prints the server log and writes log_file; log_file = "none" leaves the file out.'
        ),)  # fmt: skip
    return (
        Assigned("log_file", directive.text),
        Remark("appsrv's own lines and whatever the application prints; `appsrv config logrotate` rotates it."),
    )


def _access_log(directive: Directive, _: Context) -> Items:
    return (Assigned("access_log", directive.text if directive.value else "off"),)


def _log_level(directive: Directive, _: Context) -> Items:
    return (
        Assigned("log_level", directive.text.lower()),
        Remark("It holds for appsrv's own lines; what the application prints is always written."),
    )


def _user(key: str) -> Rule:
    def make(directive: Directive, _: Context) -> Items:
        return (
            Assigned(key, directive.text),
            Remark("appsrv has to be started as root for it, or as that user. In a systemd unit use User= and Group=."),
        )

    return Rule(make, (key,))


def _environment(directive: Directive, _: Context) -> Items:
    return c.environment(c.pairs_of(directive.value), directive.place or "the command line")


def _proxies(directive: Directive, _: Context) -> Items:
    given = directive.value
    text = ",".join(str(one) for one in given) if isinstance(given, (list, tuple)) else str(given or "off")
    items: list[Item] = [Assigned("forwarded_allow_ips", text)]
    if text.strip() == "*":
        items.append(Remark("* believes every client that connects: name the proxies where others can connect, too."))
    return items


def _proxy_protocol(directive: Directive, _: Context) -> Items:
    on = directive.text.lower() not in ("off", "false", "none", "0")
    return (
        Assigned("proxy_protocol", on),
        Remark("Each connection has to begin with a PROXY header, of version 1 or 2, from a proxy in "
               "forwarded_allow_ips."),
    )  # fmt: skip


def _protocol(directive: Directive, _: Context) -> Items:
    if directive.text.lower() == "http":
        return (Remark("Nothing is needed: appsrv speaks HTTP."),)
    return (Remark(f"{c.HTTP_ONLY}: let the web server use HTTP (nginx: proxy_pass), as appsrv config nginx prints."),)


def _header_map(directive: Directive, _: Context) -> Items:
    if directive.text == "dangerous":
        return (
            Assigned("underscores_in_headers", "trusted"),
            Remark("appsrv accepts names with underscores from the proxies in forwarded_allow_ips only."),
        )
    return (
        Assigned("underscores_in_headers", "drop"),
        *([Remark("appsrv drops such fields and answers the request.")] if directive.text == "refuse" else []),
    )


def _root_path(directive: Directive, _: Context) -> Items:
    if not directive.text:
        return (Remark("Nothing is needed: appsrv serves the application at /."),)
    return (Assigned("base_uri", directive.text),)


def _chdir(directive: Directive, _: Context) -> Items:
    return (Remark(f"appsrv.toml belongs into that directory, {directive.text}: paths in it are relative to it."),)


RULES: dict[str, Rule] = {
    "config": no("That file is part of what is read here."),
    "wsgi_app": Rule(_application, ("app",)),
    "bind": Rule(_bind, ("address", "port")),
    "backlog": no("appsrv asks for 2048; the kernel's limit, net.core.somaxconn, decides."),
    "workers": Rule(c.numeric(c.fixed_workers), ("max_pool_size",)),
    "worker_class": Rule(_worker_class, ("concurrency_model",)),
    "threads": Rule(c.numeric(_thread_count), ("threads",)),
    "worker_connections": Rule(c.numeric(_connections), ("max_greenlets",)),
    "max_requests": to_number("max_requests"),
    "max_requests_jitter": no("appsrv adds up to 10 % to max_requests by itself."),
    "timeout": Rule(c.numeric(_timeout), ("max_request_time",)),
    "graceful_timeout": to_number("stop_timeout"),
    "keepalive": Rule(c.numeric(_keepalive), ("keepalive_timeout",)),
    "limit_request_line": Rule(c.numeric(_or_most("64K")), ("max_request_line_size",)),
    "limit_request_fields": to_number("max_header_fields"),
    "limit_request_field_size": Rule(c.numeric(_or_most("64K")), ("max_header_field_size",)),
    "reload": no("For development: flask run or manage.py runserver reload. In production: appsrv restart-app."),
    "reload_engine": no("flask run and manage.py runserver choose how they watch files by themselves."),
    "reload_extra_files": no("For development: flask run --extra-files."),
    "spew": no("appsrv trace PID shows where a worker is."),
    "check_config": no("appsrv check prints all settings and the errors in them."),
    "print_config": no("appsrv check prints all settings, each with its origin."),
    "preload_app": Rule(_preload, ("spawn_method",)),
    "sendfile": no("appsrv uses sendfile(2) where it can."),
    "reuse_port": no("Nothing is needed: the kernel gives each waiting request to a free worker."),
    "chdir": Rule(_chdir),
    "daemon": to_switch("daemonize"),
    "raw_env": Rule(_environment),
    "pidfile": to_text("pid_file", "It holds the watchdog's pid. appsrv stop and status find the server without it."),
    "worker_tmp_dir": no("appsrv's workers give their signs of life in shared memory; no directory is needed."),
    "user": _user("user"),
    "group": _user("group"),
    "umask": no("Set it where appsrv is started (UMask= in the unit). socket_mode is the mode of a unix socket."),
    "initgroups": no("Nothing is needed: with user, the user's other groups are kept."),
    "tmp_upload_dir": to_text("data_buffer_dir"),
    "secure_scheme_headers": no("appsrv takes the scheme from X-Forwarded-Proto and Forwarded of trusted proxies."),
    "forwarded_allow_ips": Rule(_proxies, ("forwarded_allow_ips",)),
    "accesslog": Rule(_access_log, ("access_log",)),
    "disable_redirect_access_to_syslog": no("The access log goes where access_log says, and nowhere else."),
    "access_log_format": to_text("access_log_format"),
    "errorlog": Rule(_error_log, ("log_file",)),
    "loglevel": Rule(_log_level, ("log_level",)),
    "capture_output": no("Nothing is needed: whatever the application prints is in the server log."),
    "logger_class": no(_LOGGING),
    "logconfig": no(_LOGGING),
    "logconfig_dict": no(_LOGGING),
    "logconfig_json": no(f"{_LOGGING} log_format = \"json\" writes that log as objects."),
    "syslog_addr": no(_SYSLOG),
    "syslog": no(_SYSLOG),
    "syslog_prefix": no(_SYSLOG),
    "syslog_facility": no(_SYSLOG),
    "enable_stdio_inheritance": no("Nothing is needed: whatever the application prints is in the server log."),
    "statsd_host": no(_STATSD),
    "dogstatsd_tags": no(_STATSD),
    "statsd_prefix": no(_STATSD),
    "enable_backlog_metric": no("appsrv status and metrics_port show the length of the queue."),
    "proc_name": no("ps shows appsrv's processes with the directory of the application."),
    "default_proc_name": no("ps shows appsrv's processes with the directory of the application."),
    "pythonpath": no("Start appsrv with PYTHONPATH in its environment; the application's directory is on the path."),
    "paste": Rule(_paste),
    "raw_paste_global_conf": no("Pass it to loadapp in wsgi.py: global_conf={...}."),
    "on_starting": no(f"{_HOOKS}: run it before appsrv start (ExecStartPre= in the unit)."),
    "on_reload": no(f"{_HOOKS}: run it before appsrv restart-app."),
    "when_ready": no(f"{_HOOKS}: a unit with Type=notify waits until the first worker serves."),
    "pre_fork": no("Close to it is appsrv.hooks.before_fork: once, in the preloader, before the first worker."),
    "post_fork": no("The counterpart is appsrv.hooks.after_fork in the application: in each worker, before it serves."),
    "post_worker_init": no("The counterpart is appsrv.hooks.after_fork in the application."),
    "worker_int": no("The counterpart is appsrv.hooks.worker_exit in the application: after a worker's last request."),
    "worker_abort": no("appsrv logs the stacks of a worker whose request exceeds max_request_time."),
    "pre_exec": no(f"{_HOOKS}; appsrv has no upgrade by exec."),
    "pre_request": no("Make it a WSGI middleware."),
    "post_request": no("Make it a WSGI middleware; request_metrics and access_log may do, too."),
    "child_exit": no("appsrv logs each death; prometheus_multiproc = true keeps prometheus_client's files clean."),
    "worker_exit": no("The counterpart is appsrv.hooks.worker_exit in the application."),
    "nworkers_changed": no(f"{_HOOKS}: appsrv status and metrics_port tell the size of the pool."),
    "on_exit": no(f"{_HOOKS}: atexit in the application runs once, in the preloader; or ExecStopPost= in the unit."),
    "ssl_context": no(_TLS),
    "proxy_protocol": Rule(_proxy_protocol, ("proxy_protocol",)),
    "proxy_allow_ips": no("With proxy_protocol the proxies in forwarded_allow_ips may send the header."),
    "protocol": Rule(_protocol),
    "uwsgi_allow_ips": no(f"{c.HTTP_ONLY}."),
    "keyfile": to_text("ssl_certificate_key"),
    "certfile": to_text("ssl_certificate"),
    "ssl_version": no(_TLS),
    "cert_reqs": no(_CLIENT_CERTIFICATES),
    "ca_certs": no(_CLIENT_CERTIFICATES),
    "suppress_ragged_eofs": no("Nothing is needed."),
    "do_handshake_on_connect": no("Nothing is needed: the front end does the handshake, and no worker waits for it."),
    "ciphers": no(_TLS),
    **dict.fromkeys(
        (
            "http_protocols", "http2_cleartext", "http2_max_concurrent_streams", "http2_initial_window_size",
            "http2_max_frame_size", "http2_max_header_list_size",
        ),
        no(_HTTP2),
    ),
    **dict.fromkeys(
        (
            "permit_obsolete_folding", "strip_header_spaces", "permit_unconventional_http_method",
            "permit_unconventional_http_version", "casefold_http_method", "http_parser",
        ),
        no(_PARSER),
    ),
    "forwarder_headers": no("appsrv takes SCRIPT_NAME from X-Forwarded-Prefix of trusted proxies, see docs/http.md."),
    "header_map": Rule(_header_map, ("underscores_in_headers",)),
    **dict.fromkeys(
        ("asgi_loop", "asgi_lifespan", "asgi_disconnect_grace_period", "websocket_max_message_size"), no(_ASGI)
    ),
    "root_path": Rule(_root_path, ("base_uri",)),
    **dict.fromkeys(
        (
            "dirty_apps", "dirty_workers", "dirty_timeout", "dirty_threads", "dirty_graceful_timeout",
            "on_dirty_starting", "dirty_post_fork", "dirty_worker_init", "dirty_worker_exit",
        ),
        no(_DIRTY),
    ),
    **dict.fromkeys(("control_socket", "control_socket_mode", "control_socket_disable"), no(_CONTROL)),
}  # fmt: skip

# Set by a function of this name in gunicorn.conf.py.
_HOOK_NAMES = """
    on_starting on_reload when_ready pre_fork post_fork post_worker_init worker_int worker_abort pre_exec pre_request
    post_request child_exit worker_exit nworkers_changed on_exit ssl_context on_dirty_starting dirty_post_fork
    dirty_worker_init dirty_worker_exit
"""
HOOKS = frozenset(_HOOK_NAMES.split())


def defaults(context: Context) -> list[str]:
    """Defaults of gunicorn that appsrv does not share, for what the source leaves open."""
    found = []
    if not context.has("workers"):
        found.append(
            "workers: gunicorn has 1, or $WEB_CONCURRENCY. appsrv has 1 to 6, as many as requests need, and takes "
            "$WEB_CONCURRENCY as the most. For one worker only: max_pool_size = 1."
        )
    if not context.has("timeout") and worker_model(context) == "sync":
        found.append(
            "timeout: gunicorn kills a worker after 30 s. appsrv has no limit; the same is max_request_time = 30."
        )
    if not context.has("proxy_protocol"):
        found.append(
            "REMOTE_ADDR: gunicorn passes the address of the proxy on. appsrv passes that of the client, which trusted "
            "proxies name in X-Forwarded-For; ProxyFix and the like are not needed."
        )
    if not context.has("preload_app") and worker_model(context) != "asgi":
        found.append(
            "preload_app: gunicorn imports the application in each worker. appsrv imports it once and forks, so that "
            "workers share memory. Connections opened at import are shared, too, and the log names them. gunicorn's "
            'way is spawn_method = "direct".'
        )
    return found
