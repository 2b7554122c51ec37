"""Several applications in one instance: each has what is its own, and none feels what happens to another."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import psutil
import pytest

from integration.conftest import Launch
from support.http import Address, Connection, Reply, exchange_bytes, send
from support.other_users import LIBRARY, python_of_everybody
from support.reports import reported
from support.server import APPS, COMMAND, EXAMPLES, Server, Site, free_port
from support.shared_servers import SharedServers
from support.waiting import wait_for

PLACES = """
[[apps]]
root = "shop"
hosts = ["shop.example", "*.shop.example"]
variables = {KEY = "of the shop"}
[[apps]]
root = "blog"
base_uri = "/blog"
"""
# One worker each: where it matters that it is the same one. When it stands still after an answer, another is made.
ONE_EACH = PLACES.replace('root = "shop"', 'root = "shop"\nmax_pool_size = 1').replace(
    'root = "blog"', 'root = "blog"\nmax_pool_size = 1'
)
SHOP = {"Host": "shop.example"}


class Said(NamedTuple):
    """What tests/apps/hosted.py answers."""

    name: str
    script_name: str
    path: str
    length: str
    pid: str
    uid: str
    key: str


def said(reply: Reply) -> Said:
    assert reply.status == 200, (reply.status, reply.text)
    return Said(*reply.text.split("|"))


def group(server: Server, name: str) -> dict[str, Any]:
    """The report of the application in a directory of that name."""
    return next(one for one in server.status()["app_groups"] if os.path.basename(one["name"]) == name)


def pids(server: Server, name: str) -> set[int]:
    return {worker["pid"] for worker in group(server, name)["workers"] if worker["state"] in ("idle", "busy")}


class Host(Protocol):
    def __call__(
        self, toml: str, *names: str, options: tuple[str, ...] = (), until: str = "web server started"
    ) -> Server: ...


def argv_of(site: Site, toml: str, names: tuple[str, ...], ready_queue: str) -> tuple[list[str], Address]:
    """`appsrv start` with this appsrv.toml and tests/apps/hosted.py in directories of these names."""
    for name in names:
        add(site.directory / name)
    site.write("appsrv.toml", toml)
    address = ("127.0.0.1", free_port())
    return [COMMAND, "start", "--port", str(address[1]), "--ready-queue", ready_queue], address


@pytest.fixture
def shop_and_blog(shared_servers: SharedServers, request: pytest.FixtureRequest, ready_queue: str) -> Server:
    """The shop and the blog, for tests that only ask them."""

    def begin(site: Site) -> Server:
        return Server(site, *argv_of(site, PLACES, ("shop", "blog"), ready_queue))

    return reported(request, shared_servers.get(ready_queue, begin))


@pytest.fixture
def host(site: Site, launch: Launch, ready_queue: str) -> Host:
    """Start an instance with this appsrv.toml and tests/apps/hosted.py in directories of these names."""

    def start(toml: str, *names: str, options: tuple[str, ...] = (), until: str = "web server started") -> Server:
        argv, address = argv_of(site, toml, names, ready_queue)
        server = launch([*argv, *options], address)
        wait_for(lambda: until in server.terminal or server.child.poll() is not None, "the banner", 30)
        return server

    return start


def add(place: Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    shutil.copy(APPS / "hosted.py", place / "app.py")


@contextlib.contextmanager
def holding(site: Site) -> Iterator[Path]:
    """What requests to `/hold?PATH` wait for; it comes at the end."""
    path = site.directory / "until"
    try:
        yield path
    finally:
        path.touch()


# -- whose a request is


@pytest.mark.both_queues
def test_requests_go_by_host_and_path(shop_and_blog: Server) -> None:
    server = shop_and_blog
    shop = said(server.get("/cart", SHOP))
    assert shop[:4] == ("shop", "", "/cart", "0")
    assert shop.key == "of the shop"
    assert said(server.get("/", {"Host": "eu.SHOP.example:8000"})).name == "shop"
    blog = said(server.get("/blog/1"))
    assert (blog.name, blog.script_name, blog.path, blog.key) == ("blog", "/blog", "/1", "")
    assert said(server.get("/blog", SHOP)).name == "shop"
    assert said(server.get("http://shop.example/x", {"Host": "another"})).name == "shop"
    nobody = server.get("/blogs", {"Host": "other.example"})
    assert nobody.status == 404
    assert "other.example" in nobody.text
    assert [one["name"] for one in server.status()["app_groups"]] == [
        str(server.site.directory / name) for name in ("shop", "blog")
    ]


@pytest.mark.both_queues
def test_a_connection_is_used_for_several_applications(shop_and_blog: Server) -> None:
    """As proxies do it: whose a request is, is found out request by request."""
    accepted = shop_and_blog.status()["server"]["accepted"]
    connection = shop_and_blog.keep_alive()
    for number in range(20):
        length = 300_000 * (number % 3)
        body = b"x" * length if length else None
        assert said(connection.exchange("POST", "/buy", body, SHOP))[:4] == ("shop", "", "/buy", str(length))
        assert said(connection.exchange("POST", "/blog/new", body))[:4] == ("blog", "/blog", "/new", str(length))
        assert said(connection.exchange("GET", "/blog/again"))[:3] == ("blog", "/blog", "/again")
    assert connection.exchange("GET", "/", headers={"Host": "nobody"}).status == 404
    connection.close()
    assert shop_and_blog.status()["server"]["accepted"] == accepted + 1


@pytest.mark.both_queues
def test_pipelined_requests_for_several_applications(shop_and_blog: Server) -> None:
    shop = b"GET /%d HTTP/1.1\r\nHost: shop.example\r\n\r\n"
    blog = b"GET /blog/%d HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /blog/9 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = exchange_bytes(shop_and_blog.address, shop % 1 + blog % 2 + blog % 3 + shop % 4 + last)
    found = re.findall(rb"(shop||blog)\|(?:/blog)?\|/(\d)\|", answer.data)
    assert found == [(b"shop", b"1"), (b"blog", b"2"), (b"blog", b"3"), (b"shop", b"4"), (b"blog", b"9")]


@pytest.mark.both_queues
def test_a_head_that_comes_in_pieces_is_routed_when_it_is_whole(shop_and_blog: Server) -> None:
    with shop_and_blog.raw() as client:
        for piece in (b"GET /late HTT", b"P/1.1\r\nHo", b"st: shop.example\r\nConnection: close\r\n"):
            client.sendall(piece)
            wait_for(lambda: shop_and_blog.status()["server"]["connections"] >= 1, "the connection")
        client.sendall(b"\r\n")
        assert b"shop||/late|0" in _all(client)


def _all(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(1 << 20), b""))


@pytest.mark.both_queues
def test_nonsense_is_refused_before_anybody_is_asked(shop_and_blog: Server) -> None:
    ambiguous = exchange_bytes(shop_and_blog.address, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
    assert ambiguous.data.startswith(b"HTTP/1.1 400 ")
    old = exchange_bytes(shop_and_blog.address, b"GET /blog HTTP/1.0\r\n\r\n")
    assert old.data.startswith(b"HTTP/1.1 200 ")


def test_one_application_with_a_place_of_its_own(serve: Any) -> None:
    server = serve("hosted", "--base-uri", "/shop", "--hosts", "shop.example")
    assert said(server.get("/shop/x", SHOP))[1:3] == ("/shop", "/x")
    assert server.get("/x", SHOP).status == 404
    assert server.get("/shop/x").status == 404


# -- nobody feels what happens to another


def test_a_broken_application_harms_no_other_and_is_served_once_it_is_mended(host: Host, site: Site) -> None:
    site.write("broken/app.py", "import no_such_module\napplication = print\n")
    site.write("empty/readme.txt", "nothing to serve\n")
    more = '[[apps]]\nroot = "broken"\nbase_uri = "/broken"\n[[apps]]\nroot = "empty"\nbase_uri = "/empty"\n'
    server = host(PLACES + more, "shop", "blog")
    assert said(server.get("/", SHOP)).name == "shop"
    page = server.get("/broken/")
    assert page.status == 503
    assert server.get("/empty/").status == 404
    broken = group(server, "broken")
    assert (broken["state"], "no_such_module" in broken["last_error"]["message"]) == ("broken", True)
    (problem,) = server.status()["not_served"]
    assert (os.path.basename(problem["name"]), "no application found" in problem["message"]) == ("empty", True)
    report = site.command("status", "--port", str(server.address[1]))
    assert "Not served" in report.stdout
    assert "no_such_module" in report.stdout
    shutil.copy(APPS / "hosted.py", site.directory / "broken" / "app.py")
    wait_for(lambda: server.get("/broken/").status == 200, "the mended application", 30)
    assert said(server.get("/blog/")).name == "blog"


def test_where_none_can_be_served_the_start_fails(host: Host, site: Site) -> None:
    site.write("one/app.py", "import no_such_module\napplication = print\n")
    server = host('[[apps]]\nroot = "one"\n[[apps]]\nroot = "two"\nhosts = ["two"]\n')
    assert server.wait_exit() == 4
    assert "no_such_module" in server.terminal


@pytest.mark.both_queues
def test_a_drowning_application_harms_no_other(host: Host) -> None:
    settings = "max_pool_size = 3\nmax_request_queue_size = 5\n"
    server = host(settings + PLACES, "shop", "blog")
    clients = [Connection(server.address) for _ in range(30)]
    with holding(server.site) as until:
        for client in clients:
            client.request("GET", f"/hold?{until}", headers=SHOP)
        wait_for(lambda: group(server, "shop")["refused"] > 0, "a full queue")
        for _ in range(10):
            assert said(server.get("/blog/")).name == "blog"
        assert group(server, "shop")["queue"] > 0, "it drowns still"
    answers = [client.getresponse().status for client in clients]
    assert set(answers) == {200, 503}
    for client in clients:
        client.close()


def test_a_death_in_one_application_is_its_own(host: Host) -> None:
    server = host(ONE_EACH, "shop", "blog")
    blog = said(server.get("/blog/")).pid
    assert server.get("/die", SHOP).status == 502
    assert said(server.get("/", SHOP)).name == "shop"
    assert said(server.get("/blog/")).pid == blog
    assert group(server, "shop")["deaths_by_cause"]
    assert not group(server, "blog")["deaths_by_cause"]


def test_after_the_death_of_the_server_all_are_served_by_the_same_preloaders(host: Host) -> None:
    server = host(ONE_EACH, "shop", "blog")
    before = {pid for pid, title in server.titles().items() if title.startswith("appsrv preloader")}
    assert len(before) == 2
    os.kill(server.pid_of("appsrv server"), signal.SIGKILL)
    assert said(server.get("/", SHOP)).name == "shop"
    assert said(server.get("/blog/")).name == "blog"
    assert {pid for pid, title in server.titles().items() if title.startswith("appsrv preloader")} == before
    assert server.terminal.count("web server started") == 1


# -- what is each one's own


def test_each_has_its_own_log(host: Host, site: Site) -> None:
    (site.directory / "blog" / "log").mkdir(parents=True)
    shutil.copy(APPS / "hosted.py", site.directory / "blog" / "app.py")
    server = host(PLACES, "shop")
    said(server.get("/one", SHOP))
    said(server.get("/blog/two"))
    shop, blog = site.directory / "shop" / "appsrv.log", site.directory / "blog" / "log" / "appsrv.log"
    wait_for(lambda: "shop serves /one" in shop.read_text(), "the print of the shop")
    wait_for(lambda: "blog serves /two" in blog.read_text(), "the print of the blog")
    assert "/two" not in shop.read_text()
    assert "serves /" not in server.log()
    server.wait_log("worker .* is ready")
    shown = site.command("logs", "--app", "blog", "--port", str(server.address[1]))
    assert (shown.returncode, "serves /two" in shown.stdout, "/one" in shown.stdout) == (0, True, False)
    blog.rename(blog.with_name("old.log"))
    server.child.send_signal(signal.SIGUSR1)
    wait_for(blog.exists, "the log that was opened again")


def test_restarts_are_of_those_that_are_meant(host: Host, site: Site) -> None:
    server = host(ONE_EACH, "shop", "blog")
    port = ("--port", str(server.address[1]))
    shop, blog = said(server.get("/", SHOP)).pid, said(server.get("/blog/")).pid
    done = site.command("restart-app", "shop", *port)
    assert (done.returncode, done.stdout.count("Restarting")) == (0, 1), done
    assert said(server.get("/", SHOP)).pid != shop
    assert said(server.get("/blog/")).pid == blog
    both = site.command("restart-app", "/", *port)
    assert (both.returncode, both.stdout.count("Restarting")) == (0, 2), both
    assert said(server.get("/blog/")).pid != blog
    blog = said(server.get("/blog/")).pid
    site.write("shop/tmp/restart.txt", "")
    wait_for(lambda: group(server, "shop")["generation"] == 4, "the restart that the file asks for")
    assert said(server.get("/blog/")).pid == blog
    site.write("shop/app.py", "application = (\n")
    failed = site.command("restart-app", "shop", *port)
    assert failed.returncode == 1
    assert said(server.get("/", SHOP)).name == "shop", "the previous code keeps serving"


def test_settings_of_the_pool_are_each_one_s_own(host: Host) -> None:
    toml = PLACES.replace('root = "shop"', 'root = "shop"\nmin_instances = 2\nmax_pool_size = 2\nthreads = 3')
    server = host(toml, "shop", "blog")
    wait_for(lambda: len(pids(server, "shop")) == 2, "two workers of the shop")
    assert len(pids(server, "blog")) == 1
    assert {worker["threads"] for worker in group(server, "shop")["workers"]} == {3}
    assert group(server, "shop")["max_pool_size"] == 2
    assert server.status()["max_pool_size"] == 6


# -- one pool for all


@pytest.mark.both_queues
def test_the_places_are_shared_and_go_to_who_needs_them(host: Host) -> None:
    names = ("a", "b", "c")
    toml = "max_pool_size = 2\n" + "".join(f'[[apps]]\nroot = "{name}"\nbase_uri = "/{name}"\n' for name in names)
    server = host(toml, *names)
    for name in (*names, *names):
        assert said(server.get(f"/{name}/")).name == name
        # All of one look: between two, a place may go from one to another.
        groups = server.status()["app_groups"]
        assert sum(worker["state"] in ("idle", "busy") for one in groups for worker in one["workers"]) <= 2
    server.wait_log("needs its place")


def test_who_has_all_places_gives_one_up_after_its_request(host: Host) -> None:
    toml = "max_pool_size = 3\n" + PLACES.replace('root = "blog"', 'root = "blog"\nmin_instances = 0')
    server = host(toml, "shop", "blog")
    stop = threading.Event()
    statuses: list[int] = []

    def keep_asking() -> None:
        connection = Connection(server.address)
        while not stop.is_set():
            statuses.append(connection.exchange("GET", "/sleep?0.2", headers=SHOP).status)
        connection.close()

    threads = [threading.Thread(target=keep_asking) for _ in range(12)]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: len(pids(server, "shop")) == 3, "all places taken")
        assert said(server.get("/blog/")).name == "blog"
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert set(statuses) == {200}, "nobody was cut short"


# -- a directory of applications


def test_applications_come_and_go_without_a_restart(host: Host, site: Site) -> None:
    apps = site.directory / "apps"
    apps.mkdir()
    server = host('apps_directory = "apps"\n')
    assert server.get("/one/").status == 404
    site.write("apps/one/appsrv.toml", "max_pool_size = 1\n")
    add(apps / "one")
    # Before the one that is waited for: whatever look finds that finds this, too.
    (apps / "three").mkdir()
    add(apps / "two.example")
    wait_for(lambda: server.get("/one/").status == 200, "the first application")
    wait_for(lambda: server.get("/", {"Host": "two.example"}).status == 200, "the second one")
    first = said(server.get("/one/x"))
    assert first[:3] == ("one", "/one", "/x")
    assert [os.path.basename(one["name"]) for one in server.status()["not_served"]] == ["three"]
    shutil.copy(APPS / "hosted.py", apps / "three" / "app.py")
    wait_for(lambda: server.get("/three/").status == 200, "the third, now that there is an application in it")
    connection = server.keep_alive()
    assert said(connection.exchange("GET", "/one/x")).pid == first.pid
    slow = Connection(server.address)
    with holding(site) as until:
        slow.request("GET", f"/one/hold?{until}")
        wait_for(lambda: any(worker["sessions"] for worker in group(server, "one")["workers"]), "the slow request")
        shutil.rmtree(apps / "one")
        wait_for(lambda: server.get("/one/").status == 404, "its end")
    assert slow.getresponse().read().startswith(b"one|"), "what was being served is finished"
    wait_for(lambda: int(first.pid) not in server.titles(), "the end of its worker")
    wait_for(lambda: not any("apps/one" in title for title in server.titles().values()), "the end of its preloader")
    assert sum(title.startswith("appsrv worker") for title in server.titles().values()) == 2
    assert said(server.get("/three/")).name == "three"
    connection.close()
    slow.close()


def test_an_application_that_nobody_asks_for_has_no_process(host: Host) -> None:
    sleepy = "min_instances = 0\npool_idle_time = 0.5\nmax_preloader_idle_time = 0.5\n"
    server = host(sleepy + PLACES, "shop", "blog")

    def loaded() -> list[str]:
        return [title for title in server.titles().values() if title.startswith(("appsrv preloader", "appsrv worker"))]

    assert loaded() == []
    assert said(server.get("/", SHOP)).name == "shop"
    assert all("shop" in title for title in loaded())
    wait_for(lambda: not loaded(), "its end")
    assert group(server, "shop")["state"] == "running"
    os.kill(server.pid_of("appsrv server"), signal.SIGKILL)
    assert said(server.get("/", SHOP)).name == "shop"
    assert site_restarts(server) == 0
    assert said(server.get("/blog/")).name == "blog"


def test_a_restart_that_fails_leaves_a_sleeping_application_asleep(host: Host, site: Site) -> None:
    sleepy = "min_instances = 0\n"
    server = host(sleepy + PLACES, "shop", "blog")
    working = (site.directory / "shop" / "app.py").read_text()
    site.write("shop/app.py", "import no_such_module\napplication = print\n")
    done = site.command("restart-app", "shop", "--port", str(server.address[1]))
    assert done.returncode == 1
    assert "no_such_module" in done.stderr
    site.write("shop/app.py", working)
    assert said(server.get("/", SHOP)).name == "shop"


def site_restarts(server: Server) -> int:
    return server.site.command("restart-app", "/", "--port", str(server.address[1])).returncode


def test_new_settings_of_one_are_taken_up(host: Host, site: Site) -> None:
    add(site.directory / "apps" / "one")
    add(site.directory / "apps" / "two")
    site.write("apps/two/appsrv.toml", "max_pool_size = 1\n")
    server = host('apps_directory = "apps"\n')
    two = said(server.get("/two/")).pid
    site.write("apps/one/appsrv.toml", 'hosts = ["one.example"]\nmin_instances = 2\n')
    wait_for(lambda: server.get("/", {"Host": "one.example"}).status == 200, "the new place")
    wait_for(lambda: len(pids(server, "one")) == 2, "two workers")
    assert server.get("/one/").status == 404
    assert said(server.get("/two/")).pid == two
    site.write("apps/one/appsrv.toml", "min_instances = 'many'\n")
    wait_for(lambda: server.get("/", {"Host": "one.example"}).status == 404, "its end")
    assert "min_instances" in server.status()["not_served"][0]["message"]


def test_after_the_death_of_the_server_what_came_meanwhile_is_served(host: Host, site: Site) -> None:
    add(site.directory / "apps" / "one")
    server = host('apps_directory = "apps"\n')
    add(site.directory / "apps" / "late")
    wait_for(lambda: server.get("/late/").status == 200, "the second application")
    os.kill(server.pid_of("appsrv server"), signal.SIGKILL)
    assert said(server.get("/late/")).name == "late"
    assert said(server.get("/one/")).name == "one"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("server_user", [None, "daemon"])
def test_each_runs_as_its_own_user(open_site: Site, server_user: str | None) -> None:
    """Also where the server is neither of them and has no right to signal their workers."""
    users = {"shop": pwd.getpwnam("nobody"), "blog": pwd.getpwnam("games")}
    for name, user in users.items():
        add(open_site.directory / name)
        os.chown(open_site.directory / name, user.pw_uid, user.pw_gid)
    python = python_of_everybody(users["shop"])
    # Much longer than an ordinary request, whatever else the machine does.
    places = PLACES.replace('root = "shop"', 'root = "shop"\nuser = "nobody"\nmax_request_time = 5')
    places = places.replace('root = "blog"', 'root = "blog"\nuser = "games"')
    own = f'user = "{server_user}"\n' if server_user else ""
    owner = pwd.getpwnam(server_user).pw_uid if server_user else 0
    os.chown(open_site.directory, owner, -1)
    open_site.write("appsrv.toml", own + places)
    port = free_port()
    server = Server(open_site, [*python, "start", "--port", str(port)], ("127.0.0.1", port), {"PYTHONPATH": LIBRARY})
    try:
        wait_for(lambda: "web server started" in server.terminal, "the banner", 30)
        assert said(server.get("/", SHOP)).uid == str(users["shop"].pw_uid)
        blog = said(server.get("/blog/"))
        assert blog.uid == str(users["blog"].pw_uid)
        assert psutil.Process(server.pid_of("appsrv server")).uids().real == owner
        for name, user in users.items():
            assert (open_site.directory / name / "appsrv.log").stat().st_uid == user.pw_uid
        assert server.get("/sleep?60", SHOP).status == 504
        assert said(server.get("/", SHOP)).name == "shop"
        detached = send(server.admin_socket(), "POST", "/restart", json.dumps({"prefix": "/"}).encode())
        assert [one["ok"] for one in detached.json["restarted"]] == [True, True]
        assert said(server.get("/blog/")).pid != blog.pid
    finally:
        left = server.reap()
    assert left == [], server.evidence()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_found_applications_are_their_owners(open_site: Site) -> None:
    user = pwd.getpwnam("nobody")
    place = open_site.directory / "apps" / "one"
    add(place)
    os.chown(place, user.pw_uid, user.pw_gid)
    open_site.write("apps/one/appsrv.toml", "user = 'root'\n")
    open_site.write("appsrv.toml", "apps_directory = 'apps'\n")
    python = python_of_everybody(user)
    port = free_port()
    server = Server(open_site, [*python, "start", "--port", str(port)], ("127.0.0.1", port), {"PYTHONPATH": LIBRARY})
    try:
        wait_for(lambda: "web server started" in server.terminal, "the banner", 30)
        assert said(server.get("/one/")).uid == str(user.pw_uid)
        # Given away before it comes: it is served as soon as it is seen, as its owner of that moment.
        add(open_site.directory / "late")
        os.chown(open_site.directory / "late", user.pw_uid, user.pw_gid)
        (open_site.directory / "late").rename(open_site.directory / "apps" / "late")
        wait_for(lambda: server.get("/late/").status == 200, "the second application")
        assert said(server.get("/late/")).uid == str(user.pw_uid)
    finally:
        left = server.reap()
    assert left == [], server.evidence()


def test_the_example_project(site: Site, launch: Launch) -> None:
    site.add_project("several")
    for name in ("wsgi", "flask", "asgi"):
        made = shutil.ignore_patterns("*.log", "instance")
        shutil.copytree(EXAMPLES / name, site.directory.parent / name, ignore=made)
    port = free_port()
    server = launch([COMMAND, "start", "--port", str(port)], ("127.0.0.1", port))
    wait_for(lambda: "web server started" in server.terminal, "the banner", 30)
    assert "<title>WSGI on appsrv</title>" in server.get("/").text
    assert server.get("/", {"Host": f"flask.localhost:{port}"}).status == 200
    assert "asgi" not in "".join(server.titles().values())
    assert "Hello from process" in server.get("/", {"Host": "asgi.localhost"}).text


@pytest.mark.both_queues
def test_the_banner_says_what_is_served(shop_and_blog: Server) -> None:
    directory = shop_and_blog.site.directory
    wait_for(lambda: "web server started" in shop_and_blog.terminal, "the banner")
    assert f"shop.example/, *.shop.example/  {directory / 'shop'}" in shop_and_blog.terminal
    assert f"*/blog                          {directory / 'blog'}" in shop_and_blog.terminal


def test_what_is_wrong_with_the_file_is_told_at_once(site: Site) -> None:
    site.write("appsrv.toml", PLACES.replace("root", "rot"))
    done = site.command("start", "--port", "0")
    assert done.returncode == 2
    assert "[[apps]] number 1: root is missing" in done.stderr


def test_an_app_argument_contradicts_a_file_with_several(site: Site) -> None:
    site.add_app("hosted")
    site.write("appsrv.toml", PLACES)
    done = site.command("start", "hosted:application", "--port", "0")
    assert done.returncode == 2
    assert "leave APP out" in done.stderr




# -- in other languages ----------------------------------------------------------------------------------------------

HOSTILE = f"{sys.executable} {APPS.parent}/generic/hostile.py"
IN_ANOTHER_LANGUAGE = f"""
[[apps]]
root = "shop"
hosts = ["shop.example"]
[[apps]]
root = "api"
hosts = ["api.example"]
start_command = "{HOSTILE} $SOCKET"
request_buffering = false
[[apps]]
root = "feed"
base_uri = "/feed"
start_command = "{HOSTILE}"
"""


def test_one_application_is_a_command(host: Host, site: Site) -> None:
    for name in ("api", "feed"):
        (site.directory / name).mkdir(parents=True)
    server = host(IN_ANOTHER_LANGUAGE, "shop", options=("--min-instances", "1"))
    api = {"Host": "api.example"}
    connection = server.keep_alive()
    assert said(connection.exchange("GET", "/a", None, SHOP)).path == "/a"
    assert connection.exchange("GET", "/environment", None, api).text.count(f"PWD={site.directory}/api") == 1
    head = connection.exchange("GET", "/feed/head", None, {"Host": "any.example"})
    assert head.status == 200
    assert connection.exchange("POST", "/body", bytes(500_000), api).body == bytes(500_000)
    connection.close()
    with server.raw() as client:
        client.sendall(b"POST /duplex HTTP/1.1\r\nHost: api.example\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.sendall(b"3\r\none\r\n")
        heard = b""
        while b"one" not in heard:
            heard += client.recv(1000)
        client.sendall(b"0\r\n\r\n")
    assert send(server.address, "GET", "/broken/garbage", None, api).status == 502
    assert said(send(server.address, "GET", "/a", None, SHOP)).path == "/a"


# -- in the middle of something ----------------------------------------------------------------------------------------

FOUR = ("a", "b", "c", "d")


def places(*names: str) -> str:
    return "".join(f'[[apps]]\nroot = "{name}"\nbase_uri = "/{name}"\n' for name in names)


def loads_slowly(place: Path) -> None:
    """From now on importing it takes longer than any test."""
    source = (APPS / "hosted.py").read_text()
    (place / "app.py").write_text(f"{source}\nif not os.path.exists('go'):\n    time.sleep(1000)\n")


def test_after_the_death_of_the_server_all_that_sleep_can_be_woken(host: Host) -> None:
    sleepy = "min_instances = 0\npool_idle_time = 0.5\nmax_preloader_idle_time = 0.5\n"
    server = host(sleepy + places(*FOUR), *FOUR)
    for name in FOUR:
        assert said(server.get(f"/{name}/")).name == name
    wait_for(lambda: not any("preloader" in title for title in server.titles().values()), "the end of all")
    os.kill(server.pid_of("appsrv server"), signal.SIGKILL)
    for name in FOUR:
        assert said(server.get(f"/{name}/")).name == name


def test_after_the_death_of_the_server_and_all_preloaders_all_are_loaded(host: Host) -> None:
    server = host(places(*FOUR), *FOUR)
    for pid, title in server.titles().items():
        if title.startswith(("appsrv server", "appsrv preloader")):
            os.kill(pid, signal.SIGKILL)
    for name in FOUR:
        assert said(server.get(f"/{name}/")).name == name


def test_applications_that_go_while_they_are_loaded_hold_up_no_others(host: Host, site: Site) -> None:
    for name in FOUR:
        add(site.directory / "apps" / name)
    for name in ("a", "b"):
        loads_slowly(site.directory / "apps" / name)
    server = host('apps_directory = "apps"\n', until="")
    wait_for(lambda: sum("preloader" in title for title in server.titles().values()) == 2, "the first two")
    for name in ("a", "b"):
        shutil.rmtree(site.directory / "apps" / name)
    wait_for(lambda: server.get("/d/").status == 200, "the last one")
    wait_for(lambda: "web server started" in server.terminal, "the banner", 30)


def test_hundreds_of_applications_that_sleep(host: Host) -> None:
    names = [f"app-{number}" for number in range(400)]
    server = host("min_instances = 0\n" + places(*names), *names)
    assert said(server.get("/app-399/")).name == "app-399"


def test_a_restart_of_an_application_that_goes_is_over(host: Host, site: Site) -> None:
    for name in ("one", "two"):
        add(site.directory / "apps" / name)
    server = host('apps_directory = "apps"\n')
    two = said(server.get("/two/")).pid
    loads_slowly(site.directory / "apps" / "one")
    server.child.send_signal(signal.SIGHUP)
    wait_for(lambda: group(server, "one")["state"] == "restarting", "the restart")
    shutil.rmtree(site.directory / "apps" / "one")
    wait_for(lambda: said(server.get("/two/")).pid != two, "the restart of the other one", 20)


def test_a_response_that_is_still_sent_when_its_application_goes_ends_well(host: Host, site: Site) -> None:
    add(site.directory / "apps" / "one")
    server = host('apps_directory = "apps"\n')
    size = 30_000_000
    with server.raw() as client:
        client.sendall(b"GET /one/large?%d HTTP/1.1\r\nHost: x\r\n\r\n" % size)
        assert client.recv(10)
        wait_for(lambda: not any(w["sessions"] for w in group(server, "one")["workers"]), "the worker's part of it")
        shutil.rmtree(site.directory / "apps" / "one")
        wait_for(lambda: not any("apps/one" in title for title in server.titles().values()), "the end of its processes")
        wait_for(lambda: server.get("/one/").status == 404, "its end")
        assert len(_all(client)) > size
    assert "given up" not in server.log()
    assert "failed" not in server.log()


@pytest.mark.both_queues
def test_a_request_that_still_comes_when_its_application_goes_is_answered(host: Host, site: Site) -> None:
    add(site.directory / "apps" / "one")
    server = host('apps_directory = "apps"\n')
    connection = server.keep_alive()
    assert said(connection.exchange("GET", "/one/")).name == "one"
    connection.sock.sendall(b"POST /one/ HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello")
    shutil.rmtree(site.directory / "apps" / "one")
    wait_for(lambda: not any("apps/one" in title for title in server.titles().values()), "the end of its processes")
    connection.sock.sendall(b"world")
    assert connection.sock.recv(1000).startswith(b"HTTP/1.1 404 ")
    connection.close()
    assert "given up" not in server.log()
    assert "failed" not in server.log()


def test_an_application_outside_of_its_directory_is_not_served_and_harms_nobody(host: Host, site: Site) -> None:
    add(site.directory / "apps" / "one")
    add(site.directory / "elsewhere")
    server = host('apps_directory = "apps"\n')
    site.write("apps/two/appsrv.toml", 'app = "../../elsewhere/app.py"\n')
    wait_for(lambda: server.get("/two/").status != 404 or server.status()["not_served"], "the look")
    shutil.rmtree(site.directory / "apps" / "two")
    wait_for(lambda: server.get("/two/").status == 404 and not server.status()["not_served"], "its end")
    add(site.directory / "apps" / "three")
    wait_for(lambda: server.get("/three/").status == 200, "the next application")
    assert said(server.get("/one/")).name == "one"


def test_a_file_that_cannot_be_read_is_its_application_s_own_trouble(host: Host, site: Site) -> None:
    apps = site.directory / "apps"
    for name in ("bytes", "nested"):
        add(apps / name)
    server = host('apps_directory = "apps"\n')
    (apps / "bytes" / "appsrv.toml").write_bytes(b"\xff")
    (apps / "nested" / "appsrv.toml").write_bytes(b"a = " + b"[" * 20_000)
    for place, pipe in (("pipe", "appsrv.toml"), ("pipe-too", "appsrv.log")):
        (apps / place).mkdir()
        os.mkfifo(apps / place / pipe)
        shutil.copy(APPS / "hosted.py", apps / place / "app.py")
    add(apps / "two")
    wait_for(lambda: server.get("/two/").status == 200, "the application after them")
    assert [server.get(f"/{name}/").status for name in ("bytes", "nested")] == [404, 404]


@pytest.mark.both_queues
def test_who_asks_without_a_pause_keeps_nobody_from_a_place(host: Host) -> None:
    server = host("max_pool_size = 1\n" + PLACES, "shop", "blog")
    stop = threading.Event()

    def keep_asking() -> None:
        connection = Connection(server.address)
        while not stop.is_set():
            assert connection.exchange("GET", "/sleep?0.1", headers=SHOP).status == 200
        connection.close()

    threads = [threading.Thread(target=keep_asking) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        assert said(server.get("/blog/")).name == "blog"
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_the_sockets_of_a_command_go_with_it(host: Host, site: Site) -> None:
    add(site.directory / "apps" / "one")
    server = host('apps_directory = "apps"\n')
    site.write("apps/api/appsrv.toml", f'base_uri = "/api"\nstart_command = "{HOSTILE} $SOCKET"\n')
    wait_for(lambda: server.get("/api/head").status == 200, "the command")
    run = Path(server.admin_socket()).parent
    assert list(run.glob("upstreams-*"))
    shutil.rmtree(site.directory / "apps" / "api")
    wait_for(lambda: not list(run.glob("upstreams-*")), "the end of their directory")


def test_a_command_that_does_not_start_harms_no_other(host: Host, site: Site) -> None:
    """One that ends, and one that does not listen."""
    add(site.directory / "apps" / "one")
    server = host('apps_directory = "apps"\n')
    for name, command in (("ends", "false"), ("silent", "sleep 1000")):
        site.write(f"apps/{name}/appsrv.toml", f'start_command = "{command}"\nstart_timeout = 3\n')
    for name in ("ends", "silent"):
        wait_for(lambda name=name: server.get(f"/{name}/").status == 503, "the page that says so", 30)  # type: ignore[misc]
        assert group(server, name)["state"] == "broken"
    assert said(server.get("/one/")).name == "one"
