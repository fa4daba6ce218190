"""Addresses and the scriptPubKeys that they stand for.

Known are P2PKH, P2SH (BIP-0013), P2WPKH and P2WSH (BIP-0173) and P2TR (BIP-0350). Later witness
versions are refused: no rule for their dust limit or spending cost exists, and coins sent to them
are anyone's.
"""

from __future__ import annotations

from mpchan.bitcoin.base58 import base58check_decode, base58check_encode
from mpchan.bitcoin.bech32 import MAX_LENGTH, segwit_decode, segwit_encode
from mpchan.bitcoin.network import NETWORKS, Network
from mpchan.errors import ParseError

_P2PKH_HEAD, _P2PKH_TAIL = bytes.fromhex("76a914"), bytes.fromhex("88ac")
_P2SH_HEAD, _P2SH_TAIL = bytes.fromhex("a914"), bytes.fromhex("87")
_OP_1 = 0x51


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
    if len(script) == 25 and script.startswith(_P2PKH_HEAD) and script.endswith(_P2PKH_TAIL):
        return base58check_encode(bytes([network.p2pkh_prefix]) + script[3:23])
    if len(script) == 23 and script.startswith(_P2SH_HEAD) and script.endswith(_P2SH_TAIL):
        return base58check_encode(bytes([network.p2sh_prefix]) + script[2:22])
    if len(script) in (22, 34) and script[:2] == bytes([0, len(script) - 2]):
        return segwit_encode(network.bech32_hrp, 0, script[2:])
    if len(script) == 34 and script[:2] == bytes([_OP_1, 32]):
        return segwit_encode(network.bech32_hrp, 1, script[2:])
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
    return bytes([_OP_1 if version else 0, len(program)]) + program


def _base58_script(address: str, network: Network) -> bytes:
    try:
        payload = base58check_decode(address)
    except ParseError as error:
        raise ParseError("malformed-address", f"not an address: {address!r:.100} ({error.message})") from None
    prefix, digest = payload[:1], payload[1:]
    if len(digest) != 20:
        raise ParseError("malformed-address", f"not an address: {address!r:.100} (no 20-byte hash)")
    if prefix == bytes([network.p2pkh_prefix]):
        return _P2PKH_HEAD + digest + _P2PKH_TAIL
    if prefix == bytes([network.p2sh_prefix]):
        return _P2SH_HEAD + digest + _P2SH_TAIL
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
