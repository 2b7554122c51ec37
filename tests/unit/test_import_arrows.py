"""The arrows between folders: each imports from lower levels only; no process loads what it must not know."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.levels import LEVELS

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "package" / "appsrv"

LEVEL = {folder: level for level, folders in enumerate(LEVELS) for folder in folders}


def _dotted(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


# `server.pool.manager` for package/appsrv/server/pool/manager.py; a folder's `__init__` has the folder's name.
FILES = {_dotted(path): path for path in PACKAGE.rglob("*.py")}
MODULES = sorted(FILES)
FOLDERS = sorted(_dotted(path) for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE)

CLI = ("cli", "commands.common", "commands.show", "commands.project", "commands.control", "commands.diagnosis")
# Third-party packages that only some folders and modules may import, whether at the top or inside a function.
ONLY_IN: dict[str, frozenset[str]] = {
    "gevent": frozenset(
        {
            "generic", "server", "server/admin", "server/frontend", "server/pool",
            "worker.greenlets", "worker.streamed_input",
        }
    ),
    "click": frozenset(CLI),
    "h11": frozenset({"generic.connection", "generic.proxy_app"}),
    "httptools": frozenset({"http.head"}),
    "prometheus_client": frozenset({"metrics"}),
    "whitenoise": frozenset({"preloader.static_files", "preloader.static_server"}),
}


def folder_of(module: str) -> str:
    """`server/pool` for `server.pool.manager`; a module in no folder is its own."""
    if module in FOLDERS:
        return module.replace(".", "/")
    return "/".join(module.split(".")[:-1]) or module


@functools.cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text(encoding="utf-8"))


def typing_only(node: ast.AST) -> bool:
    """`if TYPE_CHECKING:` draws no arrow: nothing is imported when the program runs."""
    return isinstance(node, ast.If) and dotted(node.test).endswith("TYPE_CHECKING")


def walk(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not typing_only(child):
            yield child
            yield from walk(child)


def imported_names(node: ast.AST) -> list[str]:
    """Dotted names that one statement imports; `from appsrv.ipc import channel` counts as `appsrv.ipc.channel` too."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


@functools.cache
def all_imports(module: str) -> frozenset[str]:
    return frozenset(name for node in walk(tree_of(module)) for name in imported_names(node))


def own_imports(module: str) -> set[str]:
    """The modules of this package that the module imports, without folders on the way to them."""
    names = {name.removeprefix("appsrv.") for name in all_imports(module) if name.startswith("appsrv.")}
    return {name for name in names if name in MODULES and name not in FOLDERS}


def roots_of(module: str) -> set[str]:
    """The top-level packages that the module imports."""
    return {name.split(".")[0] for name in all_imports(module)}


@functools.cache
def called(module: str) -> frozenset[str]:
    """All that the module calls, as written: `os.fork`."""
    calls = (node.func for node in ast.walk(tree_of(module)) if isinstance(node, ast.Call))
    return frozenset(dotted(function) for function in calls)


def dotted(node: ast.expr) -> str:
    """`a.b.c` as written; for any other expression something that is not among the names."""
    if isinstance(node, ast.Name):
        return node.id
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else ""


def test_every_folder_has_a_level() -> None:
    assert sorted(LEVEL) == sorted({folder_of(module) for module in MODULES})


def test_folders_import_only_from_lower_levels() -> None:
    wrong = {
        f"{module} -> {name}"
        for module in MODULES
        for name in own_imports(module)
        if folder_of(name) != folder_of(module) and LEVEL[folder_of(name)] >= LEVEL[folder_of(module)]
    }
    assert wrong == set(), "imported from the same or a higher level"


def test_no_cycle_inside_a_folder() -> None:
    waiting = {module: {name for name in own_imports(module) if name != module} for module in MODULES}
    while free := [module for module, names in waiting.items() if not names & waiting.keys()]:
        for module in free:
            del waiting[module]
    assert sorted(waiting) == [], "these import each other, or a module that does"


def test_a_folder_s_init_is_a_docstring_only() -> None:
    wrong = {
        folder: [ast.unparse(node) for node in tree_of(folder).body[1:]]
        for folder in FOLDERS
        if len(tree_of(folder).body) > 1 or not ast.get_docstring(tree_of(folder))
    }
    assert wrong == {}
    assert {folder for folder in FOLDERS if (ast.get_docstring(tree_of(folder)) or "").count("\n") > 7} == set()


def test_third_party_packages_stay_in_their_place() -> None:
    wrong = {
        (module, package)
        for module in MODULES
        for package in roots_of(module) & ONLY_IN.keys()
        if not {module, folder_of(module)} & ONLY_IN[package]
    }
    assert wrong == set()


@pytest.mark.parametrize("package", ["django_integration/appsrv_django", "flask_integration/appsrv_flask"])
def test_integrations_know_only_the_public_face(package: str) -> None:
    public = {
        "app_process.own_lines",
        "apps.dependency_files",
        "apps.finder",
        "errors",
        "http.self_reloading_page",
        "http.syntax",
        "http.trusted_proxies",
        "settings.internal_variables",
        "settings.sources",
        "settings.table",
    }
    used = {
        name.removeprefix("appsrv.")
        for path in (ROOT / package).rglob("*.py")
        for node in walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in imported_names(node)
        if name.startswith("appsrv.")
    }
    modules = {name for name in used if name in MODULES and name not in FOLDERS}
    assert {name for name in modules if folder_of(name) != "development"} - public == set()


# -- one place for each dangerous thing --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "allowed"),
    [
        ("os.fork", {"watchdog.start"}),
        ("unpatched.fork", {"preloader.forked_workers"}),
        ("os.environ.get", {"settings.sources"}),
        ("os.getenv", set()),
        ("print", {*CLI, "settings.sources"}),
        ("click.echo", set(CLI)),
    ],
)
def test_one_place_rules(call: str, allowed: set[str]) -> None:
    assert {module for module in MODULES if call in called(module)} <= allowed


def test_only_the_sources_of_settings_read_the_environment() -> None:
    readers = {
        module
        for module in MODULES
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Attribute) and dotted(node) == "os.environ"
    }
    assert readers <= {"settings.sources", "commands.common"}


# -- what a process has in memory --------------------------------------------------------------------------

FORBIDDEN = {
    "preloader.process": ("gevent", "click", "psutil", "colorlog"),
    "worker.process": ("gevent", "click", "psutil", "colorlog"),
    "watchdog.start": ("gevent", "click", "psutil"),
    "cli": ("gevent", "psutil", "httptools"),
}


@pytest.mark.process
@pytest.mark.parametrize("module", sorted(FORBIDDEN))
def test_what_importing_a_module_loads(module: str) -> None:
    code = f"import sys, appsrv.{module}; print(*[n for n in {FORBIDDEN[module]!r} if n in sys.modules])"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
