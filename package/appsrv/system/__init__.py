"""Small modules on top of the kernel and the standard library: processes, signals, users, files, terminals.

Knows no socket of a client, no HTTP and no setting. Start with `process_tree` and `signals`.
"""
