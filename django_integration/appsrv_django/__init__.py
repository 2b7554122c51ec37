"""Django's side of appsrv: `manage.py runserver` served by appsrv.

It is used in two ways: by the start-up hook (hook.py) in projects whose dependency files name appsrv, and by
"appsrv_django" in INSTALLED_APPS. This module imports nothing, because the hook loads it at every start of Python.
"""
