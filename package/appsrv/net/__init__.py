"""Sockets and what the kernel tells of them: listening, readiness, minimum rates, certificates.

Knows no HTTP and no process of appsrv. Start with `listening_sockets`.
"""
