"""TLS between a buyer and a seller, whose certificate the buyer knows from the offer.

The offer holds the fingerprint of the certificate, so no authority and no host name have a say. The buyer compares it
before anything is sent. Who takes the seller's place on the way can be neither read from nor written to.
"""

from __future__ import annotations

import hashlib
import socket
import time
from typing import TYPE_CHECKING

from mpchan.errors import Refused

if TYPE_CHECKING:
    from ssl import SSLContext, SSLSocket


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
