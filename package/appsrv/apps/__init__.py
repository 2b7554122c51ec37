"""Applications: how they are found, described, hosted and routed to. Imports none of them.

Start with `app_spec` and `hosting`.
"""
