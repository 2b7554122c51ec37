"""Passenger Standalone: Passengerfile.json, and the command line of `passenger start`. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from appsrv.commands.importing import passenger_options
from appsrv.commands.importing.counterparts import entry_of
from appsrv.commands.importing.directives import Context, Directive
from appsrv.commands.importing.outcome import Converted, Outcome, Remark
from appsrv.errors import SettingsError

SERVER = "Passenger"

_SHORT = {"-a": "address", "-p": "port", "-S": "socket_file", "-d": "daemonize", "-e": "environment"}
_LONG = {"socket": "socket_file", "envvar": "envvars", "unlimited_concurrency_path": "unlimited_concurrency_paths",
         "ctl": "ctls", "no_install_runtime": "dont_install_runtime", "no_compile_runtime": "dont_compile_runtime"}
_OFF = {"no_friendly_error_pages": "friendly_error_pages", "disable_turbocaching": "turbocaching",
        "no_abort_websockets_on_process_shutdown": "abort_websockets_on_process_shutdown"}
_SWITCH_NAMES = """
    ssl daemonize friendly_error_pages load_shell_envvars debugger rolling_restarts resist_deployment_errors
    sticky_sessions debug_nginx_config disable_security_update_check disable_anonymous_telemetry auto
    runtime_check_only dont_install_runtime dont_compile_runtime preload_bundler disable_log_prefix
    app_support_kuria_protocol
"""
_SWITCHES = frozenset(_SWITCH_NAMES.split())


def from_file(text: str, name: str) -> Outcome:
    """The outcome for Passengerfile.json. Raises `SettingsError`."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{name} is no valid JSON ({error}): correct it, then import it again") from None
    if not isinstance(content, dict):
        raise SettingsError(f"{name} has to be an object of options, as Passenger reads it")
    return _outcome([_directive(key, value, text) for key, value in content.items()])


def _directive(key: str, value: Any, text: str) -> Directive:
    found = re.search(rf"{re.escape(json.dumps(key))}\s*:", text)
    place = f"line {text.count(chr(10), 0, found.start()) + 1}" if found else ""
    return Directive(key.replace("-", "_"), value, f"{json.dumps(key)}: {_shown(key, value)}", place)


def _shown(key: str, value: Any) -> str:
    # The values of variables may be secrets: the remarks name them one by one.
    return f"{{ {len(value)} variables }}" if key == "envvars" and isinstance(value, dict) else json.dumps(value)


def from_words(words: Sequence[str]) -> Outcome:
    """The outcome for the words after `passenger start`."""
    directives: list[Directive] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        option = _SHORT.get(name) or name.removeprefix("--").replace("-", "_")
        option = _LONG.get(option, option)
        if not word.startswith("-"):
            directives.append(Directive("directory", word, word))
        elif option in _OFF:
            directives.append(Directive(_OFF[option], False, word))
        elif option in _SWITCHES:
            directives.append(Directive(option, True, word))
        elif equals:
            directives.append(Directive(option, value, word))
        else:
            value = rest.pop(0) if rest else ""
            directives.append(Directive(option, value, f"{word} {value}"))
    directory = next((one.text for one in directives if one.name == "directory"), None)
    outcome = _outcome([one for one in directives if one.name != "directory"])
    return replace(outcome, directory=directory)


def _outcome(directives: Sequence[Directive]) -> Outcome:
    context = Context(SERVER, directives)
    entries = [entry_of(one, passenger_options.RULES, context) for one in directives]
    missing = passenger_options.defaults(context)
    if missing:
        entries.append(Converted("", "", (Remark("Passenger's default; appsrv's is 127.0.0.1, port 8000."), *missing)))
    notes = [] if context.has("environment") else [
        "environment: Passenger's is development, whose error pages show the code. appsrv's is production."
    ]
    return Outcome(SERVER, tuple(entries), defaults=tuple(notes))
