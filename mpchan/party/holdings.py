"""What of the wallet's coins can be spent, and what waits for something."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from mpchan.bitcoin.tx import Transaction
from mpchan.chain.base import Chain, Coin
from mpchan.errors import NotPossible
from mpchan.results.coins import Scanned
from mpchan.units import DAY_BLOCKS, Amount, Height, OutPoint, Txid
from mpchan.values import frozen
from mpchan.wallet.keys import Keys
from mpchan.wallet.sent import Sent
from mpchan.wallet.wallet import Wallet


@frozen
class Holdings:
    """The wallet's unspent outputs, each in one of these lists.

    Attributes:
        confirmed: in a block, mature, and nobody's yet.
        own_unconfirmed: came back from what `mpchan send` sent and is not in a block yet. All inputs of such a
            transaction are the wallet's own, so nobody else can replace it.
        foreign_unconfirmed: every other coin that is not in a block yet: who sent it could still replace it. What
            `mpchan bump` made is among them: a channel's transaction is its parent, and the next bump replaces it.
        immature: coinbase outputs below 100 blocks.
        reserved: spent by a funding or another transaction of this wallet that the chain does not have yet.
    """

    confirmed: Sequence[Coin]
    own_unconfirmed: Sequence[Coin]
    foreign_unconfirmed: Sequence[Coin]
    immature: Sequence[Coin]
    reserved: Sequence[Coin]

    def not_enough(self, error: NotPossible, offered: Collection[Coin]) -> NotPossible:
        """A refusal of the choice of coins with what waits besides those that were offered to it."""
        unconfirmed = [*self.own_unconfirmed, *self.foreign_unconfirmed]
        waiting = [
            f"{total(coins)} {why}"
            for coins, why in (
                (self.reserved, "are reserved by channels and sends that are not in a block yet"),
                ([coin for coin in unconfirmed if coin not in offered], "are unconfirmed"),
                (self.immature, "are immature"),
            )
            if coins
        ]
        if error.slug != "not-enough-funds" or not waiting:
            return error
        return NotPossible(error.slug, f"{error.message}; {', '.join(waiting)}", hint=error.hint)


def holdings(wallet: Wallet, chain: Chain, keys: Keys) -> Holdings:
    """Ask the chain for the wallet's coins and sort them."""
    coins = chain.coins(keys.scripts())
    sent = wallet.sent.all()
    reserved = wallet.channels.reserved_outpoints() | _pending(chain, sent, {coin.outpoint for coin in coins})
    lists: dict[str, list[Coin]] = {name: [] for name in _LISTS}
    for coin in coins:
        lists[_list_of(coin, reserved, sent)].append(coin)
    return Holdings(**lists)


def total(coins: Collection[Coin]) -> Amount:
    """What they hold together."""
    return Amount(sum(coin.output.value.sat for coin in coins))


_LISTS = ("confirmed", "own_unconfirmed", "foreign_unconfirmed", "immature", "reserved")


def _list_of(coin: Coin, reserved: Collection[OutPoint], sent: Mapping[Txid, Sent]) -> str:
    if coin.outpoint in reserved:
        return "reserved"
    if not coin.confirmations:
        maker = sent.get(coin.outpoint.txid)
        own = maker is not None and maker.parent is None
        return "own_unconfirmed" if own else "foreign_unconfirmed"
    return "confirmed" if coin.mature else "immature"


def _pending(chain: Chain, sent: Mapping[Txid, Sent], unspent: Collection[OutPoint]) -> set[OutPoint]:
    """What the transactions that were sent spend, as far as the chain still shows it as unspent."""
    pending: set[OutPoint] = set()
    for record in sent.values():
        outpoints = record.outpoints
        # all of them spent: it is in the mempool or a block, or whatever took its place has left it nothing
        if any(outpoint in unspent for outpoint in outpoints) and not is_void(chain, record, sent, unspent):
            pending.update(outpoints)
    return pending


def is_void(
    chain: Chain, record: Sent, sent: Mapping[Txid, Sent], unspent: Collection[OutPoint] = ()
) -> bool:
    """Whether a block holds another transaction in its place, or in the place of one that it spends from.

    Args:
        sent: all that this wallet sent.
        unspent: outputs that are known to be unspent, and need not be asked for.
    """
    if record.parent is not None and _is_replaced(chain, record.parent, since(record)):
        return True
    for outpoint in record.outpoints:
        parent = sent.get(outpoint.txid)
        if outpoint not in unspent and parent is not None and is_void(chain, parent, sent, unspent):
            return True
    return _is_replaced(chain, record.transaction, since(record), unspent)


def since(record: Sent) -> Height:
    """No block below this height holds a transaction that was made then, nor one in its place."""
    return Height(max(1, record.height - DAY_BLOCKS))  # a reorganisation may have replaced a day's blocks


def _is_replaced(
    chain: Chain, transaction: Transaction, not_before: Height, unspent: Collection[OutPoint] = ()
) -> bool:
    """Whether a block holds another transaction that spends what this one spends."""
    for outpoint in [source.outpoint for source in transaction.inputs]:
        if outpoint not in unspent:
            seen = chain.output(outpoint, not_before=not_before)
            spend = None if seen is None else seen.spend
            if spend is not None and spend.confirmations and spend.txid != transaction.txid:
                return True
    return False


# coins of a wallet that knows only its seed -------------------------------------------------------


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
    """The index after the last used address that is not beyond a gap."""
    end = known
    for index in sorted(used):
        if index >= end + gap_limit:
            break
        end = max(end, index + 1)
    return end
