"""What a construction is: a lock and a schedule, and what an offer says of it.

The lock says how the funding output is spent: its script, the size of what spends it, what each party signs, and how
two signatures become a witness. The schedule says which transactions the terms allow, and when each is final. Both are
made of a channel's terms, by ``Terms.lock`` and ``Terms.schedule``; an offer alone, of which no channel has been made
yet, knows its ``Construction``.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Protocol, Union

from mpchan.bitcoin.psbt import Psbt
from mpchan.bitcoin.signature import PrivateKey, PublicKey
from mpchan.bitcoin.tx import Transaction
from mpchan.channel.rules import Check
from mpchan.units import Amount, LockTime
from mpchan.values import frozen

if TYPE_CHECKING:
    from mpchan.channel.offer import Offer
    from mpchan.channel.terms import Terms

Message = Union[Psbt, Transaction]
"""A transaction with the signatures that it carries, be they the fields of a PSBT or a witness."""


class Kind(str, Enum):
    """What a transaction of a channel is for."""

    REFUND = "refund"
    UPDATE = "update"
    SETTLEMENT = "settlement"


@frozen
class Meant:
    """Which of a channel's transactions is meant.

    Attributes:
        number: of an update, from 1; None for the others, and where the construction numbers none.
        paid: to the payee, in all.
    """

    kind: Kind
    number: int | None = None
    paid: Amount = Amount(0)


REFUND = Meant(Kind.REFUND)


def settlement(paid: Amount) -> Meant:
    """The settlement with ``paid`` in all for the payee."""
    return Meant(Kind.SETTLEMENT, None, paid)


class Schedule(Protocol):
    """The transactions of one channel, all unsigned, each the only one that the terms allow."""

    @property
    def deadline(self) -> LockTime:
        """L_0: from here on the payee takes no update, it must settle, not deliver."""

    def update(self, number: int, paid: Amount) -> Meant:
        """The update that is the ``number``-th of its channel, from 1, with ``paid`` in all for the payee.

        Raises:
            NotPossible: ``out-of-updates``.
        """

    def read(self, message: Message) -> Meant | None:
        """What a message is, by its form alone; None for what is none of the channel's.

        Where an update and a settlement of one total are one message, it is an update. Whether it is the very
        transaction, byte for byte, is known once it is built again.
        """

    def build(self, meant: Meant) -> Transaction:
        """The transaction without its signatures."""

    def final_at(self, meant: Meant) -> LockTime | None:
        """From when on a block may hold it; None for at any time."""


class Lock(Protocol):
    """How the funding output of one channel is spent."""

    @property
    def script_pubkey(self) -> bytes:
        """Of the funding output."""

    @property
    def descriptor(self) -> str:
        """The output's script as a descriptor (BIP-0380) with its checksum."""

    def sign_checked(self, key: PrivateKey, transaction: Transaction) -> bytes:
        """One party's signature, as messages carry it; verified."""

    def signature_rules(self, transaction: Transaction, signer: PublicKey, signature: bytes) -> Check[None]:
        """The signature is ``signer``'s for this very transaction."""

    def message(
        self, transaction: Transaction, signer: PublicKey | None = None, signature: bytes = b""
    ) -> Psbt:
        """The message with the transaction: a PSBT, without a signature where there is no ``signer``."""

    def envelope_rules(self, psbt: Psbt, signer: PublicKey | None) -> Check[bytes]:
        """The fields around the transaction: what is spent and how, and that ``signer`` alone has signed.

        Establishes the signature, which is not verified here; nothing where there is no signer.
        """

    def signers(self, transaction: Transaction) -> tuple[PublicKey, ...]:
        """Whose signatures the witness of a transaction holds: both parties', or one's where it needs no other."""

    def complete(self, transaction: Transaction, signatures: Mapping[PublicKey, bytes]) -> Transaction:
        """The transaction with the signatures of all ``signers`` in its witness."""

    def is_whole(self, transaction: Transaction) -> bool:
        """Whether the witness has the form that ``complete`` gives it."""

    def signature_in(self, transaction: Transaction, signer: PublicKey) -> bytes:
        """One party's signature out of a transaction that is whole."""

    def signature_from(self, psbt: Psbt, signer: PublicKey) -> bytes:
        """One party's signature out of a message, be it good or not; empty where there is none."""

    def takes_back(self, spending: Transaction) -> bool:
        """Whether a spend that the chain shows needed no signature of the payee, so that the payer can have made it.

        Where that is possible, such a spend is a refund even where it is another one than the schedule's.
        """


class Form(Protocol):
    """The updates of one channel as hex digits with gaps, for whoever pays or is paid many times a second.

    Numbers are plain integers and totals plain satoshi, both within what the terms allow. Where a construction numbers
    no update, any number serves.
    """

    @property
    def terms(self) -> Terms:
        """Of the channel."""

    @property
    def last(self) -> int | None:
        """The highest number that an update can have; None for any."""

    @property
    def dust(self) -> int:
        """The least total that the payee can collect."""

    @property
    def least_change(self) -> int:
        """The least change that the payer gets as an output of its own."""

    def lock_time(self, number: int) -> int:
        """nLockTime of an update."""

    def sign(self, key: PrivateKey, number: int, paid: int) -> bytes:
        """One party's signature, as messages carry it; not verified."""

    def verify(self, key: PublicKey, number: int, paid: int, signature: bytes) -> bool:
        """Whether a signature is one that messages may carry, and the key's under this update."""

    def message(self, number: int, paid: int, signature: bytes) -> str:
        """The payer's message with its signature: the hex of the PSBT that ``Lock.message`` gives."""

    def read(self, text: str) -> tuple[int | None, int, bytes] | None:
        """Number, total and signature of a message that is digit for digit what this form gives.

        The number is None where the construction has none. None for any other message, whatever it is: the rules judge
        it. The signature is not looked at here.
        """


class Construction(Protocol):
    """A construction as an offer knows it, before there is a channel."""

    def lock(self, terms: Terms) -> Lock:
        """How the funding output of a channel is spent."""

    def schedule(self, terms: Terms) -> Schedule:
        """The transactions that a channel has."""

    def form(self, terms: Terms) -> Form | None:
        """The form of a channel's updates; None where they have none, and are built one by one."""

    has_exchange: bool
    """Whether payer and payee exchange messages before the funding; else an offer and a funding make a channel."""

    def close_vsize(self, payer_script: bytes, payee_script: bytes) -> int:
        """Virtual size (BIP-0141) of the close with an output for each, for which the payer sets a fee aside."""

    def refund_vsize(self, payer_script: bytes) -> int:
        """Virtual size of the refund."""

    def payer_script_fault(self, payer_script: bytes) -> str | None:
        """Why a scriptPubKey cannot get the payer's share; None for one that can."""

    def refund_at(self, earliest: LockTime) -> LockTime:
        """L_refund: the first lock time that a refund can have, at or after ``earliest``."""

    def refund_times(self, offer: Offer, latest: LockTime) -> range:
        """Every L_refund that a channel opened under an offer can have, as far as that follows from the offer.

        So that a payer finds its address again who has lost what it chose. Empty where it does not follow.

        Args:
            latest: where the chain stood at the latest when the channel was opened, in the offer's unit.
        """

    def funding_script(self, offer: Offer, payer_key: PublicKey, refund_at: LockTime | None) -> bytes:
        """The scriptPubKey of the funding output.

        Args:
            refund_at: L_refund; may be None where an opening has an exchange, and the script does not tell of it.
        """

    def descriptor(self, offer: Offer, payer_key: PublicKey, refund_at: LockTime | None) -> str:
        """The same as a descriptor (BIP-0380) with its checksum."""

    def is_message(self, psbt: Psbt) -> bool:
        """Whether a PSBT has, by its form, the fields of a channel's message; no wallet's own coin has them."""

    def likely_kind(self, transaction: Transaction) -> Kind:
        """What a signed message is, as far as that can be told without the terms of its channel."""

    def refund_fault(self, transaction: Transaction) -> str | None:
        """Why a complete transaction is, by its form, no refund; None for one that may be."""

    def most_updates(self, offer: Offer, refund_at: LockTime) -> int | None:
        """How many updates a channel has room for; None for any number.

        Args:
            refund_at: L_refund.
        """

    def opening_rules(self, psbt: Psbt, offer: Offer) -> Check[Terms]:
        """The first message of a channel without an exchange brings all that makes it. Establishes the terms.

        Whether it is, byte for byte, a message under these terms is for ``taking.incoming_rules`` to say.

        Raises:
            TypeError: the construction has an exchange.
        """

    def first_final(self, offer: Offer) -> int | None:
        """How long before L_0 the first update is final, in the offer's unit; None for at any time."""


@frozen
class OwnTerm:
    """A term that offers of one construction alone have: a whole number of at least 1.

    Attributes:
        name: its key in the offer's table that is named like the construction, and in ``[offer]`` of wallet.toml.
        help: of the option.
        is_delay: whether it is counted in the offer's unit of lock times.
        of_tip: whether it is where the chain stood when the offer was made, a height or a median time by the offer's
            unit, and nobody's choice.
    """

    name: str
    default: int
    help: str
    is_delay: bool = True
    of_tip: bool = False
