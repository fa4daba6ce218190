"""mpchan.bitcoin.message: what a file may look like, and how each that is no message is called."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.strategies import transactions, vectors

from mpchan.bitcoin.message import decode_message
from mpchan.bitcoin.psbt import MAGIC, Psbt
from mpchan.bitcoin.tx import Transaction
from mpchan.errors import ParseError
from mpchan.units import MAX_MESSAGE_BYTES, MAX_TEXT_BYTES

PSBT_HEX = vectors("bip174.json")["workflow"]["updated"]
PSBT_BYTES = bytes.fromhex(PSBT_HEX)
PSBT = Psbt.from_bytes(PSBT_BYTES)
TX_HEX = vectors("bip174.json")["workflow"]["extracted"]
TX_BYTES = bytes.fromhex(TX_HEX)
TX = Transaction.from_bytes(TX_BYTES)


def refusal(data: bytes) -> ParseError:
    with pytest.raises(ParseError) as caught:
        decode_message(data)
    return caught.value


@pytest.mark.parametrize(
    "data",
    [
        PSBT_HEX.encode(),
        PSBT_HEX.upper().encode(),
        b" \t\r\n" + PSBT_HEX.encode() + b"\r\n\n ",
        PSBT_BYTES,
        base64.b64encode(PSBT_BYTES),
        base64.b64encode(PSBT_BYTES) + b"\n",
        base64.encodebytes(PSBT_BYTES),
        base64.encodebytes(PSBT_BYTES).replace(b"\n", b"\r\n"),
    ],
    ids=[
        "hex",
        "upper case",
        "space around",
        "binary",
        "base64",
        "base64 line",
        "base64 lines",
        "base64 crlf",
    ],
)
def test_psbt_in_every_form(data: bytes) -> None:
    assert decode_message(data) == PSBT


@pytest.mark.parametrize(
    "data",
    [TX_HEX.encode(), TX_HEX.upper().encode(), b"\n" + TX_HEX.encode() + b"\n", TX_BYTES],
    ids=["hex", "upper case", "space around", "binary"],
)
def test_transaction_in_every_form(data: bytes) -> None:
    assert decode_message(data) == TX


@given(transactions())
def test_transactions_of_any_version(tx: Transaction) -> None:
    if not tx.outputs:
        assert refusal(tx.to_hex().encode()).slug == "malformed-transaction"
        return
    assert decode_message(tx.to_hex().encode()) == tx
    if tx.version % 256 < 0x20:
        assert decode_message(tx.to_bytes()) == tx


@pytest.mark.parametrize("version", [0, 1, 2, 3, 9, 10, 13, 32, 0x7FFF_FFFF, 0xFFFF_FFFF])
def test_binary_transaction_may_begin_like_white_space(version: int) -> None:
    tx = Transaction(version, TX.inputs, TX.outputs, TX.lock_time)
    assert decode_message(tx.to_bytes()) == tx


def test_hex_digits_are_hex_even_if_they_could_be_base64() -> None:
    assert refusal(b"cafe" * 20).slug == "malformed-transaction"


@pytest.mark.parametrize(
    ("data", "slug"),
    [
        (b"", "empty"),
        (b" \r\n\t", "empty"),
        (PSBT_HEX[:-1].encode(), "malformed-hex"),
        (TX_HEX[:-1].encode(), "malformed-hex"),
        (b"0", "malformed-hex"),
        (b"hello, world", "malformed-hex"),
        (b"0x" + TX_HEX.encode(), "malformed-hex"),
        (TX_HEX.encode() + b"\n" + TX_HEX.encode(), "malformed-hex"),
        (TX_HEX[:20].encode() + b" " + TX_HEX[20:].encode(), "malformed-hex"),
        (TX_HEX.encode() + b"\x00", "malformed-hex"),
        (b"\x00".join(bytes([digit]) for digit in TX_HEX.encode()), "malformed-hex"),  # UTF-16
        (TX_HEX.encode() + "\u00e9".encode(), "malformed-hex"),
        ("\u0660".encode() * 20, "malformed-transaction"),  # Arabic digits
        (b"\x00", "malformed-transaction"),
        (bytes(10), "malformed-transaction"),  # well formed, with neither inputs nor outputs
        (bytes(100), "malformed-transaction"),
        (b"\xff" * 100, "malformed-transaction"),
        (b"00", "malformed-transaction"),
        (TX_HEX[:-2].encode(), "malformed-transaction"),
        (TX_HEX.encode() + b"00", "malformed-transaction"),
        (TX_BYTES + b"\n", "malformed-transaction"),
        (TX_BYTES[:-1], "malformed-transaction"),
        (PSBT_HEX[:-2].encode(), "malformed-psbt"),
        (PSBT_HEX.encode() + b"00", "malformed-psbt"),
        (PSBT_BYTES + b"\n", "malformed-psbt"),
        (PSBT_BYTES[:-1], "malformed-psbt"),
        (MAGIC, "malformed-psbt"),
        (b"psbt", "malformed-psbt"),
        (b"psbt\xfe" + PSBT_BYTES[5:], "malformed-psbt"),
        (b"70736274", "malformed-psbt"),
        (MAGIC + b"\x01\xfb\x04\x02\x00\x00\x00\x00", "psbt-version"),
        (base64.b64encode(PSBT_BYTES)[:-1], "malformed-base64"),
        (base64.b64encode(PSBT_BYTES) + b"====", "malformed-base64"),
        (base64.b64encode(PSBT_BYTES)[:40] + b" " + base64.b64encode(PSBT_BYTES)[40:], "malformed-base64"),
        (base64.b64encode(PSBT_BYTES)[:40] + b"-_" + base64.b64encode(PSBT_BYTES)[42:], "malformed-base64"),
        (base64.b64encode(PSBT_BYTES)[:40] + b"=" + base64.b64encode(PSBT_BYTES)[41:], "malformed-base64"),
        (base64.b64encode(PSBT_BYTES[:-1]), "malformed-psbt"),
        (base64.b64encode(PSBT_BYTES[:-3]), "malformed-psbt"),
        (base64.b64encode(PSBT_BYTES)[:40] + b"\xe9\x00", "malformed-base64"),
        (base64.b64encode(b"psbt\xfe"), "malformed-psbt"),
        (b"cHNidP", "malformed-base64"),
        (base64.b64encode(TX_BYTES), "malformed-hex"),  # nobody writes transactions so
        (b'version = 1\noffer_id = "0011223344556677"\n', "malformed-hex"),
    ],
    ids=range(43),
)
def test_what_is_no_message(data: bytes, slug: str) -> None:
    error = refusal(data)
    assert error.slug == slug
    assert len(error.message) < 300
    assert "\n" not in error.message


def test_stray_character_is_named_with_its_place() -> None:
    error = refusal(TX_HEX[:20].encode() + b"g" + TX_HEX[21:].encode())
    assert error.message == "'g' at position 20 is no hex digit"
    assert error.hint is not None


def test_message_of_the_field_that_is_wrong_comes_through() -> None:
    text = vectors("bip174.json")["invalid_core"]["sighash type twice"]
    assert refusal(text.encode()).message == "not a valid PSBT: key 03 stands twice in one map"


@pytest.mark.parametrize("filler", [b"00", b"zz", b"\x00\x00", b"  ", b"AA", b"ff", b"\n\n"])
def test_size_limit_of_what_is_looked_at(filler: bytes) -> None:
    assert refusal(filler * (MAX_TEXT_BYTES // 2) + b"0").slug == "too-large"
    too_long = filler not in (b"zz", b"  ", b"\n\n")  # of what it would stand for; of the others nothing
    assert (refusal(filler * (MAX_TEXT_BYTES // 2)).slug == "too-large") is too_long


@pytest.mark.parametrize("form", ["hex", "hex with CRLF", "base64", "base64 in lines", "binary"])
def test_one_size_limit_whatever_the_form(form: str) -> None:
    """It is that of the message: a PSBT with just so many bytes is read in each form, and one byte more in none."""
    empty = PSBT.with_proprietary(b"x", 0, b"")
    most = empty.with_proprietary(b"x", 0, bytes(MAX_MESSAGE_BYTES - len(empty.to_bytes()) - 4))
    more = empty.with_proprietary(b"x", 0, bytes(MAX_MESSAGE_BYTES - len(empty.to_bytes()) - 3))
    assert len(most.to_bytes()) == MAX_MESSAGE_BYTES
    write = {
        "hex": lambda psbt: psbt.to_hex().encode(),
        "hex with CRLF": lambda psbt: psbt.to_hex().encode() + b"\r\n",
        "base64": lambda psbt: base64.b64encode(psbt.to_bytes()),
        "base64 in lines": lambda psbt: base64.encodebytes(psbt.to_bytes()),
        "binary": lambda psbt: psbt.to_bytes(),
    }[form]
    assert decode_message(write(most)) == most
    error = refusal(write(more))
    assert (error.slug, error.message) == (
        "too-large",
        "message: more than 400000 bytes, before hex or base64",
    )


@pytest.mark.parametrize(
    "data",
    [
        MAGIC + b"\xff" * (MAX_MESSAGE_BYTES - 5),
        b"cHNidP" + b"=" * (MAX_MESSAGE_BYTES - 6),
        b"cHNidP" + b"\n" * (MAX_MESSAGE_BYTES - 7) + b"x",
        b"\xff" * MAX_MESSAGE_BYTES,
        b"0" * (MAX_MESSAGE_BYTES - 1) + b"g",
        b"\x02\x00\x00\x00\x00\x01" + b"\x01" * (MAX_MESSAGE_BYTES - 6),
        MAGIC + b"".join(b"\x04\x77" + bytes(divmod(n, 256)) + b"\x00\x00" for n in range(2**16)),
    ],
    ids=["lengths", "padding", "line breaks", "ones", "late stray", "inputs", "pairs"],
)
def test_hostile_files_end_in_an_error(data: bytes) -> None:
    assert refusal(data).exit_code == 3


SLUGS = {"empty", "malformed-hex", "malformed-transaction", "malformed-psbt", "malformed-base64"}


@given(st.binary(max_size=200) | st.text(max_size=50).map(str.encode))
def test_any_bytes(data: bytes) -> None:
    assert refusal(data).slug in SLUGS


@given(
    st.sampled_from([PSBT_HEX.encode(), TX_HEX.encode(), PSBT_BYTES, TX_BYTES, base64.b64encode(PSBT_BYTES)]),
    st.data(),
)
def test_damaged_messages(good: bytes, data: st.DataObject) -> None:
    damaged = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        message = decode_message(bytes(damaged))
    except ParseError:
        return
    assert isinstance(message, (Psbt, Transaction))
    assert decode_message(message.to_hex().encode()) == message
