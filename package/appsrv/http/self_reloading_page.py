"""The page about code that cannot be loaded, which reloads itself when the code has changed (development). Pure.

A page names its failure. Its script asks for its own address again, by HEAD with the name of that failure in
`FIELD`; such a *question* is kept until the code changes, or for `LONG_POLL_SECONDS`. An answer that names the same
failure means: ask again. Whoever answers keeps the question: the front end, or a worker with a debugger in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from appsrv.http.response import Response, error_response, reason_of

FIELD = "Appsrv-Failure"
VARIABLE = "HTTP_APPSRV_FAILURE"
"""The same by its CGI name (RFC 3875 section 4.1.18)."""

LONG_POLL_SECONDS = 20.0
"""How long a question is kept: less than proxies and browsers wait for an answer."""

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


def asks_about(variables: Mapping[str, str], failure: str) -> bool:
    """Whether a request, by its CGI variables, is the question of a page that shows this failure."""
    return variables.get(VARIABLE) == failure


def script(failure: str) -> str:
    """The HTML that makes a page reload itself, to stand in its head."""
    return _SCRIPT.replace("FAILURE", json.dumps(failure)).replace("FIELD", FIELD)


def page(message: str, traceback: str, failure: str, variables: Mapping[str, str]) -> Response:
    """500: HTML for those who ask for it, plain text for everybody else (curl, a fetch of JSON)."""
    if "text/html" in variables.get("HTTP_ACCEPT", ""):
        response = error_response(500, detail=message, traceback=traceback or None, in_head=script(failure))
    else:
        text = f"500 {reason_of(500)}\n\n{message}\n\n{traceback}".rstrip() + "\n"
        fields = [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store")]
        response = Response(500, reason_of(500), fields, text.encode("utf-8", "replace"))
    response.headers.append((FIELD, failure))
    return response


def changed() -> Response:
    """The answer to a question: the failure may be over."""
    return Response(204, reason_of(204), [("Cache-Control", "no-store")], b"")
