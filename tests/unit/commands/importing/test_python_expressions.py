"""Expressions of gunicorn.conf.py that are computed without executing them, and those that are not."""

from __future__ import annotations

import ast
from typing import Any

import pytest

from appsrv.commands.importing.python_expressions import Computed, compute


def computed(text: str, **names: Computed) -> Computed:
    return compute(ast.parse(text, mode="eval").body, names, "/srv/shop/gunicorn.conf.py")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2 * 3 + 1", 7),
        ("-1", -1),
        ("'a' + \"b\"", "ab"),
        ("[1, 'x'] + [2]", [1, "x", 2]),
        ("f'unix:{\"/run\"}/x.sock'", "unix:/run/x.sock"),
        ("os.path.join(os.path.dirname(__file__), 'log')", "/srv/shop/log"),
        ("str(Path(__file__).resolve().parent / 'log')", "/srv/shop/log"),
        ("max(2, int('3'))", 3),
        ("'A,b'.lower().split(',')", ["a", "b"]),
        ("1 if not False else 2", 1),
        ("None or 4", 4),
        ("{'a': 1}['a']", 1),
        ("3 > 2", True),
    ],
)
def test_values(text: str, value: Any) -> None:
    assert (computed(text).one, computed(text).unread) == (value, "")


def test_variables() -> None:
    assert computed("int(os.environ.get('N', '4'))") == Computed(4, 4, ("N",))
    assert computed("os.getenv('N', default=2)") == Computed(2, 2, ("N",))
    assert computed("os.getenv('N')") == Computed(None, None, ("N",))
    assert computed("f\"0.0.0.0:{os.environ['PORT']}\"").one == "0.0.0.0:8000"
    assert computed("int(os.environ['N'])") == Computed(variables=("N",), unread="it is what $N holds")
    assert computed("int(os.getenv('N'))").unread == "it depends on $N"


def test_processors() -> None:
    assert computed("multiprocessing.cpu_count() * 2 + 1") == Computed(3, 7, (), by_processors=True)
    assert computed("len(os.sched_getaffinity(0))") == Computed(1, 3, (), by_processors=True)
    assert computed("cores + 1", cores=Computed(1, 3, (), by_processors=True)) == Computed(2, 4, (), by_processors=True)


def test_names() -> None:
    assert computed("n + 1", n=Computed(2, 2, ("N",))) == Computed(3, 3, ("N",))
    assert "does not set in a simple way" in computed("n").unread
    assert computed("n", n=Computed(unread="it is what $N holds")).unread == "it depends on n: it is what $N holds"


@pytest.mark.parametrize(
    "text",
    ["open('/etc/passwd').read()", "__import__('os').system('true')", "(lambda: 1)()", "[x for x in 'ab']",
     "'x' * 10**9", "9**9**9", "f'{1:>999999999}'", "1 / 0", "'a'.format(1)", "os.getcwd()", "().__class__",
     "'%s' % 1", "[][0]"],
)  # fmt: skip
def test_what_only_executing_would_tell(text: str) -> None:
    assert computed(text).unread
    assert computed(text).one is None


def test_values_stay_small() -> None:
    names: dict[str, Computed] = {"s": Computed("x" * 9000, "x" * 9000), "n": Computed(2**62, 2**62)}
    assert computed("s + s", **names).unread == "its value is too large"
    assert computed("n * n", **names).unread == "its value is too large"
