"""appsrv: an application server for Django, Flask and any WSGI application.

Nothing is imported here: a preloader or a worker that needs one module must not pull in the rest.
"""

__version__ = "0.1.0"
