"""Choosing which of the wallet's own P2WPKH coins a transaction spends, and what change it gives.

A choice costs what its fee is now, and what its change will cost to spend later (Bitcoin Core's "waste", but for the
part that rewards many inputs while fees are low: joining coins tells everybody that they have one owner, and
`mpchan send ADDRESS --all` to an own address does it for who wants it). Two kinds of choice compete:

- as few coins as can pay, and leave a change that is worth its while; among those the smallest;
- by branch and bound, coins that need no change at all, because what is left over is less than a change costs.

Where neither exists, the change is as small as it comes out, or goes to the fee where it would not be worth keeping.
A coin that costs more to spend than it holds is never chosen. The same coins always give the same transaction.

Inputs stand in BIP-0069 order, and the outputs too, so that their place does not tell which one is the change. A
funding has its channel at index 0, the change after it. nSequence is the same in all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate

from mpchan.bitcoin.script import dust_limit, output_size
from mpchan.bitcoin.serialize import compact_size
from mpchan.bitcoin.tx import Transaction, TxIn, TxOut, total_of
from mpchan.chain.base import Coin
from mpchan.errors import NotPossible
from mpchan.units import Amount, FeeRate
from mpchan.values import frozen

FUNDING_SEQUENCE = 0xFFFF_FFFE
"""Final but for nLockTime, and not signalling replacement (BIP-0125): a replaced funding voids the refund."""

LONG_TERM_RATE = FeeRate(10_000)
"""What a change will be spent at some day; Bitcoin Core's default of ``-discardfee`` is the same."""

MAX_INPUTS = 1_400
"""With two or three outputs still below the 400,000 weight units of a standard transaction."""

_P2WPKH_INPUT_BASE = (
    36  # outpoint
    + 1  # length of the empty scriptSig
    + 4  # nSequence
)
_P2WPKH_INPUT_WITNESS = (
    1  # number of stack items
    + (1 + 72)  # signature
    + (1 + 33)  # public key
)
P2WPKH_INPUT_VSIZE = (4 * _P2WPKH_INPUT_BASE + _P2WPKH_INPUT_WITNESS) // 4  # without a rest: 68

_ANY_CHANGE = b"\x00\x14" + bytes(20)  # every P2WPKH script is as long

_MAX_TRIES = 100_000
_ONE_BYTE_COUNT = 252  # the number of inputs takes two more bytes from the next one on


@frozen
class OwnSpend:
    """A transaction that spends the wallet's own coins.

    Attributes:
        spent: the outputs that its inputs spend, in their order.
        change_vout: the index of the change among its outputs; None where there is none.
    """

    transaction: Transaction
    spent: tuple[TxOut, ...]
    change_vout: int | None

    @property
    def fee(self) -> Amount:
        """What its inputs hold more than its outputs."""
        return total_of(self.spent) - total_of(self.transaction.outputs)

    @property
    def change(self) -> Amount:
        """What comes back; 0 where nothing does."""
        return Amount(0) if self.change_vout is None else self.transaction.outputs[self.change_vout].value

    @property
    def paid(self) -> Amount:
        """What it pays out."""
        return total_of(self.transaction.outputs) - self.change


def spend_vsize(inputs: int, output_scripts: Sequence[bytes]) -> int:
    """Virtual size (BIP-0141) of a transaction with this many P2WPKH inputs and signatures of 72 bytes."""
    base = (
        4  # version
        + len(compact_size(inputs))
        + inputs * _P2WPKH_INPUT_BASE
        + len(compact_size(len(output_scripts)))
        + sum(output_size(script) for script in output_scripts)
        + 4  # nLockTime
    )
    witness = 2 + inputs * _P2WPKH_INPUT_WITNESS  # marker, flag
    return -(-(4 * base + witness) // 4)


def least_change(change_script: bytes) -> Amount:
    """The smallest change that is kept: no dust, and worth more than spending it some day costs."""
    return max(dust_limit(change_script), LONG_TERM_RATE.fee(P2WPKH_INPUT_VSIZE))


def change_of(
    spent: Amount, inputs: int, outputs: Sequence[TxOut], change_script: bytes, rate: FeeRate
) -> Amount | None:
    """What a transaction gives back; None where it is too little to be kept, and goes to the fee.

    Args:
        spent: what its inputs hold together; it must cover outputs and fee.
        inputs: their number.
        outputs: without the change.
    """
    scripts = [*(output.script_pubkey for output in outputs), change_script]
    rest = spent.sat - total_of(outputs).sat - rate.fee(spend_vsize(inputs, scripts)).sat
    return Amount(rest) if rest >= least_change(change_script).sat else None


def require_fee_within(transaction: Transaction, spent: Sequence[TxOut], limit: FeeRate) -> None:
    """Refuse an own transaction that pays above the limit: whatever lost its change, it must not leave.

    Args:
        transaction: unsigned; it spends P2WPKH outputs.
        limit: of the wallet; a change that is not worth keeping may come on top.

    Raises:
        NotPossible: ``fee-rate-high``.
    """
    scripts = [output.script_pubkey for output in transaction.outputs]
    vsize = spend_vsize(len(spent), scripts)
    most = limit.fee(vsize + output_size(_ANY_CHANGE)) + least_change(_ANY_CHANGE)
    fee = total_of(spent) - total_of(transaction.outputs)
    if fee > most:
        raise NotPossible(
            "fee-rate-high",
            f"the transaction would pay {fee} for {vsize} vB, and at most {most} is allowed",
            hint="the limit is max_fee_rate in wallet.toml",
        )


def build_funding(
    coins: Sequence[Coin], channel: TxOut, change_script: bytes, rate: FeeRate
) -> tuple[Transaction, tuple[TxOut, ...]]:
    """The unsigned funding, the channel's output first, and the outputs that it spends.

    Raises:
        NotPossible: ``not-enough-funds``, ``too-many-coins``.
    """
    chosen = select(coins, [channel], change_script, rate)
    change = _change_output(chosen, [channel], change_script, rate)
    return _transaction(chosen, [channel, *change]), tuple(coin.output for coin in chosen)


def build_spend(
    coins: Sequence[Coin], outputs: Sequence[TxOut], change_script: bytes, rate: FeeRate
) -> OwnSpend:
    """An unsigned transaction that pays these outputs from some of the coins, in BIP-0069 order."""
    chosen = select(coins, outputs, change_script, rate)
    change = _change_output(chosen, outputs, change_script, rate)
    ordered = sorted([*outputs, *change], key=lambda output: (output.value, output.script_pubkey))
    spent = tuple(coin.output for coin in chosen)
    return OwnSpend(_transaction(chosen, ordered), spent, ordered.index(change[0]) if change else None)


def build_sweep(coins: Sequence[Coin], script_pubkey: bytes, rate: FeeRate) -> OwnSpend:
    """An unsigned transaction that pays all that the coins hold to one script; coins not worth their fee are left.

    Raises:
        NotPossible: ``not-enough-funds`` where less than the script's dust limit would be left, ``too-many-coins``.
    """
    chosen = _in_order(_worth_spending(coins, rate))
    if len(chosen) > MAX_INPUTS:
        raise _too_many(len(chosen))
    spent = tuple(coin.output for coin in chosen)
    fee = rate.fee(spend_vsize(len(chosen), [script_pubkey]))
    least = dust_limit(script_pubkey)
    if total_of(spent) < fee + least:
        raise NotPossible(
            "not-enough-funds",
            f"the wallet can spend {total_of(coin.output for coin in coins)}: after the fee less than {least} is left",
        )
    payment = TxOut(total_of(spent) - fee, script_pubkey)
    return OwnSpend(_transaction(chosen, [payment]), spent, None)


# choosing -----------------------------------------------------------------------------------------


def select(
    coins: Sequence[Coin], outputs: Sequence[TxOut], change_script: bytes, rate: FeeRate
) -> list[Coin]:
    """The coins to spend, in BIP-0069 order."""

    # sums are in thousandths of a satoshi, in which fees need no rounding
    def needed(inputs: int, change: Amount | None = None) -> int:
        scripts = [output.script_pubkey for output in outputs]
        value = total_of(outputs)
        if change is not None:
            scripts, value = [*scripts, change_script], value + change
        return 1000 * value.sat + rate.sat_per_kvb * spend_vsize(inputs, scripts)

    usable = _worth_spending(coins, rate)
    keeping = least_change(change_script)
    comfortable = max(keeping, rate.fee(2 * P2WPKH_INPUT_VSIZE))  # half of it is left after another such fee
    few = _fewest(usable, lambda inputs: needed(inputs, comfortable))
    change_cost = 1000 * keeping.sat + rate.sat_per_kvb * output_size(change_script)
    limit = None if few is None else len(few) * _input_cost(rate) + change_cost
    exact = _changeless(usable, rate, needed(0), change_cost, limit)
    chosen = exact or few or _fewest(usable, needed)
    if chosen is None:
        raise _not_enough(coins, usable, outputs, needed)
    return _in_order(chosen)


def _worth_spending(coins: Iterable[Coin], rate: FeeRate) -> list[Coin]:
    """The coins that hold more than their input costs, the largest first."""
    worth = [coin for coin in coins if 1000 * coin.output.value.sat > _input_cost(rate)]
    return sorted(worth, key=lambda coin: (-coin.output.value.sat, coin.outpoint))


def _input_cost(rate: FeeRate) -> int:
    """Of one P2WPKH input, in thousandths of a satoshi."""
    return rate.sat_per_kvb * P2WPKH_INPUT_VSIZE


def _fewest(usable: Sequence[Coin], needed: Callable[[int], int]) -> list[Coin] | None:
    """The fewest coins that hold enough, as small ones as can be: neighbours in size. None where none do.

    Args:
        usable: the largest first.
        needed: what so many inputs must hold, in thousandths of a satoshi.
    """
    sums = [0, *accumulate(1000 * coin.output.value.sat for coin in usable)]
    for count in range(1, min(len(usable), MAX_INPUTS) + 1):
        enough = needed(count)
        if sums[count] >= enough:
            start = max(
                start
                for start in range(len(usable) - count + 1)
                if sums[start + count] - sums[start] >= enough
            )
            return list(usable[start : start + count])
    return None


def _changeless(
    usable: Sequence[Coin], rate: FeeRate, target: int, slack: int, limit: int | None
) -> list[Coin] | None:
    """Branch and bound (Murch; Bitcoin Core's ``SelectCoinsBnB``): the cheapest coins that need no change.

    A coin counts by its effective value, what it holds less what its input costs. The tree in which each coin is
    taken or left is walked depth first, the largest coins first; a branch ends where it holds too much, could not
    hold enough any more, or costs as much as the best choice so far.

    Args:
        usable: the largest first.
        target: effective value that is needed, in thousandths of a satoshi as all sums here.
        slack: so much more is where a change begins.
        limit: a choice must cost less; None for no limit.
    """
    cost = _input_cost(rate)
    values = [1000 * coin.output.value.sat - cost for coin in usable]
    taken: list[int] = []
    best: list[int] | None = None
    held, ahead, index = 0, sum(values), 0
    for _ in range(_MAX_TRIES):
        spent = len(taken) * cost + max(held - target, 0)
        hopeless = held + ahead < target or held >= target + slack or len(taken) > _ONE_BYTE_COUNT
        if hopeless or held >= target or (limit is not None and spent >= limit):
            if not hopeless and held >= target and (limit is None or spent < limit):
                best, limit = list(taken), spent
            if not taken:
                break
            # back to the coin taken last, which now is left
            last = taken.pop()
            ahead += sum(values[last + 1 : index])
            held -= values[last]
            index = last + 1
            continue
        # a coin just like the one that was left before would only repeat that branch
        if not (index and values[index] == values[index - 1] and (not taken or taken[-1] != index - 1)):
            taken.append(index)
            held += values[index]
        ahead -= values[index]
        index += 1
    return None if best is None else [usable[position] for position in best]


def _not_enough(
    coins: Sequence[Coin], usable: Sequence[Coin], outputs: Sequence[TxOut], needed: Callable[[int], int]
) -> NotPossible:
    if 1000 * total_of(coin.output for coin in usable).sat >= needed(len(usable)):
        return _too_many(len(usable))
    return NotPossible(
        "not-enough-funds",
        f"{total_of(outputs)} and a fee are needed, the wallet can spend {total_of(coin.output for coin in coins)}",
        hint="send coins to the address that `mpchan address` prints, and wait for a confirmation",
    )


def _too_many(count: int) -> NotPossible:
    return NotPossible(
        "too-many-coins",
        f"a transaction can spend {MAX_INPUTS} coins at most, this one would need up to {count}",
        hint="send some of it to an address of your own first: that joins coins",
    )


# building -----------------------------------------------------------------------------------------


def _in_order(coins: Iterable[Coin]) -> list[Coin]:
    """BIP-0069: by txid as it is shown, then by index."""
    return sorted(coins, key=lambda coin: (coin.outpoint.txid.wire[::-1], coin.outpoint.vout))


def _change_output(
    chosen: Sequence[Coin], outputs: Sequence[TxOut], change_script: bytes, rate: FeeRate
) -> list[TxOut]:
    """The change, or nothing."""
    spent = total_of(coin.output for coin in chosen)
    change = change_of(spent, len(chosen), outputs, change_script, rate)
    return [] if change is None else [TxOut(change, change_script)]


def _transaction(chosen: Sequence[Coin], outputs: Sequence[TxOut]) -> Transaction:
    inputs = tuple(TxIn(coin.outpoint, FUNDING_SEQUENCE) for coin in chosen)
    return Transaction(2, inputs, tuple(outputs), 0)
