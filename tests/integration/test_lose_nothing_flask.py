"""`flask run` beside Flask's own, on small projects: every line, every exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import certificates
from support.server import BIN
from support.side_by_side import PORT, Situation, compare

FLASK = str(BIN / "flask")
SERVES = r"^.*Press CTRL\+C to quit"
RELOADS = r"Debugger PIN: "
APP = '''
from flask import Flask, redirect

app = Flask(__name__)

@app.get("/")
def home():
    return "home"

@app.get("/moved")
def moved():
    return redirect("/")

@app.get("/printing")
def printing():
    print("printed by a view")
    app.logger.warning("said by a view")
    return "printed"
'''
FACTORY = '''
import os
from flask import Flask

def create_app(name="nobody"):
    app = Flask(__name__)
    app.add_url_rule("/", view_func=lambda: name + os.environ.get("FROM_FILE", ""))
    return app
'''
GROUP = '''
import sys
from flask import Flask
from flask.cli import FlaskGroup

def make():
    app = Flask("grouped")
    app.add_url_rule("/", view_func=lambda: "grouped")
    return app

if __name__ == "__main__":
    FlaskGroup(create_app=make)()
'''
HANDLER = APP + '''
import logging
handler = logging.FileHandler("server.log")
handler.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
logging.getLogger("werkzeug").addHandler(handler)
'''
REQUESTS = (("GET", "/"), ("GET", "/?a=%20b"), ("HEAD", "/"), ("GET", "/nothing"), ("GET", "/moved"),
            ("GET", "/printing"))


def serving(name: str, *options: str, until: str = SERVES, group: tuple[str, ...] = (), **more: object) -> Situation:
    arguments = [FLASK, *group, "run", *options, *([] if "environment" in more else ["-p", PORT])]
    return Situation(name, arguments, until, **{"requests": REQUESTS, **more})  # type: ignore[arg-type]


def ending(name: str, *options: str, group: tuple[str, ...] = (), **more: object) -> Situation:
    return Situation(name, [FLASK, *group, "run", *options], **more)  # type: ignore[arg-type]


def app(text: str) -> dict[str, str]:
    return {"app.py": text}


SITUATIONS = [
    serving("plain"),
    serving("an app and a host by name", "-h", "localhost", group=("--app", "app")),
    serving("debug", "--debug", until=RELOADS),
    serving("debug of the group, and more files", "--extra-files", "app.py", "--exclude-patterns", "*/x/*",
            group=("--debug",), until=RELOADS),
    serving("debug without reload", "--debug", "--no-reload"),
    serving("debug without debugger", "--debug", "--no-debugger", until="Restarting with"),
    serving("reload alone", "--reload", until="Restarting with"),
    serving("debugger alone", "--debugger"),
    serving("no threads", "--without-threads"),
    serving("all addresses without debug", "--no-debug", "-h", "0.0.0.0"),
    serving("ipv6 and threads", "-h", "::1", "--with-threads", host="::1"),
    serving("variables", environment={"FLASK_RUN_PORT": PORT, "FLASK_APP": "app:app", "FLASK_RUN_HOST": "127.0.0.1"}),
    serving("debug by variable", until=RELOADS, environment={"FLASK_DEBUG": "1", "FLASK_RUN_PORT": PORT}),
    serving("files of variables", group=("--app", "factory"), requests=(("GET", "/"),),
            files={"factory.py": FACTORY, ".flaskenv": "FROM_FILE=flaskenv\n", ".env": "FLASK_DEBUG=0\n"}),
    serving("a factory with arguments", group=("--app", "factory:create_app('me')"), requests=(("GET", "/"),),
            files={"factory.py": FACTORY}),
    serving("wsgi.py", requests=(("GET", "/"),), files={"wsgi.py": FACTORY}),
    serving("a logger of its own", files=app(HANDLER)),
    serving("a view that fails", files=app(APP + '\n@app.get("/oops")\ndef oops():\n    return 1 / 0\n'),
            requests=(("GET", "/oops"),)),
    Situation("a group of its own", [str(BIN / "python"), "grouped.py", "run", "-p", PORT], SERVES,
              requests=(("GET", "/"),), files={"grouped.py": GROUP}),
    ending("a module that is not there", group=("--app", "nothing")),
    ending("no app in the module", "-p", PORT, files=app("x = 1\n")),
    ending("several apps", files=app("from flask import Flask\na = Flask('a')\nb = Flask('b')\n")),
    ending("a factory that fails", group=("--app", "f:create_app"), files={"f.py": "def create_app():\n    1 / 0\n"}),
    ending("a mistake in the app", files=app("this is no Python\n")),
    ending("a mistake in the app, with debug", "--debug", files=app("this is no Python\n")),
    ending("an import that fails", files=app("import nothing_of_this_name\n")),
    ending("an address of somebody else", "-h", "203.0.113.7", "-p", PORT),
    ending("a name that is unknown", "-h", "nobody.invalid", "-p", PORT),
    ending("a bad port", "-p", "abc"),
    ending("an unknown option", "--nonsense"),
    ending("a certificate that is not there", "--cert", "nothing.pem"),
    ending("a key without a certificate", "--key", "app.py"),
    serving("a certificate made up", "--cert", "adhoc", tls=True),
    serving("a certificate made up, with debug", "--cert", "adhoc", "--debug", until=RELOADS, tls=True),
    serving("a certificate", "--cert", "cert.pem", "--key", "key.pem", tls=True),
]


def make_project(top: Path) -> None:
    """An application in a project that names appsrv."""
    (top / "requirements.txt").write_text("appsrv[flask]\n")
    (top / "app.py").write_text(APP)
    certificates.make(top)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("flask")
    make_project(top)
    return top


@pytest.mark.parametrize("situation", SITUATIONS, ids=str)
def test_flask(project: Path, situation: Situation) -> None:
    original, ours = compare(project, situation)
    assert ours == original
    assert bool(original.servers) == bool(situation.requests)
    assert not ours.servers or situation.name == "no threads"


DEBUGPY = [str(BIN / "python"), "-Xfrozen_modules=off", "-m", "debugpy", "--listen", "127.0.0.1:0", "-m", "flask"]
ASIDE = [
    Situation("debugpy", [*DEBUGPY, "run", "-p", PORT], SERVES, REQUESTS),
    Situation("debugpy with reload", [*DEBUGPY, "--debug", "run", "-p", PORT], RELOADS, REQUESTS),
    Situation("a trace function", [str(BIN / "python"), "traced.py", "run", "-p", PORT], SERVES, REQUESTS,
              files={"traced.py": "import sys, flask.cli\nsys.settrace(lambda *_: None)\nflask.cli.main()\n"}),
]


@pytest.mark.parametrize("situation", ASIDE, ids=str)
def test_a_debugger_wants_the_original(project: Path, situation: Situation) -> None:
    original, ours = compare(project, situation)
    assert ours == original
    assert ours.servers == original.servers != set()
