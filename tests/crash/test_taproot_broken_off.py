"""The commands of a taproot channel, killed or with a failing disk: what is signed at once is stored before it goes."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.crash.campaign import (
    Command,
    Fault,
    Forkserver,
    Stage,
    Story,
    errors,
    kills,
    of_each_kind,
    sample,
)
from support.crash.stories import AT_ONCE, AT_ONCE_CLOSED

from mpchan.bitcoin.tx import Transaction
from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel import payer
from mpchan.errors import MpchanError
from mpchan.wallet.wallet import Wallet

TRIED = {
    AT_ONCE: {"open", "accept"},
    AT_ONCE_CLOSED: {"close-first"},
}
DISK = {"open", "accept"}
"""What is tried with a failing disk too."""


def faults(stage: Stage, command: Command) -> list[Fault]:
    steps = stage.steps[command.name]
    return [*sample(kills(steps)), *(of_each_kind(errors(steps)) if command.name in DISK else [])]


@pytest.mark.parametrize("story", TRIED, ids=lambda story: story.name)
def test_nothing_is_lost(story: Story, forkserver: Forkserver, bare: Path, quick_path: Path) -> None:
    stage = Stage(forkserver, quick_path, bare, story)
    failures, tried = [], 0
    for command in story.tried:
        for fault in faults(stage, command) if command.name in TRIED[story] else []:
            tried += 1
            try:
                stage.break_off(command, fault)
            except (AssertionError, MpchanError, ValueError, KeyError, IndexError) as error:
                failures.append(f"{command.name}: {fault}\n    {type(error).__name__}: {error!s:.600}")
    assert tried > 3
    assert not failures, "\n".join(failures)


def test_no_funding_leaves_before_its_refund_is_stored(
    forkserver: Forkserver, bare: Path, quick_path: Path
) -> None:
    """Killed wherever a file or the funding goes its way: what the chain has seen, the wallet can take back."""
    stage = Stage(forkserver, quick_path, bare, AT_ONCE)
    [command] = [command for command in AT_ONCE.tried if command.name == "open"]
    sent = 0
    for fault in kills(stage.steps["open"]):
        if fault.kind not in ("replace", "sync", "emit"):
            continue
        folder = stage.folder_before(command, "killed")
        try:
            forkserver.run(folder, command.line, fault=fault.request)
            wallet = Wallet.open(folder / "payer")
            with EmbeddedChain(folder / "chain") as chain:
                waiting = chain.mempool()
            if waiting:
                [record] = [wallet.channels.load(name) for name in wallet.channels.names()]
                state = record.state
                assert isinstance(state, payer.Funded)
                assert [state.terms.outpoint.txid] == waiting
                assert isinstance(state.refund, Transaction)
                assert state.refund.inputs[0].outpoint == state.terms.outpoint
                assert state.refund.inputs[0].witness
                sent += 1
        finally:
            stage.clear(folder)
    assert sent
