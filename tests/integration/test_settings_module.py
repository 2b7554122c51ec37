"""Which settings module of Django an instance uses, where manage.py and the WSGI module name different ones."""

from __future__ import annotations

import json
import sys

import pytest

from integration.conftest import Launch
from support.server import COMMAND, Site, free_port
from support.waiting import wait_for

MANAGE = """
import os, sys
if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings.local")
    from django.core.management import execute_from_command_line
    execute_from_command_line(sys.argv)
"""
BASE = """
SECRET_KEY = "x"
ROOT_URLCONF = "shop.urls"
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["appsrv_django"]
"""
NAMED = BASE + 'WSGI_APPLICATION = "shop.wsgi.application"\n'
URLS = """
from django.conf import settings
from django.http import HttpResponse
from django.urls import path
urlpatterns = [path("", lambda request: HttpResponse(f"{settings.SETTINGS_MODULE} {settings.DEBUG}"))]
"""
WSGI = """
import os
from django.core.wsgi import get_wsgi_application
{default}
application = get_wsgi_application()
"""
LITERAL = 'os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings.production")'
COMPUTED = 'os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings." + os.environ.get("STAGE", "production"))'
PRODUCTION, LOCAL = "shop.settings.production False", "shop.settings.local True"
START = [COMMAND, "start"]


@pytest.fixture
def project(site: Site) -> Site:
    site.write("manage.py", MANAGE)
    site.write("shop/__init__.py", "")
    site.write("shop/urls.py", URLS)
    site.write("shop/settings/__init__.py", "")
    site.write("shop/settings/base.py", NAMED)
    for name, debug in (("local", True), ("production", False)):
        site.write(f"shop/settings/{name}.py", f"from .base import *\nDEBUG = {debug}\n")
    site.write("shop/wsgi.py", WSGI.format(default=LITERAL))
    return site


@pytest.mark.parametrize(
    ("wsgi", "base", "command", "variable", "answer"),
    [
        (COMPUTED, NAMED, START, None, PRODUCTION),
        # No WSGI_APPLICATION: the module that every other server is told.
        (LITERAL, BASE, START, None, PRODUCTION),
        # It names none itself.
        ("", NAMED, START, None, LOCAL),
        (LITERAL, NAMED, START, "shop.settings.local", LOCAL),
        (LITERAL, NAMED, [sys.executable, "manage.py", "appsrv", "start"], None, PRODUCTION),
        (LITERAL, NAMED, [sys.executable, "manage.py", "appsrv", "start"], "shop.settings.local", LOCAL),
    ],
    ids=[
        "computed", "not named", "no setdefault", "from outside", "manage.py",
        "manage.py, from outside",
    ],
)
def test_the_module_that_the_wsgi_module_names_counts(
    project: Site, launch: Launch, wsgi: str, base: str, command: list[str], variable: str | None, answer: str
) -> None:
    project.write("shop/wsgi.py", WSGI.format(default=wsgi))
    project.write("shop/settings/base.py", base)
    port = free_port()
    environment = {"DJANGO_SETTINGS_MODULE": variable} if variable else {}
    server = launch([*command, "--port", str(port)], ("127.0.0.1", port), environment).wait_ready()
    assert server.get("/").text == answer
    module = answer.partition(" ")[0]
    assert server.group()["settings_module"] == module
    wait_for(lambda: f"Settings module: {module}\n" in server.terminal, "the banner")
    assert f"  Settings module: {module}\n" in project.command("status").stdout


def test_runserver_uses_that_of_manage_py(project: Site, launch: Launch) -> None:
    port = free_port()
    argv = [sys.executable, "manage.py", "runserver", str(port)]
    server = launch(argv, ("127.0.0.1", port)).wait_ready()
    assert server.get("/").text == LOCAL
    status = json.loads(project.command("status", "--json").stdout)
    assert status["app_groups"][0]["settings_module"] == "shop.settings.local"
