"""Applications in other languages: the process of a `start_command`, and the proxy in front of it.

Start reading with `proxy_app` (the WSGI callable) and `process`.
"""
