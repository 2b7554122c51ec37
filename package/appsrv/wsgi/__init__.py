"""A request as PEP 3333 has it: the environ, the call of the application, its response.

Knows no process and no queue. Start with `run`.
"""
