"""Refunds and closes completed by other people's libraries from seed words: embit and BDK.

Nothing of mpchan is used here. Paths are as BIP-0032 writes them.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any

import pytest

LATER = 1_000_000
"""A height that is later than any refund's in the tests; BDK looks at it only for scripts with lock times."""


def derived_path(payee_key: bytes) -> str:
    """Of the payer's key in a channel with this key of the payee, on any network for tests."""
    numbers = sha256(b"mpchan/payer" + payee_key).digest()
    steps = [int.from_bytes(numbers[start : start + 4], "big") & 0x7FFF_FFFF for start in (0, 4, 8, 12)]
    return "m/7420h/1h/2h/" + "/".join(f"{step}h" for step in steps)


def counted_path(index: int) -> str:
    """Of channel key number ``index`` of older channels, on any network for tests."""
    return f"m/7420h/1h/0h/{index}h"


def payee_key_of(signed_refund: bytes) -> bytes:
    """The key whose signature the message holds."""
    from embit.psbt import PSBT

    [key] = PSBT.parse(signed_refund).inputs[0].partial_sigs
    found: bytes = key.sec()
    return found


def by_embit(words: str, path: str, signed_refund: bytes) -> str:
    """The complete refund in hex, as embit makes it."""
    from embit import bip32, bip39, finalizer
    from embit.psbt import PSBT

    key = bip32.HDKey.from_seed(bip39.mnemonic_to_seed(words)).derive(path).key
    psbt = PSBT.parse(signed_refund)
    assert psbt.sign_with(key) == 1
    return str(finalizer.finalize_psbt(psbt).serialize().hex())


def by_bdk(words: str, path: str, signed_refund: bytes) -> str:
    """The complete refund in hex, as a wallet of the Bitcoin Development Kit makes it."""
    bdk = pytest.importorskip("bdkpython", reason="bdkpython has no wheel for this machine")
    secret = bdk.DescriptorSecretKey(bdk.NetworkKind.TEST, bdk.Mnemonic.from_string(words), None)
    key = secret.derive(bdk.DerivationPath(path))
    text = f"wsh(sortedmulti(2,{key},{payee_key_of(signed_refund).hex()}))"
    descriptor = bdk.Descriptor(text, bdk.NetworkKind.TEST)
    wallet = bdk.Wallet.create_single(descriptor, bdk.Network.REGTEST, bdk.Persister.new_in_memory())
    psbt = bdk.Psbt(base64.b64encode(signed_refund).decode())
    options = bdk.SignOptions(
        trust_witness_utxo=True,
        assume_height=LATER,
        allow_all_sighashes=False,
        try_finalize=True,
        sign_with_tap_internal_key=False,
        allow_grinding=True,
    )
    assert wallet.sign(psbt, options)
    return str(psbt.extract_tx().serialize().hex())


LIBRARIES = {"embit": by_embit, "bdk": by_bdk}


# taproot: from the words and the offer alone ------------------------------------------------------


def own_payee_path(generation: str, offer_id: str) -> str:
    """Of the payee's key under an offer of its own, on any network for tests."""
    numbers = sha256(b"mpchan/payee" + bytes.fromhex(generation) + bytes.fromhex(offer_id)).digest()
    steps = [int.from_bytes(numbers[start : start + 4], "big") & 0x7FFF_FFFF for start in (0, 4, 8, 12)]
    return "m/7420h/1h/1h/" + "/".join(f"{step}h" for step in steps)


def _tagged(tag: str, data: bytes) -> bytes:
    start = sha256(tag.encode()).digest() * 2
    return sha256(start + data).digest()


def _aggregate(one: bytes, other: bytes) -> bytes:
    """BIP-0327's KeyAgg of two compressed keys, sorted, x-only."""
    from embit.util import secp256k1

    first, second = sorted((one, other))
    listed = _tagged("KeyAgg list", first + second)
    factor = _tagged("KeyAgg coefficient", listed + first)
    point = secp256k1.ec_pubkey_parse(first)
    changed = secp256k1.ec_pubkey_tweak_mul(point, factor)  # in place, or not, by version
    summed = secp256k1.ec_pubkey_combine(changed or point, secp256k1.ec_pubkey_parse(second))
    return bytes(secp256k1.ec_pubkey_serialize(summed)[1:])


def _number(value: int) -> bytes:
    """As a script pushes a number above 16."""
    size = value.bit_length() // 8 + 1
    return bytes([size]) + value.to_bytes(size, "little")


class Words:
    """A payer that has its seed words and the text of an offer, and nothing else; heights, as the offers of tests."""

    def __init__(self, words: str, offer: str) -> None:
        from embit import bip32, bip39

        self._root = bip32.HDKey.from_seed(bip39.mnemonic_to_seed(words))
        self._terms = dict(re.findall(r"^(\w+) = \"?([0-9a-z]+)\"?$", offer, re.MULTILINE))
        self._payee = bytes.fromhex(self._terms["payee_pubkey"])
        self._key = self._root.derive(derived_path(self._payee)).key

    def candidates(self) -> Iterator[tuple[int, bytes, bytes, bytes]]:
        """Each L_refund that can be meant: with the scriptPubKey, leaf R and its control block."""
        from embit.util import secp256k1

        least = int(self._terms["made_at"]) + int(self._terms["min_refund_delay"])
        most = int(self._terms["made_at"]) + 10 * int(self._terms["max_refund_delay"])
        sec = self._key.get_public_key().sec()
        ours, theirs = b"\x20" + sec[1:], b"\x20" + self._payee[1:]
        internal = _aggregate(sec, self._payee)
        close = self._leaf(ours + b"\xad" + theirs + b"\xac")
        for refund_at in range(-(-least // 36) * 36, most + 1, 36):
            refund = ours + b"\xad" + _number(refund_at) + b"\xb1"
            hashes = sorted((close, self._leaf(refund)))
            tweak = _tagged("TapTweak", internal + _tagged("TapBranch", b"".join(hashes)))
            point = secp256k1.ec_pubkey_add(secp256k1.ec_pubkey_parse(b"\x02" + internal), tweak)
            output = secp256k1.ec_pubkey_serialize(point)
            block = bytes([0xC0 | output[0] & 1]) + internal + close
            yield refund_at, b"\x51\x20" + output[1:], refund, block

    @staticmethod
    def _leaf(script: bytes) -> bytes:
        return _tagged("TapLeaf", b"\xc0" + bytes([len(script)]) + script)

    def refund(self, find: Callable[[bytes], tuple[bytes, int, int] | None], fee: int) -> str:
        """The whole of it to the first address of the words, in hex.

        Args:
            find: the txid in display order, output index and value (satoshi) of what pays to a script, or None.
        """
        from embit import script as scripts
        from embit.script import Script, Witness
        from embit.transaction import Transaction, TransactionInput, TransactionOutput

        for refund_at, script_pubkey, leaf, block in self.candidates():
            found = find(script_pubkey)
            if found is None:
                continue
            txid, vout, value = found
            own: Any = scripts.p2wpkh(self._root.derive("m/84h/1h/0h/0/0"))
            source = TransactionInput(txid, vout, sequence=0xFFFF_FFFD)
            made = Transaction(3, [source], [TransactionOutput(value - fee, own)], refund_at)
            digest = made.sighash_taproot(
                0, [Script(script_pubkey)], [value], ext_flag=1, script=Script(leaf)
            )
            signature = self._key.schnorr_sign(digest).serialize()
            made.vin[0].witness = Witness([signature, leaf, block])
            return str(made.serialize().hex())
        raise AssertionError("nothing pays to any of the addresses")


def close_by_embit(words: str, path: str, payment: bytes) -> str:
    """A payer's payment with the payee's signature besides, in hex."""
    from embit import bip32, bip39
    from embit.psbt import PSBT
    from embit.script import Witness

    key = bip32.HDKey.from_seed(bip39.mnemonic_to_seed(words)).derive(path).key
    psbt = PSBT.parse(payment)
    [((payer, leaf), theirs)] = psbt.inputs[0].taproot_sigs.items()
    assert psbt.sign_input_with_tapkey(key, 0) == 1
    ours = psbt.inputs[0].taproot_sigs[(type(payer).from_xonly(key.xonly()), leaf)]
    [(block, script)] = [
        (block, script) for block, script in psbt.inputs[0].taproot_scripts.items() if key.xonly() in script
    ]
    made = psbt.tx
    made.vin[0].witness = Witness([ours, theirs, script[:-1], block])
    return str(made.serialize().hex())
