"""The names of appsrv's variables in the environment that are no settings. Knows no values and no environment.

`appsrv_django.hook` is loaded at every start of Python, `appsrv_flask.command` by every flask command: they spell out
those names that they look for before anything of appsrv is imported. A test compares.
"""

from __future__ import annotations

RUNSERVER = "APPSRV_RUNSERVER"
"""Set by the user: `0` leaves `runserver` and `flask run` to the framework's own server."""

ENVIRONMENT = "APPSRV_ENV"
"""Set for the application: the setting `environment`."""

PRELOADER = "APPSRV_PRELOADER"
"""Set in a development server's preloader: the descriptors of its channels, to the server and to the watchdog."""

STANDBY = "APPSRV_STANDBY"
"""Set in a development server's preloader: whether it was started ahead and waits until it is needed."""

BOOT = "APPSRV_BOOT"
"""Set in a development server's preloader: 1 in the first, one more in each that comes after."""

COLOUR = "APPSRV_COLOUR"
"""Set by `runserver`: whether its terminal, which only the watchdog sees, shows colours."""

ALL = frozenset({RUNSERVER, ENVIRONMENT, PRELOADER, STANDBY, BOOT, COLOUR})
