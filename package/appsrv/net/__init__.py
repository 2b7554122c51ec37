"""Sockets: listening, readiness, minimum rates, time stamps of the kernel, certificates.

Knows no HTTP and no process of appsrv. Start with `listening_sockets`.
"""
