"""The output of commands as text: the banner, the reports of `appsrv status` and the lines of `appsrv logs`.

Pure: it turns the parsed answer of the admin socket into lines in the layout of passenger-status. A field that the
server of another version does not send is shown as empty or 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from appsrv.system.words import ago, date, duration, in_line, memory, printable

if TYPE_CHECKING:
    from appsrv.instance.run_directory import InstanceInfo

RULE = "=" * 79
TITLE, BOLD, RESET = "\x1b[1;33;44m", "\x1b[1m", "\x1b[0m"

Json = Mapping[str, Any]


# -- appsrv start ------------------------------------------------------------------------------------------


def banner(info: InstanceInfo) -> str:
    """The banner of a started server."""
    stopping = "You can stop appsrv by pressing Ctrl-C."
    if info.daemonized:
        stopping = "Serving in the background as a daemon.\n"
        stopping += f"You can stop appsrv by running: appsrv stop {info.name}"
    lines = [
        " appsrv web server started ".center(79, "="),
        f"PID file: {info.pid_file or 'none'}",
        f"Log file: {info.log_file or 'none'}",
        f"Environment: {info.environment}",
        *([f"Settings module: {info.settings_module}"] if info.settings_module else []),
        f"Accessible via: {', '.join(info.bind)}",
        *_served(info),
        *([f"Metrics: {info.metrics}"] if info.metrics else []),
        "",
        stopping,
        RULE,
    ]
    return "\n".join(lines)


def _served(info: InstanceInfo) -> Iterator[str]:
    """The lines of the banner about several applications."""
    if info.apps:
        places = [", ".join(f"{host}{uri or '/'}" for host in hosts or ["*"]) for _, hosts, uri in info.apps]
        width = max(map(len, places))
        yield "Serving these applications:"
        named = zip(places, info.apps, strict=True)
        yield from (f"  {place:<{width}}  {in_line(name)}" for place, (name, _, _) in named)
    if info.apps_directory:
        yield f"Applications are taken from: {info.apps_directory}"


# -- appsrv status -----------------------------------------------------------------------------------------


def status_report(status: Json, now: float, *, colour: bool = False, verbose: bool = False) -> str:
    """The pool: general information and the application groups with their workers."""
    lines = [*_header(status, now), "", *_general(status, colour), ""]
    lines.append(_title("Application groups", colour))
    for group in status.get("app_groups", []):
        log_file = status.get("instance", {}).get("log_file")
        lines += [*_group(group, log_file, now, colour, verbose), ""]
    problems = status.get("not_served") or []
    if problems:
        lines.append(_title("Not served", colour))
        lines += [f"{in_line(one.get('name'))}: {in_line(one.get('message'))}" for one in problems]
    elif not status.get("app_groups"):
        lines += ["appsrv is currently not serving any applications.", ""]
    return "\n".join(lines).rstrip("\n")


def server_report(status: Json, now: float, *, colour: bool = False) -> str:
    """The processes and files around the pool."""
    instance, server = status.get("instance", {}), status.get("server", {})
    rows = {
        "Watchdog PID": instance.get("pid", ""),
        "Server PID": server.get("pid", ""),
        "Server uptime": duration(server.get("uptime", 0)),
        "Server restarts": server.get("restarts", 0),
        "Connections": _connections(server),
        "Ready queue": server.get("ready_queue", ""),
        "Listening on": ", ".join(instance.get("bind", [])),
        "Metrics on": instance.get("metrics") or "none",
        "Started": date(instance.get("started", 0)),
        "PID file": instance.get("pid_file") or "none",
        "Log file": instance.get("log_file") or "none",
    }
    lines = [f"{name:<15} : {in_line(value)}" for name, value in rows.items()]
    return "\n".join([*_header(status, now), "", _title("Server", colour), *lines])


def _connections(server: Json) -> str:
    """The number of connections: `12 of 17500 at most (3 idle ones closed to make room)`."""
    words = [f"{server.get('connections', 0)}"]
    if server.get("max_connections"):
        words.append(f"of {server['max_connections']} at most")
    events = {
        "idle ones closed to make room": server.get("closed_idle"),
        "refused for their address": server.get("refused_per_address"),
        "pauses in accepting": server.get("accept_pauses"),
    }
    remarks = ", ".join(f"{count} {what}" for what, count in events.items() if count)
    return " ".join([*words, f"({remarks})"] if remarks else words)


def deaths_report(status: Json, now: float, *, colour: bool = False) -> str:
    """The last deaths of workers, with the requests that they were serving and their last output."""
    lines = [*_header(status, now), "", _title("Deaths", colour)]
    for group in status.get("app_groups", []):
        lines.append(f"{BOLD}{group_title(group)}:{RESET}" if colour else f"{group_title(group)}:")
        for death in group.get("deaths", []):
            when = f"{date(death.get('time', now))} ({ago(now - death.get('time', now))})"
            lines.append(f"  * PID: {death.get('pid'):<5}   {when}: {in_line(death.get('cause', '?'))}")
            lines += [f"    {line}" for line in _death_details(death)]
        if not group.get("deaths"):
            lines.append("  no worker has died since the server was started")
    return "\n".join(lines)


def _death_details(death: Json) -> Iterator[str]:
    for request in death.get("requests", []):
        yield f"Error id {printable(death.get('error_id'))}: was serving {in_line(request)}"
    yield from (f"| {printable(line)}" for line in death.get("last_lines", []))


_CLIENT_STATES = {"gone": "client gone", "half-closed": "half-closed"}


def requests_report(status: Json, requests: Sequence[Json], now: float, *, colour: bool = False) -> str:
    """The requests that are being served or that wait, one per line."""
    lines = [f"{'Age':>9}  {'State':<11}  {'PID':<7}  {'Client':<15}  {'Method':<7}  Path"]
    for request in requests:
        age = f"{request.get('age') or 0.0:.1f}s"
        shown = [in_line(request.get(name) or "-") for name in ("state", "pid", "client", "method", "path")]
        shown[0] = _CLIENT_STATES.get(request.get("client_state") or "", shown[0])
        lines.append("{:>9}  {:<11}  {:<7}  {:<15}  {:<7}  {}".format(age, *shown))
    if not requests:
        lines = ["No request is being served, none waits."]
    return "\n".join([*_header(status, now), "", _title("Requests", colour), *lines])


def _header(status: Json, now: float) -> list[str]:
    version, name = status.get("version", "?"), status.get("instance", {}).get("name", "?")
    return [
        f"Version : {printable(version)}",
        f"Date    : {date(now)}",
        f"Instance: {printable(name)} (appsrv/{printable(version)})",
    ]


def _title(words: str, colour: bool) -> str:
    line = f"----------- {words} -----------"
    return f"{TITLE}{line}{RESET}" if colour else line


def _general(status: Json, colour: bool) -> list[str]:
    return [
        _title("General information", colour),
        f"Max pool size : {status.get('max_pool_size', 0)}",
        f"App groups    : {len(status.get('app_groups', []))}",
        f"Processes     : {status.get('processes', 0)}",
        f"Requests in top-level queue : {status.get('queue', 0)}",
    ]


def group_title(group: Json) -> str:
    """The title of an application: `/srv/shop (production)`."""
    return in_line(f"{group.get('name', '?')} ({group.get('environment', '?')})")


def _group(group: Json, log_of_all: str | None, now: float, colour: bool, verbose: bool) -> Iterator[str]:
    yield f"{BOLD}{group_title(group)}:{RESET}" if colour else f"{group_title(group)}:"
    yield f"  App root: {in_line(group.get('root', ''))}"
    if group.get("settings_module"):
        yield f"  Settings module: {in_line(group['settings_module'])}"
    if group.get("hosts") or group.get("base_uri"):
        hosts, uri = group.get("hosts") or ["*"], group.get("base_uri") or "/"
        yield f"  Served at: {in_line(', '.join(f'{host}{uri}' for host in hosts))}"
    if (log_file := group.get("log_file") or log_of_all) != log_of_all:
        yield f"  Log file: {in_line(log_file)}"
    if verbose:
        yield f"  App: {in_line(group.get('app', ''))}, generation {group.get('generation', 0)}"
    yield from _remarks(group, now, verbose)
    yield f"  Requests in queue: {group.get('queue', 0)}"
    for worker in group.get("workers", []):
        yield from _worker(worker, verbose)


def _remarks(group: Json, now: float, verbose: bool) -> Iterator[str]:
    """The lines about unusual states: a restart, the last error, the last death."""
    spawning = group.get("spawning", 0)
    if group.get("state") == "restarting":
        yield "  (restarting...)"
    elif spawning:
        yield f"  (spawning {spawning} new process{'es' if spawning > 1 else ''}...)"
    yield from _last_error(group, now, verbose)
    death = group.get("last_death")
    if death:
        when = ago(now - death.get("time", now))
        yield f"  Last death: PID {death.get('pid')}, {when}: {in_line(death.get('cause', '?'))}"
        yield from (f"    {line}" for line in _death_details(death) if verbose)


def _last_error(group: Json, now: float, verbose: bool) -> Iterator[str]:
    error = group.get("last_error")
    if not error:
        return
    if group.get("workers"):
        yield "  Resisting deployment error: the previous code keeps serving"
    message = printable(error.get("message", "?")).partition("\n")[0]
    yield f"  Last error: {message} ({ago(now - error.get('time', now))})"
    if verbose:
        yield from (f"    {line}" for line in printable(error.get("traceback") or "").splitlines())


_STATES = {"booting": "Starting...", "retiring": "Shutting down..."}


def _worker(worker: Json, verbose: bool) -> Iterator[str]:
    yield (
        f"  * PID: {worker.get('pid', 0):<5}   Sessions: {worker.get('sessions', 0):<2}      "
        f"Processed: {worker.get('processed', 0):<5}   Uptime: {duration(worker.get('uptime', 0))}"
    )
    cpu, used = f"{worker.get('cpu', 0):.0f}%", memory(worker.get("memory", 0))
    yield f"    CPU: {cpu:<5}   Memory  : {used:<5}   Last used: {ago(worker.get('last_used'))}"
    if verbose:
        yield f"    Threads: {worker.get('threads', 1)}   Generation: {worker.get('generation', 0)}"
    if worker.get("state") in _STATES:
        waits = f" {worker['busy_threads']} threads are at work" if worker.get("busy_threads") else ""
        yield f"    {_STATES[worker['state']]}{waits}"


def coloured_diff(diff: str, *, colour: bool) -> str:
    """A unified diff with added lines in green and removed lines in red."""
    marks = {"+": "32", "-": "31", "@": "36"}
    return "".join(
        f"\x1b[{marks[line[0]]}m{line.rstrip(chr(10))}\x1b[0m\n" if colour and line[:1] in marks else line
        for line in diff.splitlines(keepends=True)
    )


def log_line(raw: str, level: str | None, *, colour: bool) -> str:
    """A line of the server log; errors and warnings are coloured, control characters are escaped."""
    mark = {"ERROR": "31", "CRITICAL": "31", "WARNING": "33"}.get(level or "") if colour else None
    return f"\x1b[{mark}m{printable(raw)}\x1b[0m" if mark else printable(raw)
