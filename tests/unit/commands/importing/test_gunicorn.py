"""gunicorn.conf.py and the command line of gunicorn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appsrv.commands.importing.gunicorn_flags import setting_of
from appsrv.commands.importing.gunicorn_options import HOOKS, RULES
from support.importing import HOME, command, example, imported


def test_the_example() -> None:
    printed = imported(example("gunicorn.conf.py"))
    assert printed.settings == {
        "app": "bookshop.wsgi:application",
        "address": "0.0.0.0",
        "max_pool_size": "auto",
        "threads": 4,
        "keepalive_timeout": 75,
        "max_requests": 1000,
        "max_request_line_size": 8190,
        "max_header_field_size": "64K",
        "pid_file": "/srv/imported/run/gunicorn.pid",
        "user": "bookshop",
        "group": "www-data",
        "access_log": "-",
        "access_log_format": '%(h)s "%(r)s" %(s)s %(D)s',
        "log_file": "/srv/imported/log/gunicorn.log",
        "log_level": "info",
        "forwarded_allow_ips": "10.0.0.0/8,127.0.0.1",
        "ssl_certificate": "/etc/ssl/bookshop.pem",
        "ssl_certificate_key": "/etc/ssl/bookshop.key",
        "stop_timeout": 40,
    }


def test_comments_of_the_example() -> None:
    printed = imported(example("gunicorn.conf.py"))
    assert "belongs into /srv/bookshop" in printed.text
    assert "appsrv takes $PORT by itself" in printed.below(": bind")
    assert "To override it for one start, set $APPSRV_THREADS." in printed.below(": threads")
    assert printed.below(": graceful_timeout = 45") == "#   Replaced by line 43, which counts."
    assert "it is what $USE_PROXY holds" in printed.below(": proxy_protocol")
    assert "appsrv import executes no code: it sets reload, workers" in printed.below(": if os.environ")
    assert "appsrv.hooks.after_fork" in printed.below("def post_fork")
    assert "No option of gunicorn" in printed.below(": strange_setting")
    assert "Write there: DJANGO_SETTINGS_MODULE=bookshop.settings" in printed.below(": raw_env")
    assert "DATABASE_URL: a secret" in printed.below(": raw_env")
    assert "metrics_port" in printed.below(": statsd_host")
    assert not Path("/tmp/appsrv-import-has-executed-this").exists()


@pytest.mark.parametrize(
    ("line", "settings"),
    [
        ("-w 4 shop:app", {"max_pool_size": 4, "min_instances": 4, "app": "shop:app"}),
        ("-w4 -b:81 shop:app",
         {"max_pool_size": 4, "min_instances": 4, "address": "0.0.0.0", "port": 81, "app": "shop:app"}),
        ("--workers=1 --timeout 0 app", {"max_pool_size": 1, "min_instances": 1, "app": "app"}),
        ("-b [::1]:8001 -D", {"address": "::1", "port": 8001, "daemonize": True}),
        ("-b unix:/run/x.sock", {"socket": "/run/x.sock"}),
        ("-k gevent", {"concurrency_model": "gevent", "max_greenlets": 1000}),
        ("-k gevent --worker-connections 50 --threads 3", {"concurrency_model": "gevent", "max_greenlets": 50}),
        ("--threads 3 -t 9", {"threads": 3}),
        ("-k gthread --keep-alive 9", {"keepalive_timeout": 9}),
        ("-k eventlet", {}),
        ("--no-sendfile --reload --proxy-protocol", {"proxy_protocol": True}),
        ("--access-logfile - --log-level DEBUG --log-file x.log",
         {"access_log": "-", "log_level": "debug", "log_file": "x.log"}),
        ("--group www", {}),
        ("--header-map dangerous", {"underscores_in_headers": "trusted"}),
        ("-w many", {}),
        ("-b 127.0.0.1:${WEB_PORT:-81}", {"address": "127.0.0.1", "port": 81}),
        ("--forwarded-allow-ips= --umask 7", {"forwarded_allow_ips": "off"}),
        ("'shop:make(\"x\")'", {"app": 'shop:make("x")'}),
        ("-w ${N:-2} --max-requests $M", {"max_pool_size": 2}),
        ("-b 0.0.0.0:$PORT -w $WEB_CONCURRENCY", {"address": "0.0.0.0"}),
        ("-w $((2 * $(nproc) + 1))", {"max_pool_size": "auto"}),
        ("--unknown --another=3", {}),
        ("-w", {}),
    ],
)  # fmt: skip
def test_flags(line: str, settings: dict[str, Any]) -> None:
    printed = command(f"gunicorn {line}")
    assert printed.settings == settings
    printed.loaded()


def test_an_asgi_application_is_a_start_command() -> None:
    printed = command("gunicorn -k uvicorn.workers.UvicornWorker --threads 2 -w 2 shop.asgi:app")
    assert printed.settings["start_command"] == "uvicorn shop.asgi:app --uds $SOCKET --forwarded-allow-ips '*'"
    assert printed.loaded().start_command is not None


@pytest.mark.parametrize("flag", ["-c conf/web.py", "--config=file:conf/web.py"])
def test_the_command_line_wins_over_the_file_it_names(flag: str) -> None:
    files = {HOME / "conf" / "web.py": "workers = 2\nbind = ':1'\ntimeout = 7\n"}
    printed = command(f"gunicorn {flag} -w 5 shop:app", files.get)
    assert printed.settings == {
        "address": "0.0.0.0", "port": 1, "max_request_time": 7, "max_pool_size": 5, "min_instances": 5,
        "app": "shop:app",
    }  # fmt: skip
    assert printed.below("web.py line 1") == "#   Replaced by the command line, which counts."


def test_the_file_that_gunicorn_reads_without_a_flag() -> None:
    files = {HOME / "gunicorn.conf.py": "workers = 2\n"}
    assert command("gunicorn shop:app", files.get).settings["max_pool_size"] == 2
    assert "cannot be read" in command("gunicorn -c other.py shop:app", files.get).below("-c other.py")


def test_values_that_depend_on_variables() -> None:
    both = imported("import os\nbind = f\"127.0.0.1:{os.getenv('WEB_PORT', os.getenv('PORT', '81'))}\"\n")
    assert both.settings == {"address": "127.0.0.1"}
    assert "port = 81. That is the value without $WEB_PORT, which appsrv does not read" in both.below(": bind")
    assert "Nothing is needed: that is the default of gunicorn" in imported("certfile = None\n").below("certfile")
    asgi = imported("worker_class = 'uvicorn.workers.UvicornWorker'\n")
    assert 'write start_command = "uvicorn MODULE:APPLICATION' in asgi.below("worker_class")


def test_secrets_with_any_characters() -> None:
    for printed in (
        command("gunicorn -e 'SECRET_KEY=open, sesame' shop:app"),
        imported("raw_env = ['SECRET_KEY=open) sesame', 'A=1']\n"),
        imported("[uwsgi]\nenv = SECRET_KEY=open, sesame\n", "uwsgi.ini"),
    ):
        assert "sesame" not in printed.text
        assert "SECRET_KEY=***" in printed.text


def test_options_without_the_program() -> None:
    assert command("-w 2 shop:app").settings["max_pool_size"] == 2


def test_repeated_flags_add_up() -> None:
    printed = command("gunicorn -e A=1 -e B=2 -b :1 -b :2")
    assert printed.settings == {"address": "0.0.0.0", "port": 1}
    assert "Write there: B=2" in printed.below("-e B=2")
    assert "port = 2. appsrv listens in one place" in printed.below("-b :2")


def test_defaults_that_differ() -> None:
    assert "max_pool_size = 1" in command("gunicorn shop:app").text
    assert "max_pool_size = 1" not in command("gunicorn -w 2 shop:app").text
    assert "Defaults of gunicorn" not in imported("workers = 1\ntimeout = 3\npreload_app = 1\nproxy_protocol = 1").text


@pytest.mark.parametrize("value", ["1", "'true'", "None", "['a', 'b=c']", "{'x': 1}", "'unix:/a/b'", "-1", "1.5"])
def test_all_settings_with_any_value(value: str) -> None:
    printed = imported("".join(f"{name} = {value}\n" for name in sorted(RULES)))
    printed.loaded()
    assert [name for name in RULES if not printed.below(f": {name} = ")] == []


def test_names_of_flags() -> None:
    assert setting_of("--keep-alive") == "keepalive"
    assert setting_of("--limit-request-line") == "limit_request_line"
    assert setting_of("-n") == "proc_name"
    assert setting_of("--nonsense") == "--nonsense"
    assert not HOOKS - RULES.keys()
