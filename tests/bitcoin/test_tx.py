"""mpchan.bitcoin.tx: the wire format, against Bitcoin Core's own vectors and its own parser."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.strategies import TXIDS, transactions, vectors

from mpchan.bitcoin.script import double_sha256, key_to_p2wpkh_script, two_of_two_script
from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.errors import ParseError
from mpchan.units import MAX_MONEY_SAT, Amount, OutPoint, Txid
from mpchan.values import replace

pbk = pytest.importorskip("pbk", reason="the engine is not installed (mpchan engine install)")

CORE = vectors("core_transactions.json")
VALID = [case["tx"] for case in CORE["valid"]]
INVALID = [case["tx"] for case in CORE["invalid"]]
SEGWIT = next(text for text in VALID if text[8:12] == "0001")
LEGACY = VALID[0]

OUTPOINT = OutPoint(Txid(bytes(range(32))), 1)
KEY_A, KEY_B = b"\x02" + bytes(32), b"\x03" + bytes(32)


def core_reads(data: bytes) -> bool:
    """Whether Bitcoin Core's parser takes the whole of ``data`` as a transaction."""
    try:
        parsed = pbk.Transaction(data)
    except RuntimeError:
        return False
    return bytes(parsed) == data and all(0 <= output.amount <= MAX_MONEY_SAT for output in parsed.outputs)


def reads(data: bytes) -> bool:
    """Whether this parser does, and returns the same bytes and id."""
    try:
        tx = Transaction.from_bytes(data)
    except ParseError:
        return False
    assert replace(tx).to_bytes() == data
    assert str(tx.txid) == str(pbk.Transaction(data).txid)
    return True


@pytest.mark.parametrize("case", CORE["valid"], ids=range(len(VALID)))
def test_core_valid(case: dict[str, Any]) -> None:
    tx = Transaction.from_hex(case["tx"])
    assert replace(tx).to_hex() == tx.to_hex() == case["tx"]
    assert str(tx.txid) == str(pbk.Transaction(bytes.fromhex(case["tx"])).txid)
    spent = {(str(txin.outpoint.txid), txin.outpoint.vout) for txin in tx.inputs}
    assert spent == {(prevout[0], prevout[1] % 2**32) for prevout in case["prevouts"]}


@pytest.mark.parametrize("text", INVALID, ids=range(len(INVALID)))
def test_core_invalid_is_read_exactly_when_core_reads_it(text: str) -> None:
    """Most of these are well formed and break a rule that only an interpreter sees."""
    assert reads(bytes.fromhex(text)) == core_reads(bytes.fromhex(text))


def test_core_invalid_has_just_two_that_cannot_be_read() -> None:
    """An output of -1 and one of 21 million bitcoin and a satoshi."""
    unreadable = [text for text in INVALID if not reads(bytes.fromhex(text))]
    assert len(unreadable) == 2


@pytest.mark.parametrize("text", sorted({*VALID, *INVALID}))
def test_every_prefix_is_refused(text: str) -> None:
    data = bytes.fromhex(text)
    assert len(data) > 10
    for length in range(len(data)):
        with pytest.raises(ParseError):
            Transaction.from_bytes(data[:length])


@pytest.mark.parametrize("text", [LEGACY, SEGWIT])
def test_trailing_byte(text: str) -> None:
    with pytest.raises(ParseError) as caught:
        Transaction.from_hex(text + "00")
    assert caught.value.slug == "trailing-bytes"


@given(transactions())
def test_round_trip_and_ids(tx: Transaction) -> None:
    data = tx.to_bytes()
    assert Transaction.from_bytes(data) == tx
    assert Transaction.from_hex(data.hex().upper()) == tx
    assert bytes(pbk.Transaction(data)) == data
    assert str(tx.txid) == str(pbk.Transaction(data).txid)
    assert tx.wtxid.wire == double_sha256(data)
    assert tx.without_witness().to_bytes() == tx.to_bytes(include_witness=False)
    assert tx.without_witness().txid == tx.txid
    assert (tx.wtxid == tx.txid) is not tx.has_witness


@given(transactions())
def test_every_prefix_of_any_transaction_is_refused(tx: Transaction) -> None:
    data = tx.to_bytes()
    for length in range(0, len(data), 7):
        with pytest.raises(ParseError):
            Transaction.from_bytes(data[:length])


@given(st.sampled_from([*VALID, *INVALID]), st.data())
def test_damaged_bytes_are_read_exactly_when_core_reads_them(text: str, data: st.DataObject) -> None:
    damaged = bytearray(bytes.fromhex(text))
    for _ in range(data.draw(st.integers(1, 3))):
        # near the start stand the marker, the counts and the lengths
        position = data.draw(st.integers(0, 50) | st.integers(0, len(damaged) - 1)) % len(damaged)
        damaged[position] = data.draw(st.integers(0, 3) | st.integers(0, 255))
    assert reads(bytes(damaged)) == core_reads(bytes(damaged))


@given(st.binary(max_size=120))
@example(bytes.fromhex("01000000000000000000"))  # neither inputs nor outputs
@example(bytes.fromhex("0100000000010000000000"))  # the marker, and again neither
def test_any_bytes_are_read_exactly_when_core_reads_them(data: bytes) -> None:
    assert reads(data) == core_reads(data)


# version, marker and flag, one input, one output; the witness and the lock time follow
HEAD = (
    "02000000" + "0001" + "01" + "11" * 32 + "00000000" + "00" + "ffffffff" + "01" + "05" + "00" * 7 + "0151"
)


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        (HEAD + "00" + "00000000", "malformed-transaction"),  # a witness record without a witness
        (HEAD.replace("0001", "0002", 1) + "0101ff" + "00000000", "malformed-transaction"),
        (HEAD.replace("0001", "0003", 1) + "0101ff" + "00000000", "malformed-transaction"),
        (HEAD.replace("0001", "0080", 1) + "0101ff" + "00000000", "malformed-transaction"),
        (HEAD + "01fd01000f" + "00000000", "malformed-compact-size"),
        (HEAD.replace("ffffffff01", "fffffffffd0100") + "0101ff" + "00000000", "malformed-compact-size"),
        (HEAD + "ff0000000001000000" + "00000000", "malformed-compact-size"),
        (HEAD + "feffffff00" + "00000000", "truncated"),
        ("02000000" + "feffffff01" + "00" * 100, "truncated"),
        ("02000000" + "ff" + "ff" * 8 + "00" * 100, "malformed-compact-size"),
        ("", "truncated"),
    ],
)
def test_malformed(text: str, slug: str) -> None:
    with pytest.raises(ParseError) as caught:
        Transaction.from_hex(text)
    assert caught.value.slug == slug
    assert not core_reads(bytes.fromhex(text))


def test_the_frame_of_the_malformed_ones_is_sound() -> None:
    assert Transaction.from_hex(HEAD + "0101ff" + "00000000").inputs[0].witness == (b"\xff",)


@pytest.mark.parametrize(
    "text", ["0", "0g", " " + LEGACY, LEGACY + "\n", LEGACY[:9] + " " + LEGACY[9:], "\u0664" * 20]
)
def test_not_hex(text: str) -> None:
    with pytest.raises(ParseError) as caught:
        Transaction.from_hex(text)
    assert caught.value.slug == "malformed-hex"


def test_amount_above_all_money() -> None:
    for value, fine in ((MAX_MONEY_SAT, True), (MAX_MONEY_SAT + 1, False), (2**64 - 1, False)):
        data = value.to_bytes(8, "little") + b"\x00"
        if fine:
            assert TxOut.from_bytes(data) == TxOut(Amount(value), b"")
        else:
            with pytest.raises(ParseError) as caught:
                TxOut.from_bytes(data)
            assert caught.value.slug == "malformed-number"


def test_no_inputs_need_the_old_format() -> None:
    """BIP-0174 creates transactions without inputs; on the network the same bytes mean something else."""
    tx = Transaction(2, (), (TxOut(Amount(5), b"\x51"),), 0)
    assert Transaction.from_bytes(tx.to_bytes(), allow_witness=False) == tx
    with pytest.raises(ParseError):
        Transaction.from_bytes(tx.to_bytes())


def test_old_format_knows_no_witness() -> None:
    with pytest.raises(ParseError):
        Transaction.from_bytes(bytes.fromhex(SEGWIT), allow_witness=False)
    assert replace(Transaction.from_bytes(bytes.fromhex(LEGACY), allow_witness=False)).to_hex() == LEGACY


def test_counts_are_held_against_what_is_left() -> None:
    """Just so many as can follow: an input has 41 bytes at least, an output 9, a witness element 1."""
    txin, output = TxIn(OUTPOINT, 0), TxOut(Amount(0), b"")
    for tx in (
        Transaction(2, (txin,) * 10, (), 0),
        Transaction(2, (txin,), (output,) * 10, 0),
        Transaction(2, (txin,), (), 0).with_witness(0, (b"",) * 10),
    ):
        assert Transaction.from_bytes(tx.to_bytes()) == tx
    with pytest.raises(ParseError, match="3 items of 41 bytes or more announced"):
        Transaction.from_bytes(bytes(4) + b"\x03" + bytes(3 * 41 - 1))
    with pytest.raises(ParseError, match="3 items of 9 bytes or more announced"):
        Transaction.from_bytes(bytes(4) + b"\x01" + bytes(41) + b"\x03" + bytes(3 * 9 - 1))


@given(transactions(), st.data())
def test_with_witness(tx: Transaction, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(tx.inputs) - 1))
    signed = tx.with_witness(index, (b"", b"sig"))
    assert signed.inputs[index].witness == (b"", b"sig")
    assert signed.txid == tx.txid
    assert signed.has_witness
    assert signed.with_witness(index, tx.inputs[index].witness) == tx


@pytest.mark.parametrize("index", [-1, 1, True])
def test_with_witness_of_no_input(index: int) -> None:
    tx = Transaction(2, (TxIn(OUTPOINT, 0),), (), 0)
    with pytest.raises(ParseError):
        tx.with_witness(index, (b"sig",))


@pytest.mark.parametrize("number", [-1, 2**32, True, 1.0, "1", None])
def test_numbers_of_32_bits_only(number: Any) -> None:
    for make in (
        lambda: TxIn(OUTPOINT, number),
        lambda: Transaction(number, (), (), 0),
        lambda: Transaction(2, (), (), number),
    ):
        with pytest.raises(ParseError) as caught:
            make()
        assert caught.value.slug == "malformed-number"


def test_weight_is_that_of_the_sum() -> None:
    """BIP-0141's definition, on the transaction that closes a channel: two signatures, two P2WPKH outputs."""
    script = two_of_two_script(KEY_A, KEY_B)
    witness = (b"", bytes(72), bytes(72), script)
    outputs = tuple(TxOut(Amount(1000), key_to_p2wpkh_script(key)) for key in (KEY_A, KEY_B))
    close = Transaction(2, (TxIn(OUTPOINT, 0xFFFF_FFFD, witness=witness),), outputs, 500)
    # version, counts of inputs and outputs, lock time; outpoint, empty scriptSig, sequence; outputs
    base = 4 + 1 + 1 + 4 + (36 + 1 + 4) + 2 * (8 + 1 + 22)
    # marker and flag, count; empty element; two signatures and the script after their lengths
    extra = 2 + 1 + 1 + 2 * (1 + 72) + (1 + 71)
    assert close.weight == 4 * base + extra
    assert close.vsize == 169
    refund = Transaction(2, close.inputs, outputs[:1], 500)
    assert refund.vsize == 138
    assert refund.without_witness().weight == 4 * len(refund.to_bytes(include_witness=False))


@given(transactions())
def test_vsize_rounds_up(tx: Transaction) -> None:
    assert 4 * tx.vsize - tx.weight in range(4)


@given(TXIDS)
def test_txid_stands_reversed_in_text(txid: Txid) -> None:
    tx = Transaction(2, (TxIn(OutPoint(txid, 0), 0),), (), 0)
    assert tx.to_bytes()[5:37] == txid.wire
    assert bytes.fromhex(str(txid)) == txid.wire[::-1]
