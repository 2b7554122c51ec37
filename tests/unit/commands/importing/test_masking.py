"""Secrets are hidden wherever they stand; what is no secret stays readable."""

from __future__ import annotations

import pytest

from appsrv.commands.importing.masking import holds_secret, is_secret_name, masked


@pytest.mark.parametrize(
    "text",
    [
        "SECRET_KEY=sesame",
        "raw_env = ['API_TOKEN=sesame', 'x']",
        'x = {"password": "sesame"}',
        "gunicorn --password sesame app",
        "gunicorn --auth-token=sesame app",
        "DATABASE_URL=postgres://shop:sesame@db/shop",
        "key = '-----BEGIN PRIVATE KEY-----\nsesame'",
        'aws_access_key = "sesame"',
        "MAIL_PASS=sesame",
        "BASIC_AUTH=shop:sesame",
        "web: SECRET_KEY=open,sesame gunicorn",
        "SECRET_KEY=o)p;e]n&sesame gunicorn",
        "SECRET_KEY=open\\ sesame gunicorn",
        "SECRET_KEY='open sesame' gunicorn",
        "SENTRY_DSN=https://sesame@sentry.example/1",
    ],
)
def test_hidden(text: str) -> None:
    assert "sesame" not in masked(text)
    assert masked(masked(text)) == masked(text)


@pytest.mark.parametrize(
    "text",
    [
        "author='Bob'", "AUTH_USER_MODEL=shop.User", "the token bucket", "keyfile = '/etc/ssl/key.pem'",
        "PASSWORD_FILE=/run/keys/db", "ssl_certificate_key = '/a'", "http://localhost:8000/", "keepalive = 5",
    ],
)  # fmt: skip
def test_shown(text: str) -> None:
    assert masked(text) == text


def test_names() -> None:
    assert is_secret_name("DJANGO_SECRET_KEY")
    assert is_secret_name("db-password")
    assert not is_secret_name("KEEPALIVE")
    assert holds_secret("REDIS_URL", "redis://:pw@host")
    assert not holds_secret("SECRET_KEY", "")
