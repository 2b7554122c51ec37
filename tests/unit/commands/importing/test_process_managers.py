"""Procfile, supervisord, units of systemd, and scripts that start a server."""

from __future__ import annotations

import pytest

from appsrv.commands.importing.command_line import find_server
from appsrv.errors import SettingsError
from support.importing import command, example, imported


def test_a_procfile() -> None:
    printed = imported(example("Procfile"), "Procfile")
    assert printed.settings == {"app": "forum.wsgi", "address": "0.0.0.0", "max_request_time": 20}
    assert "newrelic-admin run-program appsrv start" in printed.below(": web:")
    assert "FORUM_SECRET: a secret" in printed.below(": web:")
    assert "before appsrv restart-app" in printed.below(": release:")
    assert "appsrv starts no other programs" in printed.below(": worker:")
    assert "appsrv takes $WEB_CONCURRENCY by itself" in printed.below("-w $WEB_CONCURRENCY")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("uvicorn shop:app --uds $SOCKET", {"start_command": "uvicorn shop:app --uds $SOCKET"}),
        ("node server.js", {"start_command": "node server.js"}),
        ("waitress-serve --port=80 --threads=3 --call shop:make", {"port": 80, "threads": 3, "app": "shop:make()"}),
        ("python manage.py runserver 0.0.0.0:$PORT", {}),
        ("flask run --port 80", {}),
        ("bash -c 'cd app && exec gunicorn shop:app'", {"app": "shop:app"}),
        ("env A=1 python -m gunicorn shop:app", {"app": "shop:app"}),
        ("/usr/bin/env bash -lc 'gunicorn shop:app'", {"app": "shop:app"}),
        ("poetry run gunicorn shop:app > log 2>&1", {"app": "shop:app"}),
    ],
)
def test_commands_of_a_procfile(line: str, expected: dict[str, object]) -> None:
    printed = imported(f"web: {line}\n", "Procfile")
    assert printed.settings == expected
    printed.loaded()


def test_a_line_without_a_program() -> None:
    with pytest.raises(SettingsError, match="starts no program: A=1"):
        imported("web: A=1\nworker: 'unfinished\n", "Procfile")


def test_a_program_has_to_listen_where_appsrv_tells_it() -> None:
    printed = imported("web: uvicorn a:b --host 0.0.0.0 --port 80\n", "Procfile")
    assert "CHANGE it: the program has to listen on the port $PORT" in printed.text.replace("\n# ", " ")
    assert "CHANGE 0.0.0.0 to 127.0.0.1" in printed.text


def test_supervisord() -> None:
    printed = imported(example("supervisord.conf"), "supervisord.conf")
    assert printed.settings == {
        "max_pool_size": 4, "min_instances": 4, "concurrency_model": "gevent", "max_greenlets": 500,
        "socket": "/srv/imported/web.sock", "app": "atlas.wsgi:application", "log_file": "/var/log/atlas/web.log",
    }  # fmt: skip
    assert "belongs into /srv/atlas" in printed.text
    assert "ATLAS_PASSWORD: a secret" in printed.below(": environment")
    assert "Write there: LANG=C.UTF-8, HOME=/home/atlas" in printed.below(": environment")
    assert "multiply max_pool_size by 2" in printed.below(": numprocs")
    assert "above stop_timeout" in printed.below(": stopwaitsecs")
    assert "appsrv starts no other programs" in printed.below("[program:celery]")


def test_which_program() -> None:
    text = "[program:a]\ncommand=gunicorn a:app\n[program:b]\ncommand=gunicorn b:app\n[program:c]\ncommand=node c.js\n"
    first = imported(text, "supervisord.conf")
    assert first.settings["app"] == "a:app"
    assert "appsrv import --program b" in first.below("[program:b]")
    assert imported(text, "supervisord.conf", program="b").settings["app"] == "b:app"
    assert imported(text, "supervisord.conf", program="c").settings == {"start_command": "node c.js"}
    with pytest.raises(SettingsError, match="it has a, b, c"):
        imported(text, "supervisord.conf", program="d")


def test_supervisord_fills_in_its_variables() -> None:
    text = "[program:w]\ncommand=gunicorn -b :%(ENV_PORT)s -n %(program_name)s %(program_name)s:app\n"
    printed = imported(text, "supervisord.conf")
    assert printed.settings == {"address": "0.0.0.0", "app": "w:app"}
    assert "$PORT by itself" in printed.below("-b :${PORT}")


def test_a_unit_of_systemd() -> None:
    printed = imported(example("shop.service"), "shop.service")
    assert printed.settings == {
        "access_log": "-", "max_pool_size": 3, "min_instances": 3, "address": "127.0.0.1", "port": 8001,
        "app": "bookshop.wsgi:application",
    }  # fmt: skip
    assert "SHOP_TOKEN: a secret" in printed.below("Environment=(")
    assert "Type=notify" in printed.below("Type=simple")
    assert "appsrv restart-app" in printed.below("ExecReload")


def test_names_in_units_and_doubled_percent_signs() -> None:
    unit = "[Service]\nExecStart=gunicorn -b unix:/run/%p/%N.sock --access-logformat '%%(h)s' shop:app\n"
    assert imported(unit, "shop@.service").settings == {
        "socket": "/run/shop/shop@.sock", "access_log_format": "%(h)s", "app": "shop:app",
    }  # fmt: skip
    program = "[program:shop]\ncommand=gunicorn --access-logformat '%%(h)s' shop:app\n"
    assert imported(program, "supervisord.conf").settings["access_log_format"] == "%(h)s"


def test_a_script() -> None:
    printed = imported(example("start.sh"), "start.sh")
    assert printed.settings == {"app": "diary:app", "address": "0.0.0.0", "max_pool_size": "auto"}
    assert "belongs into /srv/diary" in printed.text
    assert "executes no code" in printed.below("migrate")


def test_what_stands_before_the_server() -> None:
    printed = command("python manage.py migrate && gunicorn shop:app; echo done")
    assert "Run it before appsrv start" in printed.below("# python manage.py migrate")
    assert printed.settings == {"app": "shop:app"}


@pytest.mark.parametrize("line", ["celery -A gunicorn worker", "echo gunicorn.conf", "passenger status", "uwsgi_tool"])
def test_programs_that_are_no_server(line: str) -> None:
    found = find_server(line)
    assert found is None or line.startswith("celery")
