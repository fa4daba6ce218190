"""Line 61: a wallet that went back to an older copy of itself, whatever way the copy came."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile_tools import Desk
from party_tools import Pair
from protocol_tools import message, sign

from mpchan.bitcoin.psbt import Psbt
from mpchan.chain.embedded import EmbeddedChain
from mpchan.party.common import read_psbt
from mpchan.values import replace


@pytest.fixture
def desk(chain_directory: Path, tmp_path: Path) -> Iterator[Desk]:
    folder = tmp_path / "desk"
    folder.mkdir()
    with EmbeddedChain(chain_directory) as chain:
        yield Desk(Pair(tmp_path, chain), folder)


def paid(desk: Desk, name: str, amount: int) -> str:
    """A payment that the payee has accepted; its message."""
    update = desk.pair.pay(name, amount)
    desk.pair.accept(update)
    return update


@pytest.fixture
def older(desk: Desk, tmp_path: Path) -> str:
    """A channel of 20 updates of 300 sat, whose payer has gone back to the fifth: its name."""
    pair = desk.pair
    name = pair.open()
    for _ in range(5):
        paid(desk, name, 300)
    shutil.copytree(desk.payer, tmp_path / "copy")
    for _ in range(15):
        paid(desk, name, 300)
    shutil.rmtree(desk.payer)
    shutil.copytree(tmp_path / "copy", desk.payer)
    pair.restart()
    assert pair.payer_record(name).updates == 5
    return name


def latest(desk: Desk) -> Psbt:
    return read_psbt(desk.done(desk.payee, "payee", "export-latest")["hex"].encode())


def test_61_an_older_payer_is_noticed_and_brought_up(desk: Desk, older: str) -> None:
    """A number that comes a second time is refused, whatever it pays, and the hint says what to do.

    What the payee gives back makes both agree again, and nothing but the payer's own signature is in it.
    """
    pair = desk.pair
    for amount in (100, 5000):  # update 6: as it was signed before, and another one
        update = pair.pay(older, amount)
        refused = desk.refused(desk.payee, "payee", "accept", desk.file(update))
        assert (refused.slug, refused.exit_code) == ("update-number", 4)
        assert refused.hint is not None
        assert "payee export-latest" in refused.hint
        assert "payer sync" in refused.hint
    given = desk.done(desk.payee, "payee", "export-latest")
    assert list(given) == ["channel", "kind", "update", "paid_sat", "lock_time", "hex"]
    assert (given["kind"], given["update"], given["paid_sat"]) == ("update", 20, 6000)
    given_back = read_psbt(given["hex"].encode())
    assert set(given_back.inputs[0].partial_sigs) == {pair.terms(older).payer_key.sec}


def test_61_what_the_payee_gives_back(desk: Desk, older: str) -> None:
    """It is the payer's message to the byte, and adopting it goes on as if nothing had been; twice is once."""
    pair = desk.pair
    given = latest(desk)
    synced = desk.done(desk.payer, "payer", "sync", desk.file(given))
    assert synced == {
        "channel": pair.terms(older).channel_id,
        "kind": "update",
        "update": 20,
        "paid_sat": 6000,
        "remaining_sat": 94_000,
        "changed": True,
    }
    assert desk.done(desk.payer, "payer", "pay", "--last")["hex"] == given.to_hex()
    before = pair.files()
    assert desk.done(desk.payer, "payer", "sync", desk.file(given)) == {**synced, "changed": False}
    assert pair.files() == before
    pair.restart()
    received = pair.accept(pair.pay(older, 300))
    assert (received["update"], received["received_sat"], received["paid_sat"]) == (21, 300, 6300)


def test_61_the_settlement_comes_back_too(desk: Desk, tmp_path: Path) -> None:
    """Before any update, and no payment is made after it."""
    pair = desk.pair
    name = pair.open()
    paid(desk, name, 1000)
    shutil.copytree(desk.payer, tmp_path / "copy")
    settlement = pair.settlement(name, 3000)
    pair.accept(settlement)
    shutil.rmtree(desk.payer)
    shutil.copytree(tmp_path / "copy", desk.payer)
    given = desk.done(desk.payee, "payee", "export-latest", name)
    assert (given["kind"], given["paid_sat"], given["lock_time"]) == ("settlement", 3000, 0)
    assert given["hex"] == settlement
    synced = desk.done(desk.payer, "payer", "sync", desk.file(given["hex"]))
    assert (synced["kind"], synced["paid_sat"], synced["changed"]) == ("settlement", 3000, True)
    assert desk.done(desk.payer, "payer", "settle")["hex"] == settlement
    refused = desk.refused_writing(desk.payer, "payer", "pay", "1", "--channel", name)
    assert (refused.slug, refused.exit_code) == ("channel-settling", 5)


def test_61_an_older_payer_that_paid_on_under_old_numbers(desk: Desk, older: str) -> None:
    """Two updates of one number are signed then: the higher total counts, under a number that neither has."""
    pair = desk.pair
    pair.pay(older, 5000)  # update 6 of 6500 in all, and the payee holds 20 of 6000
    ended = desk.done(desk.payer, "payer", "sync", desk.file(latest(desk)))
    assert (ended["update"], ended["paid_sat"]) == (21, 6500)
    assert ended["warnings"][0].startswith("sync-conflict: update 20 of 6000 sat")
    pair.restart()
    again = desk.done(desk.payer, "payer", "pay", "--last")
    assert pair.accept(again["hex"])["paid_sat"] == 6500


@pytest.mark.parametrize("signer", ["payee", "nobody"])
def test_61_only_the_own_signature_is_believed(desk: Desk, older: str, signer: str) -> None:
    """The payee's word for a total is none: it cannot make the payer think that it has paid more."""
    pair = desk.pair
    given = latest(desk)
    terms = pair.terms(older)
    signatures = (
        {}
        if signer == "nobody"
        else {terms.offer.payee_key.sec: sign(pair.payee_secret(older), terms, given.tx)}
    )
    forged = message(terms, given.tx, signatures)
    refused = desk.refused(desk.payer, "payer", "sync", desk.file(forged))
    assert (refused.slug, refused.exit_code) == ("missing-signature", 4)


def test_61_what_sync_takes(desk: Desk, older: str) -> None:
    given = desk.file(latest(desk))
    for words, slug, code in (
        (["sync"], "usage", 2),
        (["sync", given, "--nothing-newer"], "usage", 2),
        (["sync", given, "--channel", older], "usage", 2),
        (["sync", "--nothing-newer"], "no-channel", 5),
    ):
        refused = desk.refused(desk.payer, "payer", *words)
        assert (refused.slug, refused.exit_code) == (slug, code)
    refused = desk.refused(desk.payee, "payer", "sync", given)
    assert (refused.slug, refused.exit_code) == ("wrong-role", 4)
    refused = desk.refused_writing(desk.payer, "payee", "export-latest", older)
    assert (refused.slug, refused.exit_code) == ("wrong-role", 2)


def test_61_a_marked_channel_signs_nothing_new(desk: Desk, older: str) -> None:
    """What ``mpchan restore`` marks neither pays nor settles before it is synced, or the user gives his word."""
    pair = desk.pair

    def mark() -> None:
        pair.payer.save_channel(replace(pair.payer_record(older), restored=True), "restored")

    mark()
    last = desk.done(desk.payer, "payer", "pay", "--last")  # signed long ago
    assert last["update"] == 5
    for words in (
        ["pay", "100"],
        ["pay", "--total", "500"],
        ["pay", "--total", "600"],
        ["settle"],
        ["settle", "--total", "700"],
    ):
        refused = desk.refused_writing(desk.payer, "payer", *words)
        assert (refused.slug, refused.exit_code) == ("needs-sync", 5), words
        assert refused.hint is not None
        assert "--nothing-newer" in refused.hint
    desk.done(desk.payer, "payer", "sync", desk.file(latest(desk)))
    assert pair.payer_record(older).restored is False
    assert desk.done(desk.payer, "payer", "pay", "100")["update"] == 21
    pair.restart()
    mark()
    stands = desk.done(desk.payer, "payer", "sync", "--nothing-newer")
    assert (stands["update"], stands["changed"]) == (21, False)
    assert desk.done(desk.payer, "payer", "sync", "--nothing-newer", "--channel", older) == stands
    pair.restart()
    assert desk.done(desk.payer, "payer", "pay", "100")["update"] == 22
