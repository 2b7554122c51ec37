"""Files that need no new code, in a development server with several workers: each of them gets the news."""

from __future__ import annotations

import os
import re
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from integration.conftest import Launch
from support.server import Server, Site, free_port
from support.waiting import wait_for

VIEWS = """
import os, time
from django.http import HttpResponse
from django.shortcuts import render
from django.dispatch import receiver
from django.utils.autoreload import file_changed

@receiver(file_changed, dispatch_uid="seen")
def seen(sender, file_path, **kwargs):
    word = file_path.read_text().partition(" ")[0]
    print("seen", file_path.name, word, type(sender).__name__, flush=True)

def page(request):
    time.sleep(0.3)
    return render(request, "uploads/page.html", {"pid": os.getpid()})
"""
ROUTES = """
from uploads import page
urlpatterns += [path("page", page.page)]
"""
WORKERS = 3


@pytest.fixture
def template(site: Site) -> Path:
    site.add_project("django")
    urls = site.directory / "uploads" / "urls.py"
    urls.write_text(urls.read_text() + ROUTES)
    site.write("uploads/page.py", VIEWS)
    return site.write("uploads/templates/uploads/page.html", "old {{ pid }}")


def run_server(launch: Launch, **environment: str) -> Server:
    port = free_port()
    options = ["--max-pool-size", str(WORKERS), "--threads", "1", str(port)]
    argv = [sys.executable, "manage.py", "runserver", *options]
    environment |= {"APPSRV_MIN_INSTANCES": str(WORKERS)}
    return launch(argv, ("127.0.0.1", port), environment).wait_ready()


def words(server: Server) -> dict[str, set[str]]:
    """What the workers say, by the pid of each."""
    said: dict[str, set[str]] = {}
    with ThreadPoolExecutor(WORKERS) as clients:
        for reply in clients.map(lambda _: server.get("/page"), range(WORKERS)):
            assert reply.status == 200, reply.text
            word, pid = reply.text.split()
            said.setdefault(pid, set()).add(word)
    return said


def all_words(server: Server) -> dict[str, set[str]]:
    """The same, when each of the workers has said something."""

    def of_all() -> dict[str, set[str]] | None:
        said = words(server)
        return said if len(said) == WORKERS else None

    return wait_for(of_all, "an answer of each worker")


def wait_heard(server: Server, template: Path, word: str) -> None:
    """Until each worker and the preloader have heard of the template with this word in it."""
    everybody = server.worker_pids() | {server.group()["preloaders"][0]["pid"]}

    def heard() -> bool:
        # It is saved again: a watcher has to have seen it before.
        template.touch()
        found = re.findall(rf"App (\d+) stdout: seen page.html {word} ", server.log())
        return everybody <= {int(pid) for pid in found}

    wait_for(heard, f"{everybody} to hear of it", 30)


def test_templates_are_read_again_by_every_worker(template: Path, launch: Launch) -> None:
    server = run_server(launch, APPSRV_WARM_UP_PATH="/page")
    pids = server.wait_workers(WORKERS)
    assert set(map(frozenset, all_words(server).values())) == {frozenset({"old"})}
    template.write_text("new {{ pid }}")
    wait_heard(server, template, "new")
    # No worker was started anew, and none has kept the old one.
    assert all_words(server) == {str(pid): {"new"} for pid in pids}
    # The preloader had the template, too, from the warm-up request: what it forks has it no more.
    victim = min(pids)
    os.kill(victim, signal.SIGKILL)
    after = wait_for(lambda: server.worker_pids() - pids, "another worker")
    server.wait_workers(WORKERS)
    said = all_words(server)
    assert {said[str(pid)] == {"new"} for pid in after} == {True}


def test_a_change_of_code_is_heard_once(template: Path, launch: Launch, site: Site) -> None:
    server = run_server(launch)
    pids = server.wait_workers(WORKERS)
    site.save("uploads/page.py", VIEWS + "\n# saved\n")
    wait_for(lambda: len(server.worker_pids() - pids) == WORKERS, "the new generation", 30)
    assert server.log().count("page.py changed, reloading.") == 1


def test_the_next_watcher_tells_the_others(template: Path, launch: Launch) -> None:
    """When the worker that watches has died, another one does."""
    server = run_server(launch)
    server.wait_workers(WORKERS)
    all_words(server)
    template.write_text("newer {{ pid }}")
    wait_heard(server, template, "newer")
    old = server.worker_pids()
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    # The server knows of their end a moment later than the process table.
    wait_for(lambda: old.isdisjoint({*server.worker_pids(), *server.titles()}), "the end of the old ones")
    server.wait_workers(WORKERS)
    template.write_text("newest {{ pid }}")
    wait_heard(server, template, "newest")
    assert set(map(frozenset, all_words(server).values())) == {frozenset({"newest"})}
