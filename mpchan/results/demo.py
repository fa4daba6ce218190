"""What the demo has played, and what the chain said to it."""

from __future__ import annotations

from mpchan.results.base import Result
from mpchan.values import frozen


@frozen
class TransactionSeen(Result):
    """A transaction of the channel, found in a block.

    Attributes:
        height: of the block
        kind: funding, settlement, update or refund, or another's
        fee_sat: what it pays, in satoshi
    """

    height: int
    txid: str
    kind: str
    fee_sat: int


@frozen
class Coins(Result):
    """What a party has.

    Attributes:
        before_sat: confirmed coins before the channel, in satoshi
        after_sat: the same after it, in satoshi
    """

    before_sat: int
    after_sat: int


@frozen
class BothCoins(Result):
    """What both parties have.

    Attributes:
        payer: the one that paid
        payee: the one that was paid
    """

    payer: Coins
    payee: Coins


@frozen
class DemoAnswer(Result):
    """What a command or the engine was asked in a bad ending, and what it said.

    Attributes:
        by: command or engine
        asked: the command, or what the engine was to take
        expected: the answer that must come
        answer: the one that came
        ok: whether it is the expected one
    """

    by: str
    asked: str
    expected: str
    answer: str
    ok: bool


@frozen
class BadEnding(Result):
    """A bad ending on a channel of its own. Heights, lock times and sums are there where they matter.

    Attributes:
        name: of the ending, in kebab-case
        ok: whether it went as told
        answers: of the commands and the engine
        update_lock_time: of the update that closes the channel
        update_height: of the block that holds it
        older_lock_time: of the older update
        newer_lock_time: of the newer one
        newer_height: of the block that holds the newer one
        payee_gained_sat: what the payee has more in the end, in satoshi
        bump_fee_sat: what its child pays, in satoshi
        funding_sat: what stands in the funding output, in satoshi
        refund_fee_sat: what the refund pays, in satoshi
        payer_before_sat: the payer's confirmed coins before it, in satoshi
        payer_after_sat: the same after it, in satoshi
        payer_recovered_sat: what the refund brings back, in satoshi
    """

    name: str
    channel: str
    ok: bool
    answers: tuple[DemoAnswer, ...]
    refund_lock_time: int
    update_lock_time: int | None = None
    update_height: int | None = None
    older_lock_time: int | None = None
    newer_lock_time: int | None = None
    newer_height: int | None = None
    payee_gained_sat: int | None = None
    bump_fee_sat: int | None = None
    funding_sat: int | None = None
    refund_fee_sat: int | None = None
    payer_before_sat: int | None = None
    payer_after_sat: int | None = None
    payer_recovered_sat: int | None = None


@frozen
class StepDone(Result):
    """A command that the demo has run.

    Attributes:
        command: as it is typed in the demo's directory
        exit_code: that it ended with
    """

    command: str
    exit_code: int


@frozen
class DemoPlayed(Result):
    """The whole demo.

    Attributes:
        directory: of the wallets and the chain; null where they are gone
        engine: the consensus engine that judged
        unit_sat: the price of a piece, in satoshi
        payments: how many were made
        transactions_on_chain: how many the chain saw
        transactions: these
        balances: what both have
        fees_sat: what the miners got, in satoshi
        cheats: the bad endings, where they were played
        steps: every command
    """

    directory: str | None
    engine: str
    unit_sat: int
    payments: int
    capacity_sat: int
    channel: str
    transactions_on_chain: int
    transactions: tuple[TransactionSeen, ...]
    balances: BothCoins
    fees_sat: int
    cheats: tuple[BadEnding, ...]
    steps: tuple[StepDone, ...]
