"""request_id.py: brought by a proxy, or made; one for each request."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from appsrv.wsgi.request_id import FIELD, KEY, error_id_of, is_valid, with_request_id
from support.served import Served


def ids(given: str | None = None, count: int = 1) -> list[str]:
    seen: list[str] = []

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        assert environ[KEY] == environ[FIELD]
        seen.append(environ[KEY])
        return []

    served = with_request_id(application)
    for _ in range(count):
        served({} if given is None else {FIELD: given}, lambda *_: None)
    return seen


def test_made_where_there_is_none() -> None:
    made = ids(count=1000) + ids(count=1000)
    assert len(set(made)) == 2000
    assert all(is_valid(one) for one in made)


@pytest.mark.parametrize(
    "given",
    [
        *("7f3a", "f0e1d2c3-0000-4000-8000-000000000000", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        *("Root=1-67891233-abcdef012345678912345678", "YWJj/+==", "a" * 128),
    ],
)
def test_given_ones_are_kept(given: str) -> None:
    assert ids(given) == [given]


@pytest.mark.parametrize("given", ["", " ", "a b", "a,b", 'a"', "a\n", "é", "a" * 129, "<b>", "${x}", "a;b"])
def test_odd_ones_are_replaced(given: str) -> None:
    (made,) = ids(given)
    assert made != given
    assert is_valid(made)


def test_the_error_page_and_the_log_have_it() -> None:
    def failing(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        raise LookupError("no such product")

    served = Served(with_request_id(failing), fields="X-Request-ID: from-the-proxy\r\n")
    assert (served.status, served.outcome.error_id) == (500, "from-the-proxy")
    assert "Error id: from-the-proxy" in served.body.decode()
    assert served.log.startswith("Error from-the-proxy in GET /path\nTraceback")
    # The frames are the application's alone.
    assert "in identified" not in served.log


def test_without_one_errors_have_an_id_of_their_own() -> None:
    assert is_valid(error_id_of({}))
    assert error_id_of({FIELD: "from anybody"}) != "from anybody"
