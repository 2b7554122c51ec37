"""Client connections: accept, read ahead for slow clients, hand off to workers, watch while idle.

Start with `frontend`; `backend` is the side of one application group.
"""
