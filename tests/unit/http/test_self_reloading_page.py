"""self_reloading_page.py: the page about code that cannot be loaded."""

from __future__ import annotations

from appsrv.http import self_reloading_page
from appsrv.http.response import error_response
from appsrv.server.pool.error_pages import failure_page
from appsrv.server.pool.handles import Failure

FAILURE = Failure(1795363200.5, "shop failed: <SyntaxError>", "Traceback:\n  <line>")
BROWSER = {"HTTP_ACCEPT": "text/html,application/xhtml+xml,*/*;q=0.8"}


def test_browsers_get_a_page_with_the_script() -> None:
    page = failure_page(FAILURE, "id", BROWSER, development=True)
    text = page.body.decode()
    assert page.status == 500
    assert ("Content-Type", "text/html; charset=utf-8") in page.headers
    assert (self_reloading_page.FIELD, FAILURE.name) in page.headers
    assert "&lt;line&gt;" in text
    assert f'const failure = "{FAILURE.name}"' in text
    assert "http-equiv" in text.partition("</head>")[0]


def test_everybody_else_gets_plain_text() -> None:
    page = failure_page(FAILURE, "id", {"HTTP_ACCEPT": "*/*"}, development=True)
    assert ("Content-Type", "text/plain; charset=utf-8") in page.headers
    assert page.body.decode() == (
        "500 Internal Server Error\n\nshop failed: <SyntaxError>\n\nTraceback:\n  <line>\n"
    )


def test_visitors_of_a_production_server_are_told_nothing() -> None:
    page = failure_page(FAILURE, "id", BROWSER, development=False)
    assert (page.status, b"SyntaxError" in page.body, b"<script" in page.body) == (503, False, False)


def test_only_the_question_about_this_failure_is_one() -> None:
    assert self_reloading_page.is_poll_about({self_reloading_page.VARIABLE: FAILURE.name}, FAILURE.name)
    assert not self_reloading_page.is_poll_about({self_reloading_page.VARIABLE: "an earlier one"}, FAILURE.name)
    assert not self_reloading_page.is_poll_about(BROWSER, FAILURE.name)


def test_other_error_pages_have_no_script() -> None:
    assert b"<script" not in error_response(500, traceback="Traceback").body
