"""A refund that the payee has signed, completed by other people's libraries from seed words alone: embit and BDK.

Nothing of mpchan is used here. Paths are as BIP-0032 writes them.
"""

from __future__ import annotations

import base64
from hashlib import sha256

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
