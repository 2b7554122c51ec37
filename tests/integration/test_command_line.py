"""What an application finds of the command that runs it."""

from __future__ import annotations

import pytest

from integration.conftest import Serve
from support.server import Site

APP = """
import argparse, json, multiprocessing, sys
import __main__
parsed = vars(argparse.ArgumentParser().parse_args())
def argv(number): return sys.argv[0], number
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    children = {}
    for method in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            children[method] = pool.map(argv, [1])
    return [json.dumps([sys.argv, parsed, __main__.__file__, children]).encode()]
"""


@pytest.mark.parametrize(("target", "file"), [("app:application", "app.py"), ("shop.wsgi", "shop/wsgi.py")])
def test_argv_and_main_at_import_and_in_processes_that_a_view_starts(
    serve: Serve, site: Site, target: str, file: str
) -> None:
    path = site.write(file, APP)
    server = serve(target if ":" in target else f"{target}:application")
    argv, parsed, main, children = server.get("/").json
    assert (argv, parsed) == ([str(path)], {})
    assert main.endswith("/appsrv/__main__.py")
    assert children == {method: [[str(path), 1]] for method in ("fork", "spawn", "forkserver")}
