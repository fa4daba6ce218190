"""The coins of scripts: by a search of the node's unspent outputs, and of its mempool."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence

from mpchan.chain.answer import Answer, Failure
from mpchan.chain.base import COINBASE_MATURITY, Coin
from mpchan.chain.bitcoind.rpc import Rpc, spenders
from mpchan.chain.bitcoind.spends import OUT_OF_RANGE
from mpchan.chain.steady import moved
from mpchan.errors import ChainError
from mpchan.units import OutPoint, Txid

SCAN_SECONDS = 900.0
"""A search of all unspent outputs takes a slow machine minutes on mainnet."""

_TRANSACTIONS_AT_ONCE = 500
_PAUSE_SECONDS = 0.1
_HEAD_DIGITS = 4  # of a script: its version and the length of what follows


def coins_of(rpc: Rpc, scripts: Collection[bytes]) -> list[Coin]:
    """The outputs of these scripts that neither chain nor mempool spends, in outpoint order.

    Raises:
        ChainError: ``node-busy`` where another search does not end, ``chain-moving``, and as ``Rpc``.
    """
    wanted = sorted(set(scripts))
    if not wanted:
        return []
    scan = _scan(rpc, [f"raw({script.hex()})" for script in wanted])
    known = frozenset(wanted)
    coins = [_confirmed(item, scan["height"].height(), known) for item in scan["unspents"].items()]
    coins += _unconfirmed(rpc, wanted)
    answers = spenders(rpc, [coin.outpoint for coin in coins])
    spent = {outpoint for outpoint, answer in answers if "spendingtxid" in answer}
    if rpc.call("getbestblockhash").block_hash() != scan["bestblock"].block_hash():
        raise moved()
    return sorted((coin for coin in coins if coin.outpoint not in spent), key=lambda coin: coin.outpoint)


def used_scripts_of(rpc: Rpc, scripts: Collection[bytes]) -> set[bytes]:
    """Those of these scripts that an unspent output, or an output of a mempool transaction, pays to."""
    wanted = sorted(set(scripts))
    if not wanted:
        return set()
    # the mempool first: what a block takes out of it meanwhile is found a second time, and nothing is missed
    unconfirmed = _unconfirmed(rpc, wanted)
    scan = _scan(rpc, [f"raw({script.hex()})" for script in wanted])
    known = frozenset(wanted)
    confirmed = [_confirmed(item, scan["height"].height(), known) for item in scan["unspents"].items()]
    return {coin.output.script_pubkey for coin in (*unconfirmed, *confirmed)}


def _scan(rpc: Rpc, descriptors: list[str]) -> Answer:
    """``scantxoutset``, of which a node does one at a time."""
    limit = time.monotonic() + SCAN_SECONDS
    while True:
        reply = rpc.attempt("scantxoutset", "start", descriptors, seconds=SCAN_SECONDS)
        if not isinstance(reply, Failure):
            break
        if reply.code != OUT_OF_RANGE:  # the same number says that a scan is in progress
            raise rpc.refused("scantxoutset", reply)
        if time.monotonic() >= limit:
            raise ChainError(
                "node-busy",
                f"the node at {rpc.endpoint} is busy with another search for coins",
                hint="end it with `bitcoin-cli scantxoutset abort`",
            )
        time.sleep(_PAUSE_SECONDS)
    if not reply["success"].flag():
        raise ChainError("node-busy", "the node broke off the search for coins", hint="try again")
    return reply


def _confirmed(item: Answer, tip_height: int, scripts: Collection[bytes]) -> Coin:
    output = item.output("amount", "scriptPubKey")
    if output.script_pubkey not in scripts:
        raise item.malformed("a coin of the wallet")
    confirmations = tip_height - item["height"].integer(0, tip_height) + 1
    mature = not item["coinbase"].flag() or confirmations > COINBASE_MATURITY
    return Coin(item.outpoint(), output, confirmations, mature)


class Needles:
    """Words that are looked for in long texts: those of one length that begin alike are looked for together."""

    def __init__(self, words: Iterable[str]) -> None:
        self._by_head: dict[tuple[str, int], set[str]] = {}
        for word in words:
            self._by_head.setdefault((word[:_HEAD_DIGITS], len(word)), set()).add(word)

    def stand_in(self, text: str) -> bool:
        """Whether one of them stands in the text."""
        for (head, length), words in self._by_head.items():
            at = text.find(head)
            while at >= 0:
                if text[at : at + length] in words:
                    return True
                at = text.find(head, at + 1)
        return False


def _unconfirmed(rpc: Rpc, scripts: Sequence[bytes]) -> list[Coin]:
    """The outputs of these scripts that mempool transactions make, spent ones too."""
    needles, known = Needles(script.hex() for script in scripts), frozenset(scripts)
    txids = [item.txid() for item in rpc.call("getrawmempool").items()]
    coins = []
    for start in range(0, len(txids), _TRANSACTIONS_AT_ONCE):
        part = txids[start : start + _TRANSACTIONS_AT_ONCE]
        replies = rpc.found_all("getrawtransaction", [[str(txid)] for txid in part])
        for txid, reply in zip(part, replies, strict=True):
            if reply is None:
                continue  # it has left the mempool; had it gone into a block, the tip would be another one
            text = reply.text()
            if needles.stand_in(text):
                coins += _outputs(reply, txid, known)
    return coins


def _outputs(reply: Answer, txid: Txid, scripts: Collection[bytes]) -> list[Coin]:
    return [
        Coin(OutPoint(txid, vout), output, 0)
        for vout, output in enumerate(reply.transaction(txid).outputs)
        if output.script_pubkey in scripts
    ]
