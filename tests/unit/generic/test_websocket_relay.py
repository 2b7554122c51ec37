"""The relay of a connection that is no longer HTTP."""

from __future__ import annotations

from typing import Any, cast

import gevent
import pytest

from appsrv.generic.websocket_relay import UpgradedRelay


class Torrent:
    """A socket that never has to be waited for: it takes everything, and always has more, up to an end."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.sent = 0

    def recv(self, _size: int) -> bytes:
        self.left -= 1
        return b"x" if self.left >= 0 else b""

    def send(self, data: memoryview) -> int:
        self.sent += len(data)
        return len(data)

    sendall = send

    def shutdown(self, _how: int) -> None:
        """The end of one direction."""


@pytest.mark.parametrize("carry", [lambda relay: relay._copy_to_upstream(), lambda relay: relay._copy_to_client(b"")])
def test_a_torrent_leaves_others_their_turns(carry: Any) -> None:
    client, upstream, turns = Torrent(100), Torrent(100), 0
    relay = gevent.spawn(carry, UpgradedRelay(cast("Any", client), upstream))
    while not relay.ready():
        turns += 1
        gevent.sleep(0)
    assert turns >= 100
    assert client.sent + upstream.sent == 100
