"""A request by PEP 3333: the environ, the call of the application, its response.

These modules know neither processes nor queues. Start reading with `run`.
"""
