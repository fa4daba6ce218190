"""Targets: the wallet's own files and the offer. A file that is damaged is named and left; nothing else may happen.

Where a checksum guards a file, most inputs have one that fits: what it guards must hold without it.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

from support.fuzz.driver import Mutator, Target
from support.fuzz.mutations import bent_bytes, bent_json, bent_toml, bent_value
from support.fuzz.world import world

from mpchan.bitcoin.network import REGTEST
from mpchan.bitcoin.tx import Transaction
from mpchan.chain.bitcoind.notes import Block, ConfirmedSpend, Note, Notes
from mpchan.chain.electrum.address import read_config
from mpchan.chain.electrum.headers import HeaderChain
from mpchan.chain.electrum.rules import RULES
from mpchan.channel.offer import Offer
from mpchan.errors import MpchanError, ParseError, StorageError
from mpchan.units import OutPoint, Txid
from mpchan.wallet.channel_files import ChannelFiles
from mpchan.wallet.config import Config, config_text, offer_defaults
from mpchan.wallet.keys import Keys
from mpchan.wallet.plans import Plans
from mpchan.wallet.records import body_of, load, record_of
from mpchan.wallet.sealing import Cost, check_sealed, open_sealed, seal
from mpchan.wallet.sent import SentTransactions
from mpchan.wallet.wallet import Wallet

LIMIT = 400_000


@lru_cache
def folder(name: str) -> Path:
    """An empty one, for the file of a target."""
    made = world().folder / "files" / name
    made.mkdir(parents=True, mode=0o700)
    return made


def text_of(data: bytes) -> str:
    """A text file's content; what is not UTF-8 never reaches a parser."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ParseError("not-utf8", "not UTF-8 text") from None


def laid(path: Path, data: bytes) -> Path:
    """The input as a file that nobody else may read."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.write_bytes(data)
    path.chmod(0o600)
    return path


def story(wallet: str, part: str, suffix: str) -> list[bytes]:
    """Real files."""
    files = world().files(wallet).items()
    return [content for path, content in sorted(files) if f"/{part}/" in path and path.endswith(suffix)]


# TOML ---------------------------------------------------------------------------------------------


def _plainly(text: str) -> dict[str, Any]:
    """Python's own reader, where there is one."""
    name = "tomllib" if sys.version_info >= (3, 11) else "tomli"
    read: dict[str, Any] = importlib.import_module(name).loads(text)
    return read


def offer(data: bytes) -> None:
    """What is taken says the same to another reader, and again when it is written."""
    text = text_of(data)
    found = Offer.from_toml(text)
    assert Offer.from_toml(found.to_toml()) == found
    assert Offer.from_dict(json.loads(json.dumps(found.to_dict()))) == found, (
        "a channel file holds it as JSON"
    )
    table, read = _plainly(text), found.to_dict()
    assert {**table, "network": None, "sale": None} == {**read, "network": None, "sale": None}


_TOR = b"""network = "signet"
chain = { backend = "electrum", electrum = "example.org:50002:s" }
"""


def config(data: bytes) -> None:
    """Whatever the file says, its servers and terms are usable or refused."""
    found = Config.from_toml(text_of(data))
    chain = found.chain
    if "" not in (chain.rpc_url, chain.rpc_cookie, chain.proxy, chain.directory, *chain.electrum):
        again = Config.from_toml(config_text(found.network, found.chain))
        assert (again.chain, again.network) == (found.chain, found.network)
    for unit in ("blocks", "seconds", None):
        offer_defaults(found, unit)
    read_config(found.chain)


_CONFIG = b"""version = 1
network = "regtest"
[chain]
backend = "electrum"
electrum = ["example.org:50002:s", "[::1]:50001", "abc.onion:1:t"]
proxy = "socks5://127.0.0.1:9050"
rpc_url = "http://127.0.0.1:18443"
[limits]
min_fee_rate = 1000
max_refund_delay_blocks = 4320
[offer]
lock_time_unit = "seconds"
settle_window = 7
memo = "a"
[watch]
claim_after = "2d"
near_blocks = 6
"""


def keys(data: bytes) -> None:
    """The keys of a file, or that it is damaged; no secret of it in the words."""
    path = laid(folder("keys") / "keys.toml", data)
    try:
        found = Keys.load(path, REGTEST)
    except StorageError as error:
        for line in data.splitlines():
            secret = line.partition(b"=")[2].strip(b' "')
            if len(secret) >= 32 and secret.decode(errors="replace") in error.message:
                raise AssertionError("it may be a secret") from error
        raise
    script = found.script("receive", 0)
    found.advance(receive=1)
    again = Keys.load(path, REGTEST)
    assert again.script("receive", 0) == script
    assert again.next_index("receive") == max(1, found.next_index("receive"))


def _keys_sealed(data: bytes) -> bytes:
    """With the checksum of what it holds, where it holds anything."""
    import tomli
    import tomli_w

    try:
        table = tomli.loads(data.decode())
        if table.get("version") == 2:
            rest = {key: value for key, value in table.items() if key != "checksum"}
            covered = _canonical(rest)
        else:
            covered = b"mpchan keys" + bytes.fromhex(table["entropy"]) + bytes.fromhex(table["seed"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return data
    return tomli_w.dumps({**table, "checksum": hashlib.sha256(covered).hexdigest()[:16]}).encode()


def _keys_seeds() -> list[bytes]:
    """Plain, and encrypted at a price that a test can pay."""
    path = folder("keys") / "encrypted.toml"
    Keys.create(path, REGTEST).encrypt("a passphrase", Cost(2, 1, 1))
    return [*story("payee", "payee", "keys.toml"), path.read_bytes()]


def sealed(data: bytes) -> None:
    """A sealed table: looked at always, opened where it does not ask for much work."""
    table = json.loads(text_of(data))
    if not isinstance(table, dict):
        raise ParseError("malformed-seal", "no table")
    check_sealed(table)
    if table["n"] * table["r"] * table["p"] <= 4096:
        assert open_sealed(table, "a passphrase") == b"secret"


def _sealed(data: bytes) -> None:
    try:
        sealed(data)
    except (ValueError, RecursionError):  # JSON's own; the table stands in a TOML file
        raise ParseError("malformed-seal", "no JSON") from None


def _sealed_seeds() -> list[bytes]:
    return [json.dumps(seal(b"secret", "a passphrase", cost=Cost(2, 1, 1))).encode()]


# channels -----------------------------------------------------------------------------------------


def channel_file(data: bytes) -> None:
    """A state file: what makes a record makes the same one again."""
    body, _ = load(text_of(data))
    record = record_of(body)
    found = body_of(record)
    assert body_of(record_of(found)) == found
    assert record.key_index is None or type(record.key_index) is int
    assert type(record.updates) is int
    assert record.terms.name == _channel_name(_canonical(body))


def journal(data: bytes) -> None:
    """A whole channel from its journal alone; a file without a whole line is no channel yet."""
    name = _channel_name(data)
    files = ChannelFiles(folder("journal"), REGTEST)
    laid(files.journal_path(name), data)
    try:
        if not files.has(name):
            raise StorageError("file-missing", "no channel")
        body_of(files.load(name))
    finally:
        os.unlink(files.journal_path(name))


def _channel_name(data: bytes) -> str:
    at = data.find(b'"outpoint":"')
    txid, _, vout = data[at + 12 : at + 90].partition(b'"')[0].partition(b":")
    plain = len(txid) == 64 and txid.isalnum() and vout.isdigit()
    return f"{txid.decode()}-{int(vout)}" if plain else f"{'0' * 64}-0"


def bent_journal(random: Random, data: bytes) -> bytes:
    """Lines left out, doubled, moved or bent, each chained to the one before where it can be."""
    if random.randrange(5) == 0:
        return bent_bytes(random, data)
    lines = data.splitlines(keepends=True)
    texts = [line[86:-2] for line in lines]
    at = random.randrange(len(texts) + 1)
    if at < len(texts) and random.randrange(3):
        texts[at] = bent_json(random, texts[at])
    elif at < len(texts):
        texts[at : at + 1] = random.choice(([], [texts[at]] * 2))
    digest = hashlib.sha256(_channel_name(data).encode()).hexdigest()
    made = []
    for text in texts:
        digest = hashlib.sha256(digest.encode() + text).hexdigest()
        made.append(b'{"sha256":"' + digest.encode() + b'","line":' + text + b"}\n")
    return b"".join(made)


def plan(data: bytes) -> None:
    """A plan under the name that it should have: its output is a channel's."""
    names = [Path(path).name for path in world().files("planner") if "/plans/" in path]
    found = Plans(folder("plans")).load(laid(folder("plans") / "plans" / names[0], data))
    assert found.name == names[0][:-5]
    assert found.key_index is None or type(found.key_index) is int
    assert found.address is None or isinstance(found.address, str)


def sent(data: bytes) -> None:
    """A record of what was sent, under the name that it should have; its sums can be told."""
    try:
        name = str(Transaction.from_hex(json.loads(data)["sent"]["tx"]).txid)
    except (ValueError, KeyError, TypeError, RecursionError, MpchanError):
        name = "0" * 64
    path = laid(folder("sent") / "sent" / f"{name}.json", data)
    try:
        [found] = SentTransactions(folder("sent")).all().values()
        assert (type(found.height), type(found.answered)) == (int, bool)
        assert found.fee.sat + found.change.sat + found.paid.sat == sum(out.value.sat for out in found.spent)
    finally:
        path.unlink()


_BESIDE = b'{"key_index": 0, "used_by": null, "refund_txid": null, "void": false}'


def own_offer(data: bytes) -> None:
    """What an older wallet keeps beside an offer of its own, of version 1."""
    wallet = Wallet.open(world().wallets["payee"])
    terms = wallet.offers.load(wallet.offers.ids()[0]).offer.terms()
    terms = {key: value for key, value in terms.items() if key not in ("generation", "expires", "token")}
    key = wallet.keys.channel_key(0).public_key.sec.hex()
    table = {**terms, "version": 1, "offer_id": "0123456789abcdef", "payee_pubkey": key}
    path = wallet.directory / "offers" / "0123456789abcdef.toml"
    try:
        path.write_text(Offer.from_dict(table).to_toml())
        path.with_suffix(".json").write_bytes(data)
        assert wallet.offers.load(path.stem).key_index == 0
    finally:
        path.unlink()
        path.with_suffix(".json").unlink(missing_ok=True)


# what can be made again ---------------------------------------------------------------------------

_NOTED = OutPoint(Txid(bytes(32)), 7)


def notes(data: bytes) -> None:
    """A note is read or is as if it were not there; nothing is raised."""
    laid(folder("notes") / f"{_NOTED.txid}-{_NOTED.vout}.json", data)
    laid(folder("notes") / "unspent.json", data)
    found = Notes(folder("notes")).get(_NOTED)
    assert isinstance(found, Note)
    Notes(folder("notes")).put_spend(_NOTED, Note(found.clear, found.spend))
    Notes(folder("notes")).put_clear([_NOTED], found.clear or Block(1, "ab" * 32))


def _notes_seeds() -> list[bytes]:
    found = Transaction.from_bytes(world().messages["funding"])
    block = Block(5, "ab" * 32)
    spend = ConfirmedSpend(block, found, found.outputs[0], 3)
    Notes(folder("notes")).put_clear([OutPoint(found.txid, 0)], block)
    Notes(folder("notes")).put_spend(_NOTED, Note(block, spend))
    return [path.read_bytes() for path in sorted(folder("notes").iterdir())]


def header_file(data: bytes) -> None:
    """A file of headers that holds the checkpoint, or none."""
    found = HeaderChain.load(RULES["regtest"], laid(folder("headers") / "headers", data))
    if found is not None:
        height = found.checkpoint
        assert str(found.header(height)) == RULES["regtest"].checkpoint[1]
        found.median_time()
        found.work_after(height)


def genesis() -> bytes:
    root = bytes.fromhex("4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b")[::-1]
    numbers = b"".join(number.to_bytes(4, "little") for number in (1_296_688_602, 0x207FFFFF, 2))
    return b"\1\0\0\0" + bytes(32) + root + numbers


def _header_seeds() -> list[bytes]:
    path = folder("headers") / "made"
    HeaderChain.begin(RULES["regtest"], genesis()).save(path)
    return [path.read_bytes()]


def _headers_sealed(data: bytes) -> bytes:
    start = data[:17]
    return start + hashlib.sha256(data[49:]).digest() + data[49:]


# checksums that fit -------------------------------------------------------------------------------


def sealing(bend: Mutator, seal_again: Callable[[bytes], bytes]) -> Mutator:
    """A mutator whose inputs mostly have a checksum that fits."""

    def mutate(random: Random, data: bytes) -> bytes:
        made = bend(random, data)
        return made if random.randrange(5) == 0 else seal_again(made)

    return mutate


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def envelope(*parts: str) -> Callable[[bytes], bytes]:
    """Seals a JSON file whose checksum is over these parts."""

    def seal_again(data: bytes) -> bytes:
        try:
            table = json.loads(data)
            digest = hashlib.sha256(b"".join(_canonical(table[part]) for part in parts)).hexdigest()
            return json.dumps({**table, "checksum": digest}).encode()
        except (ValueError, TypeError, KeyError, RecursionError):
            return data

    return seal_again


def bent_envelope(random: Random, data: bytes) -> bytes:
    """JSON whose guarded part is bent more often than what guards it."""
    try:
        table = json.loads(data)
    except (ValueError, RecursionError):
        return bent_json(random, data)
    if not isinstance(table, dict) or random.randrange(4) == 0:
        return bent_json(random, data)
    guarded = [key for key in table if key not in ("schema", "checksum")]
    if guarded:
        key = random.choice(guarded)
        table[key] = bent_value(random, table[key])
    return json.dumps(table).encode()


def _state_seeds() -> list[bytes]:
    return story("payee", "channels", ".json") + story("payer", "channels", ".json")


def _journal_seeds() -> list[bytes]:
    return story("payee", "channels", ".journal") + story("payer", "channels", ".journal")


def _offer_seeds() -> list[bytes]:
    real = world().messages["offer"]
    return [real, real + b'[sale]\nprice = 5\nparts = [1, "a", { b = 2.5 }]\n']


_BOTH = (ParseError, StorageError)
_CHANNEL = sealing(bent_envelope, envelope("channel", "journal"))

FILES = [
    Target("offer", offer, _offer_seeds, bent_toml, (ParseError,)),
    Target("wallet-toml", config, lambda: [_CONFIG, _TOR], bent_toml, (ParseError,)),
    Target(
        "keys-toml",
        keys,
        _keys_seeds,
        sealing(bent_toml, _keys_sealed),
        _BOTH,
    ),
    Target("sealed-keys", _sealed, _sealed_seeds, bent_json, _BOTH),
    Target("channel-file", channel_file, _state_seeds, _CHANNEL, (ParseError,)),
    Target("journal", journal, _journal_seeds, bent_journal, (StorageError,)),
    Target(
        "plan",
        plan,
        lambda: story("planner", "plans", ".json"),
        sealing(bent_envelope, envelope("plan")),
        _BOTH,
    ),
    Target(
        "sent", sent, lambda: story("payer", "sent", ".json"), sealing(bent_envelope, envelope("sent")), _BOTH
    ),
    Target("own-offer", own_offer, lambda: [_BESIDE], bent_json, _BOTH),
    Target("notes", notes, _notes_seeds, sealing(bent_envelope, envelope("note")), ()),
    Target("header-file", header_file, _header_seeds, sealing(bent_bytes, _headers_sealed), ()),
]
