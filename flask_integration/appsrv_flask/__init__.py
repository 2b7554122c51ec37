"""Flask's side of appsrv: `flask run` served by appsrv.

The entry point `run` of the group `flask.commands` leads to command.py. Nothing is imported here.
"""
