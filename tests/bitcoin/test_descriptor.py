"""mpchan.bitcoin.descriptor: BIP-0380's vectors, BIP-0383's script of sortedmulti, and mistakes that are found."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpchan.bitcoin.descriptor import musig_descriptor, two_of_two_descriptor, with_checksum
from mpchan.bitcoin.script import two_of_two_script
from mpchan.bitcoin.signature import PublicKey
from mpchan.errors import ParseError
from mpchan.units import Height, MedianTime

# BIP-0383, "Test Vectors": the first child of the descriptor sortedmulti(2,xpub6ERA…/*,xpub68NZ…/0/0/*)
SORTED_MULTI = bytes.fromhex(
    "5221025d5fc65ebb8d44a5274b53bac21ff8307fec2334a32df05553459f8b1f7fe1b6"
    "2102fbd47cc8034098f0e6a94c6aeee8528abf0a2153a5d8e46d325b7284c046784652ae"
)
FIRST, SECOND = SORTED_MULTI[2:35], SORTED_MULTI[36:69]


def test_the_checksum_of_bip380() -> None:
    assert with_checksum("raw(deadbeef)") == "raw(deadbeef)#89f8spxm"


def test_a_character_that_no_descriptor_has() -> None:
    with pytest.raises(ParseError) as caught:
        with_checksum("raw(Ü)")
    assert caught.value.slug == "malformed-descriptor"


def test_sortedmulti_is_the_script_of_bip383() -> None:
    assert two_of_two_script(SECOND, FIRST) == SORTED_MULTI
    text = two_of_two_descriptor(SECOND, FIRST)
    assert text == with_checksum(f"wsh(sortedmulti(2,{FIRST.hex()},{SECOND.hex()}))")
    assert two_of_two_descriptor(FIRST, SECOND) == text


def test_keys_that_make_no_channel() -> None:
    for other in (FIRST, b"\x04" + bytes(64)):
        with pytest.raises(ParseError):
            two_of_two_descriptor(FIRST, other)


def test_the_descriptor_of_a_taproot_channel() -> None:
    """That Bitcoin Core reads it as the same output is tested on a node."""
    payer, payee = FIRST.hex(), SECOND.hex()
    leaves = f"{{and_v(v:pk({payer}),pk({payee})),and_v(v:pk({payer}),after(1008))}}"
    made = musig_descriptor(PublicKey(FIRST), PublicKey(SECOND), Height(1_008))
    assert made == with_checksum(f"tr(musig({payer},{payee}),{leaves})")
    with pytest.raises(ParseError) as caught:
        musig_descriptor(PublicKey(FIRST), PublicKey(SECOND), MedianTime(2**31))
    assert caught.value.slug == "malformed-number"


@given(st.data())
def test_up_to_two_wrong_characters_are_found(data: st.DataObject) -> None:
    text = two_of_two_descriptor(FIRST, SECOND)
    changed = list(text)
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(st.integers(0, len(text) - 1))
        changed[place] = data.draw(st.sampled_from("0123456789abcdef(),qpzry#"))
    if "".join(changed) != text:
        descriptor, _, checksum = "".join(changed).rpartition("#")
        assert with_checksum(descriptor) != f"{descriptor}#{checksum}"
