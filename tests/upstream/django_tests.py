"""Runs Django's runtests.py, in whose directory it is started, with appsrv's runserver in the place of Django's."""

from __future__ import annotations

import runpy
import sys

from django.contrib.staticfiles.management.commands import runserver as static
from django.core.management.commands import runserver as core

from appsrv_django.runserver import subclass

for module in (core, static):
    ours = subclass(module.Command)
    # Tests look at where a command comes from.
    ours.__module__ = module.__name__
    setattr(module, "Command", ours)  # noqa: B010

sys.argv[0] = "runtests.py"
sys.path.insert(0, "")
runpy.run_path("runtests.py", run_name="__main__")
