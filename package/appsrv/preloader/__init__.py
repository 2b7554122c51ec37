"""The preloader process: imports the application once, forks workers on request, reaps them.

Knows no client. Start with `process`.
"""
