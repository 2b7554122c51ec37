"""`manage.py runserver` beside Django's own, on a project of `django-admin startproject`: every line, every code."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import django
import pytest

from support.side_by_side import PORT, Situation, compare

CACHE = Path(__file__).resolve().parents[2] / ".cache"

MANAGE = [sys.executable, "manage.py", "runserver"]
SERVES = r"^Quit the server with CONTROL-C\."
VIEWS = '''
import logging
from django.http import HttpResponse, StreamingHttpResponse

def home(request):
    return HttpResponse("home\\n")

def broken(request):
    raise RuntimeError("on purpose")

def moved(request):
    return HttpResponse(status=302, headers={"Location": "/"})

def printing(request):
    print("printed by a view")
    logging.getLogger("django.server").warning("said by a view")
    return HttpResponse("printed")
'''
URLS = '''
from django.contrib import admin
from django.urls import path
from shop import views

urlpatterns = [
    path("", views.home), path("broken", views.broken), path("moved", views.moved), path("printing", views.printing),
    path("admin/", admin.site.urls),
]
'''
STATIC = ("GET", "/static/admin/css/base.css")
REQUESTS = (("GET", "/"), ("GET", "/?a=%20b"), ("HEAD", "/"), ("GET", "/nothing"), ("GET", "/moved"),
            ("GET", "/printing"), STATIC, ("GET", "/static/nothing.css"), ("POST", "/"))
LOGGING = '''
from shop.settings import *
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"full": {"format": "%(name)s %(levelname)s %(status_code)s %(message)s"}},
    "handlers": {"file": {"class": "logging.FileHandler", "filename": "server.log", "formatter": "full"}},
    "loggers": {"django.server": {"handlers": ["file"], "level": "INFO", "propagate": False}},
}
'''
CHECKS = '''
from shop.settings import *
from django.core.checks import Error, Warning, register

@register()
def complain(app_configs, **kwargs):
    return [KIND("something is wrong", hint="mend it", id="shop.X001")]
'''
WHITENOISE = '''
from shop.settings import *
INSTALLED_APPS = ["whitenoise.runserver_nostatic", *INSTALLED_APPS]
MIDDLEWARE = [MIDDLEWARE[0], "whitenoise.middleware.WhiteNoiseMiddleware", *MIDDLEWARE[1:]]
'''
DAPHNE = '''
from shop.settings import *
INSTALLED_APPS = ["daphne", *INSTALLED_APPS]
ASGI_APPLICATION = "shop.asgi.application"
'''
# Django keeps its checks in a set: which of two meets a mistake first is left to the addresses of functions.
IN_ORDER = '''
from django.core.checks.registry import registry

class InOrder(list):
    def add(self, check):
        if check not in self:
            self.append(check)

registry.registered_checks = InOrder(sorted(registry.registered_checks, key=lambda c: (c.__module__, c.__qualname__)))
'''
TRACED = "import sys\nsys.settrace(lambda *_: None)\n"
PRODUCTION = "from shop.settings import *\nDEBUG = False\n"


def mistaken(urls: str) -> dict[str, str]:
    return {"shop/urls.py": urls, "shop/__init__.py": IN_ORDER}


def serving(name: str, *options: str, **more: object) -> Situation:
    arguments = [*MANAGE, *options, *([] if any(PORT in word for word in options) else [PORT])]
    return Situation(name, arguments, SERVES, **{"requests": REQUESTS, **more})  # type: ignore[arg-type]


def ending(name: str, *options: str, **more: object) -> Situation:
    return Situation(name, [*MANAGE, *options], **more)  # type: ignore[arg-type]


SITUATIONS = [
    serving("plain"),
    serving("noreload and no color", "--noreload", "--no-color"),
    serving("nothreading", "--nothreading", "--noreload"),
    serving("nostatic and verbosity 0", "--nostatic", "-v", "0"),
    serving("insecure and a name", "--insecure", "--settings", "prod", f"localhost:{PORT}",
            files={"prod.py": PRODUCTION + "ALLOWED_HOSTS = ['*']\n"}),
    serving("all addresses without debug", "--settings", "prod", f"0:{PORT}",
            files={"prod.py": PRODUCTION + "ALLOWED_HOSTS = ['*']\n"}),
    serving("ipv6 and pythonpath", "--ipv6", "--pythonpath", "more", "--settings", "elsewhere", host="::1",
            files={"more/elsewhere.py": "from shop.settings import *\n"}),
    serving("skip checks and verbosity 3", "--skip-checks", "-v", "3"),
    serving("force color", "--force-color", "--noreload"),
    serving("a logger of its own", "--settings", "logs", "--noreload", files={"logs.py": LOGGING},
            requests=REQUESTS[:1]),
    serving("a warning of the checks", "--settings", "checks", files={"checks.py": CHECKS.replace("KIND", "Warning")}),
    serving("variables of the environment", requests=REQUESTS[:1],
            environment={"DJANGO_SETTINGS_MODULE": "shop.settings", "DJANGO_RUNSERVER_HIDE_WARNING": "true"}),
    serving("whitenoise", "--settings", "white", files={"white.py": WHITENOISE}),
    serving("whitenoise without reload", "--settings", "white", "--noreload", files={"white.py": WHITENOISE}),
    ending("an error of the checks", "--settings", "checks", "--noreload", PORT,
           files={"checks.py": CHECKS.replace("KIND", "Error")}),
    ending("a bad port", "abc"),
    ending("a bad address", "1.2.3:x"),
    ending("an address of somebody else", f"203.0.113.7:{PORT}", "--noreload"),
    ending("an address of somebody else, with reload", f"203.0.113.7:{PORT}"),
    ending("a name that is unknown", f"nobody.invalid:{PORT}", "--noreload"),
    ending("no ipv6 address", "-6", "127.0.0.1:8000"),
    ending("version", "--version"),
    ending("no ALLOWED_HOSTS", "--settings", "prod", files={"prod.py": PRODUCTION + "ALLOWED_HOSTS = []\n"}),
    ending("unknown settings", "--settings", "nothing", "--noreload", PORT),
    ending("a mistake in the URLs", "--noreload", PORT, files=mistaken("this is no Python\n")),
    ending("an import that fails", "--noreload", PORT, files=mistaken("import nothing_of_this_name\n")),
    ending("settings that fail", "--noreload", PORT, files={"shop/settings.py": "1 / 0\n"}),
    ending("an application that is not there", "--noreload", "--settings", "apps", PORT,
           files={"apps.py": "from shop.settings import *\nINSTALLED_APPS += ['nothing']\n"}),
    # Not in the URLs: newer reloaders look at those too, beside the checks, and who is first is in the traceback.
    Situation("a mistake in the models, with reload", [*MANAGE, "--settings", "books", PORT], r"^SyntaxError",
              files={"books.py": "from shop.settings import *\nINSTALLED_APPS += ['library']\n",
                     "library/__init__.py": "", "library/models.py": "this is no Python\n"}),
    ending("settings that fail, with reload", PORT, files={"shop/settings.py": "1 / 0\n"}),
    ending("settings that import what is not there, with reload", PORT, files={"shop/settings.py": "import nothing\n"}),
    Situation("a view that fails", [*MANAGE, PORT], SERVES, requests=(("GET", "/broken"),)),
    Situation("testserver", [sys.executable, "manage.py", "testserver", "--addrport", PORT, "none.json"], SERVES,
              requests=REQUESTS[:2], files={"none.json": "[]"}),
]


def make_project(top: Path) -> None:
    """What startproject makes, with a few views, in a project that names appsrv."""
    subprocess.run([sys.executable, "-m", "django", "startproject", "shop", str(top)], check=True)
    (top / "requirements.txt").write_text("appsrv[django]\n")
    (top / "shop" / "views.py").write_text(VIEWS)
    (top / "shop" / "urls.py").write_text(URLS)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("startproject")
    make_project(top)
    return top


@pytest.mark.parametrize("situation", SITUATIONS, ids=str)
def test_django(project: Path, situation: Situation) -> None:
    original, ours = compare(project, situation)
    assert ours == original
    assert bool(original.servers) == bool(situation.requests)
    assert not ours.servers or situation.name in ("nothreading", "testserver")


# Somebody else has good reasons to serve: what is seen is the original. Daphne's line for a request is its own.
DEBUGPY = [sys.executable, "-Xfrozen_modules=off", "-m", "debugpy", "--listen", "127.0.0.1:0", *MANAGE[1:]]
ASIDE = [
    Situation("daphne", [*MANAGE, "--settings", "daphnes", "--noreload", PORT], SERVES, REQUESTS,
              files={"daphnes.py": DAPHNE}, logged="HTTP {method} {target} "),
    Situation("daphne with reload", [*MANAGE, "--settings", "daphnes", PORT], SERVES, REQUESTS,
              files={"daphnes.py": DAPHNE}, logged="HTTP {method} {target} "),
    Situation("debugpy", [*DEBUGPY, "--noreload", PORT], SERVES, REQUESTS),
    Situation("debugpy with reload", [*DEBUGPY, PORT], SERVES, REQUESTS),
    Situation("a trace function", [*MANAGE, "--noreload", PORT], SERVES, REQUESTS, files={"shop/__init__.py": TRACED}),
]
SAYS_SO = "appsrv steps aside: runserver is provided by daphne."


@pytest.mark.parametrize("situation", ASIDE, ids=str)
def test_others_serve(project: Path, situation: Situation) -> None:
    original, ours = compare(project, situation)
    assert ours.servers == original.servers != set()
    said = [line for line in ours.err if line == SAYS_SO]
    assert said == ([SAYS_SO] if situation.name.startswith("daphne") else [])
    assert replace(ours, err=[line for line in ours.err if line != SAYS_SO]) == original


# What is decided before Django's own code is reached, and so is the same beside every version.
ALIKE = {
    "nothreading", "nostatic and verbosity 0", "skip checks and verbosity 3", "whitenoise without reload",
    "a bad address", "an address of somebody else", "a name that is unknown", "no ipv6 address", "version",
    "no ALLOWED_HOSTS", "an import that fails", "an application that is not there",
    "settings that import what is not there, with reload",
}
assert {situation.name for situation in SITUATIONS} >= ALIKE

# Supported versions besides the one that is installed, which is the newest that this Python runs.
OLDER = [version for version in ((4, 2), (5, 2)) if version < django.VERSION[:2]]


@pytest.fixture(scope="module")
def older_django(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """(version, directory) of an older Django, which is fetched once."""
    version = "{}.{}".format(*request.param)
    kept = CACHE / f"django-{version}"
    if not (kept / "django").exists():
        fetched = tmp_path_factory.mktemp(f"django-{version}")
        pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(fetched), f"django~={version}.0"]
        if subprocess.run(pip, capture_output=True, check=False).returncode:
            pytest.skip(f"Django {version} cannot be fetched from the package index")
        CACHE.mkdir(exist_ok=True)
        with contextlib.suppress(OSError):
            # Another process of this test run may have been quicker.
            shutil.move(fetched, kept)
    return version, kept


@pytest.mark.parametrize("older_django", OLDER, indirect=True, ids=str)
@pytest.mark.parametrize("situation", [one for one in SITUATIONS if one.name not in ALIKE], ids=str)
def test_older_django(project: Path, older_django: tuple[str, Path], situation: Situation) -> None:
    version, directory = older_django
    original, ours = compare(project, situation, {"PYTHONPATH": str(directory)})
    assert ours == original
    assert situation.name != "plain" or any(line.startswith(f"Django version {version}") for line in ours.out)
