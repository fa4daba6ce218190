"""Addresses and the scriptPubKeys that they stand for.

Known are P2PKH, P2SH (BIP-0013), P2WPKH and P2WSH (BIP-0173) and P2TR (BIP-0350). Later witness
versions are refused: no rule for their dust limit or spending cost exists, and coins sent to them
are anyone's.
"""

from __future__ import annotations

from mpchan.bitcoin.base58 import base58check_decode, base58check_encode
from mpchan.bitcoin.bech32 import MAX_LENGTH, segwit_decode, segwit_encode
from mpchan.bitcoin.network import NETWORKS, Network
from mpchan.bitcoin.script import (
    OP_1,
    is_p2pkh,
    is_p2sh,
    is_p2tr,
    is_p2wpkh,
    is_p2wsh,
    p2pkh_script,
    p2sh_script,
)
from mpchan.errors import ParseError


def address_to_script(address: str, network: Network) -> bytes:
    """The scriptPubKey that pays to ``address``.

    Raises:
        ParseError: ``malformed-address`` for a bad character, checksum, length or mixed case;
            ``wrong-network``; ``unsupported-address`` for a witness version that has no rules yet.
    """
    if not isinstance(address, str) or not 1 <= len(address) <= MAX_LENGTH:
        raise ParseError("malformed-address", f"not an address: {address!r:.80}")
    if _looks_like_segwit(address):
        return _segwit_script(address, network)
    return _base58_script(address, network)


def script_to_address(script: bytes, network: Network) -> str | None:
    """The address of a scriptPubKey, or None where it has none that mpchan can pay to."""
    if is_p2pkh(script):
        return base58check_encode(bytes([network.p2pkh_prefix]) + script[3:23])
    if is_p2sh(script):
        return base58check_encode(bytes([network.p2sh_prefix]) + script[2:22])
    if is_p2wpkh(script) or is_p2wsh(script) or is_p2tr(script):
        return segwit_encode(network.bech32_hrp, int(is_p2tr(script)), script[2:])
    return None


def _looks_like_segwit(address: str) -> bool:
    """Whether the text up to the last 1 is some network's human-readable part.

    No base58 address of these networks begins so: their first characters are 1, 3, 2, m and n.
    """
    hrp = address.rpartition("1")[0].lower()
    return any(hrp == network.bech32_hrp for network in NETWORKS.values())


def _segwit_script(address: str, network: Network) -> bytes:
    try:
        hrp, version, program = segwit_decode(address)
    except ParseError as error:
        raise ParseError("malformed-address", f"not an address: {address!r:.100} ({error.message})") from None
    if hrp != network.bech32_hrp:
        raise _wrong_network(address, network, [n.name for n in NETWORKS.values() if n.bech32_hrp == hrp])
    if version > 1 or (version == 1 and len(program) != 32):
        raise ParseError(
            "unsupported-address",
            f"witness version {version} with {len(program)} bytes has no rules yet: {address!r:.100}",
        )
    return bytes([OP_1 if version else 0, len(program)]) + program


def _base58_script(address: str, network: Network) -> bytes:
    try:
        payload = base58check_decode(address)
    except ParseError as error:
        raise ParseError("malformed-address", f"not an address: {address!r:.100} ({error.message})") from None
    prefix, digest = payload[:1], payload[1:]
    if len(digest) != 20:
        raise ParseError("malformed-address", f"not an address: {address!r:.100} (no 20-byte hash)")
    if prefix == bytes([network.p2pkh_prefix]):
        return p2pkh_script(digest)
    if prefix == bytes([network.p2sh_prefix]):
        return p2sh_script(digest)
    owners = [n.name for n in NETWORKS.values() if prefix[0] in (n.p2pkh_prefix, n.p2sh_prefix)]
    if not owners:
        raise ParseError(
            "malformed-address", f"not an address: {address!r:.100} (unknown prefix {prefix[0]})"
        )
    raise _wrong_network(address, network, owners)


def _wrong_network(address: str, network: Network, owners: list[str]) -> ParseError:
    return ParseError(
        "wrong-network", f"{address!r:.100} is an address of {' or '.join(owners)}, not of {network.name}"
    )
