"""Two wallets in the middle of their story, with every message that they exchange: the seeds of all fuzzing.

The story is told once, on an embedded chain, and then the wallets ask no chain any more: each command is told where the
chain stands. So nothing but the wallets' own files can change, and these are put back after each input.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from support import foreign_wallet as foreign
from support.external import External
from support.party import Pair, snapshot
from support.protocol import message, scheme_of, sign

from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.signature import PrivateKey
from mpchan.bitcoin.tx import Transaction
from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel.terms import Terms
from mpchan.cli.main import main
from mpchan.party import views
from mpchan.units import Amount, ChainTip

HELD = (2, 5000)
"""Number and total of the update that the payee holds of the open channel."""


@dataclass(frozen=True)
class Ended:
    """A command line that has ended."""

    code: int
    out: str
    err: str

    @property
    def answer(self) -> dict[str, Any]:
        """The object on stdout."""
        found: dict[str, Any] = json.loads(self.out)
        return found


@dataclass
class World:
    """What there is.

    Attributes:
        folder: of everything.
        tip: where the chain stands, as every command is told.
        messages: real ones, in binary, by what they are.
        terms: of the channels, by how far they are: ``open``, ``signed``, ``asked``, ``external``.
        secrets: both parties' keys of the open and of the signed channel: a hostile party holds its own.
        wallets: directories: ``payer``, ``payee``, ``planner`` and ``external``, whose channels another wallet funds.
    """

    folder: Path
    tip: ChainTip
    messages: dict[str, bytes]
    terms: dict[str, Terms]
    secrets: dict[str, PrivateKey]
    wallets: dict[str, Path]
    _files: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def run(self, wallet: str, *words: str | Path) -> Ended:
        """Run a command in this process; what the program does not expect comes out as it is."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(["--json", "--wallet", str(self.wallets[wallet]), *map(str, words)])
        return Ended(code, out.getvalue(), err.getvalue())

    def stands(self) -> Sequence[str]:
        """The options that say where the chain stands."""
        return ("--tip", f"{self.tip.height}:{self.tip.median_time}", "--confirmations", "1")

    def file(self, data: bytes) -> Path:
        """A message in a file."""
        path = self.folder / "message"
        path.write_bytes(data)
        return path

    def files(self, wallet: str) -> dict[str, bytes]:
        """A wallet's files as they were at the end of the story."""
        if wallet not in self._files:
            self._files[wallet] = snapshot(self.wallets[wallet])
        return self._files[wallet]

    def changed(self, wallet: str) -> bool:
        """Whether a command has changed anything since."""
        return snapshot(self.wallets[wallet]) != self.files(wallet)

    def put_back(self, wallet: str) -> None:
        """Undo that."""
        before, now = self.files(wallet), snapshot(self.wallets[wallet])
        for path in now.keys() - before.keys():
            os.unlink(path)
        for path, content in before.items():
            if now.get(path) != content:
                Path(path).write_bytes(content)


@lru_cache(maxsize=1)
def world() -> World:
    """The one of this process."""
    folder = Path(tempfile.mkdtemp(prefix="mpchan-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["MPCHAN_DEBUG"] = "1"  # a bug is a traceback here
    # the same keys every time, so that a seed of a run repeats its inputs
    with patch("os.urandom", Random(3).randbytes), EmbeddedChain(folder / "chain") as chain:
        made = _story(folder, chain)
    for path in made.wallets.values():
        config = path / "wallet.toml"
        config.write_text(re.sub(r'backend = "[a-z]+"', 'backend = "none"', config.read_text()))
        made.files(path.parent.name if path.parent.name in made.wallets else path.name)
    return made


def _story(folder: Path, chain: EmbeddedChain) -> World:
    pair = Pair(folder / "pair", chain, coins=5)
    opened, signed, funded = pair.open(step=3), pair.request(), pair.request()
    reply = pair.sign_refund(signed.hex)
    funding = pair.fund(pair.sign_refund(funded.hex), send=False).hex
    asked = pair.request()
    terms = {
        "open": pair.terms(opened),
        **{
            name: pair.payer_record(f"{request.funding_txid}-{request.funding_vout}").terms
            for name, request in (("signed", signed), ("asked", asked), ("funded", funded))
        },
    }
    secrets = {
        "payer": pair.payer_secret(opened),
        "payee": pair.payee_secret(opened),
        "payer-signed": pair.payer_secret(terms["signed"].name),
        "payee-signed": pair.payee_secret(terms["signed"].name),
        "payer-asked": pair.payer_secret(terms["asked"].name),
    }
    pair.accept(update(terms["open"], secrets["payer"], *HELD).to_hex())
    messages = {
        "update": update(terms["open"], secrets["payer"], 4, 7000).to_bytes(),
        "held": update(terms["open"], secrets["payer"], *HELD).to_bytes(),
        "all": update(terms["open"], secrets["payer"], 3, 100_000).to_bytes(),
        "settlement": settlement(terms["open"], secrets["payer"], 9000).to_bytes(),
        "request": bytes.fromhex(asked.hex),
        "reply": bytes.fromhex(reply),
        "funding": bytes.fromhex(funding),  # type: ignore[arg-type]
        "offer": pair.offer().encode(),
    }
    wallets = {"payer": pair.payer.directory, "payee": pair.payee.directory}
    external, planned = _external(folder, chain, messages)
    terms["external"] = external.payer_record(planned).terms
    wallets |= {"planner": folder / "planner" / "payer", "external": external.payer.directory}
    pair.chain.mine(1)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        os.environ["MPCHAN_REGTEST"] = str(folder / "chain")
        to = views.fresh_address(pair.payee).address
        assert main(["-q", "--wallet", str(pair.payer.directory), "send", to, "10000"]) == 0
    return World(folder, chain.tip(), messages, terms, secrets, wallets)


def _external(folder: Path, chain: EmbeddedChain, messages: dict[str, bytes]) -> tuple[External, str]:
    """A wallet that has only planned, and one whose refund is signed."""
    planner, external = External(folder / "planner", chain), External(folder / "external", chain)
    for name, who in (("planned", planner), ("foreign", external)):
        coin = foreign.coin(chain, foreign.P2WPKH)
        funding = foreign.payment(chain, [coin], who.output())
        unsigned = foreign.psbt_of(chain, funding, whole=True)
        messages[f"{name}-psbt"] = unsigned.to_bytes()
        messages[f"{name}-signed-psbt"] = foreign.partly_signed(chain, unsigned).to_bytes()
        messages[f"{name}-transaction"] = foreign.signed(chain, funding).to_bytes()
    request = external.take(Psbt.from_bytes(messages["foreign-psbt"]))
    messages["foreign-reply"] = bytes.fromhex(external.sign_refund(request.hex))
    return external, f"{request.funding_txid}-{request.funding_vout}"


def update(terms: Terms, secret: PrivateKey, number: int, paid: int) -> Psbt:
    """An update, signed by the payer."""
    return _signed(terms, secret, scheme_of(terms).update(number, Amount(paid)))


def settlement(terms: Terms, secret: PrivateKey, paid: int) -> Psbt:
    """A settlement, signed by the payer."""
    return _signed(terms, secret, scheme_of(terms).settlement(Amount(paid)))


def _signed(terms: Terms, secret: PrivateKey, transaction: Transaction) -> Psbt:
    return message(terms, transaction, {secret.public_key.sec: sign(secret, terms, transaction)})
