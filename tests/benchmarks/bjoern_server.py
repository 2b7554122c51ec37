"""Serve `module:app` with bjoern in several processes: `python bjoern_server.py hello:app PORT WORKERS`."""

from __future__ import annotations

import importlib
import os
import sys


def main(target: str, port: str, workers: str) -> None:
    sys.path.insert(0, os.getcwd())
    module, _, name = target.partition(":")
    app = getattr(importlib.import_module(module), name)
    for _ in range(int(workers) - 1):
        if os.fork() == 0:
            break
    bjoern = importlib.import_module("bjoern")  # not there for a type checker to see
    bjoern.run(app, "127.0.0.1", int(port), reuse_port=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
