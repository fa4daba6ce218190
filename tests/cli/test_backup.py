"""``mpchan backup`` and ``mpchan restore``: the file, what is refused, and what a crash leaves."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from support.transcript import Shell

from mpchan import durability
from mpchan.errors import MpchanError
from mpchan.party.backup import restore
from mpchan.wallet.store import canonical, checksum
from mpchan.wallet.wallet import Wallet

SELLER = "mpchan --wallet seller"
NEW = "mpchan --wallet new"
LOCKS = ".lock"


@pytest.fixture
def kept(paid: Shell) -> Shell:
    """A payee with a channel of one update, an unused offer, and its ``seller.backup``."""
    paid.ok(f"{SELLER} payee offer -o unused.toml")
    paid.ok(f"{SELLER} backup -o seller.backup")
    return paid


def files(folder: Path) -> dict[str, bytes]:
    """A wallet's files but its locks."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != LOCKS
    }


def contents(shell: Shell) -> Any:
    return json.loads(shell.text("seller.backup"))["contents"]


def rewritten(shell: Shell, change: Any) -> None:
    """The backup with other contents and a checksum that fits."""
    body = contents(shell)
    change(body)
    text = canonical(body)
    (shell.folder / "seller.backup").write_text(
        f'{{"mpchan_backup": 1, "checksum": "{checksum(text)}", "contents": {text}}}\n'
    )


def test_it_holds_every_file(kept: Shell) -> None:
    """Byte for byte, and nobody else can read it."""
    (kept.folder / "seller" / "seen").mkdir(exist_ok=True)
    (kept.folder / "seller" / "seen" / "cache").write_text("can be looked up again")
    (kept.folder / "seller" / ".keys.toml.1.tmp").write_text("left by a process that was killed")
    result = kept.json(f"{SELLER} backup -o seller.backup")
    assert result["channels"] == 1
    assert result["offers"] == 2
    assert result["bytes"] == (kept.folder / "seller.backup").stat().st_size
    assert stat.S_IMODE((kept.folder / "seller.backup").stat().st_mode) == 0o600
    held = {name: text.encode() for name, text in contents(kept)["files"].items()}
    own = files(kept.folder / "seller")
    passing = ("seen/", ".", "channels/names", "generation")
    assert result["left_out"] == sorted(name for name in own if name.startswith(passing))
    assert {"generation", "seen/cache", ".keys.toml.1.tmp"} <= set(result["left_out"])
    assert held == {name: data for name, data in own.items() if not name.startswith(passing)}
    assert {name.split("/")[0] for name in held} == {"wallet.toml", "keys.toml", "offers", "channels"}


def test_people_are_told(kept: Shell) -> None:
    made = kept.ok(f"{SELLER} backup -o seller.backup")
    assert (
        made.out == "seller.backup: 1 channel and 2 offers; keep it secret; keep it away from this machine\n"
    )
    done = kept.ok(f"{NEW} restore seller.backup")
    assert done.out == "restored a regtest wallet in new: 1 channel\nvoid, so make new ones: 1 unused offer\n"
    assert done.err.startswith("never use two copies of one wallet")


def test_the_wallet_is_there_again(kept: Shell) -> None:
    """With the modes of a new one, and a history that goes on."""
    before = kept.json(f"{SELLER} show")
    result = kept.json(f"{NEW} restore seller.backup")
    assert list(result) == ["wallet", "network", "time", "channels", "void_offers", "to_sync", "scan"]
    assert (result["channels"], result["void_offers"], result["to_sync"]) == (1, 1, [])
    assert kept.json(f"{NEW} show") == before
    for path in [kept.folder / "new", *(kept.folder / "new").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    (journal,) = (kept.folder / "new" / "channels").glob("*.journal")
    events = [json.loads(line)["line"]["event"] for line in journal.read_text().splitlines()]
    assert events[-1] == "restored"
    assert len(events) > 2
    assert not list(kept.folder.glob(".*restoring"))


def test_addresses_that_were_used_since_are_found(wallets: Shell) -> None:
    wallets.ok("mpchan --wallet buyer backup -o buyer.backup")
    wallets.ok("mpchan regtest faucet $(mpchan --wallet buyer address) 5000")
    wallets.ok("mpchan regtest mine 1")
    result = wallets.json(f"{NEW} restore buyer.backup")
    assert result["scan"]["coins_sat"] == 100_005_000
    assert wallets.json(f"{NEW} balance") == wallets.json("mpchan --wallet buyer balance")


def test_where_a_backup_cannot_stand(kept: Shell) -> None:
    for target in ("seller/my.backup", "seller/channels/x", "seller/keys.toml"):
        kept.fails(f"{SELLER} backup -o {target}", 2, "output-is-wallet")
    (kept.folder / "folder").mkdir()
    for target in ("folder", "-", "missing/file"):
        kept.fails(f"{SELLER} backup -o {target}", 2, "output-unwritable")
    kept.fails(f"{SELLER} backup", 2, "usage")
    kept.fails("mpchan --wallet nobody backup -o file", 7, "no-wallet")


def test_where_a_wallet_cannot_stand(kept: Shell) -> None:
    kept.fails(f"{SELLER} restore seller.backup", 7, "wallet-exists")
    (kept.folder / "full").mkdir()
    (kept.folder / "full" / "file").write_text("not ours")
    kept.fails("mpchan --wallet full restore seller.backup", 7, "directory-not-empty")
    (kept.folder / "empty").mkdir(mode=0o755)
    kept.ok("mpchan --wallet empty restore seller.backup")
    assert stat.S_IMODE((kept.folder / "empty").stat().st_mode) == 0o700
    kept.fails("mpchan --wallet empty restore seller.backup", 7, "wallet-exists")


def test_a_damaged_backup_is_no_backup(kept: Shell) -> None:
    """Cut at any length, or with a byte changed: nothing is made."""
    data = (kept.folder / "seller.backup").read_bytes()
    directory = kept.folder / "new"
    for length in {*range(0, len(data) - 1, 97), len(data) - 2}:
        with pytest.raises(MpchanError) as caught:
            restore(data[:length], directory)
        assert caught.value.exit_code == 3
    for place in range(0, len(data) - 1, 101):
        with pytest.raises(MpchanError):
            restore(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :], directory)
    assert not directory.exists()
    assert not list(kept.folder.glob(".*"))


@pytest.mark.parametrize(
    "name",
    [
        "../keys.toml",
        "/etc/passwd",
        "channels/../keys.toml",
        "offers/x.toml",
        "wallet.lock",
        "channels",
        "seen/a",
        "",
    ],
)
def test_a_hostile_backup_writes_nothing_but_a_wallet(kept: Shell, name: str) -> None:
    rewritten(kept, lambda body: body["files"].update({name: "text"}))
    kept.fails(f"{NEW} restore seller.backup", 3, "malformed-backup")


def test_what_is_no_backup(kept: Shell) -> None:
    changes: list[tuple[Any, str, int]] = [
        (lambda body: body["files"].pop("keys.toml"), "malformed-backup", 3),
        (lambda body: body.pop("files"), "malformed-backup", 3),
        (lambda body: body.update(network="mainnet"), "malformed-backup", 3),
        (lambda body: body["files"].update({"keys.toml": 1}), "malformed-backup", 3),
        (lambda body: body["files"].update({"keys.toml": "\ud800"}), "malformed-backup", 3),
        (lambda body: body["files"].update({"wallet.toml": "x"}), "malformed-config", 3),
        (lambda body: body["files"].update({"keys.toml": "x"}), "keys-damaged", 7),
    ]
    good = kept.text("seller.backup")
    for change, slug, code in changes:
        (kept.folder / "seller.backup").write_text(good)
        rewritten(kept, change)
        kept.fails(f"{NEW} restore seller.backup", code, slug)
    (kept.folder / "seller.backup").write_text(good.replace('"mpchan_backup": 2', '"mpchan_backup": 3'))
    kept.fails(f"{NEW} restore seller.backup", 3, "backup-version")
    kept.fails(f"{NEW} restore unused.toml", 3, "malformed-backup")
    kept.fails(f"{NEW} restore missing", 3, "unreadable-file")
    kept.fails(f"{NEW} restore seller", 3, "unreadable-file")
    os.mkfifo(kept.folder / "pipe")
    kept.fails(f"{NEW} restore pipe", 3, "unreadable-file")
    assert not list(kept.folder.glob(".*"))


def test_a_damaged_channel_comes_back_as_it_was(kept: Shell) -> None:
    """It keeps no other from being kept, and is named both times."""
    (state,) = (kept.folder / "seller" / "channels").glob("*.json")
    state.write_bytes(b"\xff\x00 not a channel")
    result = kept.json(f"{SELLER} backup -o seller.backup")
    assert "damaged channel" in result["warnings"][0]
    result = kept.json(f"{NEW} restore seller.backup")
    assert "was damaged when the backup was made" in result["warnings"][0]
    assert (kept.folder / "new" / "channels" / state.name).read_bytes() == state.read_bytes()
    kept.fails(f"{NEW} show {state.name[:16]}", 7, "malformed-file")


def test_a_crash_leaves_a_whole_wallet_or_none(kept: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before each step in turn; the same command again then makes the wallet."""
    data = (kept.folder / "seller.backup").read_bytes()
    directory = kept.folder / "new"
    steps = 0
    while _killed_at(steps, data, directory):
        whole = (directory / "wallet.toml").exists()
        assert whole or not directory.exists()
        if whole:
            break
        steps += 1
    assert steps > 40
    if not (directory / "wallet.toml").exists():
        restore(data, directory)
    own = files(directory)
    assert set(own) == set(contents(kept)["files"])
    offers = [Wallet.open(directory).offers.load(path.stem) for path in directory.glob("offers/*.toml")]
    assert [own.void for own in offers] == [True, True]  # what is used goes on by its channel
    assert not list(kept.folder.glob(".*"))


def _killed_at(count: int, data: bytes, directory: Path) -> bool:
    """Restore in a process that ends before its step number ``count``; whether it came so far."""
    child = os.fork()
    if not child:
        left = count

        def step(kind: str, act: Any, *arguments: Any, **options: Any) -> Any:
            nonlocal left
            if left == 0:
                os._exit(9)
            left -= 1
            return act(*arguments, **options)

        durability.step = step  # only this process has it
        code = 1
        try:
            restore(data, directory)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, 9)
    return code == 9


def test_a_command_at_work_is_waited_for(kept: Shell) -> None:
    """A backup is of one moment: it takes the wallet's lock and each channel's."""
    import fcntl

    (channel,) = (kept.folder / "seller" / "channels").glob("*.lock")
    for lock in (kept.folder / "seller" / "wallet.lock", channel):
        with open(lock, "rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            wallet = Wallet.open(kept.folder / "seller")
            wallet.channels.patience = 0.0
            if lock is channel:
                from mpchan.wallet.backup import collect

                with pytest.raises(MpchanError) as caught:
                    collect(wallet)
                assert caught.value.slug == "locked"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("init", "Words alone do not recover the money of open channels."),
        ("payer fund", "seed words alone do not recover the money of an open channel"),
        ("backup", "Seed words alone do not recover the money of open channels"),
        ("restore", "Seed words alone (`mpchan init --restore`) do not recover the money of open channels"),
    ],
)
def test_every_text_says_that_words_are_not_enough(bare: Shell, command: str, words: str) -> None:
    text = " ".join(bare.ok(f"mpchan {command} --help").out.split())
    assert words in text
    assert "backup" in text


def test_a_restored_wallet_is_sound(kept: Shell) -> None:
    kept.ok("mpchan --wallet buyer backup -o buyer.backup")
    for wallet in ("seller", "buyer"):
        kept.ok(f"mpchan --wallet new-{wallet} restore {wallet}.backup")
        assert kept.json(f"mpchan --wallet new-{wallet} fsck")["wrong"] == 0
    kept.ok("mpchan --wallet new-seller payee export-latest -o latest.psbt")
    kept.ok("mpchan --wallet new-buyer payer sync latest.psbt")
    kept.ok("mpchan --wallet new-buyer pay 500 -o update.psbt")
    kept.ok("mpchan --wallet new-seller payee accept update.psbt")
    for wallet in ("seller", "buyer"):
        assert kept.json(f"mpchan --wallet new-{wallet} fsck")["wrong"] == 0


# encrypted ----------------------------------------------------------------------------------------


@pytest.fixture
def sealed(kept: Shell) -> Shell:
    """The same, with keys that are encrypted; ``secret`` holds the passphrase, ``wrong`` another one."""
    for name, text in (("secret", "correct horse"), ("wrong", "wrong horse")):
        (kept.folder / name).write_text(text + "\n")
        (kept.folder / name).chmod(0o600)
    kept.ok(f"{SELLER} passphrase set", MPCHAN_PASSPHRASE_FILE="secret")
    (kept.folder / "seller.backup").unlink()
    return kept


def test_an_encrypted_wallet_has_an_encrypted_backup(sealed: Shell) -> None:
    """All of it: no name, key or address can be read; and the passphrase opens it as it opens the wallet."""
    sealed.fails(f"{SELLER} backup -o seller.backup", 7, "passphrase-needed")
    sealed.fails(f"{SELLER} backup -o seller.backup", 7, "passphrase-wrong", MPCHAN_PASSPHRASE_FILE="wrong")
    made = sealed.json(f"{SELLER} backup -o seller.backup", MPCHAN_PASSPHRASE_FILE="secret")
    assert made["encrypted"] is True
    text = sealed.text("seller.backup")
    assert sorted(json.loads(text)) == ["checksum", "encrypted", "mpchan_backup"]
    shown = sealed.json(f"{SELLER} show")
    for word in (
        shown["payee_pubkey"],
        shown["payee_address"],
        shown["funding"]["txid"],
        "keys.toml",
        "correct horse",
    ):
        assert word not in text
    sealed.fails(f"{NEW} restore seller.backup", 7, "passphrase-needed")
    sealed.fails(f"{NEW} restore seller.backup", 7, "passphrase-wrong", MPCHAN_PASSPHRASE_FILE="wrong")
    assert not (sealed.folder / "new").exists()
    sealed.json(f"{NEW} restore seller.backup", MPCHAN_PASSPHRASE_FILE="secret")
    assert sealed.json(f"{NEW} show") == shown
    sealed.fails(f"{NEW} payee offer", 7, "passphrase-needed")
    sealed.json(f"{NEW} payee offer", MPCHAN_PASSPHRASE_FILE="secret")


def test_an_encrypted_backup_that_is_damaged(sealed: Shell) -> None:
    """That is seen without the passphrase; a change with a new checksum is not the passphrase's any more."""
    sealed.json(f"{SELLER} backup -o seller.backup", MPCHAN_PASSPHRASE_FILE="secret")
    good = sealed.text("seller.backup")
    table = json.loads(good)["encrypted"]
    (sealed.folder / "seller.backup").write_text(good[:-200] + good[-150:])
    sealed.fails(f"{NEW} restore seller.backup", 3, "malformed-backup")
    for change, slug, code in (
        (
            {"ciphertext": table["ciphertext"][:-2] + ("00" if table["ciphertext"][-2:] != "00" else "01")},
            "passphrase-wrong",
            7,
        ),
        ({"n": 3}, "malformed-backup", 3),
    ):
        text = canonical({**table, **change})
        (sealed.folder / "seller.backup").write_text(
            f'{{"mpchan_backup": 1, "checksum": "{checksum(text)}", "encrypted": {text}}}\n'
        )
        sealed.fails(f"{NEW} restore seller.backup", code, slug, MPCHAN_PASSPHRASE_FILE="secret")
