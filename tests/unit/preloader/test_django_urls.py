"""django_urls.py: the URLconf is imported before the first request, as if it were that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SETUP = """
import sys
from appsrv.preloader.django_urls import import_urlconf
from django.conf import settings
settings.configure(STATIC_URL="static/", MEDIA_URL="media/", **{more})
{serving}
import_urlconf({base_uri!r})
from django.urls import get_script_prefix, set_script_prefix
print(get_script_prefix())
print(sys.modules["urls"].SEEN if "urls" in sys.modules else "not imported")
set_script_prefix("/proxied")
print(settings.STATIC_URL, settings.MEDIA_URL)
"""
DJANGO_SERVES = "from django.core.wsgi import get_wsgi_application; get_wsgi_application()"
URLS = """
from django.conf import settings
SEEN = settings.STATIC_URL + " " + settings.MEDIA_URL
urlpatterns = []
"""


def imported(
    directory: Path, base_uri: str, more: str = "{'ROOT_URLCONF': 'urls'}", serving: str = DJANGO_SERVES
) -> list[str]:
    (directory / "urls.py").write_text(URLS)
    code = SETUP.format(more=more, base_uri=base_uri, serving=serving)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.splitlines()


@pytest.mark.process
def test_relative_urls_are_below_base_uri_as_in_a_request(tmp_path: Path) -> None:
    prefix, seen, later = imported(tmp_path, "/shop")
    assert (prefix, seen) == ("/", "/shop/static/ /shop/media/")
    assert later == "/proxied/static/ /proxied/media/", "the import has not decided for the requests"


@pytest.mark.process
def test_force_script_name_counts_more(tmp_path: Path) -> None:
    _, seen, _ = imported(tmp_path, "/shop", "{'ROOT_URLCONF': 'urls', 'FORCE_SCRIPT_NAME': '/forced'}")
    assert seen == "/forced/static/ /forced/media/"


@pytest.mark.process
@pytest.mark.parametrize(
    ("more", "serving"),
    [("{}", DJANGO_SERVES), ("{'ROOT_URLCONF': 'urls'}", "")],
    ids=["no URLconf", "only its ORM"],
)
def test_others_are_left_alone(tmp_path: Path, more: str, serving: str) -> None:
    assert imported(tmp_path, "", more, serving)[1] == "not imported"
