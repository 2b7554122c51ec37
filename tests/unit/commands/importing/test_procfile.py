"""A Procfile: which process type is imported, and the commands in it."""

from __future__ import annotations

import pytest

from appsrv.errors import SettingsError
from support.importing import example, imported


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
