"""``mpchan regtest …``: the embedded chain. No wallet is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mpchan.bitcoin.network import REGTEST
from mpchan.cli import options
from mpchan.cli.app import App, check_address
from mpchan.cli.files import DONE
from mpchan.cli.input.numbers import AMOUNT, WholeNumber
from mpchan.results.wallets import ChainState, PlayMoney
from mpchan.units import Amount

if TYPE_CHECKING:
    from mpchan.chain.embedded import EmbeddedChain


def _chain() -> EmbeddedChain:
    from mpchan.chain import regtest_directory
    from mpchan.chain.embedded import EmbeddedChain

    return EmbeddedChain(regtest_directory())


def _state(chain: EmbeddedChain) -> ChainState:
    tip = chain.tip()
    mempool = tuple(str(txid) for txid in chain.mempool())
    return ChainState(tip.height, chain.tip_hash(), tip.median_time, mempool)


def _words(view: ChainState) -> str:
    waiting = view.mempool
    lines = [f"height {view.height}, median time {view.median_time}, tip {view.tip}"]
    lines += [f"in the mempool: {txid}" for txid in waiting]
    return "\n".join(lines)


@options.command("mpchan regtest mine 6")
@click.argument("count", metavar="N", type=WholeNumber(1, 100_000))
def mine(app: App, count: int) -> None:
    """Mine N blocks; the first takes what is in the mempool."""
    chain = _chain()
    chain.mine(count)
    app.report(_state(chain), _words, DONE)


@options.command('mpchan regtest faucet "$(mpchan address)" 1btc', "mpchan regtest mine 1")
@click.argument("address")
@click.argument("amount", type=AMOUNT)
def faucet(app: App, address: str, amount: Amount) -> None:
    """Send play money to ADDRESS. It is in the mempool until the next block."""
    txid = _chain().faucet(check_address(address, REGTEST), amount)
    app.report(
        PlayMoney(str(txid)),
        lambda view: f"sent {amount} in {view.txid}; `mpchan regtest mine 1` confirms it",
        DONE,
    )


@options.command("mpchan regtest status")
def status(app: App) -> None:
    """Height, tip, median time and mempool."""
    app.answer(_state(_chain()), _words)
