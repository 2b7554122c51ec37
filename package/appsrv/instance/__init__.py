"""One running instance on disk: run directory, pid file, admin socket's client.

Start with `run_directory`.
"""
