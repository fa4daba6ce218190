"""The list of hostile inputs, and what holds for every refusal: a slug, an exit code, and nothing else.

A case runs the program as a user does, in this process: ``main`` with words, its stdout and stderr caught. Each case is
named after the number of the line that it belongs to.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.tx import Transaction
from mpchan.cli.main import main
from support.party import Pair, snapshot

LINES = {
    # the payee reads a refund request
    1: "a refund final earlier than the offer's least delay",
    2: "a refund final later than the offer's greatest delay",
    3: "a refund without a lock time",
    4: "a height where the offer counts seconds, or a time where it counts blocks",
    5: "an nSequence that switches the lock time off",
    6: "an nSequence that means a relative lock time",
    7: "no input, or several",
    8: "no output, or several",
    9: "an outpoint of another channel, or of the wallet's own coins; a colliding id is none of them",
    10: "a second, different refund for one outpoint; the same one again is no other",
    11: "a payer key off the curve, uncompressed, the payee's own, or used elsewhere",
    12: "an address of another network",
    13: "a capacity outside the limits, outputs that do not add up, another fee",
    14: "a witness script that is not the one 2-of-2",
    15: "an offer that is unknown, used, or of another scheme",
    # the payee reads the funding from the chain
    16: "another script at the outpoint, or none",
    17: "another value than agreed",
    18: "too few confirmations",
    19: "a funding spent already, or reorganised away since",
    20: "a funding by file that is not the refund's",
    # the payee reads an update or a settlement
    21: "less than the best update, or an earlier number",
    22: "the same update again counts once",
    23: "another payee script",
    24: "change to another script",
    25: "a lock time that is no later update's; numbers may be left out",
    26: "an update once the tip has reached L_0; a settlement is still taken",
    27: "another nSequence",
    28: "another outpoint, another number of inputs",
    29: "an extra, doubled, missing or moved output",
    30: "outputs above the funding, or another fee",
    31: "a payee output below dust",
    32: "any sighash type but ALL",
    33: "a sighash byte that was altered",
    34: "high S, BER, bytes behind the signature",
    35: "a signature by a wrong key, or by the payee's own",
    36: "a signature of an earlier state, or of another channel",
    37: "more signatures, other scripts, lies about what is spent",
    38: "another transaction version",
    39: "a message for a channel that is closing or closed",
    40: "one file taken by two processes at once",
    41: "a settlement below the best update",
    42: "a payment below the increment, or none",
    # the payer reads an offer or a signed refund
    43: "a refund that came back changed",
    44: "a payee signature that is missing, invalid, high S, or not over all",
    45: "a funding before the refund is verified and stored",
    46: "a payee key that is invalid, or the payer's own",
    47: "an offer that cannot be, or that this payer does not take",
    48: "a payment that the channel cannot carry, or that is none",
    49: "two payments at once",
    50: "a payment after the settlement was handed over, or after the refund was sent",
    51: "a payment once the tip has reached L_0",
    52: "a refund before its lock time",
    53: "a refund taken for done before it is confirmed",
    # any file
    54: "bytes that are no message, and files that are no files",
    55: "a PSBT with doubled keys, of another version, or finished already",
    56: "TOML and JSON with mistakes",
    57: "a channel file of a newer schema, or damaged",
    58: "keys that others may read",
    59: "an output that is the input, that has no folder, that cannot be written any more",
    60: "names that lead elsewhere",
    61: "a wallet restored from an older copy",
    62: "an order to hand out a complete update",
    65: "a settlement so late that the refund may win",
    63: "children that one party hangs on its output of a close, to hold it up",
    64: "a rate that was agreed on, and that nobody relays any more",
    66: "a node or server that is behind its network",
    67: "a spend of the funding that no block could hold",
    68: "a spend, or its block, that one server hides",
    69: "a reorganisation that puts the refund in the place of the close, and the reverse",
    70: "a foreign funding that pays far too much, or too little, to the miner",
    71: "a funding that was replaced, left too early, or was paid twice; change that goes where nobody knows",
    73: "wishes that are never funded, from one source and from many; the seller's restart afterwards",
    74: "wishes with the largest manifest; refund requests for outpoints that do not exist",
    75: "free pieces without end, and an answer that is never taken away",
    76: "connections that are idle, half-open or slow, in numbers, from one source and from many",
    72: "a PSBT of version 2: a funding is read, and else the error names what converts it",
    77: "an offer that is expired, of another generation, with another token",
    82: "a file that is still being carried: it grows, shrinks, is replaced",
    78: "two sellers, or two sales, in one mailbox; an offer that would replace another one's",
    79: "full or read-only before a broadcast of what is complete: it is sent",
    81: "a copy of a file beside it, under a name that programs give",
    83: "two processes with one process id; a directory that cannot be synced; a file system that lacks something",
    85: "keys of another wallet in this one's place; a wallet copied and used twice",
    84: "an output that is a link, lies in a wallet, or is another command's",
    80: "full before an acceptance: refused, nothing counted, and the close still possible",
    # the machine
    86: "the clock at 1970, at 2075, an hour back between two commands",
    87: "no HOME, no passwd entry, stdout closed, a locale without Unicode, a file name without UTF-8",
    # over HTTP
    88: "a credential for another resource, amount, realm or body; an expired or foreign challenge; one twice at once",
    89: "a voucher below, equal, above, or for another channel; a close while a request is being served",
    90: "an upstream that fails before, in the middle of, or after its answer",
    91: "a head of 64 kB, a body without end, a smuggled request, a path that leaves the folder, another's host",
    92: "a page that a browser shows: no script or markup out of a name, a memo or an address",
}
"""Every line in few words. ``test_hostile_list`` holds the tests to the whole of it."""


@dataclass(frozen=True)
class Ended:
    """A command line that has ended."""

    words: Sequence[str]
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The object on stdout."""
        found: dict[str, Any] = json.loads(self.out)
        return found

    @property
    def error(self) -> dict[str, Any]:
        """The object on stderr."""
        found: dict[str, Any] = json.loads(self.err)
        return found


def mpchan(wallet: Path, chain: Path, *words: str | Path) -> Ended:
    """Run ``mpchan --json --wallet WALLET …`` in this process, on the embedded chain in ``chain``."""
    out, err = io.StringIO(), io.StringIO()
    line = ["--json", "--wallet", str(wallet), *map(str, words)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPCHAN_REGTEST", str(chain))
        patch.delenv("MPCHAN_DEBUG", raising=False)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(line)
    return Ended(line, code, out.getvalue(), err.getvalue())


@dataclass(frozen=True)
class Refusal:
    """What a refused command said."""

    slug: str
    exit_code: int
    message: str
    hint: str | None


def refusal(wallets: Sequence[Path], wallet: Path, chain: Path, *words: str | Path) -> Refusal:
    """Run a command that must be refused: nothing on stdout, no traceback, every file as before; what it said."""
    before = snapshot(*wallets)
    ended = mpchan(wallet, chain, *words)
    assert ended.code not in (0, 1), ended
    assert ended.out == "", ended
    assert "Traceback" not in ended.err, ended
    assert snapshot(*wallets) == before, ended
    said = ended.error
    assert list(said) == ["error", "message", "hint", "exit_code"]
    assert said["exit_code"] == ended.code
    return Refusal(said["error"], ended.code, said["message"], said["hint"])


class Desk:
    """Where the two wallets of a ``Pair`` are used from the command line.

    Args:
        folder: for the messages that are handed over.
    """

    def __init__(self, pair: Pair, folder: Path) -> None:
        self.pair = pair
        self.folder = folder
        self.chain = pair.chain.directory
        self.payer = pair.payer.directory
        self.payee = pair.payee.directory

    @property
    def wallets(self) -> tuple[Path, Path]:
        """Both directories."""
        return self.payer, self.payee

    def file(self, content: Psbt | Transaction | bytes | str) -> Path:
        """A message in a file."""
        path = self.folder / "message"
        data = content.to_hex() + "\n" if isinstance(content, (Psbt, Transaction)) else content
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    def done(self, wallet: Path, *words: str | Path) -> dict[str, Any]:
        """A command that must succeed, and what it answers."""
        ended = mpchan(wallet, self.chain, *words)
        assert (ended.code, ended.err) == (0, ""), ended
        return ended.json

    def refused(self, wallet: Path, *words: str | Path) -> Refusal:
        """A command that must be refused."""
        return refusal(self.wallets, wallet, self.chain, *words)

    def refused_writing(self, wallet: Path, *words: str | Path) -> Refusal:
        """The same of a command that writes a message: no file of it appears."""
        target = self.folder / "out"
        found = self.refused(wallet, *words, "-o", target)
        assert not target.exists()
        assert not list(self.folder.glob(".*"))
        return found

    def judged(self, wallet: Path, path: Path) -> dict[str, Any]:
        """What ``verify`` says of a file; it changes nothing either."""
        before = snapshot(*self.wallets)
        ended = mpchan(wallet, self.chain, "verify", path)
        assert snapshot(*self.wallets) == before
        assert ended.err == "", ended
        assert ended.json["exit_code"] == ended.code
        return ended.json


def same_verdict(desk: Desk, wallet: Path, path: Path, refused: Refusal) -> None:
    """``verify`` refuses a message for the reason that the command gave.

    What bears a signature is no request, so of such a message another command is asked, which refuses it too.
    """
    said = desk.judged(wallet, path)
    assert said["accepted"] is False
    if refused.slug == "extra-signature" and said["error"] != refused.slug:
        assert said["error"] in ("unknown-channel", "missing-signature"), said
        return
    assert (said["error"], said["exit_code"]) == (refused.slug, refused.exit_code), said


def number_of(name: str) -> int:
    """The line that a case belongs to; its name begins with the number."""
    return int(name.split()[0])


def environment(chain: Path) -> dict[str, str]:
    """For commands in processes of their own."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MPCHAN_")}
    return {**kept, "MPCHAN_REGTEST": str(chain), "PYTHONWARNINGS": "error"}
