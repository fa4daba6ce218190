"""Money on a channel's address that no refund spends: the payee signs another, and neither side can gain by it.

Hostile input 71: replaced after the refund was signed; broadcast before it; paid twice. All are said, with a way back.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.external import CAPACITY, External, name_of, refused, slugs_of
from support.foreign_wallet import P2WPKH, coin, payment, signed
from support.party import SHORT, balance_sat, psbt

from mpchan.bitcoin.script import key_to_p2wpkh_script
from mpchan.bitcoin.signature import PrivateKey
from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.chain.embedded import EmbeddedChain
from mpchan.chain.manual import ManualChain
from mpchan.channel import payee as payee_protocol
from mpchan.channel import payer as payer_protocol
from mpchan.channel.carried import with_offer
from mpchan.channel.construction.refund_first import with_proof
from mpchan.channel.offer import Offer
from mpchan.channel.payer import refund_request
from mpchan.channel.signing import ChannelKey
from mpchan.channel.terms import Terms
from mpchan.party import payee, payer, views
from mpchan.party.check import payee_rules
from mpchan.party.opening.again import open_again
from mpchan.results.opening import Opened, RefundSigned
from mpchan.units import Amount, Height, OutPoint
from mpchan.values import replace
from mpchan.wallet.channel_files import ChannelFiles
from mpchan.wallet.wallet import Wallet

VALUE = CAPACITY + 338
REFUND_FEE = 276
DAY = 86_400
REPLACEABLE = 0xFFFF_FFFD


@pytest.fixture
def pair(chain_directory: Path, tmp_path: Path) -> Iterator[External]:
    with EmbeddedChain(chain_directory) as chain:
        yield External(tmp_path, chain)


def sent(pair: External, transaction: Transaction, *, mine: bool = True) -> OutPoint:
    """Broadcast; the output after the change."""
    pair.chain.broadcast(transaction)
    if mine:
        pair.chain.mine(1)
    return OutPoint(transaction.txid, 1)


def paid_again(pair: External, value: int = VALUE) -> OutPoint:
    """Another payment to the address, in a block."""
    output = TxOut(Amount(value), pair.output().script_pubkey)
    return sent(pair, signed(pair.chain, payment(pair.chain, [coin(pair.chain, P2WPKH)], output)))


def again(pair: External, outpoint: OutPoint) -> Opened:
    opened = open_again(pair.payer, pair.chain, outpoint)
    assert isinstance(opened, Opened)
    return opened


def signed_again(pair: External, request: Opened) -> RefundSigned:
    return payee.sign_refund(pair.payee, pair.chain, psbt(request.hex))


def replaced(pair: External, phase: str) -> tuple[str, OutPoint]:
    """A channel whose funding was replaced in that phase, and where its money lies."""
    outpoint, output = coin(pair.chain, P2WPKH), pair.output()
    funding = payment(pair.chain, [outpoint], output, sequence=REPLACEABLE)
    bumped = signed(pair.chain, payment(pair.chain, [outpoint], output, fee=5_000))
    request = pair.take(funding)
    if phase != "asked":
        reply = pair.sign_refund(request.hex)
    if phase == "funded":
        pair.fund(reply, signed=signed(pair.chain, funding))
    return name_of(request), sent(pair, bumped)


def to_the_refund(pair: External, request: Opened) -> None:
    """The payer gets everything back, less the refund's fee."""
    before = balance_sat(pair.payer, pair.chain)
    name, value = name_of(request), request.funding_sat
    pair.mine_to(request.refund_lock_time)
    pair.refund(name)
    pair.chain.mine(1)
    assert views.show(pair.payer, pair.chain, name).status == "refunded"
    assert balance_sat(pair.payer, pair.chain) - before == value - REFUND_FEE


@pytest.mark.parametrize("phase", ["asked", "signed", "funded"])
def test_a_replaced_funding_becomes_a_channel(pair: External, phase: str) -> None:
    name, outpoint = replaced(pair, phase)
    if phase == "funded":
        [warning] = views.show(pair.payer, pair.chain, name).warnings
        assert f"mpchan payer open --again {outpoint}`" in warning
    request = again(pair, outpoint)
    assert (request.funding_txid, request.funding_vout) == (str(outpoint.txid), outpoint.vout)
    assert again(pair, outpoint) == request
    assert pair.warnings(name_of(request)) == ["funding-early"]
    reply = signed_again(pair, request)
    assert slugs_of(reply) == ([] if phase == "asked" else ["given-up"])
    assert signed_again(pair, request).hex == reply.hex
    pair.restart()
    done = pair.fund(reply.hex)
    assert (done.funding_txid, done.broadcast, done.hex) == (str(outpoint.txid), False, None)
    assert pair.fund(reply.hex) == done
    assert pair.status(name_of(request)) == ("open", "open")
    assert views.show(pair.payer, pair.chain, name).status == "abandoned"
    if phase != "asked":
        assert views.show(pair.payee, pair.chain, name).status == "abandoned"
    pair.accept(pair.pay(name_of(request), 1_000))
    pair.settle(pair.settlement(name_of(request), 2_000))
    pair.chain.mine(1)
    assert pair.status(name_of(request)) == ("closed", "closed")
    assert balance_sat(pair.payee, pair.chain) == 2_000


@pytest.mark.parametrize("phase", ["asked", "signed", "funded"])
def test_or_the_payer_takes_it_back(pair: External, phase: str) -> None:
    """With the payee gone as soon as it has signed."""
    _, outpoint = replaced(pair, phase)
    request = again(pair, outpoint)
    pair.fund(signed_again(pair, request).hex)
    to_the_refund(pair, request)


def test_a_request_that_is_too_old(pair: External) -> None:
    """The funding left before anybody had signed, and the payee was asked too late: another request serves."""
    funding = signed(pair.chain, payment(pair.chain, [coin(pair.chain, P2WPKH)], pair.output()))
    early = pair.take(funding)
    outpoint = sent(pair, funding)
    assert again(pair, outpoint).hex == early.hex
    pair.chain.mine(30)
    assert refused(lambda: pair.sign_refund(early.hex)) == ("refund-early", 4)
    request = again(pair, outpoint)
    assert request.refund_lock_time == early.refund_lock_time + 31
    pair.fund(signed_again(pair, request).hex)
    assert pair.status(name_of(request)) == ("open", "open")
    # there is one refund for an outpoint, whatever was asked for before
    assert refused(lambda: pair.sign_refund(early.hex)) == ("outpoint-signed", 4)
    assert again(pair, outpoint).hex == request.hex
    to_the_refund(pair, request)


@pytest.mark.parametrize("value", [700, VALUE - 99_000 - 400, 100_000_000 + 339])
def test_another_amount_than_any_channel_has(pair: External, value: int) -> None:
    """Less than the close costs, less than the offer wants, more than it wants: the refund, and no payment."""
    pair.offer_text = pair.offer(min_capacity_sat=50_000)
    pair.plan()
    outpoint = paid_again(pair, value) if value < 1_000_000 else large(pair, value)
    request = again(pair, outpoint)
    assert slugs_of(request) == ["refund-only"]
    reply = signed_again(pair, request)
    assert slugs_of(reply) == ["refund-only"]
    pair.fund(reply.hex)
    name = name_of(request)
    assert pair.status(name) == ("open", "abandoned")
    assert refused(lambda: pair.pay(name, 1_000)) == ("capacity", 5)
    update = forged_update(pair, name, min(request.capacity_sat, 1_000))
    assert update is None or refused(lambda: pair.accept(update)) == ("channel-abandoned", 5)
    to_the_refund(pair, request)


def test_an_offer_that_has_expired(pair: External, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its money comes back, and no payment is taken any more."""
    offered = payee.offer(pair.payee, pair.chain, dict(SHORT), expires_in=DAY)
    pair.offer_text = str(offered.toml)
    pair.plan()
    outpoint = paid_again(pair)
    later = time.time() + 2 * DAY
    monkeypatch.setattr("mpchan.party.common.time.time", lambda: later)
    request = again(pair, outpoint)
    reply = signed_again(pair, request)
    assert slugs_of(reply) == ["refund-only"]
    pair.fund(reply.hex)
    assert refused(lambda: pair.accept(pair.pay(name_of(request), 1_000))) == ("channel-abandoned", 5)
    to_the_refund(pair, request)


@pytest.mark.parametrize(("delay", "slug"), [(-1, "refund-early"), (10_000, "refund-late")])
def test_a_refund_at_another_time(pair: External, delay: int, slug: str) -> None:
    """What the offer says of a refund's time holds for this one too."""
    name, outpoint = replaced(pair, "signed")
    terms = pair.payer_record(name).terms
    least = terms.offer.min_refund_delay
    lock_time = Height(pair.chain.tip().height + least + delay)
    request = own_request(pair, name, outpoint, refund_lock_time=lock_time)
    assert refused(lambda: pair.sign_refund(request)) == (slug, 4)
    assert not pair.payee.channels.knows(outpoint)


def large(pair: External, value: int) -> OutPoint:
    source = coin(pair.chain, P2WPKH, value + 10_000)
    output = TxOut(Amount(value), pair.output().script_pubkey)
    return sent(pair, signed(pair.chain, payment(pair.chain, [source], output)))


def forged_update(pair: External, name: str, paid: int) -> str | None:
    """What a payer that has no such rule signs; None where no update can pay that."""
    if paid < 294:
        return None
    record = pair.payer_record(name)
    state = replace(payer_protocol.ever_funded(record.state), number=1, paid=Amount(paid))
    return payer_protocol.update_message(state, pair.payer.keys.key_of(record)).to_hex()  # type: ignore[arg-type]


def test_a_value_that_pays_for_no_refund(pair: External) -> None:
    pair.plan()
    assert refused(lambda: again(pair, paid_again(pair, 500))) == ("below-dust", 5)


# paid twice ---------------------------------------------------------------------------------------


def opened(pair: External) -> str:
    funding = payment(pair.chain, [coin(pair.chain, P2WPKH)], pair.output())
    name = pair.open_with(funding, signed(pair.chain, funding))
    pair.chain.mine(1)
    return name


def test_paid_twice(pair: External) -> None:
    """The channel goes on to its end; then the second payment is refunded, and is no channel."""
    name = opened(pair)
    pair.accept(pair.pay(name, 1_000))
    second = signed(pair.chain, payment(pair.chain, [coin(pair.chain, P2WPKH)], pair.output()))
    outpoint = sent(pair, second)
    assert refused(lambda: pair.take(second)) == ("offer-used", 5)
    assert refused(lambda: again(pair, outpoint)) == ("offer-used", 5)
    pair.settle(pair.settlement(name, 5_000))
    pair.chain.mine(1)
    request = again(pair, outpoint)
    reply = signed_again(pair, request)
    assert slugs_of(reply) == ["refund-only"]
    assert pair.status(name) == ("closed", "closed")
    pair.fund(reply.hex)
    assert refused(lambda: pair.accept(pair.pay(name_of(request), 1_000))) == ("channel-abandoned", 5)
    to_the_refund(pair, request)


def test_what_has_come_back_already(pair: External) -> None:
    """Asked by a copy of the wallet that does not know of the refund."""
    _, outpoint = replaced(pair, "signed")
    older = pair.payer.directory.with_name("older")
    shutil.copytree(pair.payer.directory, older)
    request = again(pair, outpoint)
    pair.fund(signed_again(pair, request).hex)
    to_the_refund(pair, request)
    assert refused(lambda: open_again(Wallet.open(older), pair.chain, outpoint)) == ("output-spent", 5)


# a payer that breaks the rules --------------------------------------------------------------------


def own_request(
    pair: External,
    name: str,
    outpoint: OutPoint,
    value: int = VALUE,
    *,
    proven: bool = True,
    **changes: object,
) -> str:
    """A request for an outpoint under the keys of a channel, whatever the payer's wallet thinks of it."""
    terms = pair.payer_record(name).terms
    delay = terms.offer.default_refund_delay
    lock_time = Height(pair.chain.tip().height + delay)
    made = Terms(terms.offer, outpoint, Amount(value), terms.payer_key, terms.payer_script, lock_time)
    state = payer_protocol.Opening(replace(made, **changes) if changes else made, None, (), external=True)
    key = pair.payer.keys.key_of(pair.payer_record(name)) if proven else None
    return refund_request(state, key).to_hex()


def test_a_payment_is_held(pair: External) -> None:
    """No second channel, and nothing changes in the first, be it an update that is held, or a close that waits."""
    name = opened(pair)
    outpoint = paid_again(pair)
    pair.accept(pair.pay(name, 1_000))
    ask = lambda: pair.sign_refund(own_request(pair, name, outpoint))  # noqa: E731
    before = pair.files()
    assert refused(ask) == ("offer-used", 4)
    assert pair.files() == before
    message = pair.settlement(name, 2_000)
    pair.accept(message)
    assert refused(ask) == ("offer-used", 4)
    pair.settle(message)
    assert refused(ask) == ("offer-used", 4)
    pair.chain.mine(1)
    pair.sign_refund(own_request(pair, name, outpoint))
    assert pair.payee_record(name).paid.sat == 2_000


def test_nobody_gets_a_funded_channel_given_up(pair: External) -> None:
    """Who has seen the request of a channel pays the least to its address: the channel goes on, payment after payment.

    All that such a request says is in that of the channel, and nobody has signed it.
    """
    name = opened(pair)
    outpoint = paid_again(pair, 1_000 + 338)
    reply = payee.sign_refund(pair.payee, pair.chain, psbt(own_request(pair, name, outpoint, 1_000 + 338)))
    assert slugs_of(reply) == ["refund-only"]
    pair.accept(pair.pay(name, 1_000))
    pair.settle(pair.settlement(name, 5_000))
    pair.chain.mine(1)
    assert pair.status(name) == ("closed", "closed")


@pytest.mark.parametrize("proof", ["none", "of another request", "of another key"])
@pytest.mark.parametrize("phase", ["asked", "signed", "funded"])
def test_nobody_else_takes_the_one_refund(pair: External, phase: str, proof: str) -> None:
    """Who has seen the request of a channel asks first, with a payout of its own: the payer would come too late."""
    name, outpoint = replaced(pair, phase)
    stranger = PrivateKey(bytes(31) + b"\x09")
    request = psbt(
        own_request(
            pair, name, outpoint, proven=False, payer_script=key_to_p2wpkh_script(stranger.public_key.sec)
        )
    )
    if proof == "of another request":
        earlier = refund_request(
            pair.payer_record(name).state, pair.payer.keys.key_of(pair.payer_record(name))
        )
        theirs = earlier.global_fields.proprietary(b"mpchan", 1) or b""
        request = request.with_proprietary(b"mpchan", 1, theirs)
    if proof == "of another key":
        request = with_proof(request, ChannelKey(stranger))
    before = pair.files()
    assert refused(lambda: pair.sign_refund(request.to_hex())) == ("unproven-request", 4)
    assert pair.files() == before
    pair.fund(signed_again(pair, again(pair, outpoint)).hex)


def test_nobody_else_asks_for_what_came_early(pair: External) -> None:
    """The payment left before anybody had signed a refund."""
    funding = signed(pair.chain, payment(pair.chain, [coin(pair.chain, P2WPKH)], pair.output()))
    request = pair.take(funding)
    bare = own_request(pair, name_of(request), OutPoint(funding.txid, 1), proven=False)
    for mined in (False, True):
        sent(pair, funding, mine=mined)
        assert refused(lambda: pair.sign_refund(bare)) == ("unproven-request", 4)
    pair.sign_refund(request.hex)


def test_a_key_of_another_channel(pair: External) -> None:
    """Under an offer that has served nobody, with money that makes no channel: a payer's key serves one offer."""
    first = pair.payer_record(opened(pair)).terms
    offer = Offer.from_toml(pair.offer(min_capacity_sat=50_000))
    output = replace(first, offer=offer, funding_value=Amount(700)).funding_txout
    outpoint = sent(pair, signed(pair.chain, payment(pair.chain, [coin(pair.chain, P2WPKH)], output)))
    request = own_request(pair, first.name, outpoint, 700, offer=offer)
    assert refused(lambda: pair.sign_refund(request)) == ("payer-key-used", 4)


def test_a_signed_refund_under_another_offer(pair: External) -> None:
    """What was signed is signed again under its own offer alone, or under none."""
    name = opened(pair)
    record = pair.payer_record(name)
    request = refund_request(record.state, pair.payer.keys.key_of(record))
    other = Offer.from_toml(pair.offer())
    mixed = with_offer(request, other).to_hex()
    assert refused(lambda: pair.sign_refund(mixed)) == ("outpoint-signed", 4)
    pair.sign_refund(request.to_hex())


def test_nobodys_word_counts(pair: External) -> None:
    """Without a chain that shows the money, a payee signs no second refund, whatever is said of confirmations."""
    name = opened(pair)
    request = own_request(pair, name, paid_again(pair))
    said = ManualChain(pair.chain.tip(), 10)
    assert refused(lambda: payee.sign_refund(pair.payee, said, psbt(request))) == ("offer-used", 4)


def test_never_payments_in_both(pair: External) -> None:
    """The second channel takes the first one's place, which takes nothing any more; and the other way round nothing."""
    name, first = replaced(pair, "funded")
    early = pair.payer_record(name)
    pair.sign_refund(own_request(pair, name, first))
    assert pair.payee_record(f"{first.txid}-{first.vout}").updates == 0
    # the refund of the first channel is given again, and revives nothing
    pair.sign_refund(refund_request(early.state).to_hex())
    assert isinstance(pair.payee_record(name).state, payee_protocol.Abandoned)
    second = paid_again(pair)
    assert slugs_of(payee.sign_refund(pair.payee, pair.chain, psbt(own_request(pair, name, second)))) == [
        "refund-only"
    ]
    states = [pair.payee_record(f"{outpoint.txid}-{outpoint.vout}").state for outpoint in (first, second)]
    assert [type(state) for state in states] == [payee_protocol.Active, payee_protocol.Abandoned]


def test_an_update_that_comes_between(pair: External, monkeypatch: pytest.MonkeyPatch) -> None:
    """An acceptance that ends while the refund is being judged counts: the rules are asked again under the lock."""
    name = opened(pair)
    outpoint = paid_again(pair)
    message, other = pair.pay(name, 1_000), Wallet.open(pair.payee.directory)
    lock = ChannelFiles.lock
    begun = []  # type: ignore[var-annotated]

    def accepting(self: ChannelFiles, channel: str, **options: bool) -> object:
        if self is pair.payee.channels and not begun:
            begun.append(payee.accept(other, pair.chain, psbt(message)))
        return lock(self, channel, **options)

    monkeypatch.setattr(ChannelFiles, "lock", accepting)
    # a server that does not show it yet
    monkeypatch.setattr(payee_rules, "_is_funded", lambda chain, record: False)
    assert refused(lambda: pair.sign_refund(own_request(pair, name, outpoint))) == ("offer-used", 4)
    assert pair.payee_record(name).paid.sat == 1_000
    assert not pair.payee.channels.knows(outpoint)


@pytest.mark.parametrize("case", ["unmined", "unseen", "spent", "value", "script", "key", "void"])
def test_what_the_payee_never_signs(pair: External, case: str) -> None:
    name = opened(pair)
    changes: dict[str, object] = {}
    value, slug = VALUE, "offer-used"
    if case == "unmined":
        output = pair.output()
        outpoint = sent(
            pair, signed(pair.chain, payment(pair.chain, [coin(pair.chain, P2WPKH)], output)), mine=False
        )
    elif case == "unseen":
        outpoint = OutPoint(pair.payer_record(name).terms.outpoint.txid, 7)
    elif case == "spent":
        outpoint = paid_again(pair)
        pair.sign_refund(own_request(pair, name, outpoint))
        slug = "outpoint-signed"
        changes = {"refund_lock_time": Height(pair.chain.tip().height + 30)}
    elif case == "value":
        outpoint, value = paid_again(pair), VALUE + 1
    elif case == "script":
        outpoint = coin(pair.chain, P2WPKH, VALUE)
    elif case == "key":
        key = PrivateKey(bytes(31) + b"\x09").public_key
        other = replace(pair.payer_record(name).terms, payer_key=key).funding_txout
        outpoint = sent(pair, signed(pair.chain, payment(pair.chain, [coin(pair.chain, P2WPKH)], other)))
        changes = {"payer_key": key}
    else:
        outpoint = paid_again(pair)
        (pair.payee.directory / "generation").unlink()
        slug = "offer-void"
    before = pair.files()
    assert refused(lambda: pair.sign_refund(own_request(pair, name, outpoint, value, **changes))) == (slug, 4)  # type: ignore[arg-type]
    assert pair.files() == before


# a payer that asks for what is not there ----------------------------------------------------------


def test_what_the_payer_is_told(pair: External) -> None:
    pair.plan()
    unseen = OutPoint(coin(pair.chain, P2WPKH).txid, 9)
    assert refused(lambda: again(pair, unseen)) == ("funding-unseen", 6)
    assert refused(lambda: again(pair, coin(pair.chain, P2WPKH))) == ("no-plan", 5)
    waiting = signed(pair.chain, payment(pair.chain, [coin(pair.chain, P2WPKH)], pair.output()))
    outpoint = sent(pair, waiting, mine=False)
    before = pair.files()
    assert refused(lambda: again(pair, outpoint)) == ("unconfirmed", 6)
    assert pair.files() == before
    pair.chain.mine(1)
    request = again(pair, outpoint)
    pair.fund(pair.sign_refund(request.hex))
    assert again(pair, outpoint).hex == request.hex
    assert refused(lambda: payer.abandon(pair.payer, pair.chain, name_of(request))) == ("funding-signed", 5)
    to_the_refund(pair, request)
    assert again(pair, outpoint).hex == request.hex


def test_a_reorganisation_takes_it_away(pair: External) -> None:
    """What is not on the chain when the reply comes is not called funded."""
    pair.plan()
    outpoint = paid_again(pair)
    request = again(pair, outpoint)
    reply = pair.sign_refund(request.hex)
    elsewhere = coin_of(pair, outpoint)
    pair.chain.reorganise(1, [elsewhere])
    assert refused(lambda: pair.fund(reply)) == ("funding-unseen", 6)


def coin_of(pair: External, outpoint: OutPoint) -> Transaction:
    """Another spend of the coin that a payment came from."""
    found = pair.chain.transaction(outpoint.txid)
    assert found is not None
    [source] = found[0].inputs
    return signed(pair.chain, payment(pair.chain, [source.outpoint], fee=9_000))


@pytest.mark.parametrize("stop", range(2))
def test_cut_short_anywhere_the_payee_goes_on(
    pair: External, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    """Each of its writes is the last one once: never are two channels open, and the same request ends it."""
    _, outpoint = replaced(pair, "funded")
    request = again(pair, outpoint)
    saves = 0

    def counted(save: object) -> object:
        def cut(self: ChannelFiles, *words: object, **options: object) -> None:
            nonlocal saves
            if saves == stop:
                raise KeyboardInterrupt
            saves += 1
            save(self, *words, **options)  # type: ignore[operator]

        return cut

    with monkeypatch.context() as patch:
        patch.setattr(ChannelFiles, "save", counted(ChannelFiles.save))
        with pytest.raises(KeyboardInterrupt):
            pair.sign_refund(request.hex)
    pair.restart()
    open_ones = [
        record for record in pair.payee.channels.readable() if isinstance(record.state, payee_protocol.Active)
    ]
    assert len(open_ones) <= 1
    pair.fund(pair.sign_refund(request.hex))
    states = [type(record.state) for record in pair.payee.channels.readable()]
    assert sorted(kind.__name__ for kind in states) == ["Abandoned", "Active"]
    assert pair.status(name_of(request)) == ("open", "open")
