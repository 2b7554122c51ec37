"""The routes in memory that the server and all workers share: a worker sees at once that a path is another's now.

The server is the only writer. A version stands in front, odd while something is written (a seqlock): whoever has read
an even one before and after has read a whole table. Looking at it costs a request no system call.
"""

from __future__ import annotations

import json
import mmap
import os
import struct

from appsrv.apps.routes import Route, Routes
from appsrv.system.anonymous_memory import anonymous_memory

# Untouched pages take no memory.
TABLE_BYTES = 16 << 20
_HEAD = struct.Struct("<QQ")
_VERSION = struct.Struct("<Q")


class RouteTable:
    """The table, as the process that made it or was given its descriptor sees it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._memory = mmap.mmap(fd, TABLE_BYTES)
        self._read = -1
        self._routes = Routes()

    @classmethod
    def create(cls) -> RouteTable:
        """A new one, without a route."""
        fd = anonymous_memory("appsrv-routes")
        os.ftruncate(fd, TABLE_BYTES)
        table = cls(fd)
        table.write(Routes())
        return table

    def write(self, routes: Routes) -> None:
        """From now on these. Raises ValueError when there are more than fit."""
        data = json.dumps(routes.routes).encode()
        if len(data) > TABLE_BYTES - _HEAD.size:
            raise ValueError(f"{len(routes.routes)} routes are too many")
        (version,) = _VERSION.unpack_from(self._memory)
        _HEAD.pack_into(self._memory, 0, version + 1, len(data))
        self._memory[_HEAD.size : _HEAD.size + len(data)] = data
        _VERSION.pack_into(self._memory, 0, version + 2)

    def routes(self) -> Routes:
        """Those of now; while they are being written, those of before."""
        (version,) = _VERSION.unpack_from(self._memory)
        if version != self._read and not version % 2:
            self._load(version)
        return self._routes

    def _load(self, version: int) -> None:
        _, length = _HEAD.unpack_from(self._memory)
        data = self._memory[_HEAD.size : _HEAD.size + length]
        if _VERSION.unpack_from(self._memory)[0] == version:
            self._routes = Routes(Route(tuple(hosts), base_uri, name) for hosts, base_uri, name in json.loads(data))
            self._read = version
