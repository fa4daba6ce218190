"""Hostile inputs 78 and 82: two sellers or two sales in one mailbox, and an offer that has not come whole."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.hostile import Refusal, environment, mpchan
from support.party import SHORT, Pair

from mpchan import durability
from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel.offer import Offer
from mpchan.cli.app import App
from mpchan.cli.commands.sell import Published
from mpchan.errors import NotPossible, ParseError
from mpchan.market.hashing import hash_file
from mpchan.market.place import offer_in_place
from mpchan.party.offers.selling import published_offer
from mpchan.sale.manifest import Sale, sale_of
from mpchan.transport.mailbox import MailboxInbox
from mpchan.units import Amount
from mpchan.wallet.wallet import Wallet


class Place:
    """A mailbox, and a file on sale in it: the payee's, or another wallet's."""

    def __init__(self, pair: Pair, folder: Path) -> None:
        self.pair = pair
        self.mailbox = folder / "mailbox"
        self.mailbox.mkdir()
        self.offer = self.mailbox / "offer.toml"
        self.film, self.other = folder / "film", folder / "other"
        self.film.write_bytes(bytes(5000))
        self.other.write_bytes(b"\1" * 5000)

    def published(self, wallet: Wallet, file: Path, pieces: int = 5) -> str:
        """As this wallet offers a file."""
        hashes = hash_file(file, 5000 // pieces)
        sale = Sale(file.name, hashes.length, hashes.piece_length, Amount(1000), 0, hashes.hashes)
        return published_offer(wallet, self.pair.chain, SHORT, sale)[0].offer.to_toml()

    def words(self, file: Path, pieces: int = 5) -> list[str | Path]:
        return [
            "payee",
            "sell",
            file,
            "--price-per-piece",
            "1000",
            "--pieces",
            str(pieces),
            "--mailbox",
            self.mailbox,
        ]

    def refused(self, file: Path, pieces: int = 5) -> Refusal:
        """The payee's sale of a file here is refused; nothing has changed in the mailbox, and no offer was made."""
        before, made = self.content(), self.pair.payee.offers.ids()
        ended = mpchan(self.pair.payee.directory, self.pair.chain.directory, *self.words(file, pieces))
        assert (self.content(), self.pair.payee.offers.ids()) == (before, made)
        assert (ended.out, "Traceback" in ended.err) == ("", False), ended
        said = ended.error
        assert said["exit_code"] == ended.code
        return Refusal(said["error"], ended.code, said["message"], said["hint"])

    def content(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.mailbox)): path.read_bytes()
            for path in sorted(self.mailbox.rglob("*"))
            if path.is_file() and path.name != ".seller.lock"
        }

    @contextmanager
    def selling(self, file: Path) -> Iterator[subprocess.Popen[str]]:
        """The payee's real sale, from its offer on."""
        words = ["--json", "--wallet", self.pair.payee.directory, *self.words(file)]
        command = [sys.executable, "-m", "mpchan", *map(str, words)]
        env = environment(self.pair.chain.directory)
        with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                while '"selling"' not in process.stdout.readline():
                    assert process.poll() is None
                yield process
            finally:
                process.terminate()


@pytest.fixture
def place(chain_directory: Path, tmp_path: Path) -> Iterator[Place]:
    with EmbeddedChain(chain_directory) as chain:
        yield Place(Pair(tmp_path, chain), tmp_path)


def test_78_another_wallets_offer(place: Place) -> None:
    """It is never replaced, neither at the start nor by a renewal; not even one that has expired."""
    place.offer.write_text(place.published(place.pair.payer, place.film))
    found = place.refused(place.film)
    assert (found.slug, found.exit_code) == ("other-sale", 5)
    assert "an offer of another wallet" in found.message
    assert found.hint is not None
    assert "--mailbox" in found.hint


def test_78_an_offer_of_ones_own_that_somebody_altered(place: Place) -> None:
    text = place.published(place.pair.payee, place.film)
    place.offer.write_text(text.replace("price_sat = 1000", "price_sat = 1"))
    assert place.refused(place.film).slug == "other-sale"


@pytest.mark.parametrize("pieces", [5, 10])
def test_78_another_file_of_the_same_wallet(place: Place, pieces: int) -> None:
    """Or the same one in other pieces: its buyers would find another sale in the place of theirs."""
    file = place.other if pieces == 5 else place.film
    place.offer.write_text(place.published(place.pair.payee, place.film))
    found = place.refused(file, pieces)
    assert (found.slug, found.exit_code) == ("other-sale", 5)
    assert "'film'" in found.message


@pytest.mark.parametrize("make", ["78 text", "78 empty", "78 folder", "78 fifo", "78 link"])
def test_what_is_no_offer(place: Place, make: str) -> None:
    """It may be one that is still being carried, or anything else that is not ours to delete."""
    kind = make.split()[1]
    if kind in ("text", "empty"):
        place.offer.write_text("version = 2\n" if kind == "text" else "")
    elif kind == "folder":
        place.offer.mkdir()
    elif kind == "fifo":
        os.mkfifo(place.offer)
    else:
        place.offer.symlink_to(place.film)
    assert place.refused(place.other).slug == "other-sale"


def test_78_two_sales_at_once(place: Place) -> None:
    """The first one's lock is held as long as it sells; the same sale goes on behind it."""
    with place.selling(place.film):
        first = place.offer.read_bytes()
        found = place.refused(place.film)
        assert (found.slug, found.exit_code) == ("locked", 7)
        assert "another `payee sell` serves this mailbox" in found.message
        assert place.refused(place.other).slug == "other-sale"
        assert place.offer.read_bytes() == first
    with place.selling(place.film):
        assert place.offer.read_bytes() == first


def test_78_two_sales_that_begin_at_once(place: Place) -> None:
    """Before there is an offer: one of them has the mailbox."""
    with closing(MailboxInbox(place.mailbox, threading.Event())):
        assert place.refused(place.film).slug == "locked"
        assert not place.offer.exists()


def test_78_an_offer_that_comes_while_one_sells(place: Place) -> None:
    """Another seller's, from another machine: the sale goes on, and its renewal replaces nothing."""
    foreign = place.published(place.pair.payer, place.other)
    hashes = hash_file(place.film, 1000)
    sale = Sale("film", hashes.length, hashes.piece_length, Amount(1000), 0, hashes.hashes)
    place.offer.write_text(foreign)
    with pytest.raises(NotPossible, match="another wallet") as caught:
        Published(App(), place.pair.payee, place.pair.chain, sale, place.mailbox, None).publish({})
    assert caught.value.slug == "other-sale"
    assert place.offer.read_text() == foreign


def test_78_a_disk_without_locks(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sale goes on: what another one's offer is stays as it is all the same."""

    def lock(descriptor: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(durability, "lock", lock)
    before = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
    with closing(MailboxInbox(place.mailbox, threading.Event())) as inbox:
        assert inbox.waiting() == []
    assert not before or len(os.listdir("/proc/self/fd")) <= len(before)


# 82: the offer itself is still being carried ------------------------------------------------------


def offer_at(path: Path) -> Offer:
    return offer_in_place(path, lambda: Offer.from_toml(path.read_text()))


def test_82_an_offer_that_comes_in_place(place: Place, tmp_path: Path) -> None:
    """A buyer who looks too early waits, in the order of its bytes and over zeros that are there at once."""
    text = place.published(place.pair.payee, place.film).encode()
    for number, room in enumerate((0, len(text))):
        path = tmp_path / f"offer-{number}"
        with path.open("wb", buffering=0) as file:
            os.truncate(path, room)

            def carry(file: Any = file) -> None:
                for start in range(0, len(text), 100):
                    time.sleep(0.02)
                    file.write(text[start : start + 100])

            carrier = threading.Thread(target=carry)
            carrier.start()
            assert offer_at(path).to_toml().encode() == text
            carrier.join()


def test_82_no_part_of_an_offer_is_an_offer(place: Place) -> None:
    """Wherever the copy stands, what is there is no other, cheaper sale."""
    text = place.published(place.pair.payee, place.film)
    ends = [index for index, letter in enumerate(text) if letter in "\n]"]
    for length in sorted({*ends, *(end + 1 for end in ends), *range(0, len(text) - 1, 7)}):
        if not text[length:].strip():
            continue
        with pytest.raises((ParseError, NotPossible)):
            sale_of(Offer.from_toml(text[:length]))


def test_82_an_offer_that_stays_half(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is malformed when it has not changed for some time, and the hint says what may help."""
    monkeypatch.setattr("mpchan.market.place.STILL_SECONDS", 0.1)
    text = place.published(place.pair.payee, place.film)
    (place.mailbox / "to-payee").mkdir()
    place.offer.write_text(text[:500])
    ended = mpchan(
        place.pair.payer.directory,
        place.pair.chain.directory,
        "payer",
        "buy",
        place.offer,
        "-o",
        tmp_path / "x",
    )
    assert ended.code == 3
    assert ended.error["hint"] == "if it is still being copied into the mailbox, run the command again"
