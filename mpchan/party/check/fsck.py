"""``fsck``: whether all that the wallet has on disk is whole and fits together, and mending what can be mended.

Nothing is asked of the chain. Each file that something is wrong with is named; the others are looked at all the same.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

from mpchan.channel import payer
from mpchan.channel.rules import Check, Rule, explain
from mpchan.errors import MpchanError, StorageError
from mpchan.party.check.fsck_rules import (
    RESIGNED,
    Lines,
    index_rules,
    mend_openings,
    opening_rules,
    own_rule,
    record_rules,
)
from mpchan.results.checks import CheckedRule, CheckedSubject, FilesChecked
from mpchan.values import replace
from mpchan.wallet.layout import foreign, left_over
from mpchan.wallet.payer_record import PayerRecord
from mpchan.wallet.records import body_of, record_of
from mpchan.wallet.recovery import Examination, examine, rebuild, restart
from mpchan.wallet.spending import Days
from mpchan.wallet.storage import remove_durably
from mpchan.wallet.wallet import Wallet

if TYPE_CHECKING:
    from mpchan.wallet.records import Record


_LEFT_SECONDS = 3600
"""No file of a wallet takes so long to write; whose writer is killed before it has its name is left."""


def _subject(kind: str, name: str, rules: Iterable[Rule], repaired: Iterable[str] = ()) -> CheckedSubject:
    """One thing that was looked at: what was asked of it, as far as that came, and what was done about it."""
    checked = [CheckedRule(rule.slug, rule.ok, None if rule.ok else rule.failure().message) for rule in rules]
    return CheckedSubject(kind, name, all(rule.ok for rule in checked), tuple(checked), tuple(repaired))


def fsck(wallet: Wallet, prefix: str | None = None, *, repair: bool = False) -> FilesChecked:
    """Look at everything, or at one channel.

    Args:
        prefix: of the channel; None for the whole wallet.
        repair: mend what can be mended.

    Raises:
        UsageError, NotPossible: ``prefix`` names no channel, or several.
        StorageError: ``passphrase-…``, the keys cannot be opened; ``locked``, ``write-failed`` while mending.
    """
    keys_rule = _of("keys", lambda: wallet.keys.need_secret())
    if keys_rule.slug.startswith("passphrase-"):
        raise keys_rule.failure()
    has_keys = keys_rule.ok
    if prefix is None:
        names = wallet.channels.names()
        subjects = [
            _subject("keys", "keys.toml", (keys_rule,)),
            _subject("generation", "generation", (_of("generation", lambda: wallet.offers.generation),)),
            *_offers(wallet),
            *_plans(wallet, has_keys),
            *_awaited(wallet, has_keys),
            *_openings(wallet, has_keys, repair),
            *_sent(wallet),
            *_budget(wallet),
            *(_leftovers(wallet) if repair else ()),
        ]
    else:
        names = [wallet.channels.find(prefix, lambda record: True, "known")]
        subjects = []
    warnings: list[str] = []
    subjects += [_channel(wallet, name, has_keys, repair, warnings) for name in names]
    if prefix is None:
        subjects.append(_subject("wallet", "keys", _key_rules(wallet) if has_keys else ()))
    wrong = sum(not subject.ok for subject in subjects)
    strangers = foreign(wallet.directory) if prefix is None else []
    return FilesChecked(
        checked=len(subjects),
        wrong=wrong,
        subjects=tuple(subjects),
        foreign=tuple(strangers),
        warnings=(
            *warnings,
            *(f"{name} is none of the wallet's files, and read by nobody; {_STRANGER}" for name in strangers),
        ),
        exit_code=StorageError.exit_code if wrong else 0,
    )


_STRANGER = (
    "a program that syncs, copies or edits files may have left it: "
    "move it away, and never use a wallet in two places"
)


def _leftovers(wallet: Wallet) -> Iterator[CheckedSubject]:
    """What killed processes have left is removed. Should one of them live, and write since an hour, its write fails."""
    for path in left_over(wallet.directory):
        with suppress(FileNotFoundError):  # it has got its name meanwhile
            if os.stat(path).st_mtime < time.time() - _LEFT_SECONDS:
                remove_durably(path)
                name = path.relative_to(wallet.directory).as_posix()
                done = "removed: a process that was killed has left it"
                yield _subject("leftover", name, (), (done,))


def _of(slug: str, read: Callable[[], object]) -> Rule:
    """A file that can be read is one kept rule; the reason why it cannot is the broken one."""
    try:
        read()
    except MpchanError as error:
        return own_rule(error.slug, False, error.message)
    return Rule(slug, True, "")


def _budget(wallet: Wallet) -> Iterator[CheckedSubject]:
    """What was taken of a day's budget: where that cannot be read, nothing is paid for requests under one."""
    days = Days(wallet.directory)
    for path in days.files():
        yield _subject("budget", path.stem, (_of("spending", lambda path=path: days.load(path)),))  # type: ignore[misc]


def _offers(wallet: Wallet) -> Iterator[CheckedSubject]:
    for offer_id in wallet.offers.ids():
        rules = [_of("offer", lambda offer_id=offer_id: wallet.offers.load(offer_id))]  # type: ignore[misc]
        if rules[0].ok:
            rules += index_rules(wallet.offers.load(offer_id).key_index, wallet.keys)
        yield _subject("offer", offer_id, rules)


def _plans(wallet: Wallet, has_keys: bool) -> Iterator[CheckedSubject]:
    for path in wallet.plans.files():
        rules = [_of("plan", lambda path=path: wallet.plans.load(path))]  # type: ignore[misc]
        if rules[0].ok and has_keys:
            plan = wallet.plans.load(path)
            rules += index_rules(plan.key_index, wallet.keys)
            rules.append(_of("wrong-keys", lambda plan=plan: wallet.keys.key_of_plan(plan)))  # type: ignore[misc]
        yield _subject("plan", path.stem, rules)


def _awaited(wallet: Wallet, has_keys: bool) -> Iterator[CheckedSubject]:
    for path in wallet.awaited.files():
        rules = [_of("opening", lambda path=path: wallet.awaited.load(path))]  # type: ignore[misc]
        if rules[0].ok and has_keys:
            opening = wallet.awaited.load(path)
            rules.append(_of("wrong-keys", lambda opening=opening: wallet.keys.key_of_awaited(opening)))  # type: ignore[misc]
        yield _subject("opening", path.stem, rules)


def _openings(wallet: Wallet, has_keys: bool, repair: bool) -> Iterator[CheckedSubject]:
    """All openings in one file. Of those under one published offer one is rebuilt whole: there may be very many."""
    if not wallet.openings.path.exists():
        return
    repaired: tuple[str, ...] = ()
    rules = [_of("openings", lambda: wallet.openings.mark)]
    if not rules[0].ok and repair:
        with wallet.lock():
            repaired = (mend_openings(wallet),)
        rules = [_of("openings", lambda: wallet.openings.mark)]
    if rules[0].ok:
        rules += opening_rules(wallet, has_keys)
    yield _subject("openings", "notes", rules, repaired)


def _sent(wallet: Wallet) -> Iterator[CheckedSubject]:
    for txid in wallet.sent.names():
        yield _subject("sent", txid, (_of("sent", lambda txid=txid: wallet.sent.find(txid)),))  # type: ignore[misc]


def _key_rules(wallet: Wallet) -> Iterator[Rule]:
    """No two channels or offers of this wallet have one key.

    A plan, and all channels of a payer under one offer whose keys are the same, are one opening: the payee signs for
    one of them.
    """
    owners: dict[bytes, tuple[str, str]] = {}
    served: set[str] = set()
    offers = [wallet.offers.load(offer_id) for offer_id in wallet.offers.ids() if _readable(wallet, offer_id)]
    # what is published again keeps its key
    claims = [(own.offer.payee_key, "offer", own.offer.key_name.hex()) for own in offers]
    claims += [(plan.payer_key, "plan", plan.offer.offer_id) for plan in (*wallet.plans, *wallet.awaited)]
    records = list(wallet.channels.readable())
    claims += [(record.own_key, *_opening(record)) for record in records]
    for key, kind, offer_id in claims:
        first = owners.setdefault(key.sec, (kind, offer_id))
        # an offer and the channel that the payee has under it share the key; so do a plan and its channels
        yield own_rule(
            "key-twice",
            first == (kind, offer_id) or first == (kind.removesuffix(" channel"), offer_id),
            f"channel key {key} serves {first[0]} {first[1]} and {kind} {offer_id}",
        )
    for record in records:
        alone = isinstance(record, PayerRecord) and record.is_refund_only
        if not alone and not isinstance(record.state, payer.Abandoned):
            offer_id = record.terms.offer.offer_id
            text = f"offer {offer_id} serves two channels"
            yield own_rule("offer-twice", offer_id not in served, text)
            served.add(offer_id)


def _opening(record: Record) -> tuple[str, str]:
    """What a channel's key serves: the kind of it, and its name."""
    offer = record.terms.offer
    if not isinstance(record, PayerRecord):
        return "offer channel", offer.key_name.hex()
    together = record.key_index is None or record.has_external_funding
    return "plan channel" if together else f"channel {record.terms.channel_id}", offer.offer_id


def _readable(wallet: Wallet, offer_id: str) -> bool:
    return _of("offer", lambda: wallet.offers.load(offer_id)).ok


# one channel --------------------------------------------------------------------------------------


def _channel(wallet: Wallet, name: str, has_keys: bool, repair: bool, warnings: list[str]) -> CheckedSubject:
    """One channel.

    Args:
        warnings: what people have to do themselves comes to these.
    """
    try:
        with wallet.channels.lock(name) if repair else nullcontext():
            found, lines = _examined(wallet, name)
            repaired: list[str] = []
            left: list[str] = []
            if repair and not found.sound:
                repaired, left = _mend(wallet, name, found)
                if repaired:
                    found, lines = _examined(wallet, name)
            if repair and has_keys and found.sound and found.body is not None:
                signed = _sign_again(wallet, name, lines)
                if signed:
                    repaired += signed
                    found, lines = _examined(wallet, name)
            rules = [*_file_rules(found, lines), *_record_checks(wallet, name, found, has_keys)]
    except MpchanError as error:
        return _subject("channel", name, (own_rule(error.slug, False, error.message),))
    warnings += left
    return _subject("channel", name, rules, repaired)


def _examined(wallet: Wallet, name: str) -> tuple[Examination, Lines]:
    lines = Lines()
    return examine(wallet.channels, name, lines.see), lines


def _file_rules(found: Examination, lines: Lines) -> Iterator[Rule]:
    yield own_rule("state-file", found.state_fault is None, f"state file: {found.state_fault}")
    yield own_rule("journal", found.journal_fault is None, f"journal: {found.journal_fault}")
    yield own_rule(
        "journal-end",
        not found.unfinished,
        f"the journal ends with {found.unfinished} bytes that were never finished; nothing depends on them",
    )
    yield own_rule("journal-message", True) if lines.broken is None else lines.broken


def _record_checks(wallet: Wallet, name: str, found: Examination, has_keys: bool) -> Iterator[Rule]:
    if found.body is None:
        text = (
            "neither the state file nor the journal tells how the channel stands: put both back from a backup"
        )
        yield own_rule("channel-lost", False, text)
        return
    try:
        record = record_of(found.body)
        same = record.terms.name == name and record.terms.offer.network == wallet.network
        yield own_rule("other-channel", same, f"the files are those of channel {record.terms.name}")
        if same and has_keys:
            check: Check[None] = record_rules(record, wallet)
            yield from explain(check)
    except MpchanError as error:
        yield own_rule(error.slug, False, error.message)


def _sign_again(wallet: Wallet, name: str, lines: Lines) -> list[str]:
    """Make own signatures again that the keys of another wallet have made; what was done."""
    try:
        record = wallet.channels.load(name)
        key = wallet.keys.key_of(record)
    except MpchanError:
        return []  # the rules say what is wrong
    from mpchan.channel.resigning import resigned_payee, resigned_payer

    after: Record
    message = None
    if isinstance(record, PayerRecord):
        after = replace(record, state=resigned_payer(record.state, key, lines.received()))
        funded = payer.ever_funded(after.state)
        if lines.unsigned and funded is not None and funded.number:
            message = payer.update_message(funded, key).to_hex()
    else:
        after = replace(record, state=resigned_payee(record.state, key, lines.received()))
    if after == record and message is None:
        return []
    wallet.channels.save(after, RESIGNED, message)
    return ["signed again what the keys of another wallet had signed"]


def _mend(wallet: Wallet, name: str, found: Examination) -> tuple[list[str], list[str]]:
    """What was done, and what is left for people to do."""
    files = wallet.channels
    if found.journal_fault is None:
        return rebuild(files, name, found), []
    if found.body is None:
        return [], []
    record = record_of(found.body)
    if record.terms.name != name:
        return [], []
    if not found.missing:
        return restart(files, name, found.body), []
    if isinstance(record, PayerRecord):
        record = replace(
            record, restored=True
        )  # no number is used again before the payee has told the latest
        what = "the payee runs `mpchan payee export-latest`, and you `mpchan payer sync FILE`"
    else:
        what = "ask the payer for its latest payment, `mpchan payer pay --last`, and accept it"
    lost = f"channel {record.terms.channel_id}: up to {found.missing} payments may be missing; {what}"
    return restart(files, name, body_of(record)), [lost]
