"""Computes simple expressions of a configuration file in Python, without executing it.

Literals, names assigned before, arithmetic, environment variables (their defaults count), the number of processors, and
paths relative to the file. Pure: reads no environment and no file.
"""

from __future__ import annotations

import ast
import operator
import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

MOST_CHARACTERS = 10_000
MOST_NUMBER = 2**63
# The value of $PORT where the file has none: appsrv's own default. appsrv takes $PORT by itself.
NOMINAL_PORT = "8000"

_PROCESSORS = frozenset(
    {"multiprocessing.cpu_count", "cpu_count", "os.cpu_count", "mp.cpu_count", "psutil.cpu_count"}
)  # fmt: skip
_VARIABLE = frozenset({"os.environ.get", "os.getenv", "environ.get", "getenv"})
_ENVIRON = frozenset({"os.environ", "environ"})
_OPERATORS: Mapping[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Eq: operator.eq, ast.NotEq: operator.ne,
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.In: lambda left, right: left in right, ast.NotIn: lambda left, right: left not in right,
}  # fmt: skip
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "int": int, "float": float, "str": str, "bool": bool, "max": max, "min": min, "round": round, "list": list,
    "os.path.join": posixpath.join, "os.path.dirname": posixpath.dirname, "os.path.abspath": str,
    "os.path.realpath": str, "os.path.normpath": posixpath.normpath, "Path": PurePosixPath,
    "pathlib.Path": PurePosixPath, "os.fspath": str,
}  # fmt: skip
# Each is safe: its result is not much longer than its arguments.
_METHODS = frozenset({"lower", "upper", "strip", "split", "resolve", "absolute", "joinpath", "as_posix"})


class NotKnown(Exception):
    """The value of an expression is known only when the file is executed; the text is the reason."""


@dataclass(frozen=True)
class Computed:
    """The value with one processor and with three, the variables that it depends on, and the reason if it is not known.
    """

    one: Any = None
    three: Any = None
    variables: tuple[str, ...] = ()
    by_processors: bool = False
    unread: str = ""


def compute(node: ast.expr, names: Mapping[str, Computed], file: str) -> Computed:
    """The value of an expression. `names`: the names assigned before. `file`: the value of `__file__`."""
    values, seen = [], _Seen()
    for processors in (1, 3):
        try:
            values.append(_Computation(names, file, processors, seen).value(node))
        except NotKnown as reason:
            return Computed(variables=tuple(seen.variables), unread=str(reason))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            return Computed(variables=tuple(seen.variables), unread=_without_value(seen))
    one, three = values
    return Computed(one, three, tuple(seen.variables), seen.processors)


def _without_value(seen: _Seen) -> str:
    names = " and ".join(f"${name}" for name in seen.variables)
    return f"it depends on {names}" if names else "only executing the file would tell its value"


@dataclass
class _Seen:
    variables: dict[str, None] = field(default_factory=dict)
    processors: bool = False


@dataclass
class _Computation:
    """Computes one expression for a number of processors."""

    names: Mapping[str, Computed]
    file: str
    processors: int
    seen: _Seen

    def value(self, node: ast.expr) -> Any:
        """The value of `node`. Raises `NotKnown`, and whatever its operations raise."""
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is None:
            raise NotKnown("only executing the file would tell its value")
        return _small(method(node))

    def _constant(self, node: ast.Constant) -> Any:
        return node.value

    def _list(self, node: ast.List) -> Any:
        return [self.value(one) for one in node.elts]

    def _tuple(self, node: ast.Tuple) -> Any:
        return [self.value(one) for one in node.elts]

    def _set(self, node: ast.Set) -> Any:
        return [self.value(one) for one in node.elts]

    def _dict(self, node: ast.Dict) -> Any:
        return {self.value(key): self.value(value) for key, value in zip(node.keys, node.values, strict=True) if key}

    def _joinedstr(self, node: ast.JoinedStr) -> Any:
        return "".join(str(self.value(part)) for part in node.values)

    def _formattedvalue(self, node: ast.FormattedValue) -> Any:
        if node.format_spec is not None or node.conversion != -1:
            raise NotKnown("only executing the file would tell its value")
        return self.value(node.value)

    def _name(self, node: ast.Name) -> Any:
        if node.id == "__file__":
            return self.file
        known = self.names.get(node.id)
        if known is None:
            raise NotKnown(f"it depends on {node.id}, which the file does not set in a simple way")
        self.seen.variables.update(dict.fromkeys(known.variables))
        self.seen.processors |= known.by_processors
        if known.unread:
            raise NotKnown(f"it depends on {node.id}: {known.unread}")
        return known.one if self.processors == 1 else known.three

    def _binop(self, node: ast.BinOp) -> Any:
        left, right = self.value(node.left), self.value(node.right)
        if isinstance(left, PurePosixPath) and isinstance(node.op, ast.Div):
            return left / str(right)
        joins = isinstance(left, (str, list)) and type(left) is type(right) and isinstance(node.op, ast.Add)
        numbers = isinstance(left, (int, float)) and isinstance(right, (int, float))
        if type(node.op) not in _OPERATORS or not (joins or numbers):
            raise NotKnown("only executing the file would tell its value")
        return _OPERATORS[type(node.op)](left, right)

    def _unaryop(self, node: ast.UnaryOp) -> Any:
        value = self.value(node.operand)
        return not value if isinstance(node.op, ast.Not) else -value if isinstance(node.op, ast.USub) else value

    def _boolop(self, node: ast.BoolOp) -> Any:
        is_or = isinstance(node.op, ast.Or)
        value: Any = None
        for part in node.values:
            value = self.value(part)
            if bool(value) is is_or:
                break
        return value

    def _compare(self, node: ast.Compare) -> Any:
        if len(node.ops) != 1 or type(node.ops[0]) not in _OPERATORS:
            raise NotKnown("only executing the file would tell its value")
        return _OPERATORS[type(node.ops[0])](self.value(node.left), self.value(node.comparators[0]))

    def _ifexp(self, node: ast.IfExp) -> Any:
        return self.value(node.body if self.value(node.test) else node.orelse)

    def _subscript(self, node: ast.Subscript) -> Any:
        if ast.unparse(node.value) in _ENVIRON:
            name = str(self.value(node.slice))
            self.seen.variables[name] = None
            if name == "PORT":
                return NOMINAL_PORT
            raise NotKnown(f"it is what ${name} holds")
        return self.value(node.value)[self.value(node.slice)]

    def _attribute(self, node: ast.Attribute) -> Any:
        value = self.value(node.value)
        if not isinstance(value, PurePosixPath) or node.attr not in ("parent", "name", "stem"):
            raise NotKnown("only executing the file would tell its value")
        return getattr(value, node.attr)

    def _call(self, node: ast.Call) -> Any:
        name = ast.unparse(node.func)
        if name in _PROCESSORS or ast.unparse(node) == "len(os.sched_getaffinity(0))":
            self.seen.processors = True
            return self.processors
        if node.keywords and name not in _VARIABLE:
            raise NotKnown("only executing the file would tell its value")
        if name in _VARIABLE:
            return self._variable(node)
        if name in _FUNCTIONS:
            return _FUNCTIONS[name](*[self.value(argument) for argument in node.args])
        if isinstance(node.func, ast.Attribute) and node.func.attr in _METHODS:
            return self._method(node.func, [self.value(argument) for argument in node.args])
        raise NotKnown(f"only executing {name}(...) would tell its value")

    def _method(self, function: ast.Attribute, arguments: list[Any]) -> Any:
        value = self.value(function.value)
        if isinstance(value, PurePosixPath) and function.attr in ("resolve", "absolute"):
            return value
        return getattr(value, function.attr)(*arguments)

    def _variable(self, node: ast.Call) -> Any:
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        name = str(self.value(given[0]))
        self.seen.variables[name] = None
        if len(given) > 1:
            return self.value(given[1])
        return NOMINAL_PORT if name == "PORT" else None


def _small(value: Any) -> Any:
    """The value, unless it is so large that computing with it would take long."""
    too_long = isinstance(value, (str, list)) and len(value) > MOST_CHARACTERS
    if too_long or (isinstance(value, (int, float)) and abs(value) > MOST_NUMBER):
        raise NotKnown("its value is too large")
    return value
