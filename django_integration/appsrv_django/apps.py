"""The application "appsrv_django" in INSTALLED_APPS."""

from __future__ import annotations

from django.apps import AppConfig


class AppsrvConfig(AppConfig):
    """Registers the checks. Django finds the commands by itself."""

    name = "appsrv_django"
    verbose_name = "appsrv"

    def ready(self) -> None:
        """Register the checks for `manage.py check --deploy`."""
        import appsrv_django.checks  # noqa: F401 - registers them
