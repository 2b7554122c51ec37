"""What the processes of an instance send each other: messages, channels, hand-offs, shared memory.

Start with `messages`.
"""
