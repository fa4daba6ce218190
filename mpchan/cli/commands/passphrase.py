"""``passphrase``: set, change or remove the passphrase that the keys are encrypted with."""

from __future__ import annotations

from mpchan.cli import options
from mpchan.cli.app import App
from mpchan.cli.files import DONE
from mpchan.cli.input.asking import CURRENT, NEW, new_passphrase
from mpchan.errors import NotPossible
from mpchan.results.wallets import Encrypted
from mpchan.wallet.keys import Keys
from mpchan.wallet.wallet import Wallet

LOST = "who forgets it loses the keys: the seed words give back the wallet's coins, not the money of an open channel"


@options.command("mpchan passphrase set", name="set")
def set_passphrase(app: App) -> None:
    """Encrypt the keys of a wallet that has no passphrase yet.

    keys.toml is replaced by an encrypted one. What was in it is deleted, not destroyed: the file system, the disk and
    backups may keep copies of the old file. Where that matters, make a new wallet with `mpchan init --encrypt` and send
    the coins there.
    """
    wallet = app.wallet()
    if wallet.keys.are_encrypted:
        raise NotPossible(
            "already-encrypted",
            "the keys have a passphrase already",
            hint="see `mpchan passphrase change --help`",
        )
    passphrase = new_passphrase(CURRENT)
    with wallet.lock():
        keys = wallet.fresh_keys()
        keys.encrypt(passphrase)
    _report(app, wallet, keys)
    app.say(LOST)


@options.command("mpchan passphrase change")
def change(app: App) -> None:
    """Encrypt the keys with another passphrase.

    The new one is asked for in the terminal, or read as MPCHAN_NEW_PASSPHRASE_FD or MPCHAN_NEW_PASSPHRASE_FILE say.
    Copies of the old keys.toml still open with the old passphrase.
    """
    wallet = _unlocked(app)
    passphrase = new_passphrase(NEW)
    with wallet.lock():
        keys = wallet.fresh_keys()
        keys.encrypt(passphrase)
    _report(app, wallet, keys)


@options.command("mpchan passphrase remove")
def remove(app: App) -> None:
    """Store the keys without encryption.

    From then on whoever reads keys.toml has the wallet's money.
    """
    wallet = _unlocked(app)
    with wallet.lock():
        keys = wallet.fresh_keys()
        keys.store_plain()
    _report(app, wallet, keys)


def _unlocked(app: App) -> Wallet:
    """The wallet with its passphrase given, before its lock is taken."""
    wallet = app.wallet()
    if not wallet.keys.are_encrypted:
        raise NotPossible(
            "not-encrypted", "the keys have no passphrase", hint="see `mpchan passphrase set --help`"
        )
    wallet.keys.need_secret()
    return wallet


def _report(app: App, wallet: Wallet, keys: Keys) -> None:
    result = Encrypted(str(wallet.directory.absolute()), keys.are_encrypted)
    app.report(result, _people, DONE)


def _people(view: Encrypted) -> str:
    how = "encrypted with the new passphrase" if view.encrypted else "not encrypted any more"
    return f"the keys of {view.wallet} are {how}"
