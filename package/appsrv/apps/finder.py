"""Finds the application in a directory. It reads the project's files and imports nothing of the project.

The result is an `AppSpec`. Otherwise `AppNotFound` lists the names that were searched for, the place, and the command
to use instead.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from appsrv.apps.app_spec import FACTORIES, OBJECTS, AppSpec, read_dotenv
from appsrv.errors import AppNotFound, SettingsError

STARTUP_FILES = ("wsgi.py", "app.py", "passenger_wsgi.py")
SETTINGS_VARIABLE = "DJANGO_SETTINGS_MODULE"
# Django's runserver calls this function. It also finds a WSGI_APPLICATION that only running the settings reveals.
DJANGO_TARGET = "django.core.servers.basehttp:get_internal_wsgi_application()"
EMPTY_MODULE = ast.Module(body=[], type_ignores=[])


def project_directory(app: str | None, directory: Path) -> Path:
    """The directory with the project's settings: the directory that APP names, else `directory`."""
    named = directory / app if app else directory
    return named if named.is_dir() and not (app and _is_package(app, directory)) else directory


def find(
    app: str | None, directory: Path, environ: Mapping[str, str], configured: str | None = None,
    start_command: str | None = None,
) -> AppSpec:
    """The application named by `app` (the argument) or else `configured` (`[tool.appsrv] app`), or one in `directory`.

    The search in the directory is for manage.py, FLASK_APP, wsgi.py, app.py and passenger_wsgi.py, in this order. A
    `start_command` is the application itself and needs no search. Raises `AppNotFound`, or `SettingsError` for an
    application beside a `start_command`.
    """
    place = project_directory(app, directory)
    if place != directory:
        return find(None, place, environ, configured, start_command)
    if start_command:
        return _of_command(app or configured, start_command, directory)
    if app:
        return _named(app, directory, environ)
    if not directory.is_dir():
        raise AppNotFound(f"{directory}: no such directory")
    if configured:
        return _named(configured, directory, environ)
    return _found(directory, environ)


def _of_command(app: str | None, start_command: str, directory: Path) -> AppSpec:
    if app and app != ".":
        raise SettingsError(
            f"app ({app}) and start_command ({start_command}) are two applications: give one of them, or a directory "
            "as APP"
        )
    if not directory.is_dir():
        raise AppNotFound(f"{directory}: no such directory")
    return AppSpec(root=_absolute(directory), kind="generic", start_command=start_command)


# -- an application that is named --------------------------------------------------------------------------


def _named(app: str, directory: Path, environ: Mapping[str, str]) -> AppSpec:
    name, colon, expression = app.partition(":")
    place = directory / name
    if name.endswith(".py") or os.sep in name or ("." in name and place.is_file()):
        return _of_path(app, place, expression, environ)
    if not colon and place.is_dir() and not _is_package(name, directory):
        return _found(place, environ)
    if not colon and _is_package(name, directory) and _startup_file(place):
        raise AppNotFound(f"{app} is a package and a project directory: type {app}:NAME or .{os.sep}{app}")
    if not all(part.isidentifier() for part in name.split(".")):
        raise AppNotFound(f"{app} is no file or directory in {directory}, nor module:callable")
    return AppSpec(root=_absolute(directory), target=app)


def _of_path(app: str, place: Path, expression: str, environ: Mapping[str, str]) -> AppSpec:
    if place.is_dir() and not expression:
        return _found(place, environ)
    if not place.is_file():
        raise AppNotFound(f"{app}: no such file or directory ({_absolute(place)})")
    return _of_file(place, expression)


def _of_file(file: Path, expression: str = "") -> AppSpec:
    """The application in a file. A file in a package is imported as its submodule, from the directory above it."""
    file = Path(_absolute(file))
    # A dot in the name of a module would separate it from a package.
    names = [] if file.name == "__init__.py" else [file.stem.replace(".", "_")]
    root = file.parent
    while (root / "__init__.py").is_file():
        names.insert(0, root.name)
        root = root.parent
    target = ".".join(names) + (f":{expression}" if expression else "")
    return AppSpec(root=str(root), target=target, startup_file=str(file))


def _is_package(name: str, directory: Path) -> bool:
    return name.isidentifier() and (directory / name / "__init__.py").is_file()


def _absolute(place: Path) -> str:
    """The absolute path with its symbolic links: `/srv/shop/current` links to a new release after each deployment."""
    return os.path.abspath(place)


# -- an application that is found --------------------------------------------------------------------------


def _found(directory: Path, environ: Mapping[str, str]) -> AppSpec:
    spec = _of_django(directory, environ) or _of_flask(directory, environ)
    if spec is not None:
        return spec
    file = _startup_file(directory)
    if file is None:
        raise AppNotFound(_nothing_found(directory))
    return _of_file(file)


def _startup_file(directory: Path) -> Path | None:
    candidates = (directory / name for name in STARTUP_FILES)
    return next((file for file in candidates if file.is_file() and _offers_application(file)), None)


def _nothing_found(directory: Path) -> str:
    return (
        f"no application found in {_absolute(directory)}. Looked for: {_state(directory, 'manage.py')} "
        f"(with its {SETTINGS_VARIABLE}), FLASK_APP, [tool.appsrv] app in pyproject.toml, "
        f"{', '.join(_state(directory, name) for name in STARTUP_FILES)} "
        f"(with {', '.join(OBJECTS + FACTORIES)}). Name it: appsrv start module:callable, "
        "or app in its appsrv.toml, or start_command there if it is not WSGI"
    )


def _state(directory: Path, name: str) -> str:
    return f"{name} [there, but names none]" if (directory / name).is_file() else name


def _of_flask(directory: Path, environ: Mapping[str, str]) -> AppSpec | None:
    value = _variable("FLASK_APP", directory, environ, ".env", ".flaskenv")
    return _named(value, directory, {}) if value else None


def _variable(name: str, directory: Path, environ: Mapping[str, str], *files: str) -> str:
    """The value that the application will see: from `environ`, else from the first of `files` that sets it, else ""."""
    if environ.get(name, "").strip():
        return environ[name].strip()
    contents = (read_dotenv(str(directory / file)) for file in files)
    return next((found[name].strip() for found in contents if found.get(name, "").strip()), "")


# -- Django ------------------------------------------------------------------------------------------------


def _of_django(directory: Path, environ: Mapping[str, str]) -> AppSpec | None:
    manage = directory / "manage.py"
    if not manage.is_file():
        return None
    given = _variable(SETTINGS_VARIABLE, directory, environ, ".env")
    settings = given or settings_of_manage(directory)
    if not settings:
        return None
    target = _wsgi_application(directory, settings, set())
    if target is None:
        target = _wsgi_beside(directory, settings)
    # Other servers run the WSGI module and not manage.py, so the settings that the WSGI module sets have precedence.
    own = None if given else _settings_of_wsgi(directory, target)
    return AppSpec(
        root=_absolute(directory), target=target or DJANGO_TARGET, django_settings=own or settings,
        sets_settings=own is not None,
    )


def django_settings_file(directory: Path, environ: Mapping[str, str]) -> Path:
    """The file of the settings module that manage.py names. Raises `AppNotFound` if it names none."""
    spec = _of_django(directory, environ)
    if spec is None or not spec.django_settings:
        raise AppNotFound(f"{directory} has no manage.py that names its settings")
    place = directory.joinpath(*spec.django_settings.split("."))
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def settings_of_manage(directory: Path) -> str:
    """The settings module that manage.py names; empty without manage.py, or if it names no literal."""
    return _settings_set_in(directory / "manage.py") or ""


def _settings_of_wsgi(directory: Path, target: str) -> str | None:
    """The settings module that the target's module sets, or else a module of the project that it imports.

    None if they set none.
    """
    module = target.partition(":")[0]
    file = module_file(directory, module) if module else None
    if file is None:
        return None
    tree = parsed_file(file) or EMPTY_MODULE
    imported = (module_file(directory, name) for name in _imports(tree, module, file))
    found = (_settings_set_in(place) for place in (file, *imported) if place is not None)
    return next((settings for settings in found if settings is not None), None)


def _settings_set_in(file: Path) -> str | None:
    """The literal that a file assigns to DJANGO_SETTINGS_MODULE, also by setdefault(); "" if it is not a literal.

    None if the file assigns nothing to it.
    """
    for node in ast.walk(parsed_file(file) or EMPTY_MODULE):
        if isinstance(node, ast.Call) and len(node.args) == 2 and _literal(node.args[0]) == SETTINGS_VARIABLE:
            # A call that only reads the variable: os.environ.get("DJANGO_SETTINGS_MODULE", "shop.settings").
            if isinstance(node.func, ast.Attribute) and node.func.attr in ("get", "getenv"):
                continue
            return _literal(node.args[1])
        if isinstance(node, ast.Assign) and any(_is_item(place) for place in node.targets):
            return _literal(node.value)
    return None


def _imports(tree: ast.Module, module: str, file: Path) -> Iterator[str]:
    """The names of the modules that a module imports, and of the names that it imports from modules."""
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = [*above, *(node.module.split(".") if node.module else [])]
            yield ".".join(base)
            yield from (".".join([*base, alias.name]) for alias in node.names)


def _wsgi_beside(directory: Path, settings: str) -> str:
    """The module `wsgi` in the package of the settings module, or in a package above it; "" if there is none."""
    package = settings.split(".")[:-1]
    while package:
        file = module_file(directory, ".".join([*package, "wsgi"]))
        if file is not None and _offers_application(file):
            return ".".join([*package, "wsgi"])
        package.pop()
    return ""


def _is_item(place: ast.expr) -> bool:
    return isinstance(place, ast.Subscript) and _literal(place.slice) == SETTINGS_VARIABLE


def _wsgi_application(directory: Path, module: str, seen: set[str]) -> str | None:
    """WSGI_APPLICATION of a settings module as a target; `from .base import *` is followed.

    "" if its value is ambiguous or no literal, None if it is not set.
    """
    file = module_file(directory, module)
    if file is None or module in seen:
        return None
    seen.add(module)
    tree = parsed_file(file) or EMPTY_MODULE
    values = set(_assigned(tree, "WSGI_APPLICATION"))
    if values:
        return _as_target(values.pop()) if len(values) == 1 else ""
    found = [_wsgi_application(directory, base, seen) for base in star_imports(tree, module, file)]
    inherited = [target for target in found if target is not None]
    return next(filter(None, inherited), "" if inherited else None)


def _assigned(tree: ast.Module, name: str) -> Iterator[str]:
    """The values that are assigned to the name anywhere in the file; "" for a value that is not a literal."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                yield _literal(node.value)


def _as_target(dotted: str) -> str:
    module, _, name = dotted.rpartition(".")
    return f"{module}:{name}" if module else ""


def module_file(directory: Path, module: str) -> Path | None:
    """The file of a module in a project directory."""
    place = directory.joinpath(*module.split("."))
    candidates = (place / "__init__.py", place.with_name(f"{place.name}.py"))
    return next((file for file in candidates if file.is_file()), None)


def star_imports(tree: ast.Module, module: str, file: Path) -> Iterator[str]:
    """The modules of `from ... import *`, the last one first: in Python its names replace those of the others."""
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    for node in reversed([node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]):
        if any(alias.name == "*" for alias in node.names):
            above = package[: len(package) - node.level + 1] if node.level else []
            yield ".".join([*above, *(node.module.split(".") if node.module else [])])


# -- reading Python files ----------------------------------------------------------------------------------


def parsed_file(file: Path) -> ast.Module | None:
    """The syntax tree of a file; None if it does not parse. Importing it will raise the error, with its line."""
    try:
        return ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return None


def _literal(node: ast.expr | None) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _offers_application(file: Path) -> bool:
    """Whether the file binds a usual name of an application, or may do so (`import *`, a syntax error)."""
    tree = parsed_file(file)
    return tree is None or not {*OBJECTS, *FACTORIES, "*"}.isdisjoint(_bound(tree))


def _bound(node: ast.AST) -> Iterator[str]:
    """The names that a module binds, also inside `if` and `try`, but not inside functions and classes."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield child.name
        elif isinstance(child, ast.alias):
            yield child.asname or child.name
        elif isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            yield child.id
        else:
            yield from _bound(child)
