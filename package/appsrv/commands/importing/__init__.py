"""`appsrv import`: turns the configuration of gunicorn, uWSGI, Passenger and process managers into appsrv.toml.

No module here executes what it reads. Start reading with `convert`; the tables are in the modules `*_options`.
"""
