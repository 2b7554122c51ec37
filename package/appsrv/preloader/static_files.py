"""Static files in front of an application: chooses the directories and their URLs, and has WhiteNoise serve them.

Runs in the preloader, once, after the application is loaded. `static_server` and WhiteNoise serve the files. Changes
nothing in a project that uses WhiteNoise itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from appsrv.app_process import own_lines
from appsrv.errors import AppLoadError
from appsrv.preloader.production_checks import static_url

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

HOW_TO_INSTALL = "pip install 'appsrv[static]'"


def with_static_files(
    application: WSGIApplication, mounts: Sequence[str] | None, *, development: bool, base_uri: str = ""
) -> WSGIApplication:
    """`application` with the files of `mounts` in front of it: each is `/prefix/=DIR`.

    Without mounts (None) these are the files that Django has collected (`collectstatic`). A prefix begins after
    `base_uri`, the URL of the application; Django's STATIC_URL may include it. In development each request looks for
    its file, otherwise all files are found now. Raises AppLoadError when a directory is missing or WhiteNoise is not
    installed.
    """
    if mounts is not None:
        return _served(application, mounts, development=development) if mounts else application
    # In development the framework itself serves its files, as with its own server.
    collected = None if development else _django_mount(application, base_uri)
    if collected is None:
        return application
    if not _has_whitenoise():
        prefix = collected.partition("=")[0]
        own_lines.complain(f"{prefix} is not served by appsrv: {HOW_TO_INSTALL}, or let a proxy serve it")
        return application
    return _served(application, [collected], development=False)


def _served(application: WSGIApplication, mounts: Sequence[str], *, development: bool) -> WSGIApplication:
    if not _has_whitenoise():
        raise AppLoadError(f"static files are served through WhiteNoise, which is not installed: {HOW_TO_INSTALL}")
    from appsrv.preloader.static_server import StaticServer

    server = StaticServer(application, autorefresh=development, max_age=0 if development else 60)
    for mount in mounts:
        prefix, _, directory = mount.partition("=")
        if not os.path.isdir(directory):
            raise AppLoadError(f"static {prefix}={directory}: there is no such directory")
        server.add_files(directory, prefix)
    return server


def _has_whitenoise() -> bool:
    try:
        import whitenoise  # noqa: F401 - whether it can be
    except ImportError:
        return False
    return True


# -- Django -------------------------------------------------------------------------------------------------


def _django_mount(application: object, base_uri: str) -> str | None:
    """`STATIC_URL=STATIC_ROOT` of a Django project that has collected files there and does not serve them itself."""
    conf = sys.modules.get("django.conf")
    settings: Any = getattr(conf, "settings", None)
    if settings is None or not settings.configured or _uses_whitenoise(settings, application):
        return None
    prefix, directory = static_url(settings), str(settings.STATIC_ROOT or "")
    # A URL with a host names another server, which has the files. "/" would put them in place of the whole site.
    if not prefix.startswith("/") or prefix.startswith("//") or prefix == "/" or not _has_files(directory):
        return None
    below = _without_base(prefix, (base_uri, settings.FORCE_SCRIPT_NAME or "")).rstrip("/")
    return f"{below}/={os.path.abspath(directory)}" if below else None


def _without_base(prefix: str, bases: Iterable[str]) -> str:
    """The URL as it is in PATH_INFO of a request: without the part that is in SCRIPT_NAME."""
    for base in bases:
        if base.strip("/") and prefix.startswith(f"{base.rstrip('/')}/"):
            return prefix[len(base.rstrip("/")) :]
    return prefix


def _uses_whitenoise(settings: Any, application: object) -> bool:
    if any("whitenoise" in str(name).lower() for name in settings.MIDDLEWARE or ()):
        return True
    return any("whitenoise" in kind.__module__ for kind in type(application).__mro__)


def _has_files(directory: str) -> bool:
    try:
        return bool(directory and os.listdir(directory))
    except OSError:
        return False
