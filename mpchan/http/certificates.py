"""Certificates for TLS: the own one that the other side knows by its fingerprint, or one that an authority vouches for.

An own certificate needs no authority and no host name: whoever is to pay gets its fingerprint with the address, in the
fragment of the URL, which is never sent to a server (RFC 3986, section 3.5):

    https://shop.example:8402/film.mkv#pin-sha256=<SHA-256 of the certificate in DER, 64 hex digits>
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urldefrag, urlsplit

from mpchan import durability
from mpchan.errors import AsStorageError, MpchanError, ParseError, StorageError, system_reason
from mpchan.values import frozen

if TYPE_CHECKING:
    from ssl import SSLContext

_NAME = "listening.pem"
_COMMON_NAME = "mpchan"

_PIN = re.compile(r"pin-sha256=([0-9a-f]{64})", re.ASCII | re.IGNORECASE)


@frozen
class Certificate:
    """A certificate with its key, and what others know of it.

    Attributes:
        path: PEM; behind the certificate those that lead to its authority, if there are any.
        key: PEM; it may be the same file.
        fingerprint: SHA-256 of the certificate in DER, 64 lower-case hex digits.
        is_own: whether this program made it and no authority vouches for it, so that clients must know its fingerprint.
    """

    path: Path
    key: Path
    fingerprint: str
    is_own: bool


def own_certificate(directory: Path) -> Certificate:
    """The certificate in ``directory``, made at the first call. The directory is made too where it is missing.

    Of two processes that make one at the same time the first decides.

    Raises:
        StorageError: ``certificate-damaged``, ``certificate-permissions``, ``read-failed``, ``write-failed``.
    """
    path = directory / _NAME
    if not os.path.lexists(path):
        _keep(path, _made())
    _check_permissions(path)
    with AsStorageError("read-failed", path):
        data = path.read_bytes()
    try:
        return _whole(path, path, data, is_own=True)
    except ValueError:
        raise StorageError(
            "certificate-damaged",
            f"{path} holds no certificate with its key",
            hint="put it back from a copy; or delete it, then a new one is made, which the buyers of earlier offers "
            "refuse",
        ) from None


def given_certificate(path: Path, key: Path) -> Certificate:
    """A certificate that an authority has made, with its key; both PEM.

    Raises:
        ParseError: ``unreadable-file``; ``malformed-certificate``: no certificate, or its key is another.
    """
    try:
        data = path.read_bytes()
        key.read_bytes()
    except OSError as error:
        raise ParseError("unreadable-file", f"{error.filename}: {system_reason(error)}") from None
    try:
        return _whole(path, key, data, is_own=False)
    except ValueError:
        raise ParseError(
            "malformed-certificate",
            f"{path} holds no certificate (PEM), or {key} not its key (PEM, without a passphrase)",
        ) from None


def _whole(path: Path, key: Path, data: bytes, *, is_own: bool) -> Certificate:
    """The certificate, whose key fits.

    Raises:
        ValueError: it is no certificate, or the key is not its own.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    der = x509.load_pem_x509_certificate(data).public_bytes(Encoding.DER)
    certificate = Certificate(path, key, hashlib.sha256(der).hexdigest(), is_own)
    try:
        server_context(certificate)
    except OSError as error:
        raise ValueError("not its key") from error
    return certificate


def server_context(certificate: Certificate) -> SSLContext:
    """The server's side of TLS.

    Raises:
        OSError: the files are not what they were when ``certificate`` was read.
    """
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # TLS 1.2 or later: clients that others wrote come too
    if certificate.is_own and ssl.HAS_TLSv1_3:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # nothing is ever resumed
    context.options |= ssl.OP_NO_TICKET
    context.set_alpn_protocols(["http/1.1"])
    # an empty passphrase: else the library would ask for one in the terminal
    context.load_cert_chain(certificate.path, certificate.key, password="")
    return context


def _made() -> bytes:
    """A new key (ECDSA, P-256) and a certificate that it signs itself, as PEM."""
    from datetime import datetime, timezone

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, _COMMON_NAME)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # always: it is good for as long as an offer holds its fingerprint (the last day as RFC 5280, 4.1.2.5 has it)
        .not_valid_before(datetime(2009, 1, 3, tzinfo=timezone.utc))
        .not_valid_after(datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone.utc))
        .sign(key, hashes.SHA256())
    )
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + certificate.public_bytes(serialization.Encoding.PEM)


def _keep(path: Path, data: bytes) -> None:
    """Keep it durably, unless another process was faster."""
    with AsStorageError("write-failed", path):
        durability.make_directory(path.parent, parents=True)
        durability.write_once(path, data)
    with AsStorageError("write-unsure", path):
        for folder in (path.parent, path.parent.parent):
            durability.sync_directory(folder)


def _check_permissions(path: Path) -> None:
    with AsStorageError("read-failed", path):
        mode = stat.S_IMODE(os.stat(path).st_mode)
    if mode & 0o077:
        raise StorageError(
            "certificate-permissions",
            f"{path} is readable by others (mode {mode:04o})",
            hint=f"chmod 600 {path}",
        )


# pins ---------------------------------------------------------------------------------------------


def pinned_url(url: str, certificate: Certificate) -> str:
    """The address as others get it: with the fingerprint of an own certificate."""
    return f"{url}#pin-sha256={certificate.fingerprint}" if certificate.is_own else url


def split_pin(url: str) -> tuple[str, str | None]:
    """An address as it was given: without its fragment, and the fingerprint that stands there.

    Any other fragment means a place in a page; it is no matter of the server's, and dropped. One that looks like a pin
    and is none is refused, because without it somebody in between could be believed.

    Returns:
        the URL to ask, and 64 lower-case hex digits, or None where there is no pin.

    Raises:
        ParseError: ``malformed-pin``: it is no SHA-256, or stands behind an address without TLS.
    """
    asked, fragment = urldefrag(url)
    match = _PIN.fullmatch(fragment)
    if match is None:
        if fragment[:3].lower() != "pin":
            return asked, None
        raise _malformed_pin(f"#{fragment:.100} is not pin-sha256= and 64 hex digits")
    if urlsplit(asked).scheme != "https":
        raise _malformed_pin(f"{asked:.100} has no certificate: a pin belongs to https://")
    return asked, match[1].lower()


def read_pin(text: str) -> str:
    """A fingerprint as people and ``openssl x509 -fingerprint`` write it, with or without colons, in lower case.

    Raises:
        ParseError: ``malformed-pin``.
    """
    _, pin = split_pin("https://localhost#pin-sha256=" + text.replace(":", ""))
    assert pin is not None  # else it has been refused
    return pin


def _malformed_pin(what: str) -> MpchanError:
    return ParseError("malformed-pin", what, hint="copy the whole address, as the payee shows it")
