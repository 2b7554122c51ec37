"""Communication between the processes of an instance: messages, channels, hand-offs, shared memory.

Start with `messages`.
"""
