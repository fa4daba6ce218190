"""``init``: a new wallet, with new keys or with those of seed words."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from contextlib import closing, suppress
from pathlib import Path

import click

from mpchan.bitcoin.network import NETWORKS
from mpchan.chain import open_chain
from mpchan.chain.base import BACKENDS, ChainConfig
from mpchan.cli import options
from mpchan.cli.app import App, unlock
from mpchan.cli.commands.coins import scanned, scanned_if_possible
from mpchan.cli.files import DONE, print_error
from mpchan.errors import MpchanError, ParseError, UsageError, mistyped
from mpchan.results.wallets import WalletMade, WalletOfWords
from mpchan.wallet.wallet import Wallet, wallet_exists

_MAX_WORDS_BYTES = 4096
_WORDS_ALONE = (
    "words alone recover the wallet's coins, not the money of an open channel: that needs a backup "
    "(`mpchan backup`), or for a payer its refund; under the scheme taproot, its offer"
)
_UNSEEN = "the wallet is made, but its words were not shown and never will be: remove its directory, and make another"


@options.command(
    "mpchan init",
    "mpchan --wallet ~/seller init --network signet --chain none",
    "mpchan init --restore < words.txt",
    "mpchan init --encrypt --show-words",
)
@click.option(
    "--network",
    type=click.Choice(list(NETWORKS)),
    default="regtest",
    show_default=True,
    help="Of all its coins and channels.",
)
@click.option(
    "--chain", "backend", type=click.Choice(list(BACKENDS)), help="Default: embedded on regtest, else none."
)
@click.option("--rpc-url", metavar="URL", help="bitcoind: where its JSON-RPC listens, http://HOST:PORT.")
@click.option(
    "--rpc-cookie", metavar="FILE", help="bitcoind: its cookie file; or $MPCHAN_RPC_USER and …_PASSWORD."
)
@click.option(
    "--electrum",
    metavar="HOST:PORT[:s]",
    multiple=True,
    help="Electrum server, :s for TLS; may be repeated, in the order of preference.",
)
@click.option("--proxy", metavar="URL", help="electrum: a SOCKS5 proxy such as Tor's, socks5://HOST:PORT.")
@click.option("--restore", is_flag=True, help="With the keys of seed words, asked for or from stdin.")
@click.option("--encrypt", is_flag=True, help="The keys, with a passphrase; see `mpchan passphrase --help`.")
@click.option("--show-words", is_flag=True, help="Show the seed words; this is the only time.")
def init(
    app: App,
    network: str,
    backend: str | None,
    rpc_url: str | None,
    rpc_cookie: str | None,
    electrum: tuple[str, ...],
    proxy: str | None,
    restore: bool,
    encrypt: bool,
    show_words: bool,
) -> None:
    """Make a wallet with new keys, or restore one from its words.

    --restore takes 12, 15, 18, 21 or 24 words (BIP-0039, English, without a passphrase), never as an argument: in a
    terminal they are typed unseen, else they come on standard input. It then looks for the wallet's addresses as
    `mpchan scan` does. Use it where the old wallet is lost, not beside it.

    --encrypt asks for a passphrase; nothing unencrypted is written to the disk then.

    Words alone do not recover the money of open channels. A backup does (`mpchan backup`), and for a payer its refund
    too (`mpchan payer fund --refund-out`): keep them away from this machine.
    """
    if restore and show_words:
        raise UsageError("usage", "--show-words is for new words, --restore knows them already")
    chain = _chain(network, backend, rpc_url, rpc_cookie, electrum, proxy)
    exposed = _exposed_servers(chain, network) if chain.backend == "electrum" else []
    directory = app.wallet_directory.absolute()
    if restore or encrypt:
        _refuse_known(directory)
    words = _asked_words() if restore else None
    passphrase = _asked_passphrase() if encrypt else None
    wallet = Wallet.create(directory, NETWORKS[network], chain, words, passphrase, unlock)
    encrypted = wallet.keys.are_encrypted
    made = (str(directory), network, chain.backend)
    if restore:
        _make_chain(wallet)
        warnings: list[str] = []
        scan = scanned_if_possible(app, wallet, warnings)
        app.report(WalletOfWords(*made, scan, encrypted, tuple(warnings)), _people, DONE)
    else:
        shown = wallet.keys.seed_words() if show_words else None
        if shown is not None and not app.json:
            print_error("write these words down, in this order; they are shown this once:")
            print_error(_whole(shown))
        done = _UNSEEN if show_words and app.json else DONE
        app.report(WalletMade(*made, encrypted, shown), _people, done)
    for line in _said(network, restore or show_words, encrypted, exposed):
        app.say(line)
    if restore:
        app.warn(warnings)
    _make_chain(wallet)  # once the words are out: nothing may come in between


def _make_chain(wallet: Wallet) -> None:
    """The private chain, where there is none: no later command makes one in place of one that is gone.

    The wallet is made without it too; whoever asks for the chain hears what is wrong.
    """
    if not wallet.config.chain.is_private:
        return
    with suppress(MpchanError):
        chain = open_chain(wallet.config.chain, wallet.network, wallet.directory, create=True)
        with closing(chain):
            chain.tip()


def _whole(words: str) -> str:
    """Seed words as one line, where a terminal shows them too."""
    if sys.stderr is None or not sys.stderr.isatty():
        return words
    return in_rows(words, max(shutil.get_terminal_size().columns, 9))


def in_rows(words: str, columns: int) -> str:
    """Words as one line that a terminal breaks between words, never within one.

    A line break of our own would split what is copied from there and pasted into ``--restore``.

    Args:
        columns: of the terminal; 9 or more, as the longest seed word has 8 letters.
    """
    return "".join(row.ljust(columns) for row in textwrap.wrap(words, columns - 1)).rstrip()


def _people(view: WalletMade | WalletOfWords) -> str:
    how = ", keys encrypted" if view.encrypted else ""
    text = f"made a {view.network} wallet in {view.wallet} (chain: {view.chain}{how})"
    if isinstance(view, WalletOfWords) and view.scan is not None:
        text += "\n" + scanned(view.scan)
    return text


def _said(network: str, with_words: bool, encrypted: bool, exposed: list[str]) -> list[str]:
    """What people are told besides."""
    lines = [_WORDS_ALONE] if with_words else []
    if encrypted:
        from mpchan.cli.commands.passphrase import LOST

        lines.append(LOST)
    elif network == "mainnet":
        lines.append("keep keys.toml safe: it holds the keys, not encrypted")
    return lines + [
        f"warning: what {server} is asked can be read and changed on the way; servers with TLS end in :s"
        for server in exposed
    ]


def _refuse_known(directory: Path) -> None:
    """Before anybody types."""
    if (directory / "wallet.toml").exists():
        raise wallet_exists(directory)


def _asked_passphrase() -> str:
    from mpchan.cli.input.asking import CURRENT, new_passphrase

    return new_passphrase(CURRENT)


def _asked_words() -> str:
    """The words, typed unseen in a terminal, else all of standard input."""
    if sys.stdin is None:
        raise ParseError("malformed-words", "standard input is closed, so there are no seed words")
    if sys.stdin.isatty():
        from getpass import getpass

        try:
            return getpass("seed words (not shown): ", sys.stderr)
        except EOFError:
            raise ParseError("malformed-words", "no seed words were typed") from None
    try:
        data = sys.stdin.buffer.read(_MAX_WORDS_BYTES + 1)
        if len(data) > _MAX_WORDS_BYTES:
            raise ParseError("malformed-words", f"more than {_MAX_WORDS_BYTES} bytes are no seed words")
        return data.decode()
    except (OSError, UnicodeDecodeError):
        raise ParseError("malformed-words", "standard input is no text of seed words") from None


def _chain(
    network: str,
    backend: str | None,
    rpc_url: str | None,
    rpc_cookie: str | None,
    electrum: tuple[str, ...],
    proxy: str | None,
) -> ChainConfig:
    """The backend that the options name."""
    chosen = backend or ("embedded" if network == "regtest" else "none")
    if BACKENDS[chosen].is_private and network != "regtest":
        raise UsageError("usage", f"the {chosen} chain is regtest only, not {network}")
    cookie = None if rpc_cookie is None else os.path.abspath(rpc_cookie)
    config = ChainConfig(chosen, None, rpc_url, cookie, electrum, proxy)
    for owner, other in BACKENDS.items():
        for key in other.settings:
            if owner != chosen and getattr(config, key) not in (None, ()):
                option = "--" + key.replace("_", "-")
                raise UsageError("usage", f"{option} belongs to --chain {owner}, not to {chosen}")
    if rpc_url is not None:
        _check_url(rpc_url)
    return config


def _exposed_servers(chain: ChainConfig, network: str) -> list[str]:
    """The servers of a public network that are asked in clear; exit 2 where the settings are none."""
    from mpchan.chain.electrum.address import read_config

    try:
        servers, _ = read_config(chain)
    except ParseError as error:
        raise UsageError("usage", error.message, hint=error.hint) from None
    return [str(server) for server in servers if server.is_exposed and network != "regtest"]


def _check_url(url: str) -> None:
    """Exit 2 where it is none, or holds a password: it is about to be written to wallet.toml."""
    from mpchan.chain.bitcoind.endpoint import Endpoint

    try:
        Endpoint.parse(url)
    except ParseError as error:
        raise mistyped(error) from None
