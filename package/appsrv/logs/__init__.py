"""Server log and access log: the forms of their lines, labels, files, readers.

Start with `server_log`.
"""
