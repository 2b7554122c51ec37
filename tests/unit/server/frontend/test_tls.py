"""tls.py: which certificate is in use after its files have changed. The wire is tests/integration/test_tls.py's."""

from __future__ import annotations

import shutil
import socket
import ssl
from pathlib import Path

import gevent
import pytest

from appsrv.server.frontend.lanes import Timeouts
from appsrv.server.frontend.parking import ClientConnection
from appsrv.server.frontend.tls import Tls
from support.certificates import make

TIMEOUTS = Timeouts(5.0, 5.0)


def shown(tls: Tls) -> bytes:
    """The certificate a new client gets."""
    theirs, ours = socket.socketpair()
    ours.setblocking(False)
    connection = ClientConnection(1, ours, "", 0, 0)
    arriving = gevent.spawn(tls, connection)

    def ask() -> bytes:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(theirs) as client:
            return client.getpeercert(binary_form=True) or b""

    found: bytes = gevent.get_hub().threadpool.apply(ask)
    arriving.get(timeout=5)
    connection.sock.close()
    while tls._relays:
        gevent.sleep(0.001)
    return found


def der(certificate: str) -> bytes:
    return ssl.PEM_cert_to_DER_cert(Path(certificate).read_text())


def test_changed_files_are_read_once_they_stand_still(tmp_path: Path) -> None:
    certificate, key = make(tmp_path / "live")
    tls = Tls(certificate, key, TIMEOUTS)
    old = der(certificate)
    assert shown(tls) == old
    new_certificate, new_key = make(tmp_path / "new")
    shutil.copy(new_certificate, certificate)
    tls.check()
    shutil.copy(new_key, key)
    tls.check()
    assert shown(tls) == old
    tls.check()
    assert shown(tls) == der(new_certificate) != old


def test_broken_files_leave_the_old_certificate_in_use(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    certificate, key = make(tmp_path / "live")
    old = der(certificate)
    tls = Tls(certificate, key, TIMEOUTS)
    _, other = make(tmp_path / "other")
    shutil.copy(other, key)
    for _ in range(4):
        tls.check()
    assert shown(tls) == old
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "does not belong to the certificate" in caplog.text
    assert "the previous one stays in use" in caplog.text
    Path(key).unlink()
    tls.load()
    assert shown(tls) == old


def test_an_expired_certificate_is_used_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    certificate, key = make(tmp_path, days=-1)
    assert shown(Tls(certificate, key, TIMEOUTS)) == der(certificate)
    assert "expired on" in caplog.text
