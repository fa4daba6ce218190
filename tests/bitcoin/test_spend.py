"""mpchan.bitcoin.spend agrees with Bitcoin Core's engine about which spends a lock takes."""

from __future__ import annotations

import pytest
from support.judge import ENGINE, Judge, Unjust

from mpchan.bitcoin.script import key_to_p2wpkh_script, p2wpkh_script_code, script_to_p2wsh_script
from mpchan.bitcoin.sighash import segwit_v0_sighash, taproot_key_sighash, taproot_script_sighash
from mpchan.bitcoin.signature import PrivateKey
from mpchan.bitcoin.spend import is_final, lock_accepts, may_be_mined
from mpchan.bitcoin.taproot import TapLeaf, TaprootOutput
from mpchan.bitcoin.tapscript import key_after_script, two_keys_script
from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.units import Amount, ChainTip, Height, OutPoint, Txid
from mpchan.values import replace

KEYS = [PrivateKey(bytes([number]) * 32) for number in (1, 2, 3)]
PUBLIC = [key.public_key.sec for key in KEYS]
TWO_OF_TWO = b"\x52" + b"".join(b"\x21" + key for key in PUBLIC[:2]) + b"\x52\xae"
TYPES = [1, 2, 3, 0x81, 0x82, 0x83]

needs_engine = pytest.mark.skipif(not ENGINE, reason="the engine is not installed (mpchan engine install)")


def spending(script: bytes) -> tuple[Transaction, TxOut]:
    """An unsigned transaction with one input, and what that spends."""
    source = TxIn(OutPoint(Txid(bytes(32)), 3), 0xFFFF_FFFD)
    return Transaction(2, (source,), (TxOut(Amount(7_000), b"\x51"),), 77), TxOut(Amount(10_000), script)


def the_engines(transaction: Transaction, spent: TxOut) -> bool:
    try:
        Judge().check(transaction, [spent])
    except Unjust:
        return False
    return True


def agreed(transaction: Transaction, spent: TxOut) -> bool:
    """The verdict of both, which is the same."""
    ours = lock_accepts(transaction, 0, spent)
    assert ours is the_engines(transaction, spent)
    return bool(ours)


def ecdsa(transaction: Transaction, spent: TxOut, code: bytes, key: PrivateKey, kind: int = 1) -> bytes:
    digest = segwit_v0_sighash(transaction, 0, code, spent.value, kind)
    return key.sign(digest) + bytes([kind])


@needs_engine
@pytest.mark.parametrize("kind", TYPES)
def test_a_channels_lock(kind: int) -> None:
    """Both signatures, in their order, each over what it is shown with; nothing else."""
    transaction, spent = spending(script_to_p2wsh_script(TWO_OF_TWO))
    one, two, three = (ecdsa(transaction, spent, TWO_OF_TWO, key, kind) for key in KEYS)
    assert agreed(transaction.with_witness(0, (b"", one, two, TWO_OF_TWO)), spent)
    bent = bytearray(two)
    bent[-5] ^= 1
    later = replace(transaction, lock_time=78)
    rubbish = [
        (),
        (b"",),
        (TWO_OF_TWO,),
        (b"", b"", b"", TWO_OF_TWO),
        (b"", one, TWO_OF_TWO),
        (b"", one, one, TWO_OF_TWO),
        (b"", two, one, TWO_OF_TWO),
        (b"", one, three, TWO_OF_TWO),
        (b"", one, two[:-1], TWO_OF_TWO),
        (b"", one, two[:-1] + bytes([kind ^ 2]), TWO_OF_TWO),
        (b"", one, bytes(bent), TWO_OF_TWO),
        (b"\x01", one, two, TWO_OF_TWO),
        (b"", one, two, b"", TWO_OF_TWO),
        (b"", one, two, b"\x51"),
        (b"", one, two, TWO_OF_TWO[:-1]),
    ]
    for witness in rubbish:
        assert not agreed(transaction.with_witness(0, witness), spent)
    assert not agreed(later.with_witness(0, (b"", one, two, TWO_OF_TWO)), spent)
    poorer = replace(spent, value=Amount(9_999))
    assert not agreed(transaction.with_witness(0, (b"", one, two, TWO_OF_TWO)), poorer)


@needs_engine
@pytest.mark.parametrize("kind", TYPES)
def test_an_own_coin(kind: int) -> None:
    script = key_to_p2wpkh_script(PUBLIC[0])
    transaction, spent = spending(script)
    good = ecdsa(transaction, spent, p2wpkh_script_code(script), KEYS[0], kind)
    other = ecdsa(transaction, spent, p2wpkh_script_code(script), KEYS[1], kind)
    assert agreed(transaction.with_witness(0, (good, PUBLIC[0])), spent)
    for witness in (
        (),
        (good,),
        (good, PUBLIC[1]),
        (other, PUBLIC[0]),
        (b"", PUBLIC[0]),
        (good, b"", PUBLIC[0]),
        (good, bytes(33)),
        (good, bytes(32)),
    ):
        assert not agreed(transaction.with_witness(0, witness), spent)


@needs_engine
def test_a_taproot_coin() -> None:
    script = b"\x51\x20" + PUBLIC[0][1:]
    transaction, spent = spending(script)
    for kind in (0, 1):
        signature = KEYS[0].sign_schnorr(taproot_key_sighash(transaction, 0, [spent], kind))
        written = bytes([kind]) if kind else b""
        assert agreed(transaction.with_witness(0, (signature + written,)), spent)
        assert not agreed(transaction.with_witness(0, (signature + (b"" if kind else b"\x01"),)), spent)
        for wrong in (b"", signature[:-1], signature + b"\x00", signature + b"\x01\x01", bytes(64)):
            assert not agreed(transaction.with_witness(0, (wrong,)), spent)
    assert lock_accepts(transaction.with_witness(0, (bytes(64) + b"\x03",)), 0, spent) is None
    annexed = transaction.with_witness(0, (bytes(64), b"\x50"))
    assert lock_accepts(annexed, 0, spent) is None


PAYER, PAYEE = (key.public_key.x_only for key in KEYS[:2])
BOTH, LATER = TapLeaf(two_keys_script(PAYER, PAYEE)), TapLeaf(key_after_script(PAYER, Height(77)))
OTHER = TapLeaf(b"\x20" + PAYER + b"\xac")
OUTPUT = TaprootOutput(PUBLIC[2][1:], ((BOTH, LATER), OTHER))


def by_leaf(transaction: Transaction, leaf: TapLeaf, *keys: PrivateKey, kind: int = 0) -> tuple[bytes, ...]:
    """The witness with the signatures of ``keys``, the first one's on top."""
    spent = TxOut(Amount(10_000), OUTPUT.script_pubkey)
    digest = taproot_script_sighash(transaction, 0, [spent], leaf.hash, kind)
    signatures = [key.sign_schnorr(digest) + (bytes([kind]) if kind else b"") for key in reversed(keys)]
    return (*signatures, leaf.script, OUTPUT.control_block(leaf).to_bytes())


@needs_engine
@pytest.mark.parametrize("kind", [0, 1])
def test_the_leaf_of_both_keys(kind: int) -> None:
    transaction, spent = spending(OUTPUT.script_pubkey)
    good = by_leaf(transaction, BOTH, *KEYS[:2], kind=kind)
    assert agreed(transaction.with_witness(0, good), spent)
    theirs, ours, script, block = good
    bent = bytearray(ours)
    bent[40] ^= 1
    odd = bytes([block[0] ^ 1]) + block[1:]
    rubbish = [
        (ours, theirs, script, block),
        (theirs, theirs, script, block),
        (ours, script, block),
        (script, block),
        (b"", theirs, ours, script, block),
        (theirs, b"", script, block),
        (theirs, bytes(bent), script, block),
        (theirs, ours + b"\x00", script, block),
        (theirs, ours, script + b"\x61", block),
        (theirs, ours, LATER.script, block),
        (theirs, ours, script, odd),
        (theirs, ours, script, block[:-1]),
        (theirs, ours, script, block[:-32]),
        (theirs, ours, script, block + bytes(32)),
        (theirs, ours, script, b""),
        by_leaf(transaction, BOTH, KEYS[0], KEYS[2], kind=kind),
        by_leaf(transaction, LATER, *KEYS[:2], kind=kind),
        by_leaf(replace(transaction, lock_time=78), BOTH, *KEYS[:2], kind=kind),
    ]
    for witness in rubbish:
        assert not agreed(transaction.with_witness(0, witness), spent)
    assert not agreed(transaction.with_witness(0, good), replace(spent, value=Amount(9_999)))
    assert not agreed(transaction.with_witness(0, good), spending(b"\x51\x20" + PAYER)[1])
    # whoever signs for other types knows what for; whether they are right is not told here
    assert (
        lock_accepts(transaction.with_witness(0, (theirs, ours[:64] + b"\x83", script, block)), 0, spent)
        is None
    )


@needs_engine
@pytest.mark.parametrize(
    ("lock_time", "sequence", "opens"),
    [(77, 0, True), (78, 0xFFFF_FFFE, True), (76, 0, False), (0, 0, False), (77, 0xFFFF_FFFF, False),
     (500_000_077, 0, False)],
)  # fmt: skip
def test_the_leaf_of_one_key_and_a_lock_time(lock_time: int, sequence: int, opens: bool) -> None:
    transaction, spent = spending(OUTPUT.script_pubkey)
    source = replace(transaction.inputs[0], sequence=sequence)
    transaction = replace(transaction, inputs=(source,), lock_time=lock_time)
    assert agreed(transaction.with_witness(0, by_leaf(transaction, LATER, KEYS[0])), spent) is opens
    for keys in ((KEYS[1],), (), (KEYS[0], KEYS[0])):
        assert not agreed(transaction.with_witness(0, by_leaf(transaction, LATER, *keys)), spent)


@needs_engine
def test_other_leaves() -> None:
    """A coin commits to them or not; what their scripts ask for is not told here."""
    transaction, spent = spending(OUTPUT.script_pubkey)
    witness = by_leaf(transaction, OTHER, KEYS[0])
    assert the_engines(transaction.with_witness(0, witness), spent)
    assert lock_accepts(transaction.with_witness(0, witness), 0, spent) is None
    witness = (*witness[:-1], OUTPUT.control_block(BOTH).to_bytes())
    assert not agreed(transaction.with_witness(0, witness), spent)
    strange = TapLeaf(BOTH.script, 0xC2)  # a leaf version without rules: anyone's
    output = TaprootOutput(PAYER, strange)
    free = (b"\x01", strange.script, output.control_block(strange).to_bytes())
    spent = TxOut(Amount(10_000), output.script_pubkey)
    assert the_engines(transaction.with_witness(0, free), spent)
    assert lock_accepts(transaction.with_witness(0, free), 0, spent) is None


def test_a_script_sig_opens_no_native_segwit() -> None:
    script = key_to_p2wpkh_script(PUBLIC[0])
    transaction, spent = spending(script)
    good = transaction.with_witness(
        0, (ecdsa(transaction, spent, p2wpkh_script_code(script), KEYS[0]), PUBLIC[0])
    )
    assert lock_accepts(good, 0, spent)
    marked = replace(good, inputs=(replace(good.inputs[0], script_sig=b"\x00"),))
    assert lock_accepts(marked, 0, spent) is False


def test_what_cannot_be_told_here() -> None:
    for script in (b"\x51", script_to_p2wsh_script(b"\x51")):
        transaction, spent = spending(script)
        assert lock_accepts(transaction.with_witness(0, (b"\x51",)), 0, spent) is None


@pytest.mark.parametrize(
    ("lock_time", "sequence", "final"),
    [
        (0, 0, True),
        (100, 0xFFFF_FFFD, True),
        (101, 0xFFFF_FFFD, False),
        (101, 0xFFFF_FFFE, False),
        (101, 0xFFFF_FFFF, True),
        (1_600_000_000, 0, False),
        (1_599_999_999, 0, True),
    ],
)
def test_when_the_next_block_may_hold_it(lock_time: int, sequence: int, final: bool) -> None:
    """A height once the tip has it, a time once the median time is past it (BIP-0113)."""
    transaction, spent = spending(b"\x51")
    source = replace(transaction.inputs[0], sequence=sequence)
    transaction = replace(transaction, inputs=(source,), lock_time=lock_time)
    tip = ChainTip(100, 1_600_000_000)
    assert is_final(transaction, tip) is final
    assert may_be_mined(transaction, source.outpoint, spent, tip) is final
    assert not may_be_mined(transaction, OutPoint(source.outpoint.txid, 4), spent, tip)
