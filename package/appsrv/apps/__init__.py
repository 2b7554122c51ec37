"""Finds applications, describes them, and routes requests to them. These modules import no application.

Start reading with `app_spec` and `hosting`.
"""
