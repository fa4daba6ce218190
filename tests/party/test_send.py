"""``send``: money leaves once, from coins that nobody else needs, whatever happens in between."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.party import Pair, new_wallet, snapshot

from mpchan.bitcoin.address import address_to_script
from mpchan.bitcoin.network import REGTEST
from mpchan.bitcoin.script import dust_limit
from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.chain.embedded import EmbeddedChain
from mpchan.errors import ChainError, MpchanError, NotPossible, StorageError
from mpchan.party import coins, payee, payer, views
from mpchan.results.coins import Balance, Sent
from mpchan.units import Amount, FeeRate, OutPoint, Txid
from mpchan.values import replace
from mpchan.wallet import coins as coins_module
from mpchan.wallet import seed_file as keys_module
from mpchan.wallet import store as store_module
from mpchan.wallet.storage import write_durably
from mpchan.wallet.wallet import Wallet

KINDS = {
    "p2wpkh": b"\x00\x14" + bytes(20),
    "p2wsh": b"\x00\x20" + bytes(32),
    "p2tr": b"\x51\x20" + bytes.fromhex("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"),
    "p2pkh": b"\x76\xa9\x14" + bytes(20) + b"\x88\xac",
    "p2sh": b"\xa9\x14" + bytes(20) + b"\x87",
}
SHOP = KINDS["p2wpkh"]
RATE = FeeRate(1000)


class Purse:
    """A wallet with coins on a private chain."""

    def __init__(self, directory: Path, chain: EmbeddedChain) -> None:
        self.chain = chain
        self.wallet = new_wallet(directory)

    def coin(self, *amounts: int) -> None:
        """Confirmed coins, each on an address of its own."""
        for amount in amounts:
            self.unconfirmed(amount)
        self.chain.mine(1)

    def unconfirmed(self, amount: int) -> Txid:
        """A coin that somebody else sends."""
        address = views.fresh_address(self.wallet).address
        return self.chain.faucet(address_to_script(address, REGTEST), Amount(amount))

    def send(self, amount: int | None, script: bytes = SHOP, **options: Any) -> Sent:
        """``mpchan send``, by a program that has just been started."""
        self.wallet = Wallet.open(self.wallet.directory)
        given = None if amount is None else Amount(amount)
        return coins.send(self.wallet, self.chain, script, given, **{"fee_rate": RATE, **options})

    def balance(self) -> Balance:
        return views.balance(self.wallet, self.chain)

    def refused(self, call: Callable[[], object]) -> MpchanError:
        """The error of a call that must change nothing."""
        before, mempool = snapshot(self.wallet.directory), self.chain.mempool()
        with pytest.raises(MpchanError) as caught:
            call()
        assert snapshot(self.wallet.directory) == before
        assert self.chain.mempool() == mempool
        return caught.value


@pytest.fixture
def purse(chain_directory: Path, tmp_path: Path) -> Iterator[Purse]:
    with EmbeddedChain(chain_directory) as chain:
        yield Purse(tmp_path / "wallet", chain)
        chain.mine(1)


def values(transaction: Transaction, script: bytes) -> list[int]:
    return [output.value.sat for output in transaction.outputs if output.script_pubkey == script]


def inputs(result: Sent) -> set[OutPoint]:
    return {source.outpoint for source in Transaction.from_hex(result.hex).inputs}


# what is sent -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_an_amount_to_every_kind_of_address(purse: Purse, kind: str) -> None:
    """Engine and mempool take it; what it says of itself is what the chain then has."""
    purse.coin(100_000)
    script = KINDS[kind]
    result = purse.send(30_000, script)
    transaction, confirmations = purse.chain.transaction(Txid.from_hex(result.txid)) or (None, None)
    assert transaction is not None
    assert (transaction.to_hex(), confirmations, result.broadcast) == (result.hex, 0, True)
    assert values(transaction, script) == [30_000] == [result.amount_sat]
    assert values(transaction, purse.wallet.keys.script("change", 0)) == [result.change_sat]
    assert result.change_sat == 100_000 - 30_000 - result.fee_sat
    assert RATE.fee(transaction.vsize).sat <= result.fee_sat <= RATE.fee(transaction.vsize).sat + 1
    assert list(result.to_dict()) == ["txid", "amount_sat", "fee_sat", "change_sat", "broadcast", "hex"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_amount_below_dust(purse: Purse, kind: str) -> None:
    purse.coin(100_000)
    least = dust_limit(KINDS[kind]).sat
    for amount in (0, 1, least - 1):
        error = purse.refused(lambda amount=amount: purse.send(amount, KINDS[kind]))  # type: ignore[misc]
        assert (error.slug, error.exit_code) == ("below-dust", 5)
    assert purse.send(least, KINDS[kind]).amount_sat == least


def test_all_there_is(purse: Purse) -> None:
    """But for a coin that is not worth its input: 600 sat at 10 sat/vB."""
    purse.coin(100_000, 50_000, 600)
    result = purse.send(None, fee_rate=FeeRate(10_000))
    assert result.amount_sat == 150_000 - result.fee_sat
    assert (len(inputs(result)), result.change_sat) == (2, 0)
    assert purse.balance().confirmed_sat == 600
    error = purse.refused(lambda: purse.send(None, fee_rate=FeeRate(10_000), script=KINDS["p2tr"]))
    assert error.slug == "not-enough-funds"


def test_own_change_is_spent_before_it_is_confirmed_and_only_where_it_must(purse: Purse) -> None:
    purse.coin(100_000, 40_000)
    first = purse.send(60_000)
    second = purse.send(20_000, KINDS["p2wsh"])
    assert inputs(second).isdisjoint({OutPoint(Txid.from_hex(first.txid), vout) for vout in (0, 1)})
    third = purse.send(50_000, KINDS["p2tr"])
    parents = {str(outpoint.txid) for outpoint in inputs(third)}
    assert parents == {first.txid, second.txid}
    purse.chain.mine(1)
    assert purse.balance().unconfirmed_sat == 0


def test_what_others_send_is_not_spent_before_it_is_confirmed(purse: Purse) -> None:
    """They could still replace it."""
    purse.coin(1_000)
    purse.unconfirmed(500_000)
    error = purse.refused(lambda: purse.send(100_000))
    assert (error.slug, error.exit_code) == ("not-enough-funds", 5)
    assert error.message == (
        "100000 sat and a fee are needed, the wallet can spend 1000 sat; 500000 sat are unconfirmed"
    )
    purse.chain.mine(1)
    purse.send(100_000)


def test_fee_rates_keep_the_limits(purse: Purse) -> None:
    purse.coin(100_000)
    for rate, slug in ((999, "fee-rate-low"), (200_001, "fee-rate-high")):
        error = purse.refused(lambda rate=rate: purse.send(1000, fee_rate=FeeRate(rate)))  # type: ignore[misc]
        assert (error.slug, error.exit_code) == (slug, 5)
    estimated = purse.send(10_000, fee_rate=None)
    assert estimated.fee_sat == purse.chain.fee_rate().fee(141).sat
    assert purse.send(10_000, KINDS["p2sh"], fee_rate=FeeRate(200_000)).fee_sat > 28_000


def test_a_change_that_is_lost_does_not_go_to_a_miner(purse: Purse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever mistake of ours loses it: of a payment and of a funding the fee is looked at once more."""
    purse.coin(1_000_000)
    monkeypatch.setattr(coins_module, "change_of", lambda *_: None)
    error = purse.refused(lambda: purse.send(10_000))
    assert (error.slug, error.exit_code) == ("fee-rate-high", 5)
    assert "990000" in error.message
    seller = new_wallet(purse.wallet.directory.parent / "seller")
    offer = payee.offer(seller, purse.chain, {}).toml
    error = purse.refused(lambda: payer.open_channel(purse.wallet, purse.chain, offer, Amount(50_000)))
    assert (error.slug, error.exit_code) == ("fee-rate-high", 5)


class Busy(EmbeddedChain):
    """A chain that relays nothing below 3 sat/vB."""

    def min_fee_rate(self) -> FeeRate:
        return FeeRate(3000)


def test_a_rate_that_is_not_relayed(purse: Purse) -> None:
    purse.coin(100_000)
    with Busy(purse.chain.directory) as chain:
        purse.chain = chain
        error = purse.refused(lambda: purse.send(1000, fee_rate=FeeRate(2999)))
        assert (error.slug, error.exit_code) == ("fee-rate-low", 5)
        assert purse.send(1000, fee_rate=FeeRate(3000)).broadcast
        assert purse.send(2000, fee_rate=None).fee_sat == FeeRate(6000).fee(141).sat


# reserved coins -----------------------------------------------------------------------------------


def test_a_channel_being_opened_keeps_its_coins(chain_directory: Path, tmp_path: Path) -> None:
    with EmbeddedChain(chain_directory) as chain:
        pair = Pair(tmp_path, chain)
        pair.coin(50_000)
        pair.request(900_000)
        assert views.balance(pair.payer, chain).to_dict() == {
            "confirmed_sat": 1_050_000,
            "unconfirmed_sat": 0,
            "in_channels_sat": 0,
            "reserved_sat": 1_000_000,
        }
        with pytest.raises(NotPossible) as caught:
            coins.send(pair.payer, chain, SHOP, Amount(60_000))
        assert caught.value.message == (
            "60000 sat and a fee are needed, the wallet can spend 50000 sat; "
            "1000000 sat are reserved by channels and sends that are not in a block yet"
        )
        everything = coins.send(pair.payer, chain, SHOP, None)
        assert everything.amount_sat + everything.fee_sat == 50_000
        payer.abandon(pair.payer, chain, None)
        assert coins.send(pair.payer, chain, SHOP, Amount(60_000)).broadcast
        chain.mine(1)


def test_a_send_that_has_not_left_keeps_its_coins(chain_directory: Path, tmp_path: Path) -> None:
    """From other sends, and from openings; and it counts once in the balance."""
    with EmbeddedChain(chain_directory) as chain:
        pair = Pair(tmp_path, chain)
        held = coins.send(pair.payer, chain, SHOP, Amount(10_000), sends=False)
        assert not held.broadcast
        assert views.balance(pair.payer, chain).confirmed_sat == 1_000_000
        assert views.balance(pair.payer, chain).reserved_sat == 1_000_000
        for call in (
            lambda: coins.send(pair.payer, chain, SHOP, Amount(5_000)),
            lambda: pair.request(100_000),
        ):
            with pytest.raises(NotPossible) as caught:
                call()
            assert caught.value.slug == "not-enough-funds"
            assert "1000000 sat are reserved" in caught.value.message
        again = coins.resend(pair.payer, chain, held.txid[:10])
        assert again == replace(held, broadcast=True)
        balance = views.balance(pair.payer, chain)
        assert balance.to_dict() == {
            "confirmed_sat": 0,
            "unconfirmed_sat": held.change_sat,
            "in_channels_sat": 0,
        }
        chain.mine(1)
        assert views.balance(pair.payer, chain).confirmed_sat == held.change_sat
        pair.request(100_000)


def elsewhere(purse: Purse, outpoint: OutPoint) -> None:
    """The same seed in another program spends a coin; that waits for a block."""
    status = purse.chain.output(outpoint)
    assert status is not None
    spend = Transaction(
        2, (TxIn(outpoint, 0xFFFF_FFFD),), (TxOut(status.output.value - Amount(500), KINDS["p2tr"]),), 0
    )
    purse.chain.broadcast(purse.wallet.keys.sign_coins(spend, [status.output]))


def lost(result: Sent) -> None:
    """Nobody hears the result."""
    raise StorageError("not-emitted", "nobody listens")


def test_what_another_transaction_has_replaced_reserves_nothing(purse: Purse) -> None:
    """Until the other one is in a block, it does; and the same command then makes another transaction."""
    purse.coin(100_000, 50_000)
    with pytest.raises(StorageError):
        purse.send(120_000, sends=False, tell=lost)
    [held] = purse.wallet.sent.all().values()
    assert purse.refused(lambda: purse.send(5_000)).slug == "not-enough-funds"
    elsewhere(purse, held.outpoints[0])
    assert purse.balance().reserved_sat in (50_000, 100_000)
    assert purse.refused(lambda: purse.send(5_000)).slug == "not-enough-funds"
    purse.chain.mine(1)
    left = purse.balance()
    assert left.confirmed_sat in (50_000, 100_000)
    assert not left.reserved_sat
    assert purse.refused(lambda: purse.send(120_000)).slug == "not-enough-funds"
    assert inputs(purse.send(None)) == {held.outpoints[1]}


def test_a_child_of_what_was_replaced_reserves_nothing(purse: Purse) -> None:
    purse.coin(100_000, 20_000)
    parent = purse.send(30_000)
    child = purse.send(80_000, KINDS["p2wsh"], sends=False)
    assert len(inputs(child)) == 2
    assert purse.balance().reserved_sat == parent.change_sat + 20_000
    [coin] = inputs(parent)
    double = Transaction(2, (TxIn(coin, 0xFFFF_FFFD),), (TxOut(Amount(90_000), KINDS["p2tr"]),), 0)
    signed = purse.wallet.keys.sign_coins(double, purse.wallet.sent.find(parent.txid).spent)
    assert purse.chain.submit_block_with([signed]) is None
    assert purse.chain.transaction(Txid.from_hex(parent.txid)) is None
    assert purse.balance().to_dict() == {"confirmed_sat": 20_000, "unconfirmed_sat": 0, "in_channels_sat": 0}


def test_forgetting_frees_the_coins(purse: Purse) -> None:
    purse.coin(100_000)
    held = purse.send(10_000, sends=False)
    assert coins.forget(purse.wallet, purse.chain, held.txid).to_dict() == {
        "txid": held.txid,
        "status": "forgotten",
    }
    other = purse.send(10_000)
    assert inputs(other) == inputs(held)
    assert other.txid != held.txid, "its change goes to another address"
    error = purse.refused(lambda: coins.forget(purse.wallet, purse.chain, other.txid))
    assert (error.slug, error.exit_code) == ("already-sent", 5)
    purse.chain.mine(1)
    error = purse.refused(lambda: coins.forget(purse.wallet, purse.chain, other.txid))
    assert error.slug == "already-sent"
    for name in ("", "zz", held.txid):
        error = purse.refused(lambda name=name: coins.forget(purse.wallet, purse.chain, name))  # type: ignore[misc]
        assert (error.slug, error.exit_code) == ("unknown-send", 5)


# repeating ----------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process ends here."""


class Steps:
    """Every write, broadcast and answer of a command, in order; the process can end before or after each."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        self.fatal: tuple[int, bool] | None = None
        for module in (keys_module, store_module):
            patch.setattr(module, "write_durably", self.write)
        broadcast = EmbeddedChain.broadcast
        patch.setattr(
            EmbeddedChain,
            "broadcast",
            lambda chain, transaction: self.step("broadcast", lambda: broadcast(chain, transaction)),
        )

    def write(self, path: Path, data: bytes, **options: Any) -> None:
        name = path.parent.name if path.parent.name == "sent" else path.stem
        self.step(name, lambda: write_durably(path, data, **options))

    def step(self, name: str, act: Callable[[], None]) -> None:
        number = len(self.done)
        if self.fatal == (number, False):
            raise Killed
        act()
        self.done.append(name)
        if self.fatal == (number, True):
            raise Killed


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(monkeypatch)


def test_the_order_of_things(purse: Purse, steps: Steps) -> None:
    """Change index, then the transaction with its inputs, are on disk before it leaves; then it is told."""
    purse.coin(100_000)
    steps.done.clear()
    purse.send(10_000, tell=lambda result: steps.step("tell", lambda: None))
    assert steps.done == ["keys", "sent", "broadcast", "tell", "sent"]
    steps.done.clear()
    purse.chain.mine(1)
    purse.send(None, tell=lambda result: steps.step("tell", lambda: None))
    assert steps.done == ["sent", "broadcast", "tell", "sent"], "without a change there is no index to keep"


@pytest.mark.parametrize("amount", [10_000, None])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("number", range(5))
def test_a_command_that_was_cut_short_sends_once(
    purse: Purse, steps: Steps, number: int, after: bool, amount: int | None
) -> None:
    """Killed at any step and repeated until it is through: the shop is paid once, no change address comes twice."""
    purse.coin(100_000, 200_000)
    told: list[str] = []

    def tell(result: Sent) -> None:
        steps.step("tell", lambda: told.append(result.txid))

    steps.done.clear()
    steps.fatal = (number, after)
    if number == 4 and amount is None:
        purse.send(amount, tell=tell)  # it has four steps only
    else:
        with pytest.raises(Killed):
            purse.send(amount, tell=tell)
    steps.fatal = None
    through = steps.done[-1:] == ["sent"] and "tell" in steps.done
    if not through:
        purse.send(amount, tell=tell)
    assert len(set(told)) == 1
    assert 1 <= len(told) <= 2
    paid = [
        txid
        for txid in purse.chain.mempool()
        if values(purse.chain.transaction(txid)[0], SHOP)  # type: ignore[index]
    ]
    assert [str(txid) for txid in paid] == told[:1]
    change = [
        output.script_pubkey
        for record in purse.wallet.sent.all().values()
        for output in record.transaction.outputs
        if output.script_pubkey != SHOP
    ]
    assert len(change) == len(set(change)) == (0 if amount is None else 1)
    fresh = Wallet.open(purse.wallet.directory).keys
    assert fresh.script("change", fresh.next_index("change")) not in change


def test_once_it_is_told_the_same_command_sends_again(purse: Purse) -> None:
    purse.coin(100_000)
    first, second = purse.send(10_000), purse.send(10_000)
    assert first.txid != second.txid
    assert inputs(first).isdisjoint(inputs(second))
    assert not second.warnings


def test_a_repetition_says_that_it_is_one(purse: Purse) -> None:
    purse.coin(100_000, 100_000)
    with pytest.raises(StorageError):
        purse.send(10_000, tell=lost)
    with pytest.raises(StorageError):
        purse.send(20_000, tell=lost)
    again = purse.send(10_000, fee_rate=FeeRate(5000))
    assert "by a command that did not end" in again.warnings[0]
    assert again.fee_sat == RATE.fee(141).sat
    assert len(purse.chain.mempool()) == 2
    assert not purse.send(10_000).warnings


def test_what_the_chain_refuses_is_kept_and_tried_again(
    purse: Purse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error from afar may be a lie: what a server has seen it may send, so the coins stay with it."""
    purse.coin(100_000, 100_000)

    def refuse(chain: EmbeddedChain, transaction: Transaction) -> None:
        raise ChainError("rejected", "mempool full")

    with monkeypatch.context() as patch:
        patch.setattr(EmbeddedChain, "broadcast", refuse)
        with pytest.raises(ChainError) as caught:
            purse.send(10_000)
    [txid] = [str(txid) for txid in purse.wallet.sent.all()]
    assert caught.value.hint == f"the transaction is kept: `mpchan send --resend {txid}` tries it again"
    assert purse.balance().reserved_sat == 100_000
    other = purse.send(20_000)
    assert purse.send(10_000).txid == txid
    assert {str(found) for found in purse.chain.mempool()} == {txid, other.txid}


def test_a_no_before_anything_is_signed(purse: Purse) -> None:
    purse.coin(100_000)

    def no(paid: Amount, fee: Amount) -> None:
        assert (paid.sat, fee.sat) == (10_000, 141)
        raise NotPossible("not-confirmed", "no")

    assert purse.refused(lambda: purse.send(10_000, confirm=no)).slug == "not-confirmed"
    everything: list[int] = []
    purse.send(None, confirm=lambda paid, fee: everything.extend((paid.sat, fee.sat)))
    assert everything == [100_000 - 110, 110]


# the records --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:-20],
        lambda text: text.replace('"height":', '"height":1'),
        lambda text: text.replace('"answered":true', '"answered":false'),
        lambda text: json.dumps({**json.loads(text), "schema": 2}),
        lambda text: "[]",
        lambda text: "\x00",
    ],
)
def test_a_damaged_record_stops_what_would_spend(purse: Purse, damage: Callable[[str], str]) -> None:
    """Which coins it has spent is not known: a second transaction could take them."""
    purse.coin(100_000, 100_000)
    result = purse.send(10_000)
    path = purse.wallet.directory / "sent" / f"{result.txid}.json"
    text = path.read_text()
    path.write_text(damage(text))
    for call in (
        lambda: purse.send(5_000),
        lambda: coins.resend(purse.wallet, purse.chain, result.txid),
        lambda: coins.forget(purse.wallet, purse.chain, result.txid),
    ):
        error = purse.refused(call)
        assert (error.slug, error.exit_code) == ("send-damaged", 7)
        assert str(path) in error.message
    path.write_text(text)
    purse.send(5_000)


def test_a_record_under_another_name_is_damage(purse: Purse) -> None:
    purse.coin(100_000)
    result = purse.send(10_000)
    folder = purse.wallet.directory / "sent"
    (folder / f"{result.txid}.json").rename(folder / f"{'ab' * 32}.json")
    assert purse.refused(lambda: purse.send(5_000)).slug == "send-damaged"


def test_a_beginning_that_fits_two(purse: Purse) -> None:
    purse.coin(*[100_000] * 17)
    found = [purse.send(10_000).txid for _ in range(17)]
    twice = next(digit for digit in "0123456789abcdef" if [txid[0] for txid in found].count(digit) > 1)
    error = purse.refused(lambda: coins.resend(purse.wallet, purse.chain, twice))
    assert (error.slug, error.exit_code) == ("ambiguous-send", 2)
    assert coins.resend(purse.wallet, purse.chain, found[3].upper()).txid == found[3]


def test_a_foreign_key_never_gets_the_change(purse: Purse) -> None:
    """Every output of every transaction is the shop's or one of the wallet's own change addresses."""
    purse.coin(*[30_000] * 4)
    for amount in (1_000, 25_000, 40_000):
        purse.send(amount)
    own = {purse.wallet.keys.script("change", index) for index in range(8)}
    for record in purse.wallet.sent.all().values():
        assert {output.script_pubkey for output in record.transaction.outputs} <= own | {SHOP}
        assert (
            record.change_vout is None or record.transaction.outputs[record.change_vout].script_pubkey in own
        )
