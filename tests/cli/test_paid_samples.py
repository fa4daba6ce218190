"""The sample of a paid API and that of its client, as real processes."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from support.market.processes import Program
from support.transcript import Shell, copy_folder

SAMPLES = Path(__file__).parents[2] / "sample-configs"


def test_an_api_is_paid_by_the_call(wallets: Shell, tmp_path: Path) -> None:
    text = (SAMPLES / "paid_api.py").read_text()
    assert text.count(", 8402,") == 1
    (tmp_path / "paid_api.py").write_text(text.replace(", 8402,", ", 0,"))
    copy_folder(
        wallets.folder / "seller", tmp_path / "service"
    )  # commands are held to change nothing of the other
    python = (sys.executable,)
    api = Program(
        [str(tmp_path / "paid_api.py"), str(tmp_path / "service")], wallets.env, tmp_path / "api", python
    )
    address = api.until(lambda: api.out.strip(), "the address")
    words = [str(SAMPLES / "paid_client.py"), str(wallets.folder / "buyer"), address]
    client = Program(words, wallets.env, tmp_path / "client", python)
    client.until(lambda: wallets.json("mpchan regtest status")["mempool"], "the funding")
    wallets.ok("mpchan regtest mine 1")
    assert client.ended() == 0, client.err
    assert client.out == "".join(f"{number**2} for 10 sat\n" for number in range(1, 6))
    again = Program(words, wallets.env, tmp_path / "again", python)
    assert again.ended() == 0, again.err
    assert again.out == client.out
    assert api.ended(signal.SIGINT) == 0
    assert (api.err, client.err, again.err) == ("", "", "")
