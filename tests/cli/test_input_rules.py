"""What a command reads: any form of a message, from a file or standard input, and nothing that never ends."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from transcript import Done, Shell

from mpchan.cli.main import main

SELLER = "mpchan --wallet seller"
LIMIT = 400_000


def forms(text: str) -> dict[str, bytes]:
    """One message in every way in which it may be written."""
    raw = bytes.fromhex(text)
    in_base64 = base64.b64encode(raw)
    lines = b"\n".join(in_base64[start : start + 64] for start in range(0, len(in_base64), 64))
    return {
        "hex": text.encode(),
        "hex-line": f"{text}\n".encode(),
        "hex-upper": text.upper().encode(),
        "hex-spaced": f"\r\n\t {text} \r\n".encode(),
        "base64": in_base64,
        "base64-line": in_base64 + b"\n",
        "base64-lines": lines,
        "binary": raw,
    }


@pytest.mark.parametrize("source", ["file", "stdin"])
def test_a_message_in_any_form(paid: Shell, source: str) -> None:
    paid.ok("mpchan --wallet buyer pay 500 -o second.psbt")
    for name, data in forms(paid.text("second.psbt").strip()).items():
        if source == "file":
            (paid.folder / name).write_bytes(data)
            answer = paid.json(f"{SELLER} payee accept {name}")
        else:
            answer = paid.json(f"{SELLER} payee accept -", stdin=data)
        assert (answer["update"], answer["paid_sat"]) == (2, 1500), name
        assert answer["duplicate"] is (name != "hex")


def test_a_transaction_in_any_form(paid: Shell) -> None:
    """A complete transaction has no base64 form; it is hex or binary."""
    accepted = forms(paid.text("funding.hex").strip())
    for name, data in accepted.items():
        done = paid.run("mpchan inspect - --json", stdin=data)
        if name.startswith("base64"):
            assert (done.code, done.error["error"]) == (3, "malformed-hex")
        else:
            assert (done.json["kind"], done.json["txid"]) == ("tx", paid.names["txid:funding"])


def test_every_command_with_a_file_takes_standard_input(wallets: Shell) -> None:
    """The whole opening as one pipeline of messages, no file in between."""
    wallets.play(
        """
        $ mpchan --wallet seller payee offer -q | mpchan --wallet buyer payer open - 5000 -q | mpchan --wallet
        > seller payee sign-refund - -q | mpchan --wallet buyer payer fund - -q > funding.hex
        + funding.hex
        $ mpchan --wallet seller payee funding - < funding.hex -q
        $ mpchan regtest mine 1 -q
        $ mpchan --wallet buyer pay 1000 -q | mpchan --wallet seller payee accept - --json
        {"channel": "<channel>", "update": 1, "received_sat": 1000, "paid_sat": 1000, "remaining_sat": 4000,
        > "lock_time": 272, "duplicate": false}
        $ mpchan --wallet buyer settle -q | mpchan --wallet seller settle - -q | mpchan inspect - | tail -n 3
        output 0    4,000 sat to <address:buyer>
        output 1    1,000 sat to <address:seller>
        signatures  2
        """
    )


# what is no message -------------------------------------------------------------------------------

COMMANDS = {
    "inspect": "mpchan inspect {}",
    "accept": "mpchan --wallet seller payee accept {}",
    "sign-refund": "mpchan --wallet seller payee sign-refund {} -o out",
    "funding": "mpchan --wallet seller payee funding {}",
    "payee-settle": "mpchan --wallet seller payee settle {} -o out",
    "settle": "mpchan --wallet seller settle {} -o out",
    "fund": "mpchan --wallet buyer payer fund {} -o out --refund-out refund",
    "open": "mpchan --wallet buyer payer open {} 5000 -o out",
}
MESSAGES = [name for name in COMMANDS if name != "open"]


@pytest.mark.parametrize("name", COMMANDS)
def test_files_that_are_none(paid: Shell, name: str) -> None:
    command = COMMANDS[name]
    error = paid.fails(command.format("missing"), 3, "unreadable-file")
    assert error["message"] == "missing: no such file or directory"
    error = paid.fails(command.format("buyer"), 3, "unreadable-file")
    assert error["message"] == "buyer: is a directory"
    if name not in ("accept", "open"):
        return
    paid.fails(command.format("offer.toml/x"), 3, "unreadable-file")
    paid.fails(command.format("x" * 300), 3, "unreadable-file")
    paid.fails(command.format("''"), 3, "unreadable-file")
    (paid.folder / "loop").symlink_to("loop")
    paid.fails(command.format("loop"), 3, "unreadable-file")


def no_messages(good: str) -> list[tuple[bytes, str]]:
    """Contents that are no message, each with the slug of its refusal."""
    return [
        (b"", "empty"),
        (b"0" * (LIMIT + 1), "too-large"),
        (good[:-2].encode(), "malformed-psbt"),
        (b"\0\0\0\0", "malformed-transaction"),
        # the rest for `accept` alone
        (b" \n\t\r\n", "empty"),
        (good.encode() + b"\0", "malformed-hex"),
        (good[:-1].encode(), "malformed-hex"),
        (good[:20].encode(), "malformed-psbt"),
        (good.encode() + b"00", "malformed-psbt"),
        (good.encode() + b"\n" + good.encode(), "malformed-hex"),
        (b"0x" + good.encode(), "malformed-hex"),
        (b"zz" + good.encode(), "malformed-hex"),
        (b"cHNidP8B====", "malformed-base64"),
        (b"hello world", "malformed-hex"),
        ("\uff46\uff46".encode(), "malformed-transaction"),
        (b"0" * LIMIT, "malformed-transaction"),
        (b"\xff" * LIMIT, "malformed-transaction"),
    ]


@pytest.mark.parametrize("name", MESSAGES)
def test_content_that_is_no_message(paid: Shell, name: str) -> None:
    contents = no_messages(paid.text("update.psbt").strip())
    for content, slug in contents if name == "accept" else contents[:4]:
        (paid.folder / "in").write_bytes(content)
        paid.fails(COMMANDS[name].format("in"), 3, slug)


def test_offers_that_are_none(paid: Shell) -> None:
    command = COMMANDS["open"].format("in")
    good = paid.text("offer.toml")
    for content, slug in (
        (b"", "malformed-offer"),
        (b"\0", "malformed-toml"),
        (b"\xff\xfe", "not-utf8"),
        (good.encode("utf-16"), "not-utf8"),
        (good.encode() + b"surprise = 1\n", "malformed-offer"),
        (good[:-20].encode(), "malformed-toml"),
        (good.replace("1000", "1000.0", 1).encode(), "malformed-number"),
        (good.replace("1000", '"1000"', 1).encode(), "malformed-number"),
        (good.replace("1000", "true", 1).encode(), "malformed-number"),
        (good.replace("1000", "-1", 1).encode(), "malformed-number"),
        (good.replace("1000", "9" * 5000, 1).encode(), "malformed-toml"),
        (good.replace("version = 1", "version = 2").encode(), "offer-version"),
        (good.replace("decrementing", "spilman").encode(), "unknown-scheme"),
        (good.replace("regtest", "moon").encode(), "unknown-network"),
        (b"a" * (LIMIT + 1), "too-large"),
        (b"a = " + b"[" * 100_000, "malformed-toml"),
    ):
        (paid.folder / "in").write_bytes(content)
        done = paid.run(command + " --json")
        assert (done.code, done.error["error"]) == (3, slug), (content[:60], done)


# what never ends ----------------------------------------------------------------------------------


def with_pipe(shell: Shell, feed: Callable[[Path], object], command: str) -> Done:
    """Run a command whose input is a named pipe, fed by another thread."""
    pipe = shell.folder.with_name("pipe")
    os.mkfifo(pipe)
    thread = threading.Thread(target=feed, args=(pipe,))
    thread.start()
    try:
        return shell.run(command.format(pipe) + " --json")
    finally:
        thread.join(60)
        assert not thread.is_alive()


def endless(pipe: Path) -> None:
    """``yes`` into the pipe, until nobody reads it."""
    with open(pipe, "wb") as stream:
        subprocess.run(["yes", "00"], stdout=stream, stderr=subprocess.DEVNULL, check=False)


def test_a_named_pipe_that_never_ends(paid: Shell) -> None:
    done = with_pipe(paid, endless, COMMANDS["accept"])
    assert (done.code, done.error["error"]) == (3, "too-large")
    assert done.error["message"].endswith("larger than 400000 bytes")


def test_a_named_pipe_with_an_offer_that_never_ends(paid: Shell) -> None:
    done = with_pipe(paid, endless, COMMANDS["open"])
    assert (done.code, done.error["error"]) == (3, "too-large")


def test_a_named_pipe_with_a_message(paid: Shell) -> None:
    message = (paid.folder / "update.psbt").read_bytes()
    done = with_pipe(paid, lambda pipe: pipe.write_bytes(message), COMMANDS["accept"])
    assert done.json["duplicate"] is True


def test_standard_input_that_never_ends(paid: Shell) -> None:
    done = paid.run(f"yes 00 | {COMMANDS['accept'].format('-')} --json")
    assert (done.code, done.out, done.error["error"]) == (3, "", "too-large")


def test_standard_input_that_is_closed(paid: Shell) -> None:
    done = paid.run(f"{COMMANDS['accept'].format('-')} --json <&-")
    assert (done.code, done.error["message"]) == (3, "standard input is closed")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no /dev/zero here")
def test_a_device_that_never_ends(paid: Shell) -> None:
    paid.fails(COMMANDS["accept"].format("/dev/zero"), 3, "too-large")


# truncated, at every length -----------------------------------------------------------------------


@pytest.mark.parametrize("form", ["hex", "base64", "binary"])
def test_an_update_cut_anywhere(
    paid: Shell, form: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, for speed: each prefix is refused as unreadable, and nothing is changed."""
    monkeypatch.setenv("MPCHAN_REGTEST", str(paid.folder / "chain"))
    paid.ok("mpchan --wallet buyer pay 500 -o second.psbt")
    data = forms(paid.text("second.psbt").strip())[form]
    path = paid.folder / "cut"
    path.touch()
    before = paid.files()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        code = main(["--wallet", str(paid.folder / "seller"), "payee", "accept", str(path)])
        out, err = capsys.readouterr()
        assert (code, out) == (3, ""), length
        assert err.startswith("mpchan: error: "), length
    path.write_bytes(b"")
    assert paid.files() == before
    path.write_bytes(data)
    assert main(["--wallet", str(paid.folder / "seller"), "payee", "accept", str(path)]) == 0


def test_a_wallet_is_not_needed_to_inspect(paid: Shell) -> None:
    shutil.copy(paid.folder / "update.psbt", paid.folder.with_name("u"))
    done = paid.run("mpchan --wallet nowhere inspect ../u --json", MPCHAN_WALLET=None)
    assert list(done.json) == [
        "kind",
        "txid",
        "version",
        "lock_time",
        "lock_time_unit",
        "vsize",
        "inputs",
        "outputs",
        "signatures",
    ]
    assert (done.json["kind"], done.json["lock_time"], done.json["signatures"]) == ("psbt", 272, 1)
    assert done.json["outputs"][1]["address"].startswith("bcrt1")
    done = paid.run("mpchan inspect ../u --json --network mainnet", MPCHAN_WALLET=None)
    assert done.json["outputs"][1]["address"].startswith("bc1")


def test_a_name_is_no_order_to_the_terminal(wallets: Shell) -> None:
    """The other party may have chosen the name of a file, or of an offer's text: it is shown, and not obeyed."""
    name = "\x1b]0;mine\x07\x1b[2J\u202egpj\nmpchan: done.psbt"
    shown = r"\x1b]0;mine\x07\x1b[2J\u202egpj\nmpchan: done.psbt"
    for command in ("inspect", "payee accept", "payee sign-refund"):
        done = wallets.run(["mpchan", "--wallet", "seller", *command.split(), name])
        assert done.code == 3
        assert done.err == f"mpchan: error: {shown}: no such file or directory\n"
    (wallets.folder / name).mkdir()
    done = wallets.run(["mpchan", "--wallet", "seller", "payee", "offer", "-o", name])
    assert (done.code, done.err) == (2, f"mpchan: error: {shown} is a directory\n")
    done = wallets.run(["mpchan", "list", name])
    assert (done.code, shown.split("\\n")[0] in done.err) == (2, True)
