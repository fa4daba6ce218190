"""What one server says of outputs and scripts, with each confirmation proven against the own chain of headers.

What is proven: that a transaction is the one that was asked for (its id is the hash of its bytes, but for the witness),
and that it stands in a block of the chain of headers, at the height that counts (merkle proof). So a server can neither
alter a transaction, nor make up a confirmation, nor make one deeper than it is.

What has to be believed: that nothing is left out. A server can hide a transaction, a spend or a coin, hold back what
it should broadcast, or show as waiting in the mempool what nobody ever sent; all of these look like a network that
has not seen something yet. Against the first the other servers are asked about outputs too (``Company``); of the last
only what a block could hold counts as a spend.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Generic, TypeVar

from mpchan.bitcoin.merkle import is_ambiguous, root_of_path
from mpchan.bitcoin.script import is_unspendable
from mpchan.bitcoin.spend import may_be_mined
from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.chain.base import COINBASE_MATURITY, Coin, OutputStatus, Spend
from mpchan.chain.electrum.following import reach
from mpchan.chain.electrum.headers import HeaderChain
from mpchan.chain.electrum.questions import Branch, Claim, Questions, UnspentClaim
from mpchan.chain.steady import moved
from mpchan.errors import ChainError, ParseError
from mpchan.units import Amount, ChainTip, OutPoint, Txid

K = TypeVar("K")
V = TypeVar("V")

_TRANSACTIONS_AT_ONCE = 20
_INDEX_SECONDS = 60.0


class Memory(Generic[K, V]):
    """The last things that were looked up, so many and no more."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        """What is remembered; it then counts as the newest."""
        value = self._items.pop(key, None)
        if value is not None:
            self._items[key] = value
        return value

    def put(self, key: K, value: V) -> None:
        """Remember something, in place of the oldest where there is no more room."""
        self._items.pop(key, None)
        self._items[key] = value
        if len(self._items) > self._size:
            del self._items[next(iter(self._items))]


class Seen:
    """What is remembered from question to question: it stays true whoever says it."""

    def __init__(self) -> None:
        self.transactions: Memory[Txid, Transaction] = Memory(4_000)
        self.proofs: Memory[Txid, tuple[int, bytes]] = Memory(20_000)
        """Height and hash of the block in which a transaction was proven to be; void where the chain has another."""
        self.spenders: Memory[OutPoint, Txid] = Memory(4_000)
        self.sent: Memory[Txid, float] = Memory(4_000)
        """When a server took what this process has sent, on the clock that only goes forward."""

    def was_just_sent(self, txid: Txid) -> bool:
        """Whether a server took a transaction so short a time ago that its index of scripts may lack it yet."""
        sent = self.sent.get(txid)
        return sent is not None and time.monotonic() < sent + _INDEX_SECONDS


class View:
    """One server and the chain of headers. Every method raises ``ChainError``.

    Besides what ``Questions`` raises: ``proof-refused`` where something is claimed that is not so, ``chain-moving``.
    Both may also come from a chain that changes at this moment, so the caller looks again before it believes them.
    """

    def __init__(self, chain: HeaderChain, server: Questions, seen: Seen) -> None:
        self._chain = chain
        self._server = server
        self._seen = seen

    # outputs --------------------------------------------------------------------------------------

    def outputs(self, outpoints: Collection[OutPoint]) -> dict[OutPoint, OutputStatus]:
        """What is known of each of these outputs; without those that the server's chain and mempool do not hold.

        Its index of scripts decides that: a transaction of a block that was replaced it may hand out for ever. Each
        kind of question goes out for all of them together.
        """
        made = self._known_transactions({outpoint.txid for outpoint in outpoints})
        outputs = {
            outpoint: made[outpoint.txid].outputs[outpoint.vout]
            for outpoint in outpoints
            if outpoint.txid in made and outpoint.vout < len(made[outpoint.txid].outputs)
        }
        # what nothing can spend no server and no node keeps track of
        scripts = sorted(
            {output.script_pubkey for output in outputs.values() if not is_unspendable(output.script_pubkey)}
        )
        histories = dict(zip(scripts, self._server.histories(scripts), strict=True))
        claimed = {
            outpoint: _by_txid(histories[output.script_pubkey])
            for outpoint, output in outputs.items()
            if output.script_pubkey in histories
        }
        self._fetch_all(claimed, made)
        found: dict[OutPoint, OutputStatus] = {}
        for outpoint, claims in claimed.items():
            status = self._output(outpoint, made[outpoint.txid], claims)
            if status is not None:
                found[outpoint] = status
        return found

    def _fetch_all(
        self, claimed: Mapping[OutPoint, Mapping[Txid, Claim]], made: Mapping[Txid, Transaction]
    ) -> None:
        """Fetch together what one output after another would be asked about: a spender in a block, and the proofs."""
        confirmed = [
            [claim for claim in claims.values() if 0 < claim.height <= self._chain.height]
            for outpoint, claims in claimed.items()
            if outpoint.txid in claims
        ]
        # its funding, and what spends it: a longer history is looked through by itself
        usual = {claim.txid: claim for claims in confirmed if len(claims) <= 2 for claim in claims}
        transactions = {**self._known_transactions(usual.keys() - made.keys()), **made}
        self._confirmations(
            [(claim, transactions[txid]) for txid, claim in usual.items() if txid in transactions]
        )

    def _output(
        self, outpoint: OutPoint, transaction: Transaction, claims: dict[Txid, Claim]
    ) -> OutputStatus | None:
        """By the history of its script."""
        output = transaction.outputs[outpoint.vout]
        own = claims.pop(outpoint.txid, None)
        if own is None:
            if not self._seen.was_just_sent(outpoint.txid):
                return None  # its node may still remember it, from a block that was replaced
            own = Claim(outpoint.txid, 0)
        found = self._spender(outpoint, output, own, claims)
        if found is None:
            [confirmations] = self._confirmations([(own, transaction)])
            mature = not transaction.is_coinbase or confirmations > COINBASE_MATURITY
            return OutputStatus(output, confirmations, mature=mature)
        claim, spender = found
        confirmations, of_spend = self._confirmations([(own, transaction), (claim, spender)])
        if of_spend > confirmations:
            raise self._refused(f"spends {outpoint} before that is there")
        return OutputStatus(output, confirmations, Spend(claim.txid, of_spend, spender))

    def _spender(
        self, outpoint: OutPoint, output: TxOut, own: Claim, claims: dict[Txid, Claim]
    ) -> tuple[Claim, Transaction] | None:
        """The transaction among these that spends an output.

        What waits in the mempool is shown on the server's word alone, and its witness too: one that no block could
        hold is passed over, whatever it hides behind.
        """
        tip = ChainTip(self._chain.height, self._chain.median_time())
        known = self._seen.spenders.get(outpoint)
        possible = [claim for claim in claims.values() if claim.height <= 0 or claim.height >= own.height]
        # what a block holds comes first, and the one that spent it when it was last looked up
        possible.sort(key=lambda claim: (claim.height <= 0, claim.txid != known))
        for start in range(0, len(possible), _TRANSACTIONS_AT_ONCE):
            part = possible[start : start + _TRANSACTIONS_AT_ONCE]
            for claim, transaction in zip(part, self._transactions(part), strict=True):
                if any(txin.outpoint == outpoint for txin in transaction.inputs):
                    if claim.height <= 0 and not may_be_mined(transaction, outpoint, output, tip):
                        continue
                    self._seen.transactions.put(claim.txid, transaction)
                    self._seen.spenders.put(outpoint, claim.txid)
                    return claim, transaction
        return None

    # scripts --------------------------------------------------------------------------------------

    def coins(self, scripts: Collection[bytes]) -> list[Coin]:
        """The unspent outputs of these scripts, in outpoint order."""
        wanted = sorted(set(scripts))
        claims: list[tuple[bytes, UnspentClaim]] = []
        for script, unspent in zip(wanted, self._server.unspent(wanted), strict=True):
            claims += [(script, claim) for claim in unspent]
        coins: list[Coin] = []
        for start in range(0, len(claims), _TRANSACTIONS_AT_ONCE):
            coins += self._checked_coins(claims[start : start + _TRANSACTIONS_AT_ONCE])
        if len({coin.outpoint for coin in coins}) != len(coins):
            raise self._refused("lists a coin twice")
        return sorted(coins, key=lambda coin: coin.outpoint)

    def _checked_coins(self, claims: Sequence[tuple[bytes, UnspentClaim]]) -> list[Coin]:
        made = [Claim(claim.outpoint.txid, claim.height) for _, claim in claims]
        transactions = self._transactions(made)
        depths = self._confirmations(list(zip(made, transactions, strict=True)))
        coins = []
        for (script, claim), transaction, depth in zip(claims, transactions, depths, strict=True):
            outputs = transaction.outputs[claim.outpoint.vout : claim.outpoint.vout + 1]
            if not outputs or outputs[0].script_pubkey != script or outputs[0].value != Amount(claim.value):
                raise self._refused(f"lists {claim.outpoint} as a coin, which is another")
            mature = not transaction.is_coinbase or depth > COINBASE_MATURITY
            coins.append(Coin(claim.outpoint, outputs[0], depth, mature))
        return coins

    def used_scripts(self, scripts: Collection[bytes]) -> set[bytes]:
        """Those that any output ever paid to; on the server's word."""
        wanted = sorted(set(scripts))
        histories = self._server.histories(wanted)
        return {script for script, history in zip(wanted, histories, strict=True) if history}

    # transactions ---------------------------------------------------------------------------------

    def confirmations(self, transaction: Transaction) -> int | None:
        """How deep a transaction is, by the history of its first output; None where the server does not know it."""
        [history] = self._server.histories([transaction.outputs[0].script_pubkey])
        claim = _by_txid(history).get(transaction.txid)
        if claim is None:
            return None
        [confirmations] = self._confirmations([(claim, transaction)])
        return confirmations

    def note_sent(self, transaction: Transaction) -> None:
        """The server has taken it just now."""
        self._seen.sent.put(transaction.txid, time.monotonic())

    def _known_transactions(self, txids: Collection[Txid]) -> dict[Txid, Transaction]:
        """Those of these transactions that the server has, or had when they were asked for."""
        known = {txid: self._seen.transactions.get(txid) for txid in txids}
        missing = sorted(txid for txid, transaction in known.items() if transaction is None)
        known.update(zip(missing, self._server.transactions(missing), strict=True))
        found = {txid: transaction for txid, transaction in known.items() if transaction is not None}
        for txid, transaction in found.items():
            self._seen.transactions.put(txid, transaction)
        return found

    def _transactions(self, claims: Sequence[Claim]) -> list[Transaction]:
        """The transactions that the server has just named; those that wait as it shows them now, witness and all."""
        known = {
            claim.txid: self._seen.transactions.get(claim.txid) if claim.height > 0 else None
            for claim in claims
        }
        missing = [txid for txid, transaction in known.items() if transaction is None]
        known.update(zip(missing, self._server.transactions(missing), strict=True))
        found = []
        for claim in claims:
            transaction = known[claim.txid]
            if transaction is None:
                raise moved()  # named a moment ago, and gone now
            found.append(transaction)
        return found

    # proofs ---------------------------------------------------------------------------------------

    def _confirmations(self, claims: Sequence[tuple[Claim, Transaction]]) -> list[int]:
        """How deep each transaction is, 0 in the mempool; every one that is in a block with its proof."""
        unproven = []
        for claim, transaction in claims:
            if claim.height > self._chain.height:
                raise moved()
            if claim.height > 0 and not self._is_proven(claim):
                unproven.append((claim, transaction))
        branches = self._server.branches([claim for claim, _ in unproven])
        for (claim, transaction), branch in zip(unproven, branches, strict=True):
            self._prove(claim, transaction, branch)
        return [self._chain.height - claim.height + 1 if claim.height > 0 else 0 for claim, _ in claims]

    def _is_proven(self, claim: Claim) -> bool:
        height, block = self._seen.proofs.get(claim.txid) or (0, b"")
        if height != claim.height or height < self._chain.base:
            return False
        return self._chain.header(height).hash == block

    def _prove(self, claim: Claim, transaction: Transaction, branch: Branch | None) -> None:
        where = f"block {claim.height}"
        if branch is None:
            raise self._refused(f"has no proof that {claim.txid} is in {where}")
        if is_ambiguous(transaction):
            raise self._refused(
                f"shows transaction {claim.txid} of 64 bytes, for which a merkle proof means nothing"
            )
        reach(self._chain, self._server, claim.height)
        header = self._chain.header(claim.height)
        try:
            root = root_of_path(claim.txid.wire, branch.position, branch.path)
        except ParseError as error:
            raise self._refused(f"shows for {claim.txid} no merkle proof: {error.message}") from None
        if root != header.merkle_root:
            raise self._refused(f"shows a false proof that {claim.txid} is in {where}")
        self._seen.proofs.put(claim.txid, (claim.height, header.hash))

    def _refused(self, what: str) -> ChainError:
        return ChainError(
            "proof-refused",
            f"the server {self._server.name} {what}",
            hint="it does not tell the truth: name another one in chain.electrum of wallet.toml",
        )


def _by_txid(history: Iterable[Claim]) -> dict[Txid, Claim]:
    """The claims, each transaction once: where it has just been confirmed a server may name it as waiting too."""
    claims: dict[Txid, Claim] = {}
    for claim in history:
        before = claims.get(claim.txid)
        if before is None or before.height < claim.height:
            claims[claim.txid] = claim
    return claims
