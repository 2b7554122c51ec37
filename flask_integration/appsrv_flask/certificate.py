"""What `--cert` and `--key` ask for, as settings of appsrv.

The certificate of `--cert adhoc` is made by Werkzeug and kept for this user, so that a browser that was told to accept
it is not asked again at the next start. Knows no server.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from werkzeug.serving import generate_adhoc_ssl_pair

from appsrv.development import run

ADHOC = "adhoc"
# Seconds. Werkzeug's is valid for 365 days.
KEPT = 300 * 86400
_PASSPHRASE = (b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED")


def reason_to_step_aside(cert: Any) -> str | None:
    """Why the built-in has to serve. `cert` is what Flask makes of the options: None, adhoc, two files, a context."""
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
    """The settings of the same meaning. OSError when there is no place for a certificate made up."""
    if cert is None:
        return {}
    if cert == ADHOC:
        return {"ssl_certificate": str(made_up(run.kept_directory()))}
    certificate, key = cert
    return {"ssl_certificate": certificate, "ssl_certificate_key": key}


def made_up(state: Path) -> Path:
    """A certificate that nobody has signed, with its key, in a file that only this user can read."""
    path = state / "adhoc-certificate.pem"
    try:
        if time.time() - path.stat().st_mtime < KEPT:
            return path
    except FileNotFoundError:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(_new_pair())
    # In one step: another command may be reading it.
    new.replace(path)
    return path


def _new_pair() -> bytes:
    # Flask has looked whether it is installed.
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    certificate, key = generate_adhoc_ssl_pair()
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM) + secret
