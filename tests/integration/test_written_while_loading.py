"""Files that the start of an application writes: no reason to load it again. What somebody saves meanwhile is one."""

from __future__ import annotations

import sys

import pytest

from integration.conftest import Launch
from support.server import BIN, Server, Site, free_port
from support.waiting import wait_for

# Each import leaves a line in `imports`; then the module that was imported is written anew.
START = """
import os, subprocess, sys, time
import stamp, words
with open("imports", "a") as file:
    file.write("-")
TEXT = f"STAMP = {time.time_ns()}\\n"
"""
WRITES = {
    "writes": "with open('stamp.py', 'w') as file:\n    file.write(TEXT)\n",
    "renames": "with open('draft', 'w') as file:\n    file.write(TEXT)\nos.replace('draft', 'stamp.py')\n",
    "child writes": "subprocess.run([sys.executable, '-c', f'open(\"stamp.py\", \"w\").write({TEXT!r})'])\n",
}
# In the first process that is to serve: Django's command is set up in the one that was typed, too.
HELD = """
if {"RUN_MAIN", "WERKZEUG_RUN_MAIN"} & set(os.environ) and not os.path.exists("go"):
    with open("stamp.py", "w") as file:
        file.write(TEXT)
    open("written", "w").close()
    while not os.path.exists("go"):
        time.sleep(0.02)
"""
FLASK = """
from flask import Flask

def create_app():
    app = Flask(__name__)
    exec(compile(open("start.py").read(), "start.py", "exec"), globals())

    @app.get("/word")
    def word():
        return f"{words.WORD} {stamp.STAMP}"

    return app
"""
DJANGO = """
from django.http import HttpResponse
import stamp, words

def word(request):
    return HttpResponse(f"{words.WORD} {stamp.STAMP}")
"""
READY = """

def ready(self):
    exec(compile(open("start.py").read(), "start.py", "exec"), {})

UploadsConfig.ready = ready
"""
ROUTES = "\nfrom uploads import word\nurlpatterns += [path('word', word.word)]\n"


def begin(site: Site, launch: Launch, framework: str, workers: str, start: str) -> Server:
    site.write("stamp.py", "STAMP = 0\n")
    site.write("words.py", "WORD = 'old'\n")
    site.write("start.py", START + start)
    port = free_port()
    if framework == "flask":
        site.write("requirements.txt", "appsrv\n")
        site.write("app.py", FLASK)
        argv = [str(BIN / "flask"), "--debug", "run", "--port", str(port)]
    else:
        site.add_project("django")
        for name, text in (("apps", READY), ("urls", ROUTES)):
            path = site.directory / "uploads" / f"{name}.py"
            path.write_text(path.read_text() + text)
        site.write("uploads/word.py", DJANGO)
        argv = [sys.executable, "manage.py", "runserver", str(port)]
    return launch(argv, ("127.0.0.1", port), {"APPSRV_MAX_POOL_SIZE": workers})


def imports(site: Site) -> int:
    return len((site.directory / "imports").read_text())


@pytest.mark.parametrize(
    ("framework", "workers", "start"),
    [("flask", "1", "writes"), ("flask", "2", "renames"), ("django", "1", "renames"), ("django", "2", "writes")],
)
def test_they_do_not_load_it_again(site: Site, launch: Launch, framework: str, workers: str, start: str) -> None:
    server = begin(site, launch, framework, workers, WRITES[start]).wait_ready()
    before = imports(site)
    for number, word in enumerate(("second", "third"), 1):
        site.save("words.py", f"WORD = {word!r}\n")
        wait_for(lambda: server.get("/word").text.startswith(word), f"the saved {word!r}", 30)  # noqa: B023
        assert imports(site) == before + number
    assert "stamp.py" not in server.terminal, "it changed, but no one has saved it"


@pytest.mark.parametrize("framework", ["flask", "django"])
def test_what_an_editor_saves_over_them_counts(site: Site, launch: Launch, framework: str) -> None:
    server = begin(site, launch, framework, "1", HELD)
    wait_for(lambda: (site.directory / "written").exists(), "the beginning of loading", 30)
    loaded = imports(site)
    site.save("stamp.py", "STAMP = 'edited'\n")
    site.write("go", "")
    wait_for(lambda: (server.wait_ready(), server.get("/word").text)[1] == "old edited", "the saved file", 30)
    assert imports(site) == loaded + 1


def test_reloads_in_a_loop_are_braked(site: Site, launch: Launch) -> None:
    """What a child process writes at each start cannot be told from a save."""
    server = begin(site, launch, "flask", "1", WRITES["child writes"]).wait_ready()
    found = server.wait_log(r"(\S*stamp.py) changes at each start of \S+, 4 times in a row", 30)
    assert found[1] == str(site.directory / "stamp.py")
    loaded = imports(site)
    assert loaded <= 5
    assert server.get("/word").status == 200
    site.save("words.py", "WORD = 'saved'\n")
    wait_for(lambda: server.get("/word").text.startswith("saved"), "the saved file", 15)
