"""Finding the coins of a wallet that knows only its seed: the search by the gap limit of BIP-0044."""

from __future__ import annotations

from collections.abc import Collection

from mpchan.chain.base import Chain
from mpchan.party.holdings import total
from mpchan.results.coins import Scanned
from mpchan.wallet.keys import Keys
from mpchan.wallet.wallet import Wallet

GAP_LIMIT = 20
"""So many unused addresses in a row end the search (BIP-0044, "Address gap limit")."""

_AT_ONCE = 50
"""So many addresses of each kind are asked for together: a node looks through all its coins for each question."""

_KINDS = ("receive", "change")


def scan(wallet: Wallet, chain: Chain, gap_limit: int = GAP_LIMIT) -> Scanned:
    """``scan``: find the addresses that were used, and go on after the last of them.

    Addresses that this wallet has handed out itself leave no gap. The indexes are on disk when this returns.

    Raises:
        ChainError: out of reach; nothing has changed.
    """
    with wallet.lock():
        keys = wallet.fresh_keys()
        used = _used(keys, chain, gap_limit)
        ends = {kind: _end(used[kind], keys.next_index(kind), gap_limit) for kind in _KINDS}
        if any(ends[kind] > keys.next_index(kind) for kind in _KINDS):
            keys.advance(**ends)
        coins = chain.coins(keys.scripts())
    found = sum(index < ends[kind] for kind in _KINDS for index in used[kind])
    return Scanned(ends["receive"], ends["change"], found, total(coins).sat)


def _used(keys: Keys, chain: Chain, gap_limit: int) -> dict[str, set[int]]:
    """The indexes of used addresses, as far as has to be looked and some further."""
    used: dict[str, set[int]] = {kind: set() for kind in _KINDS}
    looked = dict.fromkeys(_KINDS, 0)
    while True:
        asked: dict[bytes, tuple[str, int]] = {}
        for kind in _KINDS:
            goal = _end(used[kind], keys.next_index(kind), gap_limit) + gap_limit
            if looked[kind] < goal:
                goal = max(goal, looked[kind] + _AT_ONCE)
                indexes = range(looked[kind], goal)
                asked.update({keys.script(kind, index): (kind, index) for index in indexes})
                looked[kind] = goal
        if not asked:
            return used
        for script in chain.used_scripts(asked):
            kind, index = asked[script]
            used[kind].add(index)


def _end(used: Collection[int], known: int, gap_limit: int) -> int:
    """The index after the last used address that is not beyond a gap.

    Args:
        known: so many were handed out.
    """
    end = known
    for index in sorted(used):
        if index >= end + gap_limit:
            break
        end = max(end, index + 1)
    return end
