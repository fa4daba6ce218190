"""TLS to Electrum servers: a certificate that an authority vouches for, else the one that was seen first.

Most public servers sign their own certificates. Such a one is kept at the first connection, and from then on the
server must show the same: whoever takes its place later is refused loudly, and no other server is asked instead. A
server whose certificate was once vouched for must always show one that is. The first connection to a server with a
certificate of its own is the one moment at which somebody in between could show another.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from mpchan import durability
from mpchan.chain.electrum.address import Server
from mpchan.errors import AsStorageError, ChainError, storage_error

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from ssl import SSLContext, SSLSocket

_VOUCHED_FOR = "vouched for by a certificate authority\n"


class Certificates:
    """The certificates of one wallet's servers: one file for each, PEM, for people to look at or delete.

    Args:
        directory: made when it is needed; None remembers nothing.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._known: dict[Server, str] = {}

    def wrap(self, server: Server, connect: Callable[[], socket.socket]) -> SSLSocket:
        """A connection with TLS to ``server``, whose certificate is the right one.

        Args:
            connect: makes a plain connection, with its time limit; called again where the first one is used up.

        Raises:
            ChainError: ``certificate-changed``.
            StorageError: ``read-failed``, ``write-failed``: what is known of it cannot be read or kept.
            OSError: no TLS can be spoken.
        """
        import ssl

        known = self._load(server)
        if known is None or known == _VOUCHED_FOR:
            try:
                wrapped = _handshake(connect(), ssl.create_default_context(), server)
            except ssl.SSLCertVerificationError as error:
                if known == _VOUCHED_FOR:
                    raise self._changed(
                        server, f"no authority vouches for it any more: {error.verify_message}"
                    ) from None
            else:
                if known is None:
                    self._keep(server, _VOUCHED_FOR)
                return wrapped
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        wrapped = _handshake(connect(), context, server)
        try:
            self._compare(server, known, wrapped.getpeercert(binary_form=True) or b"")
        except BaseException:
            wrapped.close()
            raise
        return wrapped

    def _compare(self, server: Server, known: str | None, shown: bytes) -> None:
        import ssl

        if known is None:
            self._keep(server, ssl.DER_cert_to_PEM_cert(shown))
            return
        try:
            kept = ssl.PEM_cert_to_DER_cert(known)
        except ValueError:
            raise self._changed(server, "what was kept of it cannot be read") from None
        if kept != shown:
            raise self._changed(
                server, f"it was {_fingerprint(kept)} when first seen, now it is {_fingerprint(shown)}"
            )

    def _changed(self, server: Server, how: str) -> ChainError:
        return ChainError(
            "certificate-changed",
            f"the server {server} shows another certificate than before: {how}",
            hint="somebody may be in between; if its operator confirms the new one, "
            f"delete {self._path(server) or 'the old one'}",
        )

    # the files ------------------------------------------------------------------------------------

    def _path(self, server: Server) -> Path | None:
        name = f"{server.host}-{server.port}.pem".replace(":", "_")
        return None if self._directory is None else self._directory / name

    def _load(self, server: Server) -> str | None:
        path = self._path(server)
        if path is None:
            return self._known.get(server)
        try:
            return path.read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise storage_error("read-failed", path, error) from error

    def _keep(self, server: Server, text: str) -> None:
        """Keep it durably before anything is said to the server; of two processes the first one decides."""
        path = self._path(server)
        if path is None:
            self._known[server] = text
            return
        with AsStorageError("write-failed", path):
            durability.make_directory(path.parent)
            durability.write_once(path, text.encode("ascii"))
        with AsStorageError("write-unsure", path):
            durability.sync_directory(path.parent)
        if self._load(server) != text:
            raise self._changed(server, "two connections at the same time were shown different ones")


def _handshake(plain: socket.socket, context: SSLContext, server: Server) -> SSLSocket:
    try:
        return context.wrap_socket(plain, server_hostname=server.host)
    except BaseException:
        plain.close()
        raise


def _fingerprint(certificate: bytes) -> str:
    return f"SHA-256 {hashlib.sha256(certificate).hexdigest()}"
