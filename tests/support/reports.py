"""Which servers the report of a failed test shows.

The key lives here, and not in a conftest.py: pytest loads that a second time, beside the module that tests import.
"""

from __future__ import annotations

import pytest

from support.server import Server

SERVERS = pytest.StashKey[list[Server]]()


def reported(request: pytest.FixtureRequest, server: Server) -> Server:
    """Show the server in the report of the test when that fails."""
    request.node.stash.setdefault(SERVERS, []).append(server)
    return server
