"""What every template may show."""

import os

from django.http import HttpRequest


def process(request: HttpRequest) -> dict[str, object]:
    """Which process answered: appsrv may have several."""
    return {"pid": os.getpid()}
