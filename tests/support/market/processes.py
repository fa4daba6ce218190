"""Sellers and buyers as real processes on one embedded chain, on both ways, and what must always hold of them."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from support.documented import require_documented
from support.party import new_wallet
from support.transcript import copy_folder, program

from mpchan.bitcoin.address import address_to_script
from mpchan.bitcoin.network import REGTEST
from mpchan.chain.embedded import EmbeddedChain
from mpchan.market.output import part_path
from mpchan.party import views
from mpchan.party.history import history
from mpchan.results.channels import HistoryEvent
from mpchan.sale.manifest import Sale, sale_of
from mpchan.units import Amount
from mpchan.wallet.payee_record import PayeeRecord
from mpchan.wallet.payer_record import PayerRecord
from mpchan.wallet.wallet import Wallet

T = TypeVar("T")

WAYS = ("mailbox", "tcp")
MIB = 1 << 20
PRICE = 1_000
LIMIT_SECONDS = 30.0
LATER = Path(__file__).with_name("later.py")
"""A program in place of ``mpchan``, for which some hours have passed."""
OLD = 1_600_000_000
"""When the films were last changed: long enough ago for their hashes to be kept."""


def make_film(path: Path, size: int) -> Path:
    """A file of no pattern, whose pieces differ, and that nobody has changed for years."""
    source = random.Random(size)
    with path.open("wb") as file:
        for start in range(0, size, MIB):
            file.write(source.randbytes(min(MIB, size - start)))
    os.utime(path, (OLD, OLD))
    return path


def awaited(look: Callable[[], T | None], what: str) -> T:
    """What ``look`` finds, as soon as it is something."""
    limit = time.monotonic() + LIMIT_SECONDS
    while not (found := look()):
        assert time.monotonic() < limit, f"{what} does not come"
        time.sleep(0.01)
    return found


class Program:
    """One ``mpchan`` process. What it says goes into files, so that it never waits for a reader.

    Args:
        command: what runs the words, where that is not the installed program.

    Attributes:
        began: when it was started, as ``time.monotonic()`` counts.
    """

    def __init__(
        self, words: list[str], env: dict[str, str], place: Path, command: Sequence[str] = ()
    ) -> None:
        self._out, self._err = place.with_suffix(".out"), place.with_suffix(".err")
        self.began = time.monotonic()
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(
                [*(command or [str(program())]), *words],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        self.pid = self._process.pid
        self._words = words

    @property
    def out(self) -> str:
        """All of its stdout so far."""
        return self._out.read_text()

    @property
    def err(self) -> str:
        """All of its stderr so far."""
        return self._err.read_text()

    def lines(self) -> list[dict[str, Any]]:
        """The whole lines of its stdout so far; each must be an object."""
        found = [json.loads(line) for line in self.out.split("\n")[:-1]]
        assert all(type(line) is dict for line in found)
        return found

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Of a seller: the events of a kind so far."""
        return [line for line in self.lines() if line["event"] == kind]

    def until(self, look: Callable[[], T | None], what: str) -> T:
        """What ``look`` finds, while this process goes on."""

        def found() -> T | None:
            seen = look()
            if not seen:
                self._goes_on()
            return seen

        return awaited(found, f"{what} of {self._out.name}")

    def _goes_on(self) -> None:
        assert self._process.poll() is None, (self._process.returncode, self.out[-2000:], self.err[-2000:])

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def ended(self, number: int | None = None) -> int:
        """Its exit code, when it has ended; with a signal, that is sent first."""
        if number is not None:
            self._process.send_signal(number)
        code = self._process.wait(LIMIT_SECONDS)
        assert "Traceback" not in self.err, self.err
        assert "Exception ignored" not in self.err, self.err
        if "--json" in self._words:
            require_documented(self._words, self.out)
        return code

    def ends_well(self) -> None:
        """It must end with 0."""
        assert self.ended() == 0, (self.out[-2000:], self.err[-2000:])

    def kill(self) -> None:
        """End it as no program can prevent."""
        self._process.kill()
        self._process.wait()

    def resident_kib(self, name: str = "VmRSS") -> int:
        """Its memory, as Linux counts it."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(name + ":"))


class Shop:
    """A file on sale and those who buy it, each with a wallet of its own; every program is a process.

    Args:
        folder: of all of it.
        bare: an embedded chain, which is copied.
        way: ``mailbox`` or ``tcp``.
        film: what is sold.
        pieces: how many.
        buyers: how many have a wallet, and a coin of what the whole costs and a little more.
        options: more words for ``sell``.
        scheme: the construction of the channels, as ``wallet.toml`` names it; None for the default.

    Attributes:
        commands: what runs the programs of a wallet, where that is not the installed program.
    """

    def __init__(
        self,
        folder: Path,
        bare: Path,
        way: str,
        film: Path,
        pieces: int,
        *,
        buyers: int = 1,
        options: tuple[str, ...] = (),
        scheme: str | None = None,
    ) -> None:
        self.folder = folder
        self.way = way
        self.film = film
        self.data = film.read_bytes()
        self.chain_directory = folder / "chain"
        copy_folder(bare, self.chain_directory)
        self.mailbox, self.offer = folder / "mailbox", folder / "offer.toml"
        self.address = f"127.0.0.1:{free_port()}"
        self.env = {**os.environ, "MPCHAN_REGTEST": str(self.chain_directory), "PYTHONWARNINGS": "error"}
        self.programs: list[Program] = []
        self.commands: dict[str, list[str]] = {}
        self._sell = ["sell", str(film), "--price-per-piece", str(PRICE), "--pieces", str(pieces), *options]
        self._sell += ["-o", str(self.offer)]
        self._sell += ["--mailbox", str(self.mailbox)] if way == "mailbox" else ["--listen", self.address]
        self.buyers = ["buyer", *[f"buyer-{number}" for number in range(2, buyers + 1)]]
        config = new_wallet(folder / "seller").directory / "wallet.toml"
        if scheme is not None:
            config.write_text(config.read_text().replace("[offer]", f'[offer]\nscheme = "{scheme}"'))
        with EmbeddedChain(self.chain_directory) as chain, chain.engine():
            for name in self.buyers:
                wallet = new_wallet(folder / name)
                script = address_to_script(views.fresh_address(wallet).address, REGTEST)
                chain.faucet(script, Amount(PRICE * pieces + 100_000))
            chain.mine(1)
            self.first_height = chain.tip().height + 1

    # programs -------------------------------------------------------------------------------------

    def start(self, wallet: str, *words: str) -> Program:
        """A command that goes on beside the test."""
        place = self.folder / f"program-{len(self.programs) + 1:03d}-{wallet}"
        words = ("--wallet", str(self.folder / wallet), *words)
        self.programs.append(Program([*words], self.env, place, self.commands.get(wallet, ())))
        return self.programs[-1]

    def sell(self, *options: str) -> Program:
        """The seller, once it sells. Its lines are JSON."""
        seller = self.start_selling(*options)
        seller.until(lambda: seller.events("selling"), "the beginning")
        return seller

    def start_selling(self, *options: str) -> Program:
        """The seller, at whatever it is."""
        return self.start("seller", "--json", "payee", *self._sell, *options)

    def buy(self, *options: str, name: str = "buyer", yes: bool = True) -> Program:
        """A buyer of the whole, or of what the options say."""
        words = ["payer", "buy", str(self.offer), "--output", str(self.output(name)), *options]
        words += ["--mailbox", str(self.mailbox)] if self.way == "mailbox" else []
        return self.start(name, *words, *(["--yes"] if yes else []))

    def ask(self, wallet: str, *words: str) -> Any:
        """What a command says that must end well."""
        asked = self.start(wallet, "--json", *words)
        asked.ends_well()
        return json.loads(asked.out)

    def close(self) -> None:
        """Nothing of it goes on, and what is large does not stay on the disk."""
        for started in self.programs:
            if started.is_running:
                started.kill()
        for name in self.buyers:
            self.output(name).unlink(missing_ok=True)
            part_path(self.output(name)).unlink(missing_ok=True)
        shutil.rmtree(self.mailbox, ignore_errors=True)
        if self.film.parent == self.folder:
            self.film.unlink(missing_ok=True)

    @contextmanager
    def mining(self, pause: float = 0.02) -> Iterator[None]:
        """A third party mines a block whenever something waits for one.

        Args:
            pause: seconds between two looks, for as many buyers as would find blocks faster than a refund may wait.
        """
        stop, failures = threading.Event(), list[BaseException]()

        def mine() -> None:
            try:
                with EmbeddedChain(self.chain_directory) as chain:
                    while not stop.wait(pause):
                        if chain.mempool():
                            chain.mine(1)
            except BaseException as error:  # noqa: BLE001 (told below)
                failures.append(error)

        thread = threading.Thread(target=mine)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        assert failures == []

    # what can be looked at ------------------------------------------------------------------------

    def output(self, name: str = "buyer") -> Path:
        """Where a buyer's file goes."""
        return self.folder / f"{name}.film"

    @property
    def sale(self) -> Sale:
        """What is on sale; it is published again once a close has paid to the address before."""
        [sale] = {sale for sale in map(sale_of, self._own_offers()) if sale.buyer is None}
        return sale

    def _own_offers(self) -> list[Any]:
        wallet = self.wallet("seller")
        return [wallet.offers.load(offer_id).offer for offer_id in wallet.offers.ids()]

    def wallet(self, name: str) -> Wallet:
        """A wallet as it is on disk now."""
        return Wallet.open(self.folder / name)

    def paid(self, name: str = "buyer") -> int:
        """What a payer has signed away, in all its channels."""
        wallet, total = self.wallet(name), 0
        for channel in wallet.channels.names():
            record = wallet.channels.load(channel)
            assert isinstance(record, PayerRecord)
            total += record.paid.sat
        return total

    def received(self) -> int:
        """What the payee holds, in all its channels."""
        wallet, total = self.wallet("seller"), 0
        for channel in wallet.channels.names():
            record = wallet.channels.load(channel)
            assert isinstance(record, PayeeRecord)
            total += record.paid.sat
        return total

    def right_pieces(self, name: str = "buyer") -> set[int]:
        """The pieces that are in a buyer's file as it is now."""
        for path in (part_path(self.output(name)), self.output(name)):
            try:
                data = memoryview(path.read_bytes())
            except FileNotFoundError:  # it may be renamed at this moment
                continue
            sale, sold = self.sale, memoryview(self.data)
            return {
                number
                for number in range(1, sale.count + 1)
                for start in [sale.start_of(number)]
                if data[start : start + sale.piece_length] == sold[start : start + sale.piece_length]
            }
        return set()

    def is_whole(self, name: str = "buyer") -> bool:
        """Whether a buyer has what was sold, byte for byte."""
        return self.output(name).read_bytes() == self.data and not part_path(self.output(name)).exists()

    def transactions(self) -> list[str]:
        """All that was mined since the buyers have their coins, without the coinbases; and what waits."""
        with EmbeddedChain(self.chain_directory) as chain:
            heights = range(self.first_height, chain.tip().height + 1)
            mined = [tx for height in heights for tx in chain.block_transactions(height)[1:]]
            return [*(str(tx.txid) for tx in mined), *map(str, chain.mempool())]

    def accepted(self) -> list[HistoryEvent]:
        """The updates in the history of the seller's only channel."""
        events = history(self.wallet("seller"), None).events
        return [event for event in events if event.event == "accepted"]

    def confirmed_sat(self, name: str) -> int:
        """What a wallet has in blocks."""
        with EmbeddedChain(self.chain_directory) as chain:
            return int(views.balance(self.wallet(name), chain).confirmed_sat)

    # what must hold -------------------------------------------------------------------------------

    def check_debt(self, name: str = "buyer") -> None:
        """Not more than one piece is paid for that is not there. At least one of the two programs must stand still."""
        received = self.received()
        delivered = len(self.right_pieces(name)) - self.sale.free_pieces
        assert received - PRICE * delivered <= PRICE, (received, delivered)

    def check_end(self, name: str = "buyer", pieces: int | None = None) -> None:
        """The end of one whole sale: paid once, delivered whole, one channel with its two transactions."""
        price = PRICE * (self.sale.count - self.sale.free_pieces if pieces is None else pieces)
        assert (self.paid(name), self.received()) == (price, price)
        [channel] = self.wallet(name).channels.names()
        assert self.wallet("seller").channels.names() == [channel]
        with EmbeddedChain(self.chain_directory) as chain:
            if chain.mempool():
                chain.mine(1)
        transactions = self.transactions()
        assert len(transactions) == 2
        assert channel.startswith(transactions[0])
        assert self.confirmed_sat("seller") == price
        assert self.right_pieces(name) >= set(range(1, 1 + (pieces or self.sale.count)))


def free_port() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@contextmanager
def opened(shop: Shop) -> Iterator[Shop]:
    """The shop, closed at the end with all its programs."""
    try:
        yield shop
    finally:
        shop.close()


INTERRUPT, TERMINATE = signal.SIGINT, signal.SIGTERM
