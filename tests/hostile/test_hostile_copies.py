"""Lines 61 and 85: a wallet that went back to an older copy of itself, or is used twice, whatever way the copy came."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli
from support.external import External
from support.foreign_wallet import P2WPKH, coin, payment, signed
from support.hostile import Desk, refusal
from support.party import Pair
from support.protocol import message, scheme_of, sign

from mpchan.bitcoin.psbt import Psbt
from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel import payer
from mpchan.errors import NotPossible
from mpchan.party.backup import restore
from mpchan.party.common import read_psbt
from mpchan.units import Height
from mpchan.values import replace
from mpchan.wallet.backup import collect, pack
from mpchan.wallet.wallet import Wallet


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
    assert (received.update, received.received_sat, received.paid_sat) == (21, 300, 6300)


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
    assert pair.accept(again["hex"]).paid_sat == 6500


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
        pair.payer.channels.save(replace(pair.payer_record(older), restored=True), "restored")

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


# mpchan restore -----------------------------------------------------------------------------------


def kept(desk: Desk, wallet: Path) -> Path:
    """A backup of a wallet as it is now."""
    target = desk.folder / f"{wallet.name}.backup"
    desk.done(wallet, "backup", "-o", target)
    return target


def restored(desk: Desk, backup: Path) -> Path:
    """A wallet made of it; the old one is never used again."""
    directory = desk.folder / f"restored {len(list(desk.folder.iterdir()))}"
    desk.done(directory, "restore", backup)
    return directory


def next_channel(wallet: Path) -> int:
    found: int = tomli.loads((wallet / "keys.toml").read_text())["next_channel"]
    return found


def test_61_a_restored_payee_refuses_nothing_that_it_should_accept(desk: Desk) -> None:
    """Backed up at update 5, lost at 20: all that the payer has made since is later, and so is the settlement."""
    pair = desk.pair
    name = pair.open()
    early = [paid(desk, name, 300) for _ in range(5)]
    backup = kept(desk, desk.payee)
    late = [paid(desk, name, 300) for _ in range(15)]
    wallets = [restored(desk, backup) for _ in range(2)]
    held = desk.done(wallets[0], "show", name)
    assert (held["updates"], held["paid_sat"], held["status"]) == (5, 1500, "open")
    again = desk.done(wallets[0], "payee", "accept", desk.file(early[4]))
    assert (again["duplicate"], again["paid_sat"]) == (True, 1500)
    for number, update in enumerate(late[::7], 1):  # 6, 13 and 20
        taken = desk.done(wallets[0], "payee", "accept", desk.file(update))
        assert (taken["update"], taken["paid_sat"]) == (7 * number - 1, 300 * (7 * number - 1))
    for wallet in wallets:  # the other one has missed them all
        taken = desk.done(wallet, "payee", "accept", desk.file(pair.pay(name, 300)))
    assert (taken["update"], taken["received_sat"], taken["paid_sat"]) == (22, 5100, 6600)
    closed = desk.done(wallets[1], "payee", "settle", desk.file(pair.settlement(name)))
    assert (closed["kind"], closed["paid_sat"], closed["broadcast"]) == ("settlement", 6600, True)


def test_61_a_restored_payee_signs_no_second_refund(desk: Desk) -> None:
    """An offer that was unused in the backup, and used since, is void; what was signed before is given again."""
    pair = desk.pair
    pair.coin()
    before = pair.request()
    signed = desk.done(desk.payee, "payee", "sign-refund", desk.file(before.hex))
    unused = pair.offer()
    backup = kept(desk, desk.payee)
    since = pair.request(offer=unused)
    pair.sign_refund(since.hex)
    wallet = restored(desk, backup)
    assert desk.done(wallet, "payee", "sign-refund", desk.file(before.hex)) == signed
    terms = pair.terms(f"{since.funding_txid}-0")
    earlier = replace(terms, refund_lock_time=Height(terms.refund_lock_time.value - 1))
    for request in (read_psbt(since.hex.encode()), message(earlier, scheme_of(earlier).refund())):
        refused = refusal(
            [wallet, *desk.wallets], wallet, desk.chain, "payee", "sign-refund", desk.file(request)
        )
        assert (refused.slug, refused.exit_code) == ("offer-void", 4)
        assert refused.hint is not None
        assert "--like" in refused.hint
    like = desk.done(wallet, "payee", "offer", "--like", terms.offer.offer_id)
    assert like["payee_pubkey"] != terms.offer.payee_key.sec.hex()


def test_85_a_copied_payee_signs_no_second_refund(desk: Desk) -> None:
    """Copied with ``cp -a`` and used beside the first one: without its ``generation`` nothing new is signed there."""
    pair = desk.pair
    pair.coin()
    unused = pair.offer()
    copy = desk.folder / "copied"
    shutil.copytree(desk.payee, copy)
    request = pair.request(offer=unused)
    pair.sign_refund(request.hex)
    (copy / "generation").unlink()
    terms = pair.terms(f"{request.funding_txid}-0")
    earlier = replace(terms, refund_lock_time=Height(terms.refund_lock_time.value - 1))
    other = message(earlier, scheme_of(earlier).refund())
    refused = refusal([copy, *desk.wallets], copy, desk.chain, "payee", "sign-refund", desk.file(other))
    assert (refused.slug, refused.exit_code) == ("offer-void", 4)


def test_85_a_copied_payer_pays_no_number_twice_unnoticed(desk: Desk) -> None:
    """Both of two copies pay: for the other one's update of a number the payee never changes what it holds."""
    pair = desk.pair
    name = pair.open()
    copy = desk.folder / "copied"
    shutil.copytree(desk.payer, copy)
    held = paid(desk, name, 300)
    update = desk.done(copy, "payer", "pay", "5000")
    assert update["update"] == 1
    assert read_psbt(held.encode()).tx.lock_time == read_psbt(update["hex"].encode()).tx.lock_time
    refused = desk.refused(desk.payee, "payee", "accept", desk.file(update["hex"]))
    assert (refused.slug, refused.exit_code) == ("update-number", 4)
    ended = desk.done(copy, "payer", "sync", desk.file(latest(desk)))
    assert (ended["update"], ended["paid_sat"]) == (2, 5000)
    assert pair.accept(desk.done(copy, "payer", "pay", "--last")["hex"]).paid_sat == 5000


def test_61_a_restored_wallet_takes_no_channel_key_twice(desk: Desk) -> None:
    """Whatever the lost one, or one that was restored before, has handed out since the backup."""
    backup = kept(desk, desk.payee)
    known = next_channel(desk.payee)
    lost = {desk.done(desk.payee, "payee", "offer")["payee_pubkey"] for _ in range(3)}
    wallets = [restored(desk, backup) for _ in range(3)]
    starts = [next_channel(wallet) for wallet in wallets]
    assert len(set(starts)) > 1  # picked among 100,000
    for wallet, start in zip(wallets, starts, strict=True):
        assert start >= known + 1000
        assert (start - known) % 1000 == 0
        keys = {desk.done(wallet, "payee", "offer")["payee_pubkey"] for _ in range(2)}
        assert not keys & lost
    chained = next_channel(restored(desk, kept(desk, wallets[0])))
    assert chained >= starts[0] + 2 + 1000


def test_61_a_restored_payer(desk: Desk) -> None:
    """It signs nothing new before it is synced; what is its own safety, it can do at once."""
    pair = desk.pair
    name = pair.open()
    for _ in range(5):
        paid(desk, name, 300)
    backup = kept(desk, desk.payer)
    for _ in range(15):
        paid(desk, name, 300)
    wallet = desk.folder / "restored"
    answer = desk.done(wallet, "restore", backup)
    channel = pair.terms(name).channel_id
    assert answer["to_sync"] == [channel]
    everything = [wallet, *desk.wallets]
    for words in (["pay", "300"], ["settle"]):
        refused = refusal(everything, wallet, desk.chain, "payer", *words)
        assert (refused.slug, refused.exit_code) == ("needs-sync", 5)
    refused = refusal(everything, wallet, desk.chain, "payer", "refund")
    assert (refused.slug, refused.exit_code) == ("refund-locked", 6)
    desk.done(wallet, "payer", "sync", desk.file(latest(desk)))
    update = desk.done(wallet, "payer", "pay", "300")
    assert update["update"] == 21
    assert pair.accept(update["hex"]).received_sat == 300


@pytest.mark.parametrize("phase", ["opening", "secured"])
def test_61_a_restored_payer_whose_funding_left_since(desk: Desk, phase: str) -> None:
    """It is not given up while the chain shows the funding; with the payee's reply, had again, it is as before."""
    pair = desk.pair
    request = pair.request()
    reply = pair.sign_refund(request.hex)
    if phase == "secured":
        name = f"{request.funding_txid}-0"
        record = pair.payer_record(name)
        assert isinstance(record.state, payer.Opening)
        secured = payer.secure(record.state, read_psbt(reply.encode()), pair.payer.keys.key_of(record))
        pair.payer.channels.save(replace(record, state=secured), "secured")
    backup = kept(desk, desk.payer)
    pair.fund(reply)
    pair.chain.mine(1)
    name = f"{request.funding_txid}-0"
    paid(desk, name, 300)
    pair.chain.mine(40)  # too late for a new channel
    wallet = restored(desk, backup)
    refused = refusal([wallet, *desk.wallets], wallet, desk.chain, "payer", "abandon")
    assert (refused.slug, refused.exit_code) == ("funding-early", 5)
    desk.done(wallet, "payer", "fund", desk.file(reply))
    refused = refusal([wallet, *desk.wallets], wallet, desk.chain, "payer", "settle")
    assert refused.slug == "needs-sync"
    assert desk.done(wallet, "payer", "sync", desk.file(latest(desk)))["paid_sat"] == 300
    pair.mine_to(pair.terms(name).refund_lock_time.value)
    assert desk.done(wallet, "payer", "refund")["broadcast"] is True


def test_61_a_restored_plan_opens_a_channel_that_has_to_be_synced(
    chain_directory: Path, tmp_path: Path
) -> None:
    """The lost wallet may have opened it since, and paid."""
    with EmbeddedChain(chain_directory) as chain:
        pair = External(tmp_path, chain)
        funding = payment(chain, [coin(chain, P2WPKH)], pair.output())
        complete = signed(chain, funding)
        restore(pack(collect(pair.payer)[0]), tmp_path / "restored")
        name = pair.open_with(funding, complete)
        chain.mine(1)
        pair.accept(pair.pay(name, 300))
        lock_time = pair.terms(name).refund_lock_time.value
        pair.payer = Wallet.open(tmp_path / "restored")
        request = pair.take(
            funding, refund_delay=lock_time - chain.tip().height
        )  # the refund that was signed
        pair.fund(pair.sign_refund(request.hex), signed=complete)
        with pytest.raises(NotPossible) as caught:
            pair.pay(name, 400)
        assert caught.value.slug == "needs-sync"


def test_61_a_restored_opening_that_was_given_up_keeps_its_refund(desk: Desk) -> None:
    """The lost wallet may have signed its funding, and somebody sends it later: the refund is still at hand then."""
    pair = desk.pair
    request = pair.request()
    name = f"{request.funding_txid}-0"
    reply = pair.sign_refund(request.hex)
    record = pair.payer_record(name)
    assert isinstance(record.state, payer.Opening)
    key = pair.payer.keys.key_of(record)
    secured = payer.secure(record.state, read_psbt(reply.encode()), key)
    pair.payer.channels.save(replace(record, state=secured), "secured")
    wallet = restored(desk, kept(desk, desk.payer))
    pair.fund(reply, send=False)
    assert desk.done(wallet, "payer", "abandon")["status"] == "abandoned"
    state = pair.payer_record(name).state
    assert isinstance(state, payer.Funded)
    assert state.funding is not None
    pair.chain.broadcast(state.funding)
    pair.chain.mine(1)
    assert desk.done(wallet, "show", name)["status"] == "open"
    pair.mine_to(pair.terms(name).refund_lock_time.value)
    assert desk.done(wallet, "payer", "refund", "--channel", name)["broadcast"] is True


def test_61_a_channel_that_has_ended_needs_nothing_back(desk: Desk) -> None:
    """So the one that goes on is meant where none is named."""
    pair = desk.pair
    for total in (1000, 2000):
        name = pair.open()
        paid(desk, name, total)
        if total == 1000:
            pair.settle(pair.settlement(name, total))
            pair.chain.mine(1)
    assert desk.done(desk.payee, "payee", "export-latest")["paid_sat"] == 2000
