"""Bitcoin Core reads a taproot channel's descriptor as the very output that is made here."""

from __future__ import annotations

from itertools import product

import pytest
from support.chain.node import Node, needs_node

from mpchan.bitcoin.address import script_to_address
from mpchan.bitcoin.descriptor import musig_descriptor, with_checksum
from mpchan.bitcoin.musig import musig_key
from mpchan.bitcoin.network import REGTEST
from mpchan.bitcoin.signature import PrivateKey, PublicKey
from mpchan.bitcoin.taproot import TapLeaf, TaprootOutput
from mpchan.bitcoin.tapscript import MAX_SCRIPT_LOCK_TIME, key_after_script, two_keys_script
from mpchan.units import lock_time_from_int

pytestmark = needs_node

SIGNS = {"even and even": (2, 2), "even and odd": (2, 3), "odd and even": (3, 2), "odd and odd": (3, 3)}


def output_of(payer: PublicKey, payee: PublicKey, lock_time: int) -> TaprootOutput:
    both = TapLeaf(two_keys_script(payer.x_only, payee.x_only))
    refund = TapLeaf(key_after_script(payer.x_only, lock_time_from_int(lock_time)))
    return TaprootOutput(musig_key(payer, payee).x_only, (both, refund))


@pytest.mark.parametrize("signs", SIGNS.values(), ids=SIGNS)
def test_one_address(shared_node: Node, signs: tuple[int, int]) -> None:
    """Whatever the sign of the keys, the order in ``musig()`` and of the leaves, and the lock time's length."""
    one, other = (
        PublicKey(bytes([sign]) + PrivateKey(bytes([number]) * 32).public_key.x_only)
        for number, sign in zip((7, 8), signs, strict=True)
    )
    lock_times = (16, 17, 128, 1_008, 499_999_999, 500_000_000, MAX_SCRIPT_LOCK_TIME)
    for (payer, payee), lock_time in product(((one, other), (other, one)), lock_times):
        output = output_of(payer, payee, lock_time)
        address = script_to_address(output.script_pubkey, REGTEST)
        descriptor = musig_descriptor(payer, payee, lock_time_from_int(lock_time))
        assert shared_node.call("deriveaddresses", descriptor) == [address]
        told = shared_node.call("getdescriptorinfo", descriptor)
        assert (told["issolvable"], told["isrange"]) == (True, False)
        assert with_checksum(told["descriptor"].partition("#")[0]) == told["descriptor"]
        bare = descriptor.partition("#")[0]
        assert told["checksum"] == descriptor.partition("#")[2]
        swapped = bare.replace(f"musig({payer},{payee})", f"musig({payee},{payer})")
        assert swapped != bare
        assert shared_node.call("deriveaddresses", with_checksum(swapped)) == [address]
        start, _, leaves = bare.partition("{")
        first, second = leaves[:-2].split("),and_v", 1)
        turned = f"{start}{{and_v{second},{first})}})"
        assert turned != bare
        assert shared_node.call("deriveaddresses", with_checksum(turned)) == [address]


def test_the_sign_of_a_key_counts() -> None:
    x = PrivateKey(bytes([7]) * 32).public_key.x_only
    other = PrivateKey(bytes([8]) * 32).public_key
    even, odd = PublicKey(b"\x02" + x), PublicKey(b"\x03" + x)
    assert output_of(even, other, 1_008).script_pubkey != output_of(odd, other, 1_008).script_pubkey
