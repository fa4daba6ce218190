"""Telling what a file holds: a PSBT (hex, base64 or binary) or a transaction (hex or binary)."""

from __future__ import annotations

import binascii
import re

from mpchan.bitcoin.psbt import MAGIC, Psbt
from mpchan.bitcoin.tx import Transaction
from mpchan.errors import ParseError
from mpchan.units import MAX_MESSAGE_BYTES, MAX_TEXT_BYTES

_NOT_TEXT = re.compile(rb"[^\t\n\v\f\r -~]")
_NOT_HEX = re.compile(rb"[^0-9a-fA-F]")
_LINE_BREAKS = re.compile(rb"[\r\n]+")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]*={0,2}")
_PSBT_START = MAGIC[:4]  # so that one with a damaged magic is called by its name
_BASE64_START = b"cHNidP"
"""``psbt`` and the beginning of 0xff, the way every PSBT in base64 begins."""

_HINT = "a message is a PSBT in hex, base64 or binary, or a transaction in hex or binary"


def decode_message(data: bytes, *, either_version: bool = False) -> Psbt | Transaction:
    """Read any message that parties exchange, or that another wallet makes.

    Args:
        data: one line of hex in either case with space around it; or base64 (lines may be broken);
            or binary. What it stands for has at most ``MAX_MESSAGE_BYTES``.
        either_version: a PSBT of version 2 (BIP-0370) is read too, as what it is in version 0.

    Raises:
        ParseError: ``empty``, ``too-large``, ``malformed-hex``, ``malformed-base64``, ``malformed-psbt``,
            ``malformed-transaction``, ``psbt-version``.
    """
    if len(data) > MAX_TEXT_BYTES:
        raise too_large("message")
    if data.startswith(_PSBT_START):
        return _parse(data, either_version)
    text = data.strip()
    if not text:
        raise ParseError("empty", "message is empty")
    if _NOT_TEXT.search(text) and _NOT_HEX.match(text):
        # binary; where the first byte is a hex digit it rather is text with a stray character in it
        return _parse(data, either_version)
    if text.startswith(_BASE64_START):
        return _parse(_from_base64(text), either_version)
    return _parse(_from_hex(text), either_version)


def too_large(what: str) -> ParseError:
    """The refusal of what is longer than any message."""
    return ParseError(
        "too-large",
        f"{what}: more than {MAX_MESSAGE_BYTES} bytes, before hex or base64",
        hint="a PSBT is much shorter without the transactions whose outputs it spends, or as the signed transaction",
    )


def _parse(data: bytes, either_version: bool) -> Psbt | Transaction:
    if len(data) > MAX_MESSAGE_BYTES:
        raise too_large("message")
    is_psbt = data.startswith(_PSBT_START)
    try:
        if not is_psbt:
            return _complete_transaction(data)
        return _psbt(data, either_version)
    except ParseError as error:
        if error.slug == "psbt-version":
            raise
        slug, name = ("malformed-psbt", "PSBT") if is_psbt else ("malformed-transaction", "transaction")
        raise ParseError(slug, f"not a valid {name}: {error.message}") from None


def _psbt(data: bytes, either_version: bool) -> Psbt:
    try:
        return Psbt.from_bytes(data)
    except ParseError as error:
        if error.slug != "psbt-version" or not either_version:
            raise
    from mpchan.bitcoin.psbt_v2 import read_version_2

    return read_version_2(data)


def _complete_transaction(data: bytes) -> Transaction:
    tx = Transaction.from_bytes(data)
    if not tx.inputs or not tx.outputs:
        raise ParseError("malformed-transaction", f"{len(tx.inputs)} inputs and {len(tx.outputs)} outputs")
    return tx


def _from_hex(text: bytes) -> bytes:
    stray = _NOT_HEX.search(text)
    if stray is not None:
        raise ParseError(
            "malformed-hex",
            f"{stray[0].decode('ascii', 'backslashreplace')!r} at position {stray.start()} is no hex digit",
            hint=_HINT,
        )
    if len(text) % 2:
        raise ParseError("malformed-hex", f"odd number of hex digits: {len(text)}")
    return binascii.unhexlify(text)


def _from_base64(text: bytes) -> bytes:
    joined = _LINE_BREAKS.sub(b"", text)
    if len(joined) % 4 or not _BASE64.fullmatch(joined):
        raise ParseError("malformed-base64", f"not base64: {text[:40]!r}, {len(text)} bytes", hint=_HINT)
    return binascii.a2b_base64(joined)
