"""Units of systemd."""

from __future__ import annotations

from support.importing import example, imported


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
