"""Django's side of appsrv: `manage.py runserver` served by appsrv.

Two ways lead here: the start-up hook (hook.py), for projects whose dependency files name appsrv, and
INSTALLED_APPS containing "appsrv_django". Nothing is imported here: the hook pays for it at every start.
"""
