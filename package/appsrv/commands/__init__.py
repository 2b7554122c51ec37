"""The commands of the command line beside `start`: status, logs, restart, config, init.

`appsrv.cli` is the entry point. Start reading with `common`.
"""
