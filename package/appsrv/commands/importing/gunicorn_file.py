"""Reads gunicorn.conf.py without executing it: the assignments, by `ast`. Pure.

A configuration in Python may do anything. What is not a simple assignment at the top level becomes an unread directive.
"""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from appsrv.commands.importing.directives import ByProcessors, Directive
from appsrv.commands.importing.gunicorn_options import HOOKS, RULES
from appsrv.commands.importing.python_expressions import Computed, compute
from appsrv.errors import SettingsError

OWN_NAME = "(a name of the file)"
"""The name of directives that set no option of gunicorn."""
CODE = "(code)"
"""The name of directives for code that is not read."""


def parse(text: str, name: str) -> ast.Module:
    """The syntax tree of the file. Raises `SettingsError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f"line {error.lineno}: " if isinstance(error, SyntaxError) and error.lineno else ""
        reason = getattr(error, "msg", None) or type(error).__name__
        raise SettingsError(f"{name} is no valid Python ({line}{reason}): correct it, then import it again") from None


def read_file(text: str, name: str, prefix: str = "") -> list[Directive]:
    """The directives of the file, in its order. `name`: its absolute path. `prefix`: in front of each place."""
    reader = _Reader(text, name, prefix)
    try:
        for node in parse(text, name).body:
            reader.statement(node)
    except RecursionError:
        raise SettingsError(f"{name} has an expression that is nested too deeply to be read") from None
    return reader.directives


@dataclass
class _Reader:
    text: str
    file: str
    prefix: str
    directives: list[Directive] = field(default_factory=list)
    names: dict[str, Computed] = field(default_factory=dict)

    def statement(self, node: ast.stmt) -> None:
        if isinstance(node, (ast.Import, ast.Pass)) or _is_docstring(node):
            return
        if isinstance(node, ast.ImportFrom):
            if any(alias.name == "*" for alias in node.names):
                self._add(node, CODE, "it may set more: look into that module")
        elif isinstance(node, ast.Assign) and all(isinstance(target, ast.Name) for target in node.targets):
            for target in node.targets:
                self._assign(node, getattr(target, "id", ""), node.value)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            self._assign(node, node.target.id, node.value)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            operation = ast.BinOp(ast.Name(node.target.id, ast.Load()), node.op, node.value)
            self._assign(node, node.target.id, ast.copy_location(ast.fix_missing_locations(operation), node))
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if node.name in HOOKS:
                shown = f"def {node.name}(...)"
                self._append(Directive(node.name, node.name, shown, self._place(node, only_first=True)))
        else:
            self._block(node)

    def _assign(self, node: ast.stmt, name: str, value: ast.expr) -> None:
        computed = compute(value, self.names, self.file)
        self.names[name] = computed
        if name not in RULES:
            self._append(Directive(OWN_NAME, name, self._shown(node), self._place(node)))
            return
        given: object = str(computed.one) if isinstance(computed.one, PurePosixPath) else computed.one
        unread = computed.unread
        if name in HOOKS:
            unread = ""
        elif computed.by_processors and computed.one != computed.three:
            given = ByProcessors(computed.one == 3 and computed.three == 7)
            unread = unread or ("" if name == "workers" else "it depends on the number of processors")
        elif not unread and computed.one is None and computed.variables:
            unread = "it is what " + " and ".join(f"${one}" for one in computed.variables) + " holds"
        self._append(Directive(name, given, self._shown(node), self._place(node), unread, computed.variables))

    def _block(self, node: ast.stmt) -> None:
        """Code that only executing it would understand; the settings in it are named."""
        if isinstance(node, ast.ClassDef):
            return
        names = dict.fromkeys(
            one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)
        )
        for name in names:
            self.names[name] = Computed(unread="only executing the file would tell")
        settings = [name for name in names if name in RULES]
        sets = f": it sets {', '.join(settings)}" if settings else ""
        self._add(node, CODE, f"appsrv import executes no code{sets}")

    def _add(self, node: ast.stmt, name: str, reason: str) -> None:
        self._append(Directive(name, None, self._shown(node), self._place(node), unread=reason))

    def _append(self, directive: Directive) -> None:
        self.directives.append(directive)

    def _place(self, node: ast.stmt, *, only_first: bool = False) -> str:
        last = node.lineno if only_first else node.end_lineno or node.lineno
        lines = f"line {node.lineno}" if last == node.lineno else f"lines {node.lineno} to {last}"
        return f"{self.prefix}{lines}"

    def _shown(self, node: ast.stmt) -> str:
        return " ".join((ast.get_source_segment(self.text, node) or ast.unparse(node)).split())


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
