"""uwsgi.ini and the command line of uWSGI."""

from __future__ import annotations

from typing import Any

import pytest

from appsrv.commands.importing.uwsgi_options import ALIASES, RULES, SHORT, SWITCHES
from support.importing import HOME, command, example, imported


def ini(text: str) -> dict[str, Any]:
    printed = imported(f"[uwsgi]\n{text}\n", "uwsgi.ini")
    printed.loaded()
    return printed.settings


def test_the_example() -> None:
    printed = imported(example("uwsgi.ini"), "uwsgi.ini")
    assert printed.settings == {
        "app": "library.wsgi:app",
        "max_pool_size": 8,
        "min_instances": 2,
        "threads": 2,
        "socket": "/run/uwsgi/library.sock",
        "socket_mode": "660",
        "socket_user": "library",
        "socket_group": "www-data",
        "max_request_time": 30,
        "max_requests": 5000,
        "memory_limit": "256M",
        "hard_memory_limit": "512M",
        "max_header_size": 131072,
        "static": ["/static/=/srv/library/static", "/media/=/srv/library/media"],
        "log_file": "/var/log/library/server.log",
        "access_log": "off",
        "user": "library",
        "group": "library",
        "restart_file": "/srv/library/reload.txt",
    }


def test_comments_of_the_example() -> None:
    printed = imported(example("uwsgi.ini"), "uwsgi.ini")
    assert "belongs into /srv/library" in printed.text
    assert "proxy_pass in place of uwsgi_pass" in printed.below(": socket")
    assert "placeholder %(most) is not set" in printed.below(": limit-post")
    assert "it is what $RUN_DIR holds" in printed.below(": pidfile")
    assert "a condition, which sets py-autoreload" in printed.below("if-env = DEBUG")
    assert "a loop, which sets attach-daemon" in printed.below("for = mail index")
    assert "uwsgi.ini:staging" in printed.below("[staging]")
    assert "Not an option of uWSGI" in printed.below("not-an-option")
    assert "A placeholder of the file" in printed.below("project = library")
    assert "MAIL_PASSWORD: a secret" in printed.below("MAIL_PASSWORD")


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("http = :8080", {"address": "0.0.0.0", "port": 8080}),
        ("http-socket = 127.0.0.1:81\nsocket = /x.sock", {"address": "127.0.0.1", "port": 81}),
        ("protocol = http\nsocket = [::1]:3031", {"address": "::1", "port": 3031}),
        ("https = :443,a.pem,b.key",
         {"address": "0.0.0.0", "port": 443, "ssl_certificate": "a.pem", "ssl_certificate_key": "b.key"}),
        ("http = :80\nhttps = :443,a.pem,b.key",
         {"address": "0.0.0.0", "port": 80, "ssl_address": "0.0.0.0", "ssl_port": 443, "ssl_certificate": "a.pem",
          "ssl_certificate_key": "b.key"}),
        ("processes = 3", {"max_pool_size": 3, "min_instances": 3}),
        ("processes = %k", {"max_pool_size": "auto"}),
        ("gevent = 200\nthreads = 3", {"concurrency_model": "gevent", "max_greenlets": 200}),
        ("wsgi-file = app.py\ncallable = make", {"app": "app.py:make"}),
        ("mount = /wiki=wiki:app\nmanage-script-name = true", {"app": "wiki:app", "base_uri": "/wiki"}),
        ("mount = /a=a:app\nmount = /b=b:app", {}),
        ("lazy-apps = true", {"spawn_method": "direct"}),
        ("chmod-socket", {"socket_mode": "666"}),
        ("daemonize = /var/log/u.log", {"daemonize": True, "log_file": "/var/log/u.log"}),
        ("req-logger = file:/var/log/r.log\nlogger = syslog:x", {"access_log": "/var/log/r.log"}),
        ("check-static = /srv/files\nstatic-map2 = /img=/srv", {"static": ["/=/srv/files", "/img/=/srv/img"]}),
        ("gid = www-data", {}),
        ("reload-on-rss = 600\nevil-reload-on-rss = 500", {"memory_limit": "600M"}),
        ("a = %(b)\nb = %(a)\nmax-requests = %(a)", {}),
        ("harakiri = soon", {}),
    ],
)  # fmt: skip
def test_options(text: str, settings: dict[str, Any]) -> None:
    assert ini(text) == settings


def test_another_section() -> None:
    assert imported(example("uwsgi.ini"), "uwsgi.ini", program="staging").settings["port"] == 8000


def test_the_command_line() -> None:
    files = {HOME / "conf.ini": "[uwsgi]\nprocesses = 2\n[prod]\nprocesses = 9\n"}
    assert command("uwsgi --http :80 -p 3 -M -w shop.wsgi").settings == {
        "address": "0.0.0.0", "port": 80, "max_pool_size": 3, "min_instances": 3, "app": "shop.wsgi",
    }  # fmt: skip
    assert command("uwsgi conf.ini", files.get).settings["max_pool_size"] == 2
    assert command("uwsgi --ini conf.ini:prod --master", files.get).settings["max_pool_size"] == 9
    assert "give that file to appsrv import" in command("uwsgi --ini gone.ini").below("gone.ini")


@pytest.mark.parametrize("value", ["1", "true", "", "a=b", "/a/b", "a,b,c", "%(x)", "-1"])
def test_all_options_with_any_value(value: str) -> None:
    printed = imported("[uwsgi]\n" + "".join(f"{name} = {value}\n" for name in sorted(RULES)), "uwsgi.ini")
    printed.loaded()
    assert [name for name in RULES if not printed.below(f": {name}")] == []


def test_names() -> None:
    assert {*ALIASES.values()} <= RULES.keys()
    assert not ALIASES.keys() & RULES.keys()
    assert {ALIASES.get(name, name) for name in SHORT.values()} - {"set"} <= RULES.keys()
    assert len(RULES) > 80
    assert not SWITCHES & {"processes", "http", "module"}
