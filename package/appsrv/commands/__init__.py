"""The commands of the command line beside `start`: status, logs, restart, check, doctor, config, import, init.

`appsrv.cli` is the entry point. Start reading with `common`.
"""
