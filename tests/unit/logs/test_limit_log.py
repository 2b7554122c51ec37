"""What the log has of requests that a limit ended: the setting, once a minute."""

from __future__ import annotations

from appsrv.errors import ClientDisconnected, Limit, RequestError
from appsrv.logs.limit_log import LimitLog, outcome_of

LINE = Limit("max_request_line_size", "8190")
BODY = Limit("max_body_size", "1024")


def test_a_line_for_each_setting_and_minute() -> None:
    made = LimitLog()
    error = RequestError(414, "Request line too long", LINE)
    assert made.count(LINE, outcome_of(error), "192.0.2.7", 5.0) == (
        "a request was answered 414 (Request line too long), of 192.0.2.7: the setting max_request_line_size is 8190; "
        "1 so far, logged once a minute"
    )
    assert made.count(LINE, "", "192.0.2.7", 64.9) is None
    assert "of the unix socket: the setting max_body_size is 1024; 1 so far" in (made.count(BODY, "", "", 6.0) or "")
    assert "3 so far" in (made.count(LINE, "", "192.0.2.8", 65.0) or "")
    assert outcome_of(ClientDisconnected("too slow", BODY)) == "a connection was closed (too slow)"


def test_the_setting_is_on_the_page_in_development_only() -> None:
    error = RequestError(414, "Request line too long", LINE)
    assert error.detail(development=False) == "Request line too long"
    assert error.detail(development=True) == (
        "Request line too long: the setting max_request_line_size of appsrv is 8190."
    )
    assert RequestError(400, "Malformed").detail(development=True) == "Malformed"
