"""Words: shown once, typed unseen, never repeated; and what ``scan`` finds by them."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import time
from pathlib import Path

import pytest
import tomli
from support.transcript import TIMEOUT_SECONDS, Shell

ABANDON = "abandon " * 11 + "about"
BUYER = "mpchan --wallet buyer"
ALONE = (
    "words alone recover the wallet's coins, not the money of an open channel: that needs a backup "
    "(`mpchan backup`), or for a payer its refund; under the scheme taproot, its offer"
)


def keys_of(shell: Shell, wallet: str) -> dict[str, object]:
    table: dict[str, object] = tomli.loads(shell.text(f"{wallet}/keys.toml"))
    return table


def test_words_are_shown_to_people_on_stderr(bare: Shell) -> None:
    """Whole on one line, also with -q, and once."""
    for options in ("", "-q"):
        done = bare.ok(f"mpchan --wallet buyer{options} init --show-words {options}")
        lines = done.err.splitlines()
        assert lines[0] == "write these words down, in this order; they are shown this once:"
        assert len(lines[1].split()) == 12
        assert lines[2:] == ([] if options else [ALONE])
        wallet = f"buyer{options}"
        again = bare.json(f"mpchan --wallet again{options} init --restore", stdin=lines[1].encode())
        assert again["scan"]["found"] == 0
        assert keys_of(bare, f"again{options}")["seed"] == keys_of(bare, wallet)["seed"]
        assert lines[1] not in done.out


def test_words_stand_in_the_object(bare: Shell) -> None:
    result = bare.json(f"{BUYER} init --show-words")
    assert list(result) == ["wallet", "network", "chain", "words"]
    bare.json("mpchan --wallet again init --restore --network signet", stdin=result["words"].encode())
    assert keys_of(bare, "again")["entropy"] == keys_of(bare, "buyer")["entropy"]
    assert "words" not in bare.json("mpchan --wallet other init")


def test_a_wallet_is_restored_with_its_coins(wallets: Shell) -> None:
    """From the words on standard input; the search is made at once."""
    lost = wallets.json("mpchan --wallet lost init --show-words")
    for amount in (1000, 2000, 3000):
        wallets.ok(f"mpchan regtest faucet $(mpchan --wallet lost address) {amount}")
    wallets.ok("mpchan regtest mine 1")
    (wallets.folder / "words").write_text(lost["words"].replace(" ", "\n").upper())
    wallets.play(
        f"""
        $ mpchan --wallet buyer2 init --restore < words
        made a regtest wallet in <folder>/buyer2 (chain: embedded)
        found 3 used addresses with 6000 sat; next are receive 3 and change 0
        2> {ALONE}
        + buyer2/keys.toml
        + buyer2/wallet.lock
        + buyer2/wallet.toml
        $ mpchan --wallet buyer2 balance --json
        {{"confirmed_sat": 6000, "unconfirmed_sat": 0, "in_channels_sat": 0}}
        $ mpchan --wallet lost address
        <address:next>
        ~ lost/keys.toml
        $ mpchan --wallet buyer2 scan --json
        {{"receive": 3, "change": 0, "found": 3, "coins_sat": 6000}}
        $ mpchan --wallet buyer2 address
        <address:next>
        ~ buyer2/keys.toml
        $ mpchan --wallet buyer2 scan --gap-limit 5
        found 3 used addresses with 6000 sat; next are receive 4 and change 0
        """
    )
    index = keys_of(wallets, "buyer2")["next_channel"]
    assert isinstance(index, int)
    assert index >= 1000


def test_without_a_chain_the_wallet_is_restored_all_the_same(bare: Shell) -> None:
    done = bare.ok(f"{BUYER} init --restore --network mainnet", stdin=ABANDON.encode())
    assert "mpchan: warning: the chain was not searched, run `mpchan scan` before anything else" in done.err
    assert bare.ok(f"{BUYER} address").out == "bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu\n"
    result = bare.json("mpchan --wallet seller init --restore --chain none", stdin=ABANDON.encode())
    assert (result["scan"], len(result["warnings"])) == (None, 1)
    bare.fails("mpchan --wallet seller scan", 8, "no-backend")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "0 seed words, not 12, 15, 18, 21 or 24"),
        ("abandon " * 11, "11 seed words, not 12, 15, 18, 21 or 24"),
        ("abandon " * 12, "the checksum of the seed words is wrong"),
        (ABANDON.replace("about", "aboat"), "seed word 12 is not in the English list"),
        (f"secretword {ABANDON[8:]}", "seed word 1 is not in the English list"),
        (f"{ABANDON} about about", "14 seed words, not 12, 15, 18, 21 or 24"),
        ("x" * 5000, "more than 4096 bytes are no seed words"),
        (b"\xff\xfe" * 20, "standard input is no text of seed words"),
        (b"abandon\x00" * 12, "1 seed words, not 12, 15, 18, 21 or 24"),
    ],
)
def test_words_that_are_none(bare: Shell, words: str | bytes, message: str) -> None:
    """The position of the wrong word is told, the word is not."""
    data = words.encode() if isinstance(words, str) else words
    error = bare.fails(f"{BUYER} init --restore", 3, "malformed-words", stdin=data)
    assert error["message"] == message
    assert not (bare.folder / "buyer").exists()


def test_words_are_no_argument(bare: Shell) -> None:
    """It would stand in the shell's history, and in the list of processes."""
    bare.fails(f"{BUYER} init --restore abandon", 2, "usage")
    bare.fails(f"{BUYER} init --restore=abandon", 2, "usage")
    bare.fails(f"{BUYER} init --restore --show-words", 2, "usage", stdin=ABANDON.encode())


def test_a_wallet_that_is_there_stays(bare: Shell) -> None:
    bare.ok(f"{BUYER} init")
    bare.fails(f"{BUYER} init --restore", 7, "wallet-exists", stdin=ABANDON.encode())


@pytest.mark.parametrize("limit", ["0", "-1", "10001", "many"])
def test_gap_limits_that_are_none(bare: Shell, limit: str) -> None:
    bare.ok(f"{BUYER} init")
    bare.fails(f"{BUYER} scan --gap-limit {limit}", 2, "usage")


def typed(shell: Shell, text: bytes) -> tuple[int, bytes, bytes]:
    """``init --restore`` in a terminal of its own: exit code, stdout, and all that the terminal showed."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        ["mpchan", "--wallet", "buyer", "init", "--restore", "--json"],
        cwd=shell.folder,
        env=shell.env,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        seen = b""
        limit = time.monotonic() + TIMEOUT_SECONDS
        while b"(not shown): " not in seen and time.monotonic() < limit:
            seen += os.read(ours, 1000)
        os.write(ours, text)
        assert process.stdout is not None
        out = process.stdout.read()
        code = process.wait(TIMEOUT_SECONDS)
        with contextlib.suppress(OSError):  # Linux's way to say that the terminal has no writer any more
            while read := os.read(ours, 10_000):
                seen += read
        os.close(ours)
    return code, out, seen


def test_in_a_terminal_words_are_typed_unseen(bare: Shell) -> None:
    code, out, seen = typed(bare, ABANDON.encode() + b"\n")
    assert code == 0
    assert json.loads(out)["scan"]["found"] == 0
    assert b"abandon" not in seen + out
    assert keys_of(bare, "buyer")["entropy"] == "00" * 16


def test_in_a_terminal_a_wrong_word_is_not_repeated(bare: Shell) -> None:
    code, out, seen = typed(bare, ABANDON.replace("about", "secretword").encode() + b"\n")
    assert (code, out) == (3, b"")
    assert b"seed word 12 is not in the English list" in seen
    assert b"secretword" not in seen
    code, _, seen = typed(bare, b"\x04")
    assert code == 3
    assert b"no seed words were typed" in seen


def test_no_command_tells_a_secret(paid: Shell) -> None:
    """Neither words nor seed, nor the entropy, of a wallet in use; not in answers, errors, files or records."""
    secrets = {}
    for wallet in ("buyer", "seller"):
        secrets[wallet] = [str(keys_of(paid, wallet)[key]) for key in ("entropy", "seed")]
        from mpchan.bitcoin.seed_words import entropy_to_words

        secrets[wallet].append(entropy_to_words(bytes.fromhex(secrets[wallet][0])))
    address = paid.ok("mpchan --wallet seller address").out.strip()
    told = ""
    for command in (
        "address",
        "balance",
        "list",
        "show",
        "scan",
        f"send {address} 1000",
        f"send {address} 1",
        "send nonsense 1000",
        "init",
        "init --show-words",
        "init --restore",
        "pay 1000",
        "inspect funding.hex",
        "settle",
        "--help",
    ):
        for form in ("", "--json", "-q"):
            done = paid.run(f"{BUYER} {command} {form}", MPCHAN_DEBUG="1")
            told += done.out + done.err
    told += "".join(
        path.read_text(errors="replace")
        for path in paid.folder.rglob("*")
        if path.is_file() and path.name != "keys.toml" and "chain" not in path.parts
    )
    assert "confirmed" in told
    for secret in secrets["buyer"]:
        assert secret not in told
    assert all(Path(paid.folder / wallet / "keys.toml").stat().st_mode & 0o077 == 0 for wallet in secrets)
