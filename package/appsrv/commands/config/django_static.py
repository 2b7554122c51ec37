"""Reads a Django project's STATIC_URL and STATIC_ROOT from its settings without running them.

It evaluates the expressions that `startproject` writes and their usual variants (`BASE_DIR / "static"`,
`os.path.join`). The value of every other expression is unknown.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from appsrv.apps.finder import module_file, parsed_file, star_imports

Names = dict[str, Any]


class _Unclear(Exception):
    """The value of an expression is unknown without running the file."""


def static_settings(root: str, module: str) -> tuple[str | None, str | None]:
    """STATIC_URL and STATIC_ROOT (absolute) of a settings module in `root`; None for a missing or unknown value."""
    names = _names_of(Path(root), module, set())
    url, directory = names.get("STATIC_URL"), names.get("STATIC_ROOT")
    place = os.path.abspath(os.path.join(root, directory)) if isinstance(directory, str | Path) and directory else None
    return (url if isinstance(url, str) and url else None), place


def _names_of(root: Path, module: str, seen: set[str]) -> Names:
    """The names that the module's statements assign, in their order; a name with an unknown value is missing."""
    file = module_file(root, module)
    tree = parsed_file(file) if file is not None and module not in seen else None
    if tree is None or file is None:
        return {}
    seen.add(module)
    names: Names = {"__file__": str(file), "__name__": module}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            inherited = star_imports(ast.Module(body=[node], type_ignores=[]), module, file)
            names |= {n: v for base in inherited for n, v in _names_of(root, base, seen).items() if n[:2] != "__"}
        else:
            _assign(node, names)
    return names


def _assign(node: ast.stmt, names: Names) -> None:
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in (one for one in targets if isinstance(one, ast.Name)):
            names.pop(target.id, None)
            if node.value is not None:
                _keep(target.id, node.value, names)
        return
    # An assignment inside `if` or `try` may run or not, so the value is unknown.
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            names.pop(inner.id, None)


def _keep(name: str, node: ast.expr, names: Names) -> None:
    try:
        names[name] = _value(node, names)
    except (_Unclear, TypeError, ValueError, IndexError, AttributeError):
        return


def _value(node: ast.expr, names: Names) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name) and node.id in names:
        return names[node.id]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        return Path(_value(node.left, names)) / _value(node.right, names)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return str.__add__(_value(node.left, names), _value(node.right, names))
    if isinstance(node, ast.Attribute) and node.attr == "parent":
        return Path(_value(node.value, names)).parent
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute) and node.value.attr == "parents":
        return Path(_value(node.value.value, names)).parents[_value(node.slice, names)]
    if isinstance(node, ast.Call) and not node.keywords:
        return _called(node, names)
    raise _Unclear


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Path": Path, "pathlib.Path": Path, "str": str,
    **{f"{prefix}{name}": getattr(os.path, name)
       for prefix in ("os.path.", "path.", "")
       for name in ("join", "dirname", "abspath", "realpath", "normpath")},
}  # fmt: skip
_METHODS = frozenset({"resolve", "absolute", "joinpath"})


def _called(node: ast.Call, names: Names) -> Any:
    arguments = [_value(argument, names) for argument in node.args]
    function = _FUNCTIONS.get(ast.unparse(node.func))
    if function is not None:
        return function(*arguments)
    if isinstance(node.func, ast.Attribute) and node.func.attr in _METHODS:
        return getattr(Path(_value(node.func.value, names)), node.func.attr)(*arguments)
    raise _Unclear
