"""Reads the command line of gunicorn: its flags, and the application that it serves. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from appsrv.commands.importing.directives import Directive
from appsrv.commands.importing.gunicorn_options import RULES

# Flags whose names are not those of their settings.
_LONG = {
    "--keep-alive": "keepalive", "--limit-request-field_size": "limit_request_field_size",
    "--reload-extra-file": "reload_extra_files", "--preload": "preload_app", "--no-sendfile": "sendfile",
    "--env": "raw_env", "--pid": "pidfile", "--access-logfile": "accesslog", "--access-logformat": "access_log_format",
    "--error-logfile": "errorlog", "--log-file": "errorlog", "--log-level": "loglevel",
    "--log-config": "logconfig", "--log-config-json": "logconfig_json", "--log-syslog-to": "syslog_addr",
    "--log-syslog": "syslog", "--log-syslog-prefix": "syslog_prefix", "--log-syslog-facility": "syslog_facility",
    "--name": "proc_name", "--paster": "paste", "--proxy-allow-from": "proxy_allow_ips",
    "--uwsgi-allow-from": "uwsgi_allow_ips", "--paste-global": "raw_paste_global_conf", "--dirty-app": "dirty_apps",
    "--no-control-socket": "control_socket_disable",
}  # fmt: skip
_SHORT = {
    "-c": "config", "-b": "bind", "-w": "workers", "-k": "worker_class", "-t": "timeout", "-D": "daemon",
    "-e": "raw_env", "-p": "pidfile", "-u": "user", "-g": "group", "-m": "umask", "-R": "enable_stdio_inheritance",
    "-n": "proc_name",
}  # fmt: skip
_SWITCH_NAMES = """
    reload spew check_config print_config preload_app sendfile reuse_port daemon initgroups
    disable_redirect_access_to_syslog capture_output syslog enable_stdio_inheritance enable_backlog_metric
    suppress_ragged_eofs do_handshake_on_connect permit_obsolete_folding strip_header_spaces
    permit_unconventional_http_method permit_unconventional_http_version casefold_http_method
    control_socket_disable
"""
_SWITCHES = frozenset(_SWITCH_NAMES.split())
_OPTIONAL = frozenset({"proxy_protocol"})
REPEATABLE = frozenset({"bind", "raw_env", "reload_extra_files", "raw_paste_global_conf", "dirty_apps"})


def setting_of(flag: str) -> str:
    """The setting of gunicorn that a flag sets; the flag itself if there is none."""
    if flag in _SHORT or flag in _LONG:
        return _SHORT.get(flag) or _LONG[flag]
    plain = flag.removeprefix("--").replace("-", "_")
    return plain if flag.startswith("--") and plain in RULES else flag


def read_words(words: Sequence[str]) -> list[Directive]:
    """The directives of a command line without its first word, `gunicorn`."""
    directives: list[Directive] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            continue
        if not word.startswith("-") or word == "-":
            directives.append(Directive("wsgi_app", word, word))
            continue
        directives.append(_flag(word, rest))
    return directives


def _flag(word: str, rest: list[str]) -> Directive:
    """One flag; takes its value from `rest`."""
    name, equals, value = word.partition("=")
    if not word.startswith("--") and len(word) > 2:
        name, equals, value = word[:2], "=", word[2:].removeprefix("=")
    setting = setting_of(name)
    if setting in _SWITCHES:
        return Directive(setting, setting != "sendfile", word)
    if equals:
        return Directive(setting, value, word)
    if setting in _OPTIONAL and (not rest or rest[0] not in ("off", "v1", "v2", "auto")):
        return Directive(setting, "auto", word)
    if setting not in RULES or not rest:
        return Directive(setting, None, word, unread="it has no value" if setting in RULES else "")
    value = rest.pop(0)
    return Directive(setting, value, f"{word} {value}")
