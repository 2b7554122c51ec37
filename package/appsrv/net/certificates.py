"""Loads a certificate and its key from files into an SSL context. Knows neither sockets nor when files change."""

from __future__ import annotations

import ssl
from datetime import datetime, timezone

from appsrv.errors import CertificateError

# Beside the ciphers of TLS 1.3: Mozilla's "intermediate" configuration, which the browsers of the last ten years
# support. All of them have forward secrecy.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_ENCRYPTED = ("BEGIN ENCRYPTED PRIVATE KEY", "Proc-Type: 4,ENCRYPTED")
_SEQUENCE, _UTC_TIME, _VERSION = 0x30, 0x17, 0xA0


def load(certificate: str, key: str | None) -> ssl.SSLContext:
    """The SSL context of a server with this certificate (a PEM file, followed by the intermediate certificates).

    `key` is None if it is in the same file. Raises CertificateError.
    """
    key = key or certificate
    _check_text(certificate, _BEGIN, "certificate")
    text = _check_text(key, "PRIVATE KEY-----", "private key")
    if any(mark in text for mark in _ENCRYPTED):
        raise CertificateError(
            f"the key {key} has a passphrase, which appsrv cannot ask for: remove it (openssl pkey -in {key} "
            "-out FILE) and keep others from reading the file"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    # Some clients close TCP without close_notify. That need not be an error: the framing of a request shows whether it
    # is complete (RFC 9112 section 9.8).
    context.options |= getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            reason = f"the key {key} does not belong to the certificate {certificate}"
            raise CertificateError(f"{reason}: one of them is of another pair") from None
        raise CertificateError(f"{certificate} and {key} cannot be used: {error.reason or error}") from None
    return context


def expiry(certificate: str) -> datetime:
    """The time at which the first certificate in the file expires. Raises CertificateError."""
    text = _read(certificate, "certificate")
    start = text.find(_BEGIN)
    try:
        der = ssl.PEM_cert_to_DER_cert(text[start : text.index(_END, start) + len(_END)])
        return _not_after(der)
    except (ValueError, IndexError) as error:
        raise CertificateError(f"{certificate} holds no certificate that can be read: {error}") from None


def _check_text(file: str, mark: str, what: str) -> str:
    text = _read(file, what)
    if mark not in text:
        raise CertificateError(f"{file} holds no {what} in PEM form (no line with {mark.strip('-')})")
    return text


def _read(file: str, what: str) -> str:
    try:
        with open(file, encoding="latin-1") as reader:
            return reader.read()
    except OSError as error:
        raise CertificateError(f"the {what} {file} cannot be read: {error.strerror}") from None


# -- the part of X.509 that is needed (RFC 5280 section 4.1) ----------------------------------------------------------


def _not_after(der: bytes) -> datetime:
    _, certificate, _ = _element(der, 0)
    _, signed, _ = _element(certificate, 0)
    tag, _, place = _element(signed, 0)
    # TBSCertificate: an optional version, then serial number, algorithm, issuer and validity.
    for _ in range(3 if tag == _VERSION else 2):
        _, _, place = _element(signed, place)
    tag, validity, _ = _element(signed, place)
    if tag != _SEQUENCE:
        raise ValueError("cannot read the validity dates")
    _, _, place = _element(validity, 0)
    tag, end, _ = _element(validity, place)
    text = end.decode("ascii")
    if tag == _UTC_TIME:
        # UTCTime has two digits of the year: 50 to 99 are 19xx, 00 to 49 are 20xx (section 4.1.2.5.1).
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=timezone.utc)


def _element(data: bytes, start: int) -> tuple[int, bytes, int]:
    """(tag, content, offset of the next element) of the DER element at `start` (X.690, definite lengths)."""
    length, place = data[start + 1], start + 2
    if length & 0x80:
        place += length & 0x7F
        length = int.from_bytes(data[start + 2 : place], "big")
    return data[start], data[place : place + length], place + length
