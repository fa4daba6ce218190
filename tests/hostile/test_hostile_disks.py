"""Disks that fail when it matters: what is complete goes out, and what would count does not count.

The numbers are those of the list in ``support.hostile.LINES``. The disk of a wallet is full, read-only or
broken at every call that would change something, with and without its lock files; the chain stands on another disk.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.hostile import Desk, Ended, mpchan
from support.party import Pair

from mpchan import durability
from mpchan.chain.embedded import EmbeddedChain
from mpchan.errors import NotPossible, SentUnnoted, StorageError
from mpchan.units import Txid
from mpchan.wallet.wallet import Wallet


@pytest.fixture
def desk(chain_directory: Path, tmp_path: Path) -> Iterator[Desk]:
    folder = tmp_path / "desk"
    folder.mkdir()
    with EmbeddedChain(chain_directory) as chain:
        yield Desk(Pair(tmp_path, chain, coins=2), folder)


LOCKS = ("lock-file", "lock")
CHANGES = ("create", "write", "cut", "sync", "sync-directory", "replace", "link", "unlink", "mkdir")


@dataclass(frozen=True)
class Disk:
    """What a disk refuses.

    Attributes:
        number: what the system says.
        kinds: of steps.
    """

    number: int
    kinds: tuple[str, ...]


DISKS = {
    "full": Disk(errno.ENOSPC, CHANGES),
    "over its quota at the close": Disk(errno.EDQUOT, ("close",)),
    "read-only": Disk(errno.EROFS, (*CHANGES, "lock-file to write")),
    "closed to this user": Disk(errno.EACCES, (*CHANGES, "lock-file to write")),
    "broken": Disk(errno.EIO, (*CHANGES, "close", *LOCKS)),
    "without locks": Disk(errno.ENOLCK, LOCKS),
}


@contextmanager
def failing(disk: Disk, wallet: Path) -> Iterator[None]:
    """Let each step of such a kind fail on a wallet's files, wherever the switchboard takes it."""
    real = durability.step

    def step(kind: str, act: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        writes = kind == "lock-file" and arguments[1] & os.O_RDWR
        named = f"{kind} to write" if writes else kind
        if {kind, named} & set(disk.kinds) and _path(arguments).is_relative_to(wallet):
            raise OSError(disk.number, os.strerror(disk.number))
        return real(kind, act, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(durability, "step", step)
        yield


def _path(arguments: tuple[Any, ...]) -> Path:
    """Which file a step is about."""
    first = arguments[0] if arguments else ""
    return Path(os.readlink(f"/proc/self/fd/{first}")) if isinstance(first, int) else Path(first)


needs_proc = pytest.mark.skipif(
    not os.path.isdir("/proc/self/fd"), reason="only Linux tells which file a descriptor is"
)


# 79: what is complete goes out --------------------------------------------------------------------


@dataclass(frozen=True)
class Ready:
    """A wallet that holds something complete, and the command that sends it.

    Attributes:
        txid: of what has to go out.
        alarmed: whether the command is a watcher's round, which tells its alarms on stdout.
    """

    wallet: Path
    words: tuple[str, ...]
    txid: str
    alarmed: bool = False


def _txid(result: dict[str, Any]) -> str:
    return str(result.get("child_txid") or result.get("txid") or result["funding_txid"])


def _final_update(desk: Desk, paid: int = 1000) -> str:
    """A channel whose update can be claimed; its name."""
    pair = desk.pair
    name = pair.open()
    pair.accept(pair.pay(name, paid))
    pair.mine_to(pair.payee_record(name).state.best.transaction.lock_time)
    return name


def _held(desk: Desk, name: str) -> str:
    """The txid of the complete update that a payee holds."""
    return str(desk.pair.payee_record(name).state.best.transaction.txid)


def claim(desk: Desk) -> Ready:
    name = _final_update(desk)
    return Ready(desk.payee, ("payee", "settle", "--channel", name), _held(desk, name))


def watched_claim(desk: Desk) -> Ready:
    name = _final_update(desk)
    desk.pair.mine_to(desk.pair.terms(name).refund_lock_time.value - 6)
    return Ready(desk.payee, ("watch", "--once"), _held(desk, name), alarmed=True)


def settlement(desk: Desk) -> Ready:
    pair = desk.pair
    name = pair.open()
    pair.accept(pair.settlement(name, 3000))
    txid = pair.payee_record(name).state.settlement.transaction.txid
    return Ready(desk.payee, ("payee", "settle", "--channel", name), str(txid))


def watched_settlement(desk: Desk) -> Ready:
    ready = settlement(desk)
    return Ready(desk.payee, ("watch", "--once"), ready.txid, alarmed=True)


def _refundable(desk: Desk) -> tuple[str, str]:
    """A channel whose refund is final: its name, and the refund."""
    pair = desk.pair
    name = pair.open()
    pair.mine_to(pair.terms(name).refund_lock_time.value)
    refund = pair.payer_record(name).state.refund
    return name, refund.to_hex()


def refund(desk: Desk) -> Ready:
    name, _ = _refundable(desk)
    txid = desk.pair.payer_record(name).state.refund.txid
    return Ready(desk.payer, ("payer", "refund", "--channel", name), str(txid))


def watched_refund(desk: Desk) -> Ready:
    return Ready(desk.payer, ("watch", "--once"), refund(desk).txid, alarmed=True)


def refund_file(desk: Desk) -> Ready:
    name, text = _refundable(desk)
    ready = desk.pair.payer_record(name).state.refund.txid
    return Ready(desk.payer, ("payer", "refund", str(desk.file(text + "\n"))), str(ready))


def funding_again(desk: Desk) -> Ready:
    """It was written to a file first, and is to be sent now."""
    pair = desk.pair
    reply = pair.sign_refund(pair.request().hex)
    result = pair.fund(reply, send=False)
    return Ready(desk.payer, ("payer", "fund", str(desk.file(reply + "\n"))), result.funding_txid)


def funding_of_the_payer(desk: Desk) -> Ready:
    """The payee broadcasts what the payer handed over by file."""
    pair = desk.pair
    result = pair.fund(pair.sign_refund(pair.request().hex), send=False)
    file = str(desk.file(result.hex + "\n"))  # type: ignore[operator]
    return Ready(desk.payee, ("payee", "funding", file, "--broadcast"), result.funding_txid)


def child(desk: Desk) -> Ready:
    """It was made, and is to be sent now."""
    name = _final_update(desk, 50_000)
    desk.pair.settle(name=name)
    made = desk.done(desk.payee, "bump", name, "--fee-rate", "20", "--no-broadcast")
    return Ready(desk.payee, ("bump", name, "--fee-rate", "20"), made["child_txid"])


def coins(desk: Desk) -> Ready:
    address = desk.done(desk.payee, "address")["address"]
    made = desk.done(desk.payer, "send", address, "20000", "--no-broadcast")
    return Ready(desk.payer, ("send", "--resend", made["txid"]), made["txid"])


COMPLETE = {f"79 {scene.__name__.replace('_', ' ')}": scene for scene in (
    claim, watched_claim, settlement, watched_settlement, refund, watched_refund, refund_file, funding_again,
    funding_of_the_payer, child, coins,
)}  # fmt: skip


UNNOTED = ("79 settlement", "79 watched settlement", "79 child", "79 coins")
"""Of these nothing has to be noted any more."""


def is_sent(desk: Desk, txid: str) -> bool:
    """Whether chain or mempool hold a transaction."""
    return desk.pair.chain.transaction(Txid.from_hex(txid)) is not None


@needs_proc
@pytest.mark.parametrize("disk", DISKS)
@pytest.mark.parametrize("name", COMPLETE)
def test_79_what_is_complete_is_sent(desk: Desk, name: str, disk: str) -> None:
    ready = COMPLETE[name](desk)
    assert not is_sent(desk, ready.txid)
    with failing(DISKS[disk], ready.wallet):
        ended = mpchan(ready.wallet, desk.chain, *ready.words)
    assert is_sent(desk, ready.txid), ended
    assert "Traceback" not in ended.err
    if name in UNNOTED and disk not in ("broken", "without locks"):
        assert (ended.code, ended.err) == (0, ""), (
            "nothing had to be written, and a lock can be had by reading"
        )
    if ready.alarmed:
        check_round(ended, ready)
    else:
        check_command(ended, ready)
    # what was sent needs nothing more, as the hint has it; and the same command again has nothing to report
    if not name.endswith("coins"):
        copied = Path(shutil.copytree(ready.wallet, desk.folder / "copied"))
    again = mpchan(ready.wallet, desk.chain, *ready.words)
    assert (again.code, again.err) == (0, ""), again
    desk.pair.chain.mine(1)
    if not name.endswith("coins"):
        [channel] = mpchan(copied, desk.chain, "list").json["channels"]
        assert channel["status"] in ("closed", "refunded", "open"), channel


def check_command(ended: Ended, ready: Ready) -> None:
    """The answer is told, and behind it that nothing could be written; or nothing had to be."""
    assert _txid(ended.json) == ready.txid
    if ended.code == 0:
        assert ended.err == ""
        return
    said = ended.error
    assert (said["error"], said["exit_code"], ended.code) == ("sent-unnoted", 7, 7), said
    assert str(ready.wallet) in said["message"], "which file"
    assert f"{ready.txid} went out all the same" in said["message"]


def check_round(ended: Ended, ready: Ready) -> None:
    """The round tells what was sent; the channel is what the chain shows of it, and never an opening."""
    [channel, _] = [json.loads(line) for line in ended.out.splitlines()]
    assert channel["txid"] == ready.txid
    assert channel["status"] in ("settling", "refunding"), channel
    assert channel["alarm"] in (None, "sent-unnoted"), channel
    assert (channel["alarm"] is None) == (ended.code == 0)
    assert ended.code in (0, 7)
    assert "chain" not in channel["reason"] or "mempool" in channel["reason"], channel["reason"]


@needs_proc
@pytest.mark.parametrize("disk", DISKS)
def test_79_who_broadcasts_by_hand_is_given_it(desk: Desk, disk: str) -> None:
    """With the backend ``none`` the answer is the way out."""
    ready = claim(desk)
    settings = ready.wallet / "wallet.toml"
    settings.write_text(settings.read_text().replace('backend = "embedded"', 'backend = "none"'))
    words = (*ready.words, "--tip", str(desk.pair.chain.tip().height), "--confirmations", "10")
    with failing(DISKS[disk], ready.wallet):
        ended = mpchan(ready.wallet, desk.chain, *words)
    assert (ended.json["txid"], ended.json["broadcast"]) == (ready.txid, False)
    assert ended.json["hex"]
    check_command(ended, ready)


@needs_proc
def test_79_a_round_without_a_deed_needs_no_disk(desk: Desk) -> None:
    """An open channel is open, whatever the disk says to what it is not asked."""
    desk.pair.accept(desk.pair.pay(desk.pair.open(), 1000))
    for wallet in desk.wallets:
        for disk in DISKS.values():
            with failing(disk, wallet):
                ended = mpchan(wallet, desk.chain, "watch", "--once")
            channel = json.loads(ended.out.splitlines()[0])
            assert (ended.code, channel["status"], channel["alarm"]) == (0, "open", None)


@needs_proc
def test_79_what_is_not_complete_on_the_disk_stays(desk: Desk) -> None:
    """A settlement that is countersigned only now, a funding that is signed only now: first the disk, then the way."""
    pair = desk.pair
    name = pair.open()
    places = desk.folder / "settlement", desk.folder / "reply"
    places[0].write_text(pair.settlement(name, 3000))
    places[1].write_text(pair.sign_refund(pair.request().hex))
    for disk in DISKS.values():
        for wallet, words in (
            (desk.payee, ("payee", "settle", places[0])),
            (desk.payer, ("payer", "fund", places[1])),
        ):
            mempool = pair.chain.mempool()
            with failing(disk, wallet):
                ended = mpchan(wallet, desk.chain, *words)
            assert (ended.code, ended.out) == (7, ""), ended
            assert ended.error["error"] in ("write-failed", "write-unsure", "lock-failed"), ended
            assert pair.chain.mempool() == mempool


@needs_proc
@pytest.mark.parametrize("disk", DISKS)
def test_79_the_process_takes_nothing_more_for_the_channel(desk: Desk, disk: str) -> None:
    """It sent what it noted nowhere: an update that it took now would be lost with it."""
    pair = desk.pair
    name = _final_update(desk)
    later = pair.pay(name, 1000)
    other = pair.open()
    with failing(DISKS[disk], desk.payee), pytest.raises(SentUnnoted):
        pair.settle(name=name)
    with pytest.raises(
        NotPossible, match="settling"
    ):  # so the chain says, and would not if it lost the close again
        pair.accept(later)
    record = pair.payee_record(name)
    with pytest.raises(StorageError, match="takes nothing more"):
        pair.payee.channels.save(record, "accepted")
    with pytest.raises(StorageError, match="takes nothing more"), pair.payee.channels.lock(name):
        pair.payee.channels.batch(name)
    assert pair.accept(pair.pay(other, 1000)).received_sat == 1000, "the others go on"
    assert pair.settle(name=name).broadcast is True, "its close is noted as soon as that is possible"
    pair.restart()
    assert type(pair.payee_record(name).state).__name__ == "Closing"


# 80: what would count does not --------------------------------------------------------------------


@needs_proc
@pytest.mark.parametrize("disk", [name for name in DISKS if name != "without locks"])
@pytest.mark.parametrize("kind", ["80 an update", "80 a settlement"])
def test_80_full_before_an_acceptance(desk: Desk, kind: str, disk: str) -> None:
    """Refused, nothing counted; the close is still possible, and what came is taken once the disk is in order."""
    pair = desk.pair
    name = _final_update(desk)
    held = _held(desk, name)
    message = pair.pay(name, 500) if kind == "80 an update" else pair.settlement(name, 1500)
    words = ("payee", "accept", desk.file(message + "\n"))
    with failing(DISKS[disk], desk.payee):
        ended = mpchan(desk.payee, desk.chain, *words)
        assert (ended.code, ended.out) == (7, ""), ended
        assert ended.error["error"] in ("write-failed", "write-unsure", "lock-failed"), ended
        assert name in ended.error["message"], "the error names its file"
        if ended.error["error"] == "write-failed":
            assert mpchan(desk.payee, desk.chain, "show", name).json["paid_sat"] == 1000
            closed = mpchan(desk.payee, desk.chain, "payee", "settle", "--channel", name)
            assert closed.json["txid"] == held
    if ended.error["error"] == "write-failed":
        assert is_sent(desk, held)
        return
    taken = desk.done(desk.payee, *words)
    assert (taken["received_sat"], taken["duplicate"]) in ((500, False), (0, True))
    assert taken["paid_sat"] == 1500
    assert mpchan(desk.payee, desk.chain, *words).json["duplicate"] is True


@needs_proc
@pytest.mark.parametrize("disk", DISKS)
def test_80_a_payment_that_cannot_be_written_is_none(desk: Desk, disk: str) -> None:
    """Nothing leaves, and the hint is true when it is followed: the payer pays once."""
    pair = desk.pair
    name = pair.open()
    with failing(DISKS[disk], desk.payer):
        ended = mpchan(desk.payer, desk.chain, "pay", "1000", "--channel", name)
    assert (ended.code, ended.out) == (7, ""), ended
    said = ended.error
    assert "safe" not in f"{said['hint']}", "never of this command"
    if said["error"] == "write-unsure":
        assert "`mpchan payer pay --last`" in said["hint"]
        last = mpchan(desk.payer, desk.chain, "payer", "pay", "--last", "--channel", name)
        counts = last.code == 0
        assert last.json["paid_sat"] == 1000 if counts else last.error["error"] == "no-update"
    else:
        counts = False
    if not counts:
        assert desk.done(desk.payer, "pay", "1000", "--channel", name)["paid_sat"] == 1000
    assert pair.accept(desk.done(desk.payer, "pay", "--last", "--channel", name)["hex"]).paid_sat == 1000


@needs_proc
def test_80_programs_that_embed_the_meter(desk: Desk) -> None:
    """Nothing was returned, nothing counts, and the meter goes on when the disk does."""
    pair = desk.pair
    name = pair.open()
    with payer_meter(desk, name) as paying, payee_meter(desk) as paid:
        for disk in ("full", "read-only"):
            with failing(DISKS[disk], desk.payer), pytest.raises(Exception, match=name):
                paying.pay(1000)
        message = paying.pay(1000)
        assert message.paid_sat == 1000
        with failing(DISKS["full"], desk.payee), pytest.raises(Exception, match=name):
            paid.accept(message.hex)
        assert paid.accept(message.hex).received_sat == 1000


def payer_meter(desk: Desk, name: str) -> Any:
    from mpchan.party.meter.payer import Payer

    return Payer(Wallet.open(desk.payer), name, chain=desk.pair.chain)


def payee_meter(desk: Desk) -> Any:
    from mpchan.party.meter.payee import Payee

    return Payee(Wallet.open(desk.payee), chain=desk.pair.chain)
