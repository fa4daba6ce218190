"""Bitcoin Core's consensus engine through py-bitcoinkernel; the only module that imports ``pbk``.

The engine says of a refused block only a coarse result; its own words stand in its log, which is therefore read
here, and goes nowhere else.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mpchan import durability
from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.errors import ChainError, system_reason

PACKAGE = "py-bitcoinkernel"

_DESCRIPTORS = 16
"""So many files the engine has open at once while it opens and takes blocks, with some to spare."""

_REFUSALS = (re.compile(r"Block validation error: (.*)"), re.compile(r"ProcessNewBlock: \w+ FAILED \((.*)\)"))


def load_engine() -> Any:
    """The module ``pbk``, imported at the first call (about 0.15 s).

    Raises:
        ChainError: ``engine-missing`` when the package, or a library that it needs, is not there.
    """
    try:
        import pbk
    except (ImportError, OSError, RuntimeError) as error:  # no package, no loadable library, no library file
        raise ChainError(
            "engine-missing",
            f"the embedded chain needs {PACKAGE}, which cannot be loaded: {error!s:.80}",
            hint="`mpchan engine install` fetches it; or use another chain backend",
        ) from error
    return pbk


def engine_name() -> str:
    """The engine with the version of its binding."""
    load_engine()
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"Bitcoin Core kernel via {PACKAGE} {version(PACKAGE)}"
    except PackageNotFoundError:
        return f"Bitcoin Core kernel via {PACKAGE}"


def failing_input(transaction: Transaction, spent: Sequence[TxOut]) -> int | None:
    """The first input whose script the engine finds unsatisfied under all consensus flags; None when all are good.

    Args:
        spent: the outputs that the inputs spend, in the order of the inputs.
    """
    pbk = load_engine()
    from pbk.script import PrecomputedTransactionData

    judged = pbk.Transaction(transaction.to_bytes())
    scripts = [pbk.ScriptPubkey(output.script_pubkey) for output in spent]
    outputs = [pbk.TransactionOutput(s, output.value.sat) for s, output in zip(scripts, spent, strict=True)]
    precomputed = PrecomputedTransactionData(judged, outputs)
    for index, (script, output) in enumerate(zip(scripts, spent, strict=True)):
        flags = pbk.ScriptVerificationFlags.ALL
        if not script.verify(output.value.sat, judged, precomputed, index, flags):
            return index
    return None


def _require_descriptors(directory: Path) -> None:
    """See that files can be opened: where they cannot, the engine ends the whole process."""
    held: list[int] = []
    try:
        held.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(_DESCRIPTORS))
    except OSError as error:
        raise ChainError(
            "engine-failed",
            f"the consensus engine cannot open {directory}: {system_reason(error)}",
            hint="raise the limit of open files (`ulimit -n`), or close some; nothing is lost",
        ) from error
    finally:
        for descriptor in held:
            durability.done_reading(descriptor)


class Kernel:
    """The engine with its data directory open. ``close`` writes what is still in memory.

    Block hashes are bytes in wire order.

    Raises:
        ChainError: ``engine-missing``; ``engine-failed`` when the data cannot be opened.
    """

    def __init__(self, directory: Path) -> None:
        pbk = load_engine()
        self._pbk = pbk
        self._log: list[str] = []
        self._verdicts: list[str] = []
        self._failed = False
        self._resources = ExitStack()
        _require_descriptors(directory)
        try:
            self._resources.enter_context(pbk.LoggingConnection(self._hear))
            callbacks = pbk.ValidationInterfaceCallbacks(block_checked=self._block_checked)
            context = self._resources.enter_context(pbk.make_context(pbk.ChainType.REGTEST, callbacks))
            options = pbk.ChainstateManagerOptions(context, str(directory), str(directory / "blocks"))
            options.set_worker_threads_num(0)
            manager = durability.step("engine", pbk.ChainstateManager, options)
            self._manager = self._resources.enter_context(manager)
        except (RuntimeError, UnicodeError) as error:
            self._resources.close()
            raise self._trouble(f"cannot open {directory}") from error
        self._chain = self._manager.get_active_chain()

    def close(self) -> None:
        """Flush and release; the object is of no use afterwards."""
        durability.step("engine", self._resources.close)

    @property
    def height(self) -> int:
        """Of the best block."""
        return int(self._chain.height)

    @property
    def tip_hash(self) -> bytes:
        """Of the best block."""
        return bytes(self._chain.block_tree_entries[self.height].block_hash)

    def hash_at(self, height: int) -> bytes:
        """The hash in the best chain at ``height``, which must exist."""
        return bytes(self._chain.block_tree_entries[height].block_hash)

    def block_at(self, height: int) -> tuple[bytes, tuple[Transaction, ...]]:
        """The best chain's block at ``height``: its bytes and its transactions, coinbase first."""
        block = self._manager.blocks[self._chain.block_tree_entries[height]]
        transactions = tuple(
            [Transaction.from_bytes(bytes(transaction)) for transaction in block.transactions]
        )
        return bytes(block), transactions

    def submit(self, raw: bytes) -> str | None:
        """Hand in a block. None when the engine takes it, which a block that it knows already is too.

        A block on a branch with less work is taken unseen; the engine judges it once its branch has the most work.

        Returns:
            The engine's reason where it refuses the block, such as ``bad-txns-nonfinal, non-final transaction``.

        Raises:
            ChainError: ``engine-failed`` when it can neither take nor refuse.
        """
        self._log.clear()
        self._verdicts.clear()
        self._failed = False
        try:
            block = self._pbk.Block(raw)
        except RuntimeError:
            return "block-decode-failed"
        try:
            durability.step("engine", self._manager.process_block, block)
        except self._pbk.ProcessBlockException as error:
            if not self._verdicts:
                raise self._trouble("cannot process a block") from error
        if self._failed:  # no judgement of the block: its disk is full or fails
            raise self._trouble("cannot process a block")
        if not self._verdicts:
            return None
        return next(filter(None, map(_refusal, reversed(self._log))), self._verdicts[-1])

    def _hear(self, line: str) -> None:
        self._log.append(line.rstrip())

    def _block_checked(self, _user_data: object, _block: object, state: Any) -> None:
        if state.validation_mode == self._pbk.ValidationMode.INTERNAL_ERROR:
            self._failed = True
        elif state.validation_mode != self._pbk.ValidationMode.VALID:
            self._verdicts.append(state.block_validation_result.name)

    def _trouble(self, what: str) -> ChainError:
        """``what``, and the engine's last error where there is one."""
        errors = [line.partition("[error] ")[2] for line in self._log if "[error] " in line]
        return ChainError(
            "engine-failed",
            f"the consensus engine {what}{f': {errors[-1]:.200}' if errors else ''}",
            hint="is there space on the disk, and memory? nothing is lost: then try again",
        )


def _refusal(line: str) -> str | None:
    for pattern in _REFUSALS:
        match = pattern.search(line)
        if match:
            return match[1]
    return None
