"""Imports the application. No other module runs its code before its requests.

Runs in the preloader. Where an application may be is decided in `apps.finder`. Changes no environment: it returns the
variables, and its caller sets them.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.machinery
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from types import CodeType, ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

from appsrv.apps.app_spec import FACTORIES, OBJECTS, AppSpec, load_dotenv
from appsrv.errors import AppLoadError
from appsrv.system import own_frames

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

Arguments = tuple[list[Any], dict[str, Any]]

_INTEGRATIONS = (f"{os.sep}appsrv_django{os.sep}", f"{os.sep}appsrv_flask{os.sep}")
_MACHINERY = (
    own_frames.PACKAGE_DIRECTORY,
    os.path.join(os.path.dirname(importlib.__file__), ""),
    "<frozen importlib",
)


# -- the application's environment -------------------------------------------------------------------------------------


def application_environment(spec: AppSpec, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables to add to `environ` before the application is loaded."""
    added = load_dotenv(spec.root, environ) if spec.reads_dotenv else {}
    if spec.django_settings and not spec.sets_settings and "DJANGO_SETTINGS_MODULE" not in {**environ, **added}:
        added["DJANGO_SETTINGS_MODULE"] = spec.django_settings
    return added


# -- loading -----------------------------------------------------------------------------------------------


def load(spec: AppSpec) -> WSGIApplication:
    """Make `spec.root` the current directory, and import the application from there.

    Raises AppLoadError, with the application's own traceback if its code has raised an exception or called sys.exit.
    """
    module, expression = _split(spec.target)
    change_directory(spec.root)
    spec = _without_links(spec, os.getcwd())
    if spec.root not in sys.path[:1]:
        sys.path.insert(0, spec.root)
    failure = f"{spec.target} cannot be imported{_stdlib_hint(spec)}"
    loaded: ModuleType = guarded(lambda: _import(module, spec), failure)
    return _checked(_resolve(loaded, expression, spec), spec)


def _without_links(spec: AppSpec, root: str) -> AppSpec:
    """The spec with the real path of its directory.

    A deployment may turn the link `current` to another release while this process lives. What it imports later must be
    of the same release as what it has imported until then.
    """
    file = spec.startup_file
    if file is not None:
        file = os.path.join(root, os.path.relpath(file, spec.root))
    return dataclasses.replace(spec, root=root, startup_file=file)


def change_directory(root: str) -> None:
    """Make the application's directory the current one; AppLoadError when there is no such directory."""
    try:
        os.chdir(root)
    except OSError as error:
        raise AppLoadError(f"{root}: no such directory to serve from ({error.strerror})") from None


def guarded(action: Callable[[], Any], failure: str) -> Any:
    """The result of `action`. An exception of the application becomes an AppLoadError: `failure: REASON`."""
    try:
        return action()
    except AppLoadError:
        raise
    except SystemExit as error:
        message = f"{failure}: it called sys.exit({error.code!r})"
        raise AppLoadError(message, application_traceback(error)) from None
    except Exception as error:
        raise AppLoadError(f"{failure}: {_summary(error)}", application_traceback(error)) from error


def _summary(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0].rstrip(": ")


def _split(target: str) -> tuple[str, str]:
    module, _, expression = target.partition(":")
    return module, expression


def _import(module: str, spec: AppSpec) -> ModuleType:
    parent, _, last = module.rpartition(".")
    if spec.startup_file is not None:
        name = free_name(last, spec.startup_file, top_level=not parent)
        if not parent:
            return _run_file(name, spec.startup_file)
        if name != last:
            importlib.import_module(parent)
            return _run_file(f"{parent}.{name}", spec.startup_file)
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            raise AppLoadError(f"there is no module {error.name!r} in {spec.root} or installed") from None
        raise


def _run_file(module: str, file: str) -> ModuleType:
    """Import a file by its path.

    So `app.py` can be served though there is a package `app` beside it. So can `my-site.py` and `shop.wsgi`, although
    these names cannot be imported.
    """
    source = importlib.machinery.SourceFileLoader(module, file)
    description = importlib.util.spec_from_file_location(module, file, loader=source)
    if description is None or description.loader is None:
        raise AppLoadError(f"{file} is not a Python file")
    loaded = importlib.util.module_from_spec(description)
    sys.modules[module] = loaded
    description.loader.exec_module(loaded)
    return loaded


def free_name(name: str, file: str, *, top_level: bool = True) -> str:
    """The module name for a file: its own name, unless an import of that name finds another module.

    With a package `app` beside `app.py`, `from app import create_app` means the package, as it does with
    `python app.py`. A file `code.py` must not replace the module of the standard library.
    """
    while _is_taken(name, file, top_level=top_level):
        name = f"{name}_py"
    return name


def _is_taken(name: str, file: str, *, top_level: bool) -> bool:
    if os.path.isfile(os.path.join(os.path.dirname(file), name, "__init__.py")):
        return True
    if not top_level:
        return False
    loaded = getattr(sys.modules.get(name), "__file__", None)
    return name in sys.stdlib_module_names or (loaded is not None and loaded != file)


def _stdlib_hint(spec: AppSpec) -> str:
    module = _split(spec.target)[0]
    if spec.startup_file is None or module not in sys.stdlib_module_names:
        return ""
    return f" (its file hides the module {module!r} of the standard library from other imports: rename it)"


def _other_module_hint(module: ModuleType, spec: AppSpec) -> str:
    """A hint for the case that the project has a file of that name, but the name means another module; else empty."""
    name = _split(spec.target)[0]
    file = f"{os.path.join(spec.root, *name.split('.'))}.py"
    found = getattr(module, "__file__", None) or "built in"
    if spec.startup_file is not None or found == file or not os.path.isfile(file):
        return ""
    return f": the module {name} is {found}; the file beside it is served as {os.path.relpath(file, spec.root)}:NAME"


def _resolve(module: ModuleType, expression: str, spec: AppSpec) -> object:
    if not expression:
        return _conventional(module, spec)
    name, arguments = _call(expression, spec)
    found: object = module
    for part in name.split("."):
        found = _attribute(found, part, spec)
    return found if arguments is None else _made(found, name, *arguments)


def _attribute(holder: object, name: str, spec: AppSpec) -> object:
    try:
        return getattr(holder, name)
    except AttributeError:
        module = _split(spec.target)[0]
        hint = _other_module_hint(holder, spec) if isinstance(holder, ModuleType) else ""
        raise AppLoadError(f"{module} has no {name!r} (asked for as {spec.target}){hint}") from None


def _conventional(module: ModuleType, spec: AppSpec) -> object:
    for name in OBJECTS:
        if getattr(module, name, None) is not None:
            return getattr(module, name)
    for name in FACTORIES:
        if hasattr(module, name):
            return _made(getattr(module, name), name, [], {})
    usual = ", ".join(OBJECTS + FACTORIES)
    hint = _other_module_hint(module, spec) or f": name the object, {spec.target}:NAME"
    raise AppLoadError(f"{spec.target} has none of {usual}{hint}")


def _call(expression: str, spec: AppSpec) -> tuple[str, Arguments | None]:
    """The name and the literal arguments of `factory(1, debug=True)`; the arguments are None when it is not a call."""
    try:
        tree = ast.parse(expression, mode="eval").body
        if not isinstance(tree, ast.Call):
            return _dotted(tree), None
        keywords = {word.arg: ast.literal_eval(word.value) for word in tree.keywords if word.arg}
        return _dotted(tree.func), ([ast.literal_eval(argument) for argument in tree.args], keywords)
    except (SyntaxError, ValueError):
        raise AppLoadError(
            f"{spec.target} is neither module:object nor module:factory(literal, ...)"
        ) from None


def _dotted(tree: ast.expr) -> str:
    if isinstance(tree, ast.Attribute):
        return f"{_dotted(tree.value)}.{tree.attr}"
    if isinstance(tree, ast.Name):
        return tree.id
    raise ValueError("not a name")


def _made(factory: object, name: str, positional: list[Any], keywords: dict[str, Any]) -> object:
    if not callable(factory):
        raise AppLoadError(f"{name} is not a function that makes an application")
    return guarded(lambda: factory(*positional, **keywords), f"{name}() failed")


def _checked(found: object, spec: AppSpec) -> WSGIApplication:
    if not callable(found):
        kind = type(found).__name__
        raise AppLoadError(f"{spec.target} is not a WSGI application: {kind} objects cannot be called")
    if _is_coroutine(found) or _is_coroutine(found.__call__):
        raise AppLoadError(f"{spec.target} is an ASGI application, appsrv serves WSGI applications")
    return found


def _is_coroutine(function: object) -> bool:
    code = getattr(function, "__code__", None)
    return isinstance(code, CodeType) and bool(code.co_flags & 0x80)  # inspect.CO_COROUTINE


# -- tracebacks --------------------------------------------------------------------------------------------


def application_traceback(error: BaseException) -> str:
    """The traceback without the frames of appsrv and of the import system above the application's own code."""
    lines = traceback.format_exception(type(error), error, _own_frames(error.__traceback__))
    return "".join(lines)


def _own_frames(frames: TracebackType | None) -> TracebackType | None:
    while frames is not None and _is_machinery(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    return frames


def _is_machinery(file: str) -> bool:
    return file.startswith(_MACHINERY) or any(package in file for package in _INTEGRATIONS)
