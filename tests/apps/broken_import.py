"""Cannot be imported: a module it needs is not there."""

from __future__ import annotations

import module_that_is_not_there


def application(environ, start_response):
    return module_that_is_not_there.answer(environ, start_response)
