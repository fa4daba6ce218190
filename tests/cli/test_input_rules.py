"""What a command reads: any form of a message, from a file or standard input, and nothing that never ends."""

from __future__ import annotations

import base64
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support.transcript import Done, Shell

SELLER = "mpchan --wallet seller"


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
        {"channel": "<channel>", "update": 1, "received_sat": 1000, "paid_sat": 1000, "pending_sat": 0,
        > "remaining_sat": 4000,
        > "lock_time": 272, "duplicate": false}
        $ mpchan --wallet buyer settle -q | mpchan --wallet seller settle - -q | mpchan inspect - | tail -n 3
        output 0    4,000 sat to <address:buyer>
        output 1    1,000 sat to <address:seller>
        signatures  2
        """
    )


ACCEPT = "mpchan --wallet seller payee accept {}"


# pipes, and what never ends ----------------------------------------------------------------------------------


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


def test_a_named_pipe_with_a_message(paid: Shell) -> None:
    message = (paid.folder / "update.psbt").read_bytes()
    done = with_pipe(paid, lambda pipe: pipe.write_bytes(message), ACCEPT)
    assert done.json["duplicate"] is True


def test_standard_input_that_never_ends(paid: Shell) -> None:
    done = paid.run(f"yes 00 | {ACCEPT.format('-')} --json")
    assert (done.code, done.out, done.error["error"]) == (3, "", "too-large")


def test_standard_input_that_is_closed(paid: Shell) -> None:
    done = paid.run(f"{ACCEPT.format('-')} --json <&-")
    assert (done.code, done.error["message"]) == (3, "standard input is closed")


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
