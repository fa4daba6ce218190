"""``keys.toml``: who may read it, what damage is noticed, and that no index is handed out twice."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import tomli
import tomli_w
from support.party import new_wallet

from mpchan.bitcoin.hd import ExtendedKey
from mpchan.bitcoin.network import MAINNET, REGTEST
from mpchan.bitcoin.script import key_to_p2wpkh_script
from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.chain.manual import ManualChain
from mpchan.errors import MpchanError, ParseError, StorageError
from mpchan.party import payee, views
from mpchan.units import Amount, OutPoint, Txid
from mpchan.wallet import seed_file as keys_module
from mpchan.wallet.keys import Keys
from mpchan.wallet.wallet import Wallet


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return new_wallet(tmp_path / "wallet").directory / "keys.toml"


def slug_of(path: Path) -> str:
    with pytest.raises(StorageError) as caught:
        Keys.load(path, REGTEST)
    assert caught.value.exit_code == 7
    return caught.value.slug


def test_only_the_owner_may_read_it(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    Keys.load(path, REGTEST).allocate("channel")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610, 0o601, 0o620])
def test_58_a_file_that_others_may_use_is_refused(path: Path, mode: int) -> None:
    path.chmod(mode)
    with pytest.raises(StorageError) as caught:
        Keys.load(path, REGTEST)
    assert caught.value.slug == "keys-permissions"
    assert str(caught.value.hint).startswith(f"chmod 600 {path}; ")
    path.chmod(0o600)
    Keys.load(path, REGTEST)


def test_a_missing_file(path: Path) -> None:
    path.unlink()
    assert slug_of(path) == "file-missing"


def spoiled(path: Path, **changes: object) -> None:
    table = {**tomli.loads(path.read_text()), **changes}
    path.write_text(tomli_w.dumps({key: value for key, value in table.items() if value is not None}))


@pytest.mark.parametrize(
    "changes",
    [
        {"entropy": "00" * 16},
        {"seed": "00" * 64},
        {"seed": "00" * 63},
        {"checksum": "0" * 16},
        {"version": 2},
        {"version": None},
        {"entropy": "zz"},
        {"entropy": 5},
        {"next_channel": -1},
        {"next_channel": 1.0},
        {"next_channel": True},
        {"next_channel": "1"},
        {"next_receive": 2**31},
        {"next_change": None},
        {"surprise": 1},
    ],
)
def test_damage_is_noticed(path: Path, changes: dict[str, object]) -> None:
    spoiled(path, **changes)
    before = path.read_bytes()
    assert slug_of(path) == "keys-damaged"
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"\x00", b"\xff\xfe", b"[", b"entropy = "])
def test_another_content_is_damage(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert slug_of(path) == "keys-damaged"


def test_init_never_overwrites_keys(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(StorageError) as caught:
        Keys.create(path, REGTEST)
    assert caught.value.slug == "wallet-exists"
    with pytest.raises(StorageError) as caught:
        new_wallet(path.parent)
    assert caught.value.slug == "wallet-exists"
    # an init that was cut short after the keys: they stay
    (path.parent / "wallet.toml").unlink()
    new_wallet(path.parent)
    assert path.read_bytes() == before


def test_no_secret_shows_in_a_repr(path: Path) -> None:
    keys = Keys.load(path, REGTEST)
    table = tomli.loads(path.read_text())
    shown = repr(keys) + str(keys) + repr(keys.channel_key(0)) + repr(vars(keys).keys())
    assert table["seed"] not in shown
    assert table["entropy"] not in shown


def test_paths_are_those_of_the_design(path: Path) -> None:
    keys = Keys.load(path, REGTEST)
    seed = bytes.fromhex(tomli.loads(path.read_text())["seed"])
    master = ExtendedKey.from_seed(seed)
    hard = 1 << 31
    channel = master.derive([7420 + hard, 1 + hard, hard, 5 + hard])
    assert keys.channel_key(5).public_key == channel.private_key.public_key
    for kind, chain in (("receive", 0), ("change", 1)):
        coin = master.derive([84 + hard, 1 + hard, hard, chain, 3]).private_key.public_key
        assert keys.script(kind, 3) == key_to_p2wpkh_script(coin.sec)
    mainnet = master.derive([7420 + hard, hard, hard, 5 + hard])
    assert Keys.load(path, MAINNET).channel_key(5).public_key == mainnet.private_key.public_key


def test_an_index_is_on_disk_before_its_key_is_used(path: Path) -> None:
    keys = Keys.load(path, REGTEST)
    assert keys.next_index("channel") == 0
    keys.allocate("channel", "receive")
    again = Keys.load(path, REGTEST)
    assert (again.next_index("channel"), again.next_index("receive"), again.next_index("change")) == (1, 1, 0)


def test_indexes_are_never_reused(tmp_path: Path) -> None:
    """Two objects on one wallet, as two commands have them, also where one was opened long before."""
    first = new_wallet(tmp_path / "wallet")
    assert first.keys.next_index("channel") == 0  # read, and from now on stale
    second = Wallet.open(first.directory)
    addresses = [views.fresh_address(wallet).address for wallet in (first, second, first, second)]
    offers = [payee.offer(wallet, ManualChain(), {}) for wallet in (second, first, second)]
    addresses += [offer.payee_address for offer in offers]
    assert len(set(addresses)) == len(addresses)
    assert len({offer.payee_pubkey for offer in offers}) == len(offers)


def test_a_failed_allocation_hands_out_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wallet = new_wallet(tmp_path / "wallet")

    def full(*_: object, **__: object) -> None:
        raise StorageError("write-failed", "no space left on device")

    monkeypatch.setattr(keys_module, "write_durably", full)
    for call in (lambda: views.fresh_address(wallet), lambda: payee.offer(wallet, ManualChain(), {})):
        with pytest.raises(StorageError):
            call()
    assert os.listdir(wallet.directory / "offers") == []
    monkeypatch.undo()
    assert Keys.load(wallet.directory / "keys.toml", REGTEST).next_index("receive") == 0
    first = views.fresh_address(wallet).address
    assert views.fresh_address(Wallet.open(wallet.directory)).address != first


def test_an_offer_that_makes_no_sense_uses_no_key(tmp_path: Path) -> None:
    wallet = new_wallet(tmp_path / "wallet")
    before = (wallet.directory / "keys.toml").read_bytes()
    for changes in ({"settle_window": 10_000}, {"min_capacity_sat": 2, "max_capacity_sat": 1}, {"step": 0}):
        with pytest.raises(MpchanError) as caught:
            payee.offer(wallet, ManualChain(), changes)
        assert caught.value.exit_code == 2
    with pytest.raises(ParseError):
        payee.offer(wallet, ManualChain(), {}, address="bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4")
    assert (wallet.directory / "keys.toml").read_bytes() == before
    assert os.listdir(wallet.directory / "offers") == []


def test_a_foreign_coin_is_not_signed_for(path: Path) -> None:
    keys = Keys.load(path, REGTEST)
    funding = Transaction(2, (TxIn(OutPoint(Txid(bytes(32)), 0), 0),), (TxOut(Amount(1), b"\x51"),), 0)
    with pytest.raises(StorageError) as caught:
        keys.sign_coins(funding, [TxOut(Amount(2), keys.script("receive", 0))])
    assert caught.value.slug == "foreign-coin"
    keys.allocate("receive")
    assert keys.sign_coins(funding, [TxOut(Amount(2), keys.script("receive", 0))]).has_witness
