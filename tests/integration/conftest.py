"""Fixtures that start the real server; what it left behind and what it said become part of the report."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pytest

from support.http import Address
from support.reports import SERVERS, reported
from support.server import COMMAND, Server, Site, free_port
from support.shared_servers import SharedServers

FIGURES = "figures"
QUEUES = ("portable", "epoll") if sys.platform == "linux" else ("portable",)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "both_queues: run on each implementation of the ready queue")
    config.addinivalue_line("markers", "may_leave_processes: the test itself ends what the server leaves")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.definition.get_closest_marker("both_queues"):
        metafunc.parametrize("ready_queue", QUEUES, indirect=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and report.when != "teardown" and SERVERS in item.stash:
        servers: list[Server] = item.stash[SERVERS]
        for number, server in enumerate(servers, 1):
            report.sections.append((f"server {number}", server.evidence()))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Figures that tests have measured, whether they passed or not."""
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    lines = [
        f"{report.nodeid.rpartition('[')[2].rstrip(']')}: {text}"
        for report in reports
        if report.when == "call"
        for name, text in report.user_properties
        if name == FIGURES
    ]
    if lines:
        terminalreporter.section("figures")
        terminalreporter.write_line("\n".join(sorted(lines)))


class Figures(Protocol):
    def __call__(self, text: str) -> None: ...


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Figures:
    """Have a line of what was measured printed at the end of the run."""
    return lambda text: record_property(FIGURES, text)


@pytest.fixture
def ready_queue(request: pytest.FixtureRequest) -> str:
    queue: str = getattr(request, "param", "auto")
    return queue


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "site")
    yield site
    site.remove()


@pytest.fixture
def open_site() -> Iterator[Site]:
    """Where other users may read, which they may not in pytest's directories."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        site = Site(Path(name) / "site")
        yield site
        site.remove()


class Launch(Protocol):
    def __call__(
        self, argv: list[str], address: Address, environment: dict[str, str] | None = None
    ) -> Server: ...


class Serve(Protocol):
    def __call__(
        self, app: str, *options: str, environment: dict[str, str] | None = None, wait: bool = True
    ) -> Server: ...


@pytest.fixture
def launch(site: Site, request: pytest.FixtureRequest) -> Iterator[Launch]:
    """Start any command as a server; all are reaped, and one that leaves a process behind fails the test."""
    servers: list[Server] = []

    def start(argv: list[str], address: Address, environment: dict[str, str] | None = None) -> Server:
        servers.append(reported(request, Server(site, argv, address, environment)))
        return servers[-1]

    yield start
    left = {server: server.reap() for server in servers}
    if not request.node.get_closest_marker("may_leave_processes"):
        fail_for_left(left)


def fail_for_left(left: dict[Server, list[str]]) -> None:
    for server, processes in left.items():
        assert processes == [], f"left behind, or did not stop:\n{server.evidence()}"


def app_command(site: Site, app: str, ready_queue: str, options: Sequence[str]) -> tuple[list[str], Address]:
    """`appsrv start` of an application, one of tests/apps unless a module is named, and where it will listen."""
    if ":" not in app:
        site.add_app(app)
        app = f"{app}:application"
    address: Address = ("127.0.0.1", free_port())
    where = ["--port", str(address[1])]
    if "--socket" in options:
        address, where = options[options.index("--socket") + 1], []
    return [COMMAND, "start", app, *where, "--ready-queue", ready_queue, *options], address


@pytest.fixture
def serve(site: Site, launch: Launch, ready_queue: str) -> Serve:
    """`serve("hello", "--threads", "2")`: tests/apps/hello.py behind `appsrv start`, ready to answer."""

    def start(
        app: str, *options: str, environment: dict[str, str] | None = None, wait: bool = True
    ) -> Server:
        server = launch(*app_command(site, app, ready_queue, options), environment)
        return server.wait_ready() if wait else server

    return start


@pytest.fixture(scope="module")
def shared_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedServers]:
    shared = SharedServers(tmp_path_factory.mktemp("shared"))
    yield shared
    left = shared.reap()
    fail_for_left(left)
    shared.remove()


class Share(Protocol):
    def __call__(self, app: str, *options: str) -> Server: ...


@pytest.fixture
def share(shared_servers: SharedServers, request: pytest.FixtureRequest, ready_queue: str) -> Share:
    """`serve` for a test that only asks: one server for all tests of the module that name this application alike.

    Whatever changes its state (its workers, its files, its settings) needs a server of its own; what a test expects in
    the server log has to name its own requests.
    """

    def start(app: str, *options: str) -> Server:
        def begin(site: Site) -> Server:
            return Server(site, *app_command(site, app, ready_queue, options))

        return reported(request, shared_servers.get((app, options, ready_queue), begin))

    return start
