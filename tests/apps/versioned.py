"""Answers the version that the file `version` named when it was imported.

The import of version 1 is quick; the others create `VERSION.booting` with the pid in it and last until `go` exists.
The version `broken` cannot be imported.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

VERSION = Path("version").read_text(encoding="ascii")
if VERSION != "1":
    booting = Path(f"{VERSION}.booting.new")
    booting.write_text(str(os.getpid()), encoding="ascii")
    booting.rename(f"{VERSION}.booting")
    while not Path("go").exists():
        time.sleep(0.002)
if VERSION == "broken":
    raise RuntimeError("broken code")


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    body = VERSION.encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
