"""One public key for several, under which all of them sign together: MuSig2's key aggregation (BIP-0327).

Nobody signs with MuSig2 here; an address commits to the key, so that both parties could one day. The synthetic extended
key of BIP-0328 is for ``musig()`` with derivation steps, which a channel's descriptor has none of.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpchan.bitcoin import signers
from mpchan.bitcoin.schnorr import tagged_hash
from mpchan.bitcoin.signature import ORDER, PublicKey
from mpchan.errors import ParseError

_ONE = bytes(31) + b"\x01"


def musig_key(*keys: PublicKey) -> PublicKey:
    """The aggregate key that ``musig()`` stands for in a descriptor, whatever the order of the keys (BIP-0390).

    Raises:
        ParseError: as ``aggregate_keys``.
    """
    return aggregate_keys(sorted(keys, key=lambda key: key.sec))  # BIP-0327, ``KeySort``


def aggregate_keys(keys: Sequence[PublicKey]) -> PublicKey:
    """BIP-0327, ``KeyAgg``: the sum of the keys, each times a factor that depends on all of them and their order.

    Raises:
        ParseError: ``malformed-public-key`` when they cancel each other out; nobody will ever see it.
    """
    listed = b"".join(key.sec for key in keys)
    list_hash = tagged_hash("KeyAgg list", listed)
    second = next((key for key in keys if key != keys[0]), None)
    library = signers.signer()
    total = library.combine(
        [library.load_public(key.sec) for key in keys],
        [_ONE if key == second else _factor(list_hash, key) for key in keys],
    )
    if total is None:
        raise ParseError("malformed-public-key", "the aggregate of the keys is the point at infinity")
    return PublicKey(total)


def _factor(list_hash: bytes, key: PublicKey) -> bytes:
    number = int.from_bytes(tagged_hash("KeyAgg coefficient", list_hash + key.sec), "big") % ORDER
    return number.to_bytes(32, "big")
