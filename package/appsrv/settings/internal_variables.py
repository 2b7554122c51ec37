"""The names of appsrv's environment variables that are not settings. It knows neither values nor the environment.

Every start of Python loads `appsrv_django.hook`, and every flask command loads `appsrv_flask.command`. They look for
some of these variables before they import appsrv, so they contain copies of the names. A test compares the copies.
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
"""Set by `runserver`: whether its terminal shows colours. Only the watchdog has that terminal open."""

ALL = frozenset({RUNSERVER, ENVIRONMENT, PRELOADER, STANDBY, BOOT, COLOUR})
