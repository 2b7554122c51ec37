"""The arrows between modules: each imports from lower levels only; no process loads what it must not know."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "package" / "appsrv"

# docs/design.md shows this table; a module that is in neither fails the first test.
LEVELS: tuple[frozenset[str], ...] = tuple(
    frozenset(line.split())
    for line in (
        ("__init__ access_format anonymous_memory beneath busy_threads conditional cpus death django_urls errors "
        "exit_functions family fifo file_wrapper fleet foreign_variables http_syntax idle_watch internal_variables "
        "interpreter_flags line_label log_format monitoring open_sockets out_of_memory own_frames own_lines "
        "own_signals own_writes pace process_group process_title production project request_id restart_file "
        "root_watch routes screen signals slumber tally tcp_reset terminal terminal_keys tracebacks trusted_proxies "
        "unpatched values words"),
        ("access_file app_spec certificates connection_limits directories environ forked_child handover hangup http1 "
        "http1_body http_response kernel_stamps leadership left_out limit_log listener log_reader menu message "
        "metrics output pid_file pool privileges proxied proxy_protocol readiness reloader removed_fields "
        "response_head scoreboard service settings shared_epoll shared_state spool takeover terminal_lender text top "
        "trace underscored_fields upstream_keepalive upstream_response"),
        ("access_log app_group channel command_line config deployment dispatcher finder first_steps forwarded healing "
        "hooks instance loader log monkey_patched pool_settings probe request_limits route_table sink socket_access "
        "static_server upstream_request wsgi"),
        ("apache_config client collector django_static dockerfile group_books hand_off hosting kept_directory "
        "labelled_output logrotate_config nginx_config old_logs own_requests standby_preloader static_files "
        "streamed_input systemd_unit upgraded upstream_connection x_sendfile"),
        ("acceptor admin fallback lanes parking ready_queue resources settings_page spawning standby top_screen "
        "upstream_connections"),
        ("apps_directory arrivals backend config_files exchange generic_app handles relay upstream_process "
        "worker_access_log"),
        ("borrowed_terminal deaths farewell frontend generations greenlets group_context lookout preloaders "
        "proxied_exchange refusals reload_brake restarts shutdown succession tls workers"),
        "admission disconnects frontend_setup memory outage time_limits worker",
        "availability preloader request_queue",
        "pool_driver",
        "lifecycle",
        "manager",
        "groups report watchdog",
        "admin_routes app_watch launch",
        "admin_service development",
        "cli_common server",
        "cli_look cli_project cli_steer",
        "cli",
        "__main__",
    )
)
LEVEL = {module: level for level, modules in enumerate(LEVELS) for module in modules}
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py"))

CLI = ("cli", "cli_common", "cli_look", "cli_project", "cli_steer")
# Third-party packages that only some modules may import, whether at the top or inside a function.
ONLY_IN: dict[str, frozenset[str]] = {
    "gevent": frozenset(
        {
            "acceptor", "admin", "admin_routes", "app_watch", "apps_directory", "arrivals", "backend", "disconnects",
            "fallback", "frontend", "greenlets", "groups", "lanes", "lookout", "memory", "monitoring", "parking",
            "pool_driver", "preloaders", "relay", "reload_brake", "restart_file", "restarts", "server", "shutdown",
            "streamed_input", "succession", "time_limits", "tls", "upgraded", "upstream_connection",
            "upstream_connections", "upstream_process", "workers",
        }
    ),
    "click": frozenset(CLI),
    "h11": frozenset({"upstream_connection", "generic_app"}),
    "httptools": frozenset({"http1"}),
    "prometheus_client": frozenset({"metrics"}),
    "whitenoise": frozenset({"static_files", "static_server"}),
}


@functools.cache
def tree_of(module: str) -> ast.Module:
    return ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))


def typing_only(node: ast.AST) -> bool:
    """`if TYPE_CHECKING:` draws no arrow: nothing is imported when the program runs."""
    return isinstance(node, ast.If) and dotted(node.test).endswith("TYPE_CHECKING")


def walk(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not typing_only(child):
            yield child
            yield from walk(child)


def imported_names(node: ast.AST) -> list[str]:
    """Dotted names one statement imports; `from appsrv import pool` counts as `appsrv.pool`."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    if isinstance(node, ast.ImportFrom):
        return [f"appsrv.{node.module}"] if node.module else [f"appsrv.{alias.name}" for alias in node.names]
    return []


@functools.cache
def all_imports(module: str) -> set[str]:
    return {name for node in walk(tree_of(module)) for name in imported_names(node)}


def own_imports(module: str) -> set[str]:
    parts = (name.split(".") for name in all_imports(module))
    return {part[1] for part in parts if part[0] == "appsrv" and len(part) > 1 and part[1] in MODULES}


def roots_of(module: str) -> set[str]:
    """The top-level packages that the module imports."""
    return {name.split(".")[0] for name in all_imports(module)}


@functools.cache
def called(module: str) -> frozenset[str]:
    """All that the module calls, as written: `os.fork`."""
    calls = (node.func for node in ast.walk(tree_of(module)) if isinstance(node, ast.Call))
    return frozenset(dotted(function) for function in calls)


def dotted(node: ast.expr) -> str:
    """`a.b.c` as written; nothing for any other expression."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def test_every_module_has_a_level() -> None:
    assert sorted(LEVEL) == MODULES


def test_imports_only_from_lower_levels() -> None:
    wrong = {
        module: sorted(name for name in own_imports(module) - {"__init__"} if LEVEL.get(name, len(LEVELS)) >= level)
        for module, level in LEVEL.items()
    }
    assert {module: names for module, names in wrong.items() if names} == {}, "imported from the same or a higher level"


def test_third_party_packages_stay_in_their_place() -> None:
    wrong = {
        module: sorted(package for package in roots_of(module) & ONLY_IN.keys() if module not in ONLY_IN[package])
        for module in MODULES
    }
    assert {module: packages for module, packages in wrong.items() if packages} == {}


@pytest.mark.parametrize("package", ["django_integration/appsrv_django", "flask_integration/appsrv_flask"])
def test_integrations_know_only_the_public_face(package: str) -> None:
    public = {
        "appsrv",
        "appsrv.config",
        "appsrv.development",
        "appsrv.errors",
        "appsrv.finder",
        "appsrv.handover",
        "appsrv.healing",
        "appsrv.http_syntax",
        "appsrv.own_lines",
        "appsrv.internal_variables",
        "appsrv.project",
        "appsrv.reloader",
        "appsrv.settings",
        "appsrv.standby",
        "appsrv.takeover",
        "appsrv.trusted_proxies",
    }
    used = {
        name
        for path in (ROOT / package).rglob("*.py")
        for node in walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in imported_names(node)
    }
    own = {".".join(name.split(".")[:2]) for name in used if name.split(".")[0] == "appsrv"}
    assert {name for name in own if name.removeprefix("appsrv.") in MODULES} - public == set()


# -- one place for each dangerous thing --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "allowed"),
    [
        ("os.fork", {"launch"}),
        ("unpatched.fork", {"preloader"}),
        ("os.environ.get", {"config"}),
        ("os.getenv", set()),
        ("print", {*CLI, "config"}),
        ("click.echo", set(CLI)),
    ],
)
def test_one_place_rules(call: str, allowed: set[str]) -> None:
    assert {module for module in MODULES if call in called(module)} <= allowed


def test_only_config_reads_the_environment() -> None:
    readers = {
        module
        for module in MODULES
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Attribute) and dotted(node) == "os.environ"
    }
    assert readers <= {"config", "cli_common"}


# -- what a process has in memory --------------------------------------------------------------------------

FORBIDDEN = {
    "preloader": ("gevent", "click", "psutil", "colorlog"),
    "worker": ("gevent", "click", "psutil", "colorlog"),
    "watchdog": ("gevent", "click", "psutil"),
    "cli": ("gevent", "psutil", "httptools"),
}


@pytest.mark.process
@pytest.mark.parametrize("module", sorted(FORBIDDEN))
def test_what_importing_a_module_loads(module: str) -> None:
    if module not in MODULES:
        pytest.skip(f"appsrv.{module} is not there yet")
    code = f"import sys, appsrv.{module}; print(*[n for n in {FORBIDDEN[module]!r} if n in sys.modules])"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
