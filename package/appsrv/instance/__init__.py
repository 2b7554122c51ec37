"""The files of a running instance: run directory, pid file, old logs, and the client of the admin socket.

Start with `run_directory`.
"""
