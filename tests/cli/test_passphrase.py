"""Encrypted keys on the command line: where the passphrase comes from, what needs it, and what never does."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from pathlib import Path

import pytest
import tomli
from support.encrypted import GIVEN, SECRET, encrypt, typed, write_secret
from support.transcript import TIMEOUT_SECONDS, Shell

from mpchan.chain.embedded import EmbeddedChain

BUYER, SELLER = "mpchan --wallet buyer", "mpchan --wallet seller"
LOST = "who forgets it loses the keys: the seed words give back the wallet's coins, not the money of an open channel"
QUESTION = "passphrase (not shown): "


def version_of(shell: Shell, wallet: str) -> int:
    return int(tomli.loads(shell.text(f"{wallet}/keys.toml"))["version"])


def refused(shell: Shell, command: str, slug: str, **options: object) -> dict[str, object]:
    """The command fails so, and nothing at all has changed."""
    before = shell.files()
    error = shell.fails(command, 7, slug, **options)
    assert shell.changes(before) == [], command
    return error


# what needs it ------------------------------------------------------------------------------------


def test_a_whole_channel_between_encrypted_wallets(wallets: Shell) -> None:
    """Each command that signs fails without the passphrase and changes nothing; with it the channel runs its course."""
    encrypt(wallets, "buyer", "seller")
    address = wallets.json(f"{BUYER} address")["address"]
    for command in (
        f"{SELLER} payee offer -o offer.toml",
        f"{BUYER} open offer.toml 100000 -o request.psbt",
        f"{SELLER} payee sign-refund request.psbt -o signed.psbt",
        f"{BUYER} payer fund signed.psbt -o funding.hex",
        "mpchan regtest mine 1",
        f"{BUYER} pay 1000 -o update.psbt",
        f"{SELLER} payee accept update.psbt",
        f"{BUYER} pay --last -o again.psbt",
        f"{BUYER} pay --total 3000 -o second.psbt",
        f"{SELLER} payee accept second.psbt",
        f"{BUYER} settle -o settlement.psbt",
        f"{SELLER} settle settlement.psbt -o close.hex",
        "mpchan regtest mine 1",
        f"{SELLER} send {address} 1500 -o sent.hex",
    ):
        if "regtest" not in command:
            error = refused(wallets, command, "passphrase-needed")
            assert "MPCHAN_PASSPHRASE_FILE" in str(error["hint"])
        wallets.ok(command, **GIVEN)
    assert wallets.json(f"{SELLER} list")["channels"][0]["status"] == "closed"
    assert wallets.text("again.psbt") == wallets.text("update.psbt")


def test_what_needs_no_passphrase(paid: Shell) -> None:
    encrypt(paid, "buyer", "seller")
    for wallet in (BUYER, SELLER):
        for command in (
            "list", "show", "show --descriptor", "balance", "address", "scan", "watch --once",
            "wait --for confirmed", "inspect update.psbt",
        ):  # fmt: skip
            paid.ok(f"{wallet} {command}")
    plain = Shell(paid.folder.with_name("plain"), paid)
    write_secret(plain.folder / "secret", SECRET)
    plain.ok(f"{BUYER} passphrase remove", **GIVEN)
    assert plain.json(f"{BUYER} address") == paid.json(f"{BUYER} address")
    assert plain.json(f"{BUYER} balance") == paid.json(f"{BUYER} balance")


def test_the_watchers_need_none(paid: Shell) -> None:
    """The payee's sends the best update, the payer's the refund: each lies complete on the disk."""
    encrypt(paid, "buyer", "seller")
    twin = Shell(paid.folder.with_name("twin"), paid)
    twin.env["MPCHAN_REGTEST"] = str(twin.folder / "chain")
    paid.ok("mpchan regtest mine 200")
    paid.ok(f"{SELLER} watch --once")
    paid.ok("mpchan regtest mine 1")
    assert paid.json(f"{SELLER} show")["status"] == "closed"
    twin.ok("mpchan regtest mine 310")
    twin.ok(f"{BUYER} watch --once")
    twin.ok("mpchan regtest mine 1")
    assert twin.json(f"{BUYER} show")["status"] == "refunded"


def test_a_watcher_that_has_to_pay_for_a_close_asks_nobody(paid: Shell) -> None:
    """64. It takes the passphrase from where it is said to be; without one, a close that needs a child is an alarm."""
    encrypt(paid, "seller")
    paid.ok("mpchan regtest mine 160")
    paid.ok(f"{SELLER} watch --once")
    with EmbeddedChain(Path(paid.env["MPCHAN_REGTEST"])) as chain:
        for _ in range(12):
            assert chain.submit_block_with([]) is None
    done = paid.run(f"{SELLER} watch --once")
    assert (done.code, "passphrase-needed" in done.out) == (7, True), done
    code, _, screen = typed(paid, f"{SELLER} watch --once")
    assert (code, QUESTION in screen) == (7, False)
    done = paid.run(f"{SELLER} watch --once --json", **GIVEN)
    assert (done.code, '"action": "bump"' in done.out) == (0, True), done


def test_a_wrong_passphrase_is_told_before_it_is_needed(paid: Shell) -> None:
    """And the watcher goes on with what needs none."""
    encrypt(paid, "seller")
    write_secret(paid.folder / "secret", "wrong\n")
    done = paid.run(f"{SELLER} watch --once --json", **GIVEN)
    assert done.code == 7
    assert '"alarm": "passphrase-wrong"' in done.out
    assert '"channels": 1' in done.out


def test_closing_by_hand_needs_none(paid: Shell) -> None:
    """Nothing is signed for it either."""
    encrypt(paid, "buyer", "seller")
    twin = Shell(paid.folder.with_name("twin"), paid)
    twin.env["MPCHAN_REGTEST"] = str(twin.folder / "chain")
    paid.ok("mpchan regtest mine 200")
    assert paid.json(f"{SELLER} settle")["kind"] == "update"
    twin.ok("mpchan regtest mine 310")
    assert twin.json(f"{BUYER} refund")["broadcast"] is True


# where it comes from ------------------------------------------------------------------------------


def test_the_sources_in_their_order(paid: Shell) -> None:
    """A descriptor before a file, a file before the terminal."""
    encrypt(paid, "buyer")
    write_secret(paid.folder / "wrong", "wrong\n")
    both = {"MPCHAN_PASSPHRASE_FD": "3", "MPCHAN_PASSPHRASE_FILE": "wrong"}
    paid.ok(f"{BUYER} pay --last -q 3< secret", **both)
    refused(paid, f"{BUYER} pay --last 3< wrong", "passphrase-wrong", MPCHAN_PASSPHRASE_FD="3", **GIVEN)
    paid.ok(f"{BUYER} pay --last -q", MPCHAN_PASSPHRASE_FD="", **GIVEN)
    code, _, seen = typed(paid, f"{BUYER} pay --last -q", MPCHAN_PASSPHRASE_FILE="secret")
    assert (code, seen) == (0, "")


def test_a_descriptor_is_read_to_the_end_of_the_line(paid: Shell) -> None:
    """The line may lack its end; a writer that goes on, and ends long after, holds nothing up."""
    encrypt(paid, "seller")
    accept = f"{SELLER} payee accept update.psbt -q"
    paid.ok(f"printf '%s' '{SECRET}' | {accept}", MPCHAN_PASSPHRASE_FD="0")
    paid.ok(f"(cat secret; echo more) | {accept}", MPCHAN_PASSPHRASE_FD="0")
    ours, theirs = os.pipe()
    os.write(theirs, SECRET.encode() + b"\n")
    process = subprocess.Popen(
        accept.split(),
        cwd=paid.folder,
        env={**paid.env, "MPCHAN_PASSPHRASE_FD": str(ours)},
        pass_fds=[ours],
        start_new_session=True,
    )
    assert process.wait(TIMEOUT_SECONDS) == 0
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_file_that_others_may_read_is_refused(paid: Shell, mode: int) -> None:
    encrypt(paid, "buyer")
    (paid.folder / "secret").chmod(mode)
    error = refused(paid, f"{BUYER} pay 1", "passphrase-permissions", **GIVEN)
    assert error["hint"] == "chmod 600 secret"
    assert f"mode {mode:04o}" in str(error["message"])


@pytest.mark.parametrize(
    ("content", "slug"),
    [
        ("wrong", "passphrase-wrong"),
        (SECRET + "\n\n", "passphrase-unusable"),
        (SECRET + "\r\n", "passphrase-unusable"),
        (f"{SECRET}\nmore", "passphrase-unusable"),
        (f"{SECRET} ", "passphrase-wrong"),
        (f" {SECRET}", "passphrase-wrong"),
        ("", "passphrase-unusable"),
        ("\n", "passphrase-unusable"),
        (b"\xff\xfe", "passphrase-unusable"),
        ("secret\x00", "passphrase-unusable"),
        ("x" * 5000, "passphrase-unusable"),
    ],
)
def test_files_that_hold_no_passphrase_or_another(paid: Shell, content: str | bytes, slug: str) -> None:
    encrypt(paid, "buyer")
    write_secret(paid.folder / "secret", content)
    error = refused(paid, f"{BUYER} pay 1", slug, **GIVEN)
    assert SECRET not in json.dumps(error)


def test_sources_that_cannot_be_read(paid: Shell) -> None:
    encrypt(paid, "buyer")
    for name in ("missing", "buyer"):
        refused(paid, f"{BUYER} pay 1", "passphrase-unreadable", MPCHAN_PASSPHRASE_FILE=name)
    for number in ("9", "x", "-1", "1.5", "99999999999", "٣"):
        refused(paid, f"{BUYER} pay 1", "passphrase-unreadable", MPCHAN_PASSPHRASE_FD=number)


def test_no_argument_takes_it(paid: Shell) -> None:
    """It would stand in the shell's history, and in the list of processes."""
    encrypt(paid, "buyer")
    for command in (
        f"passphrase set {SECRET}",
        "init --encrypt=x",
        "--passphrase x list",
        "pay 1 --passphrase x",
    ):
        paid.fails(f"{BUYER} {command}", 2, "usage")


# a person -----------------------------------------------------------------------------------------


def test_a_person_types_it_unseen(paid: Shell) -> None:
    """On the terminal, so that standard input stays free for the message."""
    encrypt(paid, "seller")
    paid.ok(f"{BUYER} pay 1000 -q -o second.psbt")
    message = (paid.folder / "second.psbt").read_bytes()
    accept = f"{SELLER} payee accept - --json"
    code, out, seen = typed(paid, accept, SECRET.encode() + b"\n", stdin=message)
    assert (code, json.loads(out)["paid_sat"], seen) == (0, 2000, f"{QUESTION}\n")


def test_a_person_has_three_tries(paid: Shell) -> None:
    encrypt(paid, "buyer")
    right, wrong = SECRET.encode() + b"\n", b"wrong\n"
    code, out, seen = typed(paid, f"{BUYER} pay --last -q", wrong, b"\n", right)
    assert code == 0
    assert out == paid.text("update.psbt")
    assert seen.splitlines() == [
        QUESTION,
        "mpchan: the passphrase is wrong, try again",
        QUESTION,
        "mpchan: the passphrase is empty, try again",
        QUESTION,
    ]
    before = paid.files()
    code, out, seen = typed(paid, f"{BUYER} pay 1000", wrong, wrong, wrong)
    assert (code, out) == (7, "")
    assert seen.splitlines()[-1] == "mpchan: error: the passphrase is wrong"
    assert "wrong\n" not in seen.replace("is wrong\n", "")
    code, out, seen = typed(paid, f"{BUYER} pay 1000", b"\x04")
    assert (code, out) == (7, "")
    code, out, seen = typed(paid, f"{BUYER} pay 1000", b"\x03")
    assert (code, out) == (130, "")
    assert paid.changes(before) == []


def test_who_thinks_about_it_keeps_nobody_waiting(paid: Shell) -> None:
    """No lock is held while a question waits for its answer, and nothing has changed yet."""
    encrypt(paid, "buyer", "seller")
    address = paid.json(f"{BUYER} address")["address"]
    paid.ok(f"{BUYER} pay 1 -q -o second.psbt", **GIVEN)
    paid.ok(f"{SELLER} payee offer -q -o offer2.toml", **GIVEN)
    before = paid.files()
    locks = [*paid.folder.glob("*/wallet.lock"), *paid.folder.glob("*/channels/*.lock")]
    asked = []

    def nobody_waits() -> None:
        asked.append(True)
        for path in locks:
            with open(path) as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises where it is held

    for command in (
        f"{BUYER} pay 1000",
        f"{BUYER} pay --last",
        f"{BUYER} settle",
        f"{BUYER} open offer2.toml 50000",
        f"{BUYER} send {address} 1000",
        f"{BUYER} payer fund signed.psbt",
        f"{BUYER} bump --fee-rate 20",
        f"{BUYER} passphrase change",
        f"{BUYER} passphrase remove",
        f"{SELLER} payee offer",
        f"{SELLER} payee sign-refund request.psbt",
        f"{SELLER} payee accept second.psbt",
    ):
        code, out, seen = typed(paid, command, b"\x04", meanwhile=nobody_waits)
        assert (code, out) == (7, ""), (command, seen)
        assert paid.changes(before) == [], command
    assert len(locks) == 4
    assert len(asked) == 12


def test_a_new_one_is_typed_twice(bare: Shell) -> None:
    one, other = "grün\n".encode(), b"other\n"
    code, out, seen = typed(bare, f"{BUYER} init --encrypt --json", one, other, b"\n", one, one)
    assert code == 0
    assert json.loads(out)["encrypted"] is True
    assert seen.splitlines() == [
        "new passphrase (not shown): ",
        "the same again (not shown): ",
        "mpchan: the two passphrases differ, try again",
        "new passphrase (not shown): ",
        "mpchan: the passphrase is empty, try again",
        "new passphrase (not shown): ",
        "the same again (not shown): ",
    ]
    write_secret(bare.folder / "secret", "gru\u0308n")
    bare.ok(f"{BUYER} passphrase remove", **GIVEN)
    code, _, seen = typed(bare, "mpchan --wallet third init --encrypt", one, other, one, other, one, other)
    assert code == 7
    assert "the two passphrases differ" in seen
    assert not (bare.folder / "third").exists()


# the commands -------------------------------------------------------------------------------------


def test_set_change_remove(bare: Shell) -> None:
    bare.ok(f"{BUYER} init")
    plain = bare.text("buyer/keys.toml")
    write_secret(bare.folder / "secret", SECRET)
    write_secret(bare.folder / "new", "another")
    bare.play(
        f"""
        $ MPCHAN_PASSPHRASE_FILE=secret mpchan --wallet buyer passphrase set
        the keys of <folder>/buyer are encrypted with the new passphrase
        2> {LOST}
        $ MPCHAN_PASSPHRASE_FILE=secret MPCHAN_NEW_PASSPHRASE_FILE=new mpchan --wallet buyer passphrase change --json
        {{"wallet": "<folder>/buyer", "encrypted": true}}
        """
    )
    refused(bare, f"{BUYER} passphrase remove", "passphrase-wrong", **GIVEN)
    refused(bare, f"{BUYER} passphrase remove", "passphrase-needed")
    refused(bare, f"{BUYER} passphrase change", "passphrase-needed", MPCHAN_PASSPHRASE_FILE="new")
    bare.fails(f"{BUYER} passphrase set", 5, "already-encrypted", **GIVEN)
    done = bare.ok(f"{BUYER} passphrase remove", MPCHAN_PASSPHRASE_FILE="new")
    assert done.out == f"the keys of {bare.folder}/buyer are not encrypted any more\n"
    assert bare.text("buyer/keys.toml") == plain
    for command in ("change", "remove"):
        bare.fails(f"{BUYER} passphrase {command}", 5, "not-encrypted", **GIVEN)
    write_secret(bare.folder / "secret", "")
    refused(bare, f"{BUYER} passphrase set", "passphrase-unusable", **GIVEN)


def test_both_passphrases_on_one_descriptor(bare: Shell) -> None:
    """Line by line, the old one first."""
    bare.ok(f"printf 'old\\n' | {BUYER} init --encrypt", MPCHAN_PASSPHRASE_FD="0")
    both = {"MPCHAN_PASSPHRASE_FD": "0", "MPCHAN_NEW_PASSPHRASE_FD": "0"}
    bare.ok(f"printf 'old\\nnew\\n' | {BUYER} passphrase change", **both)
    bare.ok(f"printf 'new\\n' | {BUYER} passphrase remove", **both)


def test_init_encrypts_from_the_start(bare: Shell) -> None:
    """With new words and with known ones; nothing is made without a passphrase."""
    write_secret(bare.folder / "secret", SECRET)
    refused(bare, f"{BUYER} init --encrypt", "passphrase-needed")
    assert not (bare.folder / "buyer").exists()
    made = bare.ok(f"{BUYER} init --encrypt --show-words --json", **GIVEN).json
    assert list(made) == ["wallet", "network", "chain", "encrypted", "words"]
    restored = bare.ok(f"{SELLER} init --encrypt --restore", stdin=made["words"].encode(), **GIVEN)
    assert "(chain: embedded, keys encrypted)" in restored.out
    assert LOST in restored.err
    assert bare.json(f"{BUYER} address") == bare.json(f"{SELLER} address")
    assert (version_of(bare, "buyer"), version_of(bare, "seller")) == (2, 2)
    bare.fails(f"{BUYER} init --encrypt", 7, "wallet-exists", **GIVEN)
    # a passphrase in the environment alone encrypts nothing
    bare.ok("mpchan --wallet third init", **GIVEN)
    assert version_of(bare, "third") == 1


# no secret leaves ---------------------------------------------------------------------------------


def secrets_of(shell: Shell, wallet: str) -> list[bytes]:
    """Everything that must stay inside, in the forms in which it could get out."""
    from mpchan.bitcoin.hd import ExtendedKey
    from mpchan.bitcoin.network import REGTEST
    from mpchan.bitcoin.seed_words import entropy_to_words

    table = tomli.loads(shell.text(f"{wallet}/keys.toml"))
    entropy, seed = bytes.fromhex(table["entropy"]), bytes.fromhex(table["seed"])
    master = ExtendedKey.from_seed(seed)
    paths = ["m/84'/1'/0'", "m/84'/1'/0'/0/0", "m/84'/1'/0'/1/0"]
    paths += [f"m/7420'/1'/0'/{index}'" for index in range(3)]
    found = [SECRET.encode(), entropy_to_words(entropy).encode(), entropy, seed]
    for key in (master, *(master.derive(path) for path in paths)):
        found += [key.to_base58(REGTEST).encode(), key.private_key.to_bytes()]
    return found + [value.hex().encode() for value in found if len(value) in (16, 32, 64)]


@pytest.mark.parametrize("encrypted", [True, False])
def test_no_command_tells_a_secret(paid: Shell, encrypted: bool) -> None:
    """Of all that commands say and write, on screens and on disk, errors and their tracebacks too."""
    secrets = {wallet: secrets_of(paid, wallet) for wallet in ("buyer", "seller")}
    write_secret(paid.folder.with_name("secret"), SECRET)
    write_secret(paid.folder.with_name("wrong"), "wrong")
    if encrypted:
        encrypt(paid, "buyer", "seller")
        (paid.folder / "secret").unlink()
    told = b""
    for command in (
        f"{SELLER} payee offer -o offer2.toml",
        f"{SELLER} payee offer",
        f"{BUYER} open offer2.toml 50000 -o request2.psbt",
        f"{BUYER} verify request2.psbt",
        f"{SELLER} verify request2.psbt",
        f"{SELLER} payee sign-refund request2.psbt -o signed2.psbt",
        f"{BUYER} payer fund signed2.psbt -o funding2.hex --refund-out refund2.hex",
        f"{BUYER} pay 1000 --channel <channel> -o second.psbt",
        f"{SELLER} payee accept second.psbt",
        f"{SELLER} verify second.psbt",
        f"{BUYER} show <channel>",
        f"{BUYER} list",
        f"{SELLER} balance",
        f"{SELLER} address",
        f"{BUYER} send nonsense 1000",
        f"{BUYER} init",
        f"{BUYER} init --encrypt",
        f"{BUYER} passphrase set",
        f"{BUYER} passphrase change",
        f"{BUYER} settle --channel <channel> -o settlement.psbt",
        f"{SELLER} settle settlement.psbt -o close.hex",
        f"{BUYER} bump --fee-rate 20 --no-broadcast -o child.hex",
        f"{BUYER} scan",
        f"{SELLER} watch --once",
    ):
        for given, form in (("../secret", ""), ("../wrong", ""), (None, "--json")):
            env = {"MPCHAN_PASSPHRASE_FILE": given, "MPCHAN_NEW_PASSPHRASE_FILE": given}
            done = paid.run(f"{command} {form}", MPCHAN_DEBUG="1", **env)  # type: ignore[arg-type]
            told += done.out.encode() + done.err.encode()
    if encrypted:
        assert version_of(paid, "buyer") == version_of(paid, "seller") == 2
    for path in paid.folder.rglob("*"):
        if path.is_file() and (encrypted or path.name != "keys.toml"):
            told += path.read_bytes()
    assert b"confirmed" in told
    assert b"passphrase is wrong" in told or not encrypted
    for owned in secrets.values():
        for secret in owned:
            assert secret not in told


def test_the_check_for_secrets_can_see(paid: Shell) -> None:
    """A plain wallet's file does hold them."""
    text = (paid.folder / "buyer" / "keys.toml").read_bytes()
    assert sum(secret in text for secret in secrets_of(paid, "buyer")) == 2
