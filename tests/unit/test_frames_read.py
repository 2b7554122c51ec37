"""Variables that appsrv reads in the frames of running functions: renaming one breaks what only a printed line, or the
end of a development worker, would show.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from pathlib import Path
from types import CodeType

import pytest

from appsrv.worker import labelled_output, stream_cutter
from appsrv.worker.connection_handler import ConnectionHandler
from appsrv.wsgi import run

PACKAGE = Path(run.__file__).parents[1]

READ: list[tuple[CodeType, CodeType, str]] = [
    # (what the reader looks for on the stack, what it is to be, a variable that it reads there)
    (stream_cutter._ANSWERS, ConnectionHandler._answer.__code__, "self"),
    (stream_cutter._ANSWERS, ConnectionHandler._answer.__code__, "connection"),
    (run.STREAMS, run._Answer.send_all.__code__, "self"),
    (labelled_output._CALLS_APPLICATION, run.respond.__code__, "environ"),
]


def changed_in(function: CodeType) -> set[str]:
    """The names that the function assigns to or deletes."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}


@pytest.mark.parametrize(("sought", "function", "variable"), READ, ids=lambda value: getattr(value, "co_name", value))
def test_the_function_has_the_variable_from_its_call_to_its_end(
    sought: CodeType, function: CodeType, variable: str
) -> None:
    assert sought is function
    # A parameter, so that it is there from the first instruction on, and one that nothing else is assigned to.
    assert variable in function.co_varnames[: function.co_argcount]
    assert variable not in changed_in(function)


def test_what_is_asked_of_the_variables_is_there() -> None:
    assert callable(ConnectionHandler.progress)
    assert isinstance(run._Answer.may_be_endless, property)


def test_no_other_variable_is_read_in_a_frame() -> None:
    found = {
        (path.stem, name)
        for path in PACKAGE.rglob("*.py")
        for name in re.findall(r"f_locals\b(?:\[\"(\w+)\"\])?", path.read_text(encoding="utf-8"))
    }
    assert {name for _, name in found} == {variable for _, _, variable in READ}
