"""Flask's side of appsrv: `flask run` served by appsrv.

The entry point `run` of the group `flask.commands` is in command.py. This module imports nothing.
"""
