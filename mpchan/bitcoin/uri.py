"""Payment requests that other wallets open: ``bitcoin:`` URIs (BIP-0021)."""

from __future__ import annotations

from mpchan.units import SATOSHI_PER_BITCOIN, Amount

_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
"""What RFC 3986, section 2.3, lets stand for itself everywhere in a URI."""


def payment_uri(address: str, amount: Amount | None, label: str = "") -> str:
    """``bitcoin:ADDRESS?amount=BTC&label=TEXT``; without an amount where it is None, without a label where it is empty.

    Args:
        address: any address; its characters need no encoding.
        amount: written as decimal bitcoin, with a period, no exponent and no needless zeros.
        label: any text; all but letters, digits and ``-._~`` is percent-encoded as UTF-8.
    """
    asked = [] if amount is None else [f"amount={decimal_btc(amount)}"]
    if label:
        asked.append(f"label={_percent_encoded(label)}")
    return f"bitcoin:{address}" + (f"?{'&'.join(asked)}" if asked else "")


def decimal_btc(amount: Amount) -> str:
    """An amount in bitcoin, such as ``0.001`` or ``20.3``; never with an exponent."""
    whole, rest = divmod(amount.sat, SATOSHI_PER_BITCOIN)
    return f"{whole}.{rest:08d}".rstrip("0").rstrip(".")


def _percent_encoded(text: str) -> str:
    return "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in text.encode())
