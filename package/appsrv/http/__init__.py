"""HTTP/1.1 as values: bytes in, heads, bodies and error responses out (RFC 9110, RFC 9112). No I/O.

Start with `head` (the parser) and `syntax` (limits and tokens).
"""
