"""Passengerfile.json and the command line of `passenger start`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from appsrv.commands.importing.passenger_options import RULES
from support.importing import command, example, imported


def test_the_example() -> None:
    printed = imported(example("Passengerfile.json"), "Passengerfile.json")
    assert printed.settings == {
        "environment": "production",
        "socket": "/run/wiki/web.sock",
        "app": "passenger_wsgi.py",
        "max_pool_size": 10,
        "min_instances": 3,
        "memory_limit": "300M",
        "threads": 4,
        "max_request_time": 20,
        "max_request_queue_size": 200,
        "ssl_certificate": "/etc/ssl/wiki.pem",
        "ssl_certificate_key": "/etc/ssl/wiki.key",
        "ssl_port": 8443,
        "static": ["/=public"],
        "restart_file": "tmp/restart.txt",
        "log_level": "warning",
        "log_file": "log/web.log",
    }
    assert "Left out: data_buffer_dir" in printed.below("data_buffer_dir")
    assert "WIKI_TOKEN: a secret" in printed.below("envvars")
    assert "no sticky sessions" in printed.below("sticky_sessions")
    assert "Not an option of Passenger" in printed.below("no_such_option")
    assert "expected" not in printed.text


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ({}, {}),
        ({"port": 80}, {"port": 80, "address": "0.0.0.0"}),
        ({"address": "127.0.0.1"}, {"address": "127.0.0.1", "port": 3000}),
        ({"address": "127.0.0.1", "port": 80, "socket_file": "/x"}, {"socket": "/x"}),
        ({"socket_file": "/x", "app_start_command": "node a.js", "spawn_method": "direct"},
         {"socket": "/x", "start_command": "node a.js"}),
        ({"socket_file": "/x", "ssl_certificate": "a"}, {"socket": "/x"}),
        ({"socket_file": "/x", "app_type": "node", "startup_file": "a.js"}, {"socket": "/x"}),
        ({"socket_file": "/x", "max_pool_size": 2, "min_instances": 9}, {"socket": "/x", "max_pool_size": 2}),
        ({"socket_file": "/x", "log_level": 5, "log_file": "/dev/null"},
         {"socket": "/x", "log_level": "debug", "log_file": "none"}),
    ],
)  # fmt: skip
def test_options(options: dict[str, Any], settings: dict[str, Any]) -> None:
    printed = imported(json.dumps({**options, "engine": "nginx"}), "Passengerfile.json")
    assert printed.settings == (settings or {"address": "0.0.0.0", "port": 3000})
    printed.loaded()


def test_the_command_line() -> None:
    printed = command("passenger start /srv/wiki -p 81 -d -e staging --ssl --max-pool-size=3 --disable-turbocaching")
    assert printed.settings == {
        "port": 81, "daemonize": True, "environment": "staging", "max_pool_size": 3, "address": "0.0.0.0",
    }  # fmt: skip
    assert "belongs into /srv/wiki" in printed.text


@pytest.mark.parametrize("value", [1, True, "x", "/a/b", [], {"A": "b"}, None, -1])
def test_all_options_with_any_value(value: Any) -> None:
    printed = imported(json.dumps(dict.fromkeys(sorted(RULES), value), indent=1), "Passengerfile.json")
    printed.loaded()
    assert [name for name in RULES if not printed.below(f': "{name}": ')] == []
