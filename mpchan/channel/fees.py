"""Sizes and fees of the transactions that spend the funding output.

Sizes are for two signatures of 72 bytes (71 of DER, one of sighash type): the largest that a
low-S signature can have, so a real transaction is never larger than what was paid for.
"""

from __future__ import annotations

from mpchan.bitcoin.script import output_size

_BASE = (
    4  # version
    + 1  # number of inputs
    + 36  # outpoint
    + 1  # length of the empty scriptSig
    + 4  # nSequence
    + 1  # number of outputs
    + 4  # nLockTime
)
WITNESS_SCRIPT_SIZE = (
    1  # OP_2
    + (1 + 33)  # first key
    + (1 + 33)  # second key
    + 1  # OP_2
    + 1  # OP_CHECKMULTISIG
)
_WITNESS = (
    2  # segwit marker and flag
    + 1  # number of stack items
    + 1  # the empty item that OP_CHECKMULTISIG drops
    + (1 + 72)  # first signature
    + (1 + 72)  # second signature
    + (1 + WITNESS_SCRIPT_SIZE)
)


def channel_spend_vsize(*output_scripts: bytes) -> int:
    """Virtual size (BIP-0141) of a spend of the funding output that pays to these scripts."""
    base = _BASE + sum(output_size(script) for script in output_scripts)
    return -(-(4 * base + _WITNESS) // 4)
