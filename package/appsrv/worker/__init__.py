"""The worker process: takes connections from the ready queue, runs the application, writes the response.

Knows neither the pool nor other workers. Start with `process`, then `connection_handler`.
"""
