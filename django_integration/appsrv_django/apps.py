"""The application "appsrv_django" in INSTALLED_APPS."""

from __future__ import annotations

from django.apps import AppConfig


class AppsrvConfig(AppConfig):
    """Registers the checks; the commands Django finds by itself."""

    name = "appsrv_django"
    verbose_name = "appsrv"

    def ready(self) -> None:
        """What `manage.py check --deploy` has to know."""
        import appsrv_django.checks  # noqa: F401 - registers them
