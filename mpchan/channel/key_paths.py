"""The paths of a wallet's channel keys (BIP-0032): anybody who has the seed can compute them.

    m/7420'/coin'/0'/i'              key number i of older channels, whose wallet counts
    m/7420'/coin'/1'/a'/b'/c'/d'     a payee's key, by SHA-256("mpchan/payee" || generation || name of what is offered)
    m/7420'/coin'/2'/a'/b'/c'/d'     a payer's key, by SHA-256("mpchan/payer" || the payee's public key)
    m/7420'/coin'/3'                 the key of the tokens by which a payee knows its own offers again

``coin`` is 0 on mainnet, else 1 (SLIP-0044). ``a`` to ``d`` are bytes 0 to 3, 4 to 7, 8 to 11 and 12 to 15 of the
digest, each read as a big-endian number of which the highest bit is cleared: every step is hardened, and that bit is
what says so. What is hashed is bytes, never their hex: a generation has 8, the name of an offer is its id of 16 or, of
an offer that publishes a sale, the Merkle root of 32; a public key is compressed, 33 bytes.

The payer's key follows from the payee's alone, which stands in the channel's script: so the seed words and the refund
that the payee has signed are all that it takes to get the money of a channel back.
"""

from __future__ import annotations

from hashlib import sha256

from mpchan.bitcoin.hd import HARDENED
from mpchan.bitcoin.network import Network
from mpchan.bitcoin.signature import PublicKey
from mpchan.units import checked_key_index

PURPOSE = 7420
_COUNTED, _PAYEE, _PAYER, _TOKEN = range(4)
_STEPS = 4

Path = tuple[int, ...]
"""Child numbers from the master key on, hardened ones from 2**31."""


def counted_path(network: Network, index: int) -> Path:
    """The channel key number ``index`` (0 to 2**31 - 1) of a wallet that counts them."""
    return (*_branch(network, _COUNTED), HARDENED + checked_key_index(index))


def payee_path(network: Network, generation: bytes, name: bytes) -> Path:
    """The key of a payee's offer.

    Args:
        generation: of the payee's wallet, 8 bytes.
        name: of what is offered: the offer's id, 16 bytes, or the Merkle root of a published sale, 32 bytes.
    """
    return (*_branch(network, _PAYEE), *_steps(b"mpchan/payee" + generation + name))


def payer_path(network: Network, payee_key: PublicKey) -> Path:
    """The key of the payer in a channel with this key of the payee."""
    return (*_branch(network, _PAYER), *_steps(b"mpchan/payer" + payee_key.sec))


def token_path(network: Network) -> Path:
    """The key of a payee's tokens."""
    return _branch(network, _TOKEN)


def _branch(network: Network, number: int) -> Path:
    return (HARDENED + PURPOSE, HARDENED + network.coin_type, HARDENED + number)


def _steps(data: bytes) -> Path:
    """Four hardened steps by the first 16 bytes of a digest."""
    digest = sha256(data).digest()
    words = (digest[4 * at : 4 * at + 4] for at in range(_STEPS))
    return tuple(HARDENED | int.from_bytes(word, "big") for word in words)
