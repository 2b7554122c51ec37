"""Scripts and command lines that start a server."""

from __future__ import annotations

import pytest

from appsrv.commands.importing.command_line import find_server
from support.importing import command, example, imported


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
