"""The server process: front end, pool manager and admin socket in one event loop (gevent).

Start with `process`; `frontend/`, `pool/` and `admin/` hold its three parts.
"""
