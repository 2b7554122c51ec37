"""The options of Passenger Standalone, all of them, and what becomes of each. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from appsrv.commands.importing import counterparts as c
from appsrv.commands.importing.counterparts import Rule, no, no_if_off, to, to_number, to_switch, to_text
from appsrv.commands.importing.directives import Context, Directive
from appsrv.commands.importing.outcome import Assigned, Item, Items, Listen, Remark

_NGINX = "appsrv has no nginx in it: `appsrv config nginx` prints a configuration for one in front."
_OTHER_LANGUAGE = "An application that is not Python's: name its command as start_command, see docs/generic.md."
_STICKY = "appsrv has no sticky sessions: keep sessions in a database or cache that all workers share."
_CACHE = "appsrv has no turbocache: let nginx or a CDN cache responses."
_TELEMETRY = "appsrv sends nothing to anyone."
_PANEL = "appsrv's figures are on metrics_port (docs/monitoring.md), and in appsrv status --json."
_INSTALL = "appsrv is installed by pip, and compiles nothing."
# Passenger's levels: 0 is for critical messages, 7 for the most details.
_LEVELS = ("critical", "error", "warning", "info", "info", "debug", "debug", "debug")


def _address(directive: Directive, context: Context) -> Items:
    if context.has("socket_file"):
        return (Remark("Passenger listens on socket_file instead."),)
    return (Assigned("address", directive.text),)


def _port(directive: Directive, context: Context) -> Items:
    if context.has("socket_file"):
        return (Remark("Passenger listens on socket_file instead."),)
    return (Assigned("port", c.number(directive.value)),)


def _socket(directive: Directive, _: Context) -> Items:
    return (Listen((Assigned("socket", directive.text),)),)


def _ssl(key: str, convert: type[int] | type[str]) -> Rule:
    """An option of TLS, which counts where `ssl` is on and there is a certificate."""

    def make(directive: Directive, context: Context) -> Items:
        if not c.truth(context.get("ssl", False)) or not context.get("ssl_certificate"):
            return (Remark("Passenger speaks no HTTPS with these options: it needs ssl and ssl_certificate."),)
        return (Assigned(key, convert(directive.text)),)

    return Rule(c.numeric(make), (key,))


def _startup_file(directive: Directive, context: Context) -> Items:
    if _is_python(context):
        return (Assigned("app", directive.text),)
    return (Remark(_OTHER_LANGUAGE),)


def _is_python(context: Context) -> bool:
    given = str(context.get("app_type", "")).lower()
    return given in ("wsgi", "python") or (not given and str(context.get("startup_file", "x.py")).endswith(".py"))


def _app_type(_: Directive, context: Context) -> Items:
    if _is_python(context):
        return (Remark("Nothing is needed: appsrv serves WSGI applications."),)
    return (Remark(_OTHER_LANGUAGE),)


def _start_command(directive: Directive, _: Context) -> Items:
    return (
        Assigned("start_command", directive.text),
        Remark("The program has to listen on the port $PORT of 127.0.0.1, or on the unix socket $SOCKET."),
    )


def _static(directive: Directive, _: Context) -> Items:
    return (
        Assigned("static", [f"/={directive.text}"]),
        Remark("It needs `pip install 'appsrv[static]'`. Passenger's own default is the directory public."),
    )


def _restart_dir(directive: Directive, _: Context) -> Items:
    return (
        Assigned("restart_file", f"{directive.text.rstrip('/')}/restart.txt"),
        Remark("There is no always_restart.txt: for code that changes all the time there is flask run or runserver."),
    )


def _error_pages(directive: Directive, context: Context) -> Items:
    on = c.truth(directive.value)
    if on == (str(context.get("environment", "development")) == "development"):
        return (Remark("Nothing is needed: pages with tracebacks belong to the environment development."),)
    return (Remark('Pages with tracebacks come with environment = "development", and only with that.'),)


def _environment(directive: Directive, _: Context) -> Items:
    given = directive.value
    if isinstance(given, Mapping):
        return c.environment({str(name): str(value) for name, value in given.items()}, "Passengerfile.json")
    return c.environment(c.pairs_of(given), "the command line")


def _threads(directive: Directive, context: Context) -> Items:
    if str(context.get("concurrency_model", "process")) != "thread":
        return (Remark('Passenger uses it with concurrency_model "thread" only.'),)
    return (Assigned("threads", c.number(directive.value)),)


def _model(directive: Directive, context: Context) -> Items:
    items: list[Item] = []
    if directive.text == "thread" and not context.has("thread_count"):
        items.append(Assigned("threads", 1))
    return (*items, Remark("Nothing is needed: workers have threads where threads is above 1."))


def _log_level(directive: Directive, _: Context) -> Items:
    level = c.number(directive.value)
    return (Assigned("log_level", _LEVELS[min(max(level, 0), len(_LEVELS) - 1)]),)


def _log_file(directive: Directive, _: Context) -> Items:
    if directive.text == "/dev/null":
        return (Assigned("log_file", "none"),)
    return (Assigned("log_file", directive.text),)


_USER = "appsrv has to be started as root for it, or as that user. In a systemd unit use User=."

RULES: dict[str, Rule] = {
    # the server
    "address": Rule(_address, ("address",)),
    "port": Rule(c.numeric(_port), ("port",)),
    "socket_file": Rule(_socket, ("socket",)),
    "socket_backlog": no("appsrv asks for 2048; the kernel's limit, net.core.somaxconn, decides."),
    "ssl": no("Nothing is needed: with ssl_certificate appsrv speaks HTTPS."),
    "ssl_certificate": _ssl("ssl_certificate", str),
    "ssl_certificate_key": _ssl("ssl_certificate_key", str),
    "ssl_port": _ssl("ssl_port", int),
    "daemonize": to_switch("daemonize"),
    "user": to_text("user", _USER),
    "log_file": Rule(_log_file, ("log_file",)),
    "pid_file": to_text("pid_file"),
    "instance_registry_dir": no("appsrv's run directory is below $XDG_RUNTIME_DIR."),
    "data_buffer_dir": to_text("data_buffer_dir"),
    "core_file_descriptor_ulimit": no("LimitNOFILE= in the unit, or ulimit -n; see max_connections."),
    # loading the application
    "environment": to_text("environment"),
    "ruby": no(_OTHER_LANGUAGE),
    "python": no("Install appsrv for that interpreter, and start the appsrv of its bin directory."),
    "nodejs": no(_OTHER_LANGUAGE),
    "meteor_app_settings": no(_OTHER_LANGUAGE),
    "app_type": Rule(_app_type),
    "startup_file": Rule(_startup_file, ("app",)),
    "app_start_command": Rule(_start_command, ("start_command",)),
    "app_support_kuria_protocol": no("appsrv speaks HTTP to the program of a start_command."),
    "spawn_method": to_text("spawn_method", "Passenger loads Python applications in each process, whatever it is."),
    "direct_instance_request_address": no("A worker of appsrv has no address of its own."),
    "static_files_dir": Rule(_static, ("static",)),
    "restart_dir": Rule(_restart_dir, ("restart_file",)),
    "friendly_error_pages": Rule(_error_pages),
    "custom_error_page": no("The web server can replace error pages (nginx: error_page)."),
    "load_shell_envvars": no("appsrv starts no login shell: write the variables into the file .env, or into the unit."),
    "preload_bundler": no(_OTHER_LANGUAGE),
    "app_file_descriptor_ulimit": no("LimitNOFILE= in the unit, or ulimit -n."),
    "debugger": no("flask run and manage.py runserver have a debugger."),
    "envvars": Rule(_environment),
    # processes
    "max_pool_size": to_number("max_pool_size"),
    "min_instances": to_number("min_instances"),
    "pool_idle_time": to_number("pool_idle_time"),
    "max_preloader_idle_time": to_number("max_preloader_idle_time"),
    "force_max_concurrent_requests_per_process": no("See threads, and max_greenlets with start_command."),
    "start_timeout": to_number("start_timeout"),
    "concurrency_model": Rule(_model, ("threads",)),
    "thread_count": Rule(c.numeric(_threads), ("threads",)),
    "memory_limit": to("memory_limit", "", c.megabytes),
    "rolling_restarts": no_if_off("Nothing is needed: each restart is a rolling one.",
                                  "appsrv restart-app --stop-first ends the old processes first."),
    "resist_deployment_errors": no("Nothing is needed: broken code leaves the old code serving."),
    # requests
    "max_requests": to_number("max_requests"),
    "max_request_time": to_number("max_request_time"),
    "max_request_queue_size": to_number("max_request_queue_size"),
    **dict.fromkeys(("sticky_sessions", "sticky_sessions_cookie_name", "sticky_sessions_cookie_attributes"),
                    no(_STICKY)),
    "vary_turbocache_by_cookie": no(_CACHE),
    "turbocaching": no_if_off(_CACHE, "Nothing is needed: appsrv caches nothing."),
    "unlimited_concurrency_paths": no("A worker serves threads or max_greenlets requests at a time, for all paths."),
    "abort_websockets_on_process_shutdown": no("A WebSocket ends with its worker, at the latest after stop_timeout."),
    **dict.fromkeys(
        ("union_station_gateway_address", "union_station_gateway_port", "union_station_key",
         "union_station_gateway_cert", "disable_anonymous_telemetry", "anonymous_telemetry_proxy",
         "disable_security_update_check", "security_update_check_proxy"),
        no(_TELEMETRY),
    ),
    **dict.fromkeys(
        ("nginx_bin", "nginx_version", "nginx_tarball", "nginx_config_template", "debug_nginx_config", "engine"),
        no(_NGINX),
    ),
    **dict.fromkeys(
        ("admin_panel_url", "admin_panel_auth_type", "admin_panel_username", "admin_panel_password"), no(_PANEL)
    ),
    "log_level": Rule(c.numeric(_log_level), ("log_level",)),
    "disable_log_prefix": no('log_format = "plain" leaves the lines as the application prints them.'),
    "auto": no("appsrv asks no questions when it starts."),
    "ctls": no("No counterpart."),
    **dict.fromkeys(("binaries_url_root", "runtime_check_only", "dont_install_runtime", "dont_compile_runtime"),
                    no(_INSTALL)),
}  # fmt: skip


def defaults(context: Context) -> list[Assigned]:
    """Where Passenger Standalone listens if the source leaves it open."""
    found = [] if context.has("socket_file") else [Assigned("address", "0.0.0.0"), Assigned("port", 3000)]
    return [one for one in found if not context.has(one.key)]
