"""Large bodies, in (POST) and out (GET of the file named by the environment)."""

import os

BLOCK = 65536


def app(environ, start_response):
    if environ["REQUEST_METHOD"] == "POST":
        return receive(environ, start_response)
    path = os.environ["BENCHMARK_FILE"]
    size = str(os.path.getsize(path))
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", size)])
    file = open(path, "rb")  # noqa: SIM115 - the server closes it
    if "wsgi.file_wrapper" in environ:
        return environ["wsgi.file_wrapper"](file, BLOCK)
    return iter(lambda: file.read(BLOCK), b"")


def receive(environ, start_response):
    left = int(environ["CONTENT_LENGTH"])
    while left and (block := environ["wsgi.input"].read(min(left, BLOCK))):
        left -= len(block)
    body = b"%d\n" % left
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
