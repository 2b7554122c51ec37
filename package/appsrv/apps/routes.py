"""Routes: find the application of a request by its host and path. Pure; applications are only names here.

The most specific host pattern wins: the exact host, then the longest matching `*.example`, then the patterns for any
host. Among routes with the same pattern the longest `base_uri` that contains the path wins. A route whose `base_uri`
does not contain the path is skipped, however specific its host pattern is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Route(NamedTuple):
    """The place of one application: its host patterns (none: any host) and its `base_uri` (`""`: the root)."""

    hosts: tuple[str, ...]
    base_uri: str
    name: str


class Clash(NamedTuple):
    """Two applications with the same host pattern and `base_uri`; only the first is served there."""

    first: str
    second: str
    place: str


class Routes:
    """All routes of an instance. Of two routes with the same place the first wins, and `clashes` lists the other."""

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        self.routes = tuple(routes)
        self.clashes: list[Clash] = []
        # By host pattern ("": any host), longest base_uri first.
        self._by_host: dict[str, list[tuple[str, str]]] = {}
        for route in self.routes:
            for host in route.hosts or ("",):
                self._add(host, route)
        for places in self._by_host.values():
            places.sort(key=lambda place: -len(place[0]))

    def _add(self, host: str, route: Route) -> None:
        places = self._by_host.setdefault(host, [])
        taken = next((name for base_uri, name in places if base_uri == route.base_uri), None)
        if taken is None:
            places.append((route.base_uri, route.name))
        else:
            self.clashes.append(Clash(taken, route.name, f"{host or 'any host'}{route.base_uri or '/'}"))

    def find(self, host: str, path: str) -> str | None:
        """The application that a request is for. `host` is the Host field, `path` the decoded path of the target."""
        for pattern in _patterns(plain_host(host)):
            for base_uri, name in self._by_host.get(pattern, ()):
                if not base_uri or path == base_uri or path.startswith(f"{base_uri}/"):
                    return name
        return None


def plain_host(host: str) -> str:
    """The host without its port and final dot, in lower case (RFC 9110 section 4.2.3)."""
    name, colon, port = host.rpartition(":")
    if not colon or port.endswith("]"):
        name = host
    return name.lower().rstrip(".")


def _patterns(host: str) -> Iterator[str]:
    """The patterns that match a host, the most specific first: for `a.b.c` that, `*.b.c`, `*.c` and any host."""
    yield host
    rest = host
    while "." in rest:
        rest = rest.partition(".")[2]
        yield f"*.{rest}"
    if host:
        yield ""
