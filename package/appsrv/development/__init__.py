"""The development servers: the public face for `runserver` and `flask run`, reloading, the standby preloader.

Start reading with `run`.
"""
