"""The embedded chain as the rest of mpchan sees it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mpchan.bitcoin.tx import Transaction
from mpchan.chain.base import Coin, Connected, OutputStatus
from mpchan.durability import make_directory
from mpchan.errors import ChainError
from mpchan.units import Amount, ChainTip, FeeRate, LockTime, OutPoint, Txid, checked_int

# the modules behind these load SQLite or the engine, which a chain that is never asked does not need
if TYPE_CHECKING:
    from mpchan.chain.embedded.index import Index
    from mpchan.chain.embedded.kernel import Kernel

INITIAL_BLOCKS = 110
"""A new chain has ten coins of 50 bitcoin that can be spent at once."""

INDEX_NAME = "index.sqlite3"
LOCK_SECONDS = 60.0
MAX_BLOCKS_AT_ONCE = 1_000_000


class EmbeddedChain(Connected):
    """A private regtest chain in a directory, which several processes may share.

    The first question or request makes the chain where there is none, which needs the consensus engine; so does
    everything that changes it. Questions alone need neither the engine nor the lock. One object serves one thread.

    Args:
        directory: made, with mode 0700, when it is missing.
        lock_timeout: seconds to wait for another process that is changing the chain.
        create: False for whoever has to do with a chain that is there already: another one made in its place would
            know nothing of the channels.

    Raises:
        ChainError: any method: ``chain-missing``; ``chain-directory`` or ``chain-index`` when the files cannot be
            used. Where the engine is needed: ``engine-missing``, ``engine-failed``, ``chain-locked``.
    """

    def __init__(self, directory: Path, *, lock_timeout: float = LOCK_SECONDS, create: bool = True) -> None:
        self.directory = directory
        self._may_create = create
        self._lock_timeout = lock_timeout
        self._opened: Index | None = None

    def close(self) -> None:
        """Close the index; the next call opens it again."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def __del__(self) -> None:
        if self._opened is not None:
            self._opened.let_go()

    # --- the questions of every backend -----------------------------------------------------------

    def tip(self) -> ChainTip:
        """The best block's height and median time past."""
        return self._index().last_block().tip

    def median_time_at(self, height: int) -> int | None:
        """Of a block of the chain."""
        index = self._index()
        return index.block(height).median_time if height <= index.last_block().height else None

    def outputs(self, asked: Mapping[OutPoint, LockTime | None]) -> dict[OutPoint, OutputStatus]:
        """Those that chain or mempool hold, each with its spender."""
        return self._index().output_statuses(asked)

    def appeared(self, openings: Mapping[OutPoint, bytes]) -> set[OutPoint]:
        """Those that chain or mempool hold."""
        return self._index().appeared(openings)

    def payments(self, scripts: Mapping[bytes, int]) -> list[Coin]:
        """Those that nothing spends: its index has them."""
        return self.coins(scripts)

    def coins(self, scripts: Collection[bytes]) -> list[Coin]:
        """The outputs of these scripts that neither chain nor mempool spends, in outpoint order."""
        return self._index().coins(scripts)

    def used_scripts(self, scripts: Collection[bytes]) -> set[bytes]:
        """Those that any output in chain or mempool pays to, spent or not."""
        return self._index().used_scripts(scripts)

    def require_version(self, version: int) -> None:
        """Every version that mpchan makes is relayed here."""

    def fee_rate(self) -> FeeRate:
        """Twice the least: blocks are never full here."""
        return FeeRate(2 * self.min_fee_rate().sat_per_kvb)

    def min_fee_rate(self) -> FeeRate:
        """Bitcoin Core's long-standing default, 1 sat/vB."""
        from mpchan.chain.embedded.mempool import MIN_FEE_RATE

        return MIN_FEE_RATE

    def incremental_fee_rate(self) -> FeeRate:
        """As much again: Bitcoin Core's default up to version 29."""
        from mpchan.chain.embedded.mempool import INCREMENTAL_FEE_RATE

        return INCREMENTAL_FEE_RATE

    def broadcast(self, transaction: Transaction) -> None:
        """Put ``transaction`` in the mempool; one that is there, or in a block, is fine."""
        if self.transaction(transaction.txid) is not None:
            return
        from mpchan.chain.embedded.admission import admit

        with self._writing() as index:
            # it may have come while this process was waiting
            if index.transaction(transaction.txid) is None:
                admit(index, transaction)

    def broadcast_package(self, transactions: Sequence[Transaction]) -> None:
        """Put ``transactions``, parents first, in the mempool, all of them or none; those that are known are fine.

        What does not pay enough alone has to be paid for by the last one.
        """
        from mpchan.chain.embedded.admission import admit_package

        with self._writing() as index:
            admit_package(index, [tx for tx in transactions if index.transaction(tx.txid) is None])

    # --- more questions ---------------------------------------------------------------------------

    def tip_hash(self) -> str:
        """The best block's hash in display hex."""
        return self._index().last_block().hash[::-1].hex()

    def mempool(self) -> list[Txid]:
        """The transactions that wait for a block, in order of arrival."""
        return self._index().mempool()

    def transaction(self, txid: Txid) -> tuple[Transaction, int] | None:
        """A transaction with its confirmations, 0 in the mempool; None when it is in neither."""
        return self._index().transaction(txid)

    def block_transactions(self, height: int) -> tuple[Transaction, ...]:
        """The transactions of one block, coinbase first, as the engine itself has stored them."""
        with self._mining() as (index, kernel):
            checked_int(height, 0, index.last_block().height, "block height")
            return kernel.block_at(height)[1]

    def engine_name(self) -> str:
        """What judges this chain, with the version of its binding."""
        from mpchan.chain.embedded.kernel import engine_name

        return engine_name()

    # --- what only a private chain can do ---------------------------------------------------------

    def mine(self, count: int) -> ChainTip:
        """Mine ``count`` blocks, all of them or none; the mempool goes into the first, as far as it fits.

        A mempool transaction that the engine refuses in a block is dropped.
        """
        checked_int(count, 0, MAX_BLOCKS_AT_ONCE, "number of blocks")
        from mpchan.chain.embedded.mining import mine_block

        with self._mining() as (index, kernel):
            for _ in range(count):
                mine_block(index, kernel)
        return self.tip()

    def faucet(self, script_pubkey: bytes, amount: Amount) -> Txid:
        """Pay ``amount`` of the miner's coins to a script; the transaction waits in the mempool."""
        self._index()
        from mpchan.chain.embedded.admission import admit
        from mpchan.chain.embedded.mining import payment

        with self._writing() as index:
            transaction = payment(index, script_pubkey, amount)
            admit(index, transaction)
        return transaction.txid

    def submit_block_with(self, transactions: Sequence[Transaction]) -> str | None:
        """Ask the consensus engine itself: mine a block with these transactions, whatever the mempool thinks.

        Returns:
            None when the engine took the block, which then is the tip; else its reason, such as
            ``bad-txns-nonfinal, non-final transaction``, and the chain is as before.
        """
        from mpchan.chain.embedded.mining import append

        with self._mining() as (index, kernel):
            return append(index, kernel, transactions)

    def reorganise(self, depth: int, transactions: Sequence[Transaction] = ()) -> ChainTip:
        """Replace the last ``depth`` blocks by a branch that is one block longer.

        Args:
            depth: blocks to replace, at least 1.
            transactions: what the branch's first block holds; its other blocks are empty. Replaced transactions
                that are still good go back to the mempool.
        """
        from mpchan.chain.embedded.mining import reorganise

        with self._mining() as (index, kernel):
            reorganise(index, kernel, depth, transactions)
        return self.tip()

    @contextmanager
    def engine(self) -> Iterator[None]:
        """Keep the lock, and the engine once it is open, to the end of the block.

        Many requests in a row are faster so; other processes wait meanwhile.
        """
        self._index()
        from mpchan.chain.embedded.lock import session

        with session(self.directory, self._lock_timeout):
            yield

    # --- behind the scenes ------------------------------------------------------------------------

    def _index(self) -> Index:
        """The index, of a chain that is made when there is none."""
        if self._opened is None:
            from mpchan.chain.embedded.index import Index

            self._opened = Index.open(self.directory / INDEX_NAME) or self._create()
        return self._opened

    def _create(self) -> Index:
        if not self._may_create:
            from mpchan.chain.embedded.blocks import made_by

            raise ChainError(
                "chain-missing",
                f"there is no chain in {self.directory}",
                hint=f"was it moved, or is MPCHAN_REGTEST another one? `{made_by(self.directory)}` makes a new one "
                "there, which knows nothing of earlier coins and channels",
            )
        from mpchan.chain.embedded.index import Index
        from mpchan.chain.embedded.kernel import load_engine
        from mpchan.chain.embedded.lock import session
        from mpchan.chain.embedded.mining import create

        load_engine()  # before anything is made
        try:
            make_directory(self.directory, parents=True)
        except OSError as error:
            raise ChainError("chain-directory", f"cannot make {self.directory}: {error.strerror}") from error
        with session(self.directory, self._lock_timeout) as held:
            path = self.directory / INDEX_NAME
            # two processes may have found nothing; the second one finds the first one's chain
            index = Index.open(path)
            if index is None:
                index = Index.create(path)
                try:
                    with index.writing():
                        create(index, held.kernel(), INITIAL_BLOCKS)
                except BaseException:
                    index.close()
                    raise
        return index

    @contextmanager
    def _writing(self) -> Iterator[Index]:
        """The index, to be changed without the engine's data."""
        index = self._index()
        from mpchan.chain.embedded.kernel import load_engine
        from mpchan.chain.embedded.lock import session

        load_engine()
        with session(self.directory, self._lock_timeout), index.writing():
            yield index

    @contextmanager
    def _mining(self) -> Iterator[tuple[Index, Kernel]]:
        """Index and engine, in agreement."""
        index = self._index()
        from mpchan.chain.embedded.lock import session
        from mpchan.chain.embedded.mining import follow

        with session(self.directory, self._lock_timeout) as held:
            kernel = held.kernel()
            with index.writing():
                follow(index, kernel)
                yield index, kernel
