"""Turns the options `--cert` and `--key` into settings of appsrv.

Werkzeug makes the certificate of `--cert adhoc`. It is kept for this user: a browser that has accepted it does not ask
again after the next start. This module knows no server.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from werkzeug.serving import generate_adhoc_ssl_pair

from appsrv.development import run

ADHOC = "adhoc"
# The time for which a certificate is used. Werkzeug makes it valid for 365 days.
CERTIFICATE_REUSE_SECONDS = 300 * 86400
_PASSPHRASE = (b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED")


def reason_to_step_aside(cert: Any) -> str | None:
    """The reason why the built-in command has to serve, or None.

    `cert`: Flask's value of the options: None, "adhoc", the paths of two files, or an SSLContext.
    """
    if isinstance(cert, tuple):
        return "the key has a passphrase, which has to be typed" if _has_passphrase(cert[1]) else None
    return None if cert in (None, ADHOC) else "--cert names an SSLContext object"


def _has_passphrase(key: str) -> bool:
    try:
        content = Path(key).read_bytes()
    except OSError:
        return False
    return any(mark in content for mark in _PASSPHRASE)


def settings_for(cert: Any) -> dict[str, str]:
    """The settings for `cert`. Raises `OSError` if a generated certificate cannot be stored."""
    if cert is None:
        return {}
    if cert == ADHOC:
        return {"ssl_certificate": str(self_signed(run.kept_directory()))}
    certificate, key = cert
    return {"ssl_certificate": certificate, "ssl_certificate_key": key}


def self_signed(state: Path) -> Path:
    """The path of a self-signed certificate with its key, in a file that only this user can read."""
    path = state / "adhoc-certificate.pem"
    try:
        if time.time() - path.stat().st_mtime < CERTIFICATE_REUSE_SECONDS:
            return path
    except FileNotFoundError:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(_new_pair())
    # rename(2) is atomic: another command that reads the file gets the old or the new one, never a part.
    new.replace(path)
    return path


def _new_pair() -> bytes:
    # Flask has checked that cryptography is installed.
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    certificate, key = generate_adhoc_ssl_pair()
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM) + secret
