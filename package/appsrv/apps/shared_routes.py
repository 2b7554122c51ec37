"""The routes in shared memory, written by the server and read by all workers; a change is visible at once.

The table is a seqlock: it begins with a version, which is odd while the server, its only writer, is writing. A reader
that finds the same even version before and after its copy has copied a complete table. Reading takes no system call.
"""

from __future__ import annotations

import json
import mmap
import os
import struct

from appsrv.apps.routes import Route, Routes
from appsrv.system.anonymous_memory import anonymous_memory

# The size of the mapping. Pages that were never written take no memory.
TABLE_BYTES = 16 << 20
_HEAD = struct.Struct("<QQ")
_VERSION = struct.Struct("<Q")


class RouteTable:
    """The table in one process, which has created it or has received its descriptor."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._memory = mmap.mmap(fd, TABLE_BYTES)
        self._read = -1
        self._routes = Routes()

    @classmethod
    def create(cls) -> RouteTable:
        """Create a table without routes."""
        fd = anonymous_memory("appsrv-routes")
        os.ftruncate(fd, TABLE_BYTES)
        table = cls(fd)
        table.write(Routes())
        return table

    def write(self, routes: Routes) -> None:
        """Replace the routes. Raises `ValueError` if they do not fit into the table."""
        data = json.dumps(routes.routes).encode()
        if len(data) > TABLE_BYTES - _HEAD.size:
            raise ValueError(f"{len(routes.routes)} routes are too many")
        (version,) = _VERSION.unpack_from(self._memory)
        # The odd version tells readers that the data is incomplete; the even one at the end that it is complete.
        _HEAD.pack_into(self._memory, 0, version + 1, len(data))
        self._memory[_HEAD.size : _HEAD.size + len(data)] = data
        _VERSION.pack_into(self._memory, 0, version + 2)

    def routes(self) -> Routes:
        """The current routes; the previous ones while the server is writing."""
        (version,) = _VERSION.unpack_from(self._memory)
        if version != self._read and not version % 2:
            self._load(version)
        return self._routes

    def _load(self, version: int) -> None:
        _, length = _HEAD.unpack_from(self._memory)
        data = self._memory[_HEAD.size : _HEAD.size + length]
        # If the version has changed, the server has written during the copy, and the copy may mix two tables. The
        # routes read before stay in use, and the next request tries again.
        if _VERSION.unpack_from(self._memory)[0] == version:
            self._routes = Routes(Route(tuple(hosts), base_uri, name) for hosts, base_uri, name in json.loads(data))
            self._read = version
