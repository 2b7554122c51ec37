"""Has the right name, but not a WSGI application under it."""

application = "not callable"
