"""PSBTs of version 2 are read as what they are in version 0."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.strategies import vectors

from mpchan.bitcoin.message import decode_message
from mpchan.bitcoin.psbt import MAGIC, Psbt
from mpchan.bitcoin.psbt_v2 import read_version_2
from mpchan.bitcoin.serialize import var_bytes
from mpchan.errors import ParseError

VECTORS = vectors("bip370.json")
VALID = {**VECTORS["valid"], **{name: text for name, (text, _) in VECTORS["lock_times"].items()}}
FIRST = bytes.fromhex(VECTORS["valid"]["1 input, 2 output PSBTv2, required fields only"])


def by_embit(data: bytes) -> Any:
    """The same as another library reads it."""
    from embit.psbt import PSBT

    return PSBT.read_from(io.BytesIO(data))


@pytest.mark.parametrize("name", VALID)
def test_valid_vectors(name: str) -> None:
    """The transaction is the one that another library makes of it; nothing of version 0 is lost."""
    data = bytes.fromhex(VALID[name])
    psbt = read_version_2(data)
    assert Psbt.from_bytes(psbt.to_bytes()) == psbt
    other = by_embit(data)
    if name not in VECTORS["lock_times"] and "locktime" not in name and "all PSBTv2 fields" not in name:
        assert psbt.tx.to_bytes() == other.tx.serialize()
    assert [fields.witness_utxo is None for fields in psbt.inputs] == [
        each.witness_utxo is None for each in other.inputs
    ]
    assert decode_message(data.hex().encode(), either_version=True) == psbt
    with pytest.raises(ParseError) as caught:
        decode_message(data.hex().encode())
    assert caught.value.slug == "psbt-version"
    for tool in ("Core Lightning", "HWI", "caravan", "signed transaction"):
        assert tool in str(caught.value.hint)


@pytest.mark.parametrize("name", VECTORS["lock_times"])
def test_lock_times(name: str) -> None:
    text, lock_time = VECTORS["lock_times"][name]
    assert read_version_2(bytes.fromhex(text)).tx.lock_time == lock_time


@pytest.mark.parametrize("name", [*VECTORS["invalid"], *VECTORS["no_lock_time"]])
def test_invalid_vectors(name: str) -> None:
    text = {**VECTORS["invalid"], **VECTORS["no_lock_time"]}[name]
    with pytest.raises(ParseError) as caught:
        decode_message(text.encode(), either_version=True)
    assert caught.value.slug == "malformed-psbt"


@pytest.mark.parametrize("name", VECTORS["invalid_version_0"])
def test_fields_of_version_2_do_not_stand_in_version_0(name: str) -> None:
    for either in (False, True):
        with pytest.raises(ParseError):
            decode_message(VECTORS["invalid_version_0"][name].encode(), either_version=either)


def test_every_beginning_is_refused() -> None:
    for text in VALID.values():
        data = bytes.fromhex(text)
        for length in range(len(data)):
            with pytest.raises(ParseError):
                read_version_2(data[:length])
        with pytest.raises(ParseError):
            read_version_2(data + b"\0")


def with_global(kind: int, value: bytes) -> bytes:
    """The first vector with another value in a field of the whole."""
    fields = {
        0x02: b"\x02\0\0\0",
        0x04: b"\x01",
        0x05: b"\x02",
        0xFB: b"\x02\0\0\0",
        kind: value,
    }
    pairs = b"".join(var_bytes(bytes([key])) + var_bytes(each) for key, each in fields.items())
    return MAGIC + pairs + b"\0" + FIRST[FIRST.index(b"\x01\x0e") :]


def test_the_count_is_not_believed() -> None:
    assert read_version_2(with_global(0x02, b"\x02\0\0\0")) == read_version_2(FIRST)
    for kind in (0x04, 0x05):
        for count in (b"\xfe\xff\xff\xff\x01", b"\x00", b"\x03", b"\xfd\x01\x00", b"", b"\x01\x00"):
            with pytest.raises(ParseError):
                read_version_2(with_global(kind, count))


@pytest.mark.parametrize("version", [0, 1, 3, 2**31])
def test_other_versions_are_not_read(version: int) -> None:
    data = with_global(0xFB, version.to_bytes(4, "little"))
    with pytest.raises(ParseError) as caught:
        decode_message(data, either_version=True)
    assert caught.value.slug == ("psbt-version" if version else "malformed-psbt")


@given(st.data())
def test_damage_ends_in_an_error_or_another_psbt(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(sorted(VALID.values())))
    damaged = bytearray(bytes.fromhex(text))
    position = data.draw(st.integers(len(MAGIC), len(damaged) - 1))
    damaged[position] ^= data.draw(st.integers(1, 255))
    try:
        psbt = decode_message(bytes(damaged), either_version=True)
    except ParseError:
        return
    assert isinstance(psbt, Psbt)
    assert Psbt.from_bytes(psbt.to_bytes()) == psbt
