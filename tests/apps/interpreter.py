"""An application that tells with which options its interpreter runs."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

FLAGS = (
    "optimize", "dont_write_bytecode", "dev_mode", "utf8_mode", "isolated", "ignore_environment", "no_user_site",
)


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    print("asked")
    found = {name: getattr(sys.flags, name) for name in FLAGS}
    found |= {"warnoptions": sys.warnoptions, "xoptions": sys._xoptions, "asserts": __debug__}
    body = json.dumps(found).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
