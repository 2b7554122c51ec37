"""The management commands: `runserver` and `appsrv`."""
