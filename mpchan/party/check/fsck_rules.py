"""What must be true of a channel in this wallet's files, whatever the chain says."""

from __future__ import annotations

from collections.abc import Iterator

from mpchan import durability
from mpchan.bitcoin.message import decode_message
from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.script import key_to_p2wpkh_script, p2wpkh_script_code
from mpchan.bitcoin.sighash import SIGHASH_ALL, segwit_v0_sighash
from mpchan.bitcoin.signature import PublicKey
from mpchan.bitcoin.tx import Transaction, TxOut
from mpchan.channel import payee, payer
from mpchan.channel.construction.base import REFUND
from mpchan.channel.messages import complete_rules, message_rules, same_transaction_rules
from mpchan.channel.rules import Check, Rule, enforce
from mpchan.channel.taking import incoming_rules
from mpchan.channel.terms import Terms
from mpchan.errors import AsStorageError, MpchanError, StorageError
from mpchan.party.opening.terms import published_for, terms_of
from mpchan.units import Txid
from mpchan.wallet.journal import Body, Entry, fold
from mpchan.wallet.keys import Keys
from mpchan.wallet.offers import GENERATION_FILE
from mpchan.wallet.payee_record import PayeeRecord
from mpchan.wallet.payer_record import PayerRecord
from mpchan.wallet.records import message_in, record_of
from mpchan.wallet.recovery import set_aside
from mpchan.wallet.wallet import Wallet

RESIGNED = "re-signed"
"""The event of a channel whose own signatures were made again; its message is the payer's latest update."""


def own_rule(slug: str, ok: bool, text: str = "", expected: object = "", found: object = "") -> Rule:
    """A rule of the wallet's own files: what breaks it is damage."""
    return Rule(slug, ok, text, expected, found, StorageError)


def record_rules(record: PayerRecord | PayeeRecord, wallet: Wallet) -> Check[None]:
    """The stored transactions are those that the terms allow, and the signatures in them are good."""
    keys = wallet.keys
    yield from index_rules(record.key_index, keys)
    wallet.keys.key_of(record)
    yield own_rule("wrong-keys", True)
    if isinstance(record, PayerRecord):
        yield from _payer_rules(record, keys)
    else:
        yield from _payee_rules(record.state)


def index_rules(index: int | None, keys: Keys) -> Iterator[Rule]:
    """A channel key that is counted was handed out; one that follows from the terms is no matter of counting."""
    if index is not None:
        following, text = keys.next_index("channel"), "index of the channel key"
        yield own_rule("key-index", index < following, text, f"below {following}", index)


def _payer_rules(record: PayerRecord, keys: Keys) -> Check[None]:
    state, terms = record.state, record.terms
    funded = payer.ever_funded(state)
    funding = record.funding if funded is None else funded.funding
    if funding is not None:
        yield from _funding_rules(terms, funding)
    refund = state.refund if isinstance(state, payer.Secured) else None if funded is None else funded.refund
    if refund is not None:
        yield from complete_rules(terms, terms.schedule.build(REFUND), refund)
    if funded is not None and funded.funding is not None and not funded.external:
        for index, output in enumerate(funded.spent):
            if output.script_pubkey in keys.scripts():
                yield from _own_input_rules(funded.funding, index, output)


def _payee_rules(state: payee.PayeeState) -> Check[None]:
    if isinstance(state, payee.Abandoned):
        return
    active = payee.active_of(state)
    terms = active.terms
    if active.funding is not None:
        yield from _funding_rules(terms, active.funding)
    if active.best is not None:
        yield from complete_rules(terms, payee.unsigned_close(terms, active.best), active.best.transaction)
    held = payee.settlement_of(state)
    if held is not None:
        yield from complete_rules(terms, payee.unsigned_close(terms, held), held.transaction)


def _funding_rules(terms: Terms, funding: Transaction) -> Check[None]:
    txid, vout = terms.outpoint.txid, terms.outpoint.vout
    yield own_rule("funding-txid", funding.txid == txid, "txid of the stored funding", txid, funding.txid)
    same = vout < len(funding.outputs) and funding.outputs[vout] == terms.funding_txout
    yield own_rule("funding-output", same, "the stored funding does not make the channel's output")


def _own_input_rules(funding: Transaction, index: int, spent: TxOut) -> Check[None]:
    """A coin of this wallet is spent with a good signature of its own key."""
    witness = funding.inputs[index].witness
    good = False
    if len(witness) == 2 and key_to_p2wpkh_script(witness[1]) == spent.script_pubkey:
        code = p2wpkh_script_code(spent.script_pubkey)
        digest = segwit_v0_sighash(funding, index, code, spent.value, SIGHASH_ALL)
        signature = witness[0]
        good = signature[-1:] == bytes([SIGHASH_ALL]) and PublicKey(witness[1]).verify(signature[:-1], digest)
    yield own_rule("funding-signature", good, f"the signature of input {index} of the stored funding is bad")


class Lines:
    """What the lines of one journal have to do with each other, and with the messages in them.

    Attributes:
        broken: the first rule that a line breaks, or None.
        unsigned: whether that is the own signature under a payment, as the keys of another wallet make it.
    """

    def __init__(self) -> None:
        self.broken: Rule | None = None
        self.unsigned = False
        self._received: dict[str, Entry] = {}  # by event, the last that the other party signed
        self._body: Body = {}
        self._terms: Terms | None = None
        self._number = 0
        self._paid = -1

    def see(self, entry: Entry) -> None:
        """Take the next line."""
        self._body = fold(self._body, entry)
        if entry.event in ("accepted", "settlement", "secured"):
            self._received[entry.event] = entry
        mended = self.unsigned and entry.event == RESIGNED
        if self.broken is not None and not mended:
            return
        try:
            # a channel that was found again by its address learns the payer's script when it is synced
            if self._terms is None or (entry.event == "synced" and "payer_script" in entry.changes):
                self._terms = record_of(self._body).terms
            for rule in (*self._number_rules(entry), *_message_rules(self._terms, entry, self._body)):
                if not rule.ok:
                    self.broken = rule
            if mended:
                self.broken, self.unsigned = None, False
        except MpchanError as error:
            self.unsigned = (entry.event, error.slug) == ("paid", "signature")
            self.broken = own_rule(
                "journal-message",
                False,
                f"line {entry.sequence} of the journal",
                "a good message",
                error.message,
            )

    def received(self) -> dict[Txid, Psbt]:
        """The newest messages that the other party has signed, as far as they can be read, by their txids."""
        messages = {}
        for entry in self._received.values():
            try:
                text = None if self._terms is None else message_in(entry, self._terms)
                message = None if text is None else decode_message(text.encode())
            except MpchanError:
                continue
            if isinstance(message, Psbt):
                messages[message.tx.txid] = message
        return messages

    def _number_rules(self, entry: Entry) -> list[Rule]:
        update = entry.changes.get("update")
        if not isinstance(update, dict):
            return []
        number, paid = update["number"], update["paid_sat"]
        fresh = number > self._number or (number, paid) == (self._number, self._paid) or not number
        rule = own_rule(
            "update-twice",
            fresh,
            f"number of the update in line {entry.sequence}",
            f"above {self._number}",
            number,
        )
        self._number, self._paid = number, paid
        return [rule]


_SPEAKING = ("opened", "refund-signed", "secured", "paid", "accepted", RESIGNED)
"""Events whose message is judged."""


def _message_rules(terms: Terms, entry: Entry, body: Body) -> list[Rule]:
    """The message of a line is a good one, and the one that the line speaks of."""
    text = message_in(entry, terms) if entry.event in _SPEAKING else None
    if text is None:
        return []
    psbt = decode_message(text.encode())
    if not isinstance(psbt, Psbt):
        text = f"line {entry.sequence} holds a complete transaction where a message of the channel belongs"
        return [own_rule("journal-message", False, text)]
    if entry.event == "opened":
        enforce(message_rules(psbt, terms, None))
        enforce(same_transaction_rules(terms.schedule.build(REFUND), psbt.tx))
        return []
    if entry.event in ("refund-signed", "secured"):
        enforce(payer.refund_reply_rules(terms, psbt))
        return []
    incoming = enforce(incoming_rules(psbt, terms))
    update = body["update"]
    same = incoming.is_update and incoming.paid.sat == update["paid_sat"]
    same = same and incoming.number in (None, update["number"])
    return [own_rule("journal-message", same, f"the message in line {entry.sequence} is another update")]


# openings -----------------------------------------------------------------------------------------


def opening_rules(wallet: Wallet, has_keys: bool) -> Iterator[Rule]:
    """No offer and no payer's key stands in two openings, and the terms of each follow from what is there.

    Of all under one published offer the first is rebuilt whole, of the others that the offer is there is looked at.
    """
    offers: set[str] = set()
    payers: set[bytes] = set()
    rebuilt: set[bytes] = set()
    for opening in wallet.openings.all():
        fresh = opening.offer_id not in offers and opening.payer_key not in payers
        text = f"opening {opening.name[:16]} stands under an offer, or a payer's key, of another one"
        yield own_rule("opening-twice", fresh, text)
        offers.add(opening.offer_id)
        payers.add(opening.payer_key)
        try:
            if has_keys and opening.published not in rebuilt:
                rebuilt.add(opening.published)
                terms_of(wallet, opening)
            elif has_keys:
                published_for(wallet, opening)
        except StorageError as error:
            yield own_rule(error.slug, False, error.message)


def mend_openings(wallet: Wallet) -> str:
    """Go on without the lines that cannot be read; what was done. The wallet is held.

    What was signed by them is not known any more. So another generation comes first: all offers that are out and unused
    are void from then on, and nothing is signed twice.
    """
    path = wallet.directory / GENERATION_FILE
    with AsStorageError("write-failed", path):
        if path.exists():
            durability.unlink(path)
            durability.sync_directory(path.parent)
    aside = set_aside(wallet.openings.path)
    kept, lost = wallet.openings.mend()
    return (
        f"kept {kept} openings and left {lost} damaged lines out: the offers that were out and unused are void now"
        f"{aside}"
    )
