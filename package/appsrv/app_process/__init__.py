"""Additions of appsrv to a process that runs the application: its log lines, signal handlers, and their end at a fork.

Knows no request. Start with `forked_child`.
"""
