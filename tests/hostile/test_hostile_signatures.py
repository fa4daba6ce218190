"""What must never leave: a second refund signature for one outpoint, and a complete update.

The numbers are those of the list in ``support.hostile.LINES``.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import tomli
from support.hostile import Desk, mpchan, refusal
from support.party import Pair
from support.protocol import message, replace, scheme_of

from mpchan.bitcoin.psbt import GlobalMap, Psbt
from mpchan.chain.embedded import EmbeddedChain
from mpchan.channel.carried import with_offer
from mpchan.channel.offer import Offer
from mpchan.channel.terms import Terms
from mpchan.cli.main import cli
from mpchan.party.common import read_psbt
from mpchan.units import Height
from mpchan.wallet.channel_files import ChannelFiles


@pytest.fixture
def desk(chain_directory: Path, tmp_path: Path) -> Iterator[Desk]:
    folder = tmp_path / "desk"
    folder.mkdir()
    with EmbeddedChain(chain_directory) as chain:
        yield Desk(Pair(tmp_path, chain), folder)


# 10 and 61: one refund signature for an outpoint --------------------------------------------------


def later(terms: Terms) -> Psbt:
    """Another refund for the same outpoint: one block later."""
    other = replace(terms, refund_lock_time=Height(terms.refund_lock_time.value + 1))
    return message(other, scheme_of(other).refund())


def test_10_a_second_refund_for_an_outpoint(desk: Desk) -> None:
    """The same request gives the same answer, as often as it is asked; another one gives none."""
    pair = desk.pair
    request = pair.request()
    path = desk.file(request.hex)
    first = desk.done(desk.payee, "payee", "sign-refund", path)
    after = pair.files()
    assert desk.done(desk.payee, "payee", "sign-refund", path) == first
    assert pair.files() == after
    terms = pair.terms(f"{request.funding_txid}-0")
    desk.done(desk.payee, "payee", "offer")  # a fresh offer does not help
    for status in ("opening", "abandoned"):
        error = desk.refused_writing(desk.payee, "payee", "sign-refund", desk.file(later(terms)))
        assert (error.slug, error.exit_code) == ("outpoint-signed", 4), status
        if status == "opening":
            desk.done(desk.payee, "payee", "abandon")


def test_10_a_run_that_was_cut_short_has_signed_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The channel is written before the signature leaves, and is all that marks an offer: so there is no between."""
    pair = desk.pair
    request = pair.request()
    record = pair.payer_record(f"{request.funding_txid}-0")
    before = pair.files()
    with monkeypatch.context() as patch:
        patch.setattr(ChannelFiles, "save", interrupted)
        ended = mpchan(desk.payee, desk.chain, "payee", "sign-refund", desk.file(request.hex))
    assert ended.code != 0
    assert ended.out == ""
    assert pair.files() == before
    signed = desk.done(desk.payee, "payee", "sign-refund", desk.file(later(record.terms)))
    error = desk.refused_writing(desk.payee, "payee", "sign-refund", desk.file(request.hex))
    assert (error.slug, error.exit_code) == ("outpoint-signed", 4)
    again = desk.done(desk.payee, "payee", "sign-refund", desk.file(later(record.terms)))
    assert again == signed


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_61_a_wallet_restored_from_its_words(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It knows its own offers again by their tokens, and stands by none: words hold no generation. So an outpoint that
    the old one may have signed for gets no second signature.

    An older copy of the directory, put back by hand, is the very wallet that it was, and nothing in it can tell.
    """
    pair = desk.pair
    unused = Offer.from_toml(pair.offer())
    request = pair.request()
    signed = desk.done(desk.payee, "payee", "sign-refund", desk.file(request.hex))
    words = pair.payee.keys.seed_words()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(words.encode())))
    restored = tmp_path / "restored"
    assert mpchan(restored, desk.chain, "init", "--restore").code == 0
    old = tomli.loads((desk.payee / "keys.toml").read_text())
    new = tomli.loads((restored / "keys.toml").read_text())
    assert new["seed"] == old["seed"]
    terms = pair.terms(f"{request.funding_txid}-0")
    hostile = {
        "the request that was signed": read_psbt(request.hex.encode()),
        "another refund for its outpoint": later(terms),
        "a request under an offer that was never used": message(
            replace(terms, offer=unused), scheme_of(replace(terms, offer=unused)).refund()
        ),
    }
    for drawn in (False, True):  # before and after the restored wallet's first offer
        for name, asked in hostile.items():
            for offer in (None, unused if "never" in name else terms.offer):
                bare = asked if offer is not None else replace(asked, global_fields=bare_fields(asked))
                path = desk.file(bare if offer is None else with_offer(bare, offer))
                error = refusal([restored], restored, desk.chain, "payee", "sign-refund", path)
                slug = "unknown-offer" if offer is None else "offer-void"
                assert (error.slug, error.exit_code) == (slug, 4), (name, drawn)
        fresh = mpchan(restored, desk.chain, "payee", "offer").json
        assert Offer.from_toml(fresh["toml"]).generation != terms.offer.generation
    assert signed["channel"] == request.channel


def bare_fields(psbt: Psbt) -> GlobalMap:
    """What a tool leaves that knows nothing of this program's own field."""
    return GlobalMap(psbt.global_fields.pairs[:1])


# 62: no complete update ---------------------------------------------------------------------------

ELSEWHERE = {"mpchan init", "mpchan demo", "mpchan watch"}
"""Makes a wallet; plays with wallets of its own; runs until it is ended, and broadcasts."""


def leaves(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """Every command of the program with its words."""
    if not isinstance(command, click.Group):
        yield name, command
        return
    context = click.Context(command)
    for word in command.list_commands(context):
        inner = command.get_command(context, word)
        assert inner is not None
        yield from leaves(inner, f"{name} {word}")


COMMANDS = dict(leaves(cli, "mpchan"))


def arguments(command: click.Command, values: dict[str, str]) -> list[str]:
    """Something for each argument and each option that has to be there."""
    words = []
    for parameter in command.params:
        kind = parameter.type
        value = values.get(parameter.name or "", "1")
        if isinstance(kind, click.Choice):
            value = str(kind.choices[0])
        if isinstance(parameter, click.Argument):
            words.append(value)
        elif parameter.required:
            words += [parameter.opts[0], value]
        elif parameter.name == "timeout":
            words += [parameter.opts[0], "0"]
    return words


@pytest.mark.parametrize("role", ["payee", "payer"])
def test_62_no_command_hands_out_a_complete_update(desk: Desk, role: str) -> None:
    """Each command, whatever it answers: neither the update nor the payee's signature of it is in its words."""
    pair = desk.pair
    name = pair.open()
    update = desk.file(pair.pay(name, 1000))
    desk.done(desk.payee, "payee", "accept", update)
    best = pair.payee_record(name).state.best
    assert best is not None
    ours = [item.hex() for item in best.transaction.inputs[0].witness[1:3]]
    sent = read_psbt(update.read_bytes()).inputs[0].partial_sigs.values()
    [secret] = set(ours) - {signature.hex() for signature in sent}
    asked = {
        "file": str(update),
        "offer": str(update),
        "name": name,
        "channel": name,
        "amount": "1000",
        "output": str(desk.folder / "given"),
        "address": "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080",
    }
    tried = 0
    for command, definition in COMMANDS.items():
        if command in ELSEWHERE:
            continue
        words = [*command.split()[1:], *arguments(definition, asked)]
        ended = mpchan(desk.payee if role == "payee" else desk.payer, desk.chain, *words)
        assert ended.code != 1, ended
        assert secret not in ended.out + ended.err, command
        assert best.transaction.to_hex() not in ended.out + ended.err, command
        assert bool(ended.out) == (ended.code == 0) or "verify" in words, ended
        tried += 1
    assert tried >= 25


def test_62_an_update_leaves_when_it_is_broadcast(desk: Desk) -> None:
    """Before its lock time ``settle`` says when, and nothing else; at its lock time it is public anyhow."""
    pair = desk.pair
    name = pair.open()
    pair.accept(pair.pay(name, 1000))
    error = desk.refused_writing(desk.payee, "payee", "settle")
    assert (error.slug, error.exit_code) == ("update-locked", 6)
    best = pair.payee_record(name).state.best
    assert best is not None
    pair.mine_to(best.transaction.lock_time)
    closed = desk.done(desk.payee, "payee", "settle")
    assert (closed["kind"], closed["broadcast"]) == ("update", True)
    assert closed["hex"] == best.transaction.to_hex()
