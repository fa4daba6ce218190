"""What a server shows of a funding's spend, or hides: rubbish counts for nothing, and one server's silence neither."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.chain.electrum_server import ElectrumServer, eventually
from support.chain.faulty import body, faulty
from support.chain.grounds import COIN, ElectrumGround, NodeGround, Traders
from support.chain.lying import Liar, Refuse, lying
from support.chain.node import Node, needs_node
from support.chain.story import BUYER, CLAIMING, FUNDING, OFFER, OPENING, PAYING, REFUNDING, SELLER, ripen
from support.protocol import complete, scheme_of

from mpchan.bitcoin.network import REGTEST
from mpchan.bitcoin.script import sha256
from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.chain import lag
from mpchan.channel import payee, payer
from mpchan.units import Amount
from mpchan.values import replace
from mpchan.wallet.wallet import Wallet

HISTORY, GET = "blockchain.scripthash.get_history", "blockchain.transaction.get"


class Scene:
    """Two wallets whose first server lies, in a channel that is open and was paid in.

    Args:
        alone: whether the one that lies is the only one that is asked.
        paid: whether something is paid in it yet.
    """

    def __init__(
        self, folder: Path, electrum: ElectrumServer, liar: Liar, *, alone: bool, paid: bool = True
    ) -> None:
        ground = ElectrumGround(electrum)
        others = "" if alone else f" --electrum {electrum.name}"
        ground.init = f"--chain electrum --electrum {liar.name}{others}"
        self.electrum, self.liar, self.ground = electrum, liar, ground
        self.shell = Traders(folder, ground, in_process=True)
        self.shell.init()
        self.run(OFFER, *OPENING, *FUNDING)
        self.mine(1)
        if paid:
            self.run(*PAYING)

    def run(self, *commands: str) -> None:
        """Commands that work."""
        for command in commands:
            self.shell.ok(command)

    def mine(self, count: int) -> None:
        self.ground.mine(count)
        self.ground.settle_down()

    def record(self, who: str) -> Any:
        """The channel as one of the wallets keeps it."""
        wallet = Wallet.open(self.shell.folder / who)
        return wallet.channels.load(wallet.channels.names()[0])

    def shown(self) -> tuple[str, str]:
        return self.shell.statuses()

    def watched(self, who: str) -> tuple[int, dict[str, Any]]:
        """One round of a watcher: its exit code and what it says of the channel."""
        done = self.shell.run(f"mpchan --wallet {who} watch --once --json")
        return done.code, json.loads(done.out.splitlines()[0])

    def show(self, *rubbish: Transaction, script: bytes | None = None) -> None:
        """From here on the liar's histories of the funding, or of another script, begin with these transactions."""
        script = self.record("buyer").terms.funding_txout.script_pubkey if script is None else script
        named, known = sha256(script)[::-1].hex(), {str(tx.txid): tx.to_hex() for tx in rubbish}

        def history(parameters: list[Any], true: list[Any]) -> list[Any]:
            extra = [{"tx_hash": txid, "height": 0, "fee": 500} for txid in known]
            told = [item for item in true if item["tx_hash"] not in known or item["height"] > 0]
            return [*extra, *told] if parameters == [named] else true

        def get(parameters: list[Any]) -> Any:
            if parameters[0] in known:
                return known[parameters[0]]
            try:
                return self.electrum.ask(GET, *parameters)
            except AssertionError:
                raise Refuse("missing transaction") from None

        self.liar.lies[HISTORY] = history
        self.liar.swallowed[GET] = get

    def hide(self, txid: str, *, confirmed: bool = False) -> None:
        """From here on the liar knows nothing of a transaction, or only nothing of its block."""

        def history(parameters: list[Any], true: list[Any]) -> list[Any]:
            if confirmed:
                return [{**item, "height": 0} if item["tx_hash"] == txid else item for item in true]
            return [item for item in true if item["tx_hash"] != txid]

        self.liar.lies[HISTORY] = history


@pytest.fixture
def liar(electrum: ElectrumServer) -> Iterator[Liar]:
    with lying(electrum.port) as server:
        yield server


@pytest.fixture
def alone(tmp_path: Path, electrum: ElectrumServer, liar: Liar) -> Scene:
    return Scene(tmp_path / "folder", electrum, liar, alone=True)


@pytest.fixture
def pair(tmp_path: Path, electrum: ElectrumServer, liar: Liar) -> Scene:
    return Scene(tmp_path / "folder", electrum, liar, alone=False)


# rubbish ------------------------------------------------------------------------------------------


def rubbish(scene: Scene) -> dict[str, Transaction]:
    """Spends of the funding that nobody could mine, and that a server can make up or get from the other party."""
    buyer, seller = scene.record("buyer"), scene.record("seller")
    terms = buyer.terms
    refund = payer.funded_of(buyer.state).refund
    best = payee.best_of(seller.state)
    assert best is not None
    settlement = scheme_of(terms).settlement(Amount(50_000))
    half = payee.payers_message(terms, best).inputs[0].partial_sigs[terms.payer_key.sec]
    stolen = replace(refund.without_witness(), outputs=(TxOut(Amount(90_000), b"\x00\x14" + bytes(20)),))
    bare = refund.inputs[0].witness
    return {
        "the refund, early": refund,
        "the refund without a witness": refund.without_witness(),
        "the refund with a witness of nothing": refund.with_witness(0, (b"", bytes(71), bytes(71), bare[3])),
        "a settlement with one side's signature twice": complete(terms, settlement, half, half),
        "a settlement with the refund's signatures": settlement.with_witness(0, bare),
        "a theft with the refund's signatures": replace(stolen, lock_time=0).with_witness(0, bare),
    }


def test_67_rubbish_is_as_if_nothing_were_shown(alone: Scene) -> None:
    """Neither party stops: payments go on, no alarm, and the close is accepted by everybody as what it is."""
    for number, transaction in enumerate(rubbish(alone).values()):
        alone.show(transaction)
        assert alone.shown() == ("open", "open")
        for who in ("buyer", "seller"):
            code, line = alone.watched(who)
            assert (code, line["action"], line["alarm"]) == (0, "wait", None)
        total = 5000 + number * 1000
        alone.run(f"{BUYER} pay --total {total} -o update.psbt --json", f"{SELLER} payee accept update.psbt")
    alone.show(*rubbish(alone).values())
    ripen(alone.shell, "update")
    alone.run(*CLAIMING)
    assert alone.shown() == ("settling", "settling"), "the true one stands behind the rubbish"
    alone.mine(1)
    assert alone.shown() == ("closed", "closed")


def test_67_rubbish_holds_up_no_refund(alone: Scene) -> None:
    """The payer, who would lose most, sends it; and so does its watcher."""
    ripen(alone.shell, "refund")
    refund = payer.funded_of(alone.record("buyer").state).refund
    alone.show(*(tx for name, tx in rubbish(alone).items() if name != "the refund, early"))
    code, line = alone.watched("buyer")
    assert (code, line["action"]) == (0, "refund")
    alone.run(*REFUNDING)
    assert str(refund.txid) in alone.ground.mempool()
    alone.show(*(tx for tx in rubbish(alone).values() if tx.txid != refund.txid))
    code, line = alone.watched("seller")  # the true one behind it counts
    assert line["alarm"] == "refund-seen"


def test_67_a_first_update_is_taken_beside_rubbish(
    tmp_path: Path, electrum: ElectrumServer, liar: Liar
) -> None:
    """Before the first update any spend of the funding is a reason to refuse, so none must be made up."""
    scene = Scene(tmp_path / "folder", electrum, liar, alone=True, paid=False)
    scene.show(payer.funded_of(scene.record("buyer").state).refund)
    scene.run(*PAYING)


def test_67_a_coin_of_the_funding_that_rubbish_spends(
    tmp_path: Path, electrum: ElectrumServer, liar: Liar
) -> None:
    """An opening is funded all the same, and a funding that is nowhere is sent again."""
    ground = ElectrumGround(electrum)
    ground.init = f"--chain electrum --electrum {liar.name}"
    shell = Traders(tmp_path / "other", ground, in_process=True)
    shell.init()
    for command in (OFFER, *OPENING):
        shell.ok(command)
    wallet = Wallet.open(tmp_path / "other" / "buyer")
    record: Any = wallet.channels.load(wallet.channels.names()[0])
    funding, spent = record.state.funding, record.state.spent
    thief = replace(funding, outputs=(TxOut(Amount(900_000), b"\x00\x14" + bytes(20)),))
    scene = object.__new__(Scene)
    scene.shell, scene.electrum, scene.liar = shell, electrum, liar
    scene.show(thief.with_witness(0, (bytes(72), bytes(33))), script=spent[0].script_pubkey)
    shell.ok(f"{FUNDING[0]} --no-broadcast")
    code, line = scene.watched("buyer")
    assert (code, line["alarm"]) == (0, None)
    shell.ok(FUNDING[0])
    assert str(funding.txid) in ground.mempool()


# what one server hides ----------------------------------------------------------------------------


def test_68_a_spend_that_one_server_hides(pair: Scene) -> None:
    """The other one shows it, waiting and in a block: the payer pays no more, and knows how it ended."""
    ripen(pair.shell, "update")
    close = pair.shell.json(CLAIMING[0])["txid"]
    pair.hide(close)
    assert pair.shown() == ("settling", "settling")
    pair.shell.fails(f"{BUYER} pay 1000 -o more.psbt", 5, "channel-settling")
    pair.mine(1)
    assert pair.shown() == ("closed", "closed")
    code, line = pair.watched("buyer")
    assert (code, line["status"]) == (0, "closed")


def test_68_a_refund_that_one_server_hides(pair: Scene) -> None:
    """The payee's watcher learns of it from the other one, and calls for help."""
    ripen(pair.shell, "refund")
    refund = pair.shell.json(REFUNDING[0])["txid"]
    pair.hide(refund)
    code, line = pair.watched("seller")
    assert line["alarm"] == "refund-seen"
    assert code >= 5


def test_68_servers_that_disagree_about_a_confirmation(pair: Scene) -> None:
    """One says that the close still waits; the other proves its block."""
    ripen(pair.shell, "update")
    close = pair.shell.json(CLAIMING[0])["txid"]
    pair.mine(1)
    pair.hide(close, confirmed=True)
    assert pair.shown() == ("closed", "closed")


def test_68_a_funding_that_one_server_hides(pair: Scene) -> None:
    funding = pair.shell.json(f"{BUYER} show")["funding"]
    pair.hide(funding["txid"])
    assert pair.shell.json(f"{BUYER} show")["funding"] == funding
    pair.hide(funding["txid"], confirmed=True)
    assert pair.shell.json(f"{BUYER} show")["funding"] == funding


def test_a_server_that_is_gone_holds_up_nothing(pair: Scene) -> None:
    """It fell silent after it was asked for its tip."""
    pair.electrum.settle()
    pair.liar.close()
    eventually(pair.shown, ("open", "open"))


# what all of them hold back -----------------------------------------------------------------------


def test_66_a_server_that_holds_back_blocks(alone: Scene) -> None:
    """The wallets have seen more: nothing is taken or paid on its word, and what is held is sent through it."""
    alone.run(f"{BUYER} settle --total 3000 -o settlement.psbt", f"{SELLER} payee accept settlement.psbt")
    known = alone.ground.tip().height
    alone.mine(1)
    alone.shown()  # both have seen the block, which is withheld from now on
    header = alone.electrum.ask("blockchain.block.header", known)
    alone.liar.lies["blockchain.headers.subscribe"] = lambda parameters, true: {
        "height": known,
        "hex": header,
    }
    alone.run(f"{SELLER} payee offer --fee-rate 2 -o offer-2.toml")
    error = alone.shell.fails(f"{BUYER} open offer-2.toml 50000 -o request-2.psbt", 8, "node-behind")
    assert f"stands at block {known}" in error["message"]
    done = alone.shell.run(f"{SELLER} watch --once --json")
    channel, end = map(json.loads, done.out.splitlines())
    assert (done.code, end["alarm"], channel["action"]) == (8, "node-behind", "settlement")
    assert channel["txid"] in alone.ground.mempool()
    del alone.liar.lies["blockchain.headers.subscribe"]
    assert alone.shell.run(f"{SELLER} watch --once").code == 0


def test_66_a_server_whose_last_block_is_of_long_ago(
    electrum: ElectrumServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where blocks come by the clock; a second server that has more would be asked in its place."""
    mainnets_clock = replace(REGTEST, coin_type=0)
    node = electrum.node
    clock = [
        node.call("getblockheader", node.call("getbestblockhash"))["time"]
    ]  # other tests move the chain's time
    monkeypatch.setattr(lag, "time", SimpleNamespace(time=lambda: clock[0]))
    with electrum.chain() as chain:
        now = chain.tip()
        chain._pool._network = mainnets_clock
        assert chain.tip() == now
        clock[0] += 8 * 3600
        late = chain.tip()
        assert late.lag is not None
        assert (late.height, late.median_time) == (now.height, now.median_time)
        assert electrum.name in late.lag.why
        assert late.of_network.height >= now.height + 42


# a node -------------------------------------------------------------------------------------------


@needs_node
def test_67_a_node_that_shows_another_witness_of_a_conflict(node: Node, tmp_path: Path) -> None:
    """What spends a coin that the funding needs is judged in the same way."""
    with faulty(node) as between:
        shell = Traders(tmp_path / "folder", NodeGround(node), in_process=True)
        options = f"--chain bitcoind --rpc-url http://127.0.0.1:{between.port} --rpc-cookie {node.cookie}"
        for wallet in ("buyer", "seller", "bank"):
            shell.ok(f"mpchan --wallet {wallet} init {options}")
        bank, elsewhere = "mpchan --wallet bank", shell.json(f"{SELLER} address")["address"]
        shell.ground.pay(shell.json(f"{bank} address")["address"], COIN)
        shell.ground.mine()
        shell.ok(OFFER)
        plan = shell.json(f"{BUYER} payer open offer.toml 100000 --external")
        sent = shell.json(f"{bank} send {plan['address']} {plan['amount_sat']} --no-broadcast -o funding.hex")
        shell.ok(f"{BUYER} payer open --funding funding.hex -o request.psbt")
        shell.ok(OPENING[1])
        shell.ok(f"{BUYER} payer fund signed.psbt --funding funding.hex --no-broadcast -o again.hex")
        shell.ok(f"{bank} send --forget {sent['txid']}")
        conflict = Transaction.from_hex(shell.json(f"{bank} send {elsewhere} --all")["hex"])
        [warning] = shell.json(f"{BUYER} show")["warnings"]
        assert warning.startswith("funding-conflict")
        good = conflict.inputs[0].witness[0].hex().encode()
        between.set(body(lambda data: data.replace(good, good[:-12] + b"00" + good[-10:])))
        assert "warnings" not in shell.json(f"{BUYER} show")


@needs_node
def test_67_a_node_that_shows_another_witness(node: Node, tmp_path: Path) -> None:
    """The same judgement for every backend: here something between us and our own node has bent a signature."""
    with faulty(node) as between:
        ground = NodeGround(node)
        ground.init = f"--chain bitcoind --rpc-url http://127.0.0.1:{between.port} --rpc-cookie {node.cookie}"
        shell = Traders(tmp_path / "folder", ground, in_process=True)
        shell.init()
        for command in (OFFER, *OPENING, *FUNDING):
            shell.ok(command)
        ground.mine()
        for command in PAYING:
            shell.ok(command)
        ripen(shell, "update")
        close = Transaction.from_hex(shell.json(CLAIMING[0])["hex"])
        assert shell.statuses() == ("settling", "settling")
        good = close.inputs[0].witness[1].hex().encode()
        between.set(body(lambda data: data.replace(good, good[:-12] + b"00" + good[-10:])))
        assert shell.statuses() == ("open", "settling"), "the payee knows what it has sent itself"
        between.set(None)
        ground.mine()
        assert shell.statuses() == ("closed", "closed")
