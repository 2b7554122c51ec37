"""The admin socket and the monitoring page: status, restart, stop, metrics.

Start with `routes`.
"""
