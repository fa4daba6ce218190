"""Line 81: files that lie beside a wallet's under names like theirs, as programs that sync, copy and edit make them.

What lies there is none of the wallet's files: every command answers as if it were not there, a backup leaves it out and
can be restored, and ``fsck`` names it. Nothing of it is ever changed or removed.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from support.external import External
from support.hostile import Desk, mpchan, refusal
from support.party import Pair, snapshot
from support.protocol import make_offer

from mpchan.chain.embedded import EmbeddedChain
from mpchan.party import backup as party_backup
from mpchan.party.coins import send
from mpchan.sale.manifest import Sale
from mpchan.units import Amount
from mpchan.wallet.backup import Backup
from mpchan.wallet.plans import Plans
from mpchan.wallet.purchases import Purchase, Purchases
from mpchan.wallet.wallet import Wallet

NAMES: dict[str, Callable[[str, str], str]] = {
    "81 a copy of a service that syncs": lambda stem, end: f"{stem} (conflicted copy){end}",
    "81 a copy with a name and a date": lambda stem, end: f"{stem} (Bob's conflicted copy 2026-11-30){end}",
    "81 a conflict of a program that syncs": lambda s, end: f"{s}.sync-conflict-20261130-101112-ABCDEFG{end}",
    "81 a second copy": lambda stem, end: f"{stem} 2{end}",
    "81 a copy in brackets": lambda stem, end: f"{stem} (1){end}",
    "81 what an editor keeps": lambda stem, end: f"{stem}{end}~",
    "81 what an editor is writing": lambda stem, end: f".{stem}{end}.swp",
    "81 what another editor is writing": lambda stem, end: f"#{stem}{end}#",
    "81 an older one": lambda stem, end: f"{stem}{end}.bak",
    "81 a copy behind": lambda stem, end: f"{stem} - Copy{end}",
    "81 a copy before": lambda stem, end: f"Copy of {stem}{end}",
}


@dataclass(frozen=True)
class Scene:
    """Two wallets that hold a file of every kind.

    Attributes:
        channels: the names of two channels, in both wallets.
    """

    desk: Desk
    channels: tuple[str, str]

    @property
    def pair(self) -> Pair:
        return self.desk.pair


CONTENT = [bytes([number]) * 65536 for number in (1, 2)]


@pytest.fixture(scope="module")
def scene(chain_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    base = tmp_path_factory.mktemp("foreign")
    folder = base / "desk"
    folder.mkdir()
    with EmbeddedChain(chain_directory) as chain:
        pair = External(base, chain)
        for _ in range(3):
            pair.coin()
        # far from every deadline: other tests mine on this chain
        names = [pair.open(min_refund_delay=2000, max_refund_delay=3000) for _ in range(2)]
        for name in names:
            pair.accept(pair.pay(name, 1000))
        pair.plan()
        send(pair.payer, chain, pair.payee.keys.script("receive", 0), Amount(20_000), sends=False)
        sale = Sale("film", 131072, 65536, Amount(1000), 0, tuple(sha256(each).digest() for each in CONTENT))
        offer = make_offer(sale=sale.to_table())
        Purchases(pair.payer.directory).save(Purchase("0f" * 16, offer, "/nowhere/film", (1, 2), (1, 2)))
        yield Scene(Desk(pair, folder), (names[0], names[1]))


def own_files(wallet: Path) -> list[Path]:
    """Every file that counts, at least one of each kind that a wallet of its role has."""
    found = [path for path in sorted(wallet.rglob("*")) if path.is_file() and path.stat().st_size]
    return [path for path in found if path.relative_to(wallet).parts[0] != "seen"]


def strew(wallet: Path, name: str) -> list[str]:
    """Lay a copy beside each file of a wallet; their names in it, sorted."""
    laid = []
    for path in own_files(wallet):
        copy = path.with_name(NAMES[name](path.stem, path.suffix))
        assert not copy.exists()
        shutil.copyfile(path, copy)
        laid.append(copy.relative_to(wallet).as_posix())
    return sorted(laid)


def looks(wallet: Path, scene: Scene) -> list[Any]:
    """What the commands that only look say."""
    channels = [each[:8] for each in scene.channels]
    words = [
        ("list",),
        ("balance",),
        *(("show", each) for each in channels),
        *(("history", each) for each in channels),
    ]
    return [mpchan(wallet, scene.desk.chain, *each).json for each in words]


@pytest.mark.parametrize("role", ["payer", "payee"])
@pytest.mark.parametrize("name", NAMES)
def test_copies_are_none_of_the_wallets_files(scene: Scene, tmp_path: Path, name: str, role: str) -> None:
    chain = scene.desk.chain
    wallet = Path(shutil.copytree(getattr(scene.desk, role), tmp_path / role))
    before, files = looks(wallet, scene), snapshot(wallet)
    kinds = {path.relative_to(wallet).parts[0] for path in own_files(wallet)}
    assert kinds >= {"keys.toml", "wallet.toml", "channels"} | (
        {"sent", "plans", "purchases"} if role == "payer" else {"offers", "generation"}
    )
    laid = strew(wallet, name)
    everything = snapshot(wallet)
    assert looks(wallet, scene) == before
    assert snapshot(wallet) == everything

    found = mpchan(wallet, chain, "fsck")
    assert (found.code, found.json["wrong"]) == (0, 0)
    assert found.json["foreign"] == laid
    assert all(any(each in warning for warning in found.json["warnings"]) for each in laid)

    kept = mpchan(wallet, chain, "backup", "-o", tmp_path / "backup")
    assert kept.code == 0
    assert set(laid) <= set(kept.json["left_out"])
    assert sum("none of the wallet's files" in warning for warning in kept.json["warnings"]) == len(laid)
    restored = tmp_path / "restored"
    answer = mpchan(restored, chain, "restore", tmp_path / "backup")
    assert answer.code == 0, answer
    assert answer.json["channels"] == 2
    held = {path.relative_to(restored).as_posix() for path in restored.rglob("*") if path.is_file()}
    assert not held & set(laid)
    assert {each["channel"] for each in mpchan(restored, chain, "list").json["channels"]} == {
        each[:16] for each in scene.channels
    }
    assert snapshot(wallet) == everything
    assert files.items() <= everything.items()


@pytest.mark.parametrize("name", ["81 a copy of a service that syncs", "81 a second copy"])
def test_the_money_moves_as_before(scene: Scene, tmp_path: Path, name: str) -> None:
    """Payments, an offer, an opening and a send in wallets that are strewn with copies; the copies stay as they are."""
    chain, wallets = scene.desk.chain, {}
    for role in ("payer", "payee"):
        wallets[role] = Path(shutil.copytree(getattr(scene.desk, role), tmp_path / role))
        strew(wallets[role], name)
    copies = {
        path: path.read_bytes()
        for wallet in wallets.values()
        for path in own_files(wallet)
        if path.relative_to(wallet).as_posix() in mpchan(wallet, chain, "fsck").json["foreign"]
    }
    message = tmp_path / "message"

    def done(role: str, *words: str | Path) -> dict[str, Any]:
        ended = mpchan(wallets[role], chain, *words)
        assert ended.code == 0, ended
        return ended.json

    prefix = scene.channels[0][:6]
    done("payer", "pay", "1000", "--channel", prefix, "-o", message)
    assert done("payee", "payee", "accept", message)["paid_sat"] == 2000
    done("payee", "payee", "offer", "-o", message)
    done("payer", "payer", "open", message, "50000", "-o", tmp_path / "request")
    done("payee", "payee", "sign-refund", tmp_path / "request", "-o", tmp_path / "reply")
    done("payer", "payer", "fund", tmp_path / "reply", "--no-broadcast")
    [txid] = Wallet.open(wallets["payer"]).sent.names()
    done("payer", "send", "--resend", txid)
    assert {path: path.read_bytes() for path in copies} == copies


def test_81_the_file_of_names_was_made_with_a_copy_beside_it(scene: Scene, tmp_path: Path) -> None:
    """An earlier program wrote the copy's name into it; a beginning of the id leads to the one channel all the same."""
    wallet = Path(shutil.copytree(scene.desk.payer, tmp_path / "payer"))
    name = scene.channels[0]
    for end in ("json", "journal"):
        shutil.copyfile(wallet / "channels" / f"{name}.{end}", wallet / "channels" / f"{name} 2.{end}")
    with (wallet / "channels" / "names").open("a") as file:
        file.write(f"{name} 2\n")
    for length in (6, 16, 64, len(name)):
        assert mpchan(wallet, scene.desk.chain, "show", name[:length]).json["channel"] == name[:16]
    refused = refusal([wallet], wallet, scene.desk.chain, "show", f"{name} 2")
    assert (refused.slug, refused.exit_code) == ("unknown-channel", 5)


@pytest.mark.parametrize("harm", ["a name that restore refuses", "settings of another network", "keys"])
def test_81_a_backup_that_could_not_be_restored_is_none(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    """What has been written before stays: it is proven before an older backup is replaced."""
    target = tmp_path / "backup"
    scene.desk.done(scene.desk.payee, "backup", "-o", target)
    older = target.read_bytes()
    real = party_backup.collect  # type: ignore[attr-defined]

    def collect(wallet: Wallet) -> Any:
        made, damaged = real(wallet)
        files = dict(made.files)
        if harm == "keys":
            files["keys.toml"] = b"version = 1\n"
        elif harm == "settings of another network":
            files["wallet.toml"] = files["wallet.toml"].replace(b'"regtest"', b'"signet"', 1)
        else:
            files["channels/another.json"] = b"{}"
        return Backup(made.time, made.network, files), damaged

    monkeypatch.setattr(party_backup, "collect", collect)
    ended = mpchan(scene.desk.payee, scene.desk.chain, "backup", "-o", target)
    assert (ended.error["error"], ended.code, ended.out) == ("backup-unproven", 7, "")
    assert target.read_bytes() == older
    assert os.listdir(tmp_path) == ["backup"]


def test_81_what_a_killed_process_left(scene: Scene, tmp_path: Path) -> None:
    """It is no stranger's; the repair removes it once nobody can be at it any more."""
    wallet = Path(shutil.copytree(scene.desk.payer, tmp_path / "payer"))
    old, young = (
        wallet / "channels" / f".{scene.channels[0]}.json.{name}.tmp" for name in ("4711", "0f" * 8)
    )
    for path in (old, young):
        path.write_text("half")
    os.utime(old, (1, 1))
    looked = mpchan(wallet, scene.desk.chain, "fsck")
    assert (looked.code, looked.json["foreign"]) == (0, [])
    assert old.exists()
    mended = mpchan(wallet, scene.desk.chain, "fsck", "--repair")
    assert mended.code == 0
    [told] = [each for each in mended.json["subjects"] if each["kind"] == "leftover"]
    assert told["name"] == old.relative_to(wallet).as_posix()
    assert (old.exists(), young.exists()) == (False, True)
    assert json.loads(looked.out)["checked"] == mended.json["checked"] - 1


def test_81_a_plan_is_found_once(scene: Scene, tmp_path: Path) -> None:
    wallet = Path(shutil.copytree(scene.desk.payer, tmp_path / "payer"))
    strew(wallet, "81 a second copy")
    assert len(list(Plans(wallet))) == len(Plans(wallet).files()) == 1
    assert len(Purchases(wallet).files()) == 1
    assert len(Wallet.open(wallet).sent.all()) == 1


def test_81_an_opening_that_was_given_up_is_listed(scene: Scene, tmp_path: Path) -> None:
    """Its files hold no funding, with or without a copy beside them."""
    desk = scene.desk
    wallet = Path(shutil.copytree(desk.payer, tmp_path / "payer"))
    offer = tmp_path / "offer"
    payee = Path(shutil.copytree(desk.payee, tmp_path / "payee"))
    assert mpchan(payee, desk.chain, "payee", "offer", "-o", offer).code == 0
    opened = mpchan(wallet, desk.chain, "payer", "open", offer, "20000").json
    assert mpchan(wallet, desk.chain, "payer", "abandon", "--channel", opened["channel"]).code == 0
    strew(wallet, "81 a second copy")
    listed = mpchan(wallet, desk.chain, "list").json["channels"]
    assert {each["channel"]: each["status"] for each in listed}[opened["channel"]] == "abandoned"
