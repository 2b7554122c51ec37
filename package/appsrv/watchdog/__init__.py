"""The watchdog process: listening sockets, run directory, server log, signals, children.

Knows neither HTTP nor the pool. Start with `process`.
"""
