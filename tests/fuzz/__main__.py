"""The fuzzing target: bytes → how to start, where to cut, what to send → `support.reading.check`.

The arguments are libFuzzer's. The wire cases are the first inputs; a failure is kept by libFuzzer as a file
`crash-…` and becomes a wire case.
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from support.wire import wire_cases

PARSER = ["appsrv.http.head", "appsrv.http.body", "appsrv.http.syntax"]
LARGEST = 4096

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
# The first byte of an input chooses what stands before it, so that noise gets into every part of the parser.
BEGINNINGS = [
    b"",
    b"GET /",
    b"GET / HTTP/1.1\r\nHost: ",
    GET,
    POST + b"Content-Length: ",
    POST + b"Transfer-Encoding: ",
    CHUNKED,
    CHUNKED + b"1;",
    CHUNKED + b"0\r\n",
]

atheris: Any = importlib.import_module("atheris")


def target(data: bytes) -> None:
    """One input: the beginning, two places to cut at, the rest of the bytes."""
    if len(data) < 3:
        return
    sent = BEGINNINGS[data[0] % len(BEGINNINGS)] + data[3:]
    edges = sorted({0, data[1] % (len(sent) + 1), data[2] * 7 % (len(sent) + 1), len(sent)})
    pieces = [sent[edges[n] : edges[n + 1]] for n in range(len(edges) - 1)]
    check(sent, pieces)


def write_seeds(directory: Path) -> None:
    """The wire cases as inputs."""
    for kind in ("valid", "invalid"):
        for case in wire_cases(kind):
            if len(case.data) <= LARGEST:
                (directory / f"{kind}-{case.name}").write_bytes(b"\0\0\0" + case.data)


def tokens(directory: Path) -> str:
    """Words that fuzzing would not think of by itself, for `-dict`."""
    words = ["HTTP/1.1", r"\x0d\x0a", r"\x0d\x0a\x0d\x0a", "Host: a", "Content-Length: 1", "Transfer-Encoding: chunked"]
    words += ["chunked", "Connection: close", "Expect: 100-continue", "Upgrade: h2c", "http://a", "OPTIONS * ", "[::1]"]
    path = directory / "words"
    path.write_text("".join(f'"{word}"\n' for word in words))
    return str(path)


def fuzz(made: Path) -> None:
    """Run; does not return."""
    arguments = sys.argv[:]
    if not any(Path(argument).is_file() for argument in arguments[1:]):
        seeds = made / "seeds"
        seeds.mkdir()
        write_seeds(seeds)
        arguments += [str(seeds), f"-max_len={LARGEST}", f"-dict={tokens(made)}"]
    atheris.Setup(arguments, target)
    atheris.Fuzz()


if __name__ == "__main__":
    with atheris.instrument_imports(include=PARSER):
        for module in PARSER:
            importlib.import_module(module)
    from support.reading import check

    # libFuzzer ends its process without ceremony: somebody else has to tidy up.
    with tempfile.TemporaryDirectory() as directory:
        child = os.fork()
        if not child:
            fuzz(Path(directory))
        _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status))
