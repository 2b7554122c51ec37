"""What appsrv adds to a process that runs the application: its own log lines, its signal handlers, what a fork undoes.

Knows no request. Start with `forked_child`.
"""
