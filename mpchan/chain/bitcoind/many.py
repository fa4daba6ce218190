"""One question to a node about many things, some at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from mpchan.chain.answer import Answer, Failure
from mpchan.chain.bitcoind.rpc import Rpc
from mpchan.units import OutPoint

T = TypeVar("T")

QUESTIONS_AT_ONCE = 1_000


def portions(things: Sequence[T]) -> Iterator[Sequence[T]]:
    """As many at a time as one message asks about."""
    for start in range(0, len(things), QUESTIONS_AT_ONCE):
        yield things[start : start + QUESTIONS_AT_ONCE]


def granted(rpc: Rpc, method: str, questions: Sequence[Sequence[object]]) -> list[Answer]:
    """The answers to requests that the node must grant, sent in one message.

    Raises:
        ChainError: as ``Rpc.call``.
    """
    answers = []
    for reply in rpc.attempt_all(method, questions):
        if isinstance(reply, Failure):
            raise rpc.refused(method, reply)
        answers.append(reply)
    return answers


def spenders(rpc: Rpc, outpoints: Sequence[OutPoint]) -> Iterator[tuple[OutPoint, Answer]]:
    """What the node says of what spends each output; in the mempool, unless it happens to keep an index of spends.

    Raises:
        ChainError: as ``Rpc.call``.
    """
    for part in portions(outpoints):
        query = [{"txid": str(outpoint.txid), "vout": outpoint.vout} for outpoint in part]
        answers = rpc.call("gettxspendingprevout", query).exactly(len(part))
        for outpoint, answer in zip(part, answers, strict=True):
            if answer.outpoint() != outpoint:
                raise answer.malformed(f"about {outpoint}")
            yield outpoint, answer
