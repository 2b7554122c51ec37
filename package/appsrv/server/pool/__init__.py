"""The workers of an application group: how many, when to start, restart and end them.

`pool` decides and is pure; the other modules act. Start with `pool`, then `manager`.
"""
