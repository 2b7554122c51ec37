"""The watchdog process: listening sockets, run directory, server log, signals, children.

Knows neither HTTP nor the pool. Start with `process`, the loop; `assembly` shows how the parts are joined: `children`
(the server, the preloaders), `stop_sequence`, `served_groups`, `resources`.
"""
