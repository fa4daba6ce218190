"""A wallet that is made again from its words finds its coins, up to the gap limit and not beyond."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.party import new_wallet, snapshot

from mpchan.bitcoin.address import address_to_script, script_to_address
from mpchan.bitcoin.network import MAINNET, REGTEST
from mpchan.bitcoin.script import key_to_p2wpkh_script
from mpchan.bitcoin.seed_words import entropy_to_words
from mpchan.chain.embedded import EmbeddedChain
from mpchan.chain.manual import ManualChain
from mpchan.errors import ChainError, ParseError, StorageError
from mpchan.party import coins, views
from mpchan.party.holdings import scan
from mpchan.units import Amount, FeeRate
from mpchan.wallet.config import ChainConfig
from mpchan.wallet.keys import Keys
from mpchan.wallet.seed_file import RESTORE_STEP
from mpchan.wallet.wallet import Wallet

ABANDON = "abandon " * 11 + "about"
SHOP = b"\x00\x14" + bytes(20)


@pytest.fixture
def chain(chain_directory: Path) -> Iterator[EmbeddedChain]:
    with EmbeddedChain(chain_directory) as opened:
        yield opened
        opened.mine(1)


def restored(directory: Path, words: str) -> Wallet:
    return Wallet.create(directory, REGTEST, ChainConfig(), words)


# keys ---------------------------------------------------------------------------------------------


def test_words_of_bip_0084_give_its_addresses(tmp_path: Path) -> None:
    """The vector of BIP-0084, through the wallet's own file."""
    keys = Keys.restore(tmp_path / "keys.toml", MAINNET, ABANDON)
    addresses = [
        script_to_address(keys.script(kind, index), MAINNET)
        for kind, index in (("receive", 0), ("receive", 1), ("change", 0))
    ]
    assert addresses == [
        "bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu",
        "bc1qnjg0jd8228aq7egyzacy8cys3knf9xvrerkf9g",
        "bc1q8c6fshw2dlwun7ekn9qwf37cu2rn755upcp6el",
    ]
    assert Keys.load(tmp_path / "keys.toml", MAINNET).seed_words() == ABANDON


@pytest.mark.parametrize("size", [16, 20, 24, 28, 32])
def test_words_of_every_length(tmp_path: Path, size: int) -> None:
    words = entropy_to_words(bytes(range(size)))
    assert len(words.split()) in (12, 15, 18, 21, 24)
    keys = Keys.restore(tmp_path / "keys.toml", REGTEST, f"  {words.upper()}\n")
    assert keys.seed_words() == words
    assert Keys.load(tmp_path / "keys.toml", REGTEST).script("receive", 3) == keys.script("receive", 3)


def test_the_keys_are_those_of_the_lost_wallet(tmp_path: Path) -> None:
    lost = new_wallet(tmp_path / "lost")
    again = restored(tmp_path / "again", lost.keys.seed_words())
    for kind in ("receive", "change"):
        assert again.keys.script(kind, 5) == lost.keys.script(kind, 5)
    assert again.keys.channel_key(5).public_key == lost.keys.channel_key(5).public_key


def test_channel_keys_begin_where_no_earlier_wallet_was(tmp_path: Path) -> None:
    """Hostile input 61: a channel key that comes again could sign a second refund for one outpoint.

    Two restorations from the same words do not meet either.
    """
    words = new_wallet(tmp_path / "lost").keys.seed_words()
    begins = [restored(tmp_path / str(number), words).keys.next_index("channel") for number in range(4)]
    assert all(begin >= RESTORE_STEP == 1000 and begin % RESTORE_STEP == 0 for begin in begins)
    assert max(begins) < 2**31 - 10**6
    assert len(set(begins)) > 1


def test_wrong_words_make_nothing(tmp_path: Path) -> None:
    for words in (ABANDON.replace("about", "abandon"), "abandon " * 12, "abandon", "", "zebra zebra"):
        with pytest.raises(ParseError) as caught:
            restored(tmp_path / "wallet", words)
        assert caught.value.slug == "malformed-words"
        assert not (tmp_path / "wallet").exists()


def test_a_restoration_that_was_cut_short_is_finished_with_the_same_words(tmp_path: Path) -> None:
    wallet = restored(tmp_path / "wallet", ABANDON)
    text = (wallet.directory / "keys.toml").read_bytes()
    (wallet.directory / "wallet.toml").unlink()
    with pytest.raises(StorageError) as caught:
        restored(wallet.directory, entropy_to_words(bytes(range(16))))
    assert caught.value.slug == "wallet-exists"
    restored(wallet.directory, ABANDON)
    assert (wallet.directory / "keys.toml").read_bytes() == text


# the search ---------------------------------------------------------------------------------------


class Addresses:
    """A chain on which some addresses were used; counts how often it was asked."""

    def __init__(self, used: Collection[bytes]) -> None:
        self.used = set(used)
        self.questions: list[int] = []

    def used_scripts(self, scripts: Collection[bytes]) -> set[bytes]:
        self.questions.append(len(scripts))
        return self.used & set(scripts)

    def coins(self, scripts: Collection[bytes]) -> list[object]:
        return []


@pytest.fixture(scope="module")
def many_keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return new_wallet(tmp_path_factory.mktemp("keys") / "wallet").keys


@settings(max_examples=40)
@given(
    receive=st.sets(st.integers(0, 90)),
    change=st.sets(st.integers(0, 90)),
    gap=st.integers(1, 25),
    known=st.integers(0, 30),
)
def test_the_rule_of_bip_0044(
    tmp_path_factory: pytest.TempPathFactory,
    many_keys: Keys,
    receive: set[int],
    change: set[int],
    gap: int,
    known: int,
) -> None:
    """Held against the rule as the BIP says it: stop after so many unused addresses in a row."""
    wallet = _prepared(tmp_path_factory, known)
    used = {many_keys.script("receive", index) for index in receive}
    used |= {many_keys.script("change", index) for index in change}
    _same_seed(wallet, many_keys)
    chain = Addresses(used)
    result = scan(wallet, chain, gap)  # type: ignore[arg-type]
    ends = {}
    for kind, indexes in (("receive", receive), ("change", change)):
        end, unused, index = known, 0, known
        while unused < gap:
            unused = 0 if index in indexes else unused + 1
            index += 1
            end = index if not unused else end
        ends[kind] = end
    found = sum(index < ends["receive"] for index in receive) + sum(
        index < ends["change"] for index in change
    )
    assert result.to_dict() == {**ends, "found": found, "coins_sat": 0}
    fresh = Wallet.open(wallet.directory).keys
    assert {kind: fresh.next_index(kind) for kind in ends} == ends
    assert fresh.next_index("channel") == 0


def _prepared(factory: pytest.TempPathFactory, known: int) -> Wallet:
    wallet = new_wallet(factory.mktemp("scan") / "wallet")
    wallet.keys.advance(receive=known, change=known)
    return wallet


def _same_seed(wallet: Wallet, keys: Keys) -> None:
    """Let a wallet have these keys, and its own indexes."""
    path = wallet.directory / "keys.toml"
    own = [line for line in path.read_text().splitlines() if line.startswith("next_")]
    other = [line for line in keys._path.read_text().splitlines() if not line.startswith("next_")]
    path.write_text("\n".join(other + own) + "\n")


def test_a_usual_wallet_takes_one_question(many_keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Each of them is a search of all coins for a node."""
    wallet = _prepared(tmp_path_factory, 0)
    _same_seed(wallet, many_keys)
    chain = Addresses({many_keys.script("receive", index) for index in (0, 7, 25)})
    assert scan(wallet, chain).receive == 26  # type: ignore[arg-type]
    assert chain.questions == [100]


def use(wallet: Wallet, chain: EmbeddedChain, index: int, amount: int) -> None:
    chain.faucet(wallet.keys.script("receive", index), Amount(amount))


def test_a_wallet_with_35_addresses_is_found_again(chain: EmbeddedChain, tmp_path: Path) -> None:
    """With gaps below the limit, spent coins, change, and a coin beyond the limit that is not found."""
    lost = new_wallet(tmp_path / "lost")
    scripts = [address_to_script(views.fresh_address(lost).address, REGTEST) for _ in range(80)]
    paid = [*range(0, 10), 28, 47, *range(48, 58)]  # 18 and 18 unused between
    for index in paid:
        chain.faucet(scripts[index], Amount(100_000 + index))
    chain.faucet(scripts[57 + 21], Amount(777_777))  # 20 unused before it
    chain.mine(1)
    for number in range(13):
        coins.send(lost, chain, SHOP, Amount(60_000 + number), fee_rate=FeeRate(1000))
    chain.mine(1)
    assert len(paid) + 13 == 35
    held = views.balance(lost, chain).confirmed_sat - 777_777

    again = restored(tmp_path / "again", lost.keys.seed_words())
    assert views.balance(again, chain).confirmed_sat == 0
    result = scan(again, chain)
    assert result.to_dict() == {
        "receive": 58,
        "change": lost.keys.next_index("change"),
        "found": len(paid) + lost.keys.next_index("change"),
        "coins_sat": held,
    }
    again = Wallet.open(again.directory)
    assert views.balance(again, chain).confirmed_sat == held
    fresh = views.fresh_address(again).address
    assert address_to_script(fresh, REGTEST) == scripts[58]
    assert scan(again, chain, 30).coins_sat == held + 777_777
    assert scan(again, chain, 30).receive == 79
    everything = coins.send(again, chain, SHOP, None, fee_rate=FeeRate(1000))
    assert everything.amount_sat + everything.fee_sat == held + 777_777


def test_a_search_that_finds_nothing_new_writes_nothing(chain: EmbeddedChain, tmp_path: Path) -> None:
    wallet = new_wallet(tmp_path / "wallet")
    views.fresh_address(wallet)
    before = snapshot(wallet.directory)
    assert scan(wallet, chain).to_dict() == {"receive": 1, "change": 0, "found": 0, "coins_sat": 0}
    assert snapshot(wallet.directory) == before


def test_a_chain_that_cannot_be_asked_changes_nothing(tmp_path: Path) -> None:
    wallet = new_wallet(tmp_path / "wallet")
    before = snapshot(wallet.directory)
    with pytest.raises(ChainError) as caught:
        scan(wallet, ManualChain())
    assert caught.value.slug == "no-backend"
    assert snapshot(wallet.directory) == before


def test_indexes_only_move_on(tmp_path: Path) -> None:
    keys = new_wallet(tmp_path / "wallet").keys
    keys.advance(receive=7, change=0)
    keys.advance(receive=3)
    again = Keys.load(tmp_path / "wallet" / "keys.toml", REGTEST)
    assert (again.next_index("receive"), again.next_index("change")) == (7, 0)
    assert key_to_p2wpkh_script(again.channel_key(0).public_key.sec) not in again.scripts()
