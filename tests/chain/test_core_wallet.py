"""Bitcoin Core's own wallet funds channels, bumps what it should not, and watches what a descriptor names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.chain.node import MinedChain, Node, needs_node, running
from support.external import CAPACITY, External, name_of, refused, slugs_of
from support.party import balance_sat
from support.protocol import witness_script

from mpchan.bitcoin.address import address_to_script
from mpchan.bitcoin.message import decode_message
from mpchan.bitcoin.network import REGTEST
from mpchan.bitcoin.tx import Transaction
from mpchan.channel.foreign_funding import Message
from mpchan.party import payer, views
from mpchan.party.opening.again import open_again
from mpchan.party.watch.bump import bump
from mpchan.units import FeeRate, OutPoint

pytestmark = needs_node

COINS = 8
KINDS = ("bech32", "bech32m", "legacy", "p2sh-segwit")
NATIVE = pytest.mark.parametrize("kind", ["bech32", "bech32m"])


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node with a wallet for each kind of address, each with some coins."""
    with running(tmp_path_factory.mktemp("core") / "node", wallet=True) as node:
        for kind in KINDS:
            node.call("createwallet", kind)
            for _ in range(COINS):
                address = node.call("getnewaddress", "", kind, wallet=kind)
                node.pay(address_to_script(address, REGTEST), 10_000_000)
        node.mine(1)
        yield node


@pytest.fixture
def pair(core: Node, tmp_path: Path) -> Iterator[External]:
    with MinedChain(core, tmp_path / "seen") as chain:
        yield External(tmp_path, chain)


def funded(pair: External, kind: str, **options: Any) -> str:
    """The PSBT that Core makes of the plan, unsigned, in base64; its change stands first."""
    plan = pair.plan()
    core: Node = pair.chain.node
    outputs = [{plan.address: plan.amount_btc}]
    options = {"changePosition": 0, "change_type": kind, "lockUnspents": True, "fee_rate": 5, **options}
    options = {name: value for name, value in options.items() if value is not None}
    made = core.call("walletcreatefundedpsbt", [], outputs, 0, options, wallet=kind)
    return str(made["psbt"])


def processed(pair: External, kind: str, text: str, *, finalize: bool) -> str:
    """The same with Core's signatures."""
    core: Node = pair.chain.node
    made = core.call("walletprocesspsbt", text, True, "DEFAULT", True, finalize, wallet=kind)
    return str(made["psbt"])


def finished(pair: External, text: str) -> str:
    """The raw transaction that Core makes of a signed PSBT."""
    made = pair.chain.node.call("finalizepsbt", text)
    assert made["complete"] is True
    return str(made["hex"])


def message(text: str) -> Message:
    return decode_message(text.encode())


# the whole story ----------------------------------------------------------------------------------


@NATIVE
def test_a_channel_to_its_settlement(pair: External, kind: str) -> None:
    """Core signs without making anything final; that is left to mpchan."""
    unsigned = funded(pair, kind)
    request = pair.take(message(unsigned))
    assert (request.funding_vout, request.capacity_sat) == (1, CAPACITY)
    signed = processed(pair, kind, unsigned, finalize=False)
    result = pair.fund(pair.sign_refund(request.hex), signed=message(signed))
    assert result.broadcast is True
    assert result.hex == finished(pair, processed(pair, kind, unsigned, finalize=True))
    pair.chain.mine(1)
    name = name_of(request)
    assert pair.status(name) == ("open", "open")
    pair.accept(pair.pay(name, 1_000))
    pair.settle(pair.settlement(name, 5_000))
    pair.chain.mine(1)
    assert pair.status(name) == ("closed", "closed")
    assert balance_sat(pair.payee, pair.chain) == 5_000
    assert balance_sat(pair.payer, pair.chain) == CAPACITY - 5_000


@NATIVE
def test_a_channel_to_its_refund(pair: External, kind: str) -> None:
    """Core makes all of it final before mpchan sees it for the first time."""
    signed = processed(pair, kind, funded(pair, kind), finalize=True)
    request = pair.take(message(signed))
    assert "signed-already" in slugs_of(request)
    pair.fund(pair.sign_refund(request.hex), signed=message(finished(pair, signed)))
    pair.chain.mine(1)
    name = name_of(request)
    pair.accept(pair.pay(name, 1_000))
    pair.mine_to(pair.terms(name).refund_lock_time.value)
    pair.refund(name)
    pair.chain.mine(1)
    assert pair.status(name) == ("refunded", "refunded")
    assert balance_sat(pair.payer, pair.chain) == CAPACITY + 338 - 276


def test_coins_of_both_kinds_in_one_funding(pair: External) -> None:
    """Two wallets of Core sign one transaction, one after the other, as CoinJoin-like tools and co-signers do."""
    core: Node = pair.chain.node
    coins = [core.call("listunspent", 1, wallet=kind)[0] for kind in ("bech32", "bech32m")]
    inputs = [{"txid": coin["txid"], "vout": coin["vout"]} for coin in coins]
    plan = pair.plan()
    change = core.call("getnewaddress", "", "bech32", wallet="bech32")
    rest = sum(coin["amount"] for coin in coins) - Decimal(plan.amount_btc) - Decimal("0.00002")
    text = core.call("createpsbt", inputs, [{change: str(rest)}, {plan.address: plan.amount_btc}])
    for kind in ("bech32", "bech32m"):
        text = processed(pair, kind, text, finalize=False)
    request = pair.take(message(text))
    result = pair.fund(pair.sign_refund(request.hex), signed=message(text))
    assert result.hex == finished(pair, text)
    pair.chain.mine(1)
    assert pair.status(name_of(request)) == ("open", "open")


@pytest.mark.parametrize("kind", ["legacy", "p2sh-segwit"])
def test_wallets_of_the_old_kinds_are_refused(pair: External, kind: str) -> None:
    """As PSBT, as signed PSBT and as raw transaction; what has a scriptSig is refused for that."""
    unsigned = funded(pair, kind)
    before = pair.files()
    assert refused(lambda: pair.take(message(unsigned))) == ("not-native-segwit", 4)
    signed = processed(pair, kind, unsigned, finalize=True)
    assert refused(lambda: pair.take(message(signed))) == ("script-sig", 4)
    assert refused(lambda: pair.take(message(finished(pair, signed)))) == ("script-sig", 4)
    assert pair.files() == before


@pytest.mark.parametrize("sighash", ["ALL|ANYONECANPAY", "NONE", "SINGLE", "SINGLE|ANYONECANPAY"])
def test_core_signs_with_another_sighash_type(pair: External, sighash: str) -> None:
    core: Node = pair.chain.node
    unsigned = funded(pair, "bech32")
    request = pair.take(message(unsigned))
    reply = pair.sign_refund(request.hex)
    for finalize in (False, True):
        made = core.call("walletprocesspsbt", unsigned, True, sighash, True, finalize, wallet="bech32")
        signed = made["psbt"]
        assert refused(lambda given=signed: pair.fund(reply, signed=message(given))) == ("sighash-type", 4)  # type: ignore[misc]


# what must not be done ----------------------------------------------------------------------------


def open_in_mempool(pair: External, kind: str, **options: Any) -> str:
    """A channel whose funding Core has signed, and that waits for a block; its name."""
    unsigned = funded(pair, kind, **options)
    request = pair.take(message(unsigned))
    assert slugs_of(request) == ["signals-replacement"]
    signed = message(processed(pair, kind, unsigned, finalize=True))
    pair.fund(pair.sign_refund(request.hex), signed=signed)
    return name_of(request)


@NATIVE
@pytest.mark.parametrize("how", ["bumpfee", "psbtbumpfee"])
def test_core_bumps_the_fee_of_the_funding(pair: External, kind: str, how: str) -> None:
    """Core replaces it with one click: the refund is void, and that is said at every turn."""
    core: Node = pair.chain.node
    name = open_in_mempool(pair, kind)
    funding = pair.payer_record(name).terms.outpoint.txid
    assert slugs_of(views.show(pair.payer, pair.chain, name)) == ["signals-replacement"]
    if how == "bumpfee":
        replacement = core.call("bumpfee", str(funding), wallet=kind)["txid"]
    else:
        made = core.call("psbtbumpfee", str(funding), wallet=kind)["psbt"]
        replacement = core.call(
            "sendrawtransaction", finished(pair, processed(pair, kind, made, finalize=True))
        )
    [warning] = views.show(pair.payer, pair.chain, name).warnings
    assert warning.startswith("funding-conflict: ")
    assert replacement in warning
    assert f"depends on the payee alone until `mpchan payer open --again {replacement}:" in warning
    for step in (
        lambda: pair.pay(name, 1_000),
        lambda: pair.settlement(name),
        lambda: pair.refund(name),
        lambda: payer.abandon(pair.payer, pair.chain, name),
    ):
        assert refused(step) == ("funding-conflict", 6)
    pair.chain.mine(1)
    assert slugs_of(views.show(pair.payer, pair.chain, name)) == ["funding-void"]
    for step in (lambda: pair.pay(name, 1_000), lambda: pair.settlement(name), lambda: pair.refund(name)):
        assert refused(step) == ("funding-void", 5)
    assert payer.abandon(pair.payer, pair.chain, name).status == "abandoned"


@pytest.mark.parametrize("ending", ["settled", "refunded"])
def test_71_core_has_bumped_the_fee_and_the_money_comes_back(pair: External, ending: str) -> None:
    """The way that is named is gone: another refund, for the replacement, and a channel or the money."""
    core: Node = pair.chain.node
    name = open_in_mempool(pair, "bech32m")
    core.call("bumpfee", str(pair.payer_record(name).terms.outpoint.txid), wallet="bech32m")
    pair.chain.mine(1)
    [warning] = views.show(pair.payer, pair.chain, name).warnings
    [named] = re.findall(r"--again ([0-9a-f]{64}:\d+)`", warning)
    request = open_again(pair.payer, pair.chain, OutPoint.parse(named))
    pair.fund(pair.sign_refund(request.hex))
    again = name_of(request)
    assert pair.status(again) == ("open", "open")
    assert pair.status(name) == ("abandoned", "abandoned")
    if ending == "settled":
        pair.accept(pair.pay(again, 1_000))
        pair.settle(pair.settlement(again, 2_000))
    else:
        pair.mine_to(request.refund_lock_time)
        pair.refund(again)
    pair.chain.mine(1)
    end = "closed" if ending == "settled" else "refunded"
    assert pair.status(again) == (end, end)


def test_71_core_pays_twice_and_an_amount_of_its_own(pair: External) -> None:
    """The channel goes on; what the send button paid besides, another sum at that, is refunded after its end."""
    core: Node = pair.chain.node
    name = open_in_mempool(pair, "bech32")
    pair.chain.mine(1)
    pair.accept(pair.pay(name, 1_000))
    address = pair.plan().address
    txid = core.call("sendtoaddress", address, "0.02", wallet="bech32")
    pair.chain.mine(1)
    paid = core.call("gettransaction", txid, wallet="bech32")["details"]
    [vout] = [detail["vout"] for detail in paid if detail["address"] == address]
    outpoint = OutPoint.parse(f"{txid}:{vout}")
    assert refused(lambda: open_again(pair.payer, pair.chain, outpoint)) == ("offer-used", 5)
    pair.settle(pair.settlement(name))
    pair.chain.mine(1)
    request = open_again(pair.payer, pair.chain, outpoint)
    pair.fund(pair.sign_refund(request.hex))
    pair.mine_to(request.refund_lock_time)
    assert pair.refund(name_of(request)).broadcast
    pair.chain.mine(1)
    assert views.show(pair.payer, pair.chain, name_of(request)).status == "refunded"


@NATIVE
def test_core_broadcasts_too_early(pair: External, kind: str) -> None:
    unsigned = funded(pair, kind)
    request = pair.take(message(unsigned))
    name = name_of(request)
    raw = finished(pair, processed(pair, kind, unsigned, finalize=True))
    pair.chain.node.call("sendrawtransaction", raw)
    assert slugs_of(views.show(pair.payer, pair.chain, name)) == ["funding-early"]
    assert views.show(pair.payer, pair.chain, name).status == "opening"
    assert refused(lambda: payer.abandon(pair.payer, pair.chain, name)) == ("funding-early", 5)
    pair.chain.mine(3)
    assert slugs_of(views.show(pair.payer, pair.chain, name)) == ["funding-early"]
    result = pair.fund(pair.sign_refund(request.hex))
    assert Transaction.from_hex(result.hex) == Transaction.from_hex(raw)
    assert pair.status(name) == ("open", "open")
    assert slugs_of(views.show(pair.payer, pair.chain, name)) == []


def test_core_pays_the_address_at_once(pair: External) -> None:
    """The mistake that is made most: the wallet's send button. Even legacy coins can still get their refund."""
    core: Node = pair.chain.node
    plan = pair.plan()
    txid = core.call("sendtoaddress", plan.address, plan.amount_btc, wallet="legacy")
    raw = core.call("gettransaction", txid, wallet="legacy")["hex"]
    assert refused(lambda: pair.take(message(raw))) == ("script-sig", 4)  # it can still change
    pair.chain.mine(2)
    request = pair.take(message(raw))
    assert slugs_of(request) == ["funding-early"]
    pair.fund(pair.sign_refund(request.hex))
    name = name_of(request)
    assert pair.status(name) == ("open", "open")
    pair.mine_to(pair.terms(name).refund_lock_time.value)
    pair.refund(name)
    pair.chain.mine(1)
    assert pair.status(name) == ("refunded", "refunded")


def test_a_stuck_funding_is_helped_by_its_change_in_this_wallet(pair: External) -> None:
    """Core made the funding and sends the change here, as the advice says; the funding itself stays as it is."""
    change = views.fresh_address(pair.payer).address
    name = open_in_mempool(pair, "bech32", change_type=None, changeAddress=change)
    funding = pair.payer_record(name).terms.outpoint.txid
    result = bump(pair.payer, pair.chain, name, FeeRate(20_000))
    assert (result.kind, result.txid, result.broadcast) == ("funding", str(funding), True)
    entry = pair.chain.node.call("getmempoolentry", result.child_txid)
    assert entry["depends"] == [str(funding)]
    pair.chain.mine(1)
    assert pair.status(name) == ("open", "open")
    pair.settle(pair.settlement(name, 1_000))


def test_71_a_change_in_cores_wallet_is_cores_to_spend(pair: External) -> None:
    name = open_in_mempool(pair, "bech32m")
    assert refused(lambda: bump(pair.payer, pair.chain, name, FeeRate(20_000))) == ("no-own-output", 5)
    pair.chain.mine(1)


# descriptors --------------------------------------------------------------------------------------


def test_core_understands_the_descriptor_of_a_plan(pair: External) -> None:
    core: Node = pair.chain.node
    plan = pair.plan()
    told = core.call("getdescriptorinfo", plan.descriptor.partition("#")[0])
    assert told["descriptor"] == plan.descriptor
    assert (told["issolvable"], told["isrange"]) == (True, False)
    assert core.call("deriveaddresses", plan.descriptor) == [plan.address]


def test_core_imports_what_show_prints_and_finds_the_funding(pair: External) -> None:
    """Before and after the funding, and in either party's wallet."""
    core: Node = pair.chain.node
    name = open_in_mempool(pair, "bech32")
    pair.chain.mine(1)
    for wallet, watcher in ((pair.payer, "watch-payer"), (pair.payee, "watch-payee")):
        requests = views.descriptors(wallet, pair.chain, name).descriptors
        core.call("createwallet", watcher, True, True)
        results = core.call("importdescriptors", [request.to_dict() for request in requests], wallet=watcher)
        assert [result["success"] for result in results] == [True]
        [coin] = core.call("listunspent", wallet=watcher)
        terms = pair.terms(name)
        assert (coin["txid"], coin["vout"]) == (str(terms.outpoint.txid), terms.outpoint.vout)
        assert (int(coin["amount"] * 10**8), coin["label"]) == (
            CAPACITY + 338,
            f"mpchan {terms.channel_id}",
        )
        assert coin["witnessScript"] == witness_script(terms).hex()
