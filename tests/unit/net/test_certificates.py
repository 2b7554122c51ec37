"""certificates.py: what can be used, and what is said about what cannot."""

from __future__ import annotations

import ssl
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from appsrv.errors import CertificateError
from appsrv.net import certificates
from support.certificates import make


def test_a_pair_and_a_file_with_both(tmp_path: Path) -> None:
    certificate, key = make(tmp_path)
    context = certificates.load(certificate, key)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert all("GCM" in cipher["name"] or "CHACHA20" in cipher["name"] for cipher in context.get_ciphers())
    both = tmp_path / "both.pem"
    both.write_text(Path(key).read_text() + Path(certificate).read_text())
    certificates.load(str(both), None)
    assert certificates.expiry(str(both)) == certificates.expiry(certificate)


@pytest.mark.parametrize("days", [30, -1, 365 * 60], ids=["soon", "past", "beyond 2049"])
def test_when_it_expires(tmp_path: Path, days: int) -> None:
    expected = datetime.now(timezone.utc) + timedelta(days=days)
    assert abs(certificates.expiry(make(tmp_path, days=days)[0]) - expected) < timedelta(minutes=1)


def test_what_cannot_be_used(tmp_path: Path) -> None:
    certificate, key = make(tmp_path / "a")
    _, other = make(tmp_path / "b")
    _, locked = make(tmp_path / "c", passphrase=b"secret")
    garbled, empty = tmp_path / "garbled.pem", tmp_path / "empty.pem"
    garbled.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    empty.touch()
    for pair, said in {
        (str(tmp_path / "none.pem"), key): "none.pem cannot be read: No such file or directory",
        (certificate, str(tmp_path / "none.pem")): "the private key .*none.pem cannot be read",
        (certificate, str(tmp_path)): "cannot be read: Is a directory",
        (certificate, None): "cert.pem holds no private key",
        (key, key): "key.pem holds no certificate",
        (str(empty), key): "empty.pem holds no certificate",
        (certificate, other): "does not belong to the certificate",
        (certificate, locked): "has a passphrase",
        (str(garbled), key): "garbled.pem and .*key.pem cannot be used",
    }.items():
        with pytest.raises(CertificateError, match=said):
            certificates.load(*pair)
    with pytest.raises(CertificateError, match=r"garbled.pem holds no certificate that can be read"):
        certificates.expiry(str(garbled))
