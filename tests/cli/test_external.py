"""``payer open --external`` and ``--funding``, ``show --descriptor``, as a program: files, words, JSON, a QR code."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios
from pathlib import Path

import pytest
from support.foreign_wallet import P2TR, P2WPKH, coin, partly_signed, payment, psbt_of, signed
from support.transcript import CHAIN, TIMEOUT_SECONDS, Shell

from mpchan.bitcoin.address import address_to_script
from mpchan.bitcoin.descriptor import with_checksum
from mpchan.bitcoin.network import REGTEST
from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.chain.embedded import EmbeddedChain
from mpchan.units import Amount

BUYER, SELLER = "mpchan --wallet buyer", "mpchan --wallet seller"
KEYS = [
    "offer_id",
    "capacity_sat",
    "address",
    "amount_sat",
    "amount_btc",
    "descriptor",
    "uri",
    "payer_pubkey",
    "payee_pubkey",
    "payer_address",
]


@pytest.fixture
def offered(wallets: Shell) -> Shell:
    """With an offer in ``offer.toml``."""
    wallets.ok(f"{SELLER} payee offer -o offer.toml")
    return wallets


def made_elsewhere(shell: Shell, script: bytes = P2WPKH, **options: int) -> Transaction:
    """The other wallet's funding in ``funding.psbt``, signed in ``funding-signed.psbt`` and in ``funding.hex``."""
    plan = shell.json(f"{BUYER} payer open offer.toml 100000 --external")
    output = TxOut(Amount(plan["amount_sat"]), address_to_script(plan["address"], REGTEST))
    with EmbeddedChain(shell.folder / CHAIN) as chain:
        funding = payment(chain, [coin(chain, script)], output, **options)
        unsigned = psbt_of(chain, funding)
        (shell.folder / "funding.psbt").write_bytes(unsigned.to_bytes())
        (shell.folder / "funding-signed.psbt").write_text(partly_signed(chain, unsigned).to_hex())
        (shell.folder / "funding.hex").write_text(signed(chain, funding).to_hex())
    return funding


def test_what_a_person_sees(offered: Shell) -> None:
    offered.play(
        """
        $ mpchan --wallet buyer payer open offer.toml 100000 --external | sed 's/#.*//'
        address     <address:channel>
        amount      0.00100338 BTC (100,338 sat)
        descriptor  wsh(sortedmulti(2,<key:one>,<key:two>))
        uri         bitcoin:<address:channel>?amount=0.00100338&label=mpchan%20<offer>
        2> in your other wallet make a transaction that pays exactly this, from native segwit coins
        2> do NOT broadcast it: until the refund is yours, the money would depend on the payee alone
        2> never bump its fee there, not even later: a replacement voids the refund
        2> let its change go to an address of `mpchan address`: then `mpchan bump` helps should it get stuck
        2> next: export it as a PSBT and run `mpchan payer open --funding FILE`
        """
    )


def test_the_story(offered: Shell) -> None:
    made_elsewhere(offered)
    offered.play(
        """
        $ mpchan --wallet buyer payer open --funding funding.psbt -o request.psbt
        2> channel <channel> of 100000 sat, refund at block <n>
        2> next: the payee runs `mpchan payee sign-refund FILE` on this message
        + request.psbt
        $ mpchan --wallet seller payee sign-refund request.psbt -o signed.psbt -q
        + signed.psbt
        $ mpchan --wallet buyer payer fund signed.psbt -o complete.hex
        2> mpchan: error: another wallet makes this channel's funding, and only that wallet can sign it
        2> mpchan: hint: sign it there without broadcasting, then `mpchan payer fund REFUND --funding FILE`
        ? 5
        $ mpchan --wallet buyer payer fund signed.psbt --funding funding-signed.psbt -o complete.hex
        2> channel <channel>: the refund is stored, the funding <txid:funding> is signed and broadcast
        2> never bump its fee in the wallet that signed it: a replacement voids the refund
        2> seed words alone do not recover an open channel, the refund does: keep a copy of it (--refund-out)
        2> next: wait with `mpchan wait CHANNEL --for confirmed`, then `mpchan payer pay AMOUNT`
        + complete.hex
        $ mpchan regtest mine 1 -q
        $ mpchan --wallet buyer pay 1000 -q -o update.psbt
        + update.psbt
        $ mpchan --wallet seller payee accept update.psbt -q
        $ mpchan --wallet buyer settle -q -o settlement.psbt
        + settlement.psbt
        $ mpchan --wallet seller settle settlement.psbt -q -o close.hex
        + close.hex
        """
    )
    offered.ok("mpchan regtest mine 1")
    assert offered.json(f"{BUYER} show")["status"] == "closed"
    assert offered.text("complete.hex").strip() == offered.text("funding.hex")


def test_json(offered: Shell) -> None:
    plan = offered.json(f"{BUYER} payer open offer.toml 100000 --external")
    assert list(plan) == KEYS
    assert plan == offered.json(f"{BUYER} payer open offer.toml 0.001btc --external")
    funding = made_elsewhere(offered, P2TR, sequence=0)
    request = offered.json(f"{BUYER} payer open offer.toml 100000 --funding funding.psbt")
    assert (request["funding_txid"], request["funding_vout"]) == (str(funding.txid), 1)
    [warning] = request["warnings"]
    assert warning.startswith("signals-replacement: ")
    assert offered.json(f"{BUYER} open --funding - < funding.hex")["hex"] == request["hex"]


def test_warnings_for_people(offered: Shell) -> None:
    made_elsewhere(offered, sequence=0)
    done = offered.ok(f"{BUYER} payer open --funding funding.hex -o request.psbt")
    warnings = [line for line in done.err.splitlines() if line.startswith("mpchan: warning: ")]
    assert [line.split()[2] for line in warnings] == ["signals-replacement:", "signed-already:"]
    offered.ok(f"{SELLER} payee sign-refund request.psbt -o signed.psbt")
    with EmbeddedChain(offered.folder / CHAIN) as chain:
        chain.broadcast(Transaction.from_hex(offered.text("funding.hex")))
    done = offered.ok(f"{BUYER} show")
    assert done.err.startswith("mpchan: warning: funding-early: the funding ")
    assert offered.json(f"{BUYER} show")["warnings"] == [done.err[len("mpchan: warning: ") : -1]]
    offered.ok(f"{BUYER} payer fund signed.psbt -o complete.hex")
    offered.ok("mpchan regtest mine 1")
    assert offered.ok(f"{BUYER} show").err == ""
    assert "warnings" not in offered.json(f"{BUYER} show")


@pytest.mark.parametrize(
    "command",
    [
        "open",
        "open offer.toml",
        "open offer.toml --external",
        "open --external",
        "open offer.toml 5000 --external --funding offer.toml",
        "open offer.toml 5000 --external -o out",
        "open offer.toml 5000 --external --refund-delay 300",
        "open offer.toml 5000 --external --funding-fee-rate 2",
        "open --funding offer.toml --funding-fee-rate 2",
        "open --funding offer.toml --address x",
    ],
)
def test_wrong_usage(offered: Shell, command: str) -> None:
    assert "payer open --help" in str(offered.fails(f"{BUYER} payer {command}", 2, "usage")["hint"])


def test_files_that_are_no_funding(offered: Shell) -> None:
    offered.fails(f"{BUYER} payer open --funding offer.toml", 3, "malformed-hex")
    offered.fails(f"{BUYER} payer open --funding missing", 3, "unreadable-file")
    made_elsewhere(offered)
    offered.fails(f"{BUYER} payer open --funding funding.psbt -o funding.psbt", 2, "output-is-input")
    offered.fails(f"{SELLER} payer open --funding funding.psbt -o out", 5, "no-plan")
    offered.ok(f"{BUYER} payer open --funding funding.psbt -o request.psbt")
    offered.ok(f"{SELLER} payee sign-refund request.psbt -o signed.psbt")
    offered.fails(
        f"{BUYER} payer fund signed.psbt --funding funding.hex -o funding.hex", 2, "output-is-input"
    )
    offered.fails(f"{BUYER} payer fund signed.psbt --funding offer.toml -o out", 3, "malformed-hex")
    place = next(path for path in offered.files() if path.startswith("buyer/plans/"))
    offered.fails(f"{BUYER} payer fund signed.psbt --funding funding.hex -o {place}", 2, "output-is-wallet")


def test_a_descriptor_for_both_parties(opened: Shell) -> None:
    for wallet in (BUYER, SELLER):
        done = opened.ok(f"{wallet} show --descriptor")
        assert done.err == ""
        [request] = json.loads(done.out)
        assert opened.json(f"{wallet} show --descriptor") == {"descriptors": [request]}
        view = opened.json(f"{wallet} show")
        keys = sorted([view["payer_pubkey"], view["payee_pubkey"]])
        assert request["desc"] == with_checksum(f"wsh(sortedmulti(2,{keys[0]},{keys[1]}))")
        assert request == {
            "desc": request["desc"],
            "timestamp": 0,
            "label": f"mpchan {view['channel']}",
            "active": False,
            "internal": False,
        }


# in a terminal ------------------------------------------------------------------------------------


def seen_in_a_terminal(shell: Shell, arguments: str, **env: str) -> str:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    with subprocess.Popen(
        ["mpchan", *arguments.split()],
        cwd=shell.folder,
        env={**shell.env, "TERM": "xterm-256color", **env},
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
    ) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                read = os.read(ours, 65536)
            except OSError:  # Linux's way to say that the terminal has no writer any more
                break
            if not read:
                break
            seen += read
        os.close(ours)
        assert process.wait(TIMEOUT_SECONDS) == 0
    return seen.decode().replace("\r\n", "\n")


BLOCKS = {" ": (0, 0), "▀": (1, 0), "▄": (0, 1), "█": (1, 1)}


def modules_of(text: str) -> list[list[int]]:
    """The modules of the QR code in a text, 1 for dark; what is drawn is light."""
    rows: list[list[int]] = []
    for line in text.splitlines():
        if not re.fullmatch("[▀▄█][ ▀▄█]+[▀▄█]", line):
            continue
        for half in (0, 1):
            rows.append([1 - BLOCKS[character][half] for character in line])
    return rows


@pytest.mark.parametrize("colour", [True, False])
def test_a_qr_code_in_a_terminal(offered: Shell, colour: bool) -> None:
    """It stands on 80 columns, is the code that segno makes of the URI without its label, and has its quiet zone."""
    import segno

    plan = offered.json(f"{BUYER} payer open offer.toml 100000 --external")
    arguments = "--wallet buyer payer open offer.toml 100000 --external"
    seen = seen_in_a_terminal(offered, arguments, **({} if colour else {"NO_COLOR": "1"}))
    assert ("\x1b[" in seen) is colour
    lines = re.sub(r"\x1b\[[0-9;]*m", "", seen)
    assert max(len(line) for line in lines.splitlines() if "█" in line) <= 80
    modules = modules_of(lines)
    uri = plan["uri"].partition("&")[0]
    code = segno.make_qr(uri, error="l", boost_error=False)
    wanted = [list(row) for row in code.matrix_iter(border=4)]
    assert modules[: len(wanted)] == wanted
    assert all(set(row) == {1} for row in modules[len(wanted) :])
    assert len(modules) - len(wanted) == len(wanted) % 2


@pytest.mark.parametrize("amount", ["", "100000 "])
def test_a_qr_code_of_an_address_that_any_wallet_pays(wallets: Shell, amount: str) -> None:
    """Until something has come."""
    import segno

    wallets.ok(f"{SELLER} payee offer --scheme taproot -o offer.toml")
    arguments = f"--wallet buyer payer open offer.toml {amount}--external"
    view = wallets.json(f"mpchan {arguments}")
    seen = seen_in_a_terminal(wallets, arguments, NO_COLOR="1")
    code = segno.make_qr(view["uri"].partition("label=")[0].rstrip("?&"), error="l", boost_error=False)
    wanted = [list(row) for row in code.matrix_iter(border=4)]
    assert modules_of(seen)[: len(wanted)] == wanted
    wallets.ok(f"mpchan regtest faucet {view['address']} 50000")
    assert not modules_of(seen_in_a_terminal(wallets, arguments, NO_COLOR="1"))


def test_no_qr_code_elsewhere(offered: Shell) -> None:
    """Not in a pipe, not in JSON; there its library is not even loaded."""
    command = f"{BUYER} payer open offer.toml 100000 --external"
    assert "█" not in offered.ok(command).out
    assert "█" not in seen_in_a_terminal(offered, "--json " + command.removeprefix("mpchan "))
    offered.without("segno")
    offered.ok(command)
    offered.json(command)


def test_the_folder_of_the_plans(offered: Shell) -> None:
    offered.ok(f"{BUYER} payer open offer.toml 100000 --external")
    folder = Path(offered.folder, "buyer", "plans")
    assert folder.stat().st_mode & 0o777 == 0o700
    [path] = folder.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert re.fullmatch(r"[0-9a-f]{64}\.json", path.name)


def paid_at_once(shell: Shell, amount: int) -> str:
    """The address of the plan is paid by somebody who read no advice; the output, as TXID:VOUT."""
    plan = shell.json(f"{BUYER} payer open offer.toml 100000 --external")
    with EmbeddedChain(shell.folder / CHAIN) as chain:
        return str(coin(chain, address_to_script(plan["address"], REGTEST), amount))


def test_again(offered: Shell) -> None:
    """A refund for what was paid at once; then it is a channel."""
    offered.names["n:paid"] = paid_at_once(offered, 100_338)
    offered.play(
        """
        $ mpchan --wallet buyer payer open --again <n:paid> -o request.psbt
        2> channel <channel> of 100000 sat, refund at block <n>
        2> next: the payee runs `mpchan payee sign-refund FILE` on this message
        + request.psbt
        $ mpchan --wallet seller payee sign-refund request.psbt -q -o signed.psbt
        + signed.psbt
        $ mpchan --wallet buyer payer fund signed.psbt --refund-out refund.hex
        channel <channel>: the refund is stored; a block holds the funding <txid:funding> already
        2> `mpchan payer refund` takes the money back at its time; keep a copy of the refund (--refund-out)
        + refund.hex
        $ mpchan --wallet buyer payer fund signed.psbt -o funding.hex
        channel <channel>: the refund is stored; a block holds the funding <txid:funding> already
        2> `mpchan payer refund` takes the money back at its time; keep a copy of the refund (--refund-out)
        2> mpchan: warning: nothing is written to funding.hex: a block holds the funding already
        $ mpchan --wallet buyer pay 1000 -q -o update.psbt
        + update.psbt
        $ mpchan --wallet seller payee accept update.psbt -q
        """
    )
    offered.ok(f"{BUYER} -q fsck")
    offered.ok(f"{SELLER} -q fsck")
    offered.ok(f"{BUYER} -q backup -o buyer.backup")
    offered.ok("mpchan --wallet restored -q restore buyer.backup")
    assert offered.json("mpchan --wallet restored show")["status"] == "open"


def test_again_for_another_amount(offered: Shell) -> None:
    """Its refund, and nothing more; both sides are told."""
    outpoint = paid_at_once(offered, 500)
    offered.fails(f"{BUYER} payer open --again {outpoint}", 5, "below-dust")
    outpoint = paid_at_once(offered, 900)
    request = offered.json(f"{BUYER} payer open --again {outpoint} -o request.psbt")
    assert [text.partition(":")[0] for text in request["warnings"]] == ["refund-only"]
    reply = offered.json(f"{SELLER} payee sign-refund request.psbt -o signed.psbt")
    assert [text.partition(":")[0] for text in reply["warnings"]] == ["refund-only"]
    done = offered.json(f"{BUYER} payer fund signed.psbt")
    assert (done["hex"], done["broadcast"]) == (None, False)
    offered.fails(f"{BUYER} pay 500", 5, "capacity")
    offered.ok(f"{BUYER} -q watch --once")


def test_again_alone(offered: Shell) -> None:
    txid = 64 * "0"
    offered.fails(f"{BUYER} payer open --again {txid}", 3, "malformed-outpoint")
    for words in (
        f"offer.toml 1000 --again {txid}:0",
        f"--again {txid}:0 --external",
        f"--again {txid}:0 --funding funding.psbt",
        f"--again {txid}:0 --address x",
        f"--again {txid}:0 --funding-fee-rate 2",
    ):
        offered.fails(f"{BUYER} payer open {words}", 2, "usage")
    offered.fails(f"{BUYER} payer open --again {txid}:0", 6, "funding-unseen")
