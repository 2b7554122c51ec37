"""underscored_fields.py: which of a trusted proxy's fields with underscores count."""

from __future__ import annotations

import pytest

from appsrv.http.head import parse_head
from appsrv.http.syntax import Limits, RequestHead
from appsrv.wsgi.underscored_fields import names_of, sort_out

LIMITS = Limits()


def head_of(*fields: str) -> RequestHead:
    raw = "\r\n".join(["GET / HTTP/1.1", "Host: a", *fields, "", ""]).encode("latin-1")
    found = parse_head(raw, LIMITS)
    assert found is not None
    return found[0]


def test_a_field_alone_counts() -> None:
    head = head_of("X_Token: one", "Shib_Session-ID: s", "x_token: two")
    found = sort_out(head.headers, head.variables)
    assert found.variables == {"HTTP_X_TOKEN": "one,two", "HTTP_SHIB_SESSION_ID": "s"}
    assert found.taken == {b"X_Token", b"x_token", b"Shib_Session-ID"}
    assert found.refused == []


@pytest.mark.parametrize(
    "fields",
    [
        ("X_Token: forged", "X-Token: true"),
        ("X-Token: true", "x_token: forged"),
        ("X_Auth-Token: a", "X-Auth_Token: b"),
        ("X_Forwarded_For: 6.6.6.6",),
        ("X_Request_ID: forged",),
        ("Content_Length: 5",),
        ("Transfer_Encoding: chunked",),
    ],
)
def test_what_could_pose_as_another_never_counts(fields: tuple[str, ...]) -> None:
    head = head_of(*fields)
    found = sort_out(head.headers, head.variables)
    assert (found.variables, found.taken) == ({}, frozenset())
    assert found.refused == names_of(head.headers)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [(("X_Token: 1",), True), (("Proxy: 1",), False), (("X-Token: a_b", "Cookie: _ga=1", "Proxy: a_b"), False)],
)
def test_a_head_tells_whether_it_has_such_names(fields: tuple[str, ...], expected: bool) -> None:
    # The second time, each line may be one that was remembered.
    assert [head_of(*fields).underscored for _ in range(2)] == [expected] * 2
    assert "" not in head_of(*fields).variables
