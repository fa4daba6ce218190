"""What has been paid to scripts, found without any index of the node: in the blocks since each was told to somebody.

One look at a block serves all scripts. How far the look has come, and what it has found, is noted in one small file; a
missing or damaged one costs time and nothing else. Where blocks were replaced since, the look goes back to the fork.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mpchan.bitcoin.block import block_transactions
from mpchan.bitcoin.tx import TxOut
from mpchan.chain.base import Coin
from mpchan.chain.bitcoind.notes import Block
from mpchan.chain.bitcoind.spends import Spends
from mpchan.chain.steady import moved
from mpchan.durability import make_directory, rewrite
from mpchan.errors import ParseError
from mpchan.units import Amount, OutPoint
from mpchan.values import frozen

_BLOCKS_PER_NOTE = 100
_FEW = 50
"""So many scripts are looked for in a block's bytes faster than its transactions are read."""
_MOST = 2_000
_UNREADABLE = (OSError, ParseError, ValueError, TypeError, KeyError, RecursionError)


@frozen
class _Paid:
    """One output, and the height of its block."""

    outpoint: OutPoint
    value: Amount
    height: int


@frozen
class _Look:
    """How far the blocks were looked through for a script: up to ``front``, and what was found."""

    front: Block
    found: tuple[_Paid, ...] = ()


class Payments:
    """The search. Methods raise as those of ``Spends``.

    Args:
        path: of the file of notes; None keeps them in memory.
    """

    def __init__(self, spends: Spends, path: Path | None) -> None:
        self._spends = spends
        self._path = path
        self._looks: dict[bytes, _Look] | None = None

    def find(self, scripts: Mapping[bytes, int], tip: Block) -> list[Coin]:
        """The outputs that blocks up to ``tip`` pay to these scripts, spent or not, in outpoint order.

        Args:
            scripts: each with the height of a block up to which nothing was paid to it.
        """
        looks = self._begun(scripts, tip)
        try:
            self._go_on(looks, tip)
        finally:  # also when it is interrupted: the next search goes on from here
            self._note(looks)
        coins = [
            Coin(paid.outpoint, TxOut(paid.value, script), tip.height - paid.height + 1)
            for script, look in looks.items()
            for paid in look.found
        ]
        return sorted(coins, key=lambda coin: coin.outpoint)

    def _begun(self, scripts: Mapping[bytes, int], tip: Block) -> dict[bytes, _Look]:
        """What is known of each, without the blocks that are no longer of the chain."""
        if self._looks is None:
            self._looks = self._read()
        fronts = {look.front for script, look in self._looks.items() if script in scripts}
        firsts = {front: self._spends.first_after(front) for front in fronts}
        looks = {}
        for script, since in scripts.items():
            known = self._looks.get(script)
            first = None if known is None else firsts[known.front]
            if known is None or first is None:
                looks[script] = _Look(self._spends.block_at(min(since, tip.height)))
            elif first > known.front.height:
                looks[script] = known
            else:
                kept = tuple(paid for paid in known.found if paid.height < first)
                looks[script] = _Look(self._spends.block_at(first - 1), kept)
        return looks

    def _go_on(self, looks: dict[bytes, _Look], tip: Block) -> None:
        """Look through what is missing, each block for all scripts that have come as far."""
        front = min((look.front for look in looks.values()), key=lambda block: block.height, default=tip)
        while front.height < tip.height:
            wanted = {script for script, look in looks.items() if look.front.height <= front.height}
            said = "may hold a payment to the address of an opening"
            front, found = self._spends.after(front, said, lambda raw, wanted=wanted: _paying(raw, wanted))  # type: ignore[misc]
            for script in wanted:
                paid = tuple(_Paid(*each, front.height) for each in found.get(script, ()))
                looks[script] = _Look(front, (*looks[script].found, *paid))
            if front.height % _BLOCKS_PER_NOTE == 0:
                self._note(looks)
        if front != tip:
            raise moved()

    # the file -------------------------------------------------------------------------------------

    def _note(self, looks: Mapping[bytes, _Look]) -> None:
        """Keep what is known of these scripts, and what another process may have written of others since."""
        known = self._read() if self._path is not None else self._looks or {}
        self._looks = _newest({**known, **looks})
        if self._path is None or self._looks == known:
            return
        body = _canonical({script.hex(): _to_json(look) for script, look in self._looks.items()})
        # not durable, on purpose: after a crash the old notes, or none, do as well
        with suppress(OSError):
            make_directory(self._path.parent)
            text = f'{{"checksum":"{_checksum(body)}","payments":{body}}}\n'
            rewrite(self._path, text.encode(), synced=False)

    def _read(self) -> dict[bytes, _Look]:
        if self._path is None:
            return {}
        try:
            envelope = json.loads(self._path.read_bytes())
            if envelope["checksum"] != _checksum(_canonical(envelope["payments"])):
                return {}
            return {bytes.fromhex(script): _from_json(look) for script, look in envelope["payments"].items()}
        except _UNREADABLE:
            return {}


def _paying(raw: bytes, scripts: Collection[bytes]) -> dict[bytes, list[tuple[OutPoint, Amount]]]:
    """The outputs of a raw block that pay to any of these scripts."""
    if len(scripts) <= _FEW and not any(script in raw for script in scripts):
        return {}  # nearly all blocks: there is no need to read their transactions one by one
    found: dict[bytes, list[tuple[OutPoint, Amount]]] = {}
    for transaction in block_transactions(raw):
        for vout, output in enumerate(transaction.outputs):
            if output.script_pubkey in scripts:
                place = OutPoint(transaction.txid, vout)
                found.setdefault(output.script_pubkey, []).append((place, output.value))
    return found


def _newest(looks: dict[bytes, _Look]) -> dict[bytes, _Look]:
    """At most ``_MOST`` of them: those that were asked about last."""
    if len(looks) <= _MOST:
        return looks
    return dict(sorted(looks.items(), key=lambda item: item[1].front.height)[-_MOST:])


def _canonical(body: object) -> str:
    return json.dumps(body, sort_keys=True, separators=(",", ":"))


def _checksum(canonical: str) -> str:
    return hashlib.sha256(canonical.encode()).hexdigest()


def _to_json(look: _Look) -> dict[str, object]:
    found = [[str(paid.outpoint), paid.value.sat, paid.height] for paid in look.found]
    return {"front": [look.front.height, look.front.hash], "found": found}


def _from_json(body: dict[str, Any]) -> _Look:
    found = [_Paid(OutPoint.parse(outpoint), Amount(value), at) for outpoint, value, at in body["found"]]
    return _Look(Block(*body["front"]), tuple(found))
