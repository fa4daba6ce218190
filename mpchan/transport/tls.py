"""TLS between a buyer and a seller: the seller's own certificate, which the buyer knows from the offer.

The offer holds the fingerprint of the certificate, so no authority and no host name have a say. The buyer compares it
before anything is sent. Who takes the seller's place on the way can be neither read from nor written to.
"""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mpchan import durability
from mpchan.errors import AsStorageError, Refused, StorageError, storage_error
from mpchan.values import frozen

if TYPE_CHECKING:
    from ssl import SSLContext, SSLSocket

_NAME = "listening.pem"
_COMMON_NAME = "mpchan"


@frozen
class Certificate:
    """A certificate with its key, and what others know of it.

    Attributes:
        path: PEM, both in one file.
        fingerprint: SHA-256 of the certificate in DER, 64 lower-case hex digits.
    """

    path: Path
    fingerprint: str


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
    certificate = Certificate(path, _fingerprint(path))
    seller_context(certificate)  # the key fits
    return certificate


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


def _fingerprint(path: Path) -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        der = x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER)
    except OSError as error:
        raise storage_error("read-failed", path, error) from error
    except ValueError:
        raise _damaged(path) from None
    return hashlib.sha256(der).hexdigest()


def _damaged(path: Path) -> StorageError:
    return StorageError(
        "certificate-damaged",
        f"{path} holds no certificate with its key",
        hint="put it back from a copy; or delete it, then a new one is made, which the buyers of earlier offers refuse",
    )


# both sides ---------------------------------------------------------------------------------------


def seller_context(certificate: Certificate) -> SSLContext:
    """What ``seller_side`` needs."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _only_the_newest(context)
    context.num_tickets = 0  # nothing is ever resumed
    try:
        # an empty passphrase: else the library would ask for one in the terminal
        context.load_cert_chain(certificate.path, password="")
    except OSError:
        raise _damaged(certificate.path) from None
    return context


def seller_side(plain: socket.socket, context: SSLContext) -> SSLSocket:
    """A connection that has been taken, with TLS; the handshake comes with the first read.

    Raises:
        OSError: it has ended already. ``plain`` is closed then.
    """
    try:
        return context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
    except BaseException:
        plain.close()
        raise


def dial(address: tuple[str, int], fingerprint: str, deadline: float) -> SSLSocket:
    """A connection to the seller whose certificate has this fingerprint.

    Args:
        deadline: as ``time.monotonic()`` counts; for looking up the name there is none.

    Raises:
        Refused: ``certificate-differs``; ``malformed-answer``: it does not speak TLS.
        OSError, UnicodeError: nobody is reached.
    """
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _only_the_newest(context)
    plain = _connected(address, deadline)
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.settimeout(max(0.001, deadline - time.monotonic()))
        wrapped = context.wrap_socket(plain)
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError):
        plain.close()
        raise ConnectionError("the connection was closed in the handshake") from None
    except ssl.SSLError as error:
        plain.close()
        raise Refused(
            "malformed-answer",
            f"{address[0]}:{address[1]} does not speak TLS as a seller does: {error.reason}",
        ) from None
    except BaseException:
        plain.close()
        raise
    shown = hashlib.sha256(wrapped.getpeercert(binary_form=True) or b"").hexdigest()
    if shown != fingerprint:
        wrapped.close()
        raise Refused(
            "certificate-differs",
            f"{address[0]}:{address[1]} shows another certificate than the offer names: SHA-256 {shown}, "
            f"not {fingerprint}",
            hint="somebody may be in between, or the seller has a new one: get the offer anew, on a safe way",
        )
    return wrapped


def _only_the_newest(context: SSLContext) -> None:
    import ssl

    newest = ssl.TLSVersion.TLSv1_3 if ssl.HAS_TLSv1_3 else ssl.TLSVersion.TLSv1_2
    context.minimum_version = newest


def _connected(address: tuple[str, int], deadline: float) -> socket.socket:
    """A plain connection: each of the addresses that the name stands for gets its share of the time."""
    found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
    failure: OSError = ConnectionError("the name stands for no address")
    for index, (family, kind, protocol, _, where) in enumerate(found):
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no connection in time")
        plain = socket.socket(family, kind, protocol)
        try:
            plain.settimeout(left / (len(found) - index))
            plain.connect(where)
            if plain.getsockname() == plain.getpeername():
                raise ConnectionRefusedError("nobody listens there")  # a free port can be connected to itself
        except OSError as error:
            plain.close()
            failure = error
        except BaseException:
            plain.close()
            raise
        else:
            return plain
    raise failure
