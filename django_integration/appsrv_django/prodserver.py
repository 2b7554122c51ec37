"""A backend for django-prodserver: `manage.py server web` (before 3.0: `prodserver web`) starts appsrv.

    PRODUCTION_PROCESSES = {
        "web": {"BACKEND": "appsrv_django.prodserver.AppsrvServer", "ARGS": {"port": "8000"}},
    }

Each of ARGS is an option of `appsrv start`; the value None means an option without a value.
"""

from __future__ import annotations

import os
import sys

from django_prodserver.backends.base import BaseServerBackend

from appsrv.apps import dependency_files
from appsrv.development.exec_appsrv import become_appsrv


class AppsrvServer(BaseServerBackend):
    """The backend: replaces the process by `appsrv start`."""

    def start_server(self, *args: str) -> None:
        """Start appsrv. `args`: the words that `prep_server_args` has made of ARGS."""
        become_appsrv(["start", *args], dependency_files.script_directory(sys.argv[0]), os.environ)
