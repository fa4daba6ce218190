"""Targets: whole commands, each given a mutated message as a file, on wallets in the middle of their story.

What is refused has a slug and an exit code, prints nothing and changes no file, and ``verify`` refuses it too. What is
taken is the one transaction that the terms allow, built here from plain numbers, and Bitcoin Core's engine takes every
complete transaction that the command made of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from support.fuzz.driver import Target
from support.fuzz.mutations import (
    Input,
    Raw,
    bent_psbt,
    bent_text,
    bent_toml,
    bent_transaction,
    parse_psbt,
    parse_raw,
)
from support.fuzz.world import HELD, Ended, World, world
from support.judge import Judge, channel_output
from support.protocol import witness_script

from mpchan.bitcoin.message import decode_message
from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.sighash import segwit_v0_sighash
from mpchan.bitcoin.signature import PrivateKey
from mpchan.bitcoin.tx import Transaction
from mpchan.channel.offer import Offer
from mpchan.channel.terms import Terms
from mpchan.errors import MpchanError
from mpchan.units import Amount
from mpchan.wallet.wallet import Wallet

_VERSION, _SEQUENCE = 3, 0xFFFF_FFFD
_STEP, _WINDOW = 3, 6
_DUST_P2WPKH = 294


class Took(AssertionError):
    """A message that no rebuilding would give was accepted."""


class Declined(MpchanError):
    """A refusal, as the command line told of it."""

    def __init__(self, told: dict[str, Any]) -> None:
        # JSON escapes what is no text; so does a terminal's stream
        message = told["message"].encode("utf-8", "backslashreplace").decode()
        super().__init__(told["error"], message, hint=told["hint"])
        self.exit_code = told["exit_code"]


# the rebuilding, from plain numbers ---------------------------------------------------------------


def rebuilt_close(terms: Terms, paid: int, lock_time: int) -> bytes:
    """Update or settlement: capacity less ``paid`` to the payer, ``paid`` to the payee, no dust to the payer."""
    rest = terms.capacity.sat - paid
    outputs = [(rest, terms.payer_script)] if rest >= _DUST_P2WPKH else []
    outputs += [(paid, terms.offer.payee_script)] if paid else []
    return _spend(terms, tuple(outputs), lock_time)


def _spend(terms: Terms, outputs: tuple[tuple[int, bytes], ...], lock_time: int) -> bytes:
    outpoint = terms.outpoint.txid.wire + terms.outpoint.vout.to_bytes(4, "little")
    return Raw(_VERSION, (Input(outpoint, b"", _SEQUENCE),), outputs, lock_time).to_bytes()


def expect(found: bytes, wanted: bytes) -> None:
    """The same transaction."""
    if found != wanted:
        raise Took(f"{found.hex()} is not {wanted.hex()}")


def unsigned_of(message: bytes) -> bytes:
    """The transaction of a message, whatever its form, without witnesses."""
    found = decode_message(message)
    transaction = found.tx if isinstance(found, Psbt) else found
    return transaction.to_bytes(include_witness=False)


def judged(text: str, terms: Terms) -> Transaction:
    """A complete spend of a channel's output, which the engine takes."""
    transaction = Transaction.from_hex(text)
    keys = (terms.payer_key.sec, terms.offer.payee_key.sec)
    Judge().check(transaction, [channel_output(terms.funding_value.sat, *keys)])
    return transaction


# what a command must have done --------------------------------------------------------------------


def accepted(place: World, message: bytes, ended: Ended) -> None:
    """An update or a settlement: of the open channel, for at least what is held."""
    terms, answer = place.terms["open"], ended.answer
    paid, lock_time = answer["paid_sat"], answer["lock_time"]
    expect(unsigned_of(message), rebuilt_close(terms, paid, lock_time))
    number, total = HELD
    if lock_time:
        first = terms.refund_lock_time.value - _WINDOW
        assert lock_time == first - _STEP * answer["update"], answer
        assert answer["update"] >= number, answer
    assert paid >= total, answer
    assert answer["received_sat"] == paid - total, answer
    body = Wallet.open(place.wallets["payee"]).channels.load(terms.name).fields()
    kept = body["update"] if lock_time else body["settlement"]
    assert kept["paid_sat"] == paid
    expect(judged(kept["tx"], terms).to_bytes(include_witness=False), unsigned_of(message))


def settled(place: World, message: bytes, ended: Ended) -> None:
    """A settlement, complete."""
    terms, answer = place.terms["open"], ended.answer
    assert answer["paid_sat"] >= HELD[1]
    expect(unsigned_of(message), rebuilt_close(terms, answer["paid_sat"], 0))
    expect(judged(answer["hex"], terms).to_bytes(include_witness=False), unsigned_of(message))


def refund_signed(place: World, message: bytes, ended: Ended) -> None:
    """A refund request: every number in it within the offer's limits, and all else rebuilt."""
    psbt = decode_message(message)
    assert isinstance(psbt, Psbt)
    raw, fields = parse_raw(psbt.tx.to_bytes()), dict(psbt.inputs[0].pairs)
    offers = [known.terms.offer for known in Wallet.open(place.wallets["payer"]).channels.readable()]
    script = fields[b"\x05"]
    [offer] = [each for each in offers if each.payee_key.sec in script]
    value = int.from_bytes(fields[b"\x01"][:8], "little")
    [key] = {script[2:35], script[36:69]} - {offer.payee_key.sec}
    assert channel_output(value, key, offer.payee_key.sec).to_bytes() == fields[b"\x01"], "the one 2-of-2"
    ((refunded, payout),) = raw.outputs
    reserve, fee = _fees(offer, payout)
    assert offer.min_capacity.sat <= value - reserve <= offer.max_capacity.sat
    wanted = Raw(
        _VERSION,
        (replace(raw.inputs[0], sequence=_SEQUENCE, script=b""),),
        ((value - fee, payout),),
        raw.lock_time,
    )
    expect(psbt.tx.to_bytes(), wanted.to_bytes())
    assert offer.min_refund_delay <= raw.lock_time - place.tip.height <= offer.max_refund_delay
    expect(unsigned_of(ended.answer["hex"].encode()), psbt.tx.to_bytes())
    reply = decode_message(ended.answer["hex"].encode())
    assert isinstance(reply, Psbt)
    _completed_by(place.secrets["payer-asked"], reply, script, value, key)
    del refunded


def _fees(offer: Offer, payout: bytes) -> tuple[int, int]:
    """Reserve and fee of the refund: 169 and 138 virtual bytes where both outputs have 31 bytes."""
    other, payee = len(payout) - 22, len(offer.payee_script) - 22
    rate = offer.fee_rate.sat_per_kvb
    return -(-rate * (169 + other + payee) // 1000), -(-rate * (138 + other) // 1000)


def _completed_by(secret: PrivateKey, reply: Psbt, script: bytes, value: int, key: bytes) -> None:
    """The payee's signature is good: with the payer's own the engine takes the refund."""
    [(signer, signature)] = reply.inputs[0].partial_sigs.items()
    if secret.public_key.sec != key:
        return  # somebody else's: its owner could complete it, we cannot
    own = secret.sign(segwit_v0_sighash(reply.tx, 0, script, Amount(value), 1)) + b"\x01"
    both = {signer: signature, key: own}
    stack = (b"", *(both[each] for each in (script[2:35], script[36:69])), script)
    Judge().check(reply.tx.with_witness(0, stack), [channel_output(value, key, signer)])


def funded(place: World, message: bytes, ended: Ended) -> None:
    """A signed refund: the very transaction that was asked for, complete now."""
    _refund_kept(place, "payer", place.terms["signed"], place.messages["reply"])
    expect(unsigned_of(message), unsigned_of(place.messages["reply"]))
    assert ended.answer["broadcast"] is False


def _refund_kept(place: World, wallet: str, terms: Terms, request: bytes) -> None:
    body = Wallet.open(place.wallets[wallet]).channels.load(terms.name).fields()
    expect(judged(body["refund_tx"], terms).to_bytes(include_witness=False), unsigned_of(request))


def funded_elsewhere(place: World, message: bytes, ended: Ended) -> None:
    """The funding that another wallet signed: the one that the refund spends, and its witnesses are good."""
    _refund_kept(place, "external", place.terms["external"], place.messages["foreign-reply"])
    expect(unsigned_of(message), unsigned_of(place.messages["foreign-transaction"]))
    funding = Transaction.from_hex(ended.answer["hex"])
    asked = Psbt.from_bytes(place.messages["foreign-psbt"])
    Judge().check(funding, [asked.spent_output(0)])


def opened_elsewhere(place: World, message: bytes, ended: Ended) -> None:
    """A funding of another wallet, unsigned or not: it pays the plan's output, and the refund spends that."""
    answer = ended.answer
    raw = parse_raw(unsigned_of(message))
    [plan] = Wallet.open(place.wallets["planner"]).plans
    wanted = (plan.output.value.sat, plan.output.script_pubkey)
    assert raw.outputs[answer["funding_vout"]] == wanted
    assert [output for output in raw.outputs if output[1] == wanted[1]] == [wanted], "just one"
    assert all(not source.script for source in raw.inputs)
    refund = parse_raw(unsigned_of(answer["hex"].encode()))
    assert refund.inputs[0].outpoint == _txid(message) + answer["funding_vout"].to_bytes(4, "little")


def _txid(message: bytes) -> bytes:
    return Transaction.from_bytes(unsigned_of(message)).txid.wire


def funding_taken(place: World, message: bytes, ended: Ended) -> None:
    """The funding by file: the one that the refund spends."""
    terms = next(each for each in place.terms.values() if each.channel_id == ended.answer["channel"])
    assert _txid(message) == terms.outpoint.txid.wire
    [output] = [parse_raw(unsigned_of(message)).outputs[terms.outpoint.vout]]
    wanted = channel_output(terms.funding_value.sat, terms.payer_key.sec, terms.offer.payee_key.sec)
    assert output == (wanted.value.sat, wanted.script_pubkey)


def planned(place: World, message: bytes, ended: Ended) -> None:
    """An offer: the plan is made of what it says."""
    offer = Offer.from_toml(message.decode())
    assert ended.answer["offer_id"] == offer.offer_id
    assert ended.answer["payee_pubkey"] == offer.payee_key.sec.hex()
    assert offer.min_capacity.sat <= 20_000 <= offer.max_capacity.sat


# one input ----------------------------------------------------------------------------------------

Judgement = Callable[[World, bytes, Ended], None]


def command(
    wallet: str, words: Sequence[str], judge: Judgement, *, verify: bool = True
) -> Callable[[bytes], None]:
    """A target's ``run``; ``FILE`` among the words stands for the message, ``REPLY`` for the refund that fits."""

    def run(data: bytes) -> None:
        place = world()
        path = place.file(data)
        files = {"FILE": str(path), "REPLY": str(path.with_name("reply"))}
        path.with_name("reply").write_bytes(place.messages["foreign-reply"])
        verdict = place.run(wallet, "verify", path, *place.stands()) if verify else None
        try:
            if verdict is not None:
                assert not place.changed(wallet), "verify has changed something"
            ended = place.run(wallet, *[files.get(word, word) for word in words], *place.stands())
            if ended.code:
                refused(place, wallet, ended, verdict)
            assert verdict is None or verdict.code == 0, verdict
            judge(place, data, ended)
        finally:
            place.put_back(wallet)

    return run


def refused(place: World, wallet: str, ended: Ended, verdict: Ended | None) -> None:
    """Nothing printed, nothing changed, and the verdict the same.

    Raises:
        Declined: always.
    """
    assert ended.code not in (0, 1), ended
    assert ended.out == "", ended
    assert not place.changed(wallet), ended
    told = json.loads(ended.err)
    assert told["exit_code"] == ended.code
    # verify asks which command would take it: another one may
    of_another = verdict is not None and verdict.code == 0
    kinds = (
        "not-payee",
        "not-payer",
        "extra-signature",
        "unknown-channel",
        "channel-exists",
        "missing-signature",
    )
    assert not of_another or told["error"] in (
        *kinds,
        "not-a-psbt",
        "not-a-transaction",
        "not-a-settlement",
    ), (
        told,
        verdict,
    )
    raise Declined(told)


def verified(data: bytes) -> None:
    """``verify`` in both wallets, and ``inspect``: an answer or a refusal, and nothing changed."""
    place, taken = world(), False
    path = place.file(data)
    for wallet in ("payee", "payer"):
        ended = place.run(wallet, "verify", path, *place.stands())
        assert ended.code != 1, ended
        assert not place.changed(wallet), ended
        taken = taken or ended.code == 0
        if ended.out:
            assert ended.answer["exit_code"] == ended.code
    ended = place.run("payee", "inspect", path)
    assert ended.code in (0, 3), ended
    if ended.code and not taken:
        raise Declined(json.loads(ended.err))


# words --------------------------------------------------------------------------------------------

_LINES = (
    "show 0123abcd",
    "--json pay 1500sat --channel 0123",
    "payer pay --total 0.00001btc",
    "send bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080 1500 --fee-rate 1.5",
    "payee offer --min-capacity 1000 --memo text --lock-time-unit seconds --force",
    "payee settle --tip 120:1700000000 --confirmations 3",
    "payer refund --channel 0123abcd --tip 5000",
    "wait 0123 --for confirmed --timeout 0 --tip 120 --confirmations 1",
    "list --tip 119:1296757002 --confirmations 1",
    "balance",
    "verify --channel 01 nothing",
    "payer open offer.toml 20000 --refund-delay 30 --address bcrt1q",
)


def command_line(data: bytes) -> None:
    """Words: whatever they are, an answer or a refusal. A wallet may change where they are an order."""
    place = world()
    words = [word for word in data.decode("utf-8", "surrogateescape").split(" ") if "\0" not in word]
    if any(word.startswith(("--wall", "-o", "--o", "--refund-o")) for word in words):
        return  # these write where they are told to
    try:
        for wallet in ("payer", "payee"):
            ended = place.run(wallet, *words)
            assert ended.code in range(9), ended
            assert not ended.code or ended.out == "" or "verify" in words, ended
            ended.err.encode()
        if ended.code:
            raise Declined(json.loads(ended.err))
    finally:
        place.put_back("payer")
        place.put_back("payee")


# mutators -----------------------------------------------------------------------------------------


def bent_by(who: str, terms: str) -> Callable[[Random, bytes], bytes]:
    """A party that holds its own key: half of what it bends it signs anew."""

    def mutate(random: Random, data: bytes) -> bytes:
        if random.randrange(12) == 0:
            return bent_text(random, data.hex().encode())
        made = bent_psbt(random, data)
        return signed_anew(made, who, terms) if random.randrange(2) else made

    return mutate


def signed_anew(data: bytes, who: str, terms: str) -> bytes:
    """A PSBT with a good signature of the transaction that it holds, if it can have one."""
    place = world()
    secret, channel = place.secrets[who], place.terms[terms]
    try:
        psbt = parse_psbt(data)
        transaction = Transaction.from_bytes(psbt.transaction.to_bytes(), allow_witness=False)
        digest = segwit_v0_sighash(transaction, 0, witness_script(channel), channel.funding_value, 1)
    except (ValueError, IndexError, MpchanError):
        return data
    if len(psbt.maps) < 2:
        return data
    key = b"\x02" + secret.public_key.sec
    psbt.maps[1] = [pair for pair in psbt.maps[1] if pair[0] != key]
    psbt.maps[1].append((key, secret.sign(digest) + b"\x01"))
    return psbt.to_bytes()


def bent_funding(random: Random, data: bytes) -> bytes:
    """A funding in either form."""
    return (bent_psbt if data.startswith(b"psbt") else bent_transaction)(random, data)


def bent_any(random: Random, data: bytes) -> bytes:
    """Any message."""
    if data.startswith(b"psbt"):
        return bent_by("payer", "open")(random, data)
    return bent_toml(random, data) if data.startswith(b"version") else bent_funding(random, data)


def _real(*names: str) -> Callable[[], list[bytes]]:
    return lambda: [world().messages[name] for name in names]


def _lines() -> list[bytes]:
    real = world().terms["open"].channel_id
    return [line.replace("0123abcd", real).encode() for line in _LINES]


def _all() -> list[bytes]:
    return list(world().messages.values())


_UPDATES = _real("update", "held", "all", "settlement")

_OPEN = ("payer", "open", "--funding", "FILE")
_FUND = ("payer", "fund", "FILE", "--no-broadcast")
_FUND_ELSEWHERE = ("payer", "fund", "REPLY", "--no-broadcast", "--funding", "FILE")
_PLAN = ("payer", "open", "FILE", "20000", "--external")
_PLANNED = _real("planned-psbt", "planned-signed-psbt", "planned-transaction")
_FOREIGN = _real("foreign-signed-psbt", "foreign-transaction", "foreign-psbt")


PATHS = [
    Target(
        "accept", command("payee", ("payee", "accept", "FILE"), accepted), _UPDATES, bent_by("payer", "open")
    ),
    Target(
        "settle", command("payee", ("payee", "settle", "FILE"), settled), _UPDATES, bent_by("payer", "open")
    ),
    Target(
        "sign-refund",
        command("payee", ("payee", "sign-refund", "FILE"), refund_signed),
        _real("request"),
        bent_by("payer-asked", "asked"),
    ),
    Target("fund", command("payer", _FUND, funded), _real("reply"), bent_by("payee-signed", "signed")),
    Target(
        "fund-elsewhere",
        command("external", _FUND_ELSEWHERE, funded_elsewhere, verify=False),
        _FOREIGN,
        bent_funding,
    ),
    Target(
        "open-elsewhere", command("planner", _OPEN, opened_elsewhere, verify=False), _PLANNED, bent_funding
    ),
    Target("open", command("planner", _PLAN, planned, verify=False), _real("offer"), bent_toml),
    Target(
        "payee-funding",
        command("payee", ("payee", "funding", "FILE"), funding_taken),
        _real("funding"),
        bent_transaction,
    ),
    Target("verify", verified, _all, bent_any),
    Target("command-line", command_line, _lines, bent_text),
]
