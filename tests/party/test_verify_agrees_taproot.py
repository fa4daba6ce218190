"""``verify`` and ``accept`` agree about every message of a taproot channel, whatever byte of it was changed.

The rules one by one are in ``tests/hostile/test_hostile_taproot.py``; here nobody knows which one a change breaks.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from support.party import Pair, psbt

from mpchan.bitcoin.message import decode_message
from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.tx import Transaction
from mpchan.chain.base import Chain
from mpchan.chain.embedded import EmbeddedChain
from mpchan.chain.manual import ManualChain
from mpchan.errors import MpchanError, ParseError
from mpchan.party import payee
from mpchan.party.check import verify
from mpchan.units import ChainTip


class Scene:
    """A first payment of one channel, and a later one of another in which 5000 sat are held."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        held = pair.open()
        pair.accept(pair.pay(held, 5000))
        self.messages = {"first": pair.pay(pair.open(), 1000), "later": pair.pay(held, 500)}

    def compare(self, sent: Psbt | Transaction, chain: Chain) -> bool | None:
        """The verdict, which is what the command does; the wallet is as before."""
        pair, before = self.pair, self.pair.files()
        verdict = verify.verify(pair.payee, chain, sent)
        assert pair.files() == before
        if isinstance(sent, Transaction):  # no message of a channel
            assert not verdict.accepted
            return verdict.accepted
        refusal = None
        try:
            payee.accept(pair.payee, chain, sent)
        except MpchanError as error:
            refusal = error.slug, error.exit_code
        assert verdict.accepted is (refusal is None)
        if refusal is not None:
            assert (verdict.error, verdict.exit_code) == refusal
            assert refusal[1] > 1
            assert pair.files() == before
            return False
        for path in pair.files():
            if path not in before:
                Path(path).unlink()
        for path, content in before.items():
            Path(path).write_bytes(content)
        return verdict.accepted


@pytest.fixture(scope="module")
def scene(chain_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with EmbeddedChain(chain_directory) as chain:
        yield Scene(Pair(tmp_path_factory.mktemp("pair"), chain, coins=2, scheme="taproot"))


@given(
    name=st.sampled_from(["first", "later"]),
    flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=2),
)
@example(name="first", flips=[])
@example(name="later", flips=[])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_changed_bytes(scene: Scene, name: str, flips: list[tuple[int, int]]) -> None:
    data = bytearray(bytes.fromhex(scene.messages[name]))
    for position, mask in flips:
        data[position % len(data)] ^= mask
    try:
        sent = decode_message(data.hex().encode())
    except ParseError:
        assume(False)
    accepted = scene.compare(sent, scene.pair.chain)
    assert accepted or flips


@pytest.mark.parametrize("name", ["first", "later"])
@pytest.mark.parametrize("blocks", [0, 36, 37, 80, 81])
@pytest.mark.parametrize("confirmations", [0, 1])
def test_where_the_chain_is_what_the_user_says(
    scene: Scene, name: str, blocks: int, confirmations: int
) -> None:
    """``none`` as the backend: a tip above the one that is there, and how deep the funding is."""
    height = scene.pair.chain.tip().height + blocks
    chain = ManualChain(ChainTip(height, 1_600_000_000), confirmations)
    accepted = scene.compare(psbt(scene.messages[name]), chain)
    assert not accepted or (confirmations and blocks < 80)
    assert accepted or blocks or not confirmations
