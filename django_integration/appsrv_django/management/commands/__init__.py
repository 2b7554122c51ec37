"""The management commands: runserver."""
