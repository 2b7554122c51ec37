"""The preloader process: imports the application once, forks workers on request, reaps them.

Knows no client. Start with `process`, the loop; `loader` imports the application, `forked_workers` forks.
"""
