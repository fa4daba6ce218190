"""What a wallet says of messages and files."""

from __future__ import annotations

from mpchan.results.base import Result
from mpchan.values import frozen


@frozen
class TaprootFields(Result):
    """What an input of a PSBT says of a taproot output that it spends (BIP-0371, BIP-0373).

    Attributes:
        internal_key: x-only, in hex; null where the PSBT does not say
        merkle_root: of the scripts, in hex; null where the PSBT does not say
        participants: the keys that the internal key aggregates, in hex
        leaf_scripts: in hex
    """

    internal_key: str | None
    merkle_root: str | None
    participants: tuple[str, ...]
    leaf_scripts: tuple[str, ...]


@frozen
class PsbtInput(Result):
    """An input of a PSBT.

    Attributes:
        txid: of the output that it spends
        vout: number of that output
        sequence: nSequence
        value_sat: what that output holds by the PSBT's own word, in satoshi; null where it does not say
        witness_script: in hex; null where there is none
        sighash_type: null where the PSBT does not say
        partial_sigs: signatures in hex, each under its public key
        tap_script_sigs: those of taproot's script path, each under its x-only key and the hash of its leaf
        taproot: its fields of a taproot output
    """

    txid: str
    vout: int
    sequence: int
    value_sat: int | None
    witness_script: str | None
    sighash_type: int | None
    partial_sigs: dict[str, str]
    tap_script_sigs: dict[str, str]
    taproot: TaprootFields | None = None


@frozen
class TransactionInput(Result):
    """An input of a complete transaction.

    Attributes:
        txid: of the output that it spends
        vout: number of that output
        sequence: nSequence
        script_sig: in hex
        witness: its items in hex
    """

    txid: str
    vout: int
    sequence: int
    script_sig: str
    witness: tuple[str, ...]


@frozen
class MessageOutput(Result):
    """An output.

    Attributes:
        value_sat: what it holds, in satoshi
        address: null where the script has none
        script: the scriptPubKey in hex
    """

    value_sat: int
    address: str | None
    script: str


@frozen
class Message(Result):
    """What a message holds.

    Attributes:
        kind: psbt, which lacks signatures, or tx
        version: nVersion
        lock_time: nLockTime
        lock_time_unit: blocks or seconds; null where the lock time is 0
        vsize: in virtual bytes, without the signatures that are missing
        inputs: all of them
        outputs: all of them
        signatures: how many there are
        offer_id: of the offer that it carries, 32 hex digits
    """

    kind: str
    txid: str
    version: int
    lock_time: int
    lock_time_unit: str | None
    vsize: int
    inputs: tuple[PsbtInput | TransactionInput, ...]
    outputs: tuple[MessageOutput, ...]
    signatures: int
    offer_id: str | None = None


@frozen
class VerifiedRule(Result):
    """One rule that a message was held against.

    Attributes:
        rule: its slug
        ok: whether it is kept
        expected: what it asks for; null where there is nothing to show
        found: what is there; null where there is nothing to show
    """

    rule: str
    ok: bool
    expected: str | None
    found: str | None


@frozen
class Verdict(Result):
    """Whether this wallet would take a message.

    Attributes:
        kind: offer, refund-request, signed-refund, funding, update or settlement
        channel: the short id of the channel that it belongs to; null for an offer, or where it names none
        accepted: null where the chain or the keys could not be asked, and no rule before was broken
        rules: every rule up to the first that is broken
        error: the slug of the broken rule, or of what could not be asked; null where there is none
        message: the same in words; null where there is nothing to say
        exit_code: that of the command
    """

    kind: str
    channel: str | None
    accepted: bool | None
    rules: tuple[VerifiedRule, ...]
    error: str | None
    message: str | None
    hint: str | None
    exit_code: int
    warnings: tuple[str, ...] = ()


@frozen
class CheckedRule(Result):
    """One rule that a file was held against.

    Attributes:
        rule: its slug
        ok: whether it is kept
        message: what is wrong, in words; null where it is kept
    """

    rule: str
    ok: bool
    message: str | None


@frozen
class CheckedSubject(Result):
    """One thing that was looked at.

    Attributes:
        kind: keys, generation, offer, plan, openings, sent, budget, channel, leftover, or wallet for all together
        name: of the file or channel
        ok: whether nothing is wrong with it, or nothing any more
        rules: what was asked of it, as far as that came
        repaired: what was done about it, in words
    """

    kind: str
    name: str
    ok: bool
    rules: tuple[CheckedRule, ...]
    repaired: tuple[str, ...]


@frozen
class FilesChecked(Result):
    """Whether the wallet's files are whole.

    Attributes:
        checked: how many things were looked at
        wrong: with how many of them something is wrong
        subjects: the things
        foreign: names that are none of the wallet's files
        exit_code: that of the command
    """

    checked: int
    wrong: int
    subjects: tuple[CheckedSubject, ...]
    foreign: tuple[str, ...]
    warnings: tuple[str, ...]
    exit_code: int
