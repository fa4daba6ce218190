"""What can be wrong with any file: messages, settings, keys and channels; and with places to write to.

The numbers are those of the list in ``support.hostile.LINES``.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import foreign_wallet
from support.hostile import Desk, environment, mpchan, refusal
from support.party import Pair, snapshot
from support.protocol import FINAL_SCRIPT_SIG, FINAL_WITNESS, scheme_of, signed
from support.transcript import program

from mpchan.bitcoin.address import address_to_script
from mpchan.bitcoin.network import REGTEST
from mpchan.bitcoin.psbt import MAGIC, Psbt
from mpchan.bitcoin.tx import TxOut
from mpchan.chain.embedded import EmbeddedChain
from mpchan.party import views
from mpchan.units import MAX_MESSAGE_BYTES, MAX_TEXT_BYTES, Amount
from mpchan.wallet.coins import MAX_INPUTS
from mpchan.wallet.records import dump, load


class Scene:
    """An open channel of which the payee holds an update, and the next one, which is good."""

    def __init__(self, pair: Pair, folder: Path) -> None:
        self.pair = pair
        self.desk = Desk(pair, folder)
        self.name = pair.open()
        self.other = pair.open()
        pair.accept(pair.pay(self.name, 1000))
        self.terms = pair.terms(self.name)
        self.secret = pair.payer_secret(self.name)
        self.good = signed(self.terms, scheme_of(self.terms).update(2, Amount(2000)), self.secret)
        self.hex = self.good.to_hex()
        self.offer = pair.offer()

    def command(self, name: str, path: Path | str) -> tuple[Path, tuple[str, ...]]:
        """A command that reads ``path``: the wallet, and its words."""
        desk, out = self.desk, str(self.desk.folder / "out")
        return {
            "accept": (desk.payee, ("payee", "accept", str(path))),
            "settle": (desk.payee, ("payee", "settle", str(path), "-o", out)),
            "short": (desk.payee, ("settle", str(path), "-o", out)),
            "sign-refund": (desk.payee, ("payee", "sign-refund", str(path), "-o", out)),
            "funding": (desk.payee, ("payee", "funding", str(path))),
            "fund": (desk.payer, ("payer", "fund", str(path), "-o", out, "--refund-out", out + "2")),
            "verify": (desk.payee, ("verify", str(path))),
            "inspect": (desk.payee, ("inspect", str(path))),
            "open": (desk.payer, ("payer", "open", str(path), "5000", "-o", out)),
            "take": (desk.payer, ("payer", "open", "--funding", str(path), "-o", out)),
        }[name]


MESSAGE_READERS = ("accept", "settle", "short", "sign-refund", "funding", "fund", "verify", "inspect", "take")
READERS = (*MESSAGE_READERS, "open")


@pytest.fixture(scope="module")
def scene(chain_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with EmbeddedChain(chain_directory) as chain:
        yield Scene(Pair(tmp_path_factory.mktemp("pair"), chain, coins=2), tmp_path_factory.mktemp("desk"))


def unreadable(scene: Scene, reader: str, path: Path | str, slug: str, code: int = 3) -> None:
    """A command refuses what it was told to read, and writes nothing."""
    wallet, words = scene.command(reader, path)
    error = scene.desk.refused(wallet, *words)
    assert (error.slug, error.exit_code) == (slug, code), error.message
    assert len(error.message) < 600
    assert not (scene.desk.folder / "out").exists()
    assert not (scene.desk.folder / "out2").exists()


# 54: bytes that are no message --------------------------------------------------------------------

CONTENTS: dict[str, tuple[Callable[[str], bytes], str]] = {
    "54 empty": (lambda text: b"", "empty"),
    "54 space alone": (lambda text: b" \r\n\t\v\f", "empty"),
    "54 cut in the magic": (lambda text: text[:6].encode(), "malformed-transaction"),
    "54 cut in the middle": (lambda text: text[: len(text) // 4 * 2].encode(), "malformed-psbt"),
    "54 the last byte cut off": (lambda text: text[:-2].encode(), "malformed-psbt"),
    "54 a byte behind": (lambda text: text.encode() + b"00", "malformed-psbt"),
    "54 a line behind": (lambda text: f"{text}\n{text}".encode(), "malformed-hex"),
    "54 half a byte": (lambda text: text[:-1].encode(), "malformed-hex"),
    "54 half a byte behind": (lambda text: text.encode() + b"0", "malformed-hex"),
    "54 no hex": (lambda text: b"zz" + text.encode(), "malformed-hex"),
    "54 0x before": (lambda text: b"0x" + text.encode(), "malformed-hex"),
    "54 prose": (lambda text: b"please accept", "malformed-hex"),
    "54 NUL bytes": (lambda text: bytes(64), "malformed-transaction"),
    "54 a NUL byte behind": (lambda text: text.encode() + b"\0", "malformed-hex"),
    "54 a NUL byte within": (lambda text: text[:40].encode() + b"\0" + text[40:].encode(), "malformed-hex"),
    "54 a NUL byte behind the binary": (lambda text: bytes.fromhex(text) + b"\0", "malformed-psbt"),
    "54 wrong base64": (lambda text: b"cHNidP8B====", "malformed-base64"),
    "54 base64 cut": (lambda text: base64.b64encode(bytes.fromhex(text))[:-3], "malformed-base64"),
    "54 UTF-16": (lambda text: text.encode("utf-16"), "malformed-transaction"),
    "54 a byte over the limit": (lambda text: b"\xff" * (MAX_MESSAGE_BYTES + 1), "too-large"),
    "54 a byte over the limit, in hex": (lambda text: b"00" * (MAX_MESSAGE_BYTES + 1), "too-large"),
    "54 more than is looked at": (lambda text: text.encode() + b" " * MAX_TEXT_BYTES, "too-large"),
    "54 the limit, of zeros": (lambda text: b"00" * MAX_MESSAGE_BYTES, "malformed-transaction"),
    "54 the limit, of ones": (lambda text: b"\xff" * MAX_MESSAGE_BYTES, "malformed-transaction"),
    "54 spaces up to the limit": (lambda text: b" " * MAX_TEXT_BYTES, "empty"),
}


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("reader", MESSAGE_READERS)
def test_hostile_bytes_are_refused(scene: Scene, reader: str, name: str) -> None:
    content, slug = CONTENTS[name]
    unreadable(scene, reader, scene.desk.file(content(scene.hex)), slug)


@pytest.mark.parametrize("reader", ["accept", "sign-refund", "verify"])
@pytest.mark.parametrize("form", ["hex", "base64", "binary"])
def test_54_truncated_at_every_length(scene: Scene, form: str, reader: str) -> None:
    """Each beginning of a good message is refused as unreadable; for two readers every seventh."""
    raw = bytes.fromhex(scene.hex)
    data = {"hex": scene.hex.encode(), "base64": base64.b64encode(raw), "binary": raw}[form]
    before = snapshot(*scene.desk.wallets)
    for length in range(0, len(data), 1 if reader == "accept" else 7):
        path = scene.desk.file(data[:length])
        wallet, words = scene.command(reader, path)
        ended = mpchan(wallet, scene.desk.chain, *words)
        assert (ended.code, ended.out) == (3, ""), length
        assert ended.error["exit_code"] == 3
    assert snapshot(*scene.desk.wallets) == before
    assert scene.desk.judged(scene.desk.payee, scene.desk.file(data))["accepted"] is True


@pytest.mark.parametrize("reader", READERS)
def test_54_files_that_are_none(scene: Scene, reader: str) -> None:
    folder = scene.desk.folder
    loop = folder / "loop"
    if not loop.is_symlink():
        loop.symlink_to("loop")
    file = scene.desk.file(scene.hex)
    for place in (folder / "missing", folder, file / "below", loop, folder / ("x" * 300), ""):
        unreadable(scene, reader, place, "unreadable-file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_54_a_file_that_may_not_be_read(scene: Scene) -> None:
    path = scene.desk.file(scene.hex)
    path.chmod(0)
    try:
        unreadable(scene, "accept", path, "unreadable-file")
    finally:
        path.chmod(0o600)


@pytest.mark.parametrize("reader", READERS)
def test_54_a_named_pipe_that_never_ends(scene: Scene, reader: str, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def feed() -> None:
        with open(pipe, "wb", buffering=0) as stream, contextlib.suppress(BrokenPipeError):
            while True:
                stream.write(b"0" * 65536)

    thread = threading.Thread(target=feed)
    thread.start()
    unreadable(scene, reader, pipe, "too-large")
    thread.join(60)
    assert not thread.is_alive()


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no /dev/zero here")
@pytest.mark.parametrize("reader", READERS)
def test_54_a_device_that_never_ends(scene: Scene, reader: str) -> None:
    unreadable(scene, reader, "/dev/zero", "too-large")


# 55: PSBTs that are none --------------------------------------------------------------------------


def pair_bytes(key: bytes, value: bytes) -> bytes:
    return bytes([len(key)]) + key + bytes([len(value)]) + value


def insert(psbt: Psbt, place: str, pair: bytes) -> bytes:
    """The PSBT with one more pair at the end of a map; the maps have no more than 252 bytes in a value."""
    parts = [psbt.global_fields, *psbt.inputs, *psbt.outputs]
    chosen = {"global": 0, "input": 1, "output": 1 + len(psbt.inputs)}[place]
    data = bytearray(MAGIC)
    for index, part in enumerate(parts):
        content = part.to_bytes()
        data += content[:-1] + pair + b"\0" if index == chosen else content
    return bytes(data)


def doubled(psbt: Psbt, place: str) -> bytes:
    """One of the map's own pairs once more."""
    key, value = {"global": psbt.global_fields, "input": psbt.inputs[0]}[place].pairs[0]
    return insert(psbt, place, pair_bytes(key, value))


PSBTS: dict[str, tuple[Callable[[Scene], bytes], str]] = {
    "55 the transaction twice": (lambda scene: doubled(scene.good, "global"), "malformed-psbt"),
    "55 an input's key twice": (lambda scene: doubled(scene.good, "input"), "malformed-psbt"),
    "55 an unknown key twice": (
        lambda scene: insert(scene.good, "input", pair_bytes(b"\xf0", b"1") + pair_bytes(b"\xf0", b"2")),
        "malformed-psbt",
    ),
    "55 an output's key twice": (
        lambda scene: insert(scene.good, "output", pair_bytes(b"\xf0", b"1") * 2),
        "malformed-psbt",
    ),
    "55 version 2": (
        lambda scene: insert(scene.good, "global", pair_bytes(b"\xfb", b"\2\0\0\0")),
        "psbt-version",
    ),
    "55 version 1": (
        lambda scene: insert(scene.good, "global", pair_bytes(b"\xfb", b"\1\0\0\0")),
        "psbt-version",
    ),
    "55 a field of version 2": (
        lambda scene: insert(scene.good, "input", pair_bytes(b"\x0e", bytes(32))),
        "malformed-psbt",
    ),
    "55 a final scriptSig": (
        lambda scene: insert(scene.good, "input", pair_bytes(FINAL_SCRIPT_SIG, b"")),
        "final-field",
    ),
    "55 a final witness": (
        lambda scene: insert(scene.good, "input", pair_bytes(FINAL_WITNESS, b"\1\0")),
        "final-field",
    ),
    "55 another magic": (lambda scene: b"psbt\xfe" + scene.good.to_bytes()[5:], "malformed-psbt"),
    "55 a map without its end": (lambda scene: scene.good.to_bytes()[:-1], "malformed-psbt"),
    "55 no transaction": (lambda scene: MAGIC + b"\0\0\0\0", "malformed-psbt"),
}


@pytest.mark.parametrize("name", PSBTS)
def test_hostile_psbt_is_refused(scene: Scene, name: str) -> None:
    build, slug = PSBTS[name]
    path = scene.desk.file(build(scene))
    for reader in ("accept", "fund"):
        wallet, words = scene.command(reader, path)
        error = scene.desk.refused(wallet, *words)
        assert (error.slug, error.exit_code) == (slug, 3), error.message
    if slug == "final-field":  # it is a PSBT, but none that a party takes
        said = scene.desk.judged(scene.desk.payee, path)
        assert (said["error"], said["exit_code"]) == (slug, 3)
    else:
        unreadable(scene, "verify", path, slug)


def test_55_a_complete_transaction_where_a_psbt_belongs_and_the_reverse(scene: Scene) -> None:
    funding = scene.pair.payer_record(scene.name).funding
    assert funding is not None
    for reader in ("accept", "settle", "sign-refund", "fund"):
        unreadable(scene, reader, scene.desk.file(funding), "not-a-psbt")
    unreadable(scene, "funding", scene.desk.file(scene.good), "not-a-transaction")


def test_54_the_largest_funding_is_below_the_limit(chain_directory: Path, tmp_path: Path) -> None:
    """1,400 coins of the wallet's own: what ``fund -o`` writes every other command reads, on both sides."""
    (tmp_path / "desk").mkdir()
    with EmbeddedChain(chain_directory) as chain:
        pair = Pair(tmp_path, chain, coins=0)
        desk = Desk(pair, tmp_path / "desk")
        source = foreign_wallet.coin(chain, foreign_wallet.P2WPKH, 3_000_000)
        addresses = [views.fresh_address(pair.payer).address for _ in range(7)]
        scripts = [address_to_script(address, REGTEST) for address in addresses]
        outputs = [TxOut(Amount(1_000), scripts[number % 7]) for number in range(MAX_INPUTS)]
        many = foreign_wallet.payment(chain, [source], *outputs, fee=100_000)
        chain.broadcast(foreign_wallet.signed(chain, many))
        chain.mine(1)
        offer, funding, request, reply = (
            desk.folder / name for name in ("offer", "funding", "request", "reply")
        )
        desk.done(desk.payee, "payee", "offer", "-o", offer)
        offer.write_bytes(offer.read_bytes().hex().encode() + b"\r\n")
        desk.done(desk.payer, "payer", "open", offer, "1300000", "--funding-fee-rate", "1", "-o", request)
        desk.done(desk.payee, "payee", "sign-refund", request, "-o", reply)
        made = desk.done(desk.payer, "payer", "fund", reply, "--no-broadcast", "-o", funding)
        assert funding.stat().st_size > MAX_MESSAGE_BYTES, "longer in hex than a message is"
        assert len(desk.done(desk.payer, "inspect", funding)["inputs"]) > MAX_INPUTS - 10
        answer = desk.done(desk.payee, "payee", "funding", funding, "--broadcast")
        assert answer["funding_txid"] == made["funding_txid"]
        chain.mine(1)
        update = desk.done(desk.payer, "pay", "1000")["hex"]
        assert desk.done(desk.payee, "payee", "accept", desk.file(update))["paid_sat"] == 1000


# 56 to 58: the wallet's own files -----------------------------------------------------------------


@pytest.fixture
def copied(scene: Scene, tmp_path: Path) -> Path:
    """A payee's wallet to be spoilt."""
    return Path(shutil.copytree(scene.desk.payee, tmp_path / "copied"))


def refused_in(copied: Path, scene: Scene, *words: str | Path) -> tuple[str, int, str]:
    error = refusal([copied], copied, scene.desk.chain, *words)
    return error.slug, error.exit_code, error.message


CONFIGS: dict[str, tuple[Callable[[str], str], str]] = {
    "56 settings with a syntax error": (lambda text: text + "\n[", "malformed-config"),
    "56 settings with a key twice": (lambda text: 'network = "regtest"\n' + text, "malformed-config"),
    "56 settings with an unknown key": (lambda text: "surprise = 1\n" + text, "malformed-config"),
    "56 settings without a network": (
        lambda text: "\n".join(line for line in text.splitlines() if not line.startswith("network")),
        "malformed-config",
    ),
    "56 settings with a number as the network": (
        lambda text: text.replace('network = "regtest"', "network = 1"),
        "malformed-config",
    ),
    "56 settings with an unknown network": (
        lambda text: text.replace('network = "regtest"', 'network = "moon"'),
        "unknown-network",
    ),
    "56 settings with nothing": (lambda text: "", "malformed-config"),
    "56 settings with a NUL": (lambda text: text + "\0", "malformed-config"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_hostile_settings_are_refused(scene: Scene, copied: Path, name: str) -> None:
    spoil, slug = CONFIGS[name]
    path = copied / "wallet.toml"
    path.write_text(spoil(path.read_text()))
    for words in (("balance",), ("payee", "accept", scene.desk.file(scene.hex))):
        found = refused_in(copied, scene, *words)
        assert found[:2] == (slug, 3), found
        assert str(path) in found[2]


KEYS: dict[str, Callable[[str], str]] = {
    "56 keys with a syntax error": lambda text: text + "[",
    "56 keys with an unknown key": lambda text: text + "surprise = 1\n",
    "56 keys without an index": lambda text: "\n".join(
        line for line in text.splitlines() if not line.startswith("next_channel")
    ),
    "56 keys with a float as the index": lambda text: text.replace("next_channel = ", "next_channel = 1."),
    "56 keys with a huge index": lambda text: text.replace("next_channel = ", "next_channel = 99999999999"),
    "56 keys with a negative index": lambda text: text.replace("next_channel = ", "next_channel = -1"),
    "56 keys with nothing": lambda text: "",
    "56 keys with half a seed": lambda text: text.replace('seed = "', 'seed = "00'),
}


@pytest.mark.parametrize("name", KEYS)
def test_hostile_keys_are_refused(scene: Scene, copied: Path, name: str) -> None:
    path = copied / "keys.toml"
    good = path.read_text()
    path.write_text(KEYS[name](good))
    assert path.read_text() != good
    slug, code, message = refused_in(copied, scene, "address")
    assert (slug, code) == ("keys-damaged", 7)
    assert str(path) in message


def rewritten(path: Path, change: Callable[[dict], object]) -> None:  # type: ignore[type-arg]
    """A channel file with other content and a checksum that fits."""
    body, position = load(path.read_text())
    change(body)
    path.write_text(dump(body, position))


CHANNELS: dict[str, tuple[Callable[[Path], object], str]] = {
    "57 a newer schema": (
        lambda path: path.write_text(re.sub('"schema": [12]', '"schema": 3', path.read_text())),
        "channel-schema",
    ),
    "57 one digit changed": (
        lambda path: path.write_text(path.read_text().replace('"step":1', '"step":9')),
        "channel-damaged",
    ),
    "57 cut": (lambda path: path.write_text(path.read_text()[:-40]), "channel-damaged"),
    "57 empty": (lambda path: path.write_text(""), "channel-damaged"),
    "57 zeros, as after a power cut": (
        lambda path: path.write_bytes(bytes(len(path.read_bytes()))),
        "channel-damaged",
    ),
    "57 another channel's content": (
        lambda path: path.write_bytes(
            next(other for other in sorted(path.parent.glob("*.json")) if other != path).read_bytes()
        ),
        "channel-damaged",
    ),
    "56 a channel file that is no JSON": (lambda path: path.write_text("{"), "channel-damaged"),
    "56 a channel file with a list": (lambda path: path.write_text("[]"), "channel-damaged"),
    "56 a channel file nested without end": (lambda path: path.write_text("[" * 100_000), "channel-damaged"),
    "56 a float as an amount, with its checksum": (
        lambda path: rewritten(path, lambda body: body.update(funding_value_sat=100338.0)),
        "channel-damaged",
    ),
    "56 a string as an amount, with its checksum": (
        lambda path: rewritten(path, lambda body: body.update(funding_value_sat="100338")),
        "channel-damaged",
    ),
    "56 a huge amount, with its checksum": (
        lambda path: rewritten(path, lambda body: body.update(funding_value_sat=10**30)),
        "channel-damaged",
    ),
    "56 a missing key, with its checksum": (
        lambda path: rewritten(path, lambda body: body.pop("payer_pubkey")),
        "channel-damaged",
    ),
    "56 an unknown role, with its checksum": (
        lambda path: rewritten(path, lambda body: body.update(role="watcher")),
        "channel-damaged",
    ),
}


@pytest.mark.parametrize("name", CHANNELS)
def test_a_spoilt_channel_is_named_and_left_alone(scene: Scene, copied: Path, name: str) -> None:
    """The other channel goes on working."""
    spoil, slug = CHANNELS[name]
    path = copied / "channels" / f"{scene.name}.json"
    spoil(path)
    after = path.read_bytes()
    message = scene.desk.file(scene.hex)
    for words in (("payee", "accept", message), ("verify", message), ("show", scene.name)):
        found = refused_in(copied, scene, *words)
        assert found[:2] == (slug, 7), found
        assert str(path) in found[2]
    listed = mpchan(copied, scene.desk.chain, "list")
    assert [view["channel"] for view in listed.json["channels"]] == [scene.other[:16]]
    other = scene.pair.terms(scene.other)
    update = signed(other, scheme_of(other).update(1, Amount(1000)), scene.pair.payer_secret(scene.other))
    taken = mpchan(copied, scene.desk.chain, "payee", "accept", scene.desk.file(update))
    assert taken.json["paid_sat"] == 1000
    assert path.read_bytes() == after


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620, 0o602, 0o644, 0o777])
def test_58_keys_that_others_may_read(scene: Scene, copied: Path, mode: int) -> None:
    path = copied / "keys.toml"
    path.chmod(mode)
    error = refusal([copied], copied, scene.desk.chain, "address")
    assert (error.slug, error.exit_code) == ("keys-permissions", 7)
    assert error.hint is not None
    assert f"chmod 600 {path}" in error.hint
    path.chmod(0o600)
    assert mpchan(copied, scene.desk.chain, "address").code == 0


# 59: where to write -------------------------------------------------------------------------------


def test_59_an_output_that_is_the_input(scene: Scene, tmp_path: Path) -> None:
    desk = scene.desk
    source = tmp_path / "in"
    source.write_text(scene.hex)
    (tmp_path / "soft").symlink_to(source)
    (tmp_path / "hard").hardlink_to(source)
    for command in (("payee", "sign-refund"), ("payee", "settle")):
        for target in (source, tmp_path / "soft", tmp_path / "hard", tmp_path / ".." / tmp_path.name / "in"):
            error = desk.refused(desk.payee, *command, source, "-o", target)
            assert (error.slug, error.exit_code) == ("output-is-input", 2)
            assert source.read_text() == scene.hex
    error = desk.refused(desk.payer, "payer", "fund", source, "--refund-out", tmp_path / "hard")
    assert (error.slug, error.exit_code) == ("output-is-input", 2)


def test_59_an_output_without_a_folder(scene: Scene, tmp_path: Path) -> None:
    """Nothing is paid: the place is looked at before the payment is made."""
    desk = scene.desk
    for target in (tmp_path / "missing" / "out", tmp_path, tmp_path / ("x" * 300)):
        for words in (("pay", "1000"), ("settle",)):
            error = desk.refused(desk.payer, "payer", *words, "--channel", scene.name, "-o", target)
            assert (error.slug, error.exit_code) == ("output-unwritable", 2)


@pytest.fixture
def paying(chain_directory: Path, tmp_path: Path) -> Iterator[Desk]:
    (tmp_path / "desk").mkdir()
    with EmbeddedChain(chain_directory) as chain:
        pair = Pair(tmp_path, chain)
        pair.open()
        yield Desk(pair, tmp_path / "desk")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
@pytest.mark.parametrize("where", ["stdout", "file", "pipe"])
def test_59_an_output_that_fails_after_the_state_was_saved(paying: Desk, where: str) -> None:
    """The payment is made and its message can be had again: the same bytes, and paid once."""
    command = f"{program()} --wallet {paying.payer} --json payer pay 1000"
    script = f"{command} > /dev/full" if where == "stdout" else f"{command} -o /dev/full"
    if where == "pipe":  # the reader has gone before the answer is written
        script = f"mkfifo gone; (exec 3<gone) & exec 4>gone; wait $!; {command} >&4"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=paying.folder,
        env=environment(paying.chain),
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (7, b""), done.stderr
    error = json.loads(done.stderr)
    assert (error["error"], error["exit_code"]) == ("not-emitted", 7)
    assert "mpchan payer pay --last" in error["hint"]
    again = paying.done(paying.payer, "payer", "pay", "--last")
    assert (again["update"], again["paid_sat"]) == (1, 1000)
    assert paying.done(paying.payer, "payer", "pay", "--total", "1000")["hex"] == again["hex"]
    assert paying.done(paying.payee, "payee", "accept", paying.file(again["hex"]))["received_sat"] == 1000


# 60: names ----------------------------------------------------------------------------------------

NAMES = {
    "60 above the wallet": "../../../../etc/passwd",
    "60 the wallet's own keys": "../keys",
    "60 an absolute place": "/etc/passwd",
    "60 a NUL": "0123\0",
    "60 nothing but dots": "..",
    "60 a star": "*",
    "60 an empty name": "",
}


@pytest.mark.parametrize("name", NAMES)
def test_hostile_name_leads_nowhere(scene: Scene, name: str) -> None:
    """Names of channels and offers come from hashes; what is typed as one is looked up, and opened nowhere."""
    hostile, desk = NAMES[name], scene.desk
    for words in (
        ("show", hostile),
        ("payer", "pay", "1000", "--channel", hostile),
        ("payee", "abandon", "--channel", hostile),
        ("verify", desk.file(scene.hex), "--channel", hostile),
    ):
        error = desk.refused(desk.payer if words[0] == "payer" else desk.payee, *words)
        assert (error.slug, error.exit_code) == ("unknown-channel", 5), words
    error = desk.refused(desk.payee, "payee", "offer", "--like", hostile)
    assert (error.slug, error.exit_code) == ("unknown-offer", 5)


def test_60_what_an_offer_says_becomes_no_path(scene: Scene) -> None:
    """The words that a payee chooses freely, memo and sale, stand in the channel's file and nowhere else."""
    desk, pair = scene.desk, scene.pair
    text = scene.offer.replace('memo = ""', 'memo = "../../evil"')
    text += '\n[sale]\nfile = "../../../evil"\n"../evil" = "/etc/passwd"\n'
    pair.coin()
    before = set(snapshot(*desk.wallets))
    opened = desk.done(desk.payer, "payer", "open", desk.file(text), "5000")
    new = sorted(set(snapshot(*desk.wallets)) - before)
    stem = desk.payer / "channels" / f"{opened['funding_txid']}-{opened['funding_vout']}"
    assert new == [f"{stem}.journal", f"{stem}.json", f"{stem}.lock"]
    assert not list(desk.payer.parent.rglob("evil*"))
