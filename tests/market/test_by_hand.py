"""A sale of which one side is a person with a shell and a folder: every message is a command, a file and a ``mv``."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from support.market.market import each_scheme
from support.market.processes import LIMIT_SECONDS, PRICE, TERMINATE, Shop, make_film, opened
from support.transcript import program

from mpchan.channel.construction.registry import construction

PIECE = 4_096

TOOLS = r"""
set -eu
hex() { od -An -v -tx1 | tr -d ' \n'; echo; }
text() { python3 -c 'import sys; sys.stdout.buffer.write(bytes.fromhex(sys.stdin.read()))'; }
seen() { until ls $1 2>/dev/null; do sleep 0.02; done; }
"""

BUYER = r"""
me="mpchan -q --wallet buyer"
session=00112233445566778899aabbccddeeff
ask=mailbox/to-payee/$session answer=mailbox/to-payer/$session
published=$(sed -n 's/^offer_id = "\(.*\)"/\1/p' mailbox/offer.toml)

# what is wanted; the answer is an offer of one's own, in hex
printf '{"offer_id": "%s", "buyer": "%s", "pieces": "2-4"}' $published $session | hex > wish
mv wish $ask-000001-offer.hex
seen $answer-000001-message.hex

# the refund, and then the money
$me payer open $answer-000001-message.hex 3000 -o $ask-000002-refund.hex
seen $answer-000002-message.hex
$me payer fund $answer-000002-message.hex -o $ask-000003-funding.hex
seen $answer-000003-message.hex
text < $answer-000003-message.hex
mpchan -q regtest mine 1

# three payments for three pieces, and a sample that costs nothing
for number in 4 5 6; do
    $me payer pay 1000 -o $ask-00000$number-update.hex
    seen $answer-00000$number-piece.data
    cat $answer-00000$number-piece.data >> bought
done
echo '{"piece": 1}' | hex > sample
mv sample $ask-000007-piece.hex
seen $answer-000007-piece.data
cat $answer-000007-piece.data bought > whole

# the end
$me payer settle -o $ask-000008-settlement.hex
seen $answer-000008-message.hex
mpchan inspect $answer-000008-message.hex
rm $ask-*
"""


def without_an_exchange(script: str) -> str:
    """The buyer's script where no refund is asked for: the money is locked at once."""
    before, mark, rest = script.partition("# the refund, and then the money\n")
    assert mark
    opening = (
        "$me payer open $answer-000001-message.hex 3000 --refund-out refund.hex\nmpchan -q regtest mine 1\n"
    )
    return f"{before}{opening}\n# three{rest.partition('# three')[2]}"


SELLER = r"""
me="mpchan -q --wallet seller"
while request=$(seen 'mailbox/to-payee/*-*-*.hex' | tail -n 1); do
    asked=$(basename $request .hex)
    numbered=${asked%-*}
    answer=mailbox/to-payer/$numbered-message.hex
    if [ -e $answer ] || [ -e mailbox/to-payer/$numbered-piece.data ]; then continue; fi
    case $asked in
    *-offer) $me payee offer --for $request | hex > told; mv told $answer ;;
    *-refund) $me payee sign-refund $request -o $answer ;;
    *-funding) $me --json payee funding $request | hex > told; mv told $answer; mpchan -q regtest mine 1 ;;
    *-update)
        paid=$($me --json payee accept $request | sed 's/.*"paid_sat": \([0-9]*\).*/\1/')
        dd if=film.mkv of=told bs=4096 skip=$((paid / 1000)) count=1 2>/dev/null
        mv told mailbox/to-payer/$numbered-piece.data ;;
    *-piece)
        dd if=film.mkv of=told bs=4096 count=1 2>/dev/null
        mv told mailbox/to-payer/$numbered-piece.data ;;
    *-settlement) $me payee settle $request -o $answer; exit 0 ;;
    esac
done
"""


@pytest.fixture
def shop(tmp_path: Path, bare: Path, scheme: str | None) -> Iterator[Shop]:
    """Four pieces, the first of them free."""
    film = make_film(tmp_path / "film.mkv", 4 * PIECE - 3)
    free = ("--free-pieces", "1")
    with opened(Shop(tmp_path, bare, "mailbox", film, 4, options=free, scheme=scheme)) as shop:
        yield shop


@contextmanager
def typed(shop: Shop, script: str) -> Iterator[subprocess.Popen[bytes]]:
    """A shell that runs it in the shop's folder, and that ends with the block."""
    shell = subprocess.Popen(
        ["/bin/sh", "-c", TOOLS + script],
        cwd=shop.folder,
        env={**shop.env, "PATH": f"{program().parent}{os.pathsep}{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield shell
    finally:
        with suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
        shell.communicate()


def ended_well(shell: subprocess.Popen[bytes]) -> str:
    """What it said."""
    out, err = shell.communicate(timeout=LIMIT_SECONDS)
    assert (shell.returncode, err) == (0, b""), (out, err)
    return out.decode()


@each_scheme
def test_a_buyer_by_hand(shop: Shop, scheme: str) -> None:
    exchanges = construction(scheme).has_exchange
    seller = shop.sell("--buyers", "1")
    with typed(shop, BUYER if exchanges else without_an_exchange(BUYER)) as buyer:
        said = ended_well(buyer)
    seller.ends_well()
    assert (shop.folder / "whole").read_bytes() == shop.data
    assert ('"funding_txid"' in said) is exchanges
    assert "settlement" in [line["event"] for line in seller.lines()]
    assert [line["piece"] for line in seller.events("update")] == [2, 3, 4]
    shop.output().write_bytes(shop.data)
    shop.check_end()


def test_a_seller_by_hand(shop: Shop) -> None:
    """Only the published offer was made by ``sell``, which has ended since."""
    assert shop.sell().ended(TERMINATE) == 0
    with typed(shop, SELLER) as seller:
        shop.buy("--patience", "30").ends_well()
        ended_well(seller)
    assert shop.is_whole()
    shop.check_end()
    assert [event.amount_sat for event in shop.accepted()] == [PRICE] * 3
