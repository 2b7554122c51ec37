"""Programs of supervisord."""

from __future__ import annotations

import pytest

from appsrv.errors import SettingsError
from support.importing import example, imported


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
