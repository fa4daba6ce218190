"""Line 85: the keys of another wallet lie where this wallet's own belong.

A backup was put back in part, two wallets were mixed up, a sync program has brought the other machine's file. Each
command that signs says so, and signs nothing; what is complete goes out all the same. With the own keys back it is all
as before.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.hostile import Desk, mpchan, refusal
from support.party import Pair

from mpchan.chain.embedded import EmbeddedChain


@dataclass(frozen=True)
class Scene:
    """Two wallets in the middle of everything, and the keys of a stranger.

    Attributes:
        channel: in which one payment was taken and another one waits.
        messages: by name, as files.
    """

    desk: Desk
    channel: str
    messages: dict[str, Path]
    strangers: Path


@pytest.fixture(scope="module")
def scene(chain_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    base = tmp_path_factory.mktemp("wrong-keys")
    folder = base / "desk"
    folder.mkdir()
    with EmbeddedChain(chain_directory) as chain:
        pair = Pair(base, chain, coins=3)
        desk = Desk(pair, folder)
        channel = pair.open(min_refund_delay=2000, max_refund_delay=3000)
        pair.accept(pair.pay(channel, 1000))
        asked = pair.request(20_000).hex
        texts = {
            "update": pair.pay(channel, 500),
            "request": pair.request(20_000).hex,
            "reply": pair.sign_refund(asked),
            "offer": pair.offer(),
        }
        messages = {name: folder / name for name in texts}
        for name, text in texts.items():
            messages[name].write_text(text)
        assert mpchan(base / "stranger", desk.chain, "init").code == 0
        yield Scene(desk, channel, messages, base / "stranger" / "keys.toml")


SIGNING = {
    "85 accepting": ("payee", "payee accept {update}"),
    "85 signing a refund": ("payee", "payee sign-refund {request}"),
    "85 offering again": ("payee", "payee offer --like {offer_id}"),
    "85 paying": ("payer", "pay 100 --channel {channel}"),
    "85 paying up to a total": ("payer", "pay --total 9000 --channel {channel}"),
    "85 paying once more": ("payer", "pay --last --channel {channel}"),
    "85 settling": ("payer", "payer settle --channel {channel}"),
    "85 funding": ("payer", "payer fund {reply} --no-broadcast"),
}


@pytest.mark.parametrize("name", SIGNING)
def test_nothing_is_signed_with_the_keys_of_another_wallet(scene: Scene, tmp_path: Path, name: str) -> None:
    role, line = SIGNING[name]
    wallet = Path(shutil.copytree(getattr(scene.desk, role), tmp_path / role))
    keys, own = wallet / "keys.toml", tmp_path / "kept"
    [offer_id, *_] = [path.stem for path in sorted((scene.desk.payee / "offers").glob("*.toml"))]
    words = line.format(**scene.messages, channel=scene.channel, offer_id=offer_id).split()
    shutil.copy(keys, own)
    shutil.copy(scene.strangers, keys)
    refused = refusal([wallet], wallet, scene.desk.chain, *words)
    assert (refused.slug, refused.exit_code) == ("wrong-keys", 7)
    assert str(keys) in refused.message
    assert "put this wallet's own keys.toml back" in str(refused.hint)
    found = mpchan(wallet, scene.desk.chain, "fsck")
    assert found.code == 7
    assert "wrong-keys" in found.out
    shutil.copy(own, keys)
    assert mpchan(wallet, scene.desk.chain, *words).code == 0
    assert mpchan(wallet, scene.desk.chain, "fsck").code == 0


def test_85_what_is_complete_goes_out(scene: Scene, tmp_path: Path) -> None:
    """The refund and the latest update need no key any more."""
    words = ("payee", "settle", "--channel", scene.channel)
    for role in ("payer", "payee"):
        wallet = Path(shutil.copytree(getattr(scene.desk, role), tmp_path / role))
        shutil.copy(scene.strangers, wallet / "keys.toml")
        asked = words if role == "payee" else ("payer", "refund", "--channel", scene.channel)
        refused = refusal([wallet], wallet, scene.desk.chain, *asked)
        assert (refused.slug, refused.exit_code) == (
            "update-locked" if role == "payee" else "refund-locked",
            6,
        )
        looked = mpchan(wallet, scene.desk.chain, "watch", "--once")
        assert looked.code == 0, looked
