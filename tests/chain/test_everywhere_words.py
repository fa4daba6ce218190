"""A payer that has nothing left but its seed words and what the payee has signed, on every backend."""

from __future__ import annotations

import shutil
from pathlib import Path

from support.chain.grounds import Ground, Traders
from support.chain.story import BUYER, SELLER, TERMS


def test_words_and_the_signed_refund(ground: Ground, tmp_path: Path) -> None:
    shell = Traders(tmp_path / "folder", ground, in_process=True)
    shell.ok(f"{SELLER} init {ground.init}")
    words = shell.json(f"{BUYER} init --show-words {ground.init}")["words"]
    shell.coin()
    shell.ok(f"{SELLER} payee offer {TERMS} -o offer.toml")
    request = shell.json(f"{BUYER} payer open offer.toml 100000 -o request.psbt")
    shell.ok(f"{SELLER} payee sign-refund request.psbt -o signed.psbt")
    shell.ok(f"{BUYER} payer fund signed.psbt --refund-out refund.hex -o funding.hex")
    shell.play("$ mine 1")
    shell.ok(f"{BUYER} pay 1000 -o update.psbt")
    shell.ok(f"{SELLER} payee accept update.psbt")
    shutil.rmtree(shell.folder / "buyer")

    shell.in_process = False  # it reads standard input
    shell.ok(f"{BUYER} init --restore {ground.init}", stdin=words.encode())
    shell.in_process = True
    had = shell.json(f"{BUYER} balance")["confirmed_sat"]
    shell.fails(f"{BUYER} payer refund signed.psbt", 6, "refund-locked")
    shell.play(f"$ mine-to {request['refund_lock_time']}")
    done = shell.json(f"{BUYER} payer refund signed.psbt")
    assert (done["channel"], done["broadcast"]) == (request["channel"], True)
    assert done["hex"] == shell.text("refund.hex").strip()
    assert ground.mempool() == {done["txid"]}
    shell.play("$ mine 1")
    assert shell.json(f"{BUYER} payer refund signed.psbt") == done
    assert shell.json(f"{SELLER} show")["status"] == "refunded"
    [output] = shell.json("mpchan inspect refund.hex")["outputs"]
    assert shell.json(f"{BUYER} balance")["confirmed_sat"] - had == output["value_sat"]
