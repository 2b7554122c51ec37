"""The standby preloader of development servers: a save is answered by the process that was started before it."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from integration.conftest import Launch
from support.server import BIN, Server, Site, free_port
from support.waiting import wait_for

# Each process that imports the project leaves its pid.
TRACK = "import os\nwith open('imported', 'a') as file:\n    file.write(f'{os.getpid()}\\n')\n"
WORDS = """
import json, os
import PACKAGE as package
WORD = 'old'

def word():
    return json.dumps([WORD, os.getpid(), getattr(package, "MARK", "")])
"""
FLASK = "from flask import Flask\nimport words\napp = Flask(__name__)\napp.get('/word')(words.word)\n"
DJANGO = """
from django.http import HttpResponse
import words

def word(request):
    return HttpResponse(words.word())
"""
ROUTES = "\nfrom uploads import word\nurlpatterns += [path('word', word.word)]\n"


@dataclass
class Served:
    """A development server whose framework uses a `package` that lies in the site's directory `lib`."""

    server: Server
    site: Site
    package: str

    def answer(self) -> tuple[str, int, str]:
        """(the word, the pid that says it, the mark of the package that it has)"""
        word, pid, mark = json.loads(self.server.get("/word").text)
        return word, pid, mark

    def save(self, word: str) -> None:
        self.site.write("words.py", WORDS.replace("PACKAGE", self.package).replace("old", word))

    def saved(self, word: str) -> int:
        """The pid that answers what was saved."""
        wait_for(lambda: f'"{word}"' in self.server.get("/word").text, f"the saved {word!r}", 30)
        return self.answer()[1]

    def standby(self) -> int:
        """The pid of the preloader that stands by, once it does."""
        return wait_for(self._standby, "the standby preloader", 30)

    def _standby(self) -> int | None:
        return next((pid for pid, title in self.server.titles().items() if title == "appsrv standby"), None)


@pytest.fixture(params=["runserver", "flask run"])
def served(request: pytest.FixtureRequest, site: Site, launch: Launch) -> Served:
    package = "asgiref" if request.param == "runserver" else "blinker"
    source = importlib.util.find_spec(package)
    assert source is not None
    assert source.origin is not None
    shutil.copytree(Path(source.origin).parent, site.directory / "lib" / package)
    argv = write_django(site) if request.param == "runserver" else write_flask(site)
    port = free_port()
    # The project lies where anybody could import it, and is named to everybody.
    path = os.pathsep.join((str(site.directory / "lib"), str(site.directory)))
    environment = {"PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": "showcase.settings"}
    site.write("words.py", WORDS.replace("PACKAGE", package))
    server = launch([*argv, str(port)], ("127.0.0.1", port), environment).wait_ready()
    return Served(server, site, package)


def write_flask(site: Site) -> list[str]:
    site.write("requirements.txt", "appsrv\n")
    site.write("app.py", TRACK + FLASK)
    return [str(BIN / "flask"), "--debug", "run", "--port"]


def write_django(site: Site) -> list[str]:
    site.add_project("django")
    for name, text in (("uploads/urls.py", ROUTES), ("showcase/settings.py", TRACK)):
        path = site.directory / name
        path.write_text(path.read_text() + text)
    site.write("uploads/word.py", DJANGO)
    return [sys.executable, "manage.py", "runserver"]


def test_a_save_is_answered_by_the_process_that_stood_by(served: Served) -> None:
    standing_by = served.standby()
    assert served.answer()[1] != standing_by
    imported_before = (served.site.directory / "imported").read_text().split()
    served.save("new")
    assert served.saved("new") == standing_by
    assert str(standing_by) not in imported_before, "it had imported the project before it was needed"
    following = served.standby()
    assert following != standing_by
    served.save("newer")
    assert served.saved("newer") == following
    # Code that does not start has its standby, too, and mended code is answered by that of the mistake.
    mistaken = served.standby()
    served.site.write("words.py", "this is no Python\n")
    wait_for(lambda: served.server.get("/word").status == 500, "the page about the mistake", 30)
    mending = served.standby()
    assert mending not in (mistaken, following)
    served.save("mended")
    assert served.saved("mended") == mending


def test_without_it_a_save_is_answered_as_well_and_it_ends_with_the_command(served: Served) -> None:
    killed = served.standby()
    os.kill(killed, signal.SIGKILL)
    served.save("new")
    assert served.saved("new") != killed
    following = served.standby()
    assert following != killed
    # One that has imported an older version of the framework.
    package = served.site.directory / "lib" / served.package / "__init__.py"
    package.write_text(package.read_text() + "\nMARK = 'upgraded'\n")
    wait_for(lambda: served.answer()[2] == "upgraded", "the upgraded package", 30)
    assert served.answer()[1] == following
    last = psutil.Process(served.standby())
    os.kill(served.server.pid, signal.SIGKILL)
    wait_for(lambda: not last.is_running(), "the end of the standby preloader")
