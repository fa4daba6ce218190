"""``backup`` and ``restore``: a whole wallet in one file, and a wallet made of it again.

What was signed after the backup is not in it. A restored wallet therefore must not do what the lost one may have done
already with the same keys:

- an offer that was unused may have served a channel since: it is void, so that no outpoint gets a second refund. For
  the wallet's generation is in no backup, and the restored wallet draws another one. An offer of version 1, which has
  none, is marked: of what lies on its address the lost wallet may have signed a refund;
- older channels' keys that were handed out since are left out: the next index moves on, by at least 1,000 and then
  some, picked by chance, because a backup can be restored a second time;
- a payer may have signed later updates: its channels sign nothing new until they are synced (``party.syncing``).

A payee's older state needs no mark: whatever the payer has signed since is later, so it is accepted. What nothing can
mend is two wallets that are both used: that is said, not prevented.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from mpchan import durability
from mpchan.bitcoin.network import network_from_name
from mpchan.channel import payer
from mpchan.errors import AsStorageError, MpchanError, ParseError, StorageError, UsageError, storage_error
from mpchan.results.wallets import BackedUp, Restored
from mpchan.values import replace
from mpchan.wallet.backup import Backup, collect, left_out, pack, unpack
from mpchan.wallet.config import Config
from mpchan.wallet.journal import continues
from mpchan.wallet.keys_file import parse_keys
from mpchan.wallet.layout import foreign
from mpchan.wallet.payer_record import PayerRecord
from mpchan.wallet.seed_file import Unlocker, no_passphrase
from mpchan.wallet.storage import (
    close_to_others,
    locked,
    make_directory,
    sync_name,
    write_durably,
)
from mpchan.wallet.wallet import Wallet


def backup(wallet: Wallet, target: Path, passphrase: str | None = None) -> BackedUp:
    """``backup``: write everything that the wallet has to one file (mode 0600), whole or not at all.

    Before an older backup is replaced, the code that restores has read what is going to be written.

    Args:
        passphrase: that of the keys, where they are encrypted: so is the backup.

    Raises:
        UsageError: ``output-is-wallet``, ``output-unwritable``.
        StorageError: ``passphrase-changed``, ``backup-too-large``, ``backup-unproven``, ``write-failed``; as
            ``collect``.
    """
    require_place(target, wallet.directory)
    made, damaged = collect(wallet)
    if wallet.keys.are_encrypted is (passphrase is None):
        raise StorageError(
            "passphrase-changed", "the passphrase was set or removed meanwhile", hint="run the command again"
        )
    data = pack(made, passphrase)
    _prove(data, made, passphrase)
    # through a symbolic link: the backup belongs where that leads
    write_durably(Path(os.path.realpath(target)), data)
    warnings = [f"it holds a damaged channel as it is: {error.message}" for error in damaged]
    warnings += [f"{name} is none of the wallet's files, and not in it" for name in foreign(wallet.directory)]
    return BackedUp(
        file=str(target),
        encrypted=passphrase is not None,
        time=made.time,
        channels=_count(made, "channels/", ".json"),
        offers=_count(made, "offers/", ".toml"),
        bytes=len(data),
        left_out=tuple(left_out(wallet, made)),
        warnings=(*warnings, *_left_out(wallet)),
    )


def require_place(target: Path, directory: Path) -> None:
    """A backup is a regular file, and lost with the wallet where it lies inside of it."""
    place, home = Path(os.path.realpath(target)), Path(os.path.realpath(directory))
    if str(target) == "-" or (place.exists() and not place.is_file()):
        raise UsageError("output-unwritable", f"{target} is no file that keeps a backup")
    if place.is_relative_to(home):
        raise UsageError("output-is-wallet", f"{target} lies in the wallet itself, and would be lost with it")


def _prove(data: bytes, made: Backup, passphrase: str | None) -> None:
    """What is written can be restored, and is what the wallet holds."""

    def unlock(attempt: Callable[[str], None]) -> None:
        if passphrase is not None:
            attempt(passphrase)

    try:
        found = _readable(data, unlock)
        reason = None if found == made else "it holds something else"
    except MpchanError as error:
        reason = error.message
    if reason is not None:
        raise StorageError(
            "backup-unproven",
            f"what would be written could not be restored: {reason}",
            hint="nothing was written: look with `mpchan fsck`, and copy the whole directory meanwhile",
        )


def _left_out(wallet: Wallet) -> Iterator[str]:
    """What of the history is not in a backup: the closed files of long journals, on which nothing else depends."""
    for name in wallet.channels.names():
        try:
            start = continues(wallet.channels.journal_path(name))
        except StorageError:
            continue
        if start is not None:
            yield f"the history of channel {name[:16]} before line {start.sequence + 1} is not in it"


def _count(made: Backup, folder: str, suffix: str) -> int:
    return sum(name.startswith(folder) and name.endswith(suffix) for name in made.files)


def restore(data: bytes, directory: Path, unlocker: Unlocker = no_passphrase) -> Restored:
    """``restore``: a wallet in a new or empty directory, all of it or nothing. The chain is not searched yet.

    Raises:
        ParseError: ``malformed-backup``, ``backup-version``, ``malformed-config``.
        StorageError: ``wallet-exists``, ``directory-not-empty``, ``keys-damaged``, ``write-failed``.
    """
    home = Path(os.path.realpath(directory))
    _require_free(home, directory)
    made = _readable(data, unlocker)
    make_directory(home.parent)
    staged = home.with_name(f".{home.name}.restoring")
    make_directory(staged)
    close_to_others(staged)
    with locked(staged / "wallet.lock"):
        try:
            _require_free(home, directory)
            _write_files(staged, made)
            result = _marked(Wallet.open(staged), directory, made)
            _move(staged, home)
        except MpchanError:
            _remove(staged)
            raise
    return result


def _readable(data: bytes, unlocker: Unlocker) -> Backup:
    """What a wallet can be made of; errors as ``restore``."""
    made = unpack(data, unlocker)
    _check_config(made)
    _check_keys(made)
    return made


def _check_keys(made: Backup) -> None:
    try:
        parse_keys(made.files["keys.toml"].decode(), network_from_name(made.network))
    except (ParseError, UnicodeDecodeError) as error:
        reason = error.message if isinstance(error, ParseError) else "not UTF-8 text"
        raise StorageError("keys-damaged", f"keys.toml of the backup: {reason}") from None


def _check_config(made: Backup) -> None:
    try:
        config = Config.from_toml(made.files["wallet.toml"].decode(), source="wallet.toml of the backup")
    except UnicodeDecodeError:
        raise ParseError("malformed-config", "wallet.toml of the backup is not UTF-8 text") from None
    if config.network.name != made.network:
        raise ParseError(
            "malformed-backup", f"wallet.toml is of {config.network.name}, not of {made.network}"
        )


def _require_free(home: Path, shown: Path) -> None:
    """The wallet's place is new, or an empty directory."""
    try:
        names = os.listdir(home)
    except FileNotFoundError:
        return
    except OSError as error:
        raise storage_error("write-failed", shown, error) from error
    if "wallet.toml" in names:
        raise StorageError(
            "wallet-exists",
            f"{shown} holds a wallet already",
            hint="restore into another directory, with --wallet; and use one of the two only",
        )
    if names:
        raise StorageError(
            "directory-not-empty", f"{shown} is not empty", hint="name a new directory with --wallet"
        )


def _write_files(staged: Path, made: Backup) -> None:
    """Every file of the backup, and nothing that an earlier attempt has left."""
    _remove_files(staged, apart_from="wallet.lock")
    for folder in ("offers", "channels", *{name.split("/")[0] for name in made.files if "/" in name}):
        make_directory(staged / folder)
    for name, data in sorted(made.files.items()):
        write_durably(staged / name, _void(data) if _COUNTED_OFFER.fullmatch(name) else data, mode=0o600)


_COUNTED_OFFER = re.compile(r"offers/[0-9a-f]{16}\.json")


def _void(data: bytes) -> bytes:
    """The state of an offer of version 1 that serves nobody any more; a damaged one does that already."""
    try:
        state = json.loads(data)
    except (ValueError, RecursionError):
        return data
    return f"{json.dumps({**state, 'void': True})}\n".encode() if isinstance(state, dict) else data


def _marked(wallet: Wallet, directory: Path, made: Backup) -> Restored:
    """Keep the restored wallet from doing again what the lost one may have done since; the answer of ``restore``."""
    keys = wallet.fresh_keys()
    keys.move_past_lost_channels()
    to_sync: list[str] = []
    served: set[str] = set()
    warnings: list[str] = []
    for plan in wallet.plans:
        wallet.plans.save(replace(plan, restored=True))
    for awaited in wallet.awaited:
        wallet.awaited.save(replace(awaited, restored=True))
    names = wallet.channels.names()
    for name in names:
        try:
            record = wallet.channels.load(name)
        except (StorageError, ParseError) as error:
            warnings.append(f"channel {name[:16]} was damaged when the backup was made: {error.message}")
            continue
        served.add(record.terms.offer.offer_id)
        if isinstance(record, PayerRecord) and _may_have_paid(record.state):
            record = replace(record, restored=True)
            to_sync.append(record.terms.channel_id)
        wallet.channels.save(record, "restored")
    void = set(wallet.offers.ids()) - served
    return Restored(
        wallet=str(directory),
        network=made.network,
        time=made.time,
        channels=len(names),
        void_offers=len(void),
        to_sync=tuple(to_sync),
        scan=None,
        warnings=tuple(warnings),
    )


def _may_have_paid(state: payer.PayerState) -> bool:
    """Whether the lost wallet may have signed a payment that this state does not know of."""
    if isinstance(state, payer.Abandoned):
        return state.funded is not None
    return isinstance(state, (payer.Opening, payer.Secured, payer.Funded))


def _move(staged: Path, home: Path) -> None:
    """The one step by which the wallet is there."""
    with AsStorageError("write-failed", home):
        durability.replace(staged, home)
    sync_name(home)


def _remove(staged: Path) -> None:
    """Take back what was staged, as far as that is possible: something else has failed already."""
    try:
        _remove_files(staged)
        for folder in sorted((path for path in staged.rglob("*") if path.is_dir()), reverse=True):
            durability.remove_directory(folder)
        durability.remove_directory(staged)
    except (OSError, StorageError):
        return


def _remove_files(staged: Path, apart_from: str | None = None) -> None:
    with AsStorageError("write-failed", staged):
        for path in sorted(staged.rglob("*")):
            if not path.is_dir() and path.name != apart_from:
                durability.unlink(path)
