"""A file that is saved while the application is being loaded, after it was imported: the answer is the saved one's."""

from __future__ import annotations

import sys

import pytest

from integration.conftest import Launch
from support.server import BIN, Server, Site, free_port
from support.waiting import wait_for

# The module `words` is loaded; until the file `go` is there, the rest is not.
APPLICATION = """
import os, time
import words
open("loading", "w").close()
while not os.path.exists("go"):
    time.sleep(0.02)
"""
FLASK = "from flask import Flask\napp = Flask(__name__)\n\n@app.get('/word')\ndef word():\n    return words.WORD\n"
DJANGO = """
from django.http import HttpResponse

def word(request):
    return HttpResponse(words.WORD)
"""
ROUTES = """
from uploads import word
urlpatterns += [path("word", word.word)]
"""


@pytest.fixture(params=["runserver", "flask run"])
def command(request: pytest.FixtureRequest, site: Site) -> list[str]:
    site.write("words.py", "WORD = 'old'\n")
    if request.param == "flask run":
        site.write("requirements.txt", "appsrv\n")
        site.write("app.py", APPLICATION + FLASK)
        return [str(BIN / "flask"), "--debug", "run", "--port"]
    site.add_project("django")
    urls = site.directory / "uploads" / "urls.py"
    urls.write_text(urls.read_text() + ROUTES)
    site.write("uploads/word.py", APPLICATION + DJANGO)
    return [sys.executable, "manage.py", "runserver"]


COMPILED: dict[str, str] = {}
NOT_COMPILED = {"PYTHONDONTWRITEBYTECODE": "1"}


@pytest.mark.parametrize(
    ("command", "workers", "bytecode"),
    [
        ("runserver", "1", COMPILED), ("runserver", "2", NOT_COMPILED),
        ("flask run", "1", NOT_COMPILED), ("flask run", "2", COMPILED),
    ],
    indirect=["command"],
)
def test_it_is_loaded_again(
    command: list[str], site: Site, launch: Launch, bytecode: dict[str, str], workers: str
) -> None:
    port = free_port()
    environment = {**bytecode, "APPSRV_MAX_POOL_SIZE": workers}
    server: Server = launch([*command, str(port)], ("127.0.0.1", port), environment)
    wait_for(lambda: (site.directory / "loading").exists(), "the beginning of loading", 30)
    site.save("words.py", "WORD = 'new'\n", same_second=True)
    site.write("go", "")
    server.wait_ready()
    wait_for(lambda: server.get("/word").text == "new", "the saved word", 15)
    assert list(site.directory.glob("__pycache__/words.*")) == [] or not bytecode
