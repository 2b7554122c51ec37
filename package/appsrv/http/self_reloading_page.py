"""The page about code that cannot be loaded, which reloads itself when the code has changed (development). Pure.

The page has the name of its failure. Its script sends a long poll: a HEAD request for the same URL with that name in
the field `FIELD`. The front end, or a worker with a debugger, answers it when the code changes, at the latest after
`LONG_POLL_SECONDS`. If the response has the same failure name, the script polls again; otherwise it reloads the page.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from appsrv.http.response import Response, error_response, reason_of

FIELD = "Appsrv-Failure"
VARIABLE = "HTTP_APPSRV_FAILURE"
"""The CGI name of the field (RFC 3875 section 4.1.18)."""

LONG_POLL_SECONDS = 20.0
"""The longest time until a long poll is answered. Proxies and browsers wait longer than that for a response."""

_SCRIPT = """<noscript><meta http-equiv="refresh" content="2"></noscript>
<script>
(async () => {
  const failure = FAILURE;
  for (;;) {
    // A browser has few connections to one host: those of hidden pages are left to others.
    if (document.hidden) await new Promise(go => document.addEventListener("visibilitychange", go, {once: true}));
    try {
      const answer = await fetch(location.href, {method: "HEAD", cache: "no-store", headers: {"FIELD": failure}});
      if (answer.headers.get("FIELD") !== failure) return location.reload();
    } catch {}
    await new Promise(go => setTimeout(go, 500));
  }
})();
</script>"""


def is_poll_about(variables: Mapping[str, str], failure: str) -> bool:
    """Whether a request (by its CGI variables) is the long poll of a page that shows this failure."""
    return variables.get(VARIABLE) == failure


def script(failure: str) -> str:
    """The HTML for the head of a page that makes the page reload itself."""
    return _SCRIPT.replace("FAILURE", json.dumps(failure)).replace("FIELD", FIELD)


def page(message: str, traceback: str, failure: str, variables: Mapping[str, str]) -> Response:
    """A response 500: HTML if the client accepts it, else plain text (curl, a fetch of JSON)."""
    if "text/html" in variables.get("HTTP_ACCEPT", ""):
        response = error_response(500, detail=message, traceback=traceback or None, in_head=script(failure))
    else:
        text = f"500 {reason_of(500)}\n\n{message}\n\n{traceback}".rstrip() + "\n"
        fields = [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store")]
        response = Response(500, reason_of(500), fields, text.encode("utf-8", "replace"))
    response.headers.append((FIELD, failure))
    return response


def changed() -> Response:
    """The response to a long poll after the code has changed: 204 without a failure name."""
    return Response(204, reason_of(204), [("Cache-Control", "no-store")], b"")
