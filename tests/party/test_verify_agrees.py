"""``verify`` and the commands agree about every message: it says accepted if and only if one of them takes it.

Messages are real ones, bent at random: fields of the transaction, fields around it, who signed it, single bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from support.party import Pair, psbt
from support.protocol import (
    FINAL_WITNESS,
    PARTIAL_SIG,
    REDEEM_SCRIPT,
    SIGHASH_TYPE,
    STRANGER_SECRET,
    UTXO,
    WITNESS_SCRIPT,
    bent,
    message,
    payout,
    private_key,
    replace,
    scheme_of,
    sign,
    with_high_s,
)

from mpchan.bitcoin.message import decode_message
from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.tx import Transaction, TxIn, TxOut
from mpchan.chain.base import Chain
from mpchan.chain.embedded import EmbeddedChain
from mpchan.chain.manual import ManualChain
from mpchan.channel.offer import Offer
from mpchan.channel.terms import Terms
from mpchan.errors import MpchanError, ParseError
from mpchan.party import payee, payer
from mpchan.party.check import verify
from mpchan.results.opening import Opened
from mpchan.units import Amount, ChainTip, OutPoint, Txid
from mpchan.wallet.wallet import Wallet


class Scene:
    """One channel that is open and holds update 2, one whose refund is signed, one that is only asked for."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.open = pair.open(step=3)
        self.terms = pair.terms(self.open)
        signed = pair.request()
        self.reply = pair.sign_refund(signed.hex)
        asked = pair.request()
        self.secured = self._terms(signed)
        self.asked = self._terms(asked)
        pair.accept(self.update(2, 5000).to_hex())
        self.directories = (pair.payer.directory, pair.payee.directory)

    def _terms(self, request: Opened) -> Terms:
        return self.pair.payer_record(f"{request.funding_txid}-{request.funding_vout}").terms

    def update(self, number: int, paid: int) -> Psbt:
        secret = self.pair.payer_secret(self.open)
        transaction = scheme_of(self.terms).update(number, Amount(paid))
        return message(
            self.terms, transaction, {secret.public_key.sec: sign(secret, self.terms, transaction)}
        )

    def restore(self, files: dict[str, bytes]) -> None:
        """Both wallets as they were."""
        for path in self.pair.files():
            if path not in files:
                Path(path).unlink()
        for path, content in files.items():
            Path(path).write_bytes(content)


@pytest.fixture(scope="module")
def scene(chain_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with EmbeddedChain(chain_directory) as chain:
        yield Scene(Pair(tmp_path_factory.mktemp("pair"), chain, coins=3))


def answer(command: Callable[[], object]) -> tuple[str, int] | None:
    """The slug and exit code of a refusal; None where the message is taken."""
    try:
        command()
    except MpchanError as error:
        return error.slug, error.exit_code
    return None


def compare(
    scene: Scene, wallet: Wallet, sent: Psbt | Transaction, stands: tuple[int, int] | None = None
) -> None:
    """The verdict against every command that could take the message, each on the same wallet.

    Args:
        stands: tip, above the one where the channels began, and confirmations, as the user states them; None asks
            the embedded chain.
    """
    chain: Chain = scene.pair.chain
    if stands is not None:
        chain = ManualChain(ChainTip(chain.tip().height + stands[0], 1_600_000_000), stands[1])
    before = scene.pair.files()
    verdict = verify.verify(wallet, chain, sent)
    assert scene.pair.files() == before
    commands: dict[str, Callable[[], object]]
    if isinstance(sent, Transaction):
        commands = {"funding": lambda: payee.funding(wallet, chain, sent)}
    else:
        commands = {
            "refund-request": lambda: payee.sign_refund(wallet, chain, sent),
            "signed-refund": lambda: payer.fund(wallet, chain, sent, send=False),
            "update": lambda: payee.accept(wallet, chain, sent),
        }
        commands["settlement"] = commands["update"]
    answers = {}
    for kind, command in commands.items():
        answers[kind] = answer(command)
        if answers[kind] is None:
            scene.restore(before)
        else:
            assert scene.pair.files() == before
    said = None if verdict.accepted else (verdict.error, verdict.exit_code)
    assert said == answers[verdict.kind], (verdict, answers)
    assert verdict.accepted is (None in answers.values()), (verdict, answers)


# random messages ----------------------------------------------------------------------------------

SOURCES = ("update", "update", "settlement", "request", "reply", "refund", "funding")
TOTALS = (0, 100, 4999, 5000, 5009, 7000, 99_999, 100_000)
SIGNERS = ("payer", "payee", "stranger")


@st.composite
def bends(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """Changes of a transaction; most messages get one, some none."""
    lock_time = st.one_of(
        st.integers(-4, 4).map(lambda by: ("lock_time_by", by)),
        st.sampled_from([0, 1, 499_999_999, 500_000_000, 0xFFFFFFFF]).map(lambda to: ("lock_time", to)),
    )
    output = st.tuples(
        st.just("output"), st.tuples(st.integers(0, 1), st.sampled_from([-5000, -1000, -1, 1, 1000]))
    )
    other = st.sampled_from(
        [
            ("sequence", 0xFFFFFFFF),
            ("sequence", 0xFFFFFFFE),
            ("sequence", 5),
            ("version", 1),
            ("version", 3),
            ("outpoint", "sibling"),
            ("outpoint", "unknown"),
            ("script", (0, "stranger")),
            ("script", (1, "stranger")),
            ("script", (0, "payee")),
            ("drop", 0),
            ("drop", 1),
            ("double", 0),
            ("input", None),
        ]
    )
    return draw(st.lists(st.one_of(lock_time, output, other), max_size=2))


def bend(scene: Scene, transaction: Transaction, name: str, value: Any) -> Transaction:
    outputs = list(transaction.outputs)
    if name == "lock_time_by":
        return bent(transaction, lock_time=min(max(0, transaction.lock_time + value), 0xFFFFFFFF))
    if name == "outpoint":
        sibling = OutPoint(Txid(bytes(32)), 0) if value == "unknown" else scene.secured.outpoint
        return bent(transaction, outpoint=sibling)
    if name in ("lock_time", "sequence", "version"):
        return bent(transaction, **{name: value})
    if name == "input":
        extra = TxIn(OutPoint(Txid(b"\1" * 32), 0), 0xFFFFFFFD)
        return replace(transaction, inputs=(*transaction.inputs, extra))
    if name == "double":
        return replace(transaction, outputs=(*outputs, outputs[0]))
    index = value if name == "drop" else value[0]
    if index >= len(outputs):
        return transaction
    if name == "drop":
        del outputs[index]
    elif name == "output":
        outputs[index] = replace(outputs[index], value=Amount(max(0, outputs[index].value.sat + value[1])))
    else:
        offer_script = scene.terms.offer.payee_script
        script = payout("p2wpkh", "stranger") if value[1] == "stranger" else offer_script
        outputs[index] = replace(outputs[index], script_pubkey=script)
    return replace(transaction, outputs=tuple(outputs))


FIELDS: list[dict[bytes, bytes | None]] = [
    {},
    {},
    {},
    {UTXO: None},
    {UTXO: TxOut(Amount(1), b"\x51").to_bytes()},
    {SIGHASH_TYPE: None},
    {SIGHASH_TYPE: b"\x02\0\0\0"},
    {WITNESS_SCRIPT: None},
    {WITNESS_SCRIPT: b"\x51"},
    {REDEEM_SCRIPT: b"\x51"},
    {FINAL_WITNESS: b"\0"},
    {PARTIAL_SIG + STRANGER_SECRET.public_key.sec: b"\x30\x01"},
]


def source(scene: Scene, name: str, number: int, total: int) -> tuple[Terms, Transaction, str]:
    """Terms, a good transaction under them, and who has to sign it."""
    terms = {"request": scene.asked, "reply": scene.secured}.get(name, scene.terms)
    built = scheme_of(terms)
    good = {
        "update": lambda: built.update(number, Amount(total)),
        "settlement": lambda: built.settlement(Amount(total)),
    }.get(name, built.refund)()
    return terms, good, "payee" if name in ("reply", "refund") else "payer"


def secret_of(scene: Scene, who: str, terms: Terms) -> Any:
    if who == "stranger":
        return STRANGER_SECRET
    if who == "payer":
        return scene.pair.payer_secret(terms.name)
    own = scene.pair.payee.offers.for_keys((terms.offer.payee_key.sec, terms.offer.payee_key.sec))
    assert own is not None
    return scene.pair.payee.keys.key_of_offer(own)._private_key


@st.composite
def recipes(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "source": draw(st.sampled_from(SOURCES)),
        "number": draw(st.integers(1, 5)),
        "total": draw(st.sampled_from(TOTALS)),
        "stands": draw(
            st.none() | st.tuples(st.sampled_from([0, 20, 36, 37, 38, 42, 43]), st.integers(0, 2))
        ),
        "bends": draw(bends()),
        "signer": draw(st.sampled_from([None, None, None, *SIGNERS, "nobody"])),
        "sighash": draw(st.sampled_from([1, 1, 1, 1, 2, 3, 0x81])),
        "high_s": draw(st.integers(0, 9)) == 0,
        "stale": draw(st.integers(0, 4)) == 0,
        "fields": draw(st.sampled_from(FIELDS)),
    }


def cooked(scene: Scene, recipe: dict[str, Any]) -> Psbt | Transaction:
    if recipe["source"] == "funding":
        funding = scene.pair.payer_record(scene.open).state.funding
        for name, value in recipe["bends"]:
            funding = bend(scene, funding, name, value)  # type: ignore[arg-type]
        return funding  # type: ignore[return-value]
    terms, good, signer = source(scene, recipe["source"], recipe["number"], recipe["total"])
    transaction = good
    for name, value in recipe["bends"]:
        transaction = bend(scene, transaction, name, value)
    signer = recipe["signer"] or ("nobody" if recipe["source"] == "request" else signer)
    signatures = {}
    if signer != "nobody":
        secret = secret_of(scene, signer, terms)
        made = sign(secret, terms, good if recipe["stale"] else transaction, sighash=recipe["sighash"])
        signatures[secret.public_key.sec] = with_high_s(made) if recipe["high_s"] else made
    return message(terms, transaction, signatures, recipe["fields"])


GOOD: dict[str, Any] = {
    "number": 4,
    "total": 7000,
    "stands": None,
    "bends": [],
    "signer": None,
    "sighash": 1,
    "high_s": False,
    "stale": False,
    "fields": {},
}


@given(recipe=recipes())
@example(recipe={"source": "update", **GOOD})
@example(recipe={"source": "request", **GOOD})
@example(recipe={"source": "reply", **GOOD})
@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_verify_accepts_what_a_command_takes_and_nothing_else(scene: Scene, recipe: dict[str, Any]) -> None:
    sent = cooked(scene, recipe)
    compare(scene, scene.pair.payee, sent, recipe["stands"])
    compare(scene, scene.pair.payer, sent, recipe["stands"])


@given(
    name=st.sampled_from(["update", "request", "reply", "funding"]),
    flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=2),
)
@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_verify_and_the_commands_agree_on_flipped_bytes(
    scene: Scene, name: str, flips: list[tuple[int, int]]
) -> None:
    data = bytearray(cooked(scene, {"source": name, **GOOD}).to_bytes())
    for position, mask in flips:
        data[position % len(data)] ^= mask
    try:
        sent = decode_message(data.hex().encode())
    except ParseError:
        assume(False)
    compare(scene, scene.pair.payee, sent)
    compare(scene, scene.pair.payer, sent)


def test_the_good_ones_are_accepted(scene: Scene) -> None:
    """The property does not hold only because everything is refused."""
    pair = scene.pair
    for name, wallet in (
        ("update", pair.payee),
        ("settlement", pair.payee),
        ("request", pair.payee),
        ("reply", pair.payer),
        ("refund", pair.payer),
        ("funding", pair.payee),
    ):
        verdict = verify.verify(wallet, pair.chain, cooked(scene, {"source": name, **GOOD}))
        assert verdict.accepted is True, (name, verdict)
    assert psbt(scene.reply) == cooked(scene, {"source": "reply", **GOOD})


def test_a_funding_whose_first_output_somebody_else_claimed(scene: Scene) -> None:
    """One channel of the transaction's outputs takes it: so says the verdict, whatever stands on the others."""
    pair = scene.pair
    coin = pair.payer_record(scene.asked.name).funding
    assert coin is not None
    sink = TxOut(Amount(1000), payout("p2wpkh", "stranger"))
    before = pair.files()
    offers = [Offer.from_toml(pair.offer()) for _ in range(2)]
    keys = [STRANGER_SECRET.public_key, private_key("another").public_key]
    channel = replace(scene.asked, offer=offers[1], payer_key=keys[1])
    transaction = replace(coin, outputs=(sink, channel.funding_txout))
    for vout in (0, 1):
        outpoint = OutPoint(transaction.txid, vout)
        asked = replace(scene.asked, offer=offers[vout], payer_key=keys[vout], outpoint=outpoint)
        payee.sign_refund(pair.payee, pair.chain, message(asked, scheme_of(asked).refund()))
    compare(scene, pair.payee, transaction)
    verdict = verify.verify(pair.payee, pair.chain, transaction)
    assert (verdict.accepted, verdict.channel) == (True, channel_id(transaction))
    scene.restore(before)


def channel_id(transaction: Transaction) -> str:
    return str(transaction.txid)[:16]


def test_a_funding_that_lost_its_coin(scene: Scene) -> None:
    """It was signed and did not leave; another spend of its coin waits for a block, and then is in one."""
    pair = scene.pair
    pair.coin()
    request = pair.request()
    reply = psbt(pair.sign_refund(request.hex))
    pair.fund(reply.to_hex(), send=False)
    record = pair.payer_record(f"{request.funding_txid}-0")
    assert record.funding is not None
    back = TxOut(Amount(500_000), payout("p2wpkh", "payer"))
    rival = replace(record.funding.without_witness(), outputs=(back,))
    pair.chain.broadcast(pair.payer.keys.sign_coins(rival, record.state.spent))
    for slug, code in (("funding-conflict", 6), ("funding-void", 5)):
        compare(scene, pair.payer, reply)
        verdict = verify.verify(pair.payer, pair.chain, reply)
        assert (verdict.accepted, verdict.error, verdict.exit_code) == (False, slug, code)
        pair.chain.mine(1)
