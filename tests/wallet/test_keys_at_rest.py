"""``keys.toml`` encrypted: what opens it, what damage is noticed, what works without the passphrase."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli
import tomli_w
from support.party import new_wallet

from mpchan.bitcoin.hd import ExtendedKey
from mpchan.bitcoin.network import MAINNET, REGTEST, SIGNET
from mpchan.chain.manual import ManualChain
from mpchan.errors import StorageError
from mpchan.party import payee, views
from mpchan.wallet import sealing
from mpchan.wallet import seed_file as keys_module
from mpchan.wallet.config import ChainConfig
from mpchan.wallet.keys import Keys
from mpchan.wallet.sealing import Cost
from mpchan.wallet.wallet import Wallet

SECRET = "correct horse battery staple"
CHEAP = Cost(2, 1, 1)


@pytest.fixture
def plain(tmp_path: Path) -> dict[str, Any]:
    """A wallet's ``keys.toml`` as it was before it was encrypted; three addresses are handed out."""
    wallet = new_wallet(tmp_path / "wallet")
    wallet.fresh_keys().allocate("receive", "receive", "change")
    return tomli.loads((tmp_path / "wallet" / "keys.toml").read_text())


@pytest.fixture
def path(tmp_path: Path, plain: dict[str, Any]) -> Path:
    """The same wallet's file, encrypted."""
    path = tmp_path / "wallet" / "keys.toml"
    Keys.load(path, REGTEST).encrypt(SECRET, CHEAP)
    return path


def giving(*passphrases: str) -> Callable[[Callable[[str], None]], None]:
    """An unlocker that gives these, one at each call, and then fails."""
    left = list(passphrases)

    def unlocker(attempt: Callable[[str], None]) -> None:
        assert left, "nobody should be asked once more"
        attempt(left.pop(0))

    return unlocker


def slug_of(call: Callable[[], object]) -> str:
    with pytest.raises(StorageError) as caught:
        call()
    assert caught.value.exit_code == 7
    assert SECRET not in caught.value.message
    return caught.value.slug


def checksummed(table: dict[str, Any]) -> str:
    """The file as somebody writes it who knows the format."""
    rest = {key: value for key, value in table.items() if key != "checksum"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return tomli_w.dumps({**rest, "checksum": hashlib.sha256(canonical.encode()).hexdigest()[:16]})


# the format ---------------------------------------------------------------------------------------


def openssl(*words: str, data: bytes) -> bytes:
    return subprocess.run(["openssl", *words], input=data, capture_output=True, check=True).stdout


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_and_hashlib_open_the_file(path: Path, plain: dict[str, Any]) -> None:
    """By the documentation of the two modules and RFC 8439 alone, at the usual cost."""
    Keys.load(path, REGTEST, giving(SECRET)).encrypt("grün 1", None)
    table = tomli.loads(path.read_text())
    box = table["encrypted"]
    salt, nonce, ciphertext = (bytes.fromhex(box[name]) for name in ("salt", "nonce", "ciphertext"))
    passphrase = "gru\u0308n 1".encode()
    cost = {name: box[name] for name in "nrp"}
    key = hashlib.scrypt(passphrase, salt=salt, dklen=32, maxmem=256 << 20, **cost)
    stream = ["enc", "-chacha20", "-K", key.hex(), "-iv"]
    text = openssl(*stream, "01000000" + nonce.hex(), data=ciphertext[:-16])
    assert text == bytes.fromhex(plain["seed"] + plain["entropy"])

    one_time = openssl(*stream, "00000000" + nonce.hex(), data=bytes(32))
    associated = f"mpchan keys 2\nregtest\n{table['account']}".encode()
    parts = (associated, ciphertext[:-16])
    padded = b"".join(part + bytes(-len(part) % 16) for part in parts)
    lengths = b"".join(len(part).to_bytes(8, "little") for part in parts)
    tag = openssl("mac", "-binary", "-macopt", f"hexkey:{one_time.hex()}", "Poly1305", data=padded + lengths)
    assert tag == ciphertext[-16:]


def test_the_account_is_that_of_bip84(path: Path, plain: dict[str, Any]) -> None:
    master = ExtendedKey.from_seed(bytes.fromhex(plain["seed"]))
    table = tomli.loads(path.read_text())
    assert table["account"] == master.derive("m/84'/1'/0'").neuter().to_base58(REGTEST)
    assert list(table) == [
        *("version", "account", "next_channel", "next_receive", "next_change", "checksum", "encrypted")
    ]
    assert table["version"] == 2


def test_encrypted_and_back(path: Path, plain: dict[str, Any]) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    assert plain["seed"] not in path.read_text()
    keys = Keys.load(path, REGTEST, giving(SECRET))
    keys.store_plain()
    assert tomli.loads(path.read_text()) == plain
    assert not keys.are_encrypted


# damage -------------------------------------------------------------------------------------------


def test_every_changed_byte_is_noticed(path: Path, plain: dict[str, Any]) -> None:
    """A damaged file is named as such, and never opens to anything else than what was in it."""
    whole = path.read_bytes()
    noticed = 0
    for index in range(len(whole)):
        for flip in (0x01, 0x20, 0x80):
            path.write_bytes(whole[:index] + bytes([whole[index] ^ flip]) + whole[index + 1 :])
            noticed += is_noticed(path, plain)
    assert noticed > 3 * (len(whole) - 100), "but for the comment on top, everything counts"


def test_a_torn_file_is_noticed(path: Path, plain: dict[str, Any]) -> None:
    whole = path.read_bytes()
    for length in range(len(whole) - 1):
        path.write_bytes(whole[:length])
        assert is_noticed(path, plain), length


def is_noticed(path: Path, plain: dict[str, Any]) -> bool:
    try:
        keys = Keys.load(path, REGTEST)
    except StorageError as error:
        found = error
    else:
        keys.unlock(SECRET)
        keys.store_plain()
        assert tomli.loads(path.read_text()) == plain
        return False
    assert found.slug == "keys-damaged"
    assert found.hint
    return True


@pytest.mark.parametrize(
    "box",
    [
        {"n": 1 << 40},
        {"n": 3},
        {"r": 1 << 20},
        {"p": 1 << 26},
        {"n": 2.0},
        {"kdf": "none"},
        {"aead": "none"},
        {"salt": "00"},
        {"ciphertext": ""},
        {"more": 1},
    ],
)
def test_a_hostile_file_takes_no_memory(path: Path, box: dict[str, Any]) -> None:
    """Its checksum fits; it is refused when it is read, before scrypt could be asked for 128 TiB."""
    table = tomli.loads(path.read_text())
    table["encrypted"].update(box)
    path.write_text(checksummed(table))
    assert slug_of(lambda: Keys.load(path, REGTEST)) == "keys-damaged"


@pytest.mark.parametrize("changes", [{"account": 5}, {"encrypted": 5}, {"account": ""}, {"next_change": -1}])
def test_values_that_are_none(path: Path, changes: dict[str, Any]) -> None:
    path.write_text(checksummed({**tomli.loads(path.read_text()), **changes}))
    assert slug_of(lambda: Keys.load(path, REGTEST)) == "keys-damaged"


def test_a_private_key_is_no_account(path: Path, plain: dict[str, Any]) -> None:
    master = ExtendedKey.from_seed(bytes.fromhex(plain["seed"]))
    path.write_text(checksummed({**tomli.loads(path.read_text()), "account": master.to_base58(REGTEST)}))
    assert slug_of(lambda: Keys.load(path, REGTEST)) == "keys-damaged"


def test_the_secrets_belong_to_their_account_and_network(path: Path, tmp_path: Path) -> None:
    """Who puts another's account beside them, or has them stand for another network, makes them useless."""
    table = tomli.loads(path.read_text())
    other = new_wallet(tmp_path / "other")
    other.keys.encrypt(SECRET, CHEAP)
    foreign = tomli.loads((tmp_path / "other" / "keys.toml").read_text())
    path.write_text(checksummed({**table, "account": foreign["account"]}))
    assert slug_of(lambda: Keys.load(path, REGTEST).unlock(SECRET)) == "passphrase-wrong"
    path.write_text(checksummed(table))
    Keys.load(path, REGTEST).unlock(SECRET)
    assert slug_of(lambda: Keys.load(path, SIGNET).unlock(SECRET)) == "passphrase-wrong"
    assert slug_of(lambda: Keys.load(path, MAINNET)) == "keys-damaged"


# without the passphrase ---------------------------------------------------------------------------


def test_looking_needs_no_passphrase(path: Path, plain: dict[str, Any]) -> None:
    locked = Keys.load(path, REGTEST)
    path.with_name("plain.toml").write_text(tomli_w.dumps(plain))
    path.with_name("plain.toml").chmod(0o600)
    open_ = Keys.load(path.with_name("plain.toml"), REGTEST)
    assert len(locked.scripts()) == 3
    assert locked.scripts() == open_.scripts()
    sealed = tomli.loads(path.read_text())["encrypted"]
    locked.allocate("receive", "change")
    locked.advance(receive=7)
    after = tomli.loads(path.read_text())
    assert (after["next_receive"], after["next_change"], after["encrypted"]) == (7, 2, sealed)
    assert views.fresh_address(Wallet.open(path.parent)).address.startswith("bcrt1q")


@pytest.mark.parametrize(
    "use",
    [
        lambda keys: keys.channel_key(0),
        lambda keys: keys.seed_words(),
        lambda keys: keys.come_from("abandon " * 11 + "about"),
        lambda keys: keys.encrypt("another"),
        lambda keys: keys.store_plain(),
        lambda keys: keys.need_secret(),
    ],
)
def test_what_needs_it(path: Path, use: Callable[[Keys], object]) -> None:
    before = path.read_bytes()
    assert slug_of(lambda: use(Keys.load(path, REGTEST))) == "passphrase-needed"
    assert slug_of(lambda: use(Keys.load(path, REGTEST, giving("wrong")))) == "passphrase-wrong"
    assert slug_of(lambda: use(Keys.load(path, REGTEST, lambda attempt: None))) == "passphrase-needed"
    assert path.read_bytes() == before


# one process, several, and failures ---------------------------------------------------------------


def test_it_is_asked_for_once_and_derived_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often the keys are read again."""
    derived: list[Cost] = []
    real = sealing.scrypt

    def counted(secret: bytes, salt: bytes, cost: Cost, length: int = 32) -> bytes:
        derived.append(cost)
        return real(secret, salt, cost, length)

    monkeypatch.setattr(sealing, "scrypt", counted)
    wallet = Wallet.open(path.parent, giving(SECRET))
    offers = [payee.offer(wallet, ManualChain(), {"fee_rate_sat_per_kvb": 2000}) for _ in range(3)]
    assert len({offer.payee_pubkey for offer in offers}) == 3
    assert derived == [CHEAP]


def test_a_passphrase_that_was_changed_meanwhile(path: Path) -> None:
    first = Wallet.open(path.parent, giving(SECRET))
    first.keys.need_secret()
    other = Wallet.open(path.parent, giving(SECRET))
    other.fresh_keys().encrypt("another", CHEAP)
    before = path.read_bytes()
    offer: Callable[[Wallet], object] = lambda wallet: payee.offer(  # noqa: E731
        wallet, ManualChain(), {"fee_rate_sat_per_kvb": 2000}
    )
    assert slug_of(lambda: offer(first)) == "passphrase-changed"
    assert path.read_bytes() == before
    assert os.listdir(path.parent / "offers") == []
    # the next command asks for the new one; and where there is none any more, nothing is asked
    again = Wallet.open(path.parent, giving("another"))
    offer(again)
    other.fresh_keys().store_plain()
    offer(again)
    # and who began without one is told that there is one now
    beginner = Wallet.open(path.parent)
    beginner.keys.need_secret()
    other.fresh_keys().encrypt(SECRET, CHEAP)
    assert slug_of(lambda: offer(beginner)) == "passphrase-changed"


def test_a_failed_write_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise StorageError("write-failed", "no space left on device")

    before = path.read_bytes()
    keys = Keys.load(path, REGTEST, giving(SECRET))
    with monkeypatch.context() as patch:
        patch.setattr(keys_module, "write_durably", full)
        assert slug_of(lambda: keys.encrypt("another", CHEAP)) == "write-failed"
        assert slug_of(keys.store_plain) == "write-failed"
    assert path.read_bytes() == before
    keys.allocate("channel")
    assert tomli.loads(path.read_text())["version"] == 2
    Keys.load(path, REGTEST).unlock(SECRET)


def test_what_a_killed_process_left_goes_too(path: Path, plain: dict[str, Any]) -> None:
    """A plain copy beside the encrypted file would be the very leak."""
    left = path.with_name(".keys.toml.123.tmp")
    left.write_text(plain["seed"])
    other = path.with_name(".wallet.toml.123.tmp")
    other.write_text("not ours")
    Keys.load(path, REGTEST, giving(SECRET)).encrypt("another", CHEAP)
    assert not left.exists()
    assert other.exists()


def test_an_init_that_was_cut_short(path: Path, plain: dict[str, Any]) -> None:
    """The keys that it left keep their passphrase, or get one."""
    directory = path.parent

    def again(**options: Any) -> Wallet:
        (directory / "wallet.toml").unlink()
        return Wallet.create(directory, REGTEST, ChainConfig(), **options)

    assert again().keys.are_encrypted
    assert slug_of(lambda: again(passphrase="wrong")) == "passphrase-wrong"
    (directory / "wallet.toml").touch()
    assert again(passphrase=SECRET).keys.seed_words()
    Keys.load(path, REGTEST, giving(SECRET)).store_plain()
    assert again(passphrase="another").keys.are_encrypted
    keys = Keys.load(path, REGTEST)
    keys.unlock("another")
    keys.store_plain()
    assert tomli.loads(path.read_text()) == plain


def test_nothing_plain_is_ever_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``init --encrypt`` writes the keys once, and encrypted."""
    written: list[bytes] = []
    real = keys_module.write_durably  # type: ignore[attr-defined]

    def noted(path: Path, data: bytes, *, mode: int = 0o600) -> None:
        written.append(data)
        real(path, data, mode=mode)

    monkeypatch.setattr(keys_module, "write_durably", noted)
    monkeypatch.setattr(sealing, "USUAL_COST", CHEAP)
    wallet = Wallet.create(tmp_path / "wallet", REGTEST, ChainConfig(), passphrase=SECRET)
    restored = Wallet.create(
        tmp_path / "again", REGTEST, ChainConfig(), wallet.keys.seed_words(), passphrase=SECRET
    )
    assert [tomli.loads(data.decode())["version"] for data in written] == [2, 2]
    assert restored.keys.script("receive", 0) == wallet.keys.script("receive", 0)


def test_no_secret_shows_in_a_repr(path: Path, plain: dict[str, Any]) -> None:
    """Nor in that of what the objects are made of."""
    keys = Keys.load(path, REGTEST, giving(SECRET))
    keys.channel_key(0)
    shown = repr(keys) + str(keys) + repr(vars(keys))
    for name in ("seed", "entropy"):
        assert plain[name] not in shown
        assert repr(bytes.fromhex(plain[name]))[2:-1] not in shown
    assert SECRET not in shown
