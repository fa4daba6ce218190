"""``mpchan bump`` on the embedded chain: what it refuses, what it keeps, and what becomes of its coins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from support.external import External
from support.foreign_wallet import P2WPKH, coin, payment, psbt_of, signed
from support.party import Pair, new_wallet, psbt, snapshot

from mpchan.bitcoin.address import address_to_script
from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.chain.embedded import EmbeddedChain, mempool
from mpchan.chain.manual import ManualChain
from mpchan.channel.limits import PayerLimits
from mpchan.errors import MpchanError
from mpchan.party import payer, views
from mpchan.party.coins import resend, send
from mpchan.party.holdings import holdings
from mpchan.party.watch.bump import bump
from mpchan.units import Amount, FeeRate, Height, OutPoint, Txid
from mpchan.values import replace
from mpchan.wallet.wallet import Wallet

RATE = FeeRate(10_000)
THEIRS = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"


class Broken(Exception):
    """The process dies here."""


class Mortal(EmbeddedChain):
    """The embedded chain, in whose reach a process may die while it hands something over.

    Attributes:
        wallet: whose files are noted at that moment.
    """

    wallet: Path | None = None
    seen: dict[str, bytes]

    def broadcast(self, transaction: Transaction) -> None:
        self._die()
        super().broadcast(transaction)

    def broadcast_package(self, transactions: Sequence[Transaction]) -> None:
        self._die()
        super().broadcast_package(transactions)

    def _die(self) -> None:
        if self.wallet is not None:
            self.seen = snapshot(self.wallet)
            raise Broken


@pytest.fixture
def pair(chain_directory: Path, tmp_path: Path) -> Iterator[Pair]:
    with Mortal(chain_directory) as chain:
        yield Pair(tmp_path, chain)


@pytest.fixture
def dear(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on nothing below 5 sat/vB is relayed."""
    return lambda: monkeypatch.setattr(mempool, "MIN_FEE_RATE", FeeRate(5_000))


def refused(call: Callable[[], object]) -> tuple[str, int]:
    with pytest.raises(MpchanError) as caught:
        call()
    return caught.value.slug, caught.value.exit_code


def closed(pair: Pair, total: int = 60_000) -> str:
    """A channel whose settlement waits in the mempool."""
    name = pair.open()
    pair.settle(pair.settlement(name, total))
    return name


def give(pair: Pair, wallet: Wallet, amount: int) -> OutPoint:
    script = address_to_script(views.fresh_address(wallet).address, wallet.network)
    outpoint = OutPoint(pair.chain.faucet(script, Amount(amount)), 0)
    pair.chain.mine(1)
    return outpoint


def in_block(pair: Pair, txid: str) -> bool:
    found = pair.chain.transaction(Txid.from_hex(txid))
    return found is not None and found[1] > 0


# the engine takes them ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["funding", "settlement", "update", "refund"])
def test_what_is_refused_alone_goes_into_a_block_with_its_child(
    pair: Pair, dear: Callable[[], None], kind: str
) -> None:
    wallet = pair.payee if kind in ("settlement", "update") else pair.payer
    if kind == "funding":
        made = payer.open_channel(
            pair.payer, pair.chain, pair.offer(), Amount(100_000), funding_fee_rate=FeeRate(1_000)
        )
        reply = pair.sign_refund(made.hex)
        name = f"{made.funding_txid}-0"
        dear()
        assert refused(lambda: pair.fund(reply)) == ("rejected", 8)
    elif kind == "settlement":
        name = pair.open()
        message = pair.settlement(name, 60_000)
        dear()
        assert refused(lambda: pair.settle(message)) == ("rejected", 8)
    elif kind == "update":
        name = pair.open()
        message = pair.pay(name, 60_000)
        pair.accept(message)
        pair.mine_to(psbt(message).tx.lock_time)
        dear()
        assert refused(lambda: pair.settle(name=name)) == ("rejected", 8)
    else:
        name = pair.open()
        pair.mine_to(pair.terms(name).refund_lock_time.value)
        dear()
        assert refused(lambda: pair.refund(name)) == ("rejected", 8)
    done = bump(wallet, pair.chain, name, RATE)
    assert done.kind == kind
    better = bump(wallet, pair.chain, name, FeeRate(30_000))
    assert [str(txid) for txid in pair.chain.mempool()] == [better.txid, better.child_txid]
    pair.chain.mine(1)
    assert in_block(pair, better.txid)
    assert in_block(pair, better.child_txid)
    assert refused(lambda: bump(wallet, pair.chain, name, FeeRate(40_000))) == ("already-confirmed", 5)


# what is kept -------------------------------------------------------------------------------------


def test_the_child_is_on_disk_before_it_leaves(pair: Pair) -> None:
    """And after a crash the same command gives the same child."""
    name = closed(pair)
    chain = pair.chain
    assert isinstance(chain, Mortal)
    chain.wallet = pair.payee.directory
    with pytest.raises(Broken):
        bump(pair.payee, chain, name, RATE)
    chain.wallet = None
    [record] = [path for path in chain.seen if "/sent/" in path]
    pair.restart()
    done = bump(pair.payee, chain, name, RATE)
    assert done.hex.encode() in chain.seen[record]
    assert snapshot(pair.payee.directory) == chain.seen
    addresses = {views.fresh_address(pair.payee).address for _ in range(3)}
    [output] = Transaction.from_hex(done.hex).outputs
    assert output.script_pubkey in pair.payee.keys.scripts()
    assert output.script_pubkey not in [address_to_script(each, pair.payee.network) for each in addresses]


def test_without_broadcast_nothing_leaves_and_its_coins_are_reserved(pair: Pair) -> None:
    coin = give(pair, pair.payee, 50_000)
    name = closed(pair, 1_000)
    done = bump(pair.payee, pair.chain, name, RATE, sends=False)
    assert done.broadcast is False
    child = Transaction.from_hex(done.hex)
    assert coin in [source.outpoint for source in child.inputs]
    assert child.txid not in pair.chain.mempool()
    held = holdings(pair.payee, pair.chain, pair.payee.keys)
    assert coin in [each.outpoint for each in held.reserved]
    script = address_to_script(THEIRS, pair.payee.network)
    assert refused(lambda: send(pair.payee, pair.chain, script, Amount(10_000)))[0] == "not-enough-funds"
    assert resend(pair.payee, pair.chain, done.child_txid).txid == done.child_txid
    assert child.txid in pair.chain.mempool()


def test_what_a_child_gives_back_is_not_spent_before_it_is_confirmed(pair: Pair) -> None:
    """The next bump would replace it."""
    name = closed(pair)
    bump(pair.payee, pair.chain, name, RATE)
    script = address_to_script(THEIRS, pair.payee.network)
    assert refused(lambda: send(pair.payee, pair.chain, script, Amount(10_000)))[0] == "not-enough-funds"
    pair.chain.mine(1)
    assert send(pair.payee, pair.chain, script, Amount(10_000)).broadcast is True


def test_a_child_whose_parent_has_lost_frees_its_coins(pair: Pair) -> None:
    """The refund came into a block instead of the settlement."""
    coin = give(pair, pair.payee, 50_000)
    name = closed(pair, 1_000)
    bump(pair.payee, pair.chain, name, RATE, sends=False)
    refund = pair.payer_record(name).state.funded.refund
    height = pair.terms(name).refund_lock_time.value
    with pair.chain.engine():
        while pair.chain.tip().height < height:
            assert pair.chain.submit_block_with([]) is None
        assert pair.chain.submit_block_with([refund]) is None
    held = holdings(pair.payee, pair.chain, pair.payee.keys)
    assert [each.outpoint for each in held.confirmed] == [coin]
    assert refused(lambda: bump(pair.payee, pair.chain, name, RATE)) == ("already-confirmed", 5)


def test_what_has_fallen_out_of_the_mempool_is_sent_again_as_it_was(pair: Pair) -> None:
    """Parent and child: a node was restarted, or its mempool was full."""
    name = closed(pair)
    done = bump(pair.payee, pair.chain, name, RATE)
    forget_mempool(pair)
    assert bump(pair.payee, pair.chain, name, RATE) == done
    assert [str(txid) for txid in pair.chain.mempool()] == [done.txid, done.child_txid]


def test_whoever_sends_the_parent_again_sends_its_child(pair: Pair, dear: Callable[[], None]) -> None:
    """``payee settle``, and the watcher, which does the same; of several children the one that pays most."""
    name = closed(pair)
    for rate in (10_000, 20_000, 30_000, 40_000):
        done = bump(pair.payee, pair.chain, name, FeeRate(rate))
    forget_mempool(pair)
    dear()
    pair.restart()
    assert pair.settle(name=name).txid == done.txid
    assert [str(txid) for txid in pair.chain.mempool()] == [done.txid, done.child_txid]
    assert bump(pair.payee, pair.chain, name, FeeRate(10_000)) == done


def test_a_child_that_cannot_be_does_not_hold_up_its_parent(pair: Pair) -> None:
    """A copy of the wallet has spent the child's coin elsewhere."""
    coin = give(pair, pair.payee, 50_000)
    name = closed(pair, 1_000)
    done = bump(pair.payee, pair.chain, name, RATE, sends=False)
    forget_mempool(pair)
    child = Transaction.from_hex(done.hex)
    spent = pair.chain.output(coin).output
    other = replace(child, inputs=(replace(child.inputs[1], witness=()),))
    other = replace(other, outputs=(replace(other.outputs[0], value=Amount(40_000)),))
    assert child.inputs[1].outpoint == coin
    assert pair.chain.submit_block_with([pair.payee.keys.sign_coins(other, [spent])]) is None
    assert pair.settle(name=name).broadcast is True
    assert [str(txid) for txid in pair.chain.mempool()] == [done.txid]


def test_a_refusal_for_the_fee_names_the_way_out(pair: Pair, dear: Callable[[], None]) -> None:
    name = pair.open()
    message = pair.settlement(name, 60_000)
    dear()
    with pytest.raises(MpchanError) as caught:
        pair.settle(message)
    assert caught.value.hint == "`mpchan bump CHANNEL --fee-rate R` pays for it with a child"


def forget_mempool(pair: Pair) -> None:
    from mpchan.chain.embedded.index import Index

    index = Index(pair.chain.directory / "index.sqlite3")
    with index.writing():
        for txid in index.mempool():
            index.evict(txid)
    index.close()


# what is refused ----------------------------------------------------------------------------------


def unchanged(pair: Pair, call: Callable[[], object]) -> tuple[str, int]:
    """A refusal after which every file is as before."""
    before = pair.files()
    refusal = refused(call)
    assert pair.files() == before
    return refusal


def test_limits_of_the_rate(pair: Pair) -> None:
    name = closed(pair)
    for rate, slug in ((999, "fee-rate-low"), (1_000_001, "fee-rate-high")):
        assert unchanged(pair, lambda rate=rate: bump(pair.payee, pair.chain, name, FeeRate(rate))) == (  # type: ignore[misc]
            slug,
            5,
        )
    limits = PayerLimits(max_bump_fee_rate=FeeRate(9_999))
    pair.payee.config = replace(pair.payee.config, limits=limits)
    assert unchanged(pair, lambda: bump(pair.payee, pair.chain, name, RATE)) == ("fee-rate-high", 5)


@pytest.mark.parametrize("rate", [1_500, 2_000])
def test_a_rate_that_the_parent_pays_already(pair: Pair, rate: int) -> None:
    name = closed(pair)
    assert unchanged(pair, lambda: bump(pair.payee, pair.chain, name, FeeRate(rate))) == ("bump-needless", 5)


def test_a_channel_that_waits_for_nothing_is_not_closed_by_a_bump(pair: Pair) -> None:
    name = pair.open()
    assert unchanged(pair, lambda: bump(pair.payee, pair.chain, name, RATE)) == ("nothing-to-collect", 5)
    message = pair.pay(name, 5_000)
    pair.accept(message)
    assert unchanged(pair, lambda: bump(pair.payer, pair.chain, name, RATE)) == ("already-confirmed", 5)
    assert unchanged(pair, lambda: bump(pair.payee, pair.chain, name, RATE)) == ("update-locked", 6)
    pair.mine_to(psbt(message).tx.lock_time)
    assert unchanged(pair, lambda: bump(pair.payee, pair.chain, name, RATE)) == ("not-sent", 5)
    pair.mine_to(pair.terms(name).refund_lock_time.value)
    assert unchanged(pair, lambda: bump(pair.payer, pair.chain, name, RATE)) == ("not-sent", 5)
    assert pair.chain.mempool() == []


def test_a_refund_that_a_reorganisation_made_too_early_again(pair: Pair) -> None:
    name = pair.open()
    pair.mine_to(pair.terms(name).refund_lock_time.value)
    pair.refund(name)
    forget_mempool(pair)
    state = pair.payer_record(name).state
    later = Height(pair.chain.tip().height + 500)  # the chain is one that other tests mine on too
    terms = replace(pair.terms(name), refund_lock_time=later)
    funded = replace(state.funded, terms=terms)
    pair.payer.channels.save(replace(pair.payer_record(name), state=replace(state, funded=funded)), "changed")
    assert unchanged(pair, lambda: bump(pair.payer, pair.chain, name, RATE)) == ("refund-locked", 6)


def test_an_opening_has_nothing_to_bump(pair: Pair) -> None:
    request = pair.request()
    name = f"{request.funding_txid}-0"
    assert unchanged(pair, lambda: bump(pair.payer, pair.chain, name, RATE)) == ("not-funded", 5)
    assert unchanged(pair, lambda: bump(pair.payer, pair.chain, None, RATE)) == ("no-channel", 5)
    payer.abandon(pair.payer, pair.chain, name)
    assert unchanged(pair, lambda: bump(pair.payer, pair.chain, name, RATE)) == ("not-funded", 5)


def test_a_funding_that_the_user_keeps_back_is_not_sent_by_a_bump(pair: Pair) -> None:
    request = pair.request()
    reply = pair.sign_refund(request.hex)
    funding = pair.fund(reply, send=False).hex
    name = f"{request.funding_txid}-0"
    assert unchanged(pair, lambda: bump(pair.payer, pair.chain, name, RATE)) == ("not-sent", 5)
    pair.chain.broadcast(Transaction.from_hex(funding))  # type: ignore[arg-type]
    assert bump(pair.payer, pair.chain, name, RATE).kind == "funding"


def test_a_funding_whose_coin_is_spent_elsewhere_is_beyond_help(pair: Pair) -> None:
    request = pair.request()
    pair.fund(pair.sign_refund(request.hex))
    name = f"{request.funding_txid}-0"
    forget_mempool(pair)
    funded = pair.payer_record(name).state
    double = replace(funded.funding, outputs=funded.funding.outputs[1:])
    double = pair.payer.keys.sign_coins(double.without_witness(), funded.spent)
    pair.chain.broadcast(double)
    assert unchanged(pair, lambda: bump(pair.payer, pair.chain, name, RATE)) == ("funding-conflict", 6)
    pair.chain.mine(1)
    assert unchanged(pair, lambda: bump(pair.payer, pair.chain, name, RATE)) == ("funding-void", 5)


def test_the_payee_has_no_output_of_the_funding(pair: Pair) -> None:
    """The payer can bump it; what spends it waits for its block."""
    request = pair.request()
    pair.fund(pair.sign_refund(request.hex))
    name = f"{request.funding_txid}-0"
    assert unchanged(pair, lambda: bump(pair.payee, pair.chain, name, RATE)) == (
        "funding-unconfirmed",
        6,
    )


def test_a_funding_without_change_and_a_close_without_an_own_output(pair: Pair) -> None:
    value = 100_000 + 338 + 2 * 150  # a coin that is spent whole: reserve, and the funding's fee
    wallet = new_wallet(pair.directory / "exact")
    pair.payer, spare = wallet, pair.payer
    give(pair, wallet, value)
    request = pair.request()
    assert len(payer_funding(pair, request.funding_txid).outputs) == 1
    pair.fund(pair.sign_refund(request.hex))
    name = f"{request.funding_txid}-0"
    with pytest.raises(MpchanError) as caught:
        bump(wallet, pair.chain, name, RATE)
    assert caught.value.slug == "no-own-output"
    assert "voids the refund" in (caught.value.hint or "")
    pair.chain.mine(1)
    pair.settle(pair.settlement(name, 100_000))
    assert unchanged(pair, lambda: bump(wallet, pair.chain, name, RATE)) == ("no-own-output", 5)
    pair.payer = spare


def payer_funding(pair: Pair, txid: str) -> Transaction:
    funding = pair.payer_record(f"{txid}-0").funding
    assert funding is not None
    return funding


@pytest.mark.parametrize("own_change", [False, True])
def test_a_funding_from_another_wallet(chain_directory: Path, tmp_path: Path, own_change: bool) -> None:
    """Where its change comes to an address of this wallet, this wallet can help it."""
    with EmbeddedChain(chain_directory) as chain:
        pair = External(tmp_path, chain)
        change = address_to_script(views.fresh_address(pair.payer).address, pair.payer.network)
        funding = payment(chain, [coin(chain, P2WPKH)], pair.output())
        if own_change:
            outputs = (replace(funding.outputs[0], script_pubkey=change), *funding.outputs[1:])
            funding = replace(funding, outputs=outputs)
        name = pair.open_with(psbt_of(chain, funding), signed(chain, funding))
        if own_change:
            done = bump(pair.payer, chain, name, RATE)
            assert (done.txid, done.kind) == (str(funding.txid), "funding")
            chain.mine(1)
            assert in_block(pair, done.child_txid)
            return
        with pytest.raises(MpchanError) as caught:
            bump(pair.payer, chain, name, RATE)
        assert caught.value.slug == "no-own-output"
        assert "in the wallet that made it" in (caught.value.hint or "")


def test_a_payout_elsewhere_cannot_be_bumped(pair: Pair) -> None:
    from mpchan.party import payee

    made = payee.offer(
        pair.payee,
        pair.chain,
        {"settle_window": 6, "min_refund_delay": 25, "fee_rate_sat_per_kvb": 2_000},
        address=THEIRS,
    )
    assert "mpchan bump" in made.warnings[0]
    request = pair.request(offer=made.toml)
    pair.fund(pair.sign_refund(request.hex))
    pair.chain.mine(1)
    name = f"{request.funding_txid}-0"
    pair.settle(pair.settlement(name, 60_000))
    assert unchanged(pair, lambda: bump(pair.payee, pair.chain, name, RATE)) == ("no-own-output", 5)


def test_an_output_that_something_else_spends(pair: Pair) -> None:
    """Another copy of the wallet was there."""
    name = closed(pair)
    close = pair.payee_record(name).state.settlement.transaction
    copy = new_wallet(pair.directory / "copy")
    (copy.directory / "keys.toml").write_bytes((pair.payee.directory / "keys.toml").read_bytes())
    copy = Wallet.open(copy.directory)
    other = replace(close, inputs=(replace(close.inputs[0], outpoint=OutPoint(close.txid, 1), witness=()),))
    theirs = TxOut(Amount(50_000), address_to_script(THEIRS, pair.payee.network))
    other = replace(other, outputs=(theirs,))
    pair.chain.broadcast(copy.keys.sign_coins(other, [close.outputs[1]]))
    assert unchanged(pair, lambda: bump(pair.payee, pair.chain, name, RATE)) == ("output-spent", 5)


def test_dust_is_never_made(pair: Pair) -> None:
    name = closed(pair, 2_000)
    needed = RATE.fee(169 + 110).sat - 338
    assert needed > 2_000 - 294
    assert unchanged(pair, lambda: bump(pair.payee, pair.chain, name, RATE)) == ("not-enough-funds", 5)


def test_a_wallet_that_asks_no_chain(pair: Pair) -> None:
    name = closed(pair)
    assert unchanged(pair, lambda: bump(pair.payee, ManualChain(), name, RATE)) == ("no-backend", 8)
