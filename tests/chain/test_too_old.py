"""A node that knows no transactions of version 3: nothing is begun with it, and what is held goes out as before.

A go-between alters the version that a real node tells.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.chain.bitcoind import fresh_script, spend
from support.chain.electrum_server import ElectrumServer
from support.chain.faulty import Faulty, body, faulty, through
from support.chain.grounds import NodeGround, Traders
from support.chain.lying import Refuse, lying
from support.chain.node import Node, needs_node
from support.chain.story import (
    BUYER,
    CLAIMING,
    EXTERNAL,
    FUNDING,
    OFFER,
    OPENING,
    PAYING,
    REFUNDING,
    SELLER,
    external,
    ripen,
)

from mpchan.chain.bitcoind.endpoint import Credentials
from mpchan.channel.offer import Offer
from mpchan.errors import ChainError
from mpchan.market.hashing import hash_file
from mpchan.party.offers.selling import published_offer
from mpchan.sale.manifest import Sale
from mpchan.units import Amount
from mpchan.values import replace
from mpchan.wallet.wallet import Wallet

pytestmark = needs_node

TOO_OLD, NEW_ENOUGH = 27_01_00, 28_00_00


class Aged(NodeGround):
    """A node behind a go-between."""

    def __init__(self, node: Node, server: Faulty) -> None:
        super().__init__(node)
        self.server = server
        self.init = f"--chain bitcoind --rpc-url http://127.0.0.1:{server.port} --rpc-cookie {node.cookie}"

    def is_of(self, version: int) -> None:
        """From here on the node says that it is of this version."""

        def change(data: bytes) -> bytes:
            return (
                re.sub(rb'"version":\d+', b'"version":%d' % version, data)
                if b'"subversion"' in data
                else data
            )

        self.server.set(body(change))


@pytest.fixture
def aged(node: Node) -> Iterator[Aged]:
    with faulty(node) as server:
        yield Aged(node, server)


@pytest.fixture
def traders(aged: Aged, tmp_path: Path) -> Traders:
    shell = Traders(tmp_path / "folder", aged, in_process=True)
    shell.init()
    return shell


@pytest.fixture
def version_3(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever offer is made, its transactions are of version 3."""
    monkeypatch.setattr(Offer, "transaction_version", property(lambda self: 3))


@pytest.mark.usefixtures("version_3")
def test_nothing_is_begun(aged: Aged, traders: Traders) -> None:
    """Each step is refused, and the very same one passes with a node that is new enough."""
    for command in (OFFER, *OPENING, FUNDING[0]):
        aged.is_of(TOO_OLD)
        error = traders.fails(command, 8, "node-too-old")
        assert "Bitcoin Core 27.1, too old for transactions of version 3" in error["message"]
        assert error["hint"] == "Bitcoin Core 28 and newer relay it"
        aged.is_of(NEW_ENOUGH)
        traders.ok(command)


@pytest.mark.usefixtures("version_3")
def test_no_funding_of_another_wallet(aged: Aged, traders: Traders) -> None:
    traders.ok(OFFER)
    aged.is_of(TOO_OLD)
    traders.fails(f"{BUYER} payer open offer.toml 100000 --external", 8, "node-too-old")
    aged.is_of(NEW_ENOUGH)
    external(traders)
    for command in EXTERNAL:
        aged.is_of(TOO_OLD)
        traders.fails(command, 8, "node-too-old")
        aged.is_of(NEW_ENOUGH)
        traders.ok(command)


@pytest.mark.usefixtures("version_3")
@pytest.mark.parametrize("ending", ["update", "refund"])
def test_what_was_begun_goes_on(aged: Aged, traders: Traders, ending: str) -> None:
    """Watching, paying and closing ask nothing of the kind; also a refund that is asked for again is signed again."""
    for command in (OFFER, *OPENING, *FUNDING):
        traders.ok(command)
    aged.is_of(TOO_OLD)
    traders.ground.mine()
    traders.ok(OPENING[1])
    traders.ok(FUNDING[0])
    for command in PAYING:
        traders.ok(command)
    ripen(traders, ending)
    assert traders.run(f"{SELLER if ending == 'update' else BUYER} watch --once").code in (0, 5)
    for command in CLAIMING if ending == "update" else REFUNDING:
        traders.ok(command)


def test_channels_of_old_offers_need_no_newer_node(
    aged: Aged, traders: Traders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their transactions are of version 2, which every node relays."""
    monkeypatch.setattr(Offer, "transaction_version", property(lambda self: 2))
    aged.is_of(TOO_OLD)
    for command in (OFFER, *OPENING, *FUNDING):
        traders.ok(command)


@pytest.mark.usefixtures("version_3")
def test_a_sale(aged: Aged, traders: Traders) -> None:
    """Neither put on sale nor bought."""
    film = traders.folder / "film"
    film.write_bytes(bytes(range(256)) * 40)
    (traders.folder / "box" / "to-payee").mkdir(parents=True)
    aged.is_of(TOO_OLD)
    sell = (
        f"{SELLER} payee sell film --price-per-piece 1000 --pieces 5 --mailbox box --fee-rate 2 -o sale.toml"
    )
    traders.fails(sell, 8, "node-too-old")
    aged.is_of(NEW_ENOUGH)
    wallet = Wallet.open(traders.folder / "seller")
    hashes = hash_file(film, 2048)
    sale = Sale("film", film.stat().st_size, 2048, Amount(1000), 0, hashes.hashes)
    with aged.node.chain() as chain:
        own, _ = published_offer(wallet, chain, {"fee_rate_sat_per_kvb": 2000}, sale)
    (traders.folder / "sale.toml").write_text(own.offer.to_toml())
    aged.is_of(TOO_OLD)
    traders.fails(sell, 8, "node-too-old")
    traders.fails(f"{BUYER} payer buy sale.toml --mailbox box -o copy", 8, "node-too-old")


# an Electrum server -------------------------------------------------------------------------------


def test_a_servers_node_says_it_when_it_refuses(electrum: ElectrumServer) -> None:
    """The next server may have a newer one; where none has, the refusal is named for what it is."""
    funding = electrum.node.pay(fresh_script(), 50_000)
    electrum.node.mine()
    electrum.settle()
    close = replace(spend(funding, 40_000), version=3)

    def refuse(parameters: list[str]) -> None:
        raise Refuse(f"the transaction was rejected by network rules.\n\nversion\n[{parameters[0]}]")

    with lying(electrum.port) as liar:
        liar.swallowed["blockchain.transaction.broadcast"] = refuse
        with liar.chain() as chain:
            chain.require_version(3)  # it cannot be asked
            with pytest.raises(ChainError) as caught:
                chain.broadcast(close)
            assert (caught.value.slug, caught.value.exit_code) == ("node-too-old", 8)
            assert caught.value.hint == "Bitcoin Core 28 and newer relay it"
            with pytest.raises(ChainError) as caught:
                chain.broadcast(replace(close, version=2))
            assert caught.value.slug == "rejected", "version 2 is known to all"
        assert str(close.txid) not in electrum.node.call("getrawmempool")
        with liar.chain(electrum.name) as chain:
            chain.broadcast(close)
    assert str(close.txid) in electrum.node.call("getrawmempool")


def test_a_refusal_by_a_node(node: Node) -> None:
    """As Bitcoin Core before 28 words it."""
    funding = node.pay(fresh_script(), 50_000)
    node.mine()
    close = replace(spend(funding, 40_000), version=3)

    def change(data: bytes) -> bytes:
        return data.replace(b'"allowed":true', b'"allowed":false,"reject-reason":"version"')

    with faulty(node) as server:
        server.set(body(change))
        with through(server, Credentials(node.cookie)) as chain, pytest.raises(ChainError) as caught:
            chain.broadcast(close)
    assert caught.value.slug == "node-too-old"
